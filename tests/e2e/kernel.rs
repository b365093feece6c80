//! What the kernel has: the same as with upstream flannel, so that whoever knows one knows the other.

use anyhow::{Context, Result};
use flannel_lab::cluster::{DUAL_STACK, IPV6_ONLY};
use flannel_lab::state::{KernelState, mac_of};
use flannel_lab::store::Store;
use flannel_lab::vtep::Vtep;
use flannel_lab::{Cluster, ClusterOptions, Place};

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Every node has for every other exactly what belongs to it, and nothing else.
fn has_exactly_the_entries_for_its_peers(cluster: &Cluster) -> Result<()> {
    let count = cluster.lab().nodes().len();
    for index in 0..count {
        let state = cluster.state(index)?;
        let mut peers = Vec::new();
        for peer in (0..count).filter(|peer| *peer != index) {
            peers.extend(cluster.lease(peer)?.vteps()?);
        }
        assert_eq!(state.routes, sorted(peers.iter().map(Vtep::route).collect()));
        assert_eq!(state.neighbours, sorted(peers.iter().map(Vtep::neighbour).collect()));
        assert_eq!(state.fdb, sorted(peers.iter().map(Vtep::fdb).collect()));
    }
    Ok(())
}

/// The device of one family, with its address.
fn has_device(cluster: &Cluster, index: usize, device: &str, local: &str, mtu: u32) -> Result<()> {
    let state = cluster.state(index)?;
    let link =
        state.links.iter().find(|link| link.starts_with(&format!("{device}: "))).context("the device")?;
    let vxlan = format!("vxlan id 1 local {local} dev eth0 srcport 0 0 dstport 8472 nolearning");
    for part in [&format!("mtu {mtu} "), ",UP,", &vxlan] {
        assert!(link.contains(part), "{part:?} in {link}");
    }
    let published = cluster.lease(index)?.vteps()?;
    let own = published.iter().find(|vtep| vtep.device == device).context("published")?;
    assert_eq!(mac_of(cluster.node(index), device)?, own.mac);
    let (family, length) = if own.address.contains(':') { ("inet6", 128) } else { ("inet", 32) };
    let address = format!("{device} {family} {}/{length} scope global", own.address);
    let addresses: Vec<&String> = state.addresses.iter().filter(|line| line.starts_with(device)).collect();
    assert!(addresses.len() == 1 && addresses[0].starts_with(&address), "{address:?} in {addresses:?}");
    Ok(())
}

#[test]
fn a_vxlan_node_has_device_address_routes_neighbours_and_fdb_as_upstream_makes_them() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { nodes: 3, ..ClusterOptions::default() })?;
    has_device(&cluster, 0, "flannel.1", "192.168.77.11", 1450)?;
    has_exactly_the_entries_for_its_peers(&cluster)
}

#[test]
fn a_dual_stack_node_has_a_second_device_for_ipv6() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    has_device(&cluster, 0, "flannel.1", "192.168.77.11", 1450)?;
    has_device(&cluster, 0, "flannel-v6.1", "fd77::11", 1430)?;
    has_exactly_the_entries_for_its_peers(&cluster)
}

#[test]
fn an_ipv6_only_node_has_nothing_of_ipv4() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: IPV6_ONLY.to_owned(), ..ClusterOptions::default() })?;
    has_device(&cluster, 0, "flannel-v6.1", "fd77::11", 1430)?;
    assert_eq!(cluster.state(0)?.links.len(), 1);
    has_exactly_the_entries_for_its_peers(&cluster)
}

#[test]
fn the_subnet_file_is_what_container_runtimes_read() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    let subnet = cluster.node(0).subnet_env()?.context("a subnet file")?;
    let (v4, v6) = (subnet.subnet.context("IPv4")?, subnet.subnet_v6.context("IPv6")?);
    let expected = format!(
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET={v4}\nFLANNEL_IPV6_NETWORK=fc00:5::/48\nFLANNEL_IPV6_SUBNET={v6}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
    );
    assert_eq!(subnet.text, expected);
    assert_eq!(u32::from(v4.addr()), u32::from(v4.network()) + 1);
    assert_eq!(u128::from(v6.addr()), u128::from(v6.network()) + 1);
    Ok(())
}

#[test]
fn with_direct_routing_only_nodes_behind_a_router_are_reached_through_the_tunnel() -> Result<()> {
    let config = DUAL_STACK.replace(r#""Type":"vxlan""#, r#""Type":"vxlan","DirectRouting":true"#);
    let mut cluster = Cluster::prepare(&ClusterOptions { config, ..ClusterOptions::default() })?;
    let far = cluster.add_node(Place::Far)?;
    cluster.start_all()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;

    let (near, behind) = (cluster.lease(1)?.vteps()?, cluster.lease(far)?.vteps()?);
    let direct = [
        format!("{} via 192.168.77.12 dev eth0", near[0].subnet),
        format!("{} via fd77::12 dev eth0 metric 1024 pref medium", near[1].subnet),
    ];
    let KernelState { routes, neighbours, fdb, .. } = cluster.state(0)?;
    assert_eq!(routes, sorted(direct.into_iter().chain(behind.iter().map(Vtep::route)).collect()));
    assert_eq!(neighbours, sorted(behind.iter().map(Vtep::neighbour).collect()));
    assert_eq!(fdb, sorted(behind.iter().map(Vtep::fdb).collect()));
    for from in cluster.pods() {
        for to in cluster.pods() {
            from.reaches(to)?;
        }
    }
    Ok(())
}

#[test]
fn a_lease_that_upstream_flannel_wrote_is_served() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { nodes: 1, etcd: true, ..ClusterOptions::default() })?;
    let Store::Etcd(etcd) = cluster.store() else { panic!("etcd") };
    etcd.put(
        "/coreos.com/network/subnets/10.5.157.0-24",
        r#"{"PublicIP":"192.168.77.99","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"a6:63:db:5a:bb:09"}}"#,
    )?;
    cluster.wait_converged()?;
    let state = cluster.state(0)?;
    assert_eq!(state.routes, ["10.5.157.0/24 via 10.5.157.0 dev flannel.1 onlink"]);
    assert_eq!(state.neighbours, ["10.5.157.0 dev flannel.1 lladdr a6:63:db:5a:bb:09 PERMANENT"]);
    assert_eq!(state.fdb, ["a6:63:db:5a:bb:09 dev flannel.1 dst 192.168.77.99 self permanent"]);
    Ok(())
}
