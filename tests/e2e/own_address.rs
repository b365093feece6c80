//! Which address and interface are a node's, where there are others beside them: what is published stays, and what is flannel's own or somebody
//! else's is never taken.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::{Backend, Cluster, ClusterOptions, wait};

/// What a node waits for its address, and a little more.
const LONGER_THAN_IT_WAITS: Duration = Duration::from_secs(5);

fn lease_says(cluster: &Cluster, wanted: &str) -> Result<()> {
    let lease = cluster.lease(0)?.value;
    anyhow::ensure!(lease.contains(wanted), "{wanted} is not in {lease}");
    Ok(())
}

/// The node's peer sends to this address.
fn peer_sends_to(cluster: &Cluster, address: &str) -> Result<()> {
    wait::until_true(&format!("the other node sends to {address}"), || {
        Ok(cluster.node(1).bridge("fdb show")?.contains(&format!("dst {address} ")))
    })
    .map(drop)
}

#[test]
fn an_address_that_comes_beside_the_nodes_own_is_not_published_even_if_that_is_away_for_a_moment()
-> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::of(Backend::Vxlan, true))?;
    let before = cluster.lease(0)?;
    let node = cluster.node(0);
    node.namespace().sysctls(&[("ipv4/conf/eth0/promote_secondaries", "1")])?;
    for address in ["192.168.77.200/24", "192.168.77.201/32"] {
        node.ip(&format!("address add {address} dev eth0"))?;
    }
    for address in ["fd77::100/128", "fd77::200/64"] {
        node.ip(&format!("address add {address} dev eth0 nodad"))?;
    }
    node.ip("address del 192.168.77.11/24 dev eth0")?;
    node.ip("address del fd77::11/64 dev eth0")?;
    wait::until_true("the node is not ready", || Ok(cluster.status(0)?["ready"]["ready"] == false))?;
    cluster.node(0).ip("address add 192.168.77.11/24 dev eth0")?;
    cluster.node(0).ip("address add fd77::11/64 dev eth0 nodad")?;
    cluster.node(0).ip("route replace default via 192.168.77.1")?;
    wait::until_true("the node is ready", || Ok(cluster.status(0)?["ready"]["ready"] == true))?;
    std::thread::sleep(LONGER_THAN_IT_WAITS);
    assert_eq!(cluster.lease(0)?.value, before.value);
    peer_sends_to(&cluster, "192.168.77.11")?;
    // Nor after a restart, and neither without what the daemon itself has recorded: then the lease says it.
    for record in [true, false] {
        cluster.take_daemon(0)?.kill9();
        if !record {
            std::fs::remove_file(cluster.node(0).directory().join("state/addresses.json"))
                .context("the record")?;
        }
        cluster.launch(0)?.wait_ready()?;
        assert_eq!(cluster.lease(0)?.value, before.value, "with a record: {record}");
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn an_address_that_should_not_be_used_any_more_is_kept_and_no_link_local_one_published() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::of(Backend::Vxlan, true))?;
    cluster.node(0).ip("address change fd77::11/64 dev eth0 preferred_lft 0 valid_lft 3600")?;
    wait::until_true("the kernel says so", || {
        Ok(cluster.node(0).ip("-6 address show dev eth0")?.contains("deprecated"))
    })?;
    std::thread::sleep(LONGER_THAN_IT_WAITS);
    lease_says(&cluster, r#""PublicIPv6":"fd77::11""#)?;
    cluster.take_daemon(0)?.kill9();
    std::fs::remove_file(cluster.node(0).directory().join("state/addresses.json")).context("the record")?;
    std::fs::remove_file(cluster.node(0).subnet_file()).context("the subnet file")?;
    cluster.launch(0)?.wait_ready()?;
    lease_says(&cluster, r#""PublicIPv6":"fd77::11""#)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_node_stays_at_its_interface_while_the_default_route_is_elsewhere_until_it_is_told_to_look_anew()
-> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    let before = cluster.lease(0)?;
    let node = cluster.node(0);
    node.ip("link add vpn0 type veth peer name vpn1")?;
    node.ip("link set vpn1 up")?;
    node.ip("link set vpn0 up")?;
    node.ip("address add 172.30.0.9/24 dev vpn0")?;
    node.ip("route replace default via 172.30.0.1 dev vpn0")?;
    std::thread::sleep(LONGER_THAN_IT_WAITS);
    assert_eq!(cluster.lease(0)?.value, before.value);
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    // Without its address it waits, and does not move either.
    cluster.node(0).ip("address del 192.168.77.11/24 dev eth0")?;
    std::thread::sleep(LONGER_THAN_IT_WAITS);
    assert_eq!(cluster.lease(0)?.value, before.value);
    cluster.node(0).ip("address add 192.168.77.11/24 dev eth0")?;
    wait::until_true("the node is ready", || Ok(cluster.status(0)?["ready"]["ready"] == true))?;
    cluster.daemon(0)?.hang_up()?;
    wait::until_true("the node has moved", || Ok(cluster.lease(0)?.value.contains("172.30.0.9")))?;
    Ok(())
}

#[test]
fn a_regular_expression_that_fits_everything_takes_neither_flannels_device_nor_that_of_pods() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    let before = cluster.lease(0)?;
    let plain = cluster.options().clone();
    for regex in [r"^(10|192)\.", "flannel|cni|eth", "."] {
        cluster.set_options(plain.clone().arg("--iface-regex").arg(regex));
        cluster.kill_and_restart(0)?;
        assert_eq!(cluster.lease(0)?.value, before.value, "{regex}");
        assert!(cluster.node(0).ip("-details link show flannel.1")?.contains("dev eth0"), "{regex}");
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn the_interface_that_has_the_address_to_be_reached_is_taken() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    let plain = cluster.options().clone();
    cluster.set_options(plain.arg("--iface-can-reach").arg("192.168.77.11"));
    cluster.launch(0)?.wait_ready()?;
    assert!(cluster.node(0).ip("-details link show flannel.1")?.contains("dev eth0"));
    lease_says(&cluster, r#""PublicIP":"192.168.77.11""#)
}

#[test]
fn a_default_route_of_several_next_hops_over_one_interface_is_a_default_route() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    let node = cluster.node(0);
    node.ip("route del default")?;
    node.ip("route add default nexthop via 192.168.77.1 dev eth0 nexthop via 192.168.77.2 dev eth0")?;
    cluster.launch(0)?.wait_ready()?;
    lease_says(&cluster, r#""PublicIP":"192.168.77.11""#)
}

#[test]
fn with_host_gw_peers_are_on_the_link_though_another_interface_is_in_the_same_network() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::of(Backend::HostGw, true))?;
    let node = cluster.node(0);
    node.ip("link add eth1 type veth peer name far1")?;
    node.ip("link set far1 up")?;
    node.ip("link set eth1 up")?;
    node.ip("address add 192.168.77.111/24 dev eth1 noprefixroute")?;
    node.ip("address add fd77::111/64 dev eth1 nodad noprefixroute")?;
    // The kernel would take it.
    for (family, network) in [("-4", "192.168.77.0/24"), ("-6", "fd77::/64")] {
        node.ip(&format!("{family} route del {network} dev eth0"))?;
        node.ip(&format!("{family} route add {network} dev eth0 proto kernel metric 700"))?;
        node.ip(&format!("{family} route add {network} dev eth1 proto kernel metric 600"))?;
    }
    cluster.bring_up()?;
    let routes = cluster.state(0)?.routes;
    let over_eth0 = routes.iter().filter(|route| route.contains("dev eth0")).count();
    assert_eq!(over_eth0, 2, "{routes:?}");
    assert_eq!(cluster.trouble(0)?, None);
    Ok(())
}

#[test]
fn with_host_gw_routes_are_there_when_the_carrier_is() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions::of(Backend::HostGw, true))?;
    let before = cluster.state(0)?;
    cluster.lab().switch().set_port(cluster.node(0).name(), false)?;
    wait::until_true("the carrier is lost", || {
        Ok(cluster.node(0).ip("link show eth0")?.contains("NO-CARRIER"))
    })?;
    let down = cluster.state(0)?;
    assert_eq!(down.routes.len(), before.routes.len(), "{down}");
    cluster.lab().switch().set_port(cluster.node(0).name(), true)?;
    cluster.wait_converged()?;
    assert_eq!(before.difference(&cluster.state(0)?), None);
    Ok(())
}

#[test]
fn a_node_whose_only_global_address_is_away_waits_and_publishes_no_link_local_one() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions::of(Backend::Vxlan, true))?;
    let before = cluster.lease(0)?;
    cluster.node(0).ip("address del fd77::11/64 dev eth0")?;
    wait::until_true("the node is not ready", || Ok(cluster.status(0)?["ready"]["ready"] == false))?;
    std::thread::sleep(LONGER_THAN_IT_WAITS);
    assert_eq!(cluster.lease(0)?.value, before.value);
    cluster.node(0).ip("address add fd77::11/64 dev eth0 nodad")?;
    wait::until_true("the node is ready", || Ok(cluster.status(0)?["ready"]["ready"] == true))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
