//! Leases in, routes out, without a host.

use flannel_backend::testing::{Bench, Host, samples, taken};
use flannel_backend::{Lease, Node};

use super::HostGwPolicy;

fn registered(v4: bool, v6: bool) -> Bench<HostGwPolicy> {
    let on_link = ["192.168.0.101", "fd77::101"].map(|address| address.parse().expect("address")).into();
    let host = Host { on_link, ..Host::default() };
    Bench::register_on(host, &samples::node(v4, v6), "{}").expect("registers")
}

#[test]
fn pods_get_the_interfaces_mtu_and_nothing_else_is_published() {
    let bench = registered(true, false);
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("host-gw", 1500));
    assert_eq!((&published.backend_data, &published.backend_v6_data), (&None, &None));
    assert_eq!(taken(), [""; 0]);
}

#[test]
fn a_peer_is_a_route_in_each_family() {
    for (v4, v6) in [(true, true), (true, false), (false, true)] {
        let mut bench = registered(v4, v6);
        let mut expected = Vec::new();
        expected.extend(v4.then_some("route 10.5.3.0/24 via 192.168.0.101 dev eth0"));
        expected.extend(v6.then_some("route fc00:5:0:3::/64 via fd77::101 dev eth0"));
        assert_eq!(bench.put(1, &samples::peer("host-gw")).expect("served"), expected);
    }
}

#[test]
fn a_peer_of_another_backend_is_ignored() {
    let mut bench = registered(true, true);
    for other in ["vxlan", ""] {
        assert_eq!(bench.put(1, &samples::peer(other)).expect("no rejection"), [""; 0]);
    }
}

#[test]
fn a_peer_that_is_not_on_the_link_is_rejected_with_its_address() {
    let mut bench = registered(true, false);
    let lease = Lease { public_ipv4: Some([203, 0, 113, 9].into()), ..samples::peer("host-gw") };
    let error = bench.put(1, &lease).expect_err("rejected");
    assert!(error.contains("203.0.113.9 is not on the link of eth0"), "{error}");
}

#[test]
fn a_public_address_behind_nat_is_refused() {
    let node = Node { public_ipv4: Some([203, 0, 113, 9].into()), ..samples::node(true, false) };
    let error = Bench::<HostGwPolicy>::register(&node, "{}").err().expect("refused");
    assert!(error.contains("203.0.113.9") && error.contains("192.168.0.100"), "{error}");
}
