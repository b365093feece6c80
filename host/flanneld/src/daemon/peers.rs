//! The peers that are known, each with the number under which plugin and ledger speak of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use flannel_datapath::PeerReport;
use flannel_lease_store::{Change, LEASE_TTL};
use flannel_model::entry::Kind;
use flannel_model::lease::{Lease, Subnets};
use flannel_model::ledger::PeerId;
use flannel_plugin_host::PeerChange;
use flannel_telemetry::status;

use super::carried;
use super::serve::Trouble;

struct Peer {
    id: PeerId,
    lease: Arc<Lease>,
}

/// All leases but our own.
#[derive(Default)]
pub(super) struct Peers {
    known: HashMap<Subnets, Peer>,
    by_id: HashMap<PeerId, Subnets>,
    /// Peers whose leases the store has lost: they are held until their nodes write again, or could not have them any longer.
    held: HashMap<Subnets, Instant>,
    last_id: u64,
}

impl Peers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The subnets of a peer, for messages.
    pub(super) fn subnets(&self, id: PeerId) -> Option<Subnets> {
        self.by_id.get(&id).copied()
    }

    /// How things stand with each of them, in the order of their subnets.
    pub(super) fn statuses(
        &self,
        reports: &HashMap<PeerId, PeerReport>,
        trouble: &Trouble,
    ) -> Vec<status::Peer> {
        let mut known: Vec<&Peer> = self.known.values().collect();
        known.sort_by_key(|peer| peer.lease.subnets);
        let status = |peer: &Peer| {
            let report = reports.get(&peer.id).cloned().unwrap_or_default();
            let count = |kind| report.entries.get(&kind).copied().unwrap_or(0);
            let rejected =
                trouble.rejected.get(&peer.id).map(|reason| format!("the policy cannot serve it: {reason}"));
            let deferred = trouble.deferred.contains(&peer.id).then(|| "waits for the plugin".to_owned());
            let held = self
                .held
                .contains_key(&peer.lease.subnets)
                .then(|| "lost by the store; held until its node writes again".to_owned());
            status::Peer {
                id: peer.id.0,
                subnets: peer.lease.subnets.iter().collect(),
                public: peer.lease.attributes.public_addresses().collect(),
                backend_type: peer.lease.attributes.backend_type.clone(),
                routes: count(Kind::Route),
                neighbours: count(Kind::Neighbour),
                fdb: count(Kind::Fdb),
                tunnels: count(Kind::WireguardPeer) + count(Kind::TunnelPeer),
                traffic: report.carried.map(|carried| carried::traffic(carried.traffic, carried.errors)),
                path_mtu: report.carried.and_then(|carried| carried.path_mtu),
                problems: rejected.into_iter().chain(deferred).chain(held).chain(report.problems).collect(),
            }
        };
        known.into_iter().map(status).collect()
    }

    /// Takes a whole snapshot: what is new or changed, and what is gone.
    pub(super) fn replace(&mut self, leases: Vec<Arc<Lease>>, own: &Subnets) -> Vec<PeerChange> {
        let gone = self.missing_in(&leases);
        let mut changes: Vec<PeerChange> = gone.iter().filter_map(|subnets| self.remove(subnets)).collect();
        for lease in leases {
            self.put(lease, own, &mut changes);
        }
        changes
    }

    /// Takes a snapshot of a store that has lost its data. Leases that it does not have are held for as long as they may last:
    /// upstream's nodes write again when their renewal is due, which may be a day later.
    pub(super) fn hold(&mut self, leases: Vec<Arc<Lease>>, own: &Subnets) -> Vec<PeerChange> {
        let end = Instant::now() + LEASE_TTL;
        let missing = self.missing_in(&leases);
        self.held.extend(missing.into_iter().map(|subnets| (subnets, end)));
        let mut changes = Vec::new();
        for lease in leases {
            self.put(lease, own, &mut changes);
        }
        changes
    }

    /// Those that were held for too long are gone.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PeerChange> {
        let over = self.held.iter().filter(|(_, end)| **end <= now);
        let gone: Vec<Subnets> = over.map(|(subnets, _)| *subnets).collect();
        gone.iter().filter_map(|subnets| self.remove(subnets)).collect()
    }

    /// Takes changes in their order.
    pub(super) fn update(&mut self, news: Vec<Change>, own: &Subnets) -> Vec<PeerChange> {
        let mut changes = Vec::new();
        for change in news {
            match change {
                Change::Put(lease) => self.put(lease, own, &mut changes),
                Change::Removed(subnets) => changes.extend(self.remove(&subnets)),
            }
        }
        changes
    }

    /// Known peers that a snapshot does not have, but for those that are held.
    fn missing_in(&self, leases: &[Arc<Lease>]) -> Vec<Subnets> {
        let present: HashSet<Subnets> = leases.iter().map(|lease| lease.subnets).collect();
        let here = |subnets: &Subnets| present.contains(subnets) || self.held.contains_key(subnets);
        self.known.keys().filter(|subnets| !here(subnets)).copied().collect()
    }

    /// All of them again, for a policy that is new or whose surroundings have changed; in the order in which they came.
    pub(super) fn again(&self) -> Vec<PeerChange> {
        let mut all: Vec<PeerChange> =
            self.known.values().map(|peer| PeerChange::Put(peer.id, Arc::clone(&peer.lease))).collect();
        all.sort_unstable_by_key(PeerChange::id);
        all
    }

    /// One of them again; none if it is gone by now.
    pub(super) fn one_again(&self, id: PeerId) -> Option<PeerChange> {
        let peer = self.by_id.get(&id).and_then(|subnets| self.known.get(subnets))?;
        Some(PeerChange::Put(id, Arc::clone(&peer.lease)))
    }

    /// A renewal that changes nothing but the expiry is no change.
    fn put(&mut self, lease: Arc<Lease>, own: &Subnets, changes: &mut Vec<PeerChange>) {
        changes.extend(self.displaced_by(&lease).iter().filter_map(|subnets| self.remove(subnets)));
        if lease.subnets == *own {
            // It was somebody else's until we got it.
            changes.extend(self.remove(own));
            return;
        }
        if let Some(peer) = self.known.get_mut(&lease.subnets) {
            let same = peer.lease.attributes == lease.attributes;
            peer.lease = Arc::clone(&lease);
            self.held.remove(&lease.subnets);
            if !same {
                changes.push(PeerChange::Put(peer.id, lease));
            }
        } else {
            self.last_id += 1;
            let id = PeerId(self.last_id);
            self.by_id.insert(id, lease.subnets);
            self.known.insert(lease.subnets, Peer { id, lease: Arc::clone(&lease) });
            changes.push(PeerChange::Put(id, lease));
        }
    }

    /// Peers that are held, and whose subnet somebody else has now, or whose node has another subnet.
    fn displaced_by(&self, lease: &Lease) -> Vec<Subnets> {
        let same_node = |other: &Subnets| {
            let addresses = |lease: &Lease| lease.attributes.public_addresses().collect::<Vec<_>>();
            self.known.get(other).is_some_and(|peer| addresses(&peer.lease) == addresses(lease))
        };
        let displaced = self
            .held
            .keys()
            .filter(|held| **held != lease.subnets && (held.overlaps(&lease.subnets) || same_node(held)));
        displaced.copied().collect()
    }

    fn remove(&mut self, subnets: &Subnets) -> Option<PeerChange> {
        let peer = self.known.remove(subnets)?;
        self.held.remove(subnets);
        self.by_id.remove(&peer.id);
        Some(PeerChange::Removed(peer.id))
    }
}

#[cfg(test)]
mod tests {
    use flannel_model::lease::Attributes;

    use super::*;

    fn subnets(text: &str) -> Subnets {
        Subnets { v4: Some(text.parse().expect("prefix")), v6: None }
    }

    fn lease(subnet: &str, last: u8) -> Arc<Lease> {
        let attributes = Attributes { public_ip: Some([192, 168, 0, last].into()), ..Attributes::default() };
        Arc::new(Lease { subnets: subnets(subnet), attributes, expires: None })
    }

    fn own() -> Subnets {
        subnets("10.5.1.0/24")
    }

    #[test]
    fn a_snapshot_brings_the_new_the_changed_and_the_gone() {
        let mut peers = Peers::default();
        let first = vec![
            lease("10.5.1.0/24", 1),
            lease("10.5.2.0/24", 2),
            lease("10.5.3.0/24", 3),
            lease("10.5.4.0/24", 4),
        ];
        assert_eq!(peers.replace(first, &own()).len(), 3, "our own lease is no peer");
        let second = vec![lease("10.5.2.0/24", 2), lease("10.5.3.0/24", 33)];
        let changes = peers.replace(second, &own());
        assert!(matches!(changes[0], PeerChange::Removed(_)), "the peer that is gone");
        let [_, PeerChange::Put(_, changed)] = &changes[..] else { panic!("{}", changes.len()) };
        assert_eq!(changed.attributes.public_ip, Some([192, 168, 0, 33].into()));
    }

    #[test]
    fn what_a_store_has_lost_is_held_until_its_node_writes_again_or_somebody_has_its_subnet() {
        let mut peers = Peers::default();
        let all: Vec<Arc<Lease>> = (2..=5).map(|n| lease(&format!("10.5.{n}.0/24"), n)).collect();
        peers.replace(all.clone(), &own());
        assert!(peers.hold(Vec::new(), &own()).is_empty());
        assert!(peers.replace(vec![lease("10.5.2.0/24", 2)], &own()).is_empty(), "the same as before");
        let other_subnet = peers.update(vec![Change::Put(lease("10.5.33.0/24", 3))], &own());
        assert!(
            matches!(other_subnet[..], [PeerChange::Removed(_), PeerChange::Put(..)]),
            "{}",
            other_subnet.len()
        );
        let other_node = peers.update(vec![Change::Put(lease("10.5.4.0/25", 44))], &own());
        assert!(
            matches!(other_node[..], [PeerChange::Removed(_), PeerChange::Put(..)]),
            "{}",
            other_node.len()
        );
        let now = Instant::now();
        assert!(peers.expire(now).is_empty());
        assert!(
            matches!(peers.expire(now + LEASE_TTL)[..], [PeerChange::Removed(_)]),
            "the one that never came"
        );
        assert!(
            matches!(peers.replace(Vec::new(), &own())[..], [_, _, _]),
            "those that wrote are held no more"
        );
    }

    #[test]
    fn a_renewal_is_no_change() {
        let mut peers = Peers::default();
        peers.replace(vec![lease("10.5.2.0/24", 2)], &own());
        let renewed =
            Lease { expires: Some(std::time::SystemTime::now()), ..Lease::clone(&lease("10.5.2.0/24", 2)) };
        assert!(peers.update(vec![Change::Put(Arc::new(renewed))], &own()).is_empty());
    }

    #[test]
    fn a_subnet_that_is_leased_again_is_another_peer() {
        let mut peers = Peers::default();
        let PeerChange::Put(first, _) = peers.replace(vec![lease("10.5.2.0/24", 2)], &own()).remove(0) else {
            panic!("a peer came");
        };
        peers.update(vec![Change::Removed(subnets("10.5.2.0/24"))], &own());
        let changes = peers.update(vec![Change::Put(lease("10.5.2.0/24", 2))], &own());
        assert!(matches!(changes[0], PeerChange::Put(id, _) if id != first));
    }
}
