//! Leases in, entries out, without a host.

use flannel_backend::Lease;
use flannel_backend::testing::samples::{node, own};
use flannel_backend::testing::{Bench, Host, samples, taken};

use super::VxlanPolicy;

fn peer() -> Lease {
    Lease {
        backend_data: Some(r#"{"VNI":1,"VtepMAC":"9e:00:00:00:00:03"}"#.into()),
        backend_v6_data: Some(r#"{"VNI":1,"VtepMAC":"9e:00:00:00:06:03"}"#.into()),
        ..samples::peer("vxlan")
    }
}

fn registered(v4: bool, v6: bool, config: &str) -> Bench<VxlanPolicy> {
    Bench::register(&node(v4, v6), config).expect("registers")
}

#[test]
fn with_ipv4_one_device_carries_the_subnets_address_alone() {
    let mut bench = registered(true, false, "{}");
    assert_eq!(taken(), ["link flannel.1 vxlan id 1 V4 nolearning mtu 1450"]);
    assert_eq!(bench.lease_acquired(&own()).expect("leased"), ["addresses 10.5.72.0/32 dev flannel.1"]);
    assert_eq!(bench.registration.mtu, 1450);
    assert_eq!(bench.registration.backend_type, "vxlan");
    assert_eq!(
        bench.registration.backend_data.as_deref(),
        Some(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"#)
    );
    assert_eq!(bench.registration.backend_v6_data, None);
}

#[test]
fn in_dual_stack_each_family_has_a_device_of_its_own() {
    let mut bench = registered(true, true, "{}");
    assert_eq!(
        taken(),
        [
            "link flannel.1 vxlan id 1 V4 nolearning mtu 1450",
            "link flannel-v6.1 vxlan id 1 V6 nolearning mtu 1430",
        ]
    );
    assert_eq!(
        bench.lease_acquired(&own()).expect("leased"),
        ["addresses 10.5.72.0/32 dev flannel.1", "addresses fc00:5:0:72::/128 dev flannel-v6.1",]
    );
    assert_eq!(bench.registration.mtu, 1450);
    assert_eq!(
        bench.registration.backend_v6_data.as_deref(),
        Some(r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}"#)
    );
}

#[test]
fn with_ipv6_alone_pods_get_what_the_ipv6_tunnel_carries() {
    let bench = registered(false, true, "{}");
    assert_eq!(taken(), ["link flannel-v6.1 vxlan id 1 V6 nolearning mtu 1430"]);
    assert_eq!((bench.registration.mtu, bench.registration.backend_data), (1430, None));
}

#[test]
fn a_peer_is_a_neighbour_an_fdb_entry_and_a_route_in_each_family() {
    let mut bench = registered(true, true, "{}");
    taken();
    assert_eq!(
        bench.put(1, &peer()).expect("served"),
        [
            "neigh 10.5.3.0 lladdr 9e:00:00:00:00:03 dev flannel.1",
            "fdb 9e:00:00:00:00:03 dst 192.168.0.101 dev flannel.1",
            "route 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink",
            "neigh fc00:5:0:3:: lladdr 9e:00:00:00:06:03 dev flannel-v6.1",
            "fdb 9e:00:00:00:06:03 dst fd77::101 dev flannel-v6.1",
            "route fc00:5:0:3::/64 via fc00:5:0:3:: dev flannel-v6.1 onlink",
        ]
    );
}

#[test]
fn with_direct_routing_a_peer_on_the_link_gets_a_plain_route() {
    let host = Host { on_link: ["192.168.0.101".parse().expect("address")].into(), ..Host::default() };
    let mut bench: Bench<VxlanPolicy> =
        Bench::register_on(host, &node(true, true), r#"{"DirectRouting":true}"#).expect("registers");
    taken();
    assert_eq!(
        bench.put(1, &peer()).expect("served"),
        [
            "route 10.5.3.0/24 via 192.168.0.101 dev eth0",
            "neigh fc00:5:0:3:: lladdr 9e:00:00:00:06:03 dev flannel-v6.1",
            "fdb 9e:00:00:00:06:03 dst fd77::101 dev flannel-v6.1",
            "route fc00:5:0:3::/64 via fc00:5:0:3:: dev flannel-v6.1 onlink",
        ]
    );
}

#[test]
fn a_peer_of_one_family_is_served_in_that_family() {
    let mut bench = registered(true, true, "{}");
    taken();
    let only_v4 = Lease { ipv6_subnet: None, public_ipv6: None, backend_v6_data: None, ..peer() };
    assert_eq!(bench.put(1, &only_v4).expect("served").len(), 3);
}

#[test]
fn a_peer_of_another_backend_is_ignored() {
    let mut bench = registered(true, false, "{}");
    taken();
    for other in ["host-gw", ""] {
        let lease = Lease { backend_type: other.into(), ..peer() };
        assert!(bench.put(1, &lease).expect("no rejection").is_empty());
    }
}

#[test]
fn published_rubbish_is_rejected_with_what_is_wrong() {
    let mut bench = registered(true, false, "{}");
    for (data, said) in [
        (None, "BackendData is missing"),
        (Some("null"), "BackendData: null is not a JSON object"),
        (Some("{}"), "BackendData.VtepMAC is missing"),
        (Some(r#"{"VtepMAC":7}"#), "BackendData.VtepMAC: 7 is not a text"),
        (Some(r#"{"VtepMAC":"9e:0:0:0:0:3"}"#), "is no Ethernet address"),
        (Some(r#"{"VtepMAC":"ff:ff:ff:ff:ff:ff"}"#), "no address of a single device"),
        (Some(r#"{"VtepMAC":"00:00:00:00:00:00"}"#), "no address of a single device"),
    ] {
        let lease = Lease { backend_data: data.map(str::to_owned), ..peer() };
        let error = bench.put(1, &lease).expect_err("rejected");
        assert!(error.contains(said), "{data:?}: {error}");
    }
}

#[test]
fn all_options_reach_the_device() {
    registered(true, false, r#"{"Type":"vxlan","vni":42,"Port":4789,"GBP":true,"Learning":true,"MTU":1400}"#);
    assert_eq!(taken(), ["link flannel.42 vxlan id 42 V4 dstport 4789 gbp mtu 1350"]);
}

#[test]
fn an_mtu_beyond_the_interfaces_is_the_interfaces() {
    let bench = registered(true, false, r#"{"MTU":9000}"#);
    assert_eq!(bench.registration.mtu, 1450);
    assert_eq!(flannel_backend::testing::with(|host| host.log.len()), 1, "and it is said");
}

#[test]
fn wrong_options_are_refused_with_name_and_value() {
    for (v6, config, said) in [
        (false, r#"{"VNI":16777216}"#, "VNI: 16777216"),
        (false, r#"{"VNI":10000000}"#, "flannel.10000000"),
        (true, r#"{"VNI":10000}"#, "flannel-v6.10000"),
        (false, r#"{"Port":70000}"#, "Port: 70000"),
        (false, r#"{"GBP":"yes"}"#, "GBP: \"yes\""),
        (false, r#"{"MTU":100}"#, "MTU: 100"),
        (true, r#"{"MTU":1300}"#, "MTU: 1300"),
        (false, r#"{"DirectRouting":1}"#, "DirectRouting: 1"),
    ] {
        let error = Bench::<VxlanPolicy>::register(&node(true, v6), config).err().expect("refused");
        assert!(error.contains(said), "{config}: {error}");
    }
}
