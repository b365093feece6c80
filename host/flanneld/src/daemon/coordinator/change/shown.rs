//! What an operator sees of a change.

use std::time::Instant;

use flannel_model::canonical::canonical;
use flannel_model::ledger::{PeerId, Slot};
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::extract_secrets;
use flannel_telemetry::status;

use super::{Beside, Coordinator, Stage};
use crate::daemon::coordinator::News;
use crate::node::backend_record::BackendRecord;

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
            from: shown(from),
            to: shown(to),
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
        status::Config { refused: self.change.refused.clone(), backend: shown(&self.change.target) }
    }

    /// What is written down for the next start.
    pub(in crate::daemon) fn backend_record(&self) -> BackendRecord {
        let change = &self.change;
        let kept = change.beside.as_ref().and_then(|beside| match beside.stage {
            Stage::Leaving(Slot::Serving, _) | Stage::Ending(Slot::Serving) => Some(&change.serving),
            Stage::Leaving(Slot::Beside, _) | Stage::Ending(Slot::Beside) => Some(&beside.config),
            Stage::Starting | Stage::Running => None,
        });
        BackendRecord {
            serving: change.serving.backend_key().to_owned(),
            changing: change.beside.is_some() || change.is_wanted(),
            kept: kept.map(|config| config.backend_key().to_owned()).unwrap_or_default(),
        }
    }

    /// Adds what a change means for each peer.
    pub(in crate::daemon) fn add_generations(&self, peers: &mut [status::Peer], now: Instant) {
        if self.change.beside.is_none() && !self.change.is_wanted() {
            return;
        }
        let uses = self.change.beside.as_ref().map(|beside| (&beside.uses, &beside.config));
        for peer in peers {
            let id = PeerId(peer.id);
            if id == PeerId::NODE {
                continue;
            }
            let beside = uses.filter(|(uses, _)| uses.contains(&id)).map(|(_, config)| config);
            let by = beside.unwrap_or(&self.change.serving);
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

/// The `Backend` section in its canonical form, for logs and reports: without its secrets.
pub(in crate::daemon) fn shown(config: &NetworkConfig) -> String {
    match extract_secrets(&config.backend_type, config.backend.get()) {
        Ok((options, _)) => canonical(&options),
        // What is wrong with them is said where they are needed.
        Err(_) => config.backend_type.clone(),
    }
}

fn phase(beside: &Beside, target: Slot) -> &'static str {
    match beside.stage {
        Stage::Starting => "starting",
        Stage::Leaving(..) | Stage::Ending(_) => "retiring",
        Stage::Running if beside.complete && beside.main == target => "main",
        Stage::Running if beside.complete => "moved",
        Stage::Running => "moving",
    }
}
