//! Leases in, entries out, without a host.

use flannel_backend::testing::{Bench, Host, samples, taken};
use flannel_backend::{ExternalInterface, Node};

use super::IpipPolicy;

fn registered(config: &str) -> Bench<IpipPolicy> {
    let host = Host { on_link: ["192.168.0.101".parse().expect("address")].into(), ..Host::default() };
    Bench::register_on(host, &samples::node(true, false), config).expect("registers")
}

#[test]
fn the_device_has_the_subnets_address_and_20_bytes_less() {
    let mut bench = registered("{}");
    assert_eq!(taken(), ["link flannel.ipip ipip mtu 1480"]);
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("leased"),
        ["addresses 10.5.72.0/32 dev flannel.ipip"]
    );
    assert_eq!((bench.registration.backend_type.as_str(), bench.registration.mtu), ("ipip", 1480));
    assert_eq!(bench.registration.backend_data, None);
}

#[test]
fn a_peer_is_a_route_through_the_tunnel() {
    let mut bench = registered("{}");
    taken();
    assert_eq!(
        bench.put(1, &samples::peer("ipip")).expect("served"),
        ["route 10.5.3.0/24 via 192.168.0.101 dev flannel.ipip onlink"]
    );
    assert_eq!(bench.put(2, &samples::peer("vxlan")).expect("ignored"), [""; 0]);
}

#[test]
fn with_direct_routing_a_peer_on_the_link_gets_a_plain_route() {
    let mut bench = registered(r#"{"DirectRouting":true}"#);
    taken();
    assert_eq!(
        bench.put(1, &samples::peer("ipip")).expect("served"),
        ["route 10.5.3.0/24 via 192.168.0.101 dev eth0"]
    );
}

#[test]
fn what_cannot_work_is_refused_with_what_would() {
    let narrow = |mtu| Node {
        external: ExternalInterface { mtu, ..samples::node(true, false).external },
        ..samples::node(true, false)
    };
    for (node, config, said) in [
        (samples::node(true, true), "{}", "IPv4 only"),
        (samples::node(false, true), "{}", "IPv4 only"),
        (narrow(87), "{}", "MTU of 87"),
        (samples::node(true, false), r#"{"DirectRouting":"yes"}"#, "DirectRouting"),
    ] {
        let error = Bench::<IpipPolicy>::register(&node, config).err().expect("refused");
        assert!(error.contains(said), "{error}");
    }
}
