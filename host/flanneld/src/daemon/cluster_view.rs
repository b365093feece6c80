//! Who has which subnets, as this node sees it: the one place that decides whose a lease is. Each peer has a number, under which
//! plugin and ledger speak of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use flannel_datapath::PeerReport;
use flannel_lease_store::{Change, Event, LEASE_TTL};
use flannel_model::entry::Kind;
use flannel_model::lease::{Lease, Subnets};
use flannel_model::ledger::PeerId;
use flannel_model::node_identity::NodeIdentity;
use flannel_plugin_host::PeerChange;
use flannel_telemetry::status;

use super::coordinator::PluginHealth;
use super::tunnel_stats;

struct Peer {
    id: PeerId,
    lease: Arc<Lease>,
}

/// What the store's news mean.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// What the policy has to be told.
    pub peers: Vec<PeerChange>,
    /// Our own lease is gone from the store, or somebody else's.
    pub own_lost: bool,
}

/// All leases: our own, and those of peers.
pub(super) struct ClusterView {
    own: Subnets,
    identity: NodeIdentity,
    /// What somebody else has written in place of our lease. No peer as long as we hold on to these subnets.
    usurper: Option<Arc<Lease>>,
    known: HashMap<Subnets, Peer>,
    by_id: HashMap<PeerId, Subnets>,
    /// Peers whose leases the store has lost: they are held until their nodes write again, or could not have them any longer.
    held: HashMap<Subnets, Instant>,
    last_id: u64,
}

impl ClusterView {
    /// Of a node with this lease, before it has heard of others.
    pub(super) fn new(own: &Lease) -> Self {
        Self {
            own: own.subnets,
            identity: NodeIdentity::of(&own.attributes),
            usurper: None,
            known: HashMap::new(),
            by_id: HashMap::new(),
            held: HashMap::new(),
            last_id: 0,
        }
    }

    /// Takes what the store tells.
    pub(super) fn take(&mut self, event: Event, now: Instant) -> Delta {
        let mut delta = Delta::default();
        match event {
            Event::Snapshot(leases) => {
                let gone = self.missing_in(&leases);
                delta.peers.extend(gone.iter().filter_map(|subnets| self.remove(subnets)));
                self.put_all(leases, &mut delta);
            }
            // Leases that are not there are held for as long as they may last: upstream's nodes write again when their renewal is
            // due, which may be a day later.
            Event::StoreReset(leases) => {
                let missing = self.missing_in(&leases);
                self.held.extend(missing.into_iter().map(|subnets| (subnets, now + LEASE_TTL)));
                self.put_all(leases, &mut delta);
            }
            Event::Changes(changes) => {
                for change in changes {
                    match change {
                        Change::Put(lease) => self.put(lease, &mut delta),
                        Change::Removed(subnets) if subnets == self.own => {
                            self.usurper = None;
                            delta.own_lost = true;
                        }
                        Change::Removed(subnets) => delta.peers.extend(self.remove(&subnets)),
                    }
                }
            }
        }
        delta
    }

    /// The node holds this lease now, maybe in place of another one.
    pub(super) fn set_own(&mut self, own: &Lease) -> Vec<PeerChange> {
        self.identity = NodeIdentity::of(&own.attributes);
        let usurper = self.usurper.take();
        let mut delta = Delta::default();
        if own.subnets != self.own {
            self.own = own.subnets;
            // It was somebody else's until we got it.
            delta.peers.extend(self.remove(&own.subnets));
            // And what was ours is a peer's now.
            if let Some(lease) = usurper {
                self.put(lease, &mut delta);
            }
        }
        delta.peers
    }

    /// Those that were held for too long are gone.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<PeerChange> {
        let over = self.held.iter().filter(|(_, end)| **end <= now);
        let gone: Vec<Subnets> = over.map(|(subnets, _)| *subnets).collect();
        gone.iter().filter_map(|subnets| self.remove(subnets)).collect()
    }

    /// How many peers there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The subnets of a peer, for messages.
    pub(super) fn subnets(&self, id: PeerId) -> Option<Subnets> {
        self.by_id.get(&id).copied()
    }

    /// All peers, for a policy that is new or whose surroundings have changed; in the order in which they came.
    pub(super) fn all(&self) -> Vec<PeerChange> {
        let mut all: Vec<PeerChange> =
            self.known.values().map(|peer| PeerChange::Put(peer.id, Arc::clone(&peer.lease))).collect();
        all.sort_unstable_by_key(PeerChange::id);
        all
    }

    /// One of them; none if it is gone by now.
    pub(super) fn one(&self, id: PeerId) -> Option<PeerChange> {
        let peer = self.by_id.get(&id).and_then(|subnets| self.known.get(subnets))?;
        Some(PeerChange::Put(id, Arc::clone(&peer.lease)))
    }

    /// How things stand with each of them, in the order of their subnets.
    pub(super) fn statuses(
        &self,
        reports: &HashMap<PeerId, PeerReport>,
        plugin: &PluginHealth,
    ) -> Vec<status::Peer> {
        let mut known: Vec<&Peer> = self.known.values().collect();
        known.sort_by_key(|peer| peer.lease.subnets);
        let status = |peer: &Peer| {
            let report = reports.get(&peer.id).cloned().unwrap_or_default();
            let count = |kind| report.entries.get(&kind).copied().unwrap_or(0);
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
                traffic: report.carried.map(|carried| tunnel_stats::traffic(carried.traffic, carried.errors)),
                path_mtu: report.carried.and_then(|carried| carried.path_mtu),
                problems: plugin.problem(peer.id).into_iter().chain(held).chain(report.problems).collect(),
            }
        };
        known.into_iter().map(status).collect()
    }

    /// Known peers that a snapshot does not have, but for those that are held.
    fn missing_in(&self, leases: &[Arc<Lease>]) -> Vec<Subnets> {
        let present: HashSet<Subnets> = leases.iter().map(|lease| lease.subnets).collect();
        let here = |subnets: &Subnets| present.contains(subnets) || self.held.contains_key(subnets);
        self.known.keys().filter(|subnets| !here(subnets)).copied().collect()
    }

    /// All leases that there are.
    fn put_all(&mut self, leases: Vec<Arc<Lease>>, delta: &mut Delta) {
        self.usurper = None;
        delta.own_lost = !leases.iter().any(|lease| lease.subnets == self.own);
        for lease in leases {
            self.put(lease, delta);
        }
    }

    /// A renewal that changes nothing but the expiry is no change.
    fn put(&mut self, lease: Arc<Lease>, delta: &mut Delta) {
        delta.peers.extend(self.displaced_by(&lease).iter().filter_map(|subnets| self.remove(subnets)));
        if lease.subnets == self.own {
            let is_ours = NodeIdentity::of(&lease.attributes).is_same_node(&self.identity);
            delta.own_lost = !is_ours;
            self.usurper = (!is_ours).then_some(lease);
            return;
        }
        if let Some(peer) = self.known.get_mut(&lease.subnets) {
            let same = peer.lease.attributes == lease.attributes;
            peer.lease = Arc::clone(&lease);
            self.held.remove(&lease.subnets);
            if !same {
                delta.peers.push(PeerChange::Put(peer.id, lease));
            }
        } else {
            self.last_id += 1;
            let id = PeerId(self.last_id);
            self.by_id.insert(id, lease.subnets);
            self.known.insert(lease.subnets, Peer { id, lease: Arc::clone(&lease) });
            delta.peers.push(PeerChange::Put(id, lease));
        }
    }

    /// Peers that are held, and whose subnet somebody else has now, or whose node has another subnet.
    fn displaced_by(&self, lease: &Lease) -> Vec<Subnets> {
        let node = NodeIdentity::of(&lease.attributes);
        let same_node = |other: &Subnets| {
            let known = self.known.get(other);
            known.is_some_and(|peer| NodeIdentity::of(&peer.lease.attributes).is_same_node(&node))
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

    /// Of the node with 192.168.0.1 and 10.5.1.0/24.
    struct View(ClusterView);

    impl View {
        fn new() -> Self {
            Self(ClusterView::new(&lease("10.5.1.0/24", 1)))
        }

        fn take(&mut self, event: Event) -> Delta {
            self.0.take(event, Instant::now())
        }

        /// The snapshot's changes. Our own lease is in each.
        fn snapshot(&mut self, mut leases: Vec<Arc<Lease>>) -> Vec<PeerChange> {
            leases.push(lease("10.5.1.0/24", 1));
            let delta = self.take(Event::Snapshot(leases));
            assert!(!delta.own_lost);
            delta.peers
        }

        fn put(&mut self, lease: Arc<Lease>) -> Delta {
            self.take(Event::Changes(vec![Change::Put(lease)]))
        }

        /// The leases of all peers, by their subnets.
        fn peers(&self) -> Vec<Arc<Lease>> {
            let lease = |change| match change {
                PeerChange::Put(_, lease) => lease,
                PeerChange::Removed(id) => panic!("{id} is gone"),
            };
            let mut leases: Vec<Arc<Lease>> = self.0.all().into_iter().map(lease).collect();
            leases.sort_by_key(|lease| lease.subnets);
            leases
        }
    }

    #[test]
    fn a_snapshot_brings_the_new_the_changed_and_the_gone() {
        let mut view = View::new();
        let first = vec![lease("10.5.2.0/24", 2), lease("10.5.3.0/24", 3), lease("10.5.4.0/24", 4)];
        assert_eq!(view.snapshot(first).len(), 3, "our own lease is no peer");
        let changes = view.snapshot(vec![lease("10.5.2.0/24", 2), lease("10.5.3.0/24", 33)]);
        assert!(matches!(changes[0], PeerChange::Removed(_)), "the peer that is gone");
        let [_, PeerChange::Put(_, changed)] = &changes[..] else { panic!("{}", changes.len()) };
        assert_eq!(changed.attributes.public_ip, Some([192, 168, 0, 33].into()));
    }

    #[test]
    fn what_a_store_has_lost_is_held_until_its_node_writes_again_or_somebody_has_its_subnet() {
        let mut view = View::new();
        view.snapshot((2..=5).map(|n| lease(&format!("10.5.{n}.0/24"), n)).collect());
        let bereft = view.take(Event::StoreReset(Vec::new()));
        assert!(bereft.peers.is_empty() && bereft.own_lost);
        assert!(view.snapshot(vec![lease("10.5.2.0/24", 2)]).is_empty(), "the same as before");
        let other_subnet = view.put(lease("10.5.33.0/24", 3)).peers;
        assert!(
            matches!(other_subnet[..], [PeerChange::Removed(_), PeerChange::Put(..)]),
            "{}",
            other_subnet.len()
        );
        let other_node = view.put(lease("10.5.4.0/25", 44)).peers;
        assert!(
            matches!(other_node[..], [PeerChange::Removed(_), PeerChange::Put(..)]),
            "{}",
            other_node.len()
        );
        let now = Instant::now();
        assert!(view.0.expire(now).is_empty());
        let over = view.0.expire(now + LEASE_TTL);
        assert!(matches!(over[..], [PeerChange::Removed(_)]), "the one that never came");
        assert!(matches!(view.snapshot(Vec::new())[..], [_, _, _]), "those that wrote are held no more");
    }

    #[test]
    fn a_renewal_is_no_change() {
        let mut view = View::new();
        view.snapshot(vec![lease("10.5.2.0/24", 2)]);
        let expires = Some(std::time::SystemTime::now());
        let renewed = Lease { expires, ..Lease::clone(&lease("10.5.2.0/24", 2)) };
        assert!(view.put(Arc::new(renewed)).peers.is_empty());
    }

    #[test]
    fn a_subnet_that_is_leased_again_is_another_peer() {
        let mut view = View::new();
        let PeerChange::Put(first, _) = view.snapshot(vec![lease("10.5.2.0/24", 2)]).remove(0) else {
            panic!("a peer came");
        };
        view.take(Event::Changes(vec![Change::Removed(subnets("10.5.2.0/24"))]));
        let changes = view.put(lease("10.5.2.0/24", 2)).peers;
        assert!(matches!(changes[0], PeerChange::Put(id, _) if id != first));
    }

    #[test]
    fn who_takes_our_subnet_is_a_peer_once_we_have_another_one() {
        let mut view = View::new();
        let usurped = view.put(lease("10.5.1.0/24", 9));
        assert!(usurped.own_lost && usurped.peers.is_empty());
        let changes = view.0.set_own(&lease("10.5.7.0/24", 1));
        assert!(matches!(&changes[..], [PeerChange::Put(_, peer)] if peer.subnets == subnets("10.5.1.0/24")));
        assert_eq!(view.peers(), [lease("10.5.1.0/24", 9)]);
    }

    #[test]
    fn who_gives_our_subnet_back_before_we_have_another_one_is_no_peer() {
        let mut view = View::new();
        assert!(view.put(lease("10.5.1.0/24", 9)).own_lost);
        assert!(view.take(Event::Changes(vec![Change::Removed(subnets("10.5.1.0/24"))])).own_lost);
        assert!(view.0.set_own(&lease("10.5.7.0/24", 1)).is_empty());
    }

    #[test]
    fn a_lease_of_ours_that_is_lost_and_back_within_one_event_is_not_lost() {
        let mut view = View::new();
        let changes = vec![Change::Put(lease("10.5.1.0/24", 9)), Change::Put(lease("10.5.1.0/24", 1))];
        assert!(!view.take(Event::Changes(changes)).own_lost);
    }

    #[test]
    fn a_subnet_that_we_get_is_its_former_nodes_no_longer() {
        let mut view = View::new();
        view.snapshot(vec![lease("10.5.7.0/24", 7)]);
        assert!(matches!(view.0.set_own(&lease("10.5.7.0/24", 1))[..], [PeerChange::Removed(_)]));
        assert!(view.peers().is_empty());
    }

    /// Random histories, of which the end alone counts.
    #[test]
    fn the_view_is_what_a_fresh_start_would_see() {
        for seed in 0..500_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = move |below: u8| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                u8::try_from(state % u64::from(below)).unwrap_or_default()
            };
            let mut view = View::new();
            let (mut own, mut store) = (lease("10.5.0.0/24", 1), HashMap::new());
            view.0 = ClusterView::new(&own);
            store.insert(own.subnets, Arc::clone(&own));
            view.take(Event::Snapshot(store.values().cloned().collect()));
            for _ in 0..40 {
                let written = lease(&format!("10.5.{}.0/24", random(5)), 1 + random(4));
                let event = match random(4) {
                    0 => {
                        store.remove(&written.subnets);
                        Event::Changes(vec![Change::Removed(written.subnets)])
                    }
                    // Missed news, as after a reconnection.
                    1 => {
                        store.insert(written.subnets, written);
                        Event::Snapshot(store.values().cloned().collect())
                    }
                    _ => {
                        store.insert(written.subnets, Arc::clone(&written));
                        Event::Changes(vec![Change::Put(written)])
                    }
                };
                let lost = view.take(event).own_lost;
                if lost && random(2) == 0 {
                    // We get another one: one that is free, or our own again.
                    let free = (0..6).map(|n| lease(&format!("10.5.{n}.0/24"), 1));
                    let mut free = free.filter(|free| !store.contains_key(&free.subnets));
                    if let Some(next) = free.next() {
                        store.insert(next.subnets, Arc::clone(&next));
                        view.0.set_own(&next);
                        own = next;
                    }
                }
            }
            let mut fresh = View(ClusterView::new(&own));
            fresh.take(Event::Snapshot(store.values().cloned().collect()));
            assert_eq!(view.peers(), fresh.peers(), "seed {seed}");
        }
    }
}
