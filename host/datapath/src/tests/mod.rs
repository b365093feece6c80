//! The datapath against the real kernel, in a network namespace of each test's own. Needs the right to make one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::entry::DEFAULT_VXLAN_PORT;
use flannel_model::entry::{Device, DeviceSpec, Entry, Key, Mac, Vxlan};
use flannel_model::ledger::{PeerId, Transaction};
use ipnet::IpNet;

use super::{Context, Datapath, Report};

mod blackholes;
mod carrier;
mod devices;
mod encapsulation;
mod foreign;
mod obstacles;
mod ownership;
mod policy;
mod random;
mod tunnel;

const DEVICE: &str = "flannel.1";

/// Runs a test on a thread in a new network namespace with an external interface `eth0`; the namespace goes with it.
fn in_namespace(test: impl FnOnce(&Node) + Send + 'static) {
    bare_namespace(move || test(&Node::new()));
}

/// The same without a datapath.
fn bare_namespace(test: impl FnOnce() + Send + 'static) {
    let outcome = std::thread::spawn(move || {
        // SAFETY: only the network namespace changes, and only this thread's; no memory or descriptor table is unshared.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect(
            "a network namespace: run the tests as root, or under `unshare --user --map-root-user --net`",
        );
        ip("link set lo up");
        ip("link add eth0 type veth peer name far");
        ip("link set far up");
        ip("link set eth0 up");
        ip("address add 192.168.0.100/24 dev eth0");
        ip("-6 address add fd77::100/64 dev eth0 nodad");
        test();
    })
    .join();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn run(program: &str, arguments: &str) -> String {
    let output =
        Command::new(program).args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn ip(arguments: &str) -> String {
    run("ip", arguments)
}

fn prefix(text: &str) -> IpNet {
    text.parse().expect("prefix")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn own() -> Device {
    Device::Own(DEVICE.into())
}

fn vxlan() -> Vxlan {
    Vxlan {
        name: DEVICE.into(),
        vni: 1,
        port: DEFAULT_VXLAN_PORT,
        local: address("192.168.0.100"),
        learning: false,
        gbp: false,
        mtu: 1450,
        mac: Mac([0x9e, 1, 2, 3, 4, 5]),
    }
}

/// The node's own device and address, as `register` and `lease-acquired` declare them.
fn base() -> Transaction {
    Transaction {
        devices: [(DEVICE.into(), DeviceSpec::Vxlan(vxlan()))].into(),
        addresses: [(Arc::from(DEVICE), [prefix("10.5.72.0/32")].into())].into(),
        ..Transaction::default()
    }
}

/// The entries of the `n`th peer.
fn peer(n: u8) -> Vec<Entry> {
    let subnet = prefix(&format!("10.5.{n}.0/24"));
    let mac = Mac([0x9e, 9, 9, 9, 9, n]);
    vec![
        Entry::Neighbour { address: subnet.addr(), link_address: mac.into(), device: own() },
        Entry::Fdb { mac, destination: address(&format!("192.168.0.{n}")), device: own() },
        Entry::Route { destination: subnet, via: Some(subnet.addr()), onlink: true, device: own() },
    ]
}

fn put(n: u8, entries: Vec<Entry>) -> Transaction {
    Transaction { peers: [(PeerId(n.into()), Some(entries))].into(), ..Transaction::default() }
}

/// A datapath, and the means to wait for it from a test's thread.
struct Node {
    datapath: Datapath,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new() -> Self {
        Self::recording(None)
    }

    /// A node that writes down in this file which routes are its.
    fn recording(record: Option<PathBuf>) -> Self {
        Self::in_context(Context { record, ..Context::default() })
    }

    fn in_context(context: Context) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let (datapath, _) =
            Datapath::start("eth0", vec![prefix("10.5.0.0/16"), prefix("fc00:5::/48")], context)
                .expect("datapath");
        Self { datapath, runtime }
    }

    fn commit(&self, transaction: Transaction) -> Report {
        self.runtime.block_on(self.datapath.commit(transaction)).expect("commit")
    }

    fn replace(&self, whole: Transaction) -> Result<Report, String> {
        self.runtime.block_on(self.datapath.replace(whole)).expect("an answer")
    }

    fn prune_stale(&self) -> Report {
        self.runtime.block_on(self.datapath.prune_stale()).expect("adopt")
    }

    fn messages(&self) -> u64 {
        self.runtime.block_on(self.datapath.report()).expect("report").figures.messages
    }

    /// A node with its device, address and two peers.
    fn with_peers(&self) {
        self.commit(base());
        self.commit(put(3, peer(3)));
        self.commit(put(4, peer(4)));
        self.prune_stale();
    }
}

/// What a command says about a device that may be away at the moment.
fn of_device(program: &str, arguments: &str) -> String {
    let output =
        Command::new(program).args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The kernel's state in the words of iproute2, without what it counts or numbers.
fn state() -> String {
    let mut lines = vec![
        of_device("ip", "-brief address show dev flannel.1"),
        of_device("bridge", "fdb show dev flannel.1"),
        of_device("ip", "neigh show dev flannel.1 nud permanent"),
    ];
    for line in ip("route show").lines().chain(ip("-6 route show").lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut kept = words.clone();
        if let Some(at) = words.iter().position(|word| *word == "nhid") {
            kept.drain(at..at + 2);
        }
        lines.push(kept.join(" "));
    }
    let mut sorted: Vec<String> = lines
        .iter()
        .flat_map(|text| text.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| !line.contains("33:33:") && !line.starts_with("fe80"))
        .collect();
    sorted.sort();
    sorted.join("\n")
}

/// Waits until the kernel's state is this; fails with both if it does not come.
fn becomes(expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if strip_link_local(&state()) == strip_link_local(expected) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(strip_link_local(&state()), strip_link_local(expected));
}

/// A device that was made anew has its link-local address a moment later.
fn strip_link_local(text: &str) -> String {
    text.lines()
        .map(|line| line.split(' ').filter(|word| !word.starts_with("fe80")).collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_peer_looks_as_upstream_makes_it() {
    in_namespace(|node| {
        node.commit(base());
        let report = node.commit(put(3, peer(3)));
        assert!(report.failures.is_empty() && report.device_failure.is_none(), "{report:?}");
        let state = state();
        for line in [
            "10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink",
            "10.5.3.0 lladdr 9e:09:09:09:09:03 PERMANENT",
            "9e:09:09:09:09:03 dst 192.168.0.3 self permanent",
        ] {
            assert!(state.lines().any(|l| l == line), "{line:?} is not in:\n{state}");
        }
        assert!(state.contains("10.5.72.0/32"), "{state}");
        let link = ip("-details link show flannel.1");
        for part in [
            "mtu 1450",
            "vxlan id 1 local 192.168.0.100 dev eth0",
            "dstport 8472 nolearning",
            "9e:01:02:03:04:05",
        ] {
            assert!(link.contains(part), "{part:?} is not in:\n{link}");
        }
    });
}

#[test]
fn a_peer_that_goes_leaves_nothing() {
    in_namespace(|node| {
        node.commit(base());
        node.commit(put(4, peer(4)));
        let before = state();
        node.commit(put(3, peer(3)));
        node.commit(Transaction { peers: [(PeerId(3), None)].into(), ..Transaction::default() });
        assert_eq!(state(), before);
        assert_eq!(ip("nexthop show").lines().count(), 1, "only the other peer's nexthop object is left");
    });
}

#[test]
fn a_changed_peer_leaves_nothing_of_the_old() {
    in_namespace(|node| {
        node.with_peers();
        let before = state();
        let mut moved = peer(3);
        moved[1] =
            Entry::Fdb { mac: Mac([2, 0, 0, 0, 0, 1]), destination: address("192.168.0.77"), device: own() };
        node.commit(put(3, moved));
        assert!(!state().contains("9e:09:09:09:09:03 dst"), "{}", state());
        node.commit(put(3, peer(3)));
        assert_eq!(state(), before);
    });
}

#[test]
fn a_direct_route_leaves_over_the_external_interface() {
    in_namespace(|node| {
        node.commit(base());
        let route = Entry::Route {
            destination: prefix("10.5.3.0/24"),
            via: Some(address("192.168.0.3")),
            onlink: false,
            device: Device::External,
        };
        node.commit(put(3, vec![route]));
        assert!(state().contains("10.5.3.0/24 via 192.168.0.3 dev eth0"), "{}", state());
    });
}

#[test]
fn what_others_delete_comes_back() {
    in_namespace(|node| {
        node.with_peers();
        let whole = state();
        for (program, deletion) in [
            ("ip", "route del 10.5.3.0/24"),
            ("ip", "neigh del 10.5.3.0 dev flannel.1"),
            ("bridge", "fdb del 9e:09:09:09:09:03 dev flannel.1 dst 192.168.0.3"),
            ("ip", "address del 10.5.72.0/32 dev flannel.1"),
            ("ip", "nexthop flush"),
            ("ip", "link set flannel.1 down"),
            ("ip", "link set flannel.1 address 02:00:00:00:00:01"),
            ("ip", "link set flannel.1 mtu 1400"),
            ("ip", "link del flannel.1"),
        ] {
            run(program, deletion);
            becomes(&whole);
        }
    });
}

#[test]
fn what_others_overwrite_is_put_right() {
    in_namespace(|node| {
        node.with_peers();
        let whole = state();
        for (program, change) in [
            ("ip", "route replace 10.5.3.0/24 via 192.168.0.9 dev eth0"),
            ("ip", "neigh replace 10.5.3.0 lladdr 02:00:00:00:00:01 dev flannel.1 nud permanent"),
            ("bridge", "fdb replace 9e:09:09:09:09:03 dev flannel.1 dst 192.168.0.9"),
        ] {
            run(program, change);
            becomes(&whole);
        }
    });
}

#[test]
fn a_restart_with_nothing_changed_sends_nothing() {
    in_namespace(|node| {
        node.with_peers();
        let again = Node::new();
        again.with_peers();
        assert_eq!(again.messages(), 0);
    });
}

#[test]
fn what_upstream_left_is_adopted_and_its_stale_peers_go() {
    in_namespace(|node| {
        ip(
            "link add flannel.1 address 9e:01:02:03:04:05 mtu 1450 type vxlan id 1 local 192.168.0.100 dev eth0 dstport 8472 nolearning",
        );
        ip("address add 10.5.72.0/32 dev flannel.1");
        ip("link set flannel.1 up");
        for n in [3, 4, 5] {
            ip(&format!("neigh add 10.5.{n}.0 lladdr 9e:09:09:09:09:0{n} dev flannel.1 nud permanent"));
            run(
                "bridge",
                &format!("fdb add 9e:09:09:09:09:0{n} dev flannel.1 dst 192.168.0.{n} self permanent"),
            );
            ip(&format!("route add 10.5.{n}.0/24 via 10.5.{n}.0 dev flannel.1 onlink"));
        }
        let index = ip("-brief link show flannel.1");
        let mut both = base();
        both.merge(put(3, peer(3)));
        both.merge(put(4, peer(4)));
        node.commit(both);
        assert_eq!(node.messages(), 0, "all of it was there already");
        assert!(state().contains("10.5.5.0"), "nothing goes before all leases are known");
        node.prune_stale();
        assert_eq!(node.messages(), 3, "the stale peer's three entries");
        assert!(!state().contains("10.5.5.0") && state().contains("10.5.4.0"), "{}", state());
        assert_eq!(ip("-brief link show flannel.1"), index, "the device is the same");
    });
}

#[test]
fn what_is_not_ours_stays() {
    in_namespace(|node| {
        ip("route add 10.5.200.0/24 via 192.168.0.200 dev eth0");
        ip("route add 10.99.0.0/16 via 192.168.0.201 dev eth0");
        ip("nexthop add id 77 via 192.168.0.202 dev eth0");
        node.with_peers();
        ip("route add 10.98.0.0/16 dev flannel.1");
        node.commit(put(5, peer(5)));
        node.prune_stale();
        let state = state();
        for route in ["10.5.200.0/24 via", "10.99.0.0/16 via", "10.98.0.0/16 dev flannel.1"] {
            assert!(state.contains(route), "{route} is gone:\n{state}");
        }
        assert!(ip("nexthop show").contains("id 77 "));
    });
}

#[test]
fn a_device_with_another_vni_or_port_is_made_anew_with_all_that_was_on_it() {
    in_namespace(|node| {
        node.with_peers();
        let whole = state();
        ip("link del flannel.1");
        ip("link add flannel.1 type vxlan id 7 local 192.168.0.100 dev eth0 dstport 4789");
        becomes(&whole);
        assert!(ip("-details link show flannel.1").contains("vxlan id 1 "));
    });
}

#[test]
fn a_refused_entry_is_named_and_the_others_are_there() {
    in_namespace(|node| {
        node.commit(base());
        let mut both = put(3, peer(3));
        let unreachable = Entry::Route {
            destination: prefix("10.5.9.0/24"),
            via: Some(address("203.0.113.1")),
            onlink: false,
            device: Device::External,
        };
        both.merge(put(9, vec![unreachable.clone()]));
        let report = node.commit(both);
        let [(key, reason, peer)] = &report.failures[..] else { panic!("{report:?}") };
        assert_eq!((key, *peer), (&unreachable.key(), Some(PeerId(9))));
        assert!(!reason.is_empty());
        assert!(state().contains("10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink"));
        // Once the gateway can be reached the route comes by itself.
        ip("address add 203.0.113.100/24 dev eth0");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !state().contains("10.5.9.0/24 via 203.0.113.1 dev eth0") {
            assert!(Instant::now() < deadline, "{}", state());
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn ipv6_peers_look_as_upstream_makes_them() {
    in_namespace(|node| {
        let device: Device = Device::Own("flannel-v6.1".into());
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let mut all = Transaction {
            devices: [(
                "flannel-v6.1".into(),
                DeviceSpec::Vxlan(Vxlan {
                    name: "flannel-v6.1".into(),
                    local: address("fd77::100"),
                    mtu: 1430,
                    ..vxlan()
                }),
            )]
            .into(),
            addresses: [(Arc::from("flannel-v6.1"), [prefix("fc00:5:0:1::/128")].into())].into(),
            ..Transaction::default()
        };
        let subnet = prefix("fc00:5:0:9::/64");
        all.merge(put(
            9,
            vec![
                Entry::Neighbour { address: subnet.addr(), link_address: mac.into(), device: device.clone() },
                Entry::Fdb { mac, destination: address("fd77::9"), device: device.clone() },
                Entry::Route { destination: subnet, via: Some(subnet.addr()), onlink: true, device },
            ],
        ));
        let report = node.commit(all);
        assert!(report.failures.is_empty() && report.device_failure.is_none(), "{report:?}");
        let routes = ip("-6 route show");
        assert!(
            routes.lines().any(|l| l.contains("fc00:5:0:9::/64")
                && l.contains("via fc00:5:0:9:: dev flannel-v6.1")
                && l.contains("onlink")),
            "{routes}"
        );
        assert!(
            ip("-6 neigh show dev flannel-v6.1 nud permanent")
                .contains("fc00:5:0:9:: lladdr 02:00:00:00:00:09 PERMANENT")
        );
        assert!(
            run("bridge", "fdb show dev flannel-v6.1")
                .contains("02:00:00:00:00:09 dst fd77::9 self permanent")
        );
        // Everything again, and nothing is sent.
        let before = node.messages();
        node.prune_stale();
        assert_eq!(node.messages(), before);
    });
}

#[test]
fn a_whole_state_that_takes_the_place_of_another_changes_what_differs_alone() {
    in_namespace(|node| {
        node.with_peers();
        let before = node.messages();
        let mut whole = base();
        whole.merge(put(13, peer(3)));
        whole.merge(put(14, peer(4)));
        node.replace(whole.clone()).expect("taken");
        assert_eq!(node.messages(), before, "the same, whosever it is");
        whole.peers.remove(&PeerId(14));
        node.replace(whole).expect("taken");
        assert!(ip("route show").contains("10.5.3.0/24") && !ip("route show").contains("10.5.4.0/24"));
        node.replace(Transaction::default()).expect("taken");
        assert!(!ip("link show").contains(DEVICE), "a device that nobody declares any more goes");
    });
}

#[test]
fn a_whole_state_that_the_kernel_refuses_leaves_the_one_before() {
    in_namespace(|node| {
        node.with_peers();
        let shown = || {
            (ip("route show"), ip("neighbour show dev flannel.1"), run("bridge", "fdb show dev flannel.1"))
        };
        let before = shown();
        let mut whole = base();
        whole.merge(put(3, peer(3)));
        // Nobody has said how to get to the gateway.
        let via = Some(address("203.0.113.1"));
        let route =
            Entry::Route { destination: prefix("10.5.5.0/24"), via, onlink: false, device: Device::External };
        whole.merge(put(5, vec![route]));
        let reason = node.replace(whole).expect_err("refused");
        assert!(reason.contains("10.5.5.0/24"), "{reason}");
        assert_eq!(shown(), before);
    });
}
