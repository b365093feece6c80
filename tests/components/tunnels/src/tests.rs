//! Leases in, entries out, without a host.

use flannel_backend::testing::{Bench, samples, taken};
use flannel_backend::{Lease, Node};

use super::Tunnels;

fn node() -> Node {
    samples::node(true, true)
}

fn bench(config: &str) -> (Bench<Tunnels>, String) {
    let bench = Bench::register(&node(), config).expect("registers");
    let device = taken().join("; ");
    (bench, device)
}

fn peer() -> Lease {
    samples::peer("tunnels")
}

#[test]
fn each_kind_of_device_is_declared_with_what_its_packets_need() {
    for (config, declared) in [
        (r#"{"Device":"gre"}"#, "link flannel.tl gre over ipv4 mtu 1472"),
        (r#"{"Device":"gre","Key":7,"Udp":"gue"}"#, "link flannel.tl gre over ipv4 key 7 gue 5555 mtu 1460"),
        (r#"{"Device":"gre-external"}"#, "link flannel.tl gre over ipv4 external mtu 1472"),
        (r#"{"Device":"ip6gre-external"}"#, "link flannel.tl gre over ipv6 external mtu 1444"),
        (r#"{"Device":"gretap-external"}"#, "link flannel.tl gretap over ipv4 external mtu 1458"),
        (r#"{"Device":"geneve","Port":6082}"#, "link flannel.tl geneve port 6082 external mtu 1430"),
        (r#"{"Device":"sit"}"#, "link flannel.tl ip carries ipv6 over ipv4 mtu 1480"),
        (r#"{"Device":"ip"}"#, "link flannel.tl ip carries both over ipv4 mtu 1480"),
        (
            r#"{"Device":"ipip","Udp":"fou","Port":7777}"#,
            "link flannel.tl ip carries ipv4 over ipv4 fou 7777 mtu 1472",
        ),
        (r#"{"Device":"ip6tnl-external"}"#, "link flannel.tl ip carries both over ipv6 external mtu 1452"),
        (r#"{"Device":"vlan","ID":12}"#, "link flannel.tl vlan 12 802.1Q mtu 1500"),
        (r#"{"Device":"vlan","Protocol":"802.1ad"}"#, "link flannel.tl vlan 77 802.1ad mtu 1500"),
    ] {
        assert_eq!(bench(config).1, declared, "{config}");
    }
    for (config, said) in [
        (r#"{"Device":"carrier-pigeon"}"#, "no kind of device"),
        (r#"{"Device":"gre","Udp":"tcp"}"#, "fou or gue"),
        (r#"{"Device":"vlan","ID":70000}"#, "is not a whole number"),
        (r#"{"Device":"vlan","Protocol":"802.3"}"#, "neither 802.1Q nor 802.1ad"),
    ] {
        let error = Bench::<Tunnels>::register(&node(), config).err().expect("refused");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn next_hops_are_public_addresses_or_those_on_the_vlan() {
    let routes = |config: &str| bench(config).0.put(1, &peer()).expect("served");
    let v4 = "route 10.5.3.0/24 via 192.168.0.101 dev flannel.tl onlink";
    let v6 = "route fc00:5:0:3::/64 via ::c0a8:65 dev flannel.tl onlink";
    assert_eq!(routes(r#"{"Device":"gre"}"#), [v4, v6]);
    assert_eq!(routes(r#"{"Device":"sit"}"#), [v6]);
    assert_eq!(routes(r#"{"Device":"ipip"}"#), [v4]);
    assert_eq!(
        routes(r#"{"Device":"vlan"}"#),
        [
            "route 10.5.3.0/24 via 10.5.3.0 dev flannel.tl onlink",
            "route fc00:5:0:3::/64 via fc00:5:0:3:: dev flannel.tl onlink"
        ]
    );
    let around = |encap: &str| {
        ["10.5.3.0/24", "fc00:5:0:3::/64"]
            .map(|subnet| format!("route {subnet} metric 200 {encap} dev flannel.tl"))
    };
    assert_eq!(routes(r#"{"Device":"gre-external"}"#), around("encap ip id 5 dst 192.168.0.101"));
    assert_eq!(routes(r#"{"Device":"gre-external","Key":9}"#), around("encap ip id 9 dst 192.168.0.101"));
    assert_eq!(routes(r#"{"Device":"ip6tnl-external"}"#), around("encap ip6 dst fd77::101"));
}

#[test]
fn who_has_an_ethernet_address_publishes_it_and_is_found_by_it() {
    let (mut bench, _) = bench(r#"{"Device":"geneve"}"#);
    let data = bench.registration.backend_data.clone();
    assert_eq!(data.as_deref(), Some(r#"{"MAC":"02:00:00:00:00:01"}"#));
    let peer = Lease { backend_data: data, backend_v6_data: None, ..peer() };
    assert_eq!(
        bench.put(1, &peer).expect("served"),
        [
            "neigh 10.5.3.0 lladdr 02:00:00:00:00:01 dev flannel.tl",
            "route 10.5.3.0/24 metric 200 encap ip id 5 dst 192.168.0.101 via 10.5.3.0 dev flannel.tl onlink",
            "route fc00:5:0:3::/64 metric 200 encap ip id 5 dst 192.168.0.101 via fc00:5:0:3:: dev flannel.tl onlink"
        ]
    );
    let first = bench.lease_acquired(&samples::own()).expect("leased");
    assert_eq!(first, ["addresses 10.5.72.0/32 fc00:5:0:72::/128 dev flannel.tl"]);
}
