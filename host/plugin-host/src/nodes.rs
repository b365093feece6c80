//! The nodes that segments of `policy-routing` may name, and what is to become of routes whose segments name one that has gone.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;

use flannel_model::entry::Entry;
use flannel_model::ledger::{PeerId, Transaction};
use flannel_model::policy_routing::PolicyRoute;

use super::policy::PeerChange;

/// Public IPv6 addresses of the cluster's other nodes, each with how many have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeAddresses(BTreeMap<Ipv6Addr, u32>);

impl NodeAddresses {
    pub(crate) fn contains(&self, address: &Ipv6Addr) -> bool {
        self.0.contains_key(address)
    }

    #[cfg(test)]
    pub(crate) fn of(addresses: impl IntoIterator<Item = Ipv6Addr>) -> Self {
        Self(addresses.into_iter().map(|address| (address, 1)).collect())
    }
}

/// What a policy has been told of, as far as segments have to do with it.
#[derive(Default)]
pub(crate) struct Nodes {
    known: Arc<NodeAddresses>,
    by_peer: HashMap<PeerId, Ipv6Addr>,
    /// An address is no node's any more, and it was not looked yet who has it among segments.
    lost: bool,
    /// All entries of the peers that have segments.
    with_segments: BTreeMap<PeerId, Vec<Entry>>,
}

impl Nodes {
    /// The addresses of those that are known.
    pub(crate) fn addresses(&self) -> Arc<NodeAddresses> {
        Arc::clone(&self.known)
    }

    /// Peers have these leases from now on, or none.
    pub(crate) fn learn(&mut self, changes: &[PeerChange]) {
        for change in changes {
            let address = match change {
                PeerChange::Put(_, lease) => lease.attributes.public_ipv6,
                PeerChange::Removed(_) => None,
            };
            let before = match address {
                Some(address) => self.by_peer.insert(change.id(), address),
                None => self.by_peer.remove(&change.id()),
            };
            if before == address {
                continue;
            }
            let known = Arc::make_mut(&mut self.known);
            if let Some(address) = address {
                *known.0.entry(address).or_default() += 1;
            }
            if let Some(before) = before
                && let Some(count) = known.0.get_mut(&before)
            {
                *count -= 1;
                if *count == 0 {
                    known.0.remove(&before);
                    self.lost = true;
                }
            }
        }
    }

    /// Takes note of what is declared for peers.
    pub(crate) fn note(&mut self, declared: &Transaction) {
        for (peer, entries) in &declared.peers {
            match entries {
                Some(entries) if entries.iter().any(has_segments) => {
                    self.with_segments.insert(*peer, entries.clone());
                }
                _ => drop(self.with_segments.remove(peer)),
            }
        }
    }

    /// Takes away the next hops that go through an address that is no node's any more. Answers the peers that had such, with what is left.
    pub(crate) fn cut(&mut self) -> Vec<(PeerId, Vec<Entry>)> {
        if !std::mem::take(&mut self.lost) {
            return Vec::new();
        }
        let known = &self.known;
        let is_cut = |entry: &Entry| match entry {
            Entry::PolicyRoute(route) => !route.segments().all(|segment| known.contains(&segment)),
            _ => false,
        };
        let cut = self.with_segments.iter().filter(|(_, entries)| entries.iter().any(is_cut));
        let left: Vec<(PeerId, Vec<Entry>)> = cut
            .map(|(peer, entries)| (*peer, entries.iter().filter_map(|entry| within(entry, known)).collect()))
            .collect();
        for (peer, kept) in &left {
            if kept.iter().any(has_segments) {
                self.with_segments.insert(*peer, kept.clone());
            } else {
                self.with_segments.remove(peer);
            }
        }
        left
    }
}

fn has_segments(entry: &Entry) -> bool {
    matches!(entry, Entry::PolicyRoute(route) if route.segments().next().is_some())
}

/// What of an entry goes through these nodes alone.
fn within(entry: &Entry, known: &NodeAddresses) -> Option<Entry> {
    let Entry::PolicyRoute(route) = entry else { return Some(entry.clone()) };
    if route.segments().all(|segment| known.contains(&segment)) {
        return Some(entry.clone());
    }
    let hops = route.hops.iter().filter(|hop| hop.segments().iter().all(|segment| known.contains(segment)));
    let mut hops: Vec<_> = hops.cloned().collect();
    if let [only] = &mut hops[..] {
        only.weight = 1;
    }
    let route = PolicyRoute { hops: hops.into(), ..PolicyRoute::clone(route) };
    (!route.hops.is_empty()).then(|| Entry::PolicyRoute(Arc::new(route)))
}

#[cfg(test)]
mod tests {
    use flannel_model::entry::Device;
    use flannel_model::lease::{Attributes, Lease, Subnets};
    use flannel_model::policy_routing::{Encapsulation, Hop};

    use super::*;

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    fn put(peer: u64, address: &str) -> PeerChange {
        let attributes = Attributes { public_ipv6: Some(v6(address)), ..Attributes::default() };
        let lease = Lease { subnets: Subnets { v4: None, v6: None }, attributes, expires: None };
        PeerChange::Put(PeerId(peer), Arc::new(lease))
    }

    fn route(metric: u32, ways: &[&[&str]]) -> Entry {
        let hop = |way: &&[&str]| Hop {
            device: Device::External,
            via: None,
            onlink: false,
            weight: 7,
            encapsulation: (!way.is_empty())
                .then(|| Arc::new(Encapsulation::Segments(way.iter().copied().map(v6).collect()))),
        };
        let destination = "10.5.3.0/24".parse().expect("a prefix");
        let (table, source, mtu, advmss) = (None, None, None, None);
        let hops = ways.iter().map(hop).collect();
        Entry::PolicyRoute(Arc::new(PolicyRoute { table, destination, metric, source, mtu, advmss, hops }))
    }

    fn declared(peer: u64, entries: &[Entry]) -> Transaction {
        Transaction { peers: [(PeerId(peer), Some(entries.to_vec()))].into(), ..Transaction::default() }
    }

    #[test]
    fn what_goes_through_a_node_that_has_gone_is_taken_away_and_all_else_stays() {
        let mut nodes = Nodes::default();
        nodes.learn(&[put(3, "fd77::3"), put(4, "fd77::4"), put(5, "fd77::5")]);
        let all = [
            route(1, &[&["fd77::4", "fd77::3"], &["fd77::3"]]),
            route(2, &[&["fd77::4", "fd77::3"]]),
            route(3, &[&[]]),
        ];
        nodes.note(&declared(3, &all));
        nodes.note(&declared(5, &[route(1, &[&["fd77::5"]])]));
        assert_eq!(nodes.cut(), []);
        // Somebody else has the same address for a while.
        nodes.learn(&[put(6, "fd77::4"), PeerChange::Removed(PeerId(4))]);
        assert_eq!(nodes.cut(), []);
        nodes.learn(&[put(6, "fd77::6")]);
        let Entry::PolicyRoute(left) = route(1, &[&["fd77::3"]]) else { panic!("no route") };
        let mut left = PolicyRoute::clone(&left);
        left.hops[0].weight = 1;
        let left = vec![Entry::PolicyRoute(Arc::new(left)), route(3, &[&[]])];
        assert_eq!(nodes.cut(), [(PeerId(3), left)]);
        assert_eq!(nodes.cut(), [], "once");
        // The peer's own address is another one, and it was not asked about successfully.
        nodes.learn(&[put(3, "fd77::33")]);
        assert_eq!(nodes.cut(), [(PeerId(3), vec![route(3, &[&[]])])]);
        nodes.learn(&[PeerChange::Removed(PeerId(5))]);
        nodes.note(&Transaction { peers: [(PeerId(5), None)].into(), ..Transaction::default() });
        assert_eq!(nodes.cut(), [], "its entries have gone with it");
        assert!(nodes.addresses().contains(&v6("fd77::6")) && !nodes.addresses().contains(&v6("fd77::4")));
    }
}
