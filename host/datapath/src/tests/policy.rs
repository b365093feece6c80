//! Routes with metrics, tables and several next hops, and rules.

use flannel_model::policy_routing::{Hop, PacketMark, PolicyRoute, Rule};

use super::*;

pub(super) fn hop(device: Device, via: &str) -> Hop {
    Hop { device, via: Some(address(via)), onlink: false, weight: 1, encapsulation: None }
}

pub(super) fn uplink() -> Device {
    Device::Uplink(Arc::new("eth1".to_owned()))
}

pub(super) fn plain(destination: &str, metric: u32, hops: Vec<Hop>) -> PolicyRoute {
    let (table, source, mtu, advmss) = (None, None, None, None);
    PolicyRoute { table, destination: prefix(destination), metric, source, mtu, advmss, hops: hops.into() }
}

pub(super) fn entries(routes: impl IntoIterator<Item = PolicyRoute>) -> Vec<Entry> {
    routes.into_iter().map(|route| Entry::PolicyRoute(Arc::new(route))).collect()
}

pub(super) fn rules(rules: impl IntoIterator<Item = Rule>) -> Transaction {
    Transaction { rules: Some(rules.into_iter().collect()), ..Transaction::default() }
}

/// Both ways to a peer, by family: the first is better.
fn two_ways(family: &str) -> Vec<Entry> {
    let (subnet, first, second) = match family {
        "-4" => ("10.5.3.0/24", "192.168.0.3", "192.168.1.3"),
        _ => ("fc00:5:0:3::/64", "fd77::3", "fd78::3"),
    };
    entries([
        plain(subnet, 200, vec![hop(Device::External, first)]),
        plain(subnet, 300, vec![hop(uplink(), second)]),
    ])
}

/// Two gateways over two interfaces, by family.
fn ecmp(family: &str) -> PolicyRoute {
    let (subnet, first, second) = match family {
        "-4" => ("10.5.3.0/24", "192.168.0.3", "192.168.1.3"),
        _ => ("fc00:5:0:3::/64", "fd77::3", "fd78::3"),
    };
    plain(subnet, 200, vec![hop(Device::External, first), Hop { weight: 3, ..hop(uplink(), second) }])
}

/// A second interface, `eth1`, and a datapath that may use it.
fn with_uplink(test: impl FnOnce(&Node) + Send + 'static) {
    bare_namespace(move || {
        add_uplink();
        test(&node());
    });
}

pub(super) fn add_uplink() {
    ip("link add eth1 type veth peer name far1");
    ip("link set far1 up");
    ip("link set eth1 up");
    ip("address add 192.168.1.100/24 dev eth1");
    ip("-6 address add fd78::100/64 dev eth1 nodad");
}

fn node() -> Node {
    Node::in_context(Context { uplinks: vec!["eth1".to_owned()], ..Context::default() })
}

/// The next run of the same daemon.
fn second() -> Node {
    node()
}

/// The routes to the peers of a family, of all tables, and the rules for tables that are ours.
pub(super) fn all(family: &str) -> String {
    let routes = ip(&format!("{family} route show table all proto 119"));
    let rules = ip(&format!("{family} rule show"));
    let rules = rules.lines().filter(|line| line.contains("proto 119"));
    let mut all: Vec<String> = Vec::new();
    for line in routes.lines() {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        match all.last_mut() {
            Some(last) if line.starts_with("nexthop") => *last = format!("{last} {line}"),
            _ => all.push(line),
        }
    }
    all.extend(rules.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")));
    all.sort();
    all.join("\n")
}

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: {}\n{}", all("-4"), all("-6"));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The device by which packets to a peer leave, and the source that they have.
pub(super) fn way(family: &str, more: &str) -> String {
    let to = if family == "-4" { "10.5.3.7" } else { "fc00:5:0:3::7" };
    of_device("ip", &format!("{family} route get {to} {more}"))
}

#[test]
fn a_route_has_what_was_declared_in_either_family_and_a_restart_sends_nothing() {
    with_uplink(|node| {
        let declare = |node: &Node| {
            let attributes = |route: PolicyRoute, source: &str| PolicyRoute {
                source: Some(address(source)),
                mtu: Some(1400),
                advmss: Some(1300),
                ..route
            };
            let in_table = |route: PolicyRoute| PolicyRoute { table: Some(2), ..route };
            let mut all = Vec::new();
            for (family, source) in [("-4", "192.168.1.100"), ("-6", "fd78::100")] {
                all.push(attributes(ecmp(family), source));
                all.push(in_table(ecmp(family)));
            }
            node.commit(put(3, entries(all)));
            node.commit(rules([
                Rule {
                    priority: 7,
                    source: Some(prefix("10.5.72.0/25")),
                    destination: None,
                    mark: Some(PacketMark { value: 0x10, mask: 0xf0 }),
                    input: None,
                    table: 2,
                },
                Rule {
                    priority: 8,
                    source: None,
                    destination: Some(prefix("fc00:5::/48")),
                    mark: None,
                    input: None,
                    table: 2,
                },
            ]));
            let report = node.prune_stale();
            assert!(report.failures.is_empty(), "{report:?}");
        };
        declare(node);
        for (family, words) in [
            (
                "-4",
                [
                    "10.5.3.0/24 src 192.168.1.100 metric 200 mtu 1400 advmss 1300 nexthop via 192.168.0.3 dev eth0 weight 1 nexthop via 192.168.1.3 dev eth1 weight 3",
                    "20007: from 10.5.72.0/25 fwmark 0x10/0xf0 lookup 17",
                ],
            ),
            (
                "-6",
                [
                    "fc00:5:0:3::/64 src fd78::100 metric 200 mtu 1400 advmss 1300 pref medium nexthop via fd77::3 dev eth0 weight 1 nexthop via fd78::3 dev eth1 weight 3",
                    "20008: from all to fc00:5::/48 lookup 17",
                ],
            ),
        ] {
            let all = all(family);
            assert_eq!(all.lines().count(), 3, "{all}");
            for words in words {
                assert!(all.lines().any(|line| line.contains(words)), "{words:?} is not in:\n{all}");
            }
            assert!(all.lines().any(|line| line.contains(" table 17")), "{all}");
        }
        let again = second();
        declare(&again);
        assert_eq!(again.messages(), 0, "{}\n{}", all("-4"), all("-6"));
    });
}

#[test]
fn a_rule_steers_and_what_is_not_in_its_table_goes_by_the_main_one() {
    with_uplink(|node| {
        let table = Some(0);
        let near = plain("10.5.3.0/24", 200, vec![hop(Device::External, "192.168.0.3")]);
        let far = PolicyRoute { table, ..plain("10.5.3.0/25", 200, vec![hop(uplink(), "192.168.1.3")]) };
        node.commit(put(3, entries([near, far])));
        let mark = Some(PacketMark { value: 0x20, mask: 0x20 });
        let to = Some(prefix("10.5.0.0/16"));
        let rule = Rule { priority: 0, source: None, destination: to, mark, input: None, table: 0 };
        node.commit(rules([rule]));
        assert!(way("-4", "mark 0x21").contains("dev eth1"), "{}", way("-4", "mark 0x21"));
        assert!(way("-4", "").contains("dev eth0"), "{}", way("-4", ""));
        let other = of_device("ip", "route get 10.5.3.200 mark 0x21");
        assert!(other.contains("dev eth0"), "{other}");
        node.commit(rules([]));
        assert!(way("-4", "mark 0x21").contains("dev eth0"), "{}", all("-4"));
    });
}

#[test]
fn what_others_delete_or_change_of_it_comes_back() {
    with_uplink(|node| {
        let mut all_entries = entries(["-4", "-6"].map(ecmp));
        all_entries
            .extend(entries(["-4", "-6"].map(|family| PolicyRoute { table: Some(1), ..ecmp(family) })));
        node.commit(put(3, all_entries));
        let rule = |network: &str| Rule {
            priority: 1,
            source: Some(prefix(network)),
            destination: None,
            mark: None,
            input: None,
            table: 1,
        };
        node.commit(rules([rule("10.5.0.0/16"), rule("fc00:5::/48")]));
        node.prune_stale();
        let whole = (all("-4"), all("-6"));
        assert_eq!((whole.0.lines().count(), whole.1.lines().count()), (3, 3), "{whole:?}");
        for change in [
            "-4 route del 10.5.3.0/24 metric 200",
            "-6 route del fc00:5:0:3::/64 metric 200",
            "-6 route del fc00:5:0:3::/64 metric 200 via fd78::3 dev eth1",
            "-4 route replace 10.5.3.0/24 metric 200 via 192.168.0.77 dev eth0",
            "-6 route replace fc00:5:0:3::/64 metric 200 via fd77::77 dev eth0",
            "-4 rule del priority 20001",
            "-6 rule del priority 20001",
            "link set eth1 down",
            "link set eth0 down",
        ] {
            ip(change);
            if let Some(device) = change.strip_suffix(" down") {
                until("it is noticed", || (all("-4"), all("-6")) != whole);
                ip(&format!("{device} up"));
                let [at, name] =
                    if device.ends_with('0') { ["fd77::100", "eth0"] } else { ["fd78::100", "eth1"] };
                ip(&format!("-6 address add {at}/64 dev {name} nodad"));
            }
            until(change, || (all("-4"), all("-6")) == whole);
        }
    });
}

#[test]
fn without_its_carrier_the_better_way_gives_way_and_is_back_with_it() {
    with_uplink(|node| {
        for family in ["-4", "-6"] {
            let n = if family == "-4" { 3 } else { 4 };
            node.commit(put(n, two_ways(family)));
        }
        node.prune_stale();
        let over = |device: &str| {
            ["-4", "-6"].iter().all(|family| way(family, "").contains(&format!("dev {device}")))
        };
        assert!(over("eth0"));
        ip("link set far down");
        until("the other way", || over("eth1"));
        ip("link set far up");
        until("the better way again", || over("eth0"));
        // Both carriers lost: what is there stays.
        let both = (all("-4"), all("-6"));
        ip("link set far1 down");
        until("the worse one has gone", || all("-4") != both.0 && all("-6") != both.1);
        ip("link set far down");
        until("both are there again", || {
            let words = |text: &str| text.replace(" linkdown", "").replace(" dead", "");
            (words(&all("-4")), words(&all("-6"))) == both
        });
    });
}

#[test]
fn of_several_next_hops_those_with_a_carrier_are_used() {
    with_uplink(|node| {
        node.commit(put(3, entries(["-4", "-6"].map(ecmp))));
        node.prune_stale();
        let whole = (all("-4"), all("-6"));
        ip("link set far1 down");
        until("one next hop is left", || !all("-4").contains("nexthop") && !all("-6").contains("nexthop"));
        assert!(all("-4").contains("via 192.168.0.3 dev eth0") && all("-6").contains("via fd77::3 dev eth0"));
        ip("link set far1 up");
        until("both again", || (all("-4"), all("-6")) == whole);
        ip("link del eth1");
        until("one next hop is left", || !all("-4").contains("nexthop") && !all("-6").contains("nexthop"));
        add_uplink();
        until("both again", || (all("-4"), all("-6")) == whole);
    });
}

#[test]
fn a_route_that_is_not_ours_is_neither_replaced_nor_hidden_and_ours_comes_when_it_goes() {
    with_uplink(|node| {
        let theirs =
            |metric: u32| format!("10.5.3.0/24 via 192.168.0.77 dev eth0 proto static metric {metric}");
        for metric in [200, 250] {
            ip(&format!("route add {}", theirs(metric)));
            let report = node.commit(put(3, two_ways("-4")));
            let reasons: Vec<&str> = report.failures.iter().map(|(_, reason, _)| reason.as_str()).collect();
            let words = "a route that is not flannel's is in the way: via 192.168.0.77 dev eth0 proto static";
            assert!(reasons.iter().any(|reason| reason.starts_with(words)), "{reasons:?}");
            let there = ip("route show 10.5.3.0/24");
            assert!(
                there.contains(&format!("via 192.168.0.77 dev eth0 proto static metric {metric}")),
                "{there}"
            );
            assert!(!there.contains("via 192.168.0.3 "), "{there}");
            ip(&format!("route del {}", theirs(metric)));
            until("ours is there", || {
                ip("route show 10.5.3.0/24").contains("via 192.168.0.3 dev eth0 proto 119 metric 200")
            });
            node.commit(Transaction { peers: [(PeerId(3), None)].into(), ..Transaction::default() });
            assert_eq!(ip("route show 10.5.3.0/24"), "");
        }
        // Before ours: both are there, and the operator is told.
        ip(&format!("route add {}", theirs(150)));
        let report = node.commit(put(3, two_ways("-4")));
        assert_eq!(ip("route show 10.5.3.0/24").lines().count(), 3);
        assert_eq!(report.failures.len(), 2, "{report:?}");
    });
}

#[test]
fn what_a_run_before_has_left_goes_and_others_routes_and_rules_stay() {
    with_uplink(|_| {
        let node = node();
        node.commit(put(3, two_ways("-4")));
        node.commit(put(4, entries([PolicyRoute { table: Some(5), ..ecmp("-6") }])));
        let source = Some(prefix("fc00:5::/64"));
        let (destination, mark, input) = (None, None, None);
        node.commit(rules([Rule { priority: 1, source, destination, mark, input, table: 5 }]));
        assert_eq!((all("-4").lines().count(), all("-6").lines().count()), (2, 2));
        ip("route add 10.5.4.0/24 via 192.168.0.77 proto static metric 200");
        ip("rule add priority 20001 from 10.5.0.0/16 lookup 77");
        ip("route add 203.0.113.0/24 via 192.168.0.77 proto 119 metric 200");
        // Of this cluster, when it had other networks; and of another one.
        ip("-4 rule add priority 20001 from 10.5.1.0/24 lookup 1718616064 protocol 119");
        ip("-4 route add 10.5.9.0/24 via 192.168.0.9 table 1718616064 proto 119");
        ip("-4 rule add priority 20001 from 10.77.1.0/24 lookup 1718616064 protocol 119");
        ip("-4 route add 10.77.9.0/24 via 192.168.0.9 table 1718616064 proto 119");
        drop(node);
        let again = second();
        assert_eq!(all("-6").lines().count(), 2, "not before all leases are known");
        again.prune_stale();
        let left = all("-4");
        let mut left: Vec<&str> =
            left.lines().map(|line| line.split(" via").next().unwrap_or(line)).collect();
        left.sort_unstable();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left[0].starts_with("10.77.9.0/24") && left[2] == "203.0.113.0/24", "{left:?}");
        assert!(left[1].starts_with("20001: from 10.77.1.0/24"), "{left:?}");
        assert_eq!(all("-6"), "");
        assert!(ip("route show 10.5.4.0/24").contains("192.168.0.77"));
        assert!(ip("rule show").contains("from 10.5.0.0/16 lookup 77"));
    });
}

#[test]
fn both_families_have_a_better_route_over_the_link_and_a_worse_one_over_a_tunnel() {
    with_uplink(|node| {
        let mut tunnel = vxlan();
        tunnel.name = "flannel-v6.1".into();
        tunnel.mtu = 1430;
        tunnel.local = address("fd77::100");
        let over = |subnet: &str, via: &str, device: Device| {
            plain(subnet, 300, vec![Hop { onlink: true, ..hop(device, via) }])
        };
        let name: Arc<str> = "flannel-v6.1".into();
        let devices =
            [(DEVICE.into(), DeviceSpec::Vxlan(vxlan())), (Arc::clone(&name), DeviceSpec::Vxlan(tunnel))];
        node.commit(Transaction { devices: devices.into(), ..Transaction::default() });
        let v4 = [
            plain("10.5.3.0/24", 200, vec![hop(Device::External, "192.168.0.3")]),
            over("10.5.3.0/24", "10.5.3.0", own()),
        ];
        let v6 = [
            plain("fc00:5:0:3::/64", 200, vec![hop(Device::External, "fd77::3")]),
            over("fc00:5:0:3::/64", "fc00:5:0:3::", Device::Own(name)),
        ];
        let report = node.commit(put(3, entries(v4.into_iter().chain(v6))));
        assert!(report.failures.is_empty() && report.device_failure.is_none(), "{report:?}");
        assert_eq!((all("-4").lines().count(), all("-6").lines().count()), (2, 2), "{}", all("-6"));
    });
}
