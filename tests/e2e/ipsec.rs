//! IPsec: what is on the wire, keys that are replaced, and peers that are not as they should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::backend::PSK;
use flannel_lab::cluster::IPV6_ONLY;
use flannel_lab::store::StoredLease;
use flannel_lab::wire::{ESP, Packet, UDP, Wire};
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Pings, Pod, wait};
use serde_json::Value;

/// A network config with more options of the backend.
fn config(ipv6: bool, options: &str) -> String {
    with(&Backend::Ipsec.config(ipv6), options)
}

fn with(config: &str, options: &str) -> String {
    let comma = if options.is_empty() { "" } else { "," };
    config.replace(r#""Type":"ipsec""#, &format!(r#""Type":"ipsec"{comma}{options}"#))
}

/// A cluster without daemons yet, or none, with a reason on standard output, where this kernel cannot have it.
fn prepare(nodes: usize, config: String) -> Result<Option<Cluster>> {
    if let Some(reason) = Backend::Ipsec.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    Cluster::prepare(&ClusterOptions { nodes, config, ..ClusterOptions::of(Backend::Ipsec, false) }).map(Some)
}

/// A cluster that works, or none, likewise.
fn start(nodes: usize, config: String) -> Result<Option<Cluster>> {
    let Some(mut cluster) = prepare(nodes, config)? else { return Ok(None) };
    cluster.bring_up()?;
    Ok(Some(cluster))
}

fn answers(from: &Pod, to: &Pod) -> Result<bool> {
    Ok(from.ping(&Echo::to(to.ipv4()?).patience(Duration::from_millis(500))).is_ok())
}

fn reach_each_other(cluster: &Cluster, one: usize, other: usize) -> Result<()> {
    cluster.pod(one)?.reaches(cluster.pod(other)?)?;
    cluster.pod(other)?.reaches(cluster.pod(one)?)
}

/// The public key of a node's lease.
fn public_key(cluster: &Cluster, index: usize) -> Result<String> {
    let lease: Value = serde_json::from_str(&cluster.lease(index)?.value).context("a lease")?;
    let key = lease["BackendData"]["PublicKey"].as_str().or(lease["BackendV6Data"]["PublicKey"].as_str());
    Ok(key.with_context(|| format!("no key in {lease}"))?.to_owned())
}

/// The SPIs of a node's states.
fn states(cluster: &Cluster, index: usize) -> Result<BTreeSet<String>> {
    let listed = cluster.node(index).ip("xfrm state list")?;
    let spis = listed.lines().filter_map(|line| line.split("spi ").nth(1)?.split(' ').next());
    Ok(spis.map(ToOwned::to_owned).collect())
}

/// The addresses of a pod, as they stand in a packet.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn has(packet: &Packet, part: &[u8]) -> bool {
    packet.bytes.windows(part.len()).any(|window| window == part)
}

/// Between the nodes there is ESP, as this protocol, and nothing in which a pod's address can be read.
fn nothing_is_in_clear(cluster: &Cluster, protocol: u8) -> Result<()> {
    let wire = Wire::listen(cluster.lab().switch().namespace())?;
    reach_each_other(cluster, 0, 1)?;
    let passed = wire.take();
    let pods: Vec<Vec<u8>> = cluster.pods().flat_map(Pod::addresses).map(octets).collect();
    let protected: Vec<&Packet> = passed.iter().filter(|packet| packet.protocol == protocol).collect();
    assert!(protected.len() >= 4, "{passed:?}");
    for packet in &passed {
        for pod in &pods {
            assert!(!has(packet, pod), "{packet:?}");
        }
    }
    let families: BTreeSet<bool> = protected.iter().map(|packet| packet.source.is_ipv4()).collect();
    let of_pods: BTreeSet<bool> = cluster.pod(0)?.addresses().iter().map(IpAddr::is_ipv4).collect();
    assert_eq!(families, of_pods, "each family goes over itself");
    // A number comes once: of what comes more than once on a switch, all is the same.
    let mut numbers: BTreeMap<(u32, u32), &[u8]> = BTreeMap::new();
    for packet in &protected {
        let number = packet.esp().context("ESP")?;
        let first = numbers.entry(number).or_insert(&packet.bytes);
        assert_eq!(*first, packet.bytes, "{number:?}");
    }
    Ok(())
}

#[test]
fn what_leaves_is_esp_and_nothing_is_in_clear() -> Result<()> {
    let Some(cluster) = start(2, config(true, ""))? else { return Ok(()) };
    nothing_is_in_clear(&cluster, ESP)
}

#[test]
fn an_ipv6_only_cluster_goes_over_ipv6() -> Result<()> {
    let section =
        with(IPV6_ONLY, "").replace(r#""Type":"vxlan""#, &format!(r#""Type":"ipsec","PSK":"{PSK}""#));
    let Some(cluster) = start(2, section)? else { return Ok(()) };
    nothing_is_in_clear(&cluster, ESP)
}

#[test]
fn with_udp_encapsulation_esp_goes_by_udp() -> Result<()> {
    let Some(cluster) = start(2, config(true, r#""UDPEncap":true"#))? else { return Ok(()) };
    nothing_is_in_clear(&cluster, UDP)
}

#[test]
fn each_cipher_protects() -> Result<()> {
    for cipher in ["aes256gcm16-prfsha384-ecp384", "chacha20poly1305"] {
        let Some(cluster) = start(2, config(false, &format!(r#""ESPProposal":"{cipher}""#)))? else {
            return Ok(());
        };
        nothing_is_in_clear(&cluster, ESP).with_context(|| cipher.to_owned())?;
    }
    Ok(())
}

#[test]
fn keys_are_replaced_without_losing_a_packet() -> Result<()> {
    let Some(cluster) = start(3, config(true, r#""RekeySeconds":10"#))? else { return Ok(()) };
    let pairs = [(0, 1), (1, 2), (2, 0)];
    let pods = pairs.map(|(from, to)| cluster.pod(from).and_then(|from| Ok((from, cluster.pod(to)?))));
    let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
    let pings = Pings::among(pods, Duration::from_millis(20))?;
    let (mut keys, before) = (vec![BTreeSet::new(); 3], states(&cluster, 0)?);
    wait::until_equal("each node has had three keys", || {
        for (index, of_node) in keys.iter_mut().enumerate() {
            of_node.insert(public_key(&cluster, index)?);
        }
        let counts: Vec<usize> = keys.iter().map(BTreeSet::len).collect();
        Ok(counts.iter().any(|count| *count < 3).then(|| format!("{counts:?}")))
    })?;
    wait::until_true("what was there at first is gone", || Ok(states(&cluster, 0)?.is_disjoint(&before)))?;
    pings.lost_nothing()
}

#[test]
fn while_the_store_is_away_keys_stay_in_use_and_nothing_is_lost() -> Result<()> {
    let text = config(false, r#""RekeySeconds":10"#);
    if let Some(reason) = Backend::Ipsec.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    let options =
        ClusterOptions { nodes: 2, config: text, etcd: true, ..ClusterOptions::of(Backend::Ipsec, false) };
    let mut cluster = Cluster::prepare(&options)?;
    cluster.bring_up()?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    let before = [public_key(&cluster, 0)?, public_key(&cluster, 1)?];
    cluster.etcd()?.pause(0)?;
    // More than twice as long as a key is to be used, and longer than a silent peer is waited for.
    std::thread::sleep(Duration::from_secs(35));
    pings.flow()?;
    cluster.etcd()?.resume(0)?;
    wait::until_true("both are told of another key", || {
        Ok(public_key(&cluster, 0)? != before[0] && public_key(&cluster, 1)? != before[1])
    })?;
    pings.flow()?;
    pings.lost_nothing()
}

#[test]
fn a_daemon_that_is_killed_comes_back_with_another_key_and_nothing_is_lost() -> Result<()> {
    let Some(mut cluster) = start(2, config(true, ""))? else { return Ok(()) };
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let (key, before) = (public_key(&cluster, 0)?, states(&cluster, 0)?);
    cluster.kill_and_restart(0)?;
    wait::until_true("peers are told of another key", || Ok(public_key(&cluster, 0)? != key))?;
    wait::until_equal("what was there is gone", || {
        let left: Vec<String> = states(&cluster, 0)?.intersection(&before).cloned().collect();
        Ok((!left.is_empty()).then(|| format!("{left:?}")))
    })?;
    pings.lost_nothing()
}

#[test]
fn a_node_that_was_rebooted_is_reached_again() -> Result<()> {
    let Some(mut cluster) = start(2, config(true, ""))? else { return Ok(()) };
    reach_each_other(&cluster, 0, 1)?;
    cluster.take_daemon(0)?.kill9();
    let node = cluster.node(0);
    node.ip("xfrm state flush")?;
    node.ip("xfrm policy flush")?;
    node.ip("link delete flannel-ipsec")?;
    std::fs::remove_dir_all(node.directory().join("run"))?;
    cluster.launch(0)?.wait_ready()?;
    cluster.wait_converged()?;
    wait::until_true("it is reached", || answers(cluster.pod(1)?, cluster.pod(0)?))?;
    reach_each_other(&cluster, 0, 1)
}

#[test]
fn states_and_policies_that_somebody_removes_come_back() -> Result<()> {
    let Some(cluster) = start(2, config(true, ""))? else { return Ok(()) };
    // Numbers go on: a window that has moved takes none of before.
    for _ in 0..3 {
        for damage in ["state", "policy"] {
            cluster.node(0).ip(&format!("xfrm {damage} flush"))?;
            wait::until_true("packets pass again", || answers(cluster.pod(0)?, cluster.pod(1)?))?;
            reach_each_other(&cluster, 0, 1)?;
        }
    }
    Ok(())
}

#[test]
fn what_others_have_of_ipsec_stays() -> Result<()> {
    let Some(mut cluster) = prepare(2, config(false, ""))? else { return Ok(()) };
    let node = cluster.node(0);
    node.ip("xfrm policy add src 198.51.100.0/24 dst 203.0.113.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel")?;
    node.ip("xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x700 mode tunnel aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128")?;
    cluster.bring_up()?;
    reach_each_other(&cluster, 0, 1)?;
    cluster.kill_and_restart(0)?;
    let node = cluster.node(0);
    assert!(node.ip("xfrm policy list")?.contains("198.51.100.0/24"));
    assert!(node.ip("xfrm state list")?.contains("0x00000700"));
    Ok(())
}

#[test]
fn a_node_that_leaves_leaves_nothing_at_the_others() -> Result<()> {
    let Some(mut cluster) = start(3, config(true, ""))? else { return Ok(()) };
    reach_each_other(&cluster, 0, 2)?;
    let address = cluster.node(2).address().to_string();
    assert!(cluster.node(0).ip("xfrm state list")?.contains(&address));
    cluster.leave(2)?;
    cluster.wait_converged()?;
    for index in 0..2 {
        for list in ["state", "policy"] {
            let listed = cluster.node(index).ip(&format!("xfrm {list} list"))?;
            assert!(!listed.contains(&address), "{listed}");
        }
    }
    assert!(!answers(cluster.pod(2)?, cluster.pod(1)?)?);
    reach_each_other(&cluster, 0, 1)
}

#[test]
fn peers_of_another_kind_are_named_and_no_hindrance() -> Result<()> {
    let Some(mut cluster) = prepare(2, config(false, ""))? else { return Ok(()) };
    let lease = |last: u8, data: &str| StoredLease {
        key: format!("10.5.{last}.0-24"),
        value: format!(r#"{{"PublicIP":"192.168.78.{last}","PublicIPv6":null,"BackendType":"ipsec"{data}}}"#),
    };
    cluster.store().put(&lease(250, ""))?;
    cluster.store().put(&lease(251, r#","BackendData":{"PublicKey":"broken"}"#))?;
    let zeros = "A".repeat(43) + "=";
    cluster.store().put(&lease(252, &format!(r#","BackendData":{{"PublicKey":"{zeros}"}}"#)))?;
    cluster.start_all()?;
    cluster.wire_pods()?;
    for (subnet, words) in [
        ("10.5.250.0/24", "negotiates its keys by IKE"),
        ("10.5.251.0/24", "base64 of 32 bytes"),
        ("10.5.252.0/24", "no key of X25519"),
    ] {
        wait::until_equal("the peer is told as it is", || {
            let status = cluster.status(0)?;
            let peers = status["peers"].as_array().cloned().unwrap_or_default();
            let peer = peers.into_iter().find(|peer| peer["subnets"][0] == subnet).unwrap_or_default();
            Ok((!peer["problems"].to_string().contains(words)).then(|| format!("{peer:#}")))
        })?;
    }
    wait::until_true("the nodes reach each other", || answers(cluster.pod(0)?, cluster.pod(1)?))?;
    reach_each_other(&cluster, 0, 1)
}
