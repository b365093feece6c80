//! What an operator sees of a change.

use std::time::Instant;

use flannel_model::ledger::{PeerId, Slot};
use flannel_telemetry::status;

use super::{Beside, Coordinator, Stage};
use crate::daemon::coordinator::News;

impl Coordinator {
    /// The change that is going on, as `flanneld status` shows it; none at rest.
    pub(in crate::daemon) fn change_status(&self) -> Option<status::Change> {
        let change = &self.change;
        if change.beside.is_none() && !change.is_wanted() {
            return None;
        }
        let target = self.target_slot();
        let phase = change.beside.as_ref().map_or("starting", |beside| phase(beside, target));
        let (from, to) = match (&change.beside, target) {
            (Some(beside), Slot::Serving) => (&beside.config, &change.serving),
            _ => (&change.serving, &change.target),
        };
        let beside = change.beside.as_ref();
        Some(status::Change {
            from: from.backend_key().to_owned(),
            to: to.backend_key().to_owned(),
            from_type: from.backend_type.clone(),
            to_type: to.backend_type.clone(),
            phase: phase.to_owned(),
            since: change.since,
            moved: beside.map_or(0, |beside| beside.moved),
            peers: self.view.served(),
            failure: change.failure.clone(),
            waits_for: beside.map(|beside| beside.waits_for.clone()).unwrap_or_default(),
        })
    }

    /// What the store has as the network config, as `flanneld status` shows it.
    pub(in crate::daemon) fn config_status(&self) -> status::Config {
        status::Config {
            refused: self.change.refused.clone(),
            backend: self.change.target.backend_key().to_owned(),
        }
    }

    /// The `Backend` section that serves, in its canonical form.
    pub(in crate::daemon) fn serving_backend(&self) -> String {
        self.change.serving.backend_key().to_owned()
    }

    /// Adds what a change means for each peer.
    pub(in crate::daemon) fn add_generations(&self, peers: &mut [status::Peer], now: Instant) {
        let Some(beside) = &self.change.beside else { return };
        for peer in peers {
            let id = PeerId(peer.id);
            if id == PeerId::NODE {
                continue;
            }
            let by = if beside.uses.contains(&id) { &beside.config } else { &self.change.serving };
            peer.generation = Some(by.backend_type.clone());
            peer.problems.extend(self.why_not_moved(id, now));
        }
    }

    /// The change is otherwise than before.
    pub(in crate::daemon::coordinator) fn tell_of_change(&mut self) {
        let status = self.change_status();
        self.tell(News::Change(Box::new(status)));
    }
}

fn phase(beside: &Beside, target: Slot) -> &'static str {
    match beside.stage {
        Stage::Starting => "starting",
        Stage::Ending(_) => "retiring",
        Stage::Running if beside.complete && beside.main == target => "main",
        Stage::Running if beside.complete => "moved",
        Stage::Running => "moving",
    }
}
