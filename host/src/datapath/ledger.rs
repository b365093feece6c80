//! The whole desired state, and the transactions that change it. The ledger knows nothing about the kernel, and the
//! reconciler knows nothing about peers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::entry::{Device, DeviceSpec, Entry, Key, Kind};

/// Names a peer for the life of the daemon; never reused. The `peer-id` of the WIT interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl PeerId {
    /// This node itself, for entries that are no peer's. Peers' numbers begin above it.
    pub const NODE: Self = Self(0);
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
    /// For each peer of the call, all of its entries from now on; none: the peer is gone.
    pub peers: BTreeMap<PeerId, Option<Vec<Entry>>>,
}

impl Transaction {
    /// Adds what a later call declared; where both speak of the same thing, the later one counts.
    pub fn merge(&mut self, later: Self) {
        self.devices.extend(later.devices);
        self.addresses.extend(later.addresses);
        self.networks.extend(later.networks);
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
    peers: HashMap<PeerId, Vec<Key>>,
    /// Nearly always one owner for each key. Where several peers claim the same key, the latest counts, and the one
    /// before returns when the latest goes.
    entries: HashMap<Key, Vec<(PeerId, Entry)>>,
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
        if !transaction.networks.is_empty() {
            self.networks.extend(transaction.networks);
            let routes = self.networks.iter().flat_map(|(name, networks)| {
                networks.iter().map(|network| Entry::Route {
                    destination: *network,
                    via: None,
                    onlink: false,
                    device: Device::Own(Arc::clone(name)),
                })
            });
            self.replace_peer(PeerId::NODE, routes.collect(), &mut changed.keys);
        }
        for (peer, entries) in transaction.peers {
            self.replace_peer(peer, entries.unwrap_or_default(), &mut changed.keys);
        }
        changed
    }

    fn replace_peer(&mut self, peer: PeerId, entries: Vec<Entry>, changed: &mut BTreeSet<Key>) {
        let old = self.peers.remove(&peer).unwrap_or_default();
        let new: HashMap<Key, Entry> = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
        for key in old {
            if !new.contains_key(&key)
                && let Some(owners) = self.entries.get_mut(&key)
            {
                owners.retain(|(owner, _)| *owner != peer);
                if owners.is_empty() {
                    self.entries.remove(&key);
                    self.kinds[key.kind() as usize] -= 1;
                }
                changed.insert(key);
            }
        }
        let mut keys: Vec<Key> = Vec::with_capacity(new.len());
        for (key, entry) in new {
            let owners = self.entries.entry(key.clone()).or_default();
            match owners.iter_mut().find(|(owner, _)| *owner == peer) {
                Some((_, same)) if *same == entry => {}
                Some((_, other)) => {
                    *other = entry;
                    changed.insert(key.clone());
                }
                None => {
                    self.kinds[key.kind() as usize] += usize::from(owners.is_empty());
                    owners.push((peer, entry));
                    changed.insert(key.clone());
                }
            }
            keys.push(key);
        }
        if !keys.is_empty() {
            keys.shrink_to_fit();
            self.peers.insert(peer, keys);
        }
    }

    /// The entry that should exist under a key.
    pub fn entry(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key).and_then(|owners| owners.last()).map(|(_, entry)| entry)
    }

    /// All entries that should exist.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter().filter_map(|(key, owners)| owners.last().map(|(_, entry)| (key, entry)))
    }

    /// The peers that claim a key, the one that counts last.
    pub fn owners(&self, key: &Key) -> impl Iterator<Item = PeerId> {
        self.entries.get(key).into_iter().flatten().map(|(peer, _)| *peer)
    }

    /// All devices that should exist.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceSpec> {
        self.devices.values()
    }

    /// The addresses that a device should have; none: not said yet, so whatever it has is left alone.
    pub fn addresses(&self, device: &str) -> Option<&BTreeSet<IpNet>> {
        self.addresses.get(device)
    }

    /// The peers that have entries, with their keys.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, &[Key])> {
        self.peers.iter().map(|(peer, keys)| (*peer, keys.as_slice()))
    }

    /// How many entries of a kind should exist.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds[kind as usize]
    }

    /// How many entries should exist.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry should exist.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
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
    fn a_key_claimed_twice_falls_back_to_the_other_peer() {
        let mut ledger = Ledger::default();
        let (first, second) = (route("10.5.1.0/24", "192.168.0.1"), route("10.5.1.0/24", "192.168.0.2"));
        ledger.commit(put(1, vec![first.clone()]));
        ledger.commit(put(2, vec![second.clone()]));
        assert_eq!(ledger.entry(&first.key()), Some(&second));
        ledger.commit(Transaction { peers: [(PeerId(2), None)].into(), ..Transaction::default() });
        assert_eq!(ledger.entry(&first.key()), Some(&first));
    }
}
