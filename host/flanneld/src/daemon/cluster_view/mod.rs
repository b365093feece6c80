//! Who has which subnets, as this node sees it: the one place that decides whose a lease is, and whether it is believed. Each peer that is
//! served has a number, under which plugin and ledger speak of it.

mod address_map;
mod lease_gate;
mod taken;
#[cfg(test)]
mod tests;
mod unserved;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use flannel_datapath::PeerReport;
use flannel_lease_store::{Change, Event, LEASE_TTL};
use flannel_model::entry::Kind;
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::lease_key::LeaseKey;
use flannel_model::ledger::PeerId;
use flannel_model::node_identity::NodeIdentity;
use flannel_plugin_host::PeerChange;
use flannel_telemetry::status;

use super::coordinator::PluginHealth;
use super::tunnel_stats;
pub(super) use lease_gate::LeaseGate;
use taken::Taken;

/// What becomes of a lease here.
enum Standing {
    /// It is a peer's. What of it is served may be less than the store has.
    Served { id: PeerId, lease: Arc<Lease> },
    /// It is not believed.
    Refused { reason: String, overlaps: bool },
}

/// Somebody else's lease.
struct Known {
    /// As the store has it.
    stored: Arc<Lease>,
    /// What of it no other node can have.
    keys: Box<[LeaseKey]>,
    /// The smaller, the older.
    age: u64,
    standing: Standing,
}

impl Known {
    /// Of a lease that has not been looked at yet.
    fn unjudged(stored: Arc<Lease>, age: u64) -> Self {
        let keys = LeaseKey::of(&stored.attributes);
        let standing = Standing::Refused { reason: String::new(), overlaps: false };
        Self { stored, keys, age, standing }
    }

    fn served(&self) -> Option<(PeerId, &Arc<Lease>)> {
        match &self.standing {
            Standing::Served { id, lease } => Some((*id, lease)),
            Standing::Refused { .. } => None,
        }
    }

    /// Whether it would be believed, if another one were not there.
    fn waits(&self) -> bool {
        matches!(self.standing, Standing::Refused { overlaps: true, .. })
    }
}

/// Why a lease is not believed.
struct Refusal {
    reason: String,
    /// An older lease has some of its addresses: it is looked at again when one goes.
    overlaps: bool,
}

/// What the store's news mean.
#[derive(Debug, Default)]
pub(super) struct Delta {
    /// What the policy has to be told.
    pub peers: Vec<PeerChange>,
    /// Our own lease is gone from the store, or somebody else's, or no lease any more.
    pub own_lost: bool,
    /// Leases that are not believed from now on, and why.
    pub refused: Vec<(Subnets, String)>,
    /// Somebody else has written our lease, as if it were his.
    pub own_contested: bool,
}

/// All leases: our own, and those of peers.
pub(super) struct ClusterView {
    gate: LeaseGate,
    own: Subnets,
    identity: NodeIdentity,
    /// What we publish that no other node can have.
    own_keys: Box<[LeaseKey]>,
    /// How old our own lease is, as far as the store has told; `None` while it has none.
    own_age: Option<u64>,
    /// What somebody else has written in place of our lease. No peer as long as we hold on to these subnets.
    usurper: Option<Arc<Lease>>,
    /// Each in a place of its own: a table of tens of thousands is half empty just after it has grown.
    known: HashMap<Subnets, Box<Known>>,
    /// Which of the served ones has which part of the address space, and which keys.
    taken: Taken,
    by_id: HashMap<PeerId, Subnets>,
    /// How many leases are refused because they overlap older ones.
    waiting: usize,
    /// One of those may be believed by now: all are to be looked at. Once for all that comes together: it takes its time.
    unsettled: bool,
    /// Peers whose leases the store has lost: they are held until their nodes write again, or could not have them any longer.
    held: HashMap<Subnets, Instant>,
    last_id: u64,
    last_age: u64,
}

impl ClusterView {
    /// Of a node with this lease, before it has heard of others.
    pub(super) fn new(own: &Lease, gate: LeaseGate) -> Self {
        Self {
            gate,
            own: own.subnets,
            identity: NodeIdentity::of(&own.attributes),
            own_keys: LeaseKey::of(&own.attributes),
            own_age: None,
            usurper: None,
            known: HashMap::new(),
            taken: Taken::default(),
            by_id: HashMap::new(),
            waiting: 0,
            unsettled: false,
            held: HashMap::new(),
            last_id: 0,
            last_age: 0,
        }
    }

    /// Takes what the store tells.
    pub(super) fn take(&mut self, event: Event, now: Instant) -> Delta {
        let mut delta = Delta::default();
        let mut rewritten = false;
        match event {
            Event::Snapshot(leases) => {
                for subnets in self.missing_in(&leases) {
                    self.remove(&subnets, &mut delta);
                }
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
                            // Who was younger than ours is not any more.
                            self.unsettled |= self.own_age.take().is_some() && !self.own_keys.is_empty();
                            delta.own_lost = true;
                        }
                        Change::Removed(subnets) => self.remove(&subnets, &mut delta),
                        Change::Contested(subnets) => rewritten |= subnets == self.own,
                        Change::Spoiled(subnets) => delta.own_lost |= subnets == self.own,
                    }
                }
            }
        }
        // Who has written another address, or what cannot be read, does not take himself for this node: the lease is lost to him.
        delta.own_contested = rewritten && self.usurper.is_none() && self.own_age.is_some();
        self.settle_if_needed(&mut delta);
        delta
    }

    /// The node holds this lease now, maybe in place of another one.
    pub(super) fn set_own(&mut self, own: &Lease) -> Delta {
        self.identity = NodeIdentity::of(&own.attributes);
        let keys = LeaseKey::of(&own.attributes);
        self.unsettled |= keys != self.own_keys;
        self.own_keys = keys;
        let usurper = self.usurper.take();
        let mut delta = Delta::default();
        if own.subnets != self.own {
            self.own = own.subnets;
            // What was somebody else's until we got it, and what was ours and is a peer's now.
            let age = self.known.get(&own.subnets).map(|known| known.age);
            let age = age.unwrap_or_else(|| self.next_age());
            let usurped = self.own_age.replace(age).zip(usurper);
            self.remove(&own.subnets, &mut delta);
            if let Some((age, lease)) = usurped {
                self.known.insert(lease.subnets, Box::new(Known::unjudged(lease, age)));
            }
            self.settle(&mut delta);
        } else if self.own_age.is_none() {
            self.own_age = Some(self.next_age());
        }
        self.settle_if_needed(&mut delta);
        delta
    }

    /// Something of ours that an older lease of another node has, too; and that lease. Then this machine is a clone of that node's, and is to be
    /// known by something else.
    pub(super) fn shared_key(&self) -> Option<(LeaseKey, Subnets)> {
        let holders = self.own_keys.iter().flat_map(|key| self.taken.holders(key).map(move |of| (*key, *of)));
        let mut foreign = holders.filter(|(_, holder)| !self.is_ours(holder));
        foreign.next()
    }

    /// Whether a lease is one that this node has, or had.
    fn is_ours(&self, subnets: &Subnets) -> bool {
        let known = self.known.get(subnets);
        known.is_some_and(|known| NodeIdentity::of(&known.stored.attributes).is_same_node(&self.identity))
    }

    /// Which leases are believed.
    pub(super) fn gate(&self) -> &LeaseGate {
        &self.gate
    }

    /// The node is elsewhere, or the cluster is another one: what was believed may not be any more, and what was not may be.
    pub(super) fn set_gate(&mut self, gate: LeaseGate) -> Delta {
        self.gate = gate;
        let mut delta = Delta::default();
        self.settle(&mut delta);
        delta
    }

    /// Those that were held for too long are gone.
    pub(super) fn expire(&mut self, now: Instant) -> Delta {
        let over = self.held.iter().filter(|(_, end)| **end <= now);
        let gone: Vec<Subnets> = over.map(|(subnets, _)| *subnets).collect();
        let mut delta = Delta::default();
        for subnets in gone {
            self.remove(&subnets, &mut delta);
        }
        self.settle_if_needed(&mut delta);
        delta
    }

    /// How many peers there are.
    pub(super) fn served(&self) -> usize {
        self.by_id.len()
    }

    /// How many leases are not believed.
    pub(super) fn refused(&self) -> usize {
        self.known.len() - self.by_id.len()
    }

    /// The subnets of a peer, for messages.
    pub(super) fn subnets(&self, id: PeerId) -> Option<Subnets> {
        self.by_id.get(&id).copied()
    }

    /// All peers, for a policy that is new or whose surroundings have changed; in the order in which they came.
    pub(super) fn all(&self) -> Vec<PeerChange> {
        let served = self.known.values().filter_map(|known| known.served());
        let mut all: Vec<PeerChange> =
            served.map(|(id, lease)| PeerChange::Put(id, Arc::clone(lease))).collect();
        all.sort_unstable_by_key(PeerChange::id);
        all
    }

    /// One of them; none if it is gone by now.
    pub(super) fn one(&self, id: PeerId) -> Option<PeerChange> {
        let known = self.by_id.get(&id).and_then(|subnets| self.known.get(subnets))?;
        known.served().map(|(id, lease)| PeerChange::Put(id, Arc::clone(lease)))
    }

    /// How things stand with each lease, in the order of their subnets. `published`: what this node says in its own.
    pub(super) fn statuses(
        &self,
        published: &Attributes,
        reports: &HashMap<PeerId, PeerReport>,
        plugin: &PluginHealth,
    ) -> Vec<status::Peer> {
        let mut known: Vec<&Known> = self.known.values().map(|known| &**known).collect();
        known.sort_by_key(|known| known.stored.subnets);
        let status = |known: &Known| {
            let stored = &known.stored;
            let peer = status::Peer {
                subnets: stored.subnets.iter().collect(),
                public: stored.attributes.public_addresses().collect(),
                backend_type: stored.attributes.backend_type.clone(),
                ..status::Peer::default()
            };
            match &known.standing {
                Standing::Served { id, lease } => {
                    let report = reports.get(id).cloned().unwrap_or_default();
                    let count = |kind| report.entries.get(&kind).copied().unwrap_or(0);
                    let problem = plugin.problem(*id);
                    // Whom the plugin has refused it has given a reason for.
                    let unserved = match &problem {
                        Some(_) => Vec::new(),
                        None => unserved::reasons(published, lease, report.entries.values().sum()),
                    };
                    let held = self
                        .held
                        .contains_key(&stored.subnets)
                        .then(|| "lost by the store; held until its node writes again".to_owned());
                    status::Peer {
                        id: id.0,
                        subnets: lease.subnets.iter().collect(),
                        routes: count(Kind::Route) + count(Kind::PolicyRoute),
                        neighbours: count(Kind::Neighbour),
                        fdb: count(Kind::Fdb),
                        tunnels: [Kind::WireguardPeer, Kind::TunnelPeer, Kind::IpsecPeer]
                            .map(count)
                            .iter()
                            .sum(),
                        traffic: report
                            .carried
                            .map(|carried| tunnel_stats::traffic(carried.traffic, carried.errors)),
                        path_mtu: report.carried.and_then(|carried| carried.path_mtu),
                        problems: problem
                            .into_iter()
                            .chain(unserved)
                            .chain(held)
                            .chain(report.problems)
                            .collect(),
                        ..peer
                    }
                }
                Standing::Refused { reason, .. } => {
                    status::Peer { problems: vec![format!("this lease is not believed: {reason}")], ..peer }
                }
            }
        };
        known.into_iter().map(status).collect()
    }

    /// Known leases that a snapshot does not have, but for those that are held.
    fn missing_in(&self, leases: &[Arc<Lease>]) -> Vec<Subnets> {
        let present: HashSet<Subnets> = leases.iter().map(|lease| lease.subnets).collect();
        let here = |subnets: &Subnets| present.contains(subnets) || self.held.contains_key(subnets);
        self.known.keys().filter(|subnets| !here(subnets)).copied().collect()
    }

    /// All leases that there are, the oldest first: who is older than whom is decided anew.
    fn put_all(&mut self, leases: Vec<Arc<Lease>>, delta: &mut Delta) {
        self.usurper = None;
        self.own_age = None;
        delta.own_lost = !leases.iter().any(|lease| lease.subnets == self.own);
        self.unsettled |= !self.known.is_empty();
        for lease in leases {
            let age = self.next_age();
            if let Some(known) = self.known.get_mut(&lease.subnets) {
                known.age = age;
            }
            self.put(lease, delta);
        }
    }

    /// A renewal that changes nothing but the expiry is no change.
    fn put(&mut self, lease: Arc<Lease>, delta: &mut Delta) {
        for displaced in self.displaced_by(&lease) {
            self.remove(&displaced, delta);
        }
        let subnets = lease.subnets;
        if subnets == self.own {
            if self.own_age.is_none() {
                self.own_age = Some(self.next_age());
            }
            let is_ours = NodeIdentity::of(&lease.attributes).is_same_node(&self.identity);
            delta.own_lost = !is_ours;
            self.usurper = (!is_ours).then_some(lease);
            return;
        }
        self.held.remove(&subnets);
        let Some(known) = self.known.get_mut(&subnets) else { return self.put_new(lease, delta) };
        let before = std::mem::replace(&mut known.stored, lease);
        if before.attributes == known.stored.attributes {
            return;
        }
        let keys = LeaseKey::of(&known.stored.attributes);
        let identity = |attributes| NodeIdentity::of(attributes);
        let is_same_node = identity(&before.attributes).is_same_node(&identity(&known.stored.attributes));
        if keys != known.keys || (!keys.is_empty() && !is_same_node) {
            // Where nobody else has the new ones, and nobody waits for the old ones, nobody else is concerned: a node that has made its device
            // anew must not cost a look at all leases.
            let is_free = |key: &LeaseKey| {
                !self.own_keys.contains(key) && self.taken.holders(key).all(|holder| *holder == subnets)
            };
            let concerns_nobody = self.waiting == 0 && known.served().is_some() && keys.iter().all(is_free);
            let served = self.gate.admit(&known.stored, &self.own).ok().filter(|_| concerns_nobody);
            self.rekey(subnets, keys);
            match served {
                Some(served) => self.follow(subnets, Ok(served), delta),
                // The old ones are given back when all are looked at.
                None => self.unsettled = true,
            }
            return;
        }
        match (&mut known.standing, self.gate.admit(&known.stored, &self.own)) {
            (Standing::Served { id, lease }, Ok(served)) => {
                *lease = part(&known.stored, served);
                delta.peers.push(PeerChange::Put(*id, Arc::clone(lease)));
            }
            // Nobody is in its way, and nobody waits for it to go.
            (Standing::Served { .. }, Err(reason)) if self.waiting == 0 => {
                self.follow(subnets, Err(Refusal { reason, overlaps: false }), delta);
            }
            (Standing::Refused { overlaps: false, .. }, Err(reason)) => {
                self.follow(subnets, Err(Refusal { reason, overlaps: false }), delta);
            }
            _ => self.unsettled = true,
        }
    }

    /// A lease has other keys than before.
    fn rekey(&mut self, subnets: Subnets, keys: Box<[LeaseKey]>) {
        let Some(known) = self.known.get_mut(&subnets) else { return };
        let before = std::mem::replace(&mut known.keys, keys);
        if let Some((_, lease)) = known.served() {
            self.taken.remove(&lease.subnets, &before, &subnets);
            self.taken.addresses.insert(&lease.subnets, subnets);
        }
    }

    /// The newest of all: it takes nobody's place.
    fn put_new(&mut self, lease: Arc<Lease>, delta: &mut Delta) {
        let (age, subnets) = (self.next_age(), lease.subnets);
        let known = Box::new(Known::unjudged(lease, age));
        let verdict = self.judge(&known, &self.taken);
        self.known.insert(subnets, known);
        self.follow(subnets, verdict, delta);
    }

    fn next_age(&mut self) -> u64 {
        self.last_age += 1;
        self.last_age
    }

    /// What of a lease is served where older ones have taken this. An error says why it is not believed.
    fn judge(&self, known: &Known, taken: &Taken) -> Result<Subnets, Refusal> {
        let lease = &known.stored;
        let served =
            self.gate.admit(lease, &self.own).map_err(|reason| Refusal { reason, overlaps: false })?;
        let others = |holder: &Subnets| *holder != lease.subnets;
        if let Some(holder) = taken.addresses.overlapping(&served).filter(others) {
            let reason = format!("it overlaps {}, which is older", self.name(&holder));
            return Err(Refusal { reason, overlaps: true });
        }
        let node = NodeIdentity::of(&lease.attributes);
        let is_older = self.own_age.is_some_and(|own| own < known.age);
        for key in &known.keys {
            if is_older && self.own_keys.contains(key) && !node.is_same_node(&self.identity) {
                let reason = format!("its {key} is that of this node, whose lease is older");
                return Err(Refusal { reason, overlaps: false });
            }
            let is_foreign = |holder: &&Subnets| {
                let holder = self.known.get(*holder).map(|known| NodeIdentity::of(&known.stored.attributes));
                holder.is_some_and(|holder| !holder.is_same_node(&node))
            };
            let mut holders = taken.holders(key).filter(|holder| others(holder)).filter(is_foreign);
            if let Some(holder) = holders.next() {
                let reason = format!("its {key} is that of {}, which is older", self.name(holder));
                return Err(Refusal { reason, overlaps: true });
            }
        }
        Ok(served)
    }

    /// A lease, for messages.
    fn name(&self, subnets: &Subnets) -> String {
        let known = self.known.get(subnets);
        match known.and_then(|known| known.stored.attributes.public_addresses().next()) {
            Some(address) => format!("{subnets} of {address}"),
            None => subnets.to_string(),
        }
    }

    fn settle_if_needed(&mut self, delta: &mut Delta) {
        if self.unsettled {
            self.settle(delta);
        }
    }

    /// Looks at all leases anew, the oldest first: as a node would that starts now.
    fn settle(&mut self, delta: &mut Delta) {
        self.unsettled = false;
        let mut order: Vec<(u64, Subnets)> =
            self.known.iter().map(|(subnets, known)| (known.age, *subnets)).collect();
        order.sort_unstable();
        let mut taken = Taken::default();
        let mut verdicts = Vec::with_capacity(order.len());
        for (_, subnets) in order {
            let Some(known) = self.known.get(&subnets) else { continue };
            let verdict = self.judge(known, &taken);
            if let Ok(served) = &verdict {
                taken.insert(served, &known.keys, subnets);
            }
            verdicts.push((subnets, verdict));
        }
        // Who goes makes room for who comes.
        verdicts.sort_by_key(|(_, verdict)| verdict.is_ok());
        for (subnets, verdict) in verdicts {
            self.follow(subnets, verdict, delta);
        }
        self.taken = taken;
    }

    /// Makes a lease's standing what it should be.
    fn follow(&mut self, subnets: Subnets, verdict: Result<Subnets, Refusal>, delta: &mut Delta) {
        let Some(known) = self.known.get_mut(&subnets) else { return };
        self.waiting -= usize::from(known.waits());
        match (&mut known.standing, verdict) {
            (Standing::Served { id, lease }, Ok(served)) => {
                let now = part(&known.stored, served);
                if (&lease.attributes, &lease.subnets) != (&now.attributes, &now.subnets) {
                    self.taken.remove(&lease.subnets, &known.keys, &subnets);
                    self.taken.insert(&served, &known.keys, subnets);
                    *lease = Arc::clone(&now);
                    delta.peers.push(PeerChange::Put(*id, now));
                }
            }
            (Standing::Served { id, lease }, Err(Refusal { reason, overlaps })) => {
                self.taken.remove(&lease.subnets, &known.keys, &subnets);
                self.by_id.remove(id);
                delta.peers.push(PeerChange::Removed(*id));
                known.standing = Standing::Refused { reason: reason.clone(), overlaps };
                delta.refused.push((subnets, reason));
            }
            (Standing::Refused { .. }, Ok(served)) => {
                self.last_id += 1;
                let (id, lease) = (PeerId(self.last_id), part(&known.stored, served));
                self.taken.insert(&served, &known.keys, subnets);
                self.by_id.insert(id, subnets);
                known.standing = Standing::Served { id, lease: Arc::clone(&lease) };
                delta.peers.push(PeerChange::Put(id, lease));
            }
            (Standing::Refused { reason: before, overlaps: did }, Err(Refusal { reason, overlaps })) => {
                *did = overlaps;
                if *before != reason {
                    before.clone_from(&reason);
                    delta.refused.push((subnets, reason));
                }
            }
        }
        self.waiting += usize::from(known.waits());
    }

    /// Peers that are held, and whose subnet somebody else has now, or whose node has another subnet.
    fn displaced_by(&self, lease: &Lease) -> Vec<Subnets> {
        let node = NodeIdentity::of(&lease.attributes);
        let same_node = |other: &Subnets| {
            let known = self.known.get(other);
            known.is_some_and(|known| NodeIdentity::of(&known.stored.attributes).is_same_node(&node))
        };
        let displaced = self
            .held
            .keys()
            .filter(|held| **held != lease.subnets && (held.overlaps(&lease.subnets) || same_node(held)));
        displaced.copied().collect()
    }

    /// A lease is gone. Who was refused because of it may be believed now.
    fn remove(&mut self, subnets: &Subnets, delta: &mut Delta) {
        self.held.remove(subnets);
        let Some(known) = self.known.remove(subnets) else { return };
        self.waiting -= usize::from(known.waits());
        let Some((id, lease)) = known.served() else { return };
        self.by_id.remove(&id);
        self.taken.remove(&lease.subnets, &known.keys, subnets);
        delta.peers.push(PeerChange::Removed(id));
        self.unsettled |= self.waiting > 0;
    }
}

/// A lease with these of its subnets.
fn part(lease: &Arc<Lease>, subnets: Subnets) -> Arc<Lease> {
    if lease.subnets == subnets {
        Arc::clone(lease)
    } else {
        Arc::new(Lease { subnets, ..Lease::clone(lease) })
    }
}
