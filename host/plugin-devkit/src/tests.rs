//! The kit, with what `cargo xtask plugins` made.

use flannel_plugin_host::{Artifact, Compiler, Grants, Loader};
use flannel_test_support::component;
use serde_json::Value;

use super::check::{Check, Verdict, check, difference};
use super::{Desired, Families, SampleNode, inspect, leases, preview, run};

fn load(name: &str) -> Artifact {
    let cache = tempfile::tempdir().expect("directory");
    Loader::new(cache.path(), cache.path(), Compiler::Here).load_here(&component(name)).expect("loads")
}

fn dry_run(name: &str, backend: &str, families: Families, file: &str) -> Desired {
    let file = leases::read(file).expect("a file of leases");
    run::run(&load(name), backend, families, &file).expect("runs")
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
    ] {
        let error = leases::read(text).expect_err(text);
        assert!(error.contains(said) && !error.contains('\n'), "{text}: {error}");
    }
    let file = leases::read(r#"[{"Subnet":"10.255.0.0/16"}]"#).expect("a lease");
    let error = run::run(&load("alloc"), r#"{"Type":"alloc"}"#, Families::Ipv4, &file).expect_err("overlaps");
    assert!(error.contains("overlaps the node's own, 10.255.255.0/24"), "{error}");
}

fn checks(name: &str, backend: Option<&str>) -> (bool, Vec<Check>) {
    let mut checks = Vec::new();
    let outcome = check(&load(name), backend, |check| checks.push(check.clone()));
    (outcome.conforms, checks)
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
    let see =
        |name: &str, backend: &str| preview::preview(&load(name), &node.facts, Some(node.subnets), backend);
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
