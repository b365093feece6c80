//! The external interface changes while the daemon runs: it is followed, the node keeps its subnet, and packets pass again.

use anyhow::Result;
use flannel_lab::{Backend, Cluster, ClusterOptions, wait};

/// Waits until the first node's lease has a public address, and says what the lease is then.
fn published(cluster: &Cluster, address: &str) -> Result<String> {
    let subnets = cluster.subnets(0)?;
    let wanted = format!(r#""PublicIP":"{address}""#);
    let (value, _) = wait::until(&format!("the lease says {address}"), || {
        let lease = cluster.store().lease_of(&subnets)?;
        Ok(lease.value.contains(&wanted).then_some(lease.value))
    })?;
    Ok(value)
}

#[test]
fn a_changed_address_is_published_and_the_subnet_is_kept() -> Result<()> {
    for etcd in [false, true] {
        let cluster = Cluster::start(&ClusterOptions { etcd, ..ClusterOptions::default() })?;
        let (subnets, leases) = (cluster.subnets(0)?, cluster.store().leases()?.len());
        let node = cluster.node(0);
        node.ip("address del 192.168.77.11/24 dev eth0")?;
        node.ip("address add 192.168.77.77/24 dev eth0")?;
        node.ip("route replace default via 192.168.77.1")?;
        published(&cluster, "192.168.77.77")?;
        wait::until_true("the other node sends to the new address", || {
            Ok(cluster.node(1).bridge("fdb show dev flannel.1")?.contains("dst 192.168.77.77 "))
        })?;
        assert!(!cluster.node(1).bridge("fdb show dev flannel.1")?.contains("dst 192.168.77.11 "));
        assert_eq!(cluster.subnets(0)?, subnets);
        assert_eq!(cluster.store().leases()?.len(), leases, "no lease is left behind");
        packets_pass_again(&cluster)?;
    }
    Ok(())
}

/// The device is made anew with the address, so that a packet at that very moment is lost.
fn packets_pass_again(cluster: &Cluster) -> Result<()> {
    wait::until_true("packets pass again", || Ok(cluster.pod(0)?.reaches(cluster.pod(1)?).is_ok())).map(drop)
}

#[test]
fn an_interface_without_an_address_is_waited_for_and_nothing_is_given_up() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    let before = cluster.lease(0)?;
    cluster.node(0).ip("address del 192.168.77.11/24 dev eth0")?;
    cluster
        .daemon(0)?
        .wait_log("that it goes on", |line| line.message().contains("going on with what there is"))?;
    assert!(cluster.daemon(0)?.runs()?);
    assert_eq!(cluster.lease(0)?, before);
    cluster.node(0).ip("address add 192.168.77.11/24 dev eth0")?;
    cluster.node(0).ip("route replace default via 192.168.77.1")?;
    packets_pass_again(&cluster)
}

#[test]
fn a_smaller_mtu_of_the_interface_reaches_device_and_subnet_file() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions::default())?;
    cluster.node(0).ip("link set eth0 mtu 1400")?;
    wait::until_true("the subnet file says so", || {
        Ok(cluster.node(0).subnet_env()?.is_some_and(|subnet| subnet.mtu == 1350))
    })?;
    wait::until_true("the device has it", || {
        Ok(cluster.node(0).ip("link show flannel.1")?.contains("mtu 1350"))
    })?;
    Ok(())
}

#[test]
fn an_interface_that_is_too_small_for_the_plugin_for_a_moment_ends_nothing() -> Result<()> {
    let options = ClusterOptions::of(Backend::Vxlan, true);
    let mut cluster = Cluster::start(&options)?;
    let before = cluster.lease(0)?;
    // IPv6 needs 1280 bytes, and the tunnel 70 of the interface's.
    cluster.node(0).ip("link set eth0 mtu 1300")?;
    cluster.daemon(0)?.wait_log("that it cannot go on", |line| {
        line.message().contains("cannot go on with its interface") && line.message().contains("1350")
    })?;
    assert!(cluster.daemon(0)?.runs()?);
    cluster.node(0).ip("link set eth0 mtu 1500")?;
    packets_pass_again(&cluster)?;
    wait::until_true("the node is in operation", || Ok(cluster.status(0)?["ready"]["ready"] == true))?;
    assert_eq!(cluster.lease(0)?.value, before.value);
    Ok(())
}

#[test]
fn an_address_that_changes_while_etcd_is_away_costs_no_peer_and_is_published_when_it_is_back() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions { etcd: true, ..ClusterOptions::default() })?;
    let subnets = cluster.subnets(0)?;
    cluster.etcd()?.kill(0);
    let node = cluster.node(0);
    node.ip("address del 192.168.77.11/24 dev eth0")?;
    node.ip("address add 192.168.77.77/24 dev eth0")?;
    node.ip("route replace default via 192.168.77.1")?;
    wait::until_true("the device sends from the new address", || {
        // It is made anew, so that there is none for a moment.
        let device = cluster.node(0).ip("-details link show flannel.1");
        Ok(device.is_ok_and(|device| device.contains("local 192.168.77.77 ")))
    })?;
    wait::until_true("the peer is where it was", || {
        let peers = &cluster.status(0)?["peers"];
        Ok(peers.as_array().is_some_and(|peers| peers.len() == 1) && peers[0]["routes"] == 1)
    })?;
    let ready = &cluster.status(0)?["ready"];
    assert_eq!(ready["ready"], false, "others do not know where this node is: {ready}");
    cluster.etcd()?.restart(0)?;
    published(&cluster, "192.168.77.77")?;
    assert_eq!(cluster.subnets(0)?, subnets);
    wait::until_true("the node is ready again", || Ok(cluster.status(0)?["ready"]["ready"] == true))?;
    packets_pass_again(&cluster)
}

#[test]
fn a_subnets_unused_addresses_lead_nowhere_with_a_blackhole_route() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    let plain = cluster.options().clone();
    cluster.set_options(plain.clone().arg("--ip-blackhole-route"));
    cluster.start_all()?;
    let subnet = cluster.subnets(0)?.remove(0);
    let there = |cluster: &Cluster| Ok(cluster.node(0).ip("route show type blackhole")?.contains(&subnet));
    wait::until_true("the blackhole route is there", || there(&cluster))?;
    cluster.node(0).ip(&format!("route del blackhole {subnet}"))?;
    wait::until_true("the blackhole route is back", || there(&cluster))?;
    assert_eq!(cluster.status(0)?["datapath"]["entries"]["failed"], 0);
    // Who does not want it any more, does not have it any more.
    cluster.set_options(plain);
    cluster.kill_and_restart(0)?;
    wait::until_true("the blackhole route is gone", || Ok(!there(&cluster)?))?;
    Ok(())
}
