//! Leases in, peers out, without a host.

use flannel_backend::testing::{Bench, Host, samples, taken};
use flannel_backend::{Lease, Node};

use super::WireguardPolicy;

/// The sample host's own key, and a peer's.
const OWN: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

fn registered(v4: bool, v6: bool, config: &str) -> Bench<WireguardPolicy> {
    Bench::register(&samples::node(v4, v6), config).expect("registers")
}

fn peer() -> Lease {
    Lease {
        backend_data: Some(format!(r#"{{"PublicKey":"{KEY}","Port":51820}}"#)),
        backend_v6_data: Some(format!(r#"{{"PublicKey":"{KEY}","Port":51821}}"#)),
        ..samples::peer("wireguard")
    }
}

#[test]
fn with_ipv4_one_device_knows_the_way_to_the_whole_cluster() {
    let mut bench = registered(true, false, "{}");
    assert_eq!(taken(), ["link flannel-wg wireguard listen-port 51820 mtu 1420"]);
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("leased"),
        ["addresses 10.5.72.0/32 dev flannel-wg", "route 10.5.0.0/16 dev flannel-wg"]
    );
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("wireguard", 1420));
    assert_eq!(published.backend_data, Some(format!(r#"{{"PublicKey":"{OWN}","Port":51820}}"#)));
    assert_eq!(published.backend_v6_data, None);
}

#[test]
fn in_dual_stack_each_family_has_a_device_of_its_own() {
    let mut bench = registered(true, true, "{}");
    assert_eq!(
        taken(),
        [
            "link flannel-wg wireguard listen-port 51820 mtu 1420",
            "link flannel-wg-v6 wireguard listen-port 51821 mtu 1420",
        ]
    );
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("leased"),
        [
            "addresses 10.5.72.0/32 dev flannel-wg",
            "route 10.5.0.0/16 dev flannel-wg",
            "addresses fc00:5:0:72::/128 dev flannel-wg-v6",
            "route fc00:5::/48 dev flannel-wg-v6",
        ]
    );
    let data = Some(format!(r#"{{"PublicKey":"{OWN}","Port":51821}}"#));
    assert_eq!(bench.registration.backend_v6_data, data);
    assert_eq!(
        bench.put(1, &peer()).expect("served"),
        [
            format!("wg flannel-wg peer {KEY} endpoint 192.168.0.101:51820 allowed-ips 10.5.3.0/24"),
            format!("wg flannel-wg-v6 peer {KEY} endpoint [fd77::101]:51821 allowed-ips fc00:5:0:3::/64"),
        ]
    );
}

#[test]
fn with_ipv6_alone_there_is_the_ipv6_device_alone() {
    let bench = registered(false, true, "{}");
    assert_eq!(taken(), ["link flannel-wg-v6 wireguard listen-port 51821 mtu 1420"]);
    assert_eq!(bench.registration.backend_data, None);
}

#[test]
fn one_device_for_both_families_sends_where_mode_says() {
    let at = |v4: [u8; 4], v6: &str| Lease {
        public_ipv4: Some(v4.into()),
        public_ipv6: Some(v6.parse().expect("address")),
        ..peer()
    };
    let own =
        |v6: &str| Node { public_ipv6: Some(v6.parse().expect("address")), ..samples::node(true, true) };
    let only_v4 = Lease { public_ipv6: None, ..peer() };
    for (mode, node, lease, endpoint) in [
        ("ipv4", own("fd77::100"), peer(), "192.168.0.101:51820"),
        ("ipv6", own("fd77::100"), peer(), "[fd77::101]:51821"),
        // Nothing is public: IPv4.
        ("auto", own("fd77::100"), peer(), "192.168.0.101:51820"),
        ("auto", own("2001:db8::1"), at([203, 0, 113, 9], "2001:db8::9"), "203.0.113.9:51820"),
        ("auto", own("2001:db8::1"), at([10, 0, 0, 9], "2001:db8::9"), "[2001:db8::9]:51821"),
        ("auto", own("fd77::100"), at([10, 0, 0, 9], "2001:db8::9"), "10.0.0.9:51820"),
        ("auto", own("fd77::100"), only_v4, "192.168.0.101:51820"),
    ] {
        let config = format!(r#"{{"Mode":"{mode}"}}"#);
        let mut bench: Bench<WireguardPolicy> = Bench::register(&node, &config).expect("registers");
        assert_eq!(taken(), ["link flannel-wg wireguard listen-port 51820 mtu 1420"]);
        let both = "allowed-ips 10.5.3.0/24,fc00:5:0:3::/64";
        assert_eq!(
            bench.put(1, &lease).expect("served"),
            [format!("wg flannel-wg peer {KEY} endpoint {endpoint} {both}")],
            "{mode}"
        );
        assert_eq!(bench.registration.backend_data, bench.registration.backend_v6_data);
    }
}

#[test]
fn one_device_serves_a_cluster_of_one_family_too() {
    let mut bench: Bench<WireguardPolicy> =
        Bench::register(&samples::node(true, false), r#"{"Mode":"auto"}"#).expect("registers");
    assert_eq!(taken(), ["link flannel-wg wireguard listen-port 51820 mtu 1420"]);
    let lease = Lease { ipv6_subnet: None, backend_v6_data: None, public_ipv6: None, ..peer() };
    let expected = format!("wg flannel-wg peer {KEY} endpoint 192.168.0.101:51820 allowed-ips 10.5.3.0/24");
    assert_eq!(bench.put(1, &lease).expect("served"), [expected]);
    assert!(bench.registration.backend_data.is_some() && bench.registration.backend_v6_data.is_none());
}

#[test]
fn options_reach_device_and_peers() {
    let host = Host { preshared: true, ..Host::default() };
    let config =
        r#"{"ListenPort":4242,"MTU":1400,"PersistentKeepaliveInterval":25,"PSK":"(held by the host)"}"#;
    let mut bench: Bench<WireguardPolicy> =
        Bench::register_on(host, &samples::node(true, false), config).expect("registers");
    assert_eq!(taken(), ["link flannel-wg wireguard listen-port 4242 mtu 1320"]);
    // A peer that says nothing of its port has ours.
    let old = Lease { backend_data: Some(format!(r#"{{"PublicKey":"{KEY}"}}"#)), ..peer() };
    let expected = format!(
        "wg flannel-wg peer {KEY} endpoint 192.168.0.101:4242 allowed-ips 10.5.3.0/24 persistent-keepalive 25 preshared-key"
    );
    assert_eq!(bench.put(1, &old).expect("served"), [expected]);
}

#[test]
fn a_peers_port_is_the_one_that_it_publishes() {
    let mut bench = registered(true, false, r#"{"ListenPort":4242}"#);
    assert_eq!(taken(), ["link flannel-wg wireguard listen-port 4242 mtu 1420"]);
    let other = Lease { backend_data: Some(format!(r#"{{"PublicKey":"{KEY}","Port":52000}}"#)), ..peer() };
    let [served] = &bench.put(1, &other).expect("served")[..] else { panic!("one peer") };
    assert!(served.contains("endpoint 192.168.0.101:52000 "), "{served}");
}

#[test]
fn wrong_options_are_refused_with_name_and_value() {
    for (v6, config, said) in [
        (true, r#"{"Mode":"both"}"#, "Mode: \"both\""),
        (false, r#"{"ListenPort":0}"#, "ListenPort: 0"),
        (true, r#"{"ListenPort":51821}"#, "ListenPortV6: 51821"),
        (false, r#"{"MTU":100}"#, "MTU: 100"),
        (true, r#"{"MTU":1300}"#, "MTU: 1300"),
        (false, r#"{"PersistentKeepaliveInterval":-1}"#, "PersistentKeepaliveInterval: -1"),
    ] {
        let error =
            Bench::<WireguardPolicy>::register(&samples::node(true, v6), config).err().expect("refused");
        assert!(error.contains(said), "{config}: {error}");
    }
}

#[test]
fn published_rubbish_is_rejected_with_what_is_wrong() {
    let mut bench = registered(true, false, "{}");
    let odd_port = format!(r#"{{"PublicKey":"{KEY}","Port":70000}}"#);
    for (data, said) in [
        (None, "BackendData is missing"),
        (Some("7"), "BackendData: 7 is not a JSON object"),
        (Some("{}"), "BackendData.PublicKey is missing"),
        (Some(r#"{"PublicKey":"c2hvcnQ="}"#), "BackendData.PublicKey"),
        (Some(odd_port.as_str()), "BackendData.Port"),
    ] {
        let lease = Lease { backend_data: data.map(str::to_owned), ..peer() };
        let error = bench.put(1, &lease).expect_err("rejected");
        assert!(error.contains(said), "{data:?}: {error}");
    }
}

#[test]
fn a_peer_of_another_backend_is_ignored() {
    let mut bench = registered(true, true, "{}");
    taken();
    assert_eq!(bench.put(1, &samples::peer("vxlan")).expect("no rejection"), [""; 0]);
}
