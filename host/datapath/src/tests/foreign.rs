//! What we have not made stays, and ours come when it goes.

use super::*;

/// A route for a peer on the link, as host-gw wants it.
fn direct(n: u8) -> Vec<Entry> {
    let via = Some(address(&format!("192.168.0.{n}")));
    let destination = prefix(&format!("10.5.{n}.0/24"));
    vec![Entry::Route { destination, via, onlink: false, device: Device::External }]
}

fn route(n: u8) -> String {
    ip(&format!("route show 10.5.{n}.0/24"))
}

/// Waits until a route is of this kind.
fn leads(n: u8, part: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !route(n).contains(part) {
        assert!(Instant::now() < deadline, "no {part:?} in {:?}", route(n));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_route_that_is_not_ours_stays_until_it_goes_by_itself() {
    for theirs in [
        "via 192.168.0.77 dev eth0",
        "via 192.168.0.77 dev eth0 proto static",
        "dev eth0 scope link",
        "dev lo",
    ] {
        in_namespace(move |node| {
            ip(&format!("route add 10.5.3.0/24 {theirs}"));
            node.commit(base());
            let before = route(3);
            for entries in [peer(3), direct(3)] {
                let report = node.commit(put(3, entries));
                let [(key, reason, Some(PeerId(3)))] = &report.failures[..] else { panic!("{report:?}") };
                assert_eq!(key.to_string(), Key::Route(prefix("10.5.3.0/24")).to_string());
                let device = if theirs.contains("lo") { "dev lo" } else { "dev eth0" };
                assert!(reason.contains("in the way") && reason.contains(device), "{reason}");
                node.prune_stale();
                assert_eq!(route(3), before);
            }
            // A peer that goes takes nothing with it that is not its own.
            node.commit(Transaction { peers: [(PeerId(3), None)].into(), ..Transaction::default() });
            assert_eq!(route(3), before);
            node.commit(put(3, peer(3)));
            ip("route del 10.5.3.0/24");
            leads(3, "dev flannel.1");
        });
    }
}

#[test]
fn a_route_that_comes_before_a_peer_in_operation_stays_too() {
    in_namespace(|node| {
        node.with_peers();
        ip("route add 10.5.9.0/24 via 192.168.0.77");
        let before = route(9);
        let report = node.commit(put(9, peer(9)));
        assert_eq!(report.failures.len(), 1, "{report:?}");
        assert_eq!(route(9), before);
        assert!(route(3).contains("flannel.1"), "others are served");
    });
}

#[test]
fn ipv6_routes_of_others_stay_too() {
    in_namespace(|node| {
        ip("-6 route add fc00:5:0:9::/64 via fd77::77");
        node.commit(base());
        let show = || ip("-6 route show fc00:5:0:9::/64");
        let before = show();
        let destination = prefix("fc00:5:0:9::/64");
        let via = Some(destination.addr());
        let entry = Entry::Route { destination, via, onlink: true, device: own() };
        let report = node.commit(put(9, vec![entry]));
        assert_eq!((report.failures.len(), show()), (1, before), "{report:?}");
        ip("-6 route del fc00:5:0:9::/64");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !show().contains("flannel.1") {
            assert!(Instant::now() < deadline, "{}", show());
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn what_another_backend_of_flannel_left_is_replaced() {
    for left in ["via 10.5.3.0 dev flannel.7 onlink", "via 192.168.0.3 dev eth0", "dev flannel.7"] {
        in_namespace(move |node| {
            ip("link add flannel.7 up type vxlan id 7 local 192.168.0.100 dev eth0 dstport 8473");
            ip(&format!("route add 10.5.3.0/24 {left}"));
            node.commit(base());
            let report = node.commit(put(3, peer(3)));
            assert!(report.failures.is_empty(), "{report:?}");
            assert!(route(3).contains("dev flannel.1"), "{}", route(3));
        });
    }
}

#[test]
fn once_in_operation_a_route_by_way_of_a_peers_address_is_the_operators() {
    in_namespace(|node| {
        ip("route add 10.5.3.0/24 via 192.168.0.3 dev eth0");
        node.commit(base());
        node.prune_stale();
        let before = route(3);
        let report = node.commit(put(3, peer(3)));
        assert_eq!((report.failures.len(), route(3)), (1, before.clone()), "{report:?}");
        node.commit(Transaction { peers: [(PeerId(3), None)].into(), ..Transaction::default() });
        assert_eq!(route(3), before);
    });
}

#[test]
fn a_plain_route_of_upstreams_that_was_adopted_goes_with_its_peer() {
    in_namespace(|node| {
        ip("route add 10.5.3.0/24 via 192.168.0.3 dev eth0");
        node.commit(base());
        node.commit(put(3, direct(3)));
        assert!(!route(3).contains("nhid"), "adopted as it is: {}", route(3));
        node.prune_stale();
        node.commit(Transaction { peers: [(PeerId(3), None)].into(), ..Transaction::default() });
        assert_eq!(route(3), "");
    });
}

#[test]
fn a_hundred_routes_of_others_are_no_hindrance_for_the_rest() {
    in_namespace(|node| {
        for n in 100..200 {
            ip(&format!("route add 10.5.{n}.0/24 via 192.168.0.77"));
        }
        let mut all = base();
        for n in 100..220 {
            all.merge(put(n, peer(n)));
        }
        let report = node.commit(all);
        assert_eq!(report.failures.len(), 100);
        let routes = ip("route show");
        assert_eq!(routes.lines().filter(|line| line.contains("via 192.168.0.77")).count(), 100);
        assert_eq!(routes.lines().filter(|line| line.contains("dev flannel.1 onlink")).count(), 20);
    });
}
