//! Whatever nodes go through, and whatever of it is missed: what has been told, taken together, is what follows from how the nodes are in the
//! end, but for what is remembered of them on purpose.

use proptest::prelude::*;

use super::*;
use flannel_model::lease::Attributes;

const CONFIG: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"}"#;
const PREFIX: &str = "flannel.alpha.coreos.com/";
const TYPES: [&str; 3] = ["vxlan", "host-gw", "no type"];
/// This node's first; what is behind it is free for all.
const V4_CIDRS: [&str; 4] = ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"];
const V6_CIDRS: [&str; 3] = ["fd00:10:244:1::/64", "fd00:10:244:2::/64", "fd00:10:244:3::/64"];
const V4_ADDRESSES: [&str; 3] = ["192.168.77.10", "192.168.77.11", "192.168.77.12"];
const V6_ADDRESSES: [&str; 2] = ["fd00:77::11", "fd00:77::12"];
const DATA: [&str; 3] = ["null", r#"{"VNI":1}"#, r#"{"VNI":2}"#];

/// What a node says of one family.
#[derive(Clone, Debug)]
enum Spoken {
    Nothing,
    /// The zero address.
    Zero,
    BadAddress,
    BadData(usize),
    Good(usize, usize),
}

/// What a node says.
#[derive(Clone, Debug)]
struct Words {
    managed: Option<bool>,
    backend_type: usize,
    v4: Spoken,
    v6: Spoken,
}

#[derive(Clone, Debug)]
enum Step {
    /// A node is there, made anew if it was not.
    Says(usize, Words),
    /// It is made again, with these CIDRs, after the others or before them.
    Made {
        node: usize,
        v4: Option<usize>,
        v6: Option<usize>,
        created: u8,
    },
    Gone(usize),
    /// What has happened since is not seen until the next one.
    Unheard,
    /// All nodes are read anew.
    Sync,
    /// This node's own lease comes or goes.
    Own(bool),
}

/// A node as the API server has it.
#[derive(Clone, Debug)]
struct There {
    uid: u32,
    created: u8,
    v4: Option<usize>,
    v6: Option<usize>,
    words: Words,
}

fn spoken(addresses: usize, only_good: bool) -> BoxedStrategy<Spoken> {
    let good = (0..addresses, 0..DATA.len()).prop_map(|(address, data)| Spoken::Good(address, data));
    let silent = prop_oneof![Just(Spoken::Nothing), Just(Spoken::Zero)];
    if only_good {
        return prop_oneof![4 => good, 1 => silent].boxed();
    }
    let bad = (0..addresses).prop_map(Spoken::BadData);
    prop_oneof![6 => good, 2 => silent, 1 => Just(Spoken::BadAddress), 1 => bad].boxed()
}

/// `plain`: nothing that is remembered on purpose, which is what is lost and what cannot be read.
fn words(plain: bool) -> impl Strategy<Value = Words> {
    let managed = if plain {
        Just(Some(true)).boxed()
    } else {
        prop_oneof![8 => Just(Some(true)), 1 => Just(None), 1 => Just(Some(false))].boxed()
    };
    let types = 0..if plain { 2_usize } else { 3 };
    (managed, types, spoken(V4_ADDRESSES.len(), plain), spoken(V6_ADDRESSES.len(), plain)).prop_map(
        move |(managed, backend_type, v4, v6)| {
            // Who says nothing at all any more has lost his annotations.
            let is_silent = |spoken: &Spoken| matches!(spoken, Spoken::Nothing | Spoken::Zero);
            let v4 = if plain && is_silent(&v4) && is_silent(&v6) { Spoken::Good(1, 0) } else { v4 };
            Words { managed, backend_type, v4, v6 }
        },
    )
}

fn steps(plain: bool) -> impl Strategy<Value = Vec<Step>> {
    let node = 0..5_usize;
    let made = (
        node.clone(),
        proptest::option::of(0..V4_CIDRS.len()),
        proptest::option::of(0..V6_CIDRS.len()),
        0..4_u8,
    )
        .prop_map(|(node, v4, v6, created)| Step::Made { node, v4, v6, created });
    let step = prop_oneof![
        8 => (node.clone(), words(plain)).prop_map(|(node, words)| Step::Says(node, words)),
        5 => made,
        2 => node.prop_map(Step::Gone),
        1 => Just(Step::Unheard),
        2 => Just(Step::Sync),
        1 => any::<bool>().prop_map(Step::Own),
    ];
    proptest::collection::vec(step, 1..40)
}

fn own() -> OwnLease {
    let lease = Lease {
        subnets: Subnets { v4: V4_CIDRS[0].parse().ok(), v6: None },
        attributes: Attributes { public_ip: V4_ADDRESSES[0].parse().ok(), ..Attributes::default() },
        expires: None,
    };
    let addresses = vec![V4_ADDRESSES[0].parse().expect("an address")];
    OwnLease { created: String::new(), lease: Arc::new(lease), addresses }
}

fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

impl There {
    fn node(&self, node: usize) -> Node {
        let mut annotations = BTreeMap::new();
        let mut say = |key: &str, value: &str| annotations.insert(format!("{PREFIX}{key}"), value.to_owned());
        if let Some(managed) = self.words.managed {
            say("kube-subnet-manager", if managed { "true" } else { "false" });
            say("backend-type", TYPES[self.words.backend_type]);
        }
        let families = [
            (&self.words.v4, &V4_ADDRESSES[..], "0.0.0.0", "public-ip", "backend-data"),
            (&self.words.v6, &V6_ADDRESSES[..], "::", "public-ipv6", "backend-v6-data"),
        ];
        for (spoken, addresses, zero, address_key, data_key) in families {
            match spoken {
                _ if self.words.managed.is_none() => {}
                Spoken::Nothing => {}
                Spoken::Zero => {
                    say(address_key, zero);
                }
                Spoken::BadAddress => {
                    say(address_key, "x");
                }
                Spoken::BadData(address) => {
                    say(address_key, addresses[*address]);
                    say(data_key, "{");
                }
                Spoken::Good(address, data) => {
                    say(address_key, addresses[*address]);
                    say(data_key, DATA[*data]);
                }
            }
        }
        let v4 = self.v4.map(|n| V4_CIDRS[n].to_owned());
        let v6 = self.v6.map(|n| V6_CIDRS[n].to_owned());
        Node {
            name: name(node),
            uid: format!("{:06}", self.uid),
            created: format!("2026-01-01T00:00:0{}Z", self.created),
            annotations,
            pod_cidrs: v4.into_iter().chain(v6).collect(),
            ..Node::default()
        }
    }
}

/// A node's lease as numbers of the tables above: type, and address and data of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers {
    backend_type: usize,
    v4: Option<(usize, usize)>,
    v6: Option<(usize, usize)>,
}

/// What is remembered of a node, in the simplest way.
#[derive(Clone, Debug)]
struct Memory {
    there: There,
    lease: Option<Numbers>,
}

impl Memory {
    /// What becomes of a memory when its node is read again.
    fn read(before: Option<&Self>, there: &There) -> Self {
        let last =
            before.filter(|before| before.there.uid == there.uid).and_then(|before| before.lease.clone());
        Self { there: there.clone(), lease: Self::lease(last, there) }
    }

    fn lease(last: Option<Numbers>, there: &There) -> Option<Numbers> {
        let words = &there.words;
        let is_silent = |spoken: &Spoken| matches!(spoken, Spoken::Nothing | Spoken::Zero);
        match words.managed {
            None => return last,
            Some(false) => return None,
            Some(true) => {}
        }
        let is_bad_type = words.backend_type == 2;
        if is_silent(&words.v4) && is_silent(&words.v6) && !is_bad_type && last.is_some() {
            return last;
        }
        let backend_type = match (is_bad_type, &last) {
            (false, _) => words.backend_type,
            (true, Some(last)) => last.backend_type,
            (true, None) => return None,
        };
        let kept = last.clone().filter(|last| last.backend_type == backend_type).unwrap_or_default();
        let mut is_bad = is_bad_type;
        let mut take = |spoken: &Spoken, cidr: Option<usize>, kept: Option<(usize, usize)>| match spoken {
            _ if cidr.is_none() => None,
            Spoken::Nothing | Spoken::Zero => None,
            Spoken::Good(address, data) => Some((*address, *data)),
            Spoken::BadAddress | Spoken::BadData(_) => {
                is_bad = true;
                kept
            }
        };
        let (v4, v6) = (take(&words.v4, there.v4, kept.v4), take(&words.v6, there.v6, kept.v6));
        match (v4.is_none() && v6.is_none(), is_bad) {
            (false, _) => Some(Numbers { backend_type, v4, v6 }),
            (true, true) => last,
            (true, false) => None,
        }
    }
}

/// What follows from what is remembered of all nodes.
fn fold(memories: &BTreeMap<usize, Memory>, has_own: bool) -> BTreeMap<Subnets, Arc<Lease>> {
    let is_refused = |numbers: &Numbers, there: &There| {
        has_own
            && (numbers.v4.is_some_and(|(address, _)| address == 0)
                || numbers.v4.is_some() && there.v4 == Some(0))
    };
    let peers: Vec<(&There, &Numbers)> = memories
        .values()
        .filter_map(|memory| Some((&memory.there, memory.lease.as_ref()?)))
        .filter(|(there, numbers)| !is_refused(numbers, there))
        .collect();
    let age = |there: &There| (there.created, there.uid);
    let mut leases = BTreeMap::new();
    for (there, numbers) in &peers {
        let wins_v4 = !peers
            .iter()
            .any(|(other, said)| said.v4.is_some() && other.v4 == there.v4 && age(other) > age(there));
        let wins_v6 = !peers
            .iter()
            .any(|(other, said)| said.v6.is_some() && other.v6 == there.v6 && age(other) > age(there));
        let (v4, v6) = (numbers.v4.filter(|_| wins_v4), numbers.v6.filter(|_| wins_v6));
        let data = |(_, data): (usize, usize)| {
            let raw = || serde_json::value::RawValue::from_string(DATA[data].to_owned()).ok();
            (data != 0).then(raw).flatten()
        };
        let lease = Lease {
            subnets: Subnets {
                v4: v4.zip(there.v4).and_then(|(_, n)| V4_CIDRS[n].parse().ok()),
                v6: v6.zip(there.v6).and_then(|(_, n)| V6_CIDRS[n].parse().ok()),
            },
            attributes: Attributes {
                public_ip: v4.and_then(|(address, _)| V4_ADDRESSES[address].parse().ok()),
                public_ipv6: v6.and_then(|(address, _)| V6_ADDRESSES[address].parse().ok()),
                backend_type: TYPES[numbers.backend_type].to_owned(),
                backend_data: v4.and_then(data),
                backend_v6_data: v6.and_then(data),
                generations: Vec::new(),
            },
            expires: None,
        };
        if lease.subnets.iter().next().is_some() {
            assert_eq!(leases.insert(lease.subnets, Arc::new(lease)), None, "each subnet is one node's");
        }
    }
    if has_own {
        leases.insert(own().lease.subnets, own().lease);
    }
    leases
}

/// The cluster, what the map has been told of it, and what the map has told of that.
struct World {
    map: PeerMap,
    there: BTreeMap<usize, There>,
    seen: BTreeMap<usize, Memory>,
    told: BTreeMap<Subnets, Arc<Lease>>,
    is_heard: bool,
    has_own: bool,
    last_uid: u32,
}

impl World {
    fn new() -> Self {
        let keys = Keys::new("flannel.alpha.coreos.com").expect("a prefix");
        let config = NetworkConfig::parse_for_assigned_subnets(CONFIG).expect("a config");
        Self {
            map: PeerMap::new(keys, config, "n0"),
            there: BTreeMap::new(),
            seen: BTreeMap::new(),
            told: BTreeMap::new(),
            is_heard: true,
            has_own: false,
            last_uid: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Says(node, words) => {
                let Some(there) = self.there.get_mut(&node) else { return };
                there.words = words;
                self.applied(node);
            }
            Step::Made { node, v4, v6, created } => {
                self.gone(node);
                self.last_uid += 1;
                let words =
                    Words { managed: None, backend_type: 0, v4: Spoken::Nothing, v6: Spoken::Nothing };
                let there = There { uid: self.last_uid, created, v4, v6, words };
                self.there.insert(node, there);
                self.applied(node);
            }
            Step::Gone(node) => self.gone(node),
            Step::Unheard => self.is_heard = false,
            Step::Sync => {
                self.is_heard = true;
                self.hear(NodeEvent::Syncing);
                let nodes: Vec<Node> = self.there.iter().map(|(node, there)| there.node(*node)).collect();
                for node in nodes {
                    self.hear(NodeEvent::Applied(node));
                }
                self.hear(NodeEvent::Synced);
                let read =
                    |(node, there): (&usize, &There)| (*node, Memory::read(self.seen.get(node), there));
                self.seen = self.there.iter().map(read).collect();
            }
            Step::Own(is_there) => {
                self.has_own = is_there;
                let event = self.map.set_own(is_there.then(own)).event;
                self.tell(event);
            }
        }
    }

    fn gone(&mut self, node: usize) {
        let Some(there) = self.there.remove(&node) else { return };
        if self.is_heard {
            self.hear(NodeEvent::Deleted { name: name(node), uid: there.node(node).uid });
            self.seen.remove(&node);
        }
    }

    fn applied(&mut self, node: usize) {
        if self.is_heard {
            let there = &self.there[&node];
            let event = NodeEvent::Applied(there.node(node));
            self.seen.insert(node, Memory::read(self.seen.get(&node), there));
            self.hear(event);
        }
    }

    fn hear(&mut self, event: NodeEvent) {
        let event = self.map.take(event).event;
        self.tell(event);
    }

    /// Takes what the map tells as whoever follows a store does.
    fn tell(&mut self, event: Option<Event>) {
        match event {
            None => {}
            Some(Event::Snapshot(leases)) => self.told = by_subnets(leases.into_iter()),
            Some(Event::Changes(changes)) => {
                assert!(!changes.is_empty());
                for change in changes {
                    match change {
                        Change::Put(lease) => {
                            let former = self.told.insert(lease.subnets, Arc::clone(&lease));
                            assert_ne!(former, Some(lease), "what is told is news");
                        }
                        Change::Removed(subnets) => {
                            assert!(self.told.remove(&subnets).is_some(), "{subnets} was not there");
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
            Some(other) => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_adds_up_to_what_the_nodes_are_and_were(steps in steps(false)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            prop_assert_eq!(&world.told, &fold(&world.seen, world.has_own));
            prop_assert_eq!(&world.told, &by_subnets(world.map.leases().into_iter()));
        }
    }

    #[test]
    fn where_nothing_is_lost_or_spoiled_the_way_there_makes_no_difference(steps in steps(true)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.step(Step::Sync);
        let mut fresh = World::new();
        fresh.there = world.there.clone();
        fresh.step(Step::Own(world.has_own));
        fresh.step(Step::Sync);
        prop_assert_eq!(&world.told, &fresh.told);
        let counts = world.map.counts();
        prop_assert_eq!(counts, fresh.map.counts());
    }
}
