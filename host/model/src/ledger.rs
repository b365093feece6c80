//! The whole desired state, and the transactions that change it. The ledger knows nothing about the kernel, and the
//! reconciler knows nothing about peers.

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::entry::{Device, DeviceSpec, Entry, Key, Kind};
use super::policy_routing::{PolicyRoute, RoutePlace, Rule};

/// Names a peer for the life of the daemon; never reused. The `peer-id` of the WIT interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl PeerId {
    /// This node itself, for entries that are no peer's. Peers' numbers begin above it.
    pub const NODE: Self = Self(0);
    /// Numbers of the generation beside the one that serves begin here.
    const BESIDE: u64 = 1 << 63;

    /// The number under which the ledger has what a generation wants for this peer.
    #[must_use]
    pub fn in_slot(self, slot: Slot) -> Self {
        match slot {
            Slot::Serving => Self(self.0 & !Self::BESIDE),
            Slot::Beside => Self(self.0 | Self::BESIDE),
        }
    }

    /// Which generation's number it is.
    pub fn slot(self) -> Slot {
        if self.0 & Self::BESIDE == 0 { Slot::Serving } else { Slot::Beside }
    }
}

/// Which generation of the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The one that serves; the only one at rest.
    #[default]
    Serving,
    /// The other, during a change.
    Beside,
}

impl Slot {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Serving => Self::Beside,
            Self::Beside => Self::Serving,
        }
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What one call of the plugin declared. Committed as a whole, or dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Devices declared, by name. Only `register` declares any.
    pub devices: BTreeMap<Arc<str>, DeviceSpec>,
    /// For each device, the whole set of its addresses.
    pub addresses: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    /// For each device, the whole set of networks that are reached over it without a next hop.
    pub networks: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    /// The whole set of the node's own subnets in which packets for addresses that nobody has end; `None`: not said. Never from a
    /// policy.
    pub blackholes: Option<BTreeSet<IpNet>>,
    /// The whole set of rules; `None`: not said.
    pub rules: Option<BTreeSet<Rule>>,
    /// For each peer of the call, all of its entries from now on; none: the peer is gone.
    pub peers: BTreeMap<PeerId, Option<Vec<Entry>>>,
}

impl Transaction {
    /// Adds what a later call declared; where both speak of the same thing, the later one counts.
    pub fn merge(&mut self, later: Self) {
        self.devices.extend(later.devices);
        self.addresses.extend(later.addresses);
        self.networks.extend(later.networks);
        self.blackholes = later.blackholes.or(self.blackholes.take());
        self.rules = later.rules.or(self.rules.take());
        self.peers.extend(later.peers);
    }
}

/// What a commit changed: all that the reconciler has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Devices or their addresses changed.
    pub devices: bool,
    /// Entries that came, went, or changed.
    pub keys: BTreeSet<Key>,
}

/// All that should exist, each entry with the peer that caused it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    devices: BTreeMap<Arc<str>, DeviceSpec>,
    addresses: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    networks: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    blackholes: BTreeSet<IpNet>,
    rules: BTreeSet<Rule>,
    /// What each peer claims, whether it counts or not: one entry for each key.
    peers: BTreeMap<PeerId, Box<[Entry]>>,
    /// Whose claim to a key counts. The entry is the peer's alone, since there are tens of thousands. (A hash table would be half empty
    /// just after it has grown.)
    holders: BTreeMap<Key, PeerId>,
    /// Where several peers claim the same key, the first one counts, since nobody may take what somebody else has. The others, in the
    /// order of their claims: the next one's turn comes when the first goes. Nearly always empty.
    waiting: BTreeMap<Key, Vec<PeerId>>,
    /// How many entries of each kind there are.
    kinds: [usize; Kind::ALL.len()],
}

impl Ledger {
    /// Makes a transaction part of the desired state.
    pub fn commit(&mut self, transaction: Transaction) -> Changed {
        let mut changed = Changed::default();
        for (name, device) in transaction.devices {
            if self.devices.get(&name) != Some(&device) {
                self.devices.insert(name, device);
                changed.devices = true;
            }
        }
        for (name, addresses) in transaction.addresses {
            if self.addresses.get(&name) != Some(&addresses) {
                self.addresses.insert(name, addresses);
                changed.devices = true;
            }
        }
        let of_node = !transaction.networks.is_empty();
        if of_node || transaction.blackholes.is_some() || transaction.rules.is_some() {
            self.networks.extend(transaction.networks);
            self.blackholes = transaction.blackholes.unwrap_or(std::mem::take(&mut self.blackholes));
            self.rules = transaction.rules.unwrap_or(std::mem::take(&mut self.rules));
            self.replace_peer(PeerId::NODE, self.node_entries(), &mut changed.keys);
        }
        for (peer, entries) in transaction.peers {
            self.replace_peer(peer, entries.unwrap_or_default(), &mut changed.keys);
        }
        changed
    }

    /// What no peer causes.
    fn node_entries(&self) -> Vec<Entry> {
        let routes = self.networks.iter().flat_map(|(name, networks)| {
            networks.iter().map(|network| Entry::Route {
                destination: *network,
                via: None,
                onlink: false,
                device: Device::Own(Arc::clone(name)),
            })
        });
        let blackholes = self.blackholes.iter().map(|subnet| Entry::Blackhole { destination: *subnet });
        let rules = self.rules.iter().map(|rule| Entry::Rule(Arc::new(rule.clone())));
        routes.chain(blackholes).chain(rules).collect()
    }

    fn replace_peer(&mut self, peer: PeerId, entries: Vec<Entry>, changed: &mut BTreeSet<Key>) {
        let old = self.peers.remove(&peer).unwrap_or_default();
        let old: BTreeMap<Key, &Entry> = old.iter().map(|entry| (entry.key(), entry)).collect();
        let new: BTreeMap<Key, Entry> = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        for key in old.keys().filter(|key| !new.contains_key(key)) {
            self.release(peer, key);
        }
        for key in new.keys().filter(|key| !old.contains_key(key)) {
            self.claim(peer, key);
        }
        changed.extend(old.keys().filter(|key| !new.contains_key(key)).cloned());
        changed.extend(
            new.iter().filter(|(key, entry)| old.get(key) != Some(entry)).map(|(key, _)| key.clone()),
        );
        if !new.is_empty() {
            self.peers.insert(peer, new.into_values().collect());
        }
    }

    fn claim(&mut self, peer: PeerId, key: &Key) {
        match self.holders.entry(key.clone()) {
            Place::Vacant(slot) => {
                self.kinds[key.kind() as usize] += 1;
                slot.insert(peer);
            }
            Place::Occupied(_) => self.waiting.entry(key.clone()).or_default().push(peer),
        }
    }

    fn release(&mut self, peer: PeerId, key: &Key) {
        let mut waiting = self.waiting.remove(key).unwrap_or_default();
        if self.holders.get(key) != Some(&peer) {
            waiting.retain(|other| *other != peer);
        } else if waiting.is_empty() {
            self.holders.remove(key);
            self.kinds[key.kind() as usize] -= 1;
        } else {
            self.holders.insert(key.clone(), waiting.remove(0));
        }
        if !waiting.is_empty() {
            self.waiting.insert(key.clone(), waiting);
        }
    }

    /// What another ledger in this one's place would change.
    pub fn difference(&self, other: &Self) -> Changed {
        let here = self.entries().filter(|(key, entry)| other.entry(key) != Some(*entry));
        let there = other.holders.keys().filter(|key| !self.holders.contains_key(key));
        Changed {
            devices: self.devices != other.devices || self.addresses != other.addresses,
            keys: here.map(|(key, _)| key).chain(there).cloned().collect(),
        }
    }

    /// The entry that should exist under a key.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.claimed(*self.holders.get(key)?, key)
    }

    /// All entries that should exist.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.holders.iter().filter_map(|(key, peer)| Some((key, self.claimed(*peer, key)?)))
    }

    /// What a peer claims under a key. Peers have a few entries each.
    fn claimed(&self, peer: PeerId, key: &Key) -> Option<&Entry> {
        self.entries_of(peer).iter().find(|entry| entry.has_key(key))
    }

    /// The peer whose claim to a key counts.
    pub fn holder(&self, key: &Key) -> Option<PeerId> {
        self.holders.get(key).copied()
    }

    /// The peers that claim a key, the one that counts first.
    pub fn owners(&self, key: &Key) -> impl Iterator<Item = PeerId> {
        self.holder(key).into_iter().chain(self.waiting.get(key).into_iter().flatten().copied())
    }

    /// The entries that a peer claims, whether they count or not.
    pub fn entries_of(&self, peer: PeerId) -> &[Entry] {
        self.peers.get(&peer).map_or(&[], |entries| entries)
    }

    /// The networks that are reached over each device without a next hop.
    pub fn networks(&self) -> &BTreeMap<Arc<str>, BTreeSet<IpNet>> {
        &self.networks
    }

    /// The node's own subnets in which packets for addresses that nobody has end.
    pub fn blackholes(&self) -> &BTreeSet<IpNet> {
        &self.blackholes
    }

    /// The rules that should exist, but for those of a generation beside the one that serves.
    pub fn rules(&self) -> &BTreeSet<Rule> {
        &self.rules
    }

    /// The routes with attributes that should exist to a destination, in one table.
    pub fn policy_routes_to(
        &self,
        table: Option<u8>,
        destination: IpNet,
    ) -> impl Iterator<Item = &PolicyRoute> {
        let place = |metric| Key::PolicyRoute(RoutePlace { table, destination, metric });
        let there = self.holders.range(place(0)..=place(u32::MAX));
        there.filter_map(|(key, peer)| match self.claimed(*peer, key)? {
            Entry::PolicyRoute(route) => Some(&**route),
            _ => None,
        })
    }

    /// All routes with attributes that should exist.
    pub fn policy_routes(&self) -> impl Iterator<Item = &PolicyRoute> {
        let first = Key::PolicyRoute(RoutePlace { table: None, destination: IpNet::default(), metric: 0 });
        let there = self.holders.range(first..).take_while(|(key, _)| matches!(key, Key::PolicyRoute(_)));
        there.filter_map(|(key, peer)| match self.claimed(*peer, key)? {
            Entry::PolicyRoute(route) => Some(&**route),
            _ => None,
        })
    }

    /// The tables of the plugin's own that have routes, or that rules lead to.
    pub fn tables(&self) -> BTreeSet<u8> {
        let first = Key::PolicyRoute(RoutePlace { table: None, destination: IpNet::default(), metric: 0 });
        let keys = self.holders.range(first..).map(|(key, _)| key);
        keys.filter_map(|key| match key {
            Key::PolicyRoute(place) => place.table,
            Key::Rule(rule) => Some(rule.table),
            _ => None,
        })
        .collect()
    }

    /// All devices that should exist.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceSpec> {
        self.devices.values()
    }

    /// The device of this name that should exist.
    pub fn device(&self, name: &str) -> Option<&DeviceSpec> {
        self.devices.get(name)
    }

    /// The addresses that a device should have; none: not said yet, so whatever it has is left alone.
    pub fn addresses(&self, device: &str) -> Option<&BTreeSet<IpNet>> {
        self.addresses.get(device)
    }

    /// The peers that claim entries, with these, whether they count or not.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &[Entry])> {
        self.peers.iter().map(|(peer, entries)| (*peer, &**entries))
    }

    /// How many entries of a kind should exist.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize]
    }

    /// How many entries should exist.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// Whether no entry should exist.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(destination: &str, via: &str) -> Entry {
        Entry::Route {
            destination: destination.parse().expect("prefix"),
            via: Some(via.parse().expect("address")),
            onlink: false,
            device: Device::External,
        }
    }

    fn put(peer: u64, entries: Vec<Entry>) -> Transaction {
        Transaction { peers: [(PeerId(peer), Some(entries))].into(), ..Transaction::default() }
    }

    #[test]
    fn what_a_peer_no_longer_declares_is_gone() {
        let mut ledger = Ledger::default();
        let (old, new) = (route("10.5.1.0/24", "192.168.0.1"), route("10.5.2.0/24", "192.168.0.1"));
        ledger.commit(put(1, vec![old.clone()]));
        let changed = ledger.commit(put(1, vec![new.clone()]));
        assert_eq!(changed.keys, [old.key(), new.key()].into());
        assert_eq!(ledger.entries().map(|(_, e)| e).collect::<Vec<_>>(), [&new]);
    }

    #[test]
    fn declaring_the_same_again_changes_nothing() {
        let mut ledger = Ledger::default();
        let entry = route("10.5.1.0/24", "192.168.0.1");
        ledger.commit(put(1, vec![entry.clone()]));
        assert_eq!(ledger.commit(put(1, vec![entry])), Changed::default());
    }

    #[test]
    fn a_removed_peer_leaves_nothing() {
        let mut ledger = Ledger::default();
        ledger.commit(put(1, vec![route("10.5.1.0/24", "192.168.0.1")]));
        ledger.commit(Transaction { peers: [(PeerId(1), None)].into(), ..Transaction::default() });
        assert!(ledger.is_empty());
    }

    #[test]
    fn another_ledger_differs_in_what_is_added_changed_and_gone() {
        let (mut one, mut other) = (Ledger::default(), Ledger::default());
        let same = route("10.5.1.0/24", "192.168.0.1");
        let (before, after) = (route("10.5.2.0/24", "192.168.0.2"), route("10.5.2.0/24", "192.168.0.3"));
        let (gone, added) = (route("10.5.3.0/24", "192.168.0.2"), route("10.5.4.0/24", "192.168.0.2"));
        one.commit(put(1, vec![same.clone(), before.clone(), gone.clone()]));
        // Whose an entry is does not matter.
        other.commit(put(7, vec![same]));
        other.commit(put(8, vec![after, added.clone()]));
        let keys = [before.key(), gone.key(), added.key()].into();
        assert_eq!(one.difference(&other), Changed { devices: false, keys });
        assert_eq!(one.difference(&one.clone()), Changed::default());
    }

    #[test]
    fn a_key_claimed_twice_is_the_first_peers_until_it_goes() {
        let mut ledger = Ledger::default();
        let (first, second) = (route("10.5.1.0/24", "192.168.0.1"), route("10.5.1.0/24", "192.168.0.2"));
        ledger.commit(put(2, vec![first.clone()]));
        ledger.commit(put(1, vec![second.clone()]));
        ledger.commit(put(2, vec![first.clone()]));
        assert_eq!(
            (ledger.entry(&first.key()), ledger.holder(&first.key())),
            (Some(&first), Some(PeerId(2)))
        );
        ledger.commit(Transaction { peers: [(PeerId(2), None)].into(), ..Transaction::default() });
        assert_eq!(ledger.entry(&first.key()), Some(&second));
    }

    #[test]
    fn a_claim_that_waits_may_change_and_go_and_its_turn_comes_in_order() {
        let mut ledger = Ledger::default();
        let [first, second, third, other] =
            ["192.168.0.1", "192.168.0.2", "192.168.0.3", "192.168.0.4"].map(|via| route("10.5.1.0/24", via));
        let (key, gone) =
            (first.key(), |peer| Transaction { peers: [(PeerId(peer), None)].into(), ..put(0, vec![]) });
        for (peer, entry) in [(3, &first), (2, &second), (1, &third)] {
            ledger.commit(put(peer, vec![entry.clone()]));
        }
        assert_eq!(ledger.owners(&key).collect::<Vec<_>>(), [3, 2, 1].map(PeerId));
        ledger.commit(put(1, vec![other.clone()]));
        assert_eq!((ledger.entry(&key), ledger.entries_of(PeerId(1))), (Some(&first), &[other.clone()][..]));
        ledger.commit(gone(2));
        assert_eq!(ledger.entry(&key), Some(&first));
        ledger.commit(gone(3));
        assert_eq!((ledger.entry(&key), ledger.count(Kind::Route)), (Some(&other), 1));
        ledger.commit(gone(1));
        assert_eq!((ledger.is_empty(), ledger.count(Kind::Route)), (true, 0));
        assert_eq!(ledger.owners(&key).count(), 0);
    }
}
