//! Real components on a host without a kernel: what they declare, and what becomes of those that misbehave.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use flannel_model::entry::{Device, DeviceSpec, Entry, Mac};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::{PeerId, Transaction};
use flannel_model::offloads::Offloads;
use flannel_model::wireguard::{Keys, PublicKey};
use tempfile::TempDir;

use super::*;
use flannel_test_support::component;

struct FakeLinks;

impl LinkFacts for FakeLinks {
    fn mac(&self, _: &str, _: u32, family: Family) -> Mac {
        Mac([2, 0, 0, 0, 0, if family == Family::Ipv4 { 4 } else { 6 }])
    }

    fn is_on_link(&self, address: IpAddr) -> Result<bool, String> {
        Ok(address == IpAddr::from([192, 168, 0, 3]))
    }

    fn default_vxlan_port(&self) -> u16 {
        8472
    }

    fn wireguard_keys(&self) -> Result<Keys, String> {
        Err("no keys in this test".to_owned())
    }

    fn ipsec_key(&self) -> Result<PublicKey, String> {
        Ok(PublicKey([5; 32]))
    }
}

pub(super) fn environment(config: &str) -> Environment {
    let value: serde_json::Value = serde_json::from_str(config).expect("JSON");
    Environment {
        node: NodeFacts {
            interface: "eth0".into(),
            mtu: 1500,
            ipv4: Some([192, 168, 0, 100].into()),
            ipv6: None,
            public_ipv4: Some([192, 168, 0, 100].into()),
            public_ipv6: None,
            ipv4_network: Some("10.5.0.0/16".parse().expect("prefix")),
            ipv6_network: None,
        },
        about: Arc::default(),
        backend_type: value["Type"].as_str().expect("a type").to_owned(),
        config: config.to_owned(),
        secrets: Secrets::default(),
        offloads: Offloads::ALL,
        grants: Arc::new(Grants::everything()),
        clouds: Arc::new(NoClouds),
        endpoints: Arc::new(NoEndpoints),
        commands: Arc::new(NoCommands),
        probes: Arc::new(NoProbes),
        links: Arc::new(FakeLinks),
    }
}

fn lease(n: u16, backend_type: &str, data: &str) -> Arc<Lease> {
    let [high, low] = n.to_be_bytes();
    let subnet = ipnet::Ipv4Net::new([10, 5, low, high].into(), 24).expect("prefix").trunc();
    let attributes = Attributes {
        public_ip: Some([192, 168, high, low].into()),
        backend_type: backend_type.into(),
        backend_data: Some(serde_json::value::RawValue::from_string(data.into()).expect("JSON")),
        ..Attributes::default()
    };
    Arc::new(Lease { subnets: Subnets { v4: Some(subnet), v6: None }, attributes, expires: None })
}

pub(super) fn hostile_peer(n: u16) -> PeerChange {
    PeerChange::Put(PeerId(n.into()), lease(n, "hostile", &format!("\"02:00:00:00:00:{n:02x}\"")))
}

pub(super) struct Bench {
    pub(super) policy: Policy,
    registered: Registration,
    _dir: TempDir,
}

fn start(name: &str, config: &str, limits: Limits) -> Result<Bench, PluginError> {
    start_in(name, environment(config), limits)
}

pub(super) fn start_in(name: &str, environment: Environment, limits: Limits) -> Result<Bench, PluginError> {
    let dir = tempfile::tempdir().expect("directory");
    let artifact = Loader::new(&dir.path().join("cache"), &dir.path().join("cache"), Compiler::Here)
        .load_here(&component(name))
        .expect("loads");
    let state = Arc::new(DirState::open(dir.path()));
    let (mut policy, registered) = Policy::start(&artifact, environment, limits, state)?;
    let own = lease(72, name, "null");
    policy.lease_acquired(&own)?;
    Ok(Bench { policy, registered, _dir: dir })
}

/// Limits that make tests of time-outs short.
fn strict() -> Limits {
    Limits { call_time: Duration::from_millis(300), change_time: Duration::ZERO, ..Limits::default() }
}

fn hostile(place: &str, deed: &str) -> Result<Bench, PluginError> {
    start(
        "hostile",
        &format!(r#"{{"Type":"hostile","In":"{place}","Do":"{deed}","Subnet":"10.5.3.0/24"}}"#),
        strict(),
    )
}

fn entries(transaction: &Transaction, peer: u64) -> Option<&Vec<Entry>> {
    transaction.peers.get(&PeerId(peer)).and_then(Option::as_ref)
}

#[test]
fn the_vxlan_component_declares_device_address_and_three_entries_for_a_peer() {
    let config = r#"{"Type":"vxlan","VNI":1}"#;
    let mut bench = start("vxlan", config, Limits::default()).expect("starts");
    let device = &bench.registered.transaction.devices["flannel.1"];
    let DeviceSpec::Vxlan(device) = device else { panic!("{device:?}") };
    assert_eq!(
        (device.vni, device.port, device.mtu, device.local),
        (1, 8472, 1450, IpAddr::from([192, 168, 0, 100]))
    );
    let data = bench.registered.backend_data.as_ref().map(|data| data.get());
    assert_eq!(data, Some(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:04"}"#));
    let leased = bench.policy.lease_acquired(&lease(72, "vxlan", "null")).expect("leased");
    assert_eq!(leased.addresses["flannel.1"], ["10.5.72.0/32".parse().expect("prefix")].into());
    let peer = lease(3, "vxlan", r#"{"VNI":1,"VtepMAC":"9e:00:00:00:00:03"}"#);
    let applied = bench.policy.apply(&[PeerChange::Put(PeerId(1), peer)]);
    let (device, mac) = (Device::Own("flannel.1".into()), Mac([0x9e, 0, 0, 0, 0, 3]));
    let via = IpAddr::from([10, 5, 3, 0]);
    assert_eq!(
        entries(&applied.transaction, 1),
        Some(&vec![
            Entry::Neighbour { address: via, link_address: mac.into(), device: device.clone() },
            Entry::Fdb { mac, destination: [192, 168, 0, 3].into(), device: device.clone() },
            Entry::Route {
                destination: "10.5.3.0/24".parse().expect("prefix"),
                via: Some(via),
                onlink: true,
                device
            },
        ])
    );
    assert!(applied.failures.is_empty() && applied.rejected.is_empty() && applied.deferred.is_empty());
}

#[test]
fn a_peer_that_the_policy_rejects_has_no_entries_and_the_others_do() {
    let mut bench = start("vxlan", r#"{"Type":"vxlan"}"#, Limits::default()).expect("starts");
    let good = lease(4, "vxlan", r#"{"VNI":1,"VtepMAC":"9e:00:00:00:00:04"}"#);
    let applied = bench
        .policy
        .apply(&[PeerChange::Put(PeerId(1), lease(3, "vxlan", "{}")), PeerChange::Put(PeerId(2), good)]);
    assert_eq!(entries(&applied.transaction, 1), Some(&vec![]));
    assert_eq!(entries(&applied.transaction, 2).map(Vec::len), Some(3));
    let [(PeerId(1), reason)] = &applied.rejected[..] else { panic!("{applied:?}") };
    assert!(reason.contains("VtepMAC is missing"), "{reason}");
}

#[test]
fn a_plugin_imports_nothing_but_the_capabilities_that_it_uses() {
    let dir = tempfile::tempdir().expect("directory");
    let artifact =
        Loader::new(dir.path(), dir.path(), Compiler::Here).load_here(&component("vxlan")).expect("loads");
    let kind = artifact.component.component_type();
    let imports: Vec<_> = kind.imports(&artifact.engine).map(|(name, _)| name.to_owned()).collect();
    for interface in ["links", "routes", "neighbours", "fdb", "log"] {
        assert!(imports.contains(&format!("flannel:backend/{interface}@0.1.0")), "{interface}: {imports:?}");
    }
    for interface in ["state", "clock"] {
        assert!(!imports.contains(&format!("flannel:backend/{interface}@0.1.0")), "{interface}: {imports:?}");
    }
}

/// A misdeed for one peer, and what the failure says.
const MISDEEDS: [(&str, &str); 16] = [
    ("panic", "trapped: panicked"),
    ("loop", "stopped after running for 300 ms"),
    ("call", "stopped"),
    ("memory", "stopped when it wanted"),
    ("recursion", "its stack overflowed"),
    ("handles", "trapped"),
    ("flood", "at most 64 entries for a peer"),
    ("state", "at most 64 keys"),
    ("default-route", "0.0.0.0/0 is not in the peer's subnet, 10.5.3.0/24"),
    ("outside", "192.0.2.0/24 is not in the peer's subnet"),
    ("host-bits", "bits beyond the prefix length are set"),
    ("foreign-peer", "is not among the changes of this call"),
    ("foreign-destination", "192.0.2.1 is not an address that the peer has published"),
    ("late-device", "devices are declared in register only"),
    ("others-device", "devices are declared in register only"),
    ("external-address", "the external interface's addresses are the operator's"),
];

#[test]
fn a_misdeed_for_one_peer_costs_that_peer_alone_and_is_named() {
    for (deed, said) in MISDEEDS {
        let mut bench = hostile("apply", deed).expect("starts");
        let applied = bench.policy.apply(&(1..=5).map(hostile_peer).collect::<Vec<_>>());
        for good in [1, 2, 4, 5] {
            assert_eq!(
                entries(&applied.transaction, good).map(Vec::len),
                Some(3),
                "{deed}: peer {good}: {applied:?}"
            );
        }
        assert!(!applied.transaction.peers.contains_key(&PeerId(3)), "{deed}: what the peer had stays");
        let [PeerChange::Put(PeerId(3), _)] = &applied.deferred[..] else { panic!("{deed}: {applied:?}") };
        let [failure] = &applied.failures[..] else { panic!("{deed}: {applied:?}") };
        assert_eq!((failure.plugin.as_str(), failure.function), ("hostile", "apply"), "{deed}");
        assert!(failure.to_string().contains(said), "{deed}: {failure}");
    }
}

#[test]
fn a_plugin_that_is_granted_less_than_it_asks_for_does_not_get_as_far_as_to_register() {
    let dir = tempfile::tempdir().expect("directory");
    let artifact = Loader::new(&dir.path().join("cache"), &dir.path().join("cache"), Compiler::Here)
        .load_here(&component("hostile"))
        .expect("loads");
    let state = Arc::new(DirState::open(dir.path()));
    let allow = vec!["links".to_owned(), "routes".to_owned()];
    let environment = Environment {
        grants: Arc::new(Grants::new(None, allow, &[])),
        ..environment(r#"{"Type":"hostile","In":"register","Do":"panic"}"#)
    };
    let error = Policy::start(&artifact, environment, strict(), state).err().expect("refused").to_string();
    let said =
        "plugin hostile: loading: it asks for fdb,neighbours,state,udp-tunnel, which it is not granted";
    assert!(error.starts_with(said), "{error}");
}

#[test]
fn who_does_not_come_to_an_end_at_the_start_is_stopped() {
    for (name, said) in [
        ("slow-start", "slow-start.wasm: describe: stopped after running for 300 ms"),
        ("mute", "mute.wasm: describe: stopped after running for 300 ms"),
    ] {
        let error = start(name, r#"{"Type":"hostile"}"#, strict()).err().expect("refused").to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn every_function_that_does_not_come_to_an_end_is_stopped() {
    for place in ["register", "lease-acquired"] {
        let error = hostile(place, "loop").err().expect("refused").to_string();
        assert!(error.contains(&format!("{place}: stopped after running for 300 ms")), "{error}");
    }
    let mut bench = hostile("tick", "loop").expect("starts");
    let error = bench.policy.tick().expect_err("fails").to_string();
    assert!(error.contains("tick: stopped after running for 300 ms"), "{error}");
}

#[test]
fn what_breaks_the_contract_below_the_sdk_is_named() {
    let peer = |n: u16| PeerChange::Put(PeerId(n.into()), lease(n, "hostile", "null"));
    for (deed, said) in [
        ("dropped-handle", "trapped: "),
        ("invented-handle", "trapped: "),
        ("prefix-of-200", "refused by the host: routes.put: 10.5.1.0/200: the prefix length is 0 to 32"),
        ("reject-stranger", "a rejection of peer #1000001, which is not in the batch"),
    ] {
        let config = format!(r#"{{"Type":"hostile","Do":"{deed}"}}"#);
        let mut bench = start("liar", &config, strict()).expect("starts");
        let applied = bench.policy.apply(&[peer(1)]);
        let [failure] = &applied.failures[..] else { panic!("{deed}: {applied:?}") };
        assert!(failure.to_string().contains(said), "{deed}: {failure}");
        assert!(applied.transaction.peers.is_empty(), "{deed}: {applied:?}");
    }
    for deed in ["reject-twice", "reject-with-a-book"] {
        let config = format!(r#"{{"Type":"hostile","Do":"{deed}"}}"#);
        let mut bench = start("liar", &config, strict()).expect("starts");
        let applied = bench.policy.apply(&[peer(1)]);
        assert!(applied.failures.is_empty() && !applied.rejected.is_empty(), "{deed}: {applied:?}");
        assert!(applied.rejected.iter().all(|(_, reason)| reason.len() < 5000 && !reason.contains('\n')));
        assert_eq!(entries(&applied.transaction, 1).map(Vec::len), Some(0), "{deed}");
    }
    let mut bench = start("liar", r#"{"Type":"hostile"}"#, strict()).expect("starts");
    let error = bench.policy.tick().expect_err("refused").to_string();
    assert!(error.contains("another tick after 0 ms; at least 100"), "{error}");
}

#[test]
fn a_trap_has_the_source_lines_of_a_component_that_brings_line_tables() {
    let error = hostile("register", "panic").err().expect("fails").to_string();
    let (_, place) = error.split_once(" (in ").expect("functions");
    assert!(
        place.starts_with("flannel_component_hostile::Hostile::commit at hostile/src/lib.rs:"),
        "{error}"
    );
    assert!(!place.contains(env!("CARGO_MANIFEST_DIR").trim_end_matches("/host/plugin-host")), "{error}");
    // In a function of Rust's library that is inlined: it is its caller that says something.
    let config = r#"{"Type":"hostile","In":"apply","Do":"brittle"}"#;
    let mut bench = start("hostile", config, strict()).expect("starts");
    let applied = bench.policy.apply(&[PeerChange::Put(PeerId(1), lease(1, "hostile", r#""no MAC""#))]);
    let [failure] = &applied.failures[..] else { panic!("{applied:?}") };
    let failure = failure.to_string();
    assert!(failure.contains("everybody publishes what I do"), "{failure}");
    let (_, place) = failure.split_once(" (in ").expect("functions");
    assert!(place.contains(" at hostile/src/lib.rs:") && !place.contains("library/core"), "{failure}");
}

#[test]
fn a_trap_has_the_functions_of_a_component_without_line_tables() {
    let mut bench = start("liar", r#"{"Type":"hostile","Do":"dropped-handle"}"#, strict()).expect("starts");
    let applied = bench.policy.apply(&[PeerChange::Put(PeerId(1), lease(1, "hostile", "null"))]);
    let [failure] = &applied.failures[..] else { panic!("{applied:?}") };
    let failure = failure.to_string();
    assert!(failure.contains(" (in ") && !failure.contains(".rs:"), "{failure}");
}

#[test]
fn one_poisonous_peer_among_thousands_is_found() {
    let mut bench = hostile("apply", "panic").expect("starts");
    let peer = |n: u64| match hostile_peer(3) {
        PeerChange::Put(_, poison) if n == 2500 => PeerChange::Put(PeerId(n), poison),
        _ => PeerChange::Put(PeerId(n), lease(7, "hostile", "\"02:00:00:00:00:07\"")),
    };
    let applied = bench.policy.apply(&(0..5000).map(peer).collect::<Vec<_>>());
    assert_eq!(applied.transaction.peers.len(), 4999);
    assert_eq!((applied.failures.len(), applied.deferred.len()), (1, 1));
    assert!(applied.restarted);
}

#[test]
fn what_a_fresh_instance_publishes_otherwise_is_accepted_and_told() {
    let mut bench = start("liar", r#"{"Type":"hostile","Do":"other-data"}"#, strict()).expect("starts");
    bench.policy.apply(&[hostile_peer(3)]);
    assert!(bench.policy.take_published_anew().is_none(), "it has not been started afresh yet");
    let applied = bench.policy.apply(&[hostile_peer(1)]);
    assert!(applied.failures.is_empty() && applied.restarted, "{applied:?}");
    let PublishedAnew { registration, fresh } = bench.policy.take_published_anew().expect("told");
    assert!(fresh);
    assert!(registration.backend_data.is_some_and(|data| data.get().parse::<u64>().is_ok()));
    assert!(bench.policy.take_published_anew().is_none(), "told once");
}

#[test]
fn what_cannot_be_started_afresh_is_down_because_of_what_ended_it_first() {
    let mut bench = start("liar", r#"{"Type":"hostile","Do":"other-type"}"#, strict()).expect("starts");
    bench.policy.apply(&[hostile_peer(3)]);
    for _ in 0..3 {
        let applied = bench.policy.apply(&[hostile_peer(1)]);
        let [failure] = &applied.failures[..] else { panic!("{applied:?}") };
        let text = failure.to_string();
        assert!(text.contains("it registers otherwise than at first: the type"), "{text}");
        assert!(text.contains("it was started afresh because of apply: trapped: "), "{text}");
        assert_eq!(applied.deferred.len(), 1);
    }
}

#[test]
fn a_plugin_that_always_traps_is_given_up_in_bounded_time() {
    let mut bench =
        start("hostile", r#"{"Type":"hostile","In":"apply","Do":"panic"}"#, strict()).expect("starts");
    let applied = bench.policy.apply(&(1..=200).map(hostile_peer).collect::<Vec<_>>());
    assert!(applied.transaction.peers.is_empty());
    assert_eq!(applied.deferred.len(), 200, "all have to be asked about again");
    assert!(
        applied.failures.last().expect("said").to_string().contains("cannot be started again"),
        "{applied:?}"
    );
}

#[test]
fn a_flood_of_log_lines_is_cut_and_costs_nothing() {
    let mut bench = hostile("apply", "log").expect("starts");
    let applied = bench.policy.apply(&[hostile_peer(3)]);
    assert_eq!(entries(&applied.transaction, 3).map(Vec::len), Some(3), "{applied:?}");
}

#[test]
fn entries_are_limited_in_all() {
    let limits = Limits { entries: 10, ..strict() };
    let mut bench = start("hostile", r#"{"Type":"hostile"}"#, limits).expect("starts");
    let applied = bench.policy.apply(&(1..=4).map(hostile_peer).collect::<Vec<_>>());
    assert_eq!(
        (applied.transaction.peers.len(), applied.deferred.len()),
        (3, 1),
        "three entries each: {applied:?}"
    );
    bench.policy.apply(&[PeerChange::Removed(PeerId(1))]);
    let applied = bench.policy.apply(&applied.deferred);
    assert_eq!(applied.transaction.peers.len(), 1, "there is room again: {applied:?}");
}

#[test]
fn a_misdeed_at_the_start_is_named_and_ends_it() {
    for (place, deed, said) in [
        ("register", "error", "plugin hostile: register: the deed was asked for"),
        ("register", "panic", "plugin hostile: register: trapped: panicked"),
        ("register", "loop", "plugin hostile: register: stopped after running for 300 ms"),
        ("register", "memory", "plugin hostile: register: stopped when it wanted"),
        ("register", "others-device", "refused by the host: links.ensure-vxlan: eth0: a device's name"),
        (
            "register",
            "system-port",
            "links.ensure-vxlan: flannel.8: UDP port 53 is one of the system's services",
        ),
        (
            "register",
            "system-tunnel-port",
            "udp-tunnel.ensure: flannel7: UDP port 123 is one of the system's services",
        ),
        ("register", "garbage", "backend-data is not JSON"),
        ("register", "mtu", "an MTU of 7"),
        ("lease-acquired", "panic", "plugin hostile: lease-acquired: trapped"),
        ("lease-acquired", "error", "plugin hostile: lease-acquired: the deed was asked for"),
        ("lease-acquired", "external-address", "refused by the host: link.set-addresses"),
        (
            "lease-acquired",
            "wide-address",
            "a prefix length with which it reaches out of the cluster network",
        ),
        ("lease-acquired", "own-network", "10.5.72.128/25 is of this node's own subnet, 10.5.72.0/24"),
    ] {
        let error = hostile(place, deed).err().expect("refused").to_string();
        assert!(error.contains(said), "{place} {deed}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

/// Declared when it was not known which subnet the node would have.
#[test]
fn a_network_that_becomes_this_nodes_own_subnet_is_on_no_device_any_more() {
    let mut bench = hostile("register", "later-own-network").expect("starts, with 10.5.72.0/24");
    let mut networks_with = |own| -> Vec<String> {
        let transaction = bench.policy.lease_acquired(&lease(own, "hostile", "null")).expect("a transaction");
        transaction.networks.values().flatten().map(ToString::to_string).collect()
    };
    assert!(networks_with(72).is_empty(), "nothing has changed");
    assert!(networks_with(73).is_empty(), "nothing has changed");
    let both = bench.policy.lease_acquired(&lease(74, "hostile", "null")).expect("a transaction").networks;
    assert!(!both.is_empty() && both.values().all(BTreeSet::is_empty), "{both:?}");
    let fresh = hostile("register", "later-own-network").expect("starts").registered.transaction.networks;
    assert_eq!(fresh.values().map(BTreeSet::len).sum::<usize>(), 2, "{fresh:?}");
}

#[test]
fn a_tick_that_fails_leaves_the_policy_usable() {
    for deed in ["error", "panic", "loop"] {
        let mut bench = hostile("tick", deed).expect("starts");
        let error = bench.policy.tick().expect_err("fails");
        assert_eq!((error.plugin.as_str(), error.function), ("hostile", "tick"));
        let applied = bench.policy.apply(&[hostile_peer(1)]);
        assert_eq!(entries(&applied.transaction, 1).map(Vec::len), Some(3), "{deed}: {applied:?}");
        assert_eq!(applied.restarted, deed != "error");
    }
}

#[test]
fn a_config_for_another_backend_is_refused() {
    let error = start("vxlan", r#"{"Type":"host-gw"}"#, strict()).err().expect("refused").to_string();
    assert!(error.contains(r#"Backend.Type is "host-gw", and this plugin is for: vxlan"#), "{error}");
}

#[test]
fn what_is_no_backend_is_refused_with_what_it_is_instead() {
    let dir = tempfile::tempdir().expect("directory");
    let empty_world = "(component)";
    let unknown = r#"(component (import "example:cloud/metadata@1.0.0" (instance)))"#;
    let http = r#"(component (import "wasi:http/outgoing-handler@0.2.3" (instance)))"#;
    let wasi_later = r#"(component (import "wasi:cli/stdout@0.3.0" (instance)))"#;
    let newer = r#"(component (import "flannel:backend/log@0.7.0" (instance)))"#;
    let cases: [(Vec<u8>, &str); 10] = [
        (Vec::new(), "an empty file, not a WebAssembly component"),
        (b"hello".to_vec(), "something else, not a WebAssembly component"),
        (empty_world.into(), "WebAssembly in text form"),
        (
            wat::parse_str("(module)").expect("a module"),
            "a core WebAssembly module, not a WebAssembly component",
        ),
        (
            wat::parse_str(empty_world).expect("a component"),
            "it does not export flannel:backend/policy@0.1.0",
        ),
        (
            wat::parse_str(unknown).expect("a component"),
            "it imports example:cloud/metadata@1.0.0, which this flanneld does not have",
        ),
        (
            wat::parse_str(http).expect("a component"),
            "it imports wasi:http/outgoing-handler@0.2.3, which no plugin gets; of WASI there are cli,",
        ),
        (
            wat::parse_str(wasi_later).expect("a component"),
            "it imports wasi:cli/stdout@0.3.0, which no plugin gets; of WASI there are cli,",
        ),
        (
            wat::parse_str(newer).expect("a component"),
            "it imports flannel:backend/log@0.7.0, and this flanneld has version 0.1.0",
        ),
        (wat::parse_str(empty_world).expect("a component")[..7].to_vec(), "something else"),
    ];
    for (bytes, said) in cases {
        let file = dir.path().join("plugin.wasm");
        std::fs::write(&file, bytes).expect("written");
        let error = Loader::new(dir.path(), dir.path(), Compiler::Here)
            .load_here(&file)
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(said) && error.contains("plugin.wasm"), "{said}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let error = Loader::new(dir.path(), dir.path(), Compiler::Here)
        .load_here(&dir.path().join("none.wasm"))
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("none.wasm: cannot be read: No such file"), "{error}");
}

#[tokio::test]
async fn a_pinned_file_is_loaded_and_another_one_is_refused_with_both_digests() {
    let dir = tempfile::tempdir().expect("directory");
    let file = component("vxlan");
    let found = Digest::of(&std::fs::read(&file).expect("read"));
    let wanted = Digest::of(b"another");
    let pinned = |pin: Digest| format!("{}@{pin}", file.display()).parse().expect("a reference");
    let artifact =
        Loader::new(dir.path(), dir.path(), Compiler::Here).load(&pinned(found)).await.expect("loads");
    assert_eq!(artifact.source().to_string(), file.display().to_string());
    assert_eq!(artifact.digest(), found.hex());
    let error = Loader::new(dir.path(), dir.path(), Compiler::Here)
        .load(&pinned(wanted))
        .await
        .err()
        .expect("refused")
        .to_string();
    for word in ["vxlan.wasm", &wanted.to_string(), &found.to_string()] {
        assert!(error.contains(word), "{word} in {error}");
    }
}

#[test]
fn a_backend_type_without_a_plugin_is_refused_with_those_that_there_are() {
    let bytes: &'static [u8] = b"";
    let all = [BuiltIn { backend_type: "vxlan", component: bytes, compiled: None }];
    let error = Artifact::built_in("vlan", &all).err().expect("refused").to_string();
    assert!(error.contains(r#""vlan""#) && error.contains("there are: vxlan"), "{error}");
}

/// A roamer with these options of its node.
fn roamer(options: &[(&str, &str)]) -> Bench {
    start_roamer(options).expect("starts")
}

fn start_roamer(options: &[(&str, &str)]) -> Result<Bench, PluginError> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let about = Arc::new(NodeInfo::new("node".to_owned(), options));
    let environment = Environment { about, ..environment(r#"{"Type":"vxlan"}"#) };
    start_in("roamer", environment, Limits::default())
}

/// What it counts, as `name{label="value"} figure`.
fn counted(bench: &Bench) -> Vec<String> {
    let families = bench.policy.series().families().into_iter();
    let all = families.flat_map(|family| {
        let name = family.name;
        family.series.into_iter().map(move |(labels, figure)| {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            let value = match figure {
                Figure::Gauge(value) => value.to_string(),
                Figure::Counter(count) => count.to_string(),
            };
            format!("{name}{{{}}} {value}", labels.join(","))
        })
    });
    all.collect()
}

fn roaming_peer(n: u16) -> PeerChange {
    let data = format!(r#"{{"VNI":1,"VtepMAC":"02:00:00:00:00:{n:02x}"}}"#);
    PeerChange::Put(PeerId(n.into()), lease(n, "vxlan", &data))
}

#[test]
fn what_a_plugin_counts_outlives_its_instances_and_the_calls_that_fail() {
    let mut bench = roamer(&[("trap", "2")]);
    assert_eq!(counted(&bench), ["ticks{} 0"]);
    bench.policy.apply(&[roaming_peer(1), roaming_peer(2)]);
    bench.policy.tick().expect("ticks");
    let error = bench.policy.tick().expect_err("traps").to_string();
    assert!(error.contains("the tick that traps"), "{error}");
    assert_eq!(counted(&bench), [r#"leases{backend="vxlan"} 2"#, r#"peers{told="yes"} 2"#, "ticks{} 2"]);
    // The fresh instance is told of nobody yet.
    bench.policy.tick().expect("ticks");
    assert_eq!(counted(&bench), [r#"leases{backend="vxlan"} 2"#, r#"peers{told="yes"} 0"#, "ticks{} 3"]);
}

#[test]
fn a_figure_that_is_refused_costs_nothing_but_itself() {
    let mut bench = roamer(&[("wrong", "1")]);
    bench.policy.tick().expect("goes well");
    assert_eq!(counted(&bench), [r#"peers{told="yes"} 0"#, "ticks{} 1"]);
    let (refused, first) = bench.policy.series().refusals();
    assert!(refused == 1 && first.is_some_and(|first| first.contains("NaN is no value of a gauge")));
}

/// What is to be published anew, and whether a fresh instance wants that.
fn published(bench: &mut Bench) -> Option<(String, bool)> {
    let PublishedAnew { registration, fresh } = bench.policy.take_published_anew()?;
    assert_eq!((registration.mtu, registration.backend_type.as_str()), (1450, "vxlan"));
    Some((registration.backend_data.map(|data| data.get().to_owned()).unwrap_or_default(), fresh))
}

/// What a roamer publishes that has moved and published so often.
fn data(at: &str, moves: u64, sequence: u64) -> String {
    format!(r#"{{"At":"{at}","Moves":{moves},"Sequence":{sequence},"VNI":1,"VtepMAC":"02:00:00:00:00:04"}}"#)
}

#[test]
fn what_a_plugin_publishes_is_told_once_and_the_last_of_a_call_counts() {
    let mut bench = roamer(&[("moves", "1")]);
    assert_eq!(published(&mut bench), None);
    bench.policy.tick().expect("moves");
    assert_eq!(published(&mut bench), Some((data("link", 1, 1), false)));
    bench.policy.tick().expect("stays");
    assert_eq!(published(&mut bench), None);
    let mut bench = roamer(&[("publish", "lease-acquired")]);
    assert_eq!(published(&mut bench), Some((data("tunnel", 0, 1), false)));
    let mut bench = roamer(&[("publish", "apply")]);
    bench.policy.apply(&[roaming_peer(1), roaming_peer(2), roaming_peer(3)]);
    assert_eq!(published(&mut bench), Some((data("tunnel", 0, 3), false)));
}

#[test]
fn a_call_that_fails_has_published_nothing_and_a_fresh_instance_begins_with_what_it_registers() {
    let mut bench = roamer(&[("moves", "9"), ("trap", "2")]);
    bench.policy.tick().expect("moves");
    assert_eq!(published(&mut bench), Some((data("link", 1, 1), false)));
    bench.policy.tick().expect_err("traps");
    assert_eq!(published(&mut bench), None);
    // The fresh one knows where it is, and moves at once.
    bench.policy.tick().expect("moves");
    assert_eq!(published(&mut bench), Some((data("tunnel", 1, 1), true)));
    let mut bench = roamer(&[("moves", "1"), ("trap", "2"), ("forget", "1")]);
    bench.policy.tick().expect("moves");
    assert_eq!(published(&mut bench), Some((data("link", 1, 1), false)));
    bench.policy.tick().expect_err("traps");
    bench.policy.apply(&[roaming_peer(1)]);
    assert_eq!(published(&mut bench), Some((data("tunnel", 0, 0), true)), "it holds as long as the instance");
}

#[test]
fn what_cannot_be_published_dooms_the_call_and_so_does_the_wrong_function() {
    let mut bench = roamer(&[("moves", "1"), ("garbage", "1")]);
    let error = bench.policy.tick().expect_err("refused").to_string();
    assert!(error.contains("refused by the host: own-lease.publish: backend-data is not JSON"), "{error}");
    assert_eq!(published(&mut bench), None);
    let error = start_roamer(&[("publish", "register")]).err().expect("refused").to_string();
    assert!(error.contains("own-lease.publish: in register it is the answer that is published"), "{error}");
}

#[test]
fn peers_that_a_plugin_asks_for_are_told_once_and_only_if_the_call_goes_well() {
    let wanted =
        |bench: &mut Bench| bench.policy.take_refreshes().into_iter().map(|id| id.0).collect::<Vec<_>>();
    let mut bench = roamer(&[("failover", "2"), ("trap", "3")]);
    bench.policy.apply(&[roaming_peer(1)]);
    bench.policy.tick().expect("ticks");
    assert!(wanted(&mut bench).is_empty());
    bench.policy.apply(&[roaming_peer(2)]);
    bench.policy.tick().expect("ticks");
    assert_eq!((wanted(&mut bench), wanted(&mut bench)), (vec![1, 2], Vec::new()));
    let mut bench = roamer(&[("failover", "1"), ("trap", "1")]);
    bench.policy.apply(&[roaming_peer(1)]);
    bench.policy.tick().expect_err("traps");
    assert!(wanted(&mut bench).is_empty());
    let mut bench = roamer(&[("hot", "1")]);
    bench.policy.apply(&[roaming_peer(7), roaming_peer(3)]);
    assert_eq!(wanted(&mut bench), [3, 7]);
    let mut bench = roamer(&[("crowd", "65536")]);
    bench.policy.tick().expect("as many as there may be");
    assert_eq!(wanted(&mut bench).len(), 65_536);
    let mut bench = roamer(&[("crowd", "65537")]);
    let error = bench.policy.tick().expect_err("refused").to_string();
    assert!(error.contains("peers.refresh: 65537 peers; at most 65536 in a call"), "{error}");
    assert!(wanted(&mut bench).is_empty());
}
