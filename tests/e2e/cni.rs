//! Container runtimes: the CNI project's `bridge` and `host-local` make pods from the subnet files, as flannel's CNI plugin has
//! them do it.

use anyhow::Result;
use flannel_lab::cluster::{DUAL_STACK, IPV4};
use flannel_lab::{Cluster, ClusterOptions, Cni};

/// Daemons on two nodes, and no pod yet.
fn nodes(config: &str, flags: &[&str]) -> Result<Cluster> {
    let mut cluster =
        Cluster::prepare(&ClusterOptions { config: config.to_owned(), ..ClusterOptions::default() })?;
    cluster.add_arguments(flags);
    cluster.start_all()?;
    cluster.wait_converged()?;
    Ok(cluster)
}

/// A pod on each node: they reach each other, small and full-size packets, to all addresses.
fn pods_reach_each_other(cluster: &Cluster, addresses: usize) -> Result<()> {
    let [one, other] = [Cni::new(cluster.node(0))?, Cni::new(cluster.node(1))?];
    let [first, second] = [one.add("first")?, other.add("second")?];
    assert_eq!((first.addresses().len(), second.addresses().len()), (addresses, addresses));
    first.reaches(&second)?;
    second.reaches(&first)
}

#[test]
fn pods_that_the_bridge_plugin_makes_reach_each_other() -> Result<()> {
    pods_reach_each_other(&nodes(IPV4, &[])?, 1)
}

#[test]
fn pods_that_the_bridge_plugin_makes_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(&nodes(DUAL_STACK, &[])?, 2)
}

#[test]
fn pods_that_the_bridge_plugin_makes_reach_each_other_where_flanneld_masquerades() -> Result<()> {
    let cluster = nodes(IPV4, &["--ip-masq"])?;
    let env = cluster.node(0).subnet_env()?;
    assert!(env.is_some_and(|env| env.ip_masq), "the subnet file tells the runtime");
    pods_reach_each_other(&cluster, 1)
}

#[test]
fn two_pods_of_a_node_have_addresses_of_its_subnet_and_reach_each_other() -> Result<()> {
    let cluster = nodes(IPV4, &[])?;
    let cni = Cni::new(cluster.node(0))?;
    let [first, second] = [cni.add("first")?, cni.add("second")?];
    let subnet: ipnet::IpNet = cluster.subnets(0)?[0].parse()?;
    for pod in [&first, &second] {
        assert!(subnet.contains(&pod.ipv4()?), "{} in {subnet}", pod.ipv4()?);
    }
    assert_ne!(first.ipv4()?, second.ipv4()?);
    first.reaches(&second)
}

#[test]
fn nothing_of_a_pod_remains_when_the_bridge_plugin_has_deleted_it() -> Result<()> {
    let cluster = nodes(IPV4, &[])?;
    let node = cluster.node(0);
    let cni = Cni::new(node)?;
    let pod = cni.add("first")?;
    assert_eq!(cni.taken()?, [pod.ipv4()?.to_string()]);
    let ports = || node.namespace().ip_json("link show master cni0");
    assert_eq!(ports()?.as_array().map(Vec::len), Some(1));

    cni.delete("first", &pod)?;
    assert_eq!(cni.taken()?, [""; 0]);
    assert_eq!(ports()?.as_array().map(Vec::len), Some(0));
    let left = pod.namespace().ip_json("link show")?;
    // Modules such as ipip give each namespace a device of their own.
    let names: Vec<_> = left.as_array().into_iter().flatten().map(|link| &link["ifname"]).collect();
    assert!(!names.iter().any(|name| *name == "eth0"), "{names:?}");
    Ok(())
}
