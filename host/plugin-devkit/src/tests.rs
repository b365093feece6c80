//! The kit, with what `cargo xtask plugins` made.

use std::sync::Arc;

use flannel_plugin_host::{Artifact, Compiler, Grants, Loader, NodeInfo};
use flannel_test_support::component;
use serde_json::Value;

use super::check::{Check, Selection, Verdict, check, difference};
use super::{Desired, Families, SampleNode, Wanted, bench, inspect, leases, preview, run};

fn load(name: &str) -> Artifact {
    let cache = tempfile::tempdir().expect("directory");
    Loader::new(cache.path(), cache.path(), Compiler::Here).load_here(&component(name)).expect("loads")
}

fn with(backend: &str) -> Wanted {
    Wanted { backend: Some(backend.to_owned()), backend_type: None, ..Wanted::default() }
}

fn dry_run(name: &str, backend: &str, families: Families, file: &str) -> Desired {
    let file = leases::read(file, families).expect("a file of leases");
    run::run(&load(name), &with(backend), Some(&file)).expect("runs")
}

const VXLAN_LEASES: &str = r#"[
    {"Subnet": "10.5.9.0/24", "PublicIP": "192.168.0.9", "BackendType": "vxlan"},
    {"subnet": "10.5.3.0/24", "PublicIP": "192.168.0.3", "BackendType": "vxlan",
     "BackendData": {"VNI": 1, "VtepMAC": "9e:00:00:00:00:03"}},
    {"Subnet": "10.5.4.0/24", "PublicIP": "192.168.0.4", "BackendType": "host-gw"}
]"#;

#[test]
fn a_dry_run_shows_devices_entries_and_rejections_in_order() {
    let desired = dry_run("vxlan", r#"{"Type":"vxlan"}"#, Families::Ipv4, VXLAN_LEASES);
    let expected = r#"vxlan publishes vxlan {"VNI":1,"VtepMAC":"02:00:00:04:00:64"}; pods have an MTU of 1450

device     MTU   addresses        networks  kind
flannel.1  1450  10.255.255.0/32  -         vxlan gbp false learning false local 192.168.0.100 mac 02:00:00:04:00:64 port 8472 vni 1

peer         is at        entry      device     for
10.5.3.0/24  192.168.0.3  route      flannel.1  10.5.3.0/24        via 10.5.3.0 onlink
                          neighbour  flannel.1  10.5.3.0           is at 9e:00:00:00:00:03
                          fdb        flannel.1  9e:00:00:00:00:03  is at 192.168.0.3
10.5.4.0/24  192.168.0.4  nothing
10.5.9.0/24  192.168.0.9  rejected: BackendData is missing: the peer has published no VTEP
"#;
    assert_eq!(desired.to_string(), expected);
    let json = serde_json::to_value(&desired).expect("JSON");
    assert_eq!(json["devices"][0]["options"]["vni"], "1");
    assert_eq!(json["peers"][0]["entries"][0]["entry"], "route");
    assert_eq!(json["peers"][0]["entries"][2]["destination"], "192.168.0.3");
    assert_eq!(
        json["peers"][1],
        serde_json::json!({"subnets":"10.5.4.0/24","public":["192.168.0.4"],"entries":[]})
    );
    assert!(
        json["peers"][2]["rejected"].as_str().is_some_and(|reason| reason.contains("BackendData")),
        "{json}"
    );
}

#[test]
fn a_dry_run_does_not_depend_on_the_order_of_the_leases() {
    let mut leases: Vec<Value> = serde_json::from_str(VXLAN_LEASES).expect("JSON");
    leases.reverse();
    let backend = r#"{"Type":"vxlan"}"#;
    let backwards = dry_run("vxlan", backend, Families::Ipv4, &Value::from(leases).to_string());
    let text = |desired: &Desired| serde_json::to_string(desired).expect("JSON");
    assert_eq!(text(&backwards), text(&dry_run("vxlan", backend, Families::Ipv4, VXLAN_LEASES)));
}

#[test]
fn a_dry_run_looks_from_the_node_that_the_file_has() {
    let file = r#"{
        "Node": {"Interface": "ens3", "MTU": 9000, "PublicIP": "192.168.0.72", "IPv4": "192.168.0.72",
                 "Network": "10.5.0.0/16", "Subnet": "10.5.72.0/24", "OnLink": ["192.168.0.0/24"]},
        "Leases": [
            {"Subnet": "10.5.3.0/24", "PublicIP": "192.168.0.3", "BackendType": "host-gw"},
            {"Subnet": "10.5.4.0/24", "PublicIP": "192.168.1.4", "BackendType": "host-gw"}
        ]
    }"#;
    let desired = dry_run("host-gw", r#"{"Type":"host-gw"}"#, Families::Dual, file).to_string();
    for line in [
        "host-gw publishes host-gw; pods have an MTU of 9000",
        "no devices",
        "10.5.3.0/24  192.168.0.3  route  ens3    10.5.3.0/24  via 192.168.0.3",
        "10.5.4.0/24  192.168.1.4  rejected: 192.168.1.4 is not on the link of ens3",
    ] {
        assert!(desired.lines().any(|shown| shown.starts_with(line)), "{line}: {desired}");
    }
}

#[test]
fn a_dry_run_shows_the_peers_of_devices_that_know_all_of_them() {
    let file = r#"[{"Subnet":"10.5.3.0/24","IPv6Subnet":"fc00:0:0:3::/64","PublicIP":"192.168.0.3","PublicIPv6":"fd77::3"}]"#;
    let desired = dry_run("udp", r#"{"Type":"udp"}"#, Families::Dual, file).to_string();
    assert!(desired.contains("10.255.255.0/32,fc00:0:0:ffff::/128  10.0.0.0/8,fc00::/16"), "{desired}");
    assert!(desired.contains("tunnel  flannel0  fc00:0:0:3::/64  is at fd77::3"), "{desired}");
    let key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let file = format!(
        r#"[{{"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"wireguard","BackendData":{{"PublicKey":"{key}"}}}}]"#
    );
    let backend = r#"{"Type":"wireguard","PersistentKeepaliveInterval":25}"#;
    let desired = dry_run("wireguard", backend, Families::Ipv4, &file).to_string();
    let line = format!("{key}  is at 192.168.0.3:51820, has 10.5.3.0/24, keepalive 25 s");
    assert!(desired.contains(&line), "{desired}");
}

/// Two nodes, of which one is in a second network, too, and what reaches it by both.
const TWO_NETWORKS: &str = r#"{
    "Node": {"Network": "10.5.0.0/16", "Subnet": "10.5.72.0/24",
             "Uplinks": [{"Name": "ens7", "MTU": 1400, "Addresses": ["172.16.0.72/24"]}]},
    "Leases": [
        {"Subnet": "10.5.3.0/24", "PublicIP": "192.168.0.3", "BackendType": "multihomed", "BackendData": {"Second": "172.16.0.3"}},
        {"Subnet": "10.5.4.0/24", "PublicIP": "192.168.0.4", "BackendType": "multihomed"}
    ]
}"#;

#[test]
fn a_dry_run_shows_routes_with_attributes_and_rules() {
    let file = leases::read(TWO_NETWORKS, Families::Ipv4).expect("a file of leases");
    let wanted = told(&[("ways", "ecmp"), ("steer", "yes"), ("forward", "yes")]);
    let desired = run::run(&load("multihomed"), &wanted, Some(&file)).expect("runs");
    let expected = r#"multihomed publishes multihomed {"Second":"172.16.0.72"}; pods have an MTU of 1400

no devices

rule  from            to           mark  in    table
10    10.5.72.128/25  all          all   all   1
20    all             10.5.0.0/16  all   ens7  1

peer         is at        entry  device     for
10.5.3.0/24  192.168.0.3  route  eth0,ens7  10.5.3.0/24  via 192.168.0.3 dev eth0 weight 1, via 172.16.0.3 dev ens7 weight 1 metric 200
                          route  ens7       10.5.3.0/24  via 172.16.0.3 metric 200 table 1 src 172.16.0.72 advmss 1340
10.5.4.0/24  192.168.0.4  route  eth0       10.5.4.0/24  via 192.168.0.4 metric 200
"#;
    assert_eq!(desired.to_string(), expected);
    let json = serde_json::to_value(&desired).expect("JSON");
    assert_eq!(json["peers"][0]["entries"][0]["entry"], "policy-route");
    assert_eq!(json["peers"][0]["entries"][0]["hops"][1]["device"], "ens7");
    assert_eq!(json["rules"][0]["source"], "10.5.72.128/25");
}

#[test]
fn a_dry_run_shows_tunnels_and_the_neighbours_that_they_need() {
    let file = r#"[{"Subnet":"10.5.3.0/24","IPv6Subnet":"fc00:0:0:3::/64","PublicIP":"192.168.0.3","PublicIPv6":"fd77::3","BackendType":"tunnels"}]"#;
    let backend = r#"{"Type":"tunnels","Device":"gre","Key":7,"Udp":"gue"}"#;
    let desired = dry_run("tunnels", backend, Families::Dual, file).to_string();
    for words in [
        "gre key 7 local",
        "udp gue 5555",
        "via 192.168.0.3 onlink",
        "via ::c0a8:3 onlink",
        "is at 192.168.0.3",
    ] {
        assert!(desired.contains(words), "{words}: {desired}");
    }
    for (backend, words) in [
        (r#"{"Type":"tunnels","Device":"vlan"}"#, "vlan id 77 protocol 802.1Q"),
        (r#"{"Type":"tunnels","Device":"geneve"}"#, "geneve external true mac"),
        (r#"{"Type":"tunnels","Device":"ip"}"#, "sit carries both"),
    ] {
        let desired = dry_run("tunnels", backend, Families::Dual, file).to_string();
        assert!(desired.contains(words), "{words}: {desired}");
    }
}

#[test]
fn plugins_with_tunnels_of_each_kind_conform() {
    for device in ["gre", "gre-external", "ip", "vlan", "geneve", "ip6tnl-external"] {
        let options = with(&format!(r#"{{"Type":"tunnels","Device":"{device}"}}"#));
        let mut failed = Vec::new();
        let all = check(&load("tunnels"), &options, None, &Selection::All, |check| {
            failed.extend(check.failed().then(|| check.clone()));
        });
        assert!(all.conforms, "{device}: {failed:#?}");
    }
}

#[test]
fn a_dry_run_shows_what_next_hops_put_around_packets() {
    let lease = |n: u8| {
        format!(
            r#"{{"Subnet":"10.5.{n}.0/24","IPv6Subnet":"fc00:5:0:{n}::/64","PublicIP":"192.168.0.{n}","PublicIPv6":"fd77::{n}","BackendType":"multihomed"}}"#
        )
    };
    let node = r#"{"Network":"10.5.0.0/16","IPv6Network":"fc00:5::/48","Subnet":"10.5.72.0/24","IPv6Subnet":"fc00:5:0:72::/64"}"#;
    let text = format!(r#"{{"Node":{node},"Leases":[{},{}]}}"#, lease(3), lease(4));
    let file = leases::read(&text, Families::Dual).expect("a file of leases");
    let shown = |options: &[(&str, &str)]| {
        let desired = run::run(&load("multihomed"), &told(options), Some(&file)).expect("runs");
        (desired.to_string(), serde_json::to_value(&desired).expect("JSON"))
    };
    let (text, json) = shown(&[("segments", "fd77::4")]);
    for words in [
        "10.5.3.0/24         encap seg6 mode encap segs fd77::4,fd77::3 metric 200",
        "fc00:5:0:3::/64  encap seg6 mode encap segs fd77::4,fd77::3 metric 200",
        "10.5.4.0/24         encap seg6 mode encap segs fd77::4 metric 200",
    ] {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_it = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ").contains(&words);
        assert!(text.lines().any(is_it), "{words:?} is not in:\n{text}");
    }
    assert_eq!(
        json["peers"][0]["entries"][0]["hops"][0]["encapsulation"],
        "encap seg6 mode encap segs fd77::4,fd77::3"
    );
    let (text, _) = shown(&[("labels", "100+200")]);
    assert!(text.contains("encap mpls 100/200 via 192.168.0.3 metric 200"), "{text}");
}

#[test]
fn a_plugin_with_routes_of_several_next_hops_and_rules_conforms() {
    for options in [
        &[("ways", "ecmp"), ("steer", "yes")][..],
        &[("ways", "fallback"), ("forward", "yes")],
        &[("segments", "")],
        &[("labels", "100")],
    ] {
        let mut failed = Vec::new();
        let all = check(&load("multihomed"), &told(options), None, &Selection::All, |check| {
            failed.extend(check.failed().then(|| check.clone()));
        });
        assert!(all.conforms, "{failed:#?}");
    }
}

#[test]
fn a_dry_run_says_for_which_peer_a_plugin_fails_and_where() {
    let file = r#"[
        {"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"hostile","BackendData":"02:00:00:00:00:03"},
        {"Subnet":"10.5.4.0/24","PublicIP":"192.168.0.4","BackendType":"hostile","BackendData":"02:00:00:00:00:04"}
    ]"#;
    let backend = r#"{"Type":"hostile","In":"apply","Do":"panic","Subnet":"10.5.3.0/24"}"#;
    let desired = dry_run("hostile", backend, Families::Ipv4, file);
    let failed = desired.peers[0].failed.as_ref().expect("failed");
    assert!(failed.contains("plugin hostile: apply: trapped: panicked"), "{failed}");
    assert!(failed.contains("Hostile::commit"), "the frame is named: {failed}");
    assert_eq!((desired.peers[1].entries.len(), &desired.peers[1].failed), (3, &None));
}

#[test]
fn files_that_have_no_leases_are_refused_with_what_is_wrong() {
    for (text, said) in [
        ("7", "right would be an array of leases"),
        (r#"{"leases":[]}"#, r#""leases" is neither Node nor Leases"#),
        (r#"{"Node":{"Mtu":1500}}"#, "unknown field `Mtu`"),
        (r#"[{"PublicIP":"192.168.0.3"}]"#, "lease 1: it has neither Subnet nor IPv6Subnet"),
        (r#"[{"Subnet":"10.5.3.7/24"}]"#, r#"lease 1: its Subnet "10.5.3.7/24" is wrong"#),
        (r#"[{"Subnet":"10.5.3.0/24","PublicIP":7}]"#, "lease 1: its PublicIP 7 is wrong"),
        (r#"[{"Subnet":"10.5.3.0/24"},{"Subnet":"10.5.3.0/24"}]"#, "two leases of 10.5.3.0/24"),
        (r#"[{"Subnet":"10.255.0.0/16"}]"#, "overlaps the node's own, 10.255.255.0/24"),
    ] {
        let error = leases::read(text, Families::Ipv4).expect_err(text);
        assert!(error.contains(said) && !error.contains('\n'), "{text}: {error}");
    }
}

#[test]
fn without_a_type_it_is_the_first_that_the_plugin_is_for_and_other_options_stay() {
    let artifact = load("ipip");
    let of = |backend: Option<&str>, backend_type: Option<&str>| {
        Wanted {
            backend: backend.map(str::to_owned),
            backend_type: backend_type.map(str::to_owned),
            ..Wanted::default()
        }
        .of(&artifact)
    };
    for (backend, backend_type, object) in [
        (None, None, r#"{"Type":"ipip"}"#),
        (None, Some("IPIP"), r#"{"Type":"ipip"}"#),
        (Some(" { } "), None, r#"{"Type":"ipip"}"#),
        (Some(r#"{ "A": [1.50], "a":2}"#), Some("ipip"), r#"{"Type":"ipip", "A": [1.50], "a":2}"#),
        (Some(r#"{"type":"IPIP","x":1}"#), Some("ipip"), r#"{"type":"IPIP","x":1}"#),
        (Some(r#"{"Type":"other"}"#), None, r#"{"Type":"other"}"#),
    ] {
        assert_eq!(of(backend, backend_type).as_deref(), Ok(object), "{backend:?} {backend_type:?}");
    }
    for (backend, backend_type, said) in [
        (Some("7"), None, "--backend: invalid type: integer `7`, expected an object"),
        (Some(r#"{"Type":7}"#), None, "--backend: its Type 7 is no string; right would be an object such as"),
        (
            Some(r#"{"Type":"a"}"#),
            Some("b"),
            "--type is b, and the Type in --backend a: one of them is right",
        ),
        (None, Some("gre"), "plugin ipip is for the backend type ipip, and not for gre"),
    ] {
        let error = of(backend, backend_type).expect_err(said);
        assert!(error.starts_with(said) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn made_up_peers_publish_what_the_plugin_says_in_all_commands() {
    let artifact = load("hostile");
    let wanted = Wanted::default();
    let shown = run::run(&artifact, &wanted, None).expect("runs");
    let checked = check(&artifact, &wanted, None, &Selection::Quick, |_| {}).desired.expect("it starts");
    assert_eq!(shown.to_string(), checked.to_string());
    assert_eq!(shown.peers.iter().map(|peer| peer.entries.len()).collect::<Vec<_>>(), [3, 3, 3], "{shown}");
    // It rejects peers that do not publish what it does.
    let costs = bench::measure(&artifact, &wanted, bench::Leases::Made(&[1, 20])).expect("measured");
    let seen: Vec<_> = costs.iter().map(|cost| (cost.leases, cost.entries, cost.rejected)).collect();
    assert_eq!(seen, [(1, 3, 0), (20, 60, 0)]);
}

#[test]
fn the_leases_of_a_file_are_the_same_in_all_commands() {
    let file = leases::read(VXLAN_LEASES, Families::Ipv4).expect("a file of leases");
    let (artifact, wanted) = (load("vxlan"), Wanted::default());
    let shown = run::run(&artifact, &wanted, Some(&file)).expect("runs");
    let mut last = None;
    let checked =
        check(&artifact, &wanted, Some(&file), &Selection::Quick, |check| last = Some(check.clone()));
    assert_eq!(checked.desired.expect("it starts").to_string(), shown.to_string());
    let last = last.expect("checks");
    assert_eq!((last.id, &last.verdict), ("leases", &Verdict::Ok("1 rejected".to_owned())));
    let costs = bench::measure(&artifact, &wanted, bench::Leases::Of(&file)).expect("measured");
    let seen: Vec<_> = costs.iter().map(|cost| (cost.leases, cost.entries, cost.rejected)).collect();
    assert_eq!(seen, [(3, 3, 1)]);

    let wanted = with(r#"{"Type":"hostile","In":"apply","Do":"panic","Subnet":"10.5.3.0/24"}"#);
    let text = r#"[{"Subnet":"10.5.3.0/24","PublicIP":"192.168.0.3","BackendType":"hostile","BackendData":"02:00:00:00:00:03"}]"#;
    let (file, artifact) = (leases::read(text, Families::Ipv4).expect("a file of leases"), load("hostile"));
    let said = "plugin hostile: apply: trapped: panicked";
    let shown = run::run(&artifact, &wanted, Some(&file)).expect("runs").failure().expect("it fails");
    assert!(shown.starts_with("the plugin failed for 1 of 1 leases: ") && shown.contains(said), "{shown}");
    let mut failed = Vec::new();
    let checked = check(&artifact, &wanted, Some(&file), &Selection::Quick, |check| {
        failed.extend(check.failed().then(|| check.clone()));
    });
    assert!(!checked.conforms);
    assert_eq!(failed.iter().map(|check| check.id).collect::<Vec<_>>(), ["leases"]);
    let error = bench::measure(&artifact, &wanted, bench::Leases::Of(&file)).expect_err("it fails");
    assert!(error.contains(said), "{error}");
}

fn checks(name: &str, backend: Option<&str>) -> (bool, Vec<Check>) {
    let mut checks = Vec::new();
    let wanted = Wanted { backend: backend.map(str::to_owned), backend_type: None, ..Wanted::default() };
    let outcome = check(&load(name), &wanted, None, &Selection::All, |check| checks.push(check.clone()));
    (outcome.conforms, checks)
}

fn ids(name: &str, selection: &Selection) -> Vec<&'static str> {
    let mut ids = Vec::new();
    let outcome = check(&load(name), &Wanted::default(), None, selection, |check| {
        assert!(!check.failed(), "{check}");
        ids.push(check.id);
    });
    assert!(outcome.conforms && outcome.desired.is_some());
    ids
}

#[test]
fn checks_are_chosen_by_name_by_beginning_or_for_a_hurry() {
    let only = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        Selection::only(&names)
    };
    let of = |names: &[&str]| ids("host-gw", &only(names).expect("names of checks"));
    assert_eq!(of(&["tick", "apply-one"]), ["start", "apply-one", "tick"], "in the order of all");
    assert_eq!(of(&["register-restart"]), ["start", "register-restart", "register-restart-data"]);
    assert_eq!(of(&["start"]), ["start"]);
    let quick = ids("host-gw", &Selection::Quick);
    for id in ["describe-names", "register-restart", "apply-100", "apply-removed", "limits-short"] {
        assert!(quick.contains(&id), "{id}: {quick:?}");
    }
    assert!(!quick.contains(&"limits-long-run"), "{quick:?}");
    assert!(!ids("host-gw", &Selection::All).contains(&"limits-short"), "there are longer ones");
    for unknown in ["", "appl", "apply-", "Tick", "limits: time"] {
        let error = only(&["tick", unknown]).expect_err(unknown);
        assert!(error.starts_with(&format!(
            "there is no check {unknown:?}; there are: start, leases, describe-names, "
        )));
        assert!(error.contains(", limits-long-run; ") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_hurry_sees_what_goes_wrong_at_once() {
    for (place, deed, id) in [
        ("apply", "panic", "limits-short"),
        ("apply", "all", "apply-foreign"),
        ("register", "other-device", "register-restart"),
    ] {
        let backend = format!(r#"{{"Type":"hostile","In":"{place}","Do":"{deed}"}}"#);
        let mut failed = Vec::new();
        let outcome = check(&load("hostile"), &with(&backend), None, &Selection::Quick, |check| {
            failed.extend(check.failed().then_some(check.id));
        });
        assert!(!outcome.conforms && failed.contains(&id), "{place} {deed}: {failed:?}");
    }
}

fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| check.failed()).map(|check| check.name).collect()
}

#[test]
fn every_built_in_plugin_conforms() {
    for name in ["alloc", "host-gw", "ipip", "udp", "vxlan", "wireguard"] {
        let (conforms, checks) = checks(name, None);
        assert!(conforms && failed(&checks).is_empty(), "{name}: {checks:#?}");
        // Families that a backend does not have are the only thing that may be left out.
        let skipped = checks.iter().filter(|check| matches!(check.verdict, Verdict::Skipped(_))).count();
        assert_eq!(skipped, if name == "ipip" { 2 } else { 0 }, "{name}: {checks:#?}");
    }
}

#[test]
fn a_plugin_that_does_not_start_conforms_to_nothing() {
    let backend = r#"{"Type":"hostile","In":"register","Do":"panic"}"#;
    let (conforms, checks) = checks("hostile", Some(backend));
    assert!(!conforms);
    assert_eq!(failed(&checks), ["start"]);
    assert!(checks[1..].iter().all(|check| matches!(check.verdict, Verdict::Skipped(_))), "{checks:#?}");
}

/// Misdeeds, and the checks that notice them: at least these.
const NOTICED: [(&str, &str, &[&str]); 13] = [
    ("register", "other-device", &["register: after a restart the same name, type, devices and addresses"]),
    ("tick", "error", &["tick"]),
    ("retire", "panic", &["retire"]),
    (
        "lease-acquired",
        "reaching-address",
        &["lease-acquired: addresses reach no further than the node's subnet"],
    ),
    ("lease-acquired", "fixed-network", &["lease-acquired: the node's own subnet is behind no device"]),
    ("apply", "panic", &["apply: one lease", "apply: 4096 leases", "limits: time"]),
    ("apply", "outside", &["apply: one lease"]),
    ("apply", "flood", &["apply: 100 leases"]),
    ("apply", "whim", &["apply: the same again declares the same", "apply: the past makes no difference"]),
    ("apply", "grudge", &["apply: the order of changes makes no difference"]),
    (
        "apply",
        "leak",
        &[
            "limits: memory for the same leases again and again",
            "limits: memory for peers that come and go",
            "limits: memory and handles in a long run",
        ],
    ),
    ("apply", "brittle", &["apply: peers with odd data cost themselves alone"]),
    ("apply", "all", &["apply: peers of other backends are ignored"]),
];

#[test]
fn each_misdeed_is_noticed_by_the_check_that_is_for_it() {
    let (conforms, well) = checks("hostile", None);
    assert!(conforms, "without a misdeed: {well:#?}");
    for (place, deed, noticed) in NOTICED {
        let backend = format!(r#"{{"Type":"hostile","In":"{place}","Do":"{deed}"}}"#);
        let (conforms, checks) = checks("hostile", Some(&backend));
        let failed = failed(&checks);
        assert!(!conforms);
        for name in noticed {
            assert!(failed.contains(name), "{place} {deed}: {checks:#?}");
        }
    }
}

#[test]
fn what_is_published_otherwise_after_each_restart_is_told_and_no_failure() {
    let (conforms, checks) =
        checks("hostile", Some(r#"{"Type":"hostile","In":"register","Do":"other-data"}"#));
    assert!(conforms, "{checks:#?}");
    let told: Vec<_> = checks
        .iter()
        .filter(|check| matches!(check.verdict, Verdict::Warning(_)))
        .map(|check| check.name)
        .collect();
    assert_eq!(told, ["register: after a restart the same data and MTU"], "{checks:#?}");
}

#[test]
fn handles_that_are_kept_are_seen_before_they_are_over() {
    let (conforms, checks) = checks("hostile", Some(r#"{"Type":"hostile","In":"apply","Do":"hoard"}"#));
    assert!(!conforms);
    let name = "limits: memory and handles in a long run";
    let verdict = checks.iter().find(|check| check.name == name).map(|check| check.verdict.clone());
    assert!(matches!(&verdict, Some(Verdict::Failed(reason)) if reason.contains("handles")), "{verdict:?}");
}

#[test]
fn a_trap_that_a_fresh_instance_heals_is_a_failure_and_told_with_its_cause() {
    let (conforms, checks) = checks("hostile", Some(r#"{"Type":"hostile","In":"apply","Do":"tire"}"#));
    assert!(!conforms);
    for name in
        ["limits: memory for the same leases again and again", "limits: memory and handles in a long run"]
    {
        let verdict = checks.iter().find(|check| check.name == name).map(|check| check.verdict.clone());
        let Some(Verdict::Failed(reason)) = verdict else { panic!("{name}: {verdict:?}") };
        assert!(reason.contains("it was started afresh") && reason.contains("tired"), "{reason}");
    }
}

#[test]
fn differences_are_shown_line_by_line() {
    assert!(difference("a\nb\n", "a\nb\n").is_empty());
    assert_eq!(difference("a\nb\n", "a\nc\n"), ["- b", "+ c"]);
    assert_eq!(difference("a\nb\n", "b\na\n").len(), 1);
}

#[test]
fn the_component_with_its_needs_loads_without_a_cloud() {
    let dir = tempfile::tempdir().expect("directory");
    let artifact = Loader::new(&dir.path().join("cache"), &dir.path().join("cache"), Compiler::Here)
        .load_here(&component("asker"))
        .expect("loads");
    let inspection = inspect::inspect(&artifact, &Grants::default()).expect("looked at");
    let missing =
        ["cloud:aws:ec2:DescribeRouteTables", "cloud:google:compute:GET projects/*/global/routes/*"];
    assert_eq!(inspection.missing, missing);
    let shown = inspection.to_string();
    assert!(shown.contains(r#""Action":["ec2:DescribeRouteTables"]"#), "{shown}");
    assert!(shown.contains("NOT GRANTED  cloud:aws:ec2:DescribeRouteTables"), "{shown}");
}

#[test]
fn a_component_that_asks_endpoints_conforms_without_any_and_its_endpoints_are_named_as_far_as_they_are_granted()
 {
    let asks = r#"{"Type":"http-asker","Requests":[{"endpoint":"api","path":"/things/1"}]}"#;
    let (conforms, checks) = checks("http-asker", Some(asks));
    assert!(conforms, "{checks:#?}");
    let inspection = inspect::inspect(&load("http-asker"), &Grants::default()).expect("looked at");
    assert_eq!((inspection.missing, inspection.endpoints), (vec!["http:NAME".to_owned()], Vec::new()));
    let granted = Grants::new(None, vec!["http:api".to_owned()], &[]);
    let inspection = inspect::inspect(&load("http-asker"), &granted).expect("looked at");
    assert!(inspection.missing.is_empty());
    assert!(inspection.to_string().contains("endpoints     api\n"), "{inspection}");
}

#[test]
fn a_preview_has_devices_and_what_nobody_reads_and_says_why_a_plugin_does_not_start() {
    let node = SampleNode::own(Families::Dual);
    let see = |name: &str, backend: &str| {
        preview::preview(&load(name), (&node.facts, &node.about, Vec::new()), Some(node.subnets), backend)
    };
    let seen = see("vxlan", r#"{"VNI":7,"Type":"VXLAN","port":4789,"Prot":1,"DirectRouting":true}"#);
    let seen = seen.expect("it starts");
    let names: Vec<&str> = seen.devices.iter().map(|device| &**device.name()).collect();
    assert_eq!((seen.mtu, names), (1450, vec!["flannel-v6.7", "flannel.7"]));
    assert_eq!(seen.unread, ["Prot"]);
    let error = see("vxlan", r#"{"Type":"vxlan","VNI":-1}"#).expect_err("no VNI");
    assert!(error.contains("VNI") && error.lines().count() == 1, "{error}");
    let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    let seen = see("wireguard", &format!(r#"{{"Type":"wireguard","PSK":"{key}","Mod":"ipv4"}}"#));
    assert_eq!(seen.expect("it starts").unread, ["Mod"], "the host reads the key");
    let wrong = see("wireguard", r#"{"Type":"wireguard","PSK":"c2VjcmV0"}"#).expect_err("no key");
    assert!(wrong.contains("Backend.PSK") && !wrong.contains("c2VjcmV0"), "{wrong}");
}

#[test]
fn what_nodes_are_told_of_themselves_is_the_authors_to_say() {
    let without = check(&load("zoned"), &Wanted::default(), None, &Selection::Quick, |_| {});
    assert!(!without.conforms);
    let about = NodeInfo::new("node".to_owned(), [("zone".to_owned(), "a".to_owned())].into());
    let wanted = Wanted { about: Arc::new(about), ..Wanted::default() };
    let mut failed = Vec::new();
    let with = check(&load("zoned"), &wanted, None, &Selection::All, |check| {
        failed.extend(check.failed().then(|| check.clone()));
    });
    assert!(with.conforms, "{failed:#?}");
    let shown = run::run(&load("zoned"), &wanted, None).expect("runs").to_string();
    assert!(shown.contains(r#""Zone":"a""#) && shown.contains("eth0"), "{shown}");
}

/// Nodes that are told this of themselves.
fn told(options: &[(&str, &str)]) -> Wanted {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let about = NodeInfo::new("node".to_owned(), options.collect());
    Wanted { about: Arc::new(about), ..Wanted::default() }
}

#[test]
fn what_a_plugin_counts_and_what_it_publishes_later_is_shown() {
    let wanted = told(&[("publish", "lease-acquired"), ("at", "link")]);
    let desired = run::run(&load("roamer"), &wanted, None).expect("runs");
    let shown = desired.to_string();
    assert!(shown.contains(r#""At":"link","Moves":0,"Sequence":1"#), "{shown}");
    let row = |line: &&str| line.starts_with("flanneld_policy_leases_total ");
    let row = shown.lines().find(row).unwrap_or_else(|| panic!("{shown}"));
    assert_eq!(row.split_whitespace().skip(1).collect::<Vec<_>>(), [r#"backend="vxlan""#, "3"]);
    let json = serde_json::to_value(&desired).expect("JSON");
    let series = &json["metrics"][0];
    assert_eq!(
        (&series["kind"], &series["labels"]["backend"]),
        (&"counter".into(), &"vxlan".into()),
        "{json}"
    );
    let nothing = run::run(&load("vxlan"), &Wanted::default(), None).expect("runs");
    assert!(serde_json::to_value(&nothing).expect("JSON")["metrics"].is_null());
}

#[test]
fn figures_that_are_refused_and_peers_that_are_asked_for_without_end_are_warned_of() {
    let verdicts = |options: &[(&str, &str)]| {
        let only = Selection::only(&["metrics".to_owned(), "refresh".to_owned()]).expect("both are there");
        let mut said = Vec::new();
        let all = check(&load("roamer"), &told(options), None, &only, |check| said.push(check.to_string()));
        assert!(all.conforms, "{said:?}");
        said.split_off(1)
    };
    let said = verdicts(&[("failover", "1")]);
    assert!(
        said[0].starts_with("ok") && said[0].ends_with(": 1 calls about peers that it has asked for"),
        "{said:?}"
    );
    assert!(
        said[1].starts_with("ok") && said[1].contains("series: failovers, leases, peers, ticks"),
        "{said:?}"
    );
    let said = verdicts(&[("wrong", "1"), ("hot", "1")]);
    assert!(said[0].starts_with("WARNING") && said[0].contains("for ever"), "{said:?}");
    assert!(
        said[1].starts_with("WARNING")
            && said[1].contains("2 of its calls are refused; the first: \"no number\": NaN"),
        "{said:?}"
    );
}

#[test]
fn a_plugin_that_counts_publishes_and_asks_for_peers_conforms() {
    let wanted = told(&[("at", "link"), ("moves", "3"), ("every", "100"), ("failover", "2")]);
    let mut failed = Vec::new();
    let all = check(&load("roamer"), &wanted, None, &Selection::All, |check| {
        failed.extend(check.failed().then(|| check.clone()));
    });
    assert!(all.conforms, "{failed:#?}");
}
