//! What is declared for whom.

use flannel_backend::policy_routing::Uplink;
use flannel_backend::testing::{Bench, Host, samples};

use super::*;

/// A host with a second network and these options.
fn host(options: &[(&str, &str)]) -> Host {
    let addresses = ["172.16.0.1/24", "fd78::1/64"].map(|address| address.parse().expect("an address"));
    let uplink = Uplink { name: "eth1".to_owned(), mtu: 1400, addresses: addresses.to_vec() };
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Host { uplinks: vec![uplink], options, ..Host::default() }
}

fn bench(options: &[(&str, &str)]) -> Bench<Multihomed> {
    Bench::register_on(host(options), &samples::node(true, true), "{}").expect("registers")
}

/// A peer that is in the second network, too.
fn peer() -> Lease {
    Lease {
        backend_data: Some(r#"{"Second":"172.16.0.3"}"#.to_owned()),
        backend_v6_data: Some(r#"{"Second":"fd78::3"}"#.to_owned()),
        ..samples::peer("multihomed")
    }
}

#[test]
fn the_second_network_comes_after_the_first_and_has_a_table_of_its_own() {
    let mut bench = bench(&[("steer", "")]);
    assert_eq!(bench.registration.backend_data.as_deref(), Some(r#"{"Second":"172.16.0.1"}"#));
    assert_eq!(bench.registration.mtu, 1400);
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("rules"),
        ["rule 10: from 10.5.72.128/25 lookup 1; rule 10: from fc00:5:0:72:8000::/65 lookup 1"]
    );
    assert_eq!(
        bench.put(1, &peer()).expect("routes"),
        [
            "route 10.5.3.0/24 metric 200 via 192.168.0.101 dev eth0",
            "route 10.5.3.0/24 metric 300 mtu 1400 via 172.16.0.3 dev eth1",
            "route 10.5.3.0/24 metric 200 table 1 src 172.16.0.1 advmss 1340 via 172.16.0.3 dev eth1",
            "route fc00:5:0:3::/64 metric 200 via fd77::101 dev eth0",
            "route fc00:5:0:3::/64 metric 300 mtu 1400 via fd78::3 dev eth1",
            "route fc00:5:0:3::/64 metric 200 table 1 src fd78::1 advmss 1340 via fd78::3 dev eth1",
        ]
    );
}

#[test]
fn flows_are_shared_with_whoever_is_in_both_networks() {
    let mut bench = bench(&[("ways", "ecmp")]);
    let declared = bench.put(1, &peer()).expect("routes");
    assert_eq!(
        declared[0],
        "route 10.5.3.0/24 metric 200 nexthop via 192.168.0.101 dev eth0 weight 1 nexthop via 172.16.0.3 dev eth1 weight 1"
    );
    let declared = bench.put(2, &samples::peer("multihomed")).expect("routes");
    let alone = ["10.5.3.0/24 metric 200 via 192.168.0.101", "fc00:5:0:3::/64 metric 200 via fd77::101"];
    assert_eq!(declared, alone.map(|way| format!("route {way} dev eth0")));
}

#[test]
fn a_wrong_option_and_wrong_data_are_refused_in_words() {
    let refused = |options: &[(&str, &str)]| {
        Bench::<Multihomed>::register_on(host(options), &samples::node(true, false), "{}").err()
    };
    assert!(refused(&[("ways", "both")]).is_some_and(|error| error.contains("fallback or ecmp")));
    assert!(refused(&[("metric", "low")]).is_some_and(|error| error.contains("\"low\" is no number")));
    let odd = Lease { backend_data: Some(r#"{"Second":"here"}"#.to_owned()), ..samples::peer("multihomed") };
    assert!(bench(&[]).put(1, &odd).is_err_and(|error| error.contains("\"here\" is no address")));
}

#[test]
fn peers_are_reached_by_segments_through_those_that_are_there() {
    let direct = "encap seg6 mode encap segs fd77::101 dev eth0";
    let through = "encap seg6 mode encap segs fd77::103,fd77::101 dev eth0";
    let transit = Lease { public_ipv6: "fd77::103".parse().ok(), ..samples::peer("multihomed") };
    let mut alone = bench(&[("segments", "fd77::103")]);
    assert_eq!(alone.registration.mtu, 1400 - 48 - 32);
    let routes = |way: &str| {
        ["10.5.3.0/24", "fc00:5:0:3::/64"].map(|subnet| format!("route {subnet} metric 200 {way}")).to_vec()
    };
    assert_eq!(alone.put(1, &peer()).expect("routes"), routes(direct));
    alone.put(2, &transit).expect("routes");
    assert_eq!(flannel_backend::testing::with(|host| host.refreshed.clone()), [PeerId(1)]);
    assert_eq!(alone.put(1, &peer()).expect("routes"), routes(through));
    alone.policy.removed(PeerId(2));
    assert_eq!(alone.put(1, &peer()).expect("routes"), routes(direct));
    let mut shared = bench(&[("segments", "fd77::103"), ("ways", "ecmp")]);
    shared.put(2, &transit).expect("routes");
    let [through, direct] =
        ["fd77::103,fd77::101", "fd77::101"].map(|way| format!("nexthop encap seg6 mode encap segs {way}"));
    assert_eq!(
        shared.put(1, &peer()).expect("routes"),
        [
            format!("route 10.5.3.0/24 metric 200 {through} dev eth0 weight 1 {direct} dev eth0 weight 1"),
            format!(
                "route fc00:5:0:3::/64 metric 200 {through} via fd77::101 dev eth0 weight 1 {direct} via fd77::101 dev eth0 weight 1"
            ),
        ]
    );
}

#[test]
fn labels_go_to_the_peer_and_what_comes_in_by_the_second_network_leaves_by_it() {
    let mut bench = bench(&[("labels", "100+200"), ("forward", "")]);
    assert_eq!(bench.registration.mtu, 1400 - 8);
    assert_eq!(
        bench.put(1, &peer()).expect("routes"),
        [
            "route 10.5.3.0/24 metric 200 encap mpls 100/200 via 192.168.0.101 dev eth0",
            "route fc00:5:0:3::/64 metric 200 encap mpls 100/200 via fd77::101 dev eth0",
        ]
    );
    assert_eq!(
        bench.lease_acquired(&samples::own()).expect("rules"),
        ["rule 20: to 10.5.0.0/16 iif eth1 lookup 1; rule 20: to fc00:5::/48 iif eth1 lookup 1"]
    );
    let both = host(&[("labels", "16"), ("segments", "")]);
    let refused = Bench::<Multihomed>::register_on(both, &samples::node(true, true), "{}").err();
    assert!(refused.is_some_and(|error| error.contains("one of both")));
}
