//! The route over a tunnel of this process: behind those of others, so that upstream's daemon in our place has the way for itself.

use std::sync::atomic::{AtomicBool, Ordering};

use flannel_model::entry::TunnelDevice;
use flannel_model::offloads::Offloads;
use proptest::prelude::*;

use super::*;
use crate::Probe;

const NETWORK: &str = "10.5.0.0/16";
const OURS: &str = "10.5.0.0/16 dev flannel0 scope link metric 100";

/// A tunnel with the node's address, over which the whole cluster is reached.
fn tunnel() -> Transaction {
    let device = TunnelDevice {
        name: "flannel0".into(),
        port: 8285,
        mtu: 1472,
        ipv4: Some([192, 168, 0, 100].into()),
        ipv6: None,
        offloads: Offloads::ALL,
    };
    Transaction {
        devices: [("flannel0".into(), DeviceSpec::Tunnel(device))].into(),
        addresses: [(Arc::from("flannel0"), [prefix("10.5.72.0/32")].into())].into(),
        networks: [(Arc::from("flannel0"), [prefix(NETWORK)].into())].into(),
        ..Transaction::default()
    }
}

/// The same network over another kind of device.
fn vxlan_network() -> Transaction {
    Transaction { networks: [(Arc::from(DEVICE), [prefix(NETWORK)].into())].into(), ..base() }
}

/// Whether there are tunnels here; says so if not.
fn tun() -> bool {
    let there = std::path::Path::new("/dev/net/tun").exists();
    if !there {
        flannel_test_support::skip("there is no /dev/net/tun (module tun)");
    }
    there
}

/// A test in a namespace, where there can be tunnels.
fn with_tun(test: impl FnOnce() + Send + 'static) {
    if tun() {
        bare_namespace(test);
    }
}

fn routes() -> Vec<String> {
    let lines = ip(&format!("route show {NETWORK}"));
    lines
        .lines()
        .map(|line| format!("{NETWORK} {}", line.trim().trim_start_matches(NETWORK).trim()))
        .collect()
}

/// Which device packets for pods of others leave by.
fn way() -> String {
    let route = ip("route get 10.5.9.9");
    route.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap_or_default().to_owned()
}

/// Waits until these are the routes to the network.
fn are(expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while routes() != expected {
        assert!(Instant::now() < deadline, "{:?} are not {expected:?}", routes());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many entries cannot be what they should be; answers why the last of them.
fn failing(node: &Node, count: usize) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let report = node.runtime.block_on(node.datapath.report()).expect("report");
        if report.failures.len() == count {
            return report.failures.into_iter().last().map(|(_, reason, _)| reason);
        }
        assert!(Instant::now() < deadline, "{report:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What upstream does: the first free device, without a process a persistent one, with the node's address and its route.
fn upstreams() {
    ip("tuntap add flannel1 mode tun");
    ip("address add 10.5.72.0/32 dev flannel1");
    ip("link set flannel1 up");
    ip("route add 10.5.0.0/16 dev flannel1");
}

#[test]
fn upstreams_route_comes_in_beside_ours_and_wins_until_it_goes() {
    with_tun(|| {
        let node = Node::new();
        node.commit(tunnel());
        node.prune_stale();
        are(&[OURS]);
        drop(node);
        upstreams();
        assert_eq!(way(), "flannel1");
        ip("link delete flannel1");
        let again = Node::new();
        again.commit(tunnel());
        again.prune_stale();
        assert_eq!(again.messages(), 0, "a restart changes nothing");
        assert_eq!((way().as_str(), routes()), ("flannel0", vec![OURS.to_owned()]));
    });
}

#[test]
fn a_better_route_of_somebody_else_is_told_of_and_stays() {
    if !tun() {
        return;
    }
    for (better, shown) in [
        ("via 192.168.0.77 dev eth0", "via 192.168.0.77 dev eth0 proto boot"),
        ("via 192.168.0.77 dev eth0 metric 50", "via 192.168.0.77 dev eth0 proto boot metric 50"),
        // Over the very device, but no flannel has made it.
        ("dev flannel0 proto static metric 7", "dev flannel0 proto static metric 7"),
    ] {
        // Before ours and after it: the same comes of it.
        for first in [true, false] {
            if first && better.contains("flannel0") {
                continue;
            }
            bare_namespace(move || {
                let node = Node::new();
                if first {
                    ip(&format!("route add {NETWORK} {better}"));
                }
                node.commit(tunnel());
                node.prune_stale();
                if !first {
                    ip(&format!("route add {NETWORK} {better}"));
                }
                let reason = failing(&node, 1).expect("a reason");
                assert!(reason.contains("in the way") && reason.ends_with(shown), "{reason}");
                assert!(routes().len() == 2 && routes()[1] == OURS, "{:?}", routes());
                ip(&format!("route del {NETWORK} {better}"));
                failing(&node, 0);
                are(&[OURS]);
            });
        }
    }
}

#[test]
fn a_worse_route_of_somebody_else_is_no_concern_of_ours() {
    with_tun(|| {
        let node = Node::new();
        ip(&format!("route add {NETWORK} via 192.168.0.77 dev eth0 metric 200"));
        let report = node.commit(tunnel());
        assert!(report.failures.is_empty() && routes().len() == 2 && routes()[0] == OURS, "{report:?}");
        node.prune_stale();
        assert_eq!(routes().len(), 2);
    });
}

#[test]
fn the_place_of_ours_that_is_somebody_elses_stays_his_until_it_is_free() {
    with_tun(|| {
        let node = Node::new();
        ip(&format!("route add {NETWORK} via 192.168.0.77 dev eth0 metric 100"));
        node.commit(tunnel());
        let reason = failing(&node, 1).expect("a reason");
        assert!(reason.contains("via 192.168.0.77") && routes().len() == 1, "{reason}");
        ip(&format!("route del {NETWORK}"));
        are(&[OURS]);
        failing(&node, 0);
    });
}

#[test]
fn the_route_without_a_metric_of_an_earlier_version_is_replaced_without_a_gap() {
    with_tun(|| {
        let earlier = Node::new();
        earlier.commit(tunnel());
        drop(earlier);
        ip(&format!("route del {NETWORK}"));
        ip(&format!("route add {NETWORK} dev flannel0 scope link"));
        let stop = Arc::new(AtomicBool::new(false));
        let watcher = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let probe = Probe::open().expect("a socket");
                let (mut looks, mut gaps) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    looks += 1;
                    gaps += u32::from(!probe.is_on_link(address("10.5.9.9"), "flannel0").expect("an answer"));
                }
                (looks, gaps)
            }
        });
        let node = Node::new();
        node.commit(tunnel());
        are(&[OURS]);
        node.prune_stale();
        assert_eq!((way().as_str(), routes()), ("flannel0", vec![OURS.to_owned()]));
        stop.store(true, Ordering::Relaxed);
        let (looks, gaps) = watcher.join().expect("looks");
        assert!(looks > 10 && gaps == 0, "{gaps} of {looks} found none");
        drop(node);
        let again = Node::new();
        again.commit(tunnel());
        again.prune_stale();
        assert_eq!(again.messages(), 0);
    });
}

#[test]
fn the_network_goes_from_one_device_to_a_tunnel_and_back() {
    with_tun(|| {
        let node = Node::new();
        node.commit(vxlan_network());
        node.prune_stale();
        let vxlans = "10.5.0.0/16 dev flannel.1 scope link";
        are(&[vxlans]);
        for _ in 0..2 {
            node.replace(tunnel()).expect("replaced");
            are(&[OURS]);
            node.replace(vxlan_network()).expect("replaced");
            are(&[vxlans]);
        }
        // What a former backend left, whose device is there yet, is no hindrance.
        drop(node);
        let after = Node::new();
        after.commit(tunnel());
        after.prune_stale();
        are(&[OURS]);
    });
}

#[test]
fn a_swap_to_a_tunnel_whose_network_somebody_else_has_is_undone() {
    with_tun(|| {
        let node = Node::new();
        node.commit(base());
        node.prune_stale();
        let theirs = format!("{NETWORK} via 192.168.0.77 dev eth0");
        ip(&format!("route add {theirs}"));
        let refused = node.replace(tunnel()).expect_err("refused");
        assert!(refused.contains("in the way"), "{refused}");
        are(&[&theirs]);
    });
}

#[test]
fn what_others_do_to_the_route_is_put_right() {
    with_tun(|| {
        let node = Node::new();
        node.commit(tunnel());
        node.prune_stale();
        for damage in [
            format!("route del {NETWORK}"),
            format!("route replace {NETWORK} via 192.168.0.77 dev eth0 metric 100"),
            // Over a device of ours nothing else belongs.
            format!("route add {NETWORK} dev flannel0 scope link"),
            format!("route add {NETWORK} dev flannel0"),
            "link set flannel0 down".to_owned(),
            "link delete flannel0".to_owned(),
        ] {
            ip(&damage);
            are(&[OURS]);
            failing(&node, 0);
        }
    });
}

/// What happens to the routes to the network; each may fail, if what it is about is not there.
#[derive(Clone, Debug)]
enum Happening {
    /// Somebody, or an earlier version of ours, does this.
    Others(&'static str),
    /// Another plugin with a tunnel or with another kind of device.
    Swap { tunnel: bool },
    /// The daemon dies, and another one starts, maybe with another backend.
    Restart { tunnel: bool },
}

const OTHERS: [&str; 10] = [
    "route add 10.5.0.0/16 via 192.168.0.77",
    "route add 10.5.0.0/16 via 192.168.0.77 metric 50",
    "route add 10.5.0.0/16 via 192.168.0.77 metric 100",
    "route replace 10.5.0.0/16 via 192.168.0.77 metric 100",
    "route add 10.5.0.0/16 dev flannel0 scope link",
    "route add 10.5.0.0/16 dev flannel0",
    "route del 10.5.0.0/16",
    "route del 10.5.0.0/16 metric 100",
    "link set flannel0 down",
    "link del flannel0",
];

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        6 => (0..OTHERS.len()).prop_map(|at| Happening::Others(OTHERS[at])),
        1 => any::<bool>().prop_map(|tunnel| Happening::Swap { tunnel }),
        1 => any::<bool>().prop_map(|tunnel| Happening::Restart { tunnel }),
    ];
    proptest::collection::vec(one, 1..12)
}

fn network(over_tunnel: bool) -> Transaction {
    if over_tunnel { tunnel() } else { vxlan_network() }
}

fn ends_with_one_route(happenings: &[Happening]) {
    let start = |over_tunnel| {
        let node = Node::new();
        node.commit(network(over_tunnel));
        node.prune_stale();
        node
    };
    let (mut node, mut over_tunnel) = (start(true), true);
    for happening in happenings {
        match happening {
            Happening::Others(command) => drop(of_device("ip", command)),
            Happening::Swap { tunnel } => {
                // One in whose way something is is undone.
                if node.replace(network(*tunnel)).is_ok() {
                    over_tunnel = *tunnel;
                }
            }
            Happening::Restart { tunnel } => {
                drop(node);
                over_tunnel = *tunnel;
                node = start(over_tunnel);
            }
        }
    }
    let theirs = || routes().into_iter().find(|route| route.contains("192.168.0.77"));
    while let Some(route) = theirs() {
        of_device("ip", &format!("route del {route}"));
    }
    are(&[if over_tunnel { OURS } else { "10.5.0.0/16 dev flannel.1 scope link" }]);
    failing(&node, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_routes_ours_is_the_only_one_once_the_others_have_gone(happenings in happenings()) {
        if std::path::Path::new("/dev/net/tun").exists() {
            bare_namespace(move || ends_with_one_route(&happenings));
        }
    }
}
