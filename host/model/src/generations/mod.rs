//! Two generations of the backend side by side, during a change: what each of them wants, and what of it is to be in the kernel.
//!
//! All that either wants is there, but for routes: a peer's routes of the main table are those of the generation by which it is reached, and
//! those of the one that is being moved to are in a table of their own besides, where they can be tried.

mod sessions;
mod trials;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::entry::{Device, DeviceSpec, Entry};
use crate::ledger::{Ledger, PeerId, Slot, Transaction};
use crate::policy_routing::Rule;

/// Bytes of a device's name, at most (`IFNAMSIZ` without its end).
const MAX_NAME: usize = 15;
/// Behind the name of a device that cannot have its own yet, since another one has it.
const MARKS: [&str; 2] = ["-n", "-m"];

/// Names of devices that are others in the kernel than in the policy.
pub type Names = BTreeMap<Arc<str>, Arc<str>>;

/// What a generation wants.
#[derive(Debug, Default)]
struct Wanted {
    devices: BTreeMap<Arc<str>, DeviceSpec>,
    addresses: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    networks: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    rules: BTreeSet<Rule>,
    peers: BTreeMap<PeerId, Vec<Entry>>,
}

impl Wanted {
    fn add(&mut self, transaction: Transaction) {
        self.devices.extend(transaction.devices);
        self.addresses.extend(transaction.addresses);
        self.networks.extend(transaction.networks);
        self.rules = transaction.rules.unwrap_or(std::mem::take(&mut self.rules));
        for (peer, entries) in transaction.peers {
            match entries {
                Some(entries) => self.peers.insert(peer, entries),
                None => self.peers.remove(&peer),
            };
        }
    }

    /// What the ledger holds, of a generation that has been alone.
    fn of(ledger: &Ledger) -> Self {
        let devices: BTreeMap<_, _> =
            ledger.devices().map(|device| (Arc::clone(device.name()), device.clone())).collect();
        let addresses =
            devices.keys().filter_map(|name| Some((Arc::clone(name), ledger.addresses(name)?.clone())));
        let peers = ledger.peers().filter(|(peer, _)| *peer != PeerId::NODE);
        let peers = peers.map(|(peer, entries)| (peer, entries.to_vec()));
        Self {
            addresses: addresses.collect(),
            networks: ledger.networks().clone(),
            rules: ledger.rules().clone(),
            peers: peers.collect(),
            devices,
        }
    }

    /// The routes to a peer's subnets where the policy has said only what lies behind a device.
    fn over_device(&self, subnets: &[IpNet]) -> Vec<Entry> {
        let over = |subnet: &IpNet| {
            let mut networks =
                self.networks.iter().flat_map(|(device, of)| of.iter().map(move |net| (device, net)));
            let (device, _) = networks.find(|(_, network)| network.contains(subnet))?;
            let device = Device::Own(Arc::clone(device));
            Some(Entry::Route { destination: *subnet, via: None, onlink: false, device })
        };
        subnets.iter().filter_map(over).collect()
    }
}

/// Two generations.
#[derive(Debug)]
pub struct Generations {
    /// What each wants, with the names that devices have in the kernel.
    wanted: [Wanted; 2],
    /// The names of the one beside that differ in the kernel.
    names: Names,
    /// Which one is being moved to, and has its routes in the table for trials.
    target: Slot,
    /// By which one peers are reached that nothing is said of in `uses`.
    usual: Slot,
    uses: HashMap<PeerId, Slot>,
    subnets: HashMap<PeerId, Vec<IpNet>>,
    /// The gateways by which the external interface leads everywhere. Where a policy declares no way to a peer, packets leave by them: into a
    /// cloud's routing table, say.
    gateways: Vec<IpAddr>,
}

impl Generations {
    /// Begins a change: the ledger holds the one that serves, and this is what the other registers. Answers with it what is to be
    /// committed.
    pub fn begin(
        ledger: &Ledger,
        registered: Transaction,
        usual: Slot,
        gateways: Vec<IpAddr>,
    ) -> (Self, Transaction) {
        let serving = Wanted::of(ledger);
        let mut names = Names::new();
        for (name, device) in &registered.devices {
            if serving.devices.get(name).is_some_and(|there| !there.is_same_device(device)) {
                names.insert(Arc::clone(name), temporary(name, &serving.devices));
            }
        }
        let mut all = Self {
            wanted: [serving, Wanted::default()],
            names,
            target: Slot::Beside,
            usual,
            uses: HashMap::new(),
            subnets: HashMap::new(),
            gateways,
        };
        let mut begun = all.commit(Slot::Beside, registered);
        // Where peers are known already, their routes may have to be elsewhere.
        begun.peers.extend(all.placed_everywhere().peers);
        (all, begun)
    }

    /// Takes what a policy has declared; answers what is to be committed of it.
    pub fn commit(&mut self, slot: Slot, transaction: Transaction) -> Transaction {
        let transaction = match slot {
            Slot::Serving => transaction,
            Slot::Beside => renamed(transaction, &self.names),
        };
        let blackholes = transaction.blackholes.clone().filter(|_| slot == Slot::Serving);
        let peers: BTreeSet<PeerId> = transaction.peers.keys().copied().collect();
        let devices: BTreeSet<Arc<str>> =
            transaction.devices.keys().chain(transaction.addresses.keys()).cloned().collect();
        let networks = !transaction.networks.is_empty();
        let rules = transaction.rules.clone();
        self.wanted[slot as usize].add(transaction);
        let mut placed = Transaction { blackholes, ..Transaction::default() };
        for name in devices {
            self.place_device(&name, &mut placed);
        }
        if networks && slot == Slot::Serving {
            placed.networks.clone_from(&self.wanted[0].networks);
        }
        if networks || (rules.is_some() && slot == Slot::Beside) {
            placed.peers.insert(PeerId::NODE.in_slot(Slot::Beside), Some(self.of_node_beside()));
        }
        placed.rules = rules.filter(|_| slot == Slot::Serving);
        for peer in peers {
            self.place(peer, &mut placed);
        }
        placed
    }

    /// A device that both have is what suits both, as long as both are there.
    fn place_device(&self, name: &Arc<str>, placed: &mut Transaction) {
        let of = |slot: Slot| self.wanted[slot as usize].devices.get(name);
        let device = match (of(Slot::Serving), of(Slot::Beside)) {
            (Some(one), Some(other)) => Some(one.clone().with_mtu(one.mtu().max(other.mtu()))),
            (one, other) => one.or(other).cloned(),
        };
        placed.devices.extend(device.map(|device| (Arc::clone(name), device)));
        let addresses: Vec<_> = self.wanted.iter().filter_map(|wanted| wanted.addresses.get(name)).collect();
        if !addresses.is_empty() {
            let all = addresses.into_iter().flatten().copied().collect();
            placed.addresses.insert(Arc::clone(name), all);
        }
    }

    /// These peers have these subnets.
    pub fn know(&mut self, subnets: impl IntoIterator<Item = (PeerId, Vec<IpNet>)>) {
        self.subnets.extend(subnets);
    }

    /// By which generation these peers are reached from now on, and what subnets they have; answers what is to be committed.
    pub fn use_for(&mut self, peers: impl IntoIterator<Item = (PeerId, Slot, Vec<IpNet>)>) -> Transaction {
        let mut placed = Transaction::default();
        for (peer, slot, subnets) in peers {
            self.uses.insert(peer, slot);
            self.subnets.insert(peer, subnets);
            self.place(peer, &mut placed);
        }
        placed
    }

    /// Which one is moved to from now on; answers what is to be committed.
    pub fn set_target(&mut self, target: Slot) -> Transaction {
        self.target = target;
        let mut placed = self.placed_everywhere();
        placed.peers.insert(PeerId::NODE.in_slot(Slot::Beside), Some(self.of_node_beside()));
        placed
    }

    /// Ends the change: all that is to be in the kernel, with the names that devices have there by now.
    pub fn end(self, kept: Slot) -> (Transaction, Names) {
        let [serving, beside] = self.wanted;
        let (kept, names) = match kept {
            Slot::Serving => (serving, Names::new()),
            Slot::Beside => (beside, self.names),
        };
        let peers = kept.peers.into_iter().map(|(peer, entries)| (peer, Some(entries))).collect();
        let whole = Transaction {
            devices: kept.devices,
            addresses: kept.addresses,
            networks: kept.networks,
            blackholes: None,
            rules: Some(kept.rules),
            peers,
        };
        (whole, names)
    }

    fn placed_everywhere(&self) -> Transaction {
        let mut placed = Transaction::default();
        let peers: BTreeSet<PeerId> =
            self.wanted.iter().flat_map(|wanted| wanted.peers.keys().copied()).collect();
        for peer in peers {
            self.place(peer, &mut placed);
        }
        placed
    }

    /// What is to be there besides what the one that serves has for the node: what lies behind the devices of the one that is moved to, for
    /// trials, and the rules of the one beside. Rules of both are there all along: in the tables that they lead to are routes to those
    /// peers alone that are reached so.
    fn of_node_beside(&self) -> Vec<Entry> {
        let networks = &self.wanted[self.target as usize].networks;
        let networks =
            networks.iter().flat_map(|(device, of)| of.iter().map(move |network| (device, network)));
        let trial = |(device, network): (&Arc<str>, &IpNet)| Entry::TrialRoute {
            destination: *network,
            via: None,
            onlink: false,
            device: Device::Own(Arc::clone(device)),
            encapsulation: None,
        };
        let rules = &self.wanted[Slot::Beside as usize].rules;
        let rules = rules.iter().map(|rule| Entry::Rule(Arc::new(rule.clone())));
        networks.map(trial).chain(rules).collect()
    }

    /// The generation by which a peer is reached.
    fn used(&self, peer: PeerId) -> Slot {
        self.uses.get(&peer).copied().unwrap_or(self.usual)
    }

    /// Routes to a peer by the way that packets take where no policy has anything to say.
    fn outside(&self, peer: PeerId) -> Vec<Entry> {
        let leads = |subnet: &IpNet| {
            let via = self.gateways.iter().find(|via| via.is_ipv4() == subnet.addr().is_ipv4())?;
            Some(Entry::Route {
                destination: *subnet,
                via: Some(*via),
                onlink: false,
                device: Device::External,
            })
        };
        self.subnets.get(&peer).into_iter().flatten().filter_map(leads).collect()
    }

    /// What is to be there of a peer, of both.
    fn place(&self, peer: PeerId, placed: &mut Transaction) {
        let used = self.used(peer);
        for slot in [Slot::Serving, Slot::Beside] {
            let wanted = &self.wanted[slot as usize];
            let entries = wanted.peers.get(&peer).map(|entries| {
                let free =
                    entries.iter().filter(|entry| !self.is_called_by_other(peer, slot, entry)).cloned();
                let (routes, others): (Vec<Entry>, Vec<Entry>) =
                    free.partition(|entry| matches!(entry, Entry::Route { .. } | Entry::PolicyRoute(_)));
                let mut here = others;
                let narrow = match self.subnets.get(&peer) {
                    Some(subnets) if routes.is_empty() => wanted.over_device(subnets),
                    _ => Vec::new(),
                };
                if slot == self.target {
                    here.extend(trials::of(&routes));
                    if routes.is_empty() && narrow.is_empty() {
                        here.extend(trials::of(&self.outside(peer)));
                    }
                }
                if slot == used {
                    here.extend(routes);
                    // The one that serves has its route for all of them.
                    here.extend(narrow.into_iter().filter(|_| slot == Slot::Beside));
                }
                here
            });
            placed.peers.insert(peer.in_slot(slot), entries);
        }
    }
}

/// A name for a device that cannot have its own yet.
fn temporary(name: &Arc<str>, taken: &BTreeMap<Arc<str>, DeviceSpec>) -> Arc<str> {
    let names = temporary_names(name);
    let free = names.iter().find(|name| !taken.contains_key(&***name)).cloned();
    free.unwrap_or_else(|| names[0].clone()).into()
}

/// The names that a device may have for a time, until it gets its own.
pub fn temporary_names(name: &str) -> [String; 2] {
    let length = name.len().min(MAX_NAME - MARKS[0].len());
    let begin = name.get(..length).unwrap_or(name);
    MARKS.map(|mark| format!("{begin}{mark}"))
}

/// A transaction with other names of devices.
pub fn renamed(transaction: Transaction, names: &Names) -> Transaction {
    if names.is_empty() {
        return transaction;
    }
    let other = |name: &Arc<str>| names.get(name).cloned();
    let named = |name: Arc<str>| other(&name).unwrap_or(name);
    let devices = transaction.devices.into_iter().map(|(name, device)| {
        let name = named(name);
        (Arc::clone(&name), device.with_name(name))
    });
    let peers = transaction.peers.into_iter().map(|(peer, entries)| {
        let renamed = |entries: Vec<Entry>| entries.into_iter().map(|entry| entry.renamed(other)).collect();
        (peer, entries.map(renamed))
    });
    Transaction {
        devices: devices.collect(),
        addresses: transaction.addresses.into_iter().map(|(name, of)| (named(name), of)).collect(),
        networks: transaction.networks.into_iter().map(|(name, of)| (named(name), of)).collect(),
        blackholes: transaction.blackholes,
        rules: transaction.rules.map(|rules| rules.into_iter().map(|rule| rule.renamed(other)).collect()),
        peers: peers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Key, Kind, TunnelDevice, Vxlan};
    use crate::offloads::Offloads;
    use crate::policy_routing::{Encapsulation, Hop, PolicyRoute};

    const PEER: PeerId = PeerId(7);

    fn net(text: &str) -> IpNet {
        text.parse().expect("prefix")
    }

    fn vxlan(port: u16, mtu: u32) -> DeviceSpec {
        let mac = "02:00:00:00:00:01".parse().expect("address");
        let local = [192, 168, 0, 1].into();
        let name = "flannel.1".into();
        DeviceSpec::Vxlan(Vxlan { name, vni: 1, port, local, learning: false, gbp: false, mtu, mac })
    }

    fn devices(devices: impl IntoIterator<Item = DeviceSpec>) -> Transaction {
        let devices = devices.into_iter().map(|device| (Arc::clone(device.name()), device)).collect();
        Transaction { devices, ..Transaction::default() }
    }

    fn route(device: Device, via: &str) -> Entry {
        Entry::Route {
            destination: net("10.5.7.0/24"),
            via: Some(via.parse().expect("address")),
            onlink: true,
            device,
        }
    }

    fn own(name: &str) -> Device {
        Device::Own(name.into())
    }

    fn peer(entries: Vec<Entry>) -> Transaction {
        Transaction { peers: [(PEER, Some(entries))].into(), ..Transaction::default() }
    }

    /// A ledger that holds a VXLAN device and a route over it.
    fn serving() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.commit(devices([vxlan(8472, 1450)]));
        ledger.commit(peer(vec![route(own("flannel.1"), "10.5.7.0")]));
        ledger
    }

    fn main_route(ledger: &Ledger) -> Option<&Entry> {
        ledger.entry(&Key::Route(net("10.5.7.0/24")))
    }

    fn trial_route(ledger: &Ledger) -> Option<&Entry> {
        ledger.entry(&Key::TrialRoute(net("10.5.7.0/24")))
    }

    fn moved(slot: Slot) -> [(PeerId, Slot, Vec<IpNet>); 1] {
        [(PEER, slot, vec![net("10.5.7.0/24")])]
    }

    #[test]
    fn the_new_ones_routes_are_on_trial_until_the_peer_is_reached_by_it() {
        let mut ledger = serving();
        let (mut both, begun) =
            Generations::begin(&ledger, Transaction::default(), Slot::Serving, Vec::new());
        ledger.commit(begun);
        let direct = route(Device::External, "192.168.0.7");
        ledger.commit(both.commit(Slot::Beside, peer(vec![direct.clone()])));
        assert_eq!(main_route(&ledger), Some(&route(own("flannel.1"), "10.5.7.0")));
        assert!(matches!(trial_route(&ledger), Some(Entry::TrialRoute { device: Device::External, .. })));
        // In one step, so that there is no moment without a route.
        let changed = ledger.commit(both.use_for(moved(Slot::Beside)));
        assert_eq!(main_route(&ledger), Some(&direct));
        assert!(changed.keys.contains(&Key::Route(net("10.5.7.0/24"))));
        ledger.commit(both.use_for(moved(Slot::Serving)));
        assert_eq!(main_route(&ledger), Some(&route(own("flannel.1"), "10.5.7.0")));
    }

    #[test]
    fn a_device_whose_name_is_in_use_has_another_one_for_a_time() {
        let mut ledger = serving();
        let (mut both, begun) =
            Generations::begin(&ledger, devices([vxlan(8473, 1450)]), Slot::Serving, Vec::new());
        ledger.commit(begun);
        let names: Vec<&str> = ledger.devices().map(|device| &**device.name()).collect();
        assert_eq!(names, ["flannel.1", "flannel.1-n"]);
        ledger.commit(both.commit(Slot::Beside, peer(vec![route(own("flannel.1"), "10.5.7.0")])));
        assert!(
            matches!(trial_route(&ledger), Some(Entry::TrialRoute { device, .. }) if *device == own("flannel.1-n"))
        );
        let (whole, names) = both.end(Slot::Beside);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [("flannel.1".into(), "flannel.1-n".into())]);
        assert_eq!(whole.devices.len(), 1);
    }

    #[test]
    fn a_device_that_both_have_carries_what_either_sends() {
        let mut ledger = serving();
        let (both, begun) =
            Generations::begin(&ledger, devices([vxlan(8472, 1400)]), Slot::Serving, Vec::new());
        ledger.commit(begun);
        let all: Vec<_> = ledger.devices().cloned().collect();
        assert_eq!((all, both.end(Slot::Beside).1.len()), (vec![vxlan(8472, 1450)], 0));
    }

    #[test]
    fn who_declares_one_network_for_all_gets_a_route_to_each_peer_that_moves() {
        let mut ledger = serving();
        let tunnel = DeviceSpec::Tunnel(TunnelDevice {
            name: "flannel0".into(),
            port: 8285,
            mtu: 1472,
            ipv4: None,
            ipv6: None,
            offloads: Offloads::default(),
        });
        let networks = [("flannel0".into(), [net("10.5.0.0/16")].into())].into();
        let registered = Transaction { networks, ..devices([tunnel]) };
        let (mut both, begun) = Generations::begin(&ledger, registered, Slot::Serving, Vec::new());
        ledger.commit(begun);
        assert!(ledger.entry(&Key::TrialRoute(net("10.5.0.0/16"))).is_some());
        assert!(ledger.entry(&Key::Route(net("10.5.0.0/16"))).is_none(), "not before all have moved");
        ledger.commit(both.commit(Slot::Beside, peer(Vec::new())));
        ledger.commit(both.use_for(moved(Slot::Beside)));
        assert!(
            matches!(main_route(&ledger), Some(Entry::Route { via: None, device, .. }) if *device == own("flannel0"))
        );
        let (whole, _) = both.end(Slot::Beside);
        assert_eq!(whole.networks.len(), 1);
        assert_eq!(whole.peers, [(PEER, Some(Vec::new()))].into());
    }

    /// A route with attributes to the peer.
    fn policy_route(table: Option<u8>, metric: u32, vias: &[&str]) -> Entry {
        let hop = |via: &&str| Hop {
            device: Device::External,
            via: Some(via.parse().expect("address")),
            onlink: false,
            weight: 1,
            encapsulation: None,
        };
        let hops = vias.iter().map(hop).collect();
        let (source, mtu, advmss) = (None, None, None);
        let destination = net("10.5.7.0/24");
        Entry::PolicyRoute(PolicyRoute { table, destination, metric, source, mtu, advmss, hops }.into())
    }

    #[test]
    fn of_routes_with_attributes_the_best_one_is_tried_and_all_come_in_one_step() {
        let mut ledger = serving();
        let (source, mark, input) = (Some(net("10.5.72.0/25")), None, None);
        let rule = Rule { priority: 1, source, destination: None, mark, input, table: 1 };
        let registered = Transaction { rules: Some([rule.clone()].into()), ..Transaction::default() };
        let (mut both, begun) = Generations::begin(&ledger, registered, Slot::Serving, Vec::new());
        ledger.commit(begun);
        assert!(ledger.entry(&Key::Rule(rule.into())).is_some(), "its table is empty");
        let wanted = [
            policy_route(Some(1), 10, &["172.16.0.7"]),
            policy_route(None, 300, &["172.16.0.7"]),
            policy_route(None, 200, &["192.168.0.7", "172.16.0.7"]),
        ];
        ledger.commit(both.commit(Slot::Beside, peer(wanted.to_vec())));
        let first: IpAddr = [192, 168, 0, 7].into();
        assert!(matches!(trial_route(&ledger), Some(Entry::TrialRoute { via, .. }) if *via == Some(first)));
        assert_eq!(ledger.count(Kind::PolicyRoute), 0, "the peer is reached by the other one");
        let changed = ledger.commit(both.use_for(moved(Slot::Beside)));
        assert!(main_route(&ledger).is_none());
        for entry in &wanted {
            assert_eq!(ledger.entry(&entry.key()), Some(entry));
            assert!(changed.keys.contains(&entry.key()));
        }
        let mut after = Ledger::default();
        after.commit(both.end(Slot::Beside).0);
        assert_eq!((after.rules().len(), after.count(Kind::PolicyRoute)), (1, 3));
        // And back.
        let (mut both, begun) = Generations::begin(&after, Transaction::default(), Slot::Serving, Vec::new());
        after.commit(begun);
        after.commit(both.commit(Slot::Beside, peer(vec![route(Device::External, "192.168.0.7")])));
        after.commit(both.use_for(moved(Slot::Beside)));
        assert_eq!((after.rules().len(), after.count(Kind::PolicyRoute)), (1, 0));
        let mut whole = Ledger::default();
        whole.commit(both.end(Slot::Beside).0);
        assert_eq!((whole.rules().len(), whole.count(Kind::Rule)), (0, 0));
    }

    #[test]
    fn what_a_next_hop_puts_around_packets_is_tried_with_it_and_a_rule_knows_its_device_by_the_name_that_it_has()
     {
        let mut ledger = serving();
        let segments =
            Encapsulation::Segments(["fd77::9", "fd77::7"].map(|text| text.parse().expect("address")).into());
        let Entry::PolicyRoute(route) = policy_route(None, 200, &["192.168.0.7"]) else { panic!("no route") };
        let mut route = PolicyRoute::clone(&route);
        route.hops[0].encapsulation = Some(Arc::new(segments.clone()));
        let (source, mark, input) = (Some(net("10.5.72.0/25")), None, Some(own("flannel.1")));
        let rule = Rule { priority: 1, source, destination: None, mark, input, table: 1 };
        let mut registered = devices([vxlan(4789, 1450)]);
        registered.rules = Some([rule.clone()].into());
        let (mut both, begun) = Generations::begin(&ledger, registered, Slot::Serving, Vec::new());
        ledger.commit(begun);
        let in_kernel = Rule { input: Some(own("flannel.1-n")), ..rule.clone() };
        assert!(ledger.entry(&Key::Rule(in_kernel.clone().into())).is_some(), "of the device beside");
        assert!(ledger.entry(&Key::Rule(rule.into())).is_none(), "that is the other one's");
        ledger.commit(both.commit(Slot::Beside, peer(vec![Entry::PolicyRoute(route.into())])));
        assert!(
            matches!(trial_route(&ledger), Some(Entry::TrialRoute { encapsulation: Some(of), .. }) if **of == segments)
        );
        assert_eq!(both.end(Slot::Beside).0.rules, Some([in_kernel].into()));
    }

    #[test]
    fn what_no_policy_declares_is_tried_by_the_way_that_packets_take_then() {
        let mut ledger = serving();
        let gateway = "192.168.0.254".parse().expect("address");
        let (mut both, begun) =
            Generations::begin(&ledger, Transaction::default(), Slot::Serving, vec![gateway]);
        ledger.commit(begun);
        both.know([(PEER, vec![net("10.5.7.0/24")])]);
        ledger.commit(both.commit(Slot::Beside, peer(Vec::new())));
        assert!(matches!(trial_route(&ledger), Some(Entry::TrialRoute { via, .. }) if *via == Some(gateway)));
        ledger.commit(both.use_for(moved(Slot::Beside)));
        assert_eq!(main_route(&ledger), None, "the cloud's way is the default route");
    }

    #[test]
    fn turned_round_the_former_ones_routes_are_on_trial() {
        let mut ledger = serving();
        let (mut both, begun) =
            Generations::begin(&ledger, Transaction::default(), Slot::Serving, Vec::new());
        ledger.commit(begun);
        ledger.commit(both.commit(Slot::Beside, peer(vec![route(Device::External, "192.168.0.7")])));
        ledger.commit(both.use_for(moved(Slot::Beside)));
        ledger.commit(both.set_target(Slot::Serving));
        assert!(
            matches!(trial_route(&ledger), Some(Entry::TrialRoute { device, .. }) if *device == own("flannel.1"))
        );
        assert_eq!(main_route(&ledger), Some(&route(Device::External, "192.168.0.7")));
        let (whole, names) = both.end(Slot::Serving);
        let mut after = Ledger::default();
        after.commit(whole);
        assert!(names.is_empty());
        assert_eq!(after.difference(&serving()), crate::ledger::Changed::default());
    }

    #[test]
    fn names_for_a_time_fit_into_what_the_kernel_takes() {
        assert_eq!(temporary_names("flannel.1"), ["flannel.1-n", "flannel.1-m"]);
        assert_eq!(temporary_names("flannel-v6.12345"), ["flannel-v6.12-n", "flannel-v6.12-m"]);
    }
}
