//! Packets between pods on different nodes.

use anyhow::Result;
use flannel_lab::cluster::{DUAL_STACK, IPV6_ONLY};
use flannel_lab::{Cluster, ClusterOptions};

/// Each pod reaches each other, at all addresses, with small and with full-size packets.
fn all_pods_reach_each_other(cluster: &Cluster) -> Result<()> {
    for from in cluster.pods() {
        for to in cluster.pods() {
            from.reaches(to)?;
        }
    }
    Ok(())
}

#[test]
fn pods_reach_each_other_over_ipv4() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { nodes: 3, ..ClusterOptions::default() })?;
    let pod = cluster.pod(0)?;
    assert_eq!((pod.addresses().len(), pod.mtu()), (1, 1450));
    all_pods_reach_each_other(&cluster)
}

#[test]
fn pods_reach_each_other_over_both_families() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    assert_eq!(cluster.pod(0)?.addresses().len(), 2);
    all_pods_reach_each_other(&cluster)
}

#[test]
fn pods_reach_each_other_where_there_is_ipv6_only() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: IPV6_ONLY.to_owned(), ..ClusterOptions::default() })?;
    let pod = cluster.pod(0)?;
    assert_eq!(pod.addresses(), [pod.ipv6()?]);
    assert_eq!(pod.mtu(), 1430);
    all_pods_reach_each_other(&cluster)
}

#[test]
fn pods_reach_each_other_with_leases_in_etcd() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { etcd: true, ..ClusterOptions::default() })?;
    all_pods_reach_each_other(&cluster)
}

#[test]
fn the_built_in_plugin_is_the_one_of_the_network_config() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    cluster.set_options(cluster.options().clone().built_in());
    cluster.start_all()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    all_pods_reach_each_other(&cluster)
}

#[test]
fn a_packet_larger_than_the_tunnel_is_refused_and_the_sender_is_told() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    cluster.pod(0)?.is_told_what_is_too_large(cluster.pod(1)?)
}
