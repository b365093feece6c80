//! Next hops that put something around packets, and rules about where packets have come in.

use flannel_model::policy_routing::{Encapsulation, Hop, PolicyRoute, Rule, TunnelKey};

use super::policy::{add_uplink, all, entries, hop, plain, rules, until, uplink, way};
use super::*;

/// A VXLAN device in external mode, which stands for one of the plugin's own.
const TUNNEL: &str = "vx0";
const SUBNETS: [(&str, &str); 2] = [("-4", "10.5.3.0/24"), ("-6", "fc00:5:0:3::/64")];

fn with_tunnel(test: impl FnOnce(&Node) + Send + 'static) {
    bare_namespace(move || {
        add_uplink();
        ip("link add vx0 type vxlan external dstport 4789");
        ip("link set vx0 up");
        test(&node());
    });
}

/// As one run of the daemon, and the next.
fn node() -> Node {
    let uplinks = vec!["eth1".to_owned(), TUNNEL.to_owned()];
    Node::in_context(Context { uplinks, ..Context::default() })
}

fn tunnel() -> Device {
    Device::Uplink(Arc::new(TUNNEL.to_owned()))
}

fn around(encapsulation: Encapsulation, hop: Hop) -> Hop {
    Hop { encapsulation: Some(Arc::new(encapsulation)), ..hop }
}

/// A way that the encapsulation says.
fn by(encapsulation: Encapsulation, device: Device) -> Hop {
    let hop = Hop { device, via: None, onlink: false, weight: 1, encapsulation: None };
    around(encapsulation, hop)
}

fn segments(nodes: &[&str]) -> Encapsulation {
    Encapsulation::Segments(nodes.iter().map(|node| node.parse().expect("an address")).collect())
}

fn key(destination: &str, id: Option<u64>, ttl: Option<u8>, dscp: u8) -> Encapsulation {
    Encapsulation::Tunnel(TunnelKey { destination: address(destination), id, ttl, dscp })
}

/// All kinds that this kernel has, to both subnets of a peer, single and several, in the main table and beside it.
fn everything() -> Vec<Entry> {
    let mut all = Vec::new();
    for (family, subnet) in SUBNETS {
        let is_ipv4 = family == "-4";
        all.push(plain(subnet, 200, vec![by(segments(&["fd77::9", "fd77::3"]), Device::External)]));
        let [first, second] = if is_ipv4 { ["192.168.0.3", "192.168.1.3"] } else { ["fd77::3", "fd78::3"] };
        let several = vec![
            around(segments(&["fd77::3"]), hop(Device::External, first)),
            Hop { weight: 3, ..around(segments(&["fd77::9", "fd77::3"]), hop(Device::External, first)) },
            hop(uplink(), second),
        ];
        all.push(PolicyRoute { table: Some(1), mtu: Some(1400), ..plain(subnet, 10, several) });
        all.push(plain(subnet, 300, vec![by(key("192.168.0.3", Some(7), None, 0), tunnel())]));
        all.push(plain(subnet, 400, vec![by(key("fd77::3", Some(0), Some(9), 10), tunnel())]));
        all.push(plain(subnet, 500, vec![by(key("192.168.0.3", None, None, 0), tunnel())]));
    }
    // Without gateways, which IPv4's kernel takes alone.
    let ways =
        vec![by(segments(&["fd77::3"]), Device::External), by(segments(&["fd77::9", "fd77::3"]), uplink())];
    all.push(plain("10.5.3.128/25", 200, ways));
    let ways = vec![
        by(key("192.168.0.3", Some(1), None, 0), tunnel()),
        by(key("fd77::3", Some(2), None, 0), tunnel()),
    ];
    all.push(plain("10.5.3.0/25", 200, ways));
    entries(all)
}

#[test]
fn what_is_around_packets_is_as_declared_and_a_restart_sends_nothing() {
    with_tunnel(|node| {
        let declare = |node: &Node| {
            node.commit(put(3, everything()));
            let report = node.prune_stale();
            assert!(report.failures.is_empty(), "{report:?}");
        };
        declare(node);
        let [v4, v6] = ["-4", "-6"].map(all);
        assert_eq!((v4.lines().count(), v6.lines().count()), (7, 5), "{v4}\n{v6}");
        for (shown, words) in [
            (&v4, "10.5.3.0/24 encap seg6 mode encap segs 2 [ fd77::9 fd77::3 ] dev eth0"),
            (&v6, "fc00:5:0:3::/64 encap seg6 mode encap segs 2 [ fd77::9 fd77::3 ] dev eth0"),
            (
                &v4,
                "nexthop encap seg6 mode encap segs 2 [ fd77::9 fd77::3 ] via 192.168.0.3 dev eth0 weight 3",
            ),
            (&v6, "nexthop encap seg6 mode encap segs 2 [ fd77::9 fd77::3 ] via fd77::3 dev eth0 weight 3"),
            (&v4, "encap ip id 7 src 0.0.0.0 dst 192.168.0.3 ttl 0 tos 0 key dev vx0"),
            (&v6, "encap ip6 id 0 src :: dst fd77::3 hoplimit 9 tc 40 key dev vx0"),
            (&v6, "encap ip id 0 src 0.0.0.0 dst 192.168.0.3 ttl 0 tos 0 dev vx0"),
            (&v4, "nexthop encap seg6 mode encap segs 1 [ fd77::3 ] dev eth0 weight 1"),
            (&v4, "nexthop encap ip6 id 2 src :: dst fd77::3 hoplimit 0 tc 0 key dev vx0 weight 1"),
        ] {
            assert!(shown.contains(words), "{words:?} is not in:\n{shown}");
        }
        let again = self::node();
        declare(&again);
        assert_eq!(again.messages(), 0, "{}\n{}", all("-4"), all("-6"));
        drop(again);
        node.commit(put(3, Vec::new()));
        assert_eq!((all("-4"), all("-6")), (String::new(), String::new()));
    });
}

#[test]
fn what_others_put_around_packets_is_put_right() {
    with_tunnel(|node| {
        node.commit(put(3, everything()));
        node.prune_stale();
        let whole = (all("-4"), all("-6"));
        let mut changes = vec![
            "-4 route replace 10.5.3.128/25 metric 200 encap seg6 mode encap segs fd77::66 dev eth0 proto 119".to_owned(),
        ];
        for (family, subnet) in SUBNETS {
            let change = |what: &str| format!("{family} route replace {subnet} {what} proto 119");
            changes.push(change("metric 200 encap seg6 mode encap segs fd77::66,fd77::3 dev eth0"));
            changes.push(change("metric 200 encap seg6 mode encap segs fd77::9,fd77::3 dev eth1"));
            changes.push(change("metric 200 encap seg6 mode inline segs fd77::9 dev eth0").replace(
                "mode inline segs fd77::9",
                if family == "-6" { "mode inline segs fd77::9" } else { "mode encap segs fd77::9" },
            ));
            changes.push(change("metric 200 dev eth0"));
            changes.push(change("metric 300 encap ip id 8 dst 192.168.0.3 key dev vx0"));
            changes.push(change("metric 300 encap ip id 7 dst 192.168.0.66 key dev vx0"));
            changes.push(change("metric 300 encap ip id 7 dst 192.168.0.3 csum key dev vx0"));
            changes.push(change("metric 500 encap ip id 0 dst 192.168.0.3 key dev vx0"));
            changes.push(format!("{family} route del {subnet} metric 10 table {}", table_of(&whole.0)));
        }
        for change in changes {
            ip(&change);
            until(&change, || (all("-4"), all("-6")) == whole);
        }
    });
}

/// The number of the table that a route is in.
fn table_of(shown: &str) -> String {
    let (_, behind) = shown.split_once(" table ").expect("one is in a table");
    behind.split_whitespace().next().expect("a number").to_owned()
}

#[test]
fn other_segments_take_the_place_of_the_former_ones_and_others_routes_stay() {
    with_tunnel(|node| {
        let theirs = "fc00:5:0:3::/64 encap seg6 mode encap segs fd77::66 dev eth0 proto static metric 900";
        ip(&format!("-6 route add {theirs}"));
        let through = |nodes: &[&str]| {
            entries(SUBNETS.map(|(_, subnet)| PolicyRoute {
                table: Some(0),
                ..plain(subnet, 200, vec![by(segments(nodes), Device::External)])
            }))
        };
        node.commit(put(3, through(&["fd77::9", "fd77::3"])));
        node.prune_stale();
        for nodes in [&["fd77::8", "fd77::3"][..], &["fd77::3"], &["fd77::9", "fd77::8", "fd77::3"]] {
            let report = node.commit(put(3, through(nodes)));
            assert!(report.failures.is_empty(), "{report:?}");
            let words = format!("segs {} [ {} ]", nodes.len(), nodes.join(" "));
            for (family, _) in SUBNETS {
                let all = all(family);
                assert!(all.lines().count() == 1 && all.contains(&words), "{words:?}: {all}");
            }
        }
        node.commit(Transaction { peers: [(PeerId(3), None)].into(), ..Transaction::default() });
        assert_eq!((all("-4"), all("-6")), (String::new(), String::new()));
        assert!(ip("-6 route show metric 900").contains("segs 1 [ fd77::66 ]"));
    });
}

#[test]
fn labels_are_there_or_the_operator_is_told_what_the_kernel_lacks() {
    with_tunnel(|node| {
        let by_hand = Command::new("ip")
            .args("route add 203.0.113.0/24 encap mpls 100 via 192.168.0.9".split(' '))
            .output()
            .expect("iproute2 is installed");
        let labelled =
            |via: &str| around(Encapsulation::Labels([100, 200].into()), hop(Device::External, via));
        let [v4, v6] = [("10.5.3.0/24", "192.168.0.3"), ("fc00:5:0:3::/64", "fd77::3")]
            .map(|(subnet, via)| plain(subnet, 200, vec![labelled(via)]));
        let labelled = entries([v4, v6]);
        let report = node.commit(put(3, labelled.clone()));
        if by_hand.status.success() {
            assert!(report.failures.is_empty(), "{report:?}");
            for family in ["-4", "-6"] {
                assert!(all(family).contains("encap mpls 100/200 via"), "{}", all(family));
            }
            let again = self::node();
            again.commit(put(3, labelled));
            assert_eq!(again.messages(), 0);
        } else {
            assert_eq!(report.failures.len(), 2, "{report:?}");
            for (_, reason, _) in &report.failures {
                assert!(
                    reason
                        .contains("this kernel has no MPLS, or has not loaded it: `modprobe mpls_iptunnel`"),
                    "{reason}"
                );
            }
        }
    });
}

#[test]
fn an_operator_is_told_where_a_node_drops_what_comes_by_segments() {
    with_tunnel(|node| {
        let set = |name: &str, value: &str| {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/seg6_enabled"), value).expect("a switch");
        };
        let problems = |node: &Node| {
            let peers = node.runtime.block_on(node.datapath.peers()).expect("peers");
            peers.get(&PeerId(3)).map(|report| report.problems.clone()).unwrap_or_default()
        };
        let way =
            |encapsulation| entries([plain("10.5.3.0/24", 200, vec![by(encapsulation, Device::External)])]);
        node.commit(put(3, way(segments(&["fd77::3"]))));
        let both = "this node drops what comes to it by segments: net.ipv6.conf.all.seg6_enabled and net.ipv6.conf.eth0.seg6_enabled are 0, and have to be 1";
        assert_eq!(problems(node), [both]);
        set("all", "1");
        node.prune_stale();
        assert_eq!(
            problems(node),
            [
                "this node drops what comes to it by segments: net.ipv6.conf.eth0.seg6_enabled is 0, and has to be 1"
            ]
        );
        set("eth0", "1");
        node.prune_stale();
        assert_eq!(problems(node), [""; 0]);
        set("eth0", "0");
        node.commit(put(3, entries([plain("10.5.3.0/24", 200, vec![hop(Device::External, "192.168.0.3")])])));
        assert_eq!(problems(node), [""; 0], "there are no segments");
    });
}

/// Rules about where packets have come in, one for each kind of interface.
fn by_input() -> Vec<Rule> {
    let rule = |priority, network: &str, input| Rule {
        priority,
        source: None,
        destination: Some(prefix(network)),
        mark: None,
        input: Some(input),
        table: 0,
    };
    vec![
        rule(1, "10.5.0.0/16", Device::External),
        rule(2, "10.5.0.0/16", uplink()),
        rule(3, "fc00:5::/48", uplink()),
        rule(4, "fc00:5::/48", own()),
    ]
}

#[test]
fn rules_are_about_where_packets_have_come_in_also_when_that_is_away_or_has_another_name() {
    with_tunnel(|node| {
        let near = plain("10.5.3.0/24", 200, vec![hop(Device::External, "192.168.0.3")]);
        let far =
            PolicyRoute { table: Some(0), ..plain("10.5.3.0/24", 200, vec![hop(uplink(), "192.168.1.3")]) };
        let declare = |node: &Node| {
            node.commit(put(3, entries([near.clone(), far.clone()])));
            node.commit(rules(by_input()));
            node.prune_stale();
        };
        declare(node);
        let shown = || [all("-4"), all("-6")].join("\n");
        let is_there = |words: &[&str]| {
            let shown = shown();
            words.iter().all(|words| shown.lines().any(|line| line.contains(words)))
        };
        let whole = [
            "20001: from all to 10.5.0.0/16 iif eth0 lookup",
            "20002: from all to 10.5.0.0/16 iif eth1 lookup",
            "20003: from all to fc00:5::/48 iif eth1 lookup",
            // The device is not there yet.
            "20004: from all to fc00:5::/48 iif flannel.1 [detached] lookup",
        ];
        assert!(is_there(&whole), "{}", shown());
        ip("link add pods type bridge");
        ip("link set pods up");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a switch");
        let from = |input: &str| way("-4", &format!("from 10.5.9.9 iif {input}"));
        assert!(from("eth1").contains("dev eth1"), "{}", from("eth1"));
        assert!(from("pods").contains("dev eth0"), "{}", from("pods"));
        let again = self::node();
        declare(&again);
        assert_eq!(again.messages(), 0, "{}", shown());
        drop(again);
        for priority in [1, 2, 3, 4] {
            let family = if priority < 3 { "-4" } else { "-6" };
            ip(&format!("{family} rule del priority 2000{priority}"));
            until("it comes back", || is_there(&whole));
        }
        // Somebody has another input in the place of one of ours.
        ip("-4 rule del priority 20002");
        ip("-4 rule add priority 20002 to 10.5.0.0/16 iif pods lookup 77");
        until("it comes back", || is_there(&whole));
        assert!(
            is_there(&["to 10.5.0.0/16 iif pods lookup 77"])
                || ip("rule show").contains("iif pods lookup 77")
        );
        ip("link set eth1 down");
        ip("link set eth1 name eth7");
        until("none have come in", || {
            is_there(&["20002: from all to 10.5.0.0/16 iif eth1 [detached] lookup"])
        });
        ip("link set eth7 name eth1");
        ip("link set eth1 up");
        until("it is back", || is_there(&whole));
        ip("link del eth1");
        until("none have come in", || {
            is_there(&["20003: from all to fc00:5::/48 iif eth1 [detached] lookup"])
        });
        add_uplink();
        until("it is back", || is_there(&whole));
        node.commit(rules([]));
        assert!(!shown().contains("iif"), "{}", shown());
    });
}
