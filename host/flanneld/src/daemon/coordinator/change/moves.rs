//! By which generation each peer is reached. A peer moves when a probe by the new way has been answered; one that is not reached by the
//! former at all moves at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::Backoff;
use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Slot};
use flannel_plugin_host::PeerChange;
use ipnet::IpNet;
use tracing::{info, warn};

use super::published::{Offer, offer};
use super::{ASSESS, COMPLETE_AFTER, Coordinator, Stage};
use crate::daemon::coordinator::events::{ChangeCall, ProbeOrder};
use crate::daemon::coordinator::{Effect, Job};

/// Waits between two attempts to reach a peer by the new way.
const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };
/// The backend that brings no connectivity: probes are not answered by it, and not over it.
const NO_WAYS: &str = "alloc";
/// Lines of who holds up the end, at most.
const MAX_LINES: usize = 20;

/// An attempt to reach a peer by the generation that is moved to.
#[derive(Debug)]
pub(super) struct Try {
    /// When it is tried; none: it is being tried.
    pub due: Option<Instant>,
    failures: u32,
    /// Since when it does not answer.
    pub since: Instant,
    /// Why not.
    pub reason: Option<String>,
    /// There was news of the peer while it was tried.
    news: bool,
}

impl Try {
    fn new(now: Instant) -> Self {
        Self::after(0, now)
    }

    /// After so many that were in vain.
    fn after(failures: u32, now: Instant) -> Self {
        let wait = failures.checked_sub(1).map_or(Duration::ZERO, |earlier| RETRY.after(earlier));
        Self { due: Some(now + wait), failures, since: now, reason: None, news: false }
    }

    /// The peer has another lease: it may be otherwise now.
    pub(super) fn is_news(&mut self, now: Instant) {
        self.failures = 0;
        match &mut self.due {
            Some(due) => *due = (*due).min(now + Duration::from_millis(50)),
            None => self.news = true,
        }
    }
}

/// How a peer stands to both generations.
struct Standing {
    /// To the one that is moved to.
    target: Offer,
    /// The policy of that one cannot serve it, and may be able to when the former's entries are gone: its commands say no more than that
    /// they have failed.
    in_the_way: bool,
    /// The policy of that one has what is needed for it.
    target_ready: bool,
    /// The other one has a way to it.
    other: bool,
    used: Slot,
}

impl Coordinator {
    fn standing(&self, id: PeerId, lease: &Lease, target: Slot) -> Option<Standing> {
        let beside = self.change.beside.as_ref()?;
        let beside_key = beside.config.backend_key();
        let serving_key = self.change.serving.backend_key();
        let only = beside.settled.get(&id).filter(|_| lease.attributes.generations.is_empty());
        let to = |slot: Slot| match slot {
            _ if only.is_some_and(|only| *only != slot) => Offer::None,
            Slot::Serving => offer(lease, serving_key, &self.change.base.backend_type),
            Slot::Beside => offer(lease, beside_key, &beside.published.backend_type),
        };
        let ready = |slot: Slot| match slot {
            Slot::Serving => self.health.serves(id),
            Slot::Beside => beside.served.contains(&id),
        };
        let used = if beside.uses.contains(&id) { Slot::Beside } else { Slot::Serving };
        let other = target.other();
        let rejected = target == Slot::Beside && beside.health.rejected.contains_key(&id);
        Some(Standing {
            target: to(target),
            in_the_way: rejected && to(target) != Offer::None && self.by_commands(target),
            target_ready: to(target) != Offer::None && ready(target),
            other: to(other) != Offer::None && ready(other),
            used,
        })
    }

    /// Whether the policy of a generation runs commands. By what these have made no probe can be led: neither can it be tried nor seen.
    fn by_commands(&self, slot: Slot) -> bool {
        match slot {
            Slot::Serving => self.plugin.runs_commands,
            Slot::Beside => {
                let plugin = self.change.beside.as_ref().and_then(|beside| beside.plugin.as_ref());
                plugin.is_some_and(|plugin| plugin.runs_commands)
            }
        }
    }

    /// All peers may have to be tried.
    pub(super) fn try_all(&mut self, now: Instant) {
        let all = self.view.all().iter().map(PeerChange::id).collect();
        self.try_some(all, now);
    }

    /// These peers may have to be tried, or to be reached otherwise at once.
    pub(in crate::daemon::coordinator) fn try_some(&mut self, peers: Vec<PeerId>, now: Instant) {
        let target = self.target_slot();
        let blind = [Some(&self.change.serving), self.change.beside.as_ref().map(|beside| &beside.config)]
            .into_iter()
            .flatten()
            .any(|config| config.backend_type == NO_WAYS)
            || self.by_commands(target);
        let (mut moved, mut again) = (Vec::new(), Vec::new());
        for id in peers {
            let Some(PeerChange::Put(_, lease)) = self.view.one(id) else { continue };
            let Some(standing) = self.standing(id, &lease, target) else { return };
            let usual = self.change.beside.as_ref().map_or(Slot::Serving, |beside| beside.usual);
            let Some(beside) = &mut self.change.beside else { return };
            let is_resumed =
                usual == target && !beside.is_turned && matches!(standing.target, Offer::Said { .. });
            match (standing.target_ready, standing.used == target) {
                // Nothing can be lost by it, or nothing can be reached by the new one anyway.
                (true, false) if !standing.other || is_resumed || blind => moved.push((id, target, lease)),
                (true, false) => {
                    beside.tries.entry(id).or_insert_with(|| Try::new(now)).is_news(now);
                }
                (false, true) if beside.awaits(id, target) && beside.setbacks.contains_key(&id) => {}
                (false, true) if standing.other => {
                    moved.push((id, target.other(), lease));
                    again.extend(standing.in_the_way.then_some(id));
                }
                (false, false) if standing.other && standing.in_the_way => again.push(id),
                // Nothing was said of it to the datapath yet, and the policy that it is usually reached by cannot serve it.
                (false, false) if usual == target && standing.other && !beside.awaits(id, target) => {
                    moved.push((id, target.other(), lease));
                }
                (true, true) | (false, _) => drop(beside.tries.remove(&id)),
            }
        }
        self.move_peers(moved, now);
        let Some(beside) = &mut self.change.beside else { return };
        for id in again {
            let failures = beside.setbacks.get(&id).copied().unwrap_or_default();
            beside.tries.entry(id).or_insert_with(|| Try::after(failures, now));
        }
    }

    fn move_peers(&mut self, moved: Vec<(PeerId, Slot, Arc<Lease>)>, now: Instant) {
        if moved.is_empty() {
            return;
        }
        let Some(beside) = &mut self.change.beside else { return };
        let mut uses = Vec::with_capacity(moved.len());
        let gone: Vec<_> = moved.iter().map(|(id, slot, _)| (*id, *slot)).collect();
        for (id, slot, lease) in moved {
            match slot {
                Slot::Beside => beside.uses.insert(id),
                Slot::Serving => beside.uses.remove(&id),
            };
            beside.tries.remove(&id);
            uses.push((id, slot, lease.subnets.iter().collect::<Vec<IpNet>>()));
        }
        beside.assess.get_or_insert(now + ASSESS);
        beside.commits += 1;
        self.effects.push(Effect::Change(ChangeCall::Use(uses)));
        self.release_moved(&gone, now);
    }

    /// Sends probes that are due.
    pub(super) fn try_peers(&mut self, now: Instant) {
        let own = self.own.lease.subnets;
        let target = self.target_slot();
        let by_commands = self.by_commands(target);
        let serving_mtu = self.own.mtu;
        let Some(beside) = &mut self.change.beside else { return };
        if beside.stage != Stage::Running || beside.on_trial != target || beside.commits > 0 {
            return;
        }
        if by_commands && target == Slot::Beside {
            self.try_by_moving(now);
            return;
        }
        let mtu = if target == Slot::Beside { beside.mtu } else { serving_mtu };
        let mut orders = Vec::new();
        let mut gone = Vec::new();
        for (id, one) in &mut beside.tries {
            if one.due.is_none_or(|due| due > now) {
                continue;
            }
            let Some(PeerChange::Put(_, lease)) = self.view.one(*id) else {
                gone.push(*id);
                continue;
            };
            one.due = None;
            let ends = own.iter().filter_map(|from| {
                let same = |to: &IpNet| to.addr().is_ipv4() == from.addr().is_ipv4();
                Some((from.network(), lease.subnets.iter().find(same)?.network()))
            });
            let ends: Vec<(IpAddr, IpAddr)> = ends.collect();
            orders.push(ProbeOrder { peer: *id, ends, mtu });
        }
        for id in gone {
            beside.tries.remove(&id);
        }
        if !orders.is_empty() {
            self.effects.push(Effect::Change(ChangeCall::Probe(orders, target)));
        }
    }

    /// Moves peers for which commands have failed, and has the policy asked again: what they make may have no place beside the former's
    /// entries. Those for which they fail once more move back.
    fn try_by_moving(&mut self, now: Instant) {
        let Some(beside) = &mut self.change.beside else { return };
        let is_due = |one: &Try| one.due.is_some_and(|due| due <= now);
        let due: Vec<PeerId> =
            beside.tries.iter().filter(|(_, one)| is_due(one)).map(|(id, _)| *id).collect();
        if due.is_empty() {
            return;
        }
        for id in &due {
            *beside.setbacks.entry(*id).or_default() += 1;
            beside.tries.remove(id);
            beside.health.rejected.remove(id);
        }
        let again: Vec<PeerChange> = due.into_iter().filter_map(|id| self.view.one(id)).collect();
        let moved = again.iter().filter_map(|change| match change {
            PeerChange::Put(id, lease) => Some((*id, Slot::Beside, Arc::clone(lease))),
            PeerChange::Removed(_) => None,
        });
        self.move_peers(moved.collect(), now);
        // It is called when the kernel has that.
        self.submit_to_beside(&again, now);
    }

    /// A probe has been answered, or not.
    pub(in crate::daemon::coordinator) fn probed(
        &mut self,
        id: PeerId,
        by: Slot,
        outcome: Result<(), String>,
        now: Instant,
    ) {
        let target = self.target_slot();
        let subnets = self.view.subnets(id);
        let name = self.change.target.backend_type.clone();
        let Some(beside) = &mut self.change.beside else { return };
        let Some(one) = beside.tries.get_mut(&id) else { return };
        match outcome {
            Ok(()) if by == target && beside.stage == Stage::Running => {
                if let Some(PeerChange::Put(_, lease)) = self.view.one(id) {
                    if let Some(subnet) = subnets {
                        info!(peer = id.0, %subnet, "the peer has answered by {name}: it is reached by that from now on");
                    }
                    self.move_peers(vec![(id, target, lease)], now);
                }
            }
            // It was tried by the other one.
            Ok(()) => one.due = Some(now),
            Err(reason) => {
                let wait = RETRY.after(one.failures);
                one.failures = one.failures.saturating_add(1);
                let again = if std::mem::take(&mut one.news) { now + RETRY.min } else { now + wait };
                one.due = Some(again);
                if one.reason.as_ref() != Some(&reason)
                    && let Some(subnet) = subnets
                {
                    warn!(peer = id.0, %subnet, reason, "the peer stays with the backend before: it is not reached by {name}");
                }
                one.reason = Some(reason);
                beside.assess.get_or_insert(now + ASSESS);
            }
        }
    }

    /// Looks how far all are, and tells the others how far this node is.
    pub(super) fn assess(&mut self, now: Instant) {
        let target = self.target_slot();
        let due = |beside: &super::Beside| beside.is_running() && beside.assess.is_some_and(|due| due <= now);
        if !self.change.beside.as_ref().is_some_and(due) {
            return;
        }
        let mut view = Progress::default();
        let (mut repair, mut waits) = (Vec::new(), Vec::new());
        for change in self.view.all() {
            let PeerChange::Put(id, lease) = change else { continue };
            let Some(standing) = self.standing(id, &lease, target) else { return };
            let reached = standing.used == target && standing.target_ready;
            let wait = view.count(&standing, reached);
            if let Some(wait) = wait {
                waits.push((id, lease.subnets, wait));
            }
            let tried = self.change.beside.as_ref().is_some_and(|beside| beside.tries.contains_key(&id));
            if standing.target_ready && !reached && !tried
                || standing.used == target && !standing.target_ready
            {
                repair.push(id);
            }
        }
        let waits: Vec<String> = waits
            .into_iter()
            .map(|(id, subnets, wait)| self.why(id, &subnets.to_string(), wait, now))
            .collect();
        let settled = self.own.in_force.is_some() && self.change.is_settled();
        // What the policy that serves has for them is not known before it has answered.
        let asks = !self.pending.is_empty() || matches!(self.job, Some(Job::Apply { .. }));
        let Some(beside) = &mut self.change.beside else { return };
        beside.assess = (asks && !repair.is_empty()).then(|| now + ASSESS);
        if asks {
            repair.clear();
        }
        beside.waits_for = shortened(waits);
        beside.moved = view.reached;
        let may_begin = settled && now >= beside.began + COMPLETE_AFTER;
        // Once said it holds while a call is under way: taken back and said again it would be two more writes.
        let complete = view.unreached == 0 && (beside.complete || may_begin);
        if view.unreached == 0 && !complete {
            beside.assess = Some((now + ASSESS).max(beside.began + COMPLETE_AFTER));
        }
        beside.complete = complete;
        if complete && view.incomplete == 0 && beside.main != target {
            info!("all nodes reach each other by the new backend: it is the main one from now on");
            beside.main = target;
        }
        let nobody_needs_it = complete && view.needing == 0 && beside.main == target;
        beside.calm_since = match (nobody_needs_it, beside.calm_since) {
            (true, None) => Some(now),
            (true, since) => since,
            (false, _) => None,
        };
        self.try_some(repair, now);
        self.publish_generations(now);
        self.tell_of_change();
    }

    /// Why the end of the change waits for a peer.
    fn why(&self, id: PeerId, subnets: &str, wait: Wait, now: Instant) -> String {
        let to = &self.change.target.backend_type;
        match wait {
            Wait::Answer => {
                let reason = self.why_not_moved(id, now);
                format!("{subnets}: {}", reason.unwrap_or_else(|| format!("not yet reached by {to}")))
            }
            Wait::Serve => {
                format!("{subnets} does not serve {to}: its node is not ours, runs no daemon, or cannot")
            }
            Wait::Complete => format!("{subnets} does not reach all others by {to} yet"),
        }
    }

    /// Why a peer is not reached by the generation that is moved to.
    pub(super) fn why_not_moved(&self, id: PeerId, now: Instant) -> Option<String> {
        let beside = self.change.beside.as_ref()?;
        let to = &self.change.target.backend_type;
        if let Some(reason) = beside.health.rejected.get(&id).filter(|_| beside.on_trial == Slot::Beside) {
            return Some(format!("{to} cannot serve it: {reason}"));
        }
        let one = beside.tries.get(&id)?;
        let seconds = now.saturating_duration_since(one.since).as_secs();
        one.reason.as_ref().map(|reason| format!("no answer over {to} ({seconds} s): {reason}"))
    }
}

/// What a peer is waited for.
#[derive(Clone, Copy)]
enum Wait {
    Answer,
    Serve,
    Complete,
}

/// How far all are.
#[derive(Default)]
struct Progress {
    /// Peers that say that they serve what is moved to, and are not reached by it.
    unreached: usize,
    /// Nodes of ours that do not use it for everybody.
    incomplete: usize,
    /// Peers for which the former has to stay.
    needing: usize,
    reached: usize,
}

impl Progress {
    fn count(&mut self, standing: &Standing, reached: bool) -> Option<Wait> {
        self.reached += usize::from(reached);
        let wait = match standing.target {
            Offer::Said { .. } if !reached => {
                self.unreached += 1;
                self.incomplete += 1;
                Some(Wait::Answer)
            }
            Offer::Said { complete: false } => {
                self.incomplete += 1;
                Some(Wait::Complete)
            }
            Offer::Said { complete: true } => None,
            Offer::Maybe if reached => None,
            Offer::Maybe => Some(Wait::Answer),
            Offer::None => Some(Wait::Serve),
        };
        self.needing += usize::from(wait.is_some());
        wait
    }
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("and {more} more"));
    }
    lines
}
