//! WireGuard: options, keys, peers that are not as they should be, and peers that go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::cluster::IPV6_ONLY;
use flannel_lab::state::mtu_of;
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Node, Pings, Pod, change, wait};
use serde_json::{Value, json};

/// Two preshared keys, as `wg genpsk` prints them.
const PRESHARED: [&str; 2] =
    ["b25lIHNlY3JldCBmb3Igbm9kZXMgb2YgdGhpcyBsYWI=", "YW5vdGhlciBzZWNyZXQgdGhhdCBubyBvbmUga25vd3M="];

/// A private key and its public one: Alice's of RFC 7748, section 6.1.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

/// A network config with more options of the backend.
fn config(ipv6: bool, options: &str) -> String {
    with(&Backend::Wireguard.config(ipv6), options)
}

fn with(config: &str, options: &str) -> String {
    config.replace(r#""Type":"wireguard""#, &format!(r#""Type":"wireguard",{options}"#))
}

/// A cluster without daemons yet, or none, with a reason on standard output, where this kernel cannot have it.
fn prepare(nodes: usize, config: String) -> Result<Option<Cluster>> {
    if let Some(reason) = Backend::Wireguard.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    Cluster::prepare(&ClusterOptions { nodes, config, ..ClusterOptions::of(Backend::Wireguard, false) })
        .map(Some)
}

/// A cluster that works, or none, likewise.
fn start(nodes: usize, config: String) -> Result<Option<Cluster>> {
    let Some(mut cluster) = prepare(nodes, config)? else { return Ok(None) };
    cluster.bring_up()?;
    Ok(Some(cluster))
}

/// Small and full-size packets pass between the pods of two nodes, over all their families.
fn reach_each_other(cluster: &Cluster, one: usize, other: usize) -> Result<()> {
    cluster.pod(one)?.reaches(cluster.pod(other)?)?;
    cluster.pod(other)?.reaches(cluster.pod(one)?)
}

fn answers(from: &Pod, to: &Pod) -> Result<bool> {
    Ok(from.ping(&Echo::to(to.ipv4()?).patience(Duration::from_millis(500))).is_ok())
}

/// The names of a node's devices.
fn devices(cluster: &Cluster, index: usize) -> Result<BTreeSet<String>> {
    let name = |link: &String| link.split(':').next().unwrap_or_default().to_owned();
    Ok(cluster.state(index)?.links.iter().map(name).collect())
}

fn names(devices: &[&str]) -> BTreeSet<String> {
    devices.iter().map(|device| (*device).to_owned()).collect()
}

/// A node's lease as JSON.
fn published(cluster: &Cluster, index: usize) -> Result<Value> {
    serde_json::from_str(&cluster.lease(index)?.value).context("a lease")
}

/// The public key of a node's lease.
fn public_key(cluster: &Cluster, index: usize) -> Result<String> {
    let lease = published(cluster, index)?;
    let key = lease["BackendData"]["PublicKey"].as_str();
    Ok(key.with_context(|| format!("no key in {lease}"))?.to_owned())
}

/// Nothing gets from a node to this address of another any more, but through a tunnel over the other family.
fn block(node: &Node, address: IpAddr) -> Result<()> {
    let (family, length) = if address.is_ipv4() { ("-4", 32) } else { ("-6", 128) };
    node.ip(&format!("{family} route add blackhole {address}/{length}")).map(drop)
}

/// A dual-stack cluster with a mode has these devices, and they carry both families, also where the nodes themselves do not reach each
/// other over a family that the mode has no use for.
fn a_mode_carries_both_families(mode: &str, wanted: &[&str], useless: Option<&str>) -> Result<()> {
    let options = format!(r#""Mode":"{mode}""#);
    let Some(cluster) = start(2, config(true, &options))? else { return Ok(()) };
    for (node, peer) in [(0, 1), (1, 0)] {
        assert_eq!(devices(&cluster, node)?, names(wanted));
        let peer = cluster.node(peer);
        match useless {
            Some("ipv4") => block(cluster.node(node), peer.address().into())?,
            Some(_) => block(cluster.node(node), peer.address_v6().context("IPv6")?.into())?,
            None => {}
        }
    }
    reach_each_other(&cluster, 0, 1)?;
    cluster.pod(0)?.is_told_what_is_too_large(cluster.pod(1)?)
}

#[test]
fn separate_devices_carry_a_family_each() -> Result<()> {
    a_mode_carries_both_families("separate", &["flannel-wg", "flannel-wg-v6"], None)
}

#[test]
fn one_device_carries_both_families_over_what_seems_best() -> Result<()> {
    a_mode_carries_both_families("auto", &["flannel-wg"], None)
}

#[test]
fn one_device_carries_both_families_over_ipv4() -> Result<()> {
    a_mode_carries_both_families("ipv4", &["flannel-wg"], Some("ipv6"))
}

#[test]
fn one_device_carries_both_families_over_ipv6() -> Result<()> {
    a_mode_carries_both_families("ipv6", &["flannel-wg"], Some("ipv4"))
}

#[test]
fn an_ipv6_only_cluster_has_the_device_for_ipv6_alone() -> Result<()> {
    let Some(cluster) = start(2, IPV6_ONLY.replace("vxlan", "wireguard"))? else { return Ok(()) };
    assert_eq!(devices(&cluster, 0)?, names(&["flannel-wg-v6"]));
    let lease = published(&cluster, 0)?;
    assert_eq!(lease["BackendV6Data"]["Port"], json!(51821), "{lease}");
    assert!(lease["BackendData"]["PublicKey"].is_null(), "{lease}");
    reach_each_other(&cluster, 0, 1)
}

#[test]
fn only_nodes_with_the_same_preshared_key_reach_each_other() -> Result<()> {
    let [ours, another] = PRESHARED.map(|key| config(false, &format!(r#""PSK":"{key}""#)));
    let Some(mut cluster) = prepare(3, ours.clone())? else { return Ok(()) };
    for index in 0..2 {
        cluster.launch(index)?.wait_ready()?;
    }
    cluster.store().put_config(&another)?;
    cluster.launch(2)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;

    reach_each_other(&cluster, 0, 1)?;
    assert!(!answers(cluster.pod(0)?, cluster.pod(2)?)?, "node 2 has another key");
    assert!(!answers(cluster.pod(2)?, cluster.pod(1)?)?, "node 2 has another key");

    cluster.store().put_config(&ours)?;
    cluster.kill_and_restart(2)?;
    let what = "node 2 is reached as soon as it has the same key";
    wait::until_true(what, || answers(cluster.pod(2)?, cluster.pod(0)?))?;
    wait::until_true(what, || answers(cluster.pod(1)?, cluster.pod(2)?))?;
    Ok(())
}

/// What has come through a node's tunnels so far.
fn received(node: &Node) -> Result<u64> {
    let links = node.namespace().ip_json("-s link show dev flannel-wg")?;
    links[0]["stats64"]["rx"]["bytes"].as_u64().with_context(|| format!("no figures in {links}"))
}

#[test]
fn with_a_keepalive_interval_tunnels_are_kept_open_without_a_packet_of_a_pod() -> Result<()> {
    let options = r#""PersistentKeepaliveInterval":1"#;
    let Some(mut cluster) = prepare(2, config(false, options))? else { return Ok(()) };
    cluster.start_all()?;
    for node in cluster.lab().nodes() {
        let mut before = 0;
        // The first time it may be the handshake, afterwards it is what keeps the tunnel open.
        for _ in 0..3 {
            let more = wait::until("something comes through the tunnel", || {
                Ok(Some(received(node)?).filter(|now| *now > before))
            });
            before = more.with_context(|| node.name().to_owned())?.0;
        }
    }
    Ok(())
}

/// Both nodes publish these ports, and have a config's MTU less what WireGuard takes.
fn have_ports(cluster: &Cluster, port: u16) -> Result<()> {
    for index in 0..2 {
        let lease = published(cluster, index)?;
        assert_eq!(lease["BackendData"]["Port"], json!(port), "{lease}");
        assert_eq!(lease["BackendV6Data"]["Port"], json!(port + 1), "{lease}");
        for device in Backend::Wireguard.devices(true) {
            assert_eq!(mtu_of(cluster.node(index).namespace(), device)?, 1320, "{device}");
        }
        assert_eq!(cluster.node(index).subnet_env()?.context("a subnet file")?.mtu, 1320);
    }
    reach_each_other(cluster, 0, 1)?;
    cluster.pod(0)?.is_told_what_is_too_large(cluster.pod(1)?)
}

#[test]
fn ports_and_mtu_are_the_configs_and_other_ports_are_taken_while_packets_flow() -> Result<()> {
    let options = |port: u16| format!(r#""ListenPort":{port},"ListenPortV6":{},"MTU":1400"#, port + 1);
    let Some(mut cluster) = start(2, config(true, &options(51000)))? else { return Ok(()) };
    have_ports(&cluster, 51000)?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    change::to(&mut cluster, &format!(r#"{{"Type":"wireguard",{}}}"#, options(52000)))?;
    pings.flow()?;
    pings.lost_nothing()?;
    have_ports(&cluster, 52000)
}

/// What a node's status says of the peer with a subnet; null: it does not know it.
fn peer(cluster: &Cluster, index: usize, subnet: &str) -> Result<Value> {
    let status = cluster.status(index)?;
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    Ok(peers.into_iter().find(|peer| peer["subnets"][0] == subnet).unwrap_or_default())
}

#[test]
fn peers_that_cannot_be_served_are_no_hindrance_for_others() -> Result<()> {
    let Some(mut cluster) = prepare(2, config(false, r#""Mode":"separate""#))? else { return Ok(()) };
    let foreign = StoredLease::invented(250);
    let broken = StoredLease {
        key: "10.5.251.0-24".to_owned(),
        value: r#"{"PublicIP":"192.168.78.251","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"broken","Port":51820}}"#.to_owned(),
    };
    cluster.store().put(&foreign)?;
    cluster.store().put(&broken)?;
    cluster.start_all()?;
    cluster.wire_pods()?;
    for (index, other) in [(0, 1), (1, 0)] {
        let other = cluster.subnets(other)?.remove(0);
        wait::until_equal("each peer is told as it is", || {
            let told = |subnet: &str| peer(&cluster, index, subnet);
            let (good, foreign, broken) = (told(&other)?, told("10.5.250.0/24")?, told("10.5.251.0/24")?);
            let tunnels = [&good, &foreign, &broken].map(|peer| peer["tunnels"].as_u64());
            let problems = [&good, &foreign, &broken].map(|peer| peer["problems"].to_string());
            let right = tunnels == [Some(1), Some(0), Some(0)]
                && problems[0] == "[]"
                && problems[1].contains("its backend is vxlan, this node's is wireguard: not served")
                && problems[2].contains("BackendData.PublicKey")
                && problems[2].contains("base64 of 32 bytes");
            Ok((!right).then(|| format!("{good:#}\n{foreign:#}\n{broken:#}")))
        })?;
        assert_eq!(devices(&cluster, index)?, names(&["flannel-wg"]));
    }
    reach_each_other(&cluster, 0, 1)
}

/// Takes what a reboot takes: the daemon, what is in the kernel, and what is in /run. The state directory stays.
fn reboot(cluster: &mut Cluster, index: usize, devices: &[&str]) -> Result<()> {
    cluster.take_daemon(index)?.kill9();
    for device in devices {
        cluster.node(index).ip(&format!("link delete {device}"))?;
    }
    std::fs::remove_dir_all(cluster.node(index).directory().join("run"))?;
    cluster.launch(index)?.wait_ready()?;
    cluster.wait_converged().map(drop)
}

#[test]
fn nodes_that_start_at_the_same_moment_have_a_key_each() -> Result<()> {
    let Some(cluster) = start(3, config(true, r#""Mode":"separate""#))? else { return Ok(()) };
    let keys: BTreeSet<String> = (0..3).map(|index| public_key(&cluster, index)).collect::<Result<_>>()?;
    assert_eq!(keys.len(), 3, "{keys:?}");
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        // No device shakes hands with another that has not the key which the other's lease has.
        reach_each_other(&cluster, one, other)?;
        let lease = published(&cluster, one)?;
        assert_eq!(lease["BackendData"]["PublicKey"], lease["BackendV6Data"]["PublicKey"], "{lease}");
    }
    Ok(())
}

#[test]
fn a_node_keeps_its_subnet_and_its_key_over_a_reboot() -> Result<()> {
    let Some(mut cluster) = start(2, Backend::Wireguard.config(true))? else { return Ok(()) };
    reach_each_other(&cluster, 0, 1)?;
    let before = cluster.lease(0)?;
    reboot(&mut cluster, 0, &Backend::Wireguard.devices(true))?;
    assert_eq!(cluster.lease(0)?, before);
    // The node that has no session any more begins a new one; the other would notice only later.
    reach_each_other(&cluster, 0, 1)
}

/// A cluster whose daemons know upstream's place, and the first has a key there.
fn prepare_with_upstreams_key() -> Result<Option<Cluster>> {
    let Some(mut cluster) = prepare(2, Backend::Wireguard.config(false))? else { return Ok(None) };
    cluster.set_options(cluster.options().clone().upstreams_place());
    let place = cluster.node(0).directory().join("run");
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("wgkey"), PRIVATE)?;
    Ok(Some(cluster))
}

/// The key in a node's file.
fn key_in(node: &Node, file: &str) -> Result<String> {
    let file = node.directory().join(file);
    let key = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(key.trim_end().to_owned())
}

#[test]
fn upstreams_key_is_taken_over_where_the_nodes_lease_has_it_and_survives_a_reboot() -> Result<()> {
    let Some(mut cluster) = prepare_with_upstreams_key()? else { return Ok(()) };
    let upstreams = StoredLease {
        key: "10.5.157.0-24".to_owned(),
        value: format!(
            r#"{{"PublicIP":"{}","PublicIPv6":null,"BackendType":"wireguard","BackendData":{{"PublicKey":"{PUBLIC}","Port":51820}}}}"#,
            cluster.node(0).address()
        ),
    };
    cluster.store().put(&upstreams)?;
    cluster.bring_up()?;
    assert_eq!(cluster.lease(0)?, upstreams);
    assert_eq!(key_in(cluster.node(0), "state/wgkey")?, PRIVATE);
    assert_ne!(public_key(&cluster, 1)?, PUBLIC);
    reach_each_other(&cluster, 0, 1)?;

    reboot(&mut cluster, 0, &["flannel-wg"])?;
    assert_eq!(cluster.lease(0)?, upstreams);
    reach_each_other(&cluster, 0, 1)
}

#[test]
fn a_key_at_upstreams_place_that_no_lease_of_the_node_has_stays_where_it_is() -> Result<()> {
    let Some(mut cluster) = prepare_with_upstreams_key()? else { return Ok(()) };
    cluster.bring_up()?;
    assert_ne!(public_key(&cluster, 0)?, PUBLIC);
    assert_eq!(key_in(cluster.node(0), "run/wgkey")?, PRIVATE);
    reach_each_other(&cluster, 0, 1)
}

#[test]
fn a_node_that_leaves_is_no_peer_any_more() -> Result<()> {
    let Some(mut cluster) = start(3, Backend::Wireguard.config(false))? else { return Ok(()) };
    reach_each_other(&cluster, 0, 2)?;
    // Its device stays, and would go on as before if the others let it.
    cluster.leave(2)?;
    cluster.wait_converged()?;
    wait::until_true("nothing gets to the node that has left", || {
        Ok(!answers(cluster.pod(0)?, cluster.pod(2)?)?)
    })?;
    wait::until_true("nothing comes from the node that has left", || {
        Ok(!answers(cluster.pod(2)?, cluster.pod(1)?)?)
    })?;
    reach_each_other(&cluster, 0, 1)
}
