//! What a policy is not told yet: that a peer does not serve its generation any more, while the peer is still reached by that. Its entries go
//! when the peer is reached by the other one, and not before: between the two a packet would have no way.
//!
//! So it is with a node of upstream's, which is restarted with another backend and says nothing of generations.

use flannel_model::ledger::{PeerId, Slot};
use flannel_plugin_host::PeerChange;

use super::Coordinator;
use super::published::{Offer, offer};
use std::time::Instant;

impl Coordinator {
    /// Looks which of these changes are not for the policy of the generation that is left.
    pub(in crate::daemon::coordinator) fn hold_former(&mut self, changes: &[PeerChange]) {
        let Some(beside) = &mut self.change.beside else { return };
        if !beside.is_running() {
            return;
        }
        let keys = [
            (Slot::Serving, self.change.serving.backend_key(), self.change.base.backend_type.as_str()),
            (Slot::Beside, beside.config.backend_key(), beside.published.backend_type.as_str()),
        ];
        for change in changes {
            let id = change.id();
            let used = if beside.uses.contains(&id) { Slot::Beside } else { Slot::Serving };
            let is_left = |lease| {
                keys.iter().all(|(slot, key, its_type)| {
                    (offer(lease, key, its_type) == Offer::None) == (*slot == used)
                })
            };
            match change {
                PeerChange::Put(_, lease) if is_left(lease) => drop(beside.held.insert(id, used)),
                _ => drop(beside.held.remove(&id)),
            }
        }
    }

    /// Lease changes as the policy that serves is to see them, without what it is not told yet.
    pub(in crate::daemon::coordinator) fn for_serving(
        &self,
        mut changes: Vec<PeerChange>,
    ) -> Vec<PeerChange> {
        if let Some(beside) = &self.change.beside {
            changes.retain(|change| beside.held.get(&change.id()) != Some(&Slot::Serving));
        }
        self.change.for_serving(changes)
    }

    /// These peers are reached by the other generation from now on.
    pub(super) fn release_moved(&mut self, moved: &[(PeerId, Slot)], now: Instant) {
        for (id, to) in moved {
            self.release(*id, to.other(), now);
        }
    }

    /// The policy of this generation has answered about these peers. Those that it cannot serve do not move.
    pub(in crate::daemon::coordinator) fn release_rejected(&mut self, by: Slot, now: Instant) {
        let Some(beside) = &self.change.beside else { return };
        let health = if by == Slot::Beside { &beside.health } else { &self.health };
        let rejected: Vec<PeerId> =
            beside.held.keys().filter(|id| health.rejected.contains_key(id)).copied().collect();
        for id in rejected {
            self.release(id, by.other(), now);
        }
    }

    /// The change is about to be over: each policy has to know all.
    pub(super) fn release_all(&mut self, now: Instant) {
        let Some(beside) = &self.change.beside else { return };
        for (id, slot) in beside.held.clone() {
            self.release(id, slot, now);
        }
    }

    fn release(&mut self, id: PeerId, from: Slot, now: Instant) {
        let Some(beside) = &mut self.change.beside else { return };
        if beside.held.get(&id) != Some(&from) {
            return;
        }
        beside.held.remove(&id);
        let Some(change) = self.view.one(id) else { return };
        match from {
            Slot::Serving => self.pending.extend(self.change.for_serving(vec![change])),
            Slot::Beside => self.submit_to_beside(&[change], now),
        }
    }
}
