//! Leases in, tunnels out, without a host.

use flannel_backend::testing::{Bench, samples, taken};
use flannel_backend::{ExternalInterface, Node};

use super::UdpPolicy;

fn registered(v4: bool, v6: bool, config: &str) -> Bench<UdpPolicy> {
    Bench::register(&samples::node(v4, v6), config).expect("registers")
}

#[test]
fn one_device_knows_the_way_to_the_whole_cluster() {
    let mut bench = registered(true, false, "{}");
    assert_eq!(taken(), ["link flannel0 tunnel port 8285 mtu 1472"]);
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("leased"),
        ["addresses 10.5.72.0/32 fc00:5:0:72::/128 dev flannel0", "route 10.5.0.0/16 dev flannel0"]
    );
    assert_eq!((bench.registration.backend_type.as_str(), bench.registration.mtu), ("", 1472));
    assert_eq!(bench.registration.backend_data, None);
}

#[test]
fn a_peer_is_its_subnet_at_its_address() {
    let mut bench = registered(true, false, "{}");
    taken();
    for backend_type in ["", "udp"] {
        assert_eq!(
            bench.put(1, &samples::peer(backend_type)).expect("served"),
            ["tunnel flannel0 10.5.3.0/24 at 192.168.0.101"]
        );
    }
    assert_eq!(bench.put(2, &samples::peer("vxlan")).expect("ignored"), [""; 0]);
}

#[test]
fn in_dual_stack_both_families_go_through_one_device() {
    let mut bench = registered(true, true, r#"{"Port":4242}"#);
    assert_eq!(taken(), ["link flannel0 tunnel port 4242 mtu 1452"]);
    assert_eq!(
        bench.put(1, &samples::peer("")).expect("served"),
        ["tunnel flannel0 10.5.3.0/24 at 192.168.0.101", "tunnel flannel0 fc00:5:0:3::/64 at fd77::101"]
    );
}

#[test]
fn what_cannot_work_is_refused_with_what_would() {
    let narrow = |v6, mtu| {
        let node = samples::node(true, v6);
        Node { external: ExternalInterface { mtu, ..node.external.clone() }, ..node }
    };
    for (node, config, said) in [
        (samples::node(true, false), r#"{"Port":0}"#, "Port: 0"),
        (samples::node(true, false), r#"{"Port":"x"}"#, "Port: \"x\""),
        (narrow(false, 95), "{}", "MTU of 95"),
        (narrow(true, 1327), "{}", "MTU of 1327"),
    ] {
        let error = Bench::<UdpPolicy>::register(&node, config).err().expect("refused");
        assert!(error.contains(said), "{error}");
    }
}
