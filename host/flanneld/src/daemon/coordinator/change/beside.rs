//! The policy of the generation beside the one that serves: told of the peers that serve it, and asked again where it fails.

use std::time::Instant;

use flannel_model::ledger::{Slot, Transaction};
use flannel_plugin_host::{ApplyOutcome, PeerChange};
use tracing::{error, warn};

use super::published::{for_beside, is_settled_in};
use super::{ASSESS, Coordinator, Stage};
use crate::daemon::coordinator::events::{ChangeCall, Effort, PolicyCall, Ticked};
use crate::daemon::coordinator::{Effect, Event, MAX_CHANGES, News};

impl Coordinator {
    /// Tells it of changes of the cluster.
    pub(in crate::daemon::coordinator) fn submit_to_beside(&mut self, changes: &[PeerChange], now: Instant) {
        let Some(beside) = &mut self.change.beside else { return };
        if beside.stage == Stage::Starting {
            return;
        }
        let (key, its_type) = (beside.config.backend_key(), beside.published.backend_type.as_str());
        let keys = [(Slot::Serving, self.change.serving.backend_key()), (Slot::Beside, key)];
        for change in changes {
            match change {
                PeerChange::Put(id, lease) if !lease.attributes.generations.is_empty() => {
                    let settled = keys.iter().find(|(_, key)| is_settled_in(&lease.attributes, key));
                    match settled {
                        Some((slot, _)) => beside.settled.insert(*id, *slot),
                        None => beside.settled.remove(id),
                    };
                }
                PeerChange::Put(..) => {}
                PeerChange::Removed(id) => drop(beside.settled.remove(id)),
            }
            if beside.held.get(&change.id()) == Some(&Slot::Beside) {
                continue;
            }
            let seen = match change {
                PeerChange::Put(id, lease) => match for_beside(lease, key, its_type) {
                    Some(lease) => PeerChange::Put(*id, lease),
                    None => PeerChange::Removed(*id),
                },
                removed @ PeerChange::Removed(_) => removed.clone(),
            };
            let id = seen.id();
            if matches!(change, PeerChange::Removed(_)) {
                beside.uses.remove(&id);
                beside.tries.remove(&id);
            } else if let Some(one) = beside.tries.get_mut(&id) {
                one.is_news(now);
            }
            // Whether the call about it has ended or not: what was asked for is taken back.
            if matches!(seen, PeerChange::Put(..)) {
                beside.asked.insert(id);
            } else if !beside.asked.remove(&id) {
                continue;
            }
            beside.pending.push_back(seen);
        }
        beside.assess.get_or_insert(now + ASSESS);
    }

    /// Calls it, if it is free and there is something to call it for.
    pub(super) fn call_beside(&mut self, now: Instant) {
        let Some(beside) = &mut self.change.beside else { return };
        if !beside.is_free() {
            return;
        }
        if beside.retry.is_some_and(|due| due <= now) {
            beside.retry = None;
            let deferred = std::mem::take(&mut beside.health.deferred);
            let again: Vec<PeerChange> = deferred.into_iter().filter_map(|id| self.view.one(id)).collect();
            self.submit_to_beside(&again, now);
        }
        let Some(beside) = &mut self.change.beside else { return };
        beside.rest = beside.rest.filter(|end| *end > now);
        let call = if !beside.pending.is_empty() && beside.rest.is_none() {
            let count = beside.pending.len().min(MAX_CHANGES);
            let changes: Vec<PeerChange> = beside.pending.drain(..count).collect();
            let about = changes.iter().map(|change| (change.id(), matches!(change, PeerChange::Put(..))));
            beside.job = Some(about.collect());
            PolicyCall::Apply(changes, beside.health.is_suspended().then_some(1))
        } else if beside.ticks.due().is_some_and(|due| due <= now) {
            beside.ticks.begin();
            beside.ticking = true;
            PolicyCall::Tick
        } else if let Some(again) = self.refresh_beside(now) {
            again
        } else {
            return;
        };
        self.effects.push(Effect::Change(ChangeCall::Policy(call)));
    }

    /// Tells it of peers that it has asked for and whose turn it is.
    fn refresh_beside(&mut self, now: Instant) -> Option<PolicyCall> {
        let beside = self.change.beside.as_mut().filter(|beside| beside.rest.is_none())?;
        let (key, its_type) = (beside.config.backend_key(), beside.published.backend_type.as_str());
        let mut turns = beside.refreshes.take(MAX_CHANGES, now);
        turns.retain(|id| {
            beside.asked.contains(id)
                && !beside.health.deferred.contains(id)
                && beside.held.get(id) != Some(&Slot::Beside)
        });
        let again = turns.into_iter().filter_map(|id| match self.view.one(id)? {
            PeerChange::Put(id, lease) => Some(PeerChange::Put(id, for_beside(&lease, key, its_type)?)),
            PeerChange::Removed(_) => None,
        });
        let again: Vec<PeerChange> = again.collect();
        if again.is_empty() {
            return None;
        }
        beside.job = Some(again.iter().map(|change| (change.id(), true)).collect());
        beside.refreshes.begin_call();
        Some(PolicyCall::Refresh(again, beside.health.is_suspended().then_some(1)))
    }

    /// A call of it has ended.
    pub(in crate::daemon::coordinator) fn beside_called(&mut self, event: Event, now: Instant) {
        match event {
            Event::Applied(applied, _, effort) => self.beside_applied(applied, effort, now),
            Event::Ticked(ticked, effort) => self.beside_ticked(ticked, effort, now),
            Event::Refresh(peers) => {
                if let Some(beside) = &mut self.change.beside {
                    let known = peers.into_iter().filter(|id| beside.asked.contains(id));
                    beside.refreshes.ask(known, now);
                }
            }
            Event::ProbesChanged => {
                // Before that, the first tick is still to come.
                if let Some(beside) = self.change.beside.as_mut().filter(|beside| beside.is_running()) {
                    beside.ticks.hear_news(now);
                }
            }
            Event::PublishedAnew { published, mtu, wish } => {
                if let Some(beside) = &mut self.change.beside {
                    (beside.published, beside.mtu) = (published, mtu);
                }
                self.publish_wish(wish, now);
            }
            _ => {}
        }
    }

    fn beside_applied(&mut self, applied: ApplyOutcome, effort: Effort, now: Instant) {
        for failure in applied.failures {
            if self.lines.take(1, now) {
                error!(plugin = failure.plugin, function = failure.function, "{failure}");
            }
            self.tell(News::PluginFailed(failure));
        }
        let Some(beside) = &mut self.change.beside else { return };
        let Some(asked) = beside.job.take() else { return };
        beside.refreshes.end_call(effort.processor, now);
        let health = &mut beside.health;
        beside.rest = health.rest_after_call(effort).map(|wait| now + wait);
        for (id, is_there) in &asked {
            health.rejected.remove(id);
            match is_there {
                true => beside.served.insert(*id),
                false => beside.served.remove(id),
            };
        }
        health.rejected.extend(applied.rejected);
        health.deferred.extend(applied.deferred.iter().map(PeerChange::id));
        beside.served.retain(|id| health.serves(*id));
        let put = asked.values().filter(|is_there| **is_there).count();
        health.record_attempt(put, applied.deferred.len());
        // One that is suspended is asked again when its peers have other leases.
        let again = !health.deferred.is_empty() && !health.is_suspended();
        beside.retry = again.then(|| now + health.retry_wait());
        self.commit_beside(applied.transaction);
        self.release_rejected(Slot::Beside, now);
        self.try_some(asked.into_keys().collect(), now);
    }

    fn beside_ticked(&mut self, ticked: Ticked, effort: Effort, now: Instant) {
        let Some(beside) = &mut self.change.beside else { return };
        beside.ticking = false;
        let rest = beside.health.rest_after_tick(effort);
        match ticked {
            Ok((transaction, next)) => {
                beside.health.record_tick();
                beside.ticks.end(next, rest, now);
                self.commit_beside(transaction);
            }
            Err(failure) => {
                warn!(plugin = failure.plugin, function = failure.function, "{failure}");
                let wait = beside.health.record_failed_tick().max(rest);
                beside.ticks.end(Some(wait), wait, now);
                self.tell(News::PluginFailed(failure));
            }
        }
    }

    fn commit_beside(&mut self, transaction: Transaction) {
        if let Some(beside) = &mut self.change.beside {
            beside.commits += 1;
            let subnets = transaction.peers.keys().filter_map(|id| {
                let subnets = self.view.subnets(*id)?;
                Some((*id, subnets.iter().collect()))
            });
            let subnets = subnets.collect();
            self.effects.push(Effect::Change(ChangeCall::Commit(transaction, subnets)));
        }
    }

    /// What it wanted is in the kernel, as far as that goes.
    pub(in crate::daemon::coordinator) fn beside_committed(&mut self, now: Instant) {
        if let Some(beside) = &mut self.change.beside {
            beside.commits = beside.commits.saturating_sub(1);
            beside.assess.get_or_insert(now + ASSESS);
        }
    }
}
