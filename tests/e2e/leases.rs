//! Leases: how they are written, who has which, and what the others make of it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use flannel_lab::cluster::{DUAL_STACK, IPV4, IPV6_ONLY};
use flannel_lab::state::mac_of;
use flannel_lab::{Cluster, ClusterOptions, Place, Store, wait};

/// All that is in etcd under flannel's prefix: keys with values, without the config.
fn in_etcd(cluster: &Cluster, config: &str) -> Result<Vec<(String, String)>> {
    let Store::Etcd(etcd) = cluster.store() else { panic!("etcd") };
    let mut pairs = Vec::new();
    for pair in etcd.range("/coreos.com/network")? {
        if pair.key == "/coreos.com/network/config" {
            assert_eq!(pair.value, config, "the config is the operator's");
            continue;
        }
        let ttl = etcd.time_to_live(pair.lease)?;
        assert!((80_000..=86_400).contains(&ttl), "{} ends in {ttl} s", pair.key);
        pairs.push((pair.key, pair.value));
    }
    Ok(pairs)
}

fn with_etcd(config: &str) -> Result<Cluster> {
    Cluster::start(&ClusterOptions {
        nodes: 1,
        etcd: true,
        config: config.to_owned(),
        ..ClusterOptions::default()
    })
}

#[test]
fn etcd_holds_an_ipv4_lease_byte_for_byte_as_upstream_writes_it() -> Result<()> {
    let cluster = with_etcd(IPV4)?;
    let subnet = cluster.node(0).subnet_env()?.context("a subnet")?.subnet.context("IPv4")?;
    let mac = mac_of(cluster.node(0), "flannel.1")?;
    let key = format!("/coreos.com/network/subnets/{}-24", subnet.network());
    let value = format!(
        r#"{{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    );
    assert_eq!(in_etcd(&cluster, IPV4)?, [(key, value)]);
    Ok(())
}

#[test]
fn etcd_holds_a_dual_stack_lease_byte_for_byte_as_upstream_writes_it() -> Result<()> {
    let cluster = with_etcd(DUAL_STACK)?;
    let env = cluster.node(0).subnet_env()?.context("a subnet")?;
    let (v4, v6) = (env.subnet.context("IPv4")?.network(), env.subnet_v6.context("IPv6")?.network());
    let (mac, mac_v6) = (mac_of(cluster.node(0), "flannel.1")?, mac_of(cluster.node(0), "flannel-v6.1")?);
    let key = format!("/coreos.com/network/subnets/{v4}-24&{v6}-64");
    let value = format!(
        r#"{{"PublicIP":"192.168.77.11","PublicIPv6":"fd77::11","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"{mac_v6}"}}}}"#
    );
    assert_eq!(in_etcd(&cluster, DUAL_STACK)?, [(key, value)]);
    Ok(())
}

#[test]
fn etcd_holds_an_ipv6_only_lease_byte_for_byte_as_upstream_writes_it() -> Result<()> {
    let cluster = with_etcd(IPV6_ONLY)?;
    let v6 = cluster.node(0).subnet_env()?.context("a subnet")?.subnet_v6.context("IPv6")?.network();
    let mac = mac_of(cluster.node(0), "flannel-v6.1")?;
    let key = format!("/coreos.com/network/subnets/0.0.0.0-0&{v6}-64");
    let value = format!(
        r#"{{"PublicIP":"0.0.0.0","PublicIPv6":"fd77::11","BackendType":"vxlan","BackendV6Data":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    );
    assert_eq!(in_etcd(&cluster, IPV6_ONLY)?, [(key, value)]);
    Ok(())
}

#[test]
fn a_lease_file_holds_the_same_bytes_as_etcd_would() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { nodes: 1, ..ClusterOptions::default() })?;
    let subnet = cluster.node(0).subnet_env()?.context("a subnet")?.subnet.context("IPv4")?;
    let mac = mac_of(cluster.node(0), "flannel.1")?;
    let [lease] = &cluster.store().leases()?[..] else { panic!("one lease") };
    assert_eq!(lease.key, format!("{}-24", subnet.network()));
    assert_eq!(
        lease.value,
        format!(
            r#"{{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
        )
    );
    Ok(())
}

/// A third node comes, gets packets through, and goes: the others are as they were.
fn comes_and_goes(etcd: bool) -> Result<()> {
    let mut cluster =
        Cluster::start(&ClusterOptions { etcd, config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    let before = [cluster.state(0)?, cluster.state(1)?];
    let third = cluster.add_node(Place::Near)?;
    cluster.launch(third)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    for other in 0..third {
        cluster.pod(third)?.reaches(cluster.pod(other)?)?;
        cluster.pod(other)?.reaches(cluster.pod(third)?)?;
    }

    cluster.leave(third)?;
    for (index, before) in before.iter().enumerate() {
        wait::until_equal("all is as it was before the third node", || {
            Ok(before.difference(&cluster.state(index)?))
        })?;
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_node_that_joins_is_known_everywhere_and_when_its_lease_file_goes_it_is_gone_everywhere() -> Result<()> {
    comes_and_goes(false)
}

#[test]
fn a_node_that_joins_is_known_everywhere_and_when_its_etcd_key_goes_it_is_gone_everywhere() -> Result<()> {
    comes_and_goes(true)
}

/// Three nodes start at the same moment where there are three subnets, several times.
fn start_together(etcd: bool) -> Result<()> {
    const ROUNDS: usize = 5;
    let config = r#"{"Network":"10.5.0.0/28","SubnetLen":30,"Backend":{"Type":"vxlan"}}"#.to_owned();
    let mut cluster =
        Cluster::prepare(&ClusterOptions { nodes: 3, etcd, config, ..ClusterOptions::default() })?;
    for round in 0..ROUNDS {
        cluster.start_all().with_context(|| format!("round {round}"))?;
        let subnets: BTreeSet<Vec<String>> =
            (0..3).map(|index| cluster.subnets(index)).collect::<Result<_>>()?;
        assert_eq!(subnets.len(), 3, "round {round}: {subnets:?}");
        cluster.wait_converged()?;
        for index in 0..3 {
            cluster.take_daemon(index)?.kill9();
            std::fs::remove_file(cluster.node(index).subnet_file())?;
        }
        for lease in cluster.store().leases()? {
            cluster.store().remove(&lease)?;
        }
    }
    Ok(())
}

#[test]
fn nodes_that_start_at_the_same_moment_never_share_a_subnet_of_a_directory() -> Result<()> {
    start_together(false)
}

#[test]
fn nodes_that_start_at_the_same_moment_never_share_a_subnet_of_etcd() -> Result<()> {
    start_together(true)
}

#[test]
fn a_node_keeps_its_subnet_and_its_mac_address_over_a_reboot() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    let before = cluster.lease(0)?;
    cluster.take_daemon(0)?.kill9();
    // A reboot takes what is in the kernel and what is in /run, and leaves the state directory.
    cluster.node(0).ip("link delete flannel.1")?;
    std::fs::remove_file(cluster.node(0).subnet_file())?;
    cluster.launch(0)?.wait_ready()?;
    assert_eq!(cluster.lease(0)?, before);
    assert_eq!(mac_of(cluster.node(0), "flannel.1")?, before.vteps()?[0].mac);
    cluster.wait_converged()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
