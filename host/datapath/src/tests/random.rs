//! Whatever happens in whatever order, the kernel ends as the ledger says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// How long the kernel may take to become what it should be.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Something that happens.
#[derive(Clone, Debug)]
enum Happening {
    /// A peer's lease comes or changes; the version is in its VTEP's MAC address.
    Put { peer: u8, version: u8 },
    /// The same peer on the link: a plain route.
    PutDirect { peer: u8 },
    /// A peer that the kernel refuses: its next hop is nowhere.
    PutNowhere,
    /// A peer's lease goes.
    Remove { peer: u8 },
    /// Somebody else does this.
    Drift(&'static str),
    /// The daemon dies, and another one starts.
    Restart,
}

fn peers() -> impl Strategy<Value = u8> {
    3..7_u8
}

/// What others do; each may fail, if what it is about is not there.
const DRIFT: [&str; 17] = [
    "ip route delete 10.5.3.0/24",
    "ip route replace 10.5.4.0/24 via 192.168.0.55",
    "ip route flush proto boot",
    "ip neigh flush dev flannel.1 nud permanent",
    "ip neigh replace 10.5.5.0 lladdr 02:00:00:00:00:55 dev flannel.1 nud permanent",
    "ip neigh delete 10.5.3.0 dev flannel.1",
    "bridge fdb delete 9e:09:09:09:00:03 dev flannel.1",
    "bridge fdb append 02:00:00:00:00:66 dev flannel.1 dst 192.168.0.66 self permanent",
    "ip nexthop flush",
    "ip address flush dev flannel.1 scope global",
    "ip link delete flannel.1",
    "ip link set flannel.1 down",
    "ip link set flannel.1 mtu 1200",
    "ip link set flannel.1 address 02:00:00:00:00:77",
    "ip link set eth0 down",
    "ip link set eth0 up",
    "ip link set eth0 mtu 1400",
];

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (peers(), 0..3_u8).prop_map(|(peer, version)| Happening::Put { peer, version }),
        1 => peers().prop_map(|peer| Happening::PutDirect { peer }),
        1 => Just(Happening::PutNowhere),
        2 => peers().prop_map(|peer| Happening::Remove { peer }),
        6 => (0..DRIFT.len()).prop_map(|at| Happening::Drift(DRIFT[at])),
        1 => Just(Happening::Restart),
    ];
    proptest::collection::vec(one, 1..16)
}

fn tunnelled(peer: u8, version: u8) -> Vec<Entry> {
    let subnet = prefix(&format!("10.5.{peer}.0/24"));
    let mac = Mac([0x9e, 9, 9, 9, version, peer]);
    vec![
        Entry::Neighbour { address: subnet.addr(), link_address: mac.into(), device: own() },
        Entry::Fdb { mac, destination: address(&format!("192.168.0.{peer}")), device: own() },
        Entry::Route { destination: subnet, via: Some(subnet.addr()), onlink: true, device: own() },
    ]
}

fn over(peer: u8, via: &str) -> Vec<Entry> {
    let destination = prefix(&format!("10.5.{peer}.0/24"));
    vec![Entry::Route { destination, via: Some(address(via)), onlink: false, device: Device::External }]
}

/// What there should be, in the words of iproute2.
fn expected(peers: &BTreeMap<u8, Vec<Entry>>) -> Vec<String> {
    let line = |entry: &Entry| match entry {
        Entry::Route { destination, via: Some(via), device: Device::Own(name), .. } => {
            format!("{destination} via {via} dev {name} onlink")
        }
        Entry::Route { destination, via: Some(via), .. } => format!("{destination} via {via} dev eth0"),
        Entry::Neighbour { address, link_address, .. } => {
            format!("{address} lladdr {link_address} PERMANENT")
        }
        Entry::Fdb { mac, destination, .. } => format!("{mac} dst {destination} self permanent"),
        other => panic!("{other:?}"),
    };
    // The one that the kernel refuses is nowhere.
    let wanted = peers.iter().filter(|(peer, _)| **peer != NOWHERE);
    let mut lines: Vec<String> = wanted.flat_map(|(_, entries)| entries).map(line).collect();
    lines.push("10.5.72.0/32".to_owned());
    lines.sort();
    lines
}

const NOWHERE: u8 = 200;
const FOREIGN: &str = "via 192.168.0.55";

/// What there is of that kind.
fn found() -> Vec<String> {
    let state = state();
    let mut lines: Vec<String> = state
        .lines()
        // A route of somebody else's, to a subnet that nobody has at the end, is his.
        .filter(|line| !line.contains(FOREIGN))
        .filter(|line| {
            !line.starts_with("flannel.1 ") && (line.starts_with("10.5.") || line.contains("self permanent"))
        })
        .map(ToOwned::to_owned)
        .collect();
    let addresses = state.lines().find(|line| line.starts_with("flannel.1 ")).unwrap_or_default();
    lines.extend(addresses.split(' ').filter(|word| word.starts_with("10.")).map(ToOwned::to_owned));
    lines.sort();
    lines
}

fn device_is_right() -> Result<(), String> {
    let link = of_device("ip", "-details link show flannel.1");
    let parts = ["mtu 1450", "vxlan id 1 local 192.168.0.100 dev eth0", "9e:01:02:03:04:05", ",UP"];
    match parts.iter().find(|part| !link.contains(**part)) {
        Some(part) => Err(format!("{part} is not in {link}")),
        None => Ok(()),
    }
}

fn ends_as_desired(happenings: &[Happening]) {
    let mut node = Node::new();
    node.commit(base());
    node.prune_stale();
    let mut desired: BTreeMap<u8, Vec<Entry>> = BTreeMap::new();
    let (mut may_be_foreign, mut overwritten, mut drifted) = (false, false, false);
    for happening in happenings {
        match happening {
            Happening::Put { peer, version } => {
                desired.insert(*peer, tunnelled(*peer, *version));
                node.commit(put(*peer, tunnelled(*peer, *version)));
            }
            Happening::PutDirect { peer } => {
                let entries = over(*peer, &format!("192.168.0.{peer}"));
                desired.insert(*peer, entries.clone());
                node.commit(put(*peer, entries));
            }
            Happening::PutNowhere => {
                desired.insert(NOWHERE, over(NOWHERE, "203.0.113.9"));
                node.commit(put(NOWHERE, over(NOWHERE, "203.0.113.9")));
            }
            Happening::Remove { peer } => {
                desired.remove(peer);
                node.commit(Transaction {
                    peers: [(PeerId((*peer).into()), None)].into(),
                    ..Transaction::default()
                });
            }
            Happening::Drift(command) => {
                if command.ends_with("192.168.0.55") {
                    // Before the reconciler has heard of what happened before, it cannot know whose the place was.
                    may_be_foreign |= !desired.contains_key(&4) || drifted;
                    overwritten = true;
                }
                drifted = true;
                let (program, arguments) = command.split_once(' ').expect("a program and arguments");
                of_device(program, arguments);
            }
            Happening::Restart => {
                drop(node);
                may_be_foreign |= overwritten;
                node = Node::new();
                node.commit(base());
                for (peer, entries) in &desired {
                    node.commit(put(*peer, entries.clone()));
                }
                node.prune_stale();
            }
        }
    }
    ip("link set eth0 mtu 1500 up");
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    loop {
        let (found, mut wanted) = (found(), expected(&desired));
        // Somebody else's route that was there first, or when the daemon started, is his: then ours waits.
        if state().lines().any(|line| line.starts_with("10.5.4.0/24") && line.contains(FOREIGN)) {
            assert!(may_be_foreign, "a route that was taken from us is not put right");
            wanted.retain(|line| !line.starts_with("10.5.4.0/24 "));
        }
        if found == wanted && device_is_right().is_ok() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "found:\n{}\nwanted:\n{}\ndevice: {:?}",
            found.join("\n"),
            wanted.join("\n"),
            device_is_right()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_changes_drift_and_restarts_ends_as_desired(happenings in happenings()) {
        bare_namespace(move || ends_as_desired(&happenings));
    }
}
