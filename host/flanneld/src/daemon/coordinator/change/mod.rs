//! A change of the backend while packets flow: the generation that the network config wants is started beside the one that serves, each peer
//! moves to it when a probe by the new way has been answered, and the former goes when nobody needs it.
//!
//! | Module | What it decides |
//! |---|---|
//! | this one | when a change begins, and how it ends |
//! | [`beside`] | what the generation beside the one that serves is called for |
//! | [`held`] | what a policy is told only when the peer has moved |
//! | [`moves`] | by which generation each peer is reached |
//! | [`published`] | what the node says of its generations in its lease, and what others say in theirs |
//! | [`shown`] | what an operator sees of it |

mod beside;
mod held;
mod moves;
pub(in crate::daemon) mod published;
pub(in crate::daemon) mod shown;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::{Backoff, Timestamp};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::{PeerId, Slot};
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::PeerChange;
use tracing::{error, info, warn};

use super::refreshes::Refreshes;
use super::ticks::Ticks;
use super::{Coordinator, CurrentPlugin, Effect, News, Phase, PluginHealth};
use crate::daemon::coordinator::events::{BesideFacts, ChangeCall};

/// Waits before a generation that could not be started is tried again.
const START_RETRY: Backoff = Backoff { min: Duration::from_secs(2), max: Duration::from_mins(1) };
/// How long after it has begun to serve a generation a node may say that it uses it for everybody: the others are about to say that they
/// serve it, too.
const COMPLETE_AFTER: Duration = Duration::from_secs(3);
/// For how long nobody has to need a generation before it goes.
const CALM: Duration = Duration::from_secs(5);
/// For how long a node has published that it has one generation only, before the other one goes: who turns the change round meanwhile does not
/// move back to what is about to go, since he has heard of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is looked at how far all are.
const ASSESS: Duration = Duration::from_millis(200);

/// The backend that serves, and the change that is going on, if any.
pub(in crate::daemon) struct BackendChange {
    /// The network config whose backend serves.
    pub(super) serving: Arc<NetworkConfig>,
    /// The one in the store.
    target: Arc<NetworkConfig>,
    /// Why what is in the store is not taken up.
    refused: Option<String>,
    /// What the policy that serves wants to be published.
    pub(super) base: Attributes,
    /// What this node said of its generations before it was started, as long as it is not known whether that is still so.
    resumed: Option<Attributes>,
    beside: Option<Beside>,
    /// How often the start of a generation has failed in a row, and when it is tried again.
    retry: Option<(u32, Instant)>,
    /// Why it failed.
    failure: Option<String>,
    /// When a change that goes on has begun.
    since: Option<Timestamp>,
    /// Up to when all that was due has been looked at.
    seen: Option<Instant>,
}

/// A generation beside the one that serves.
struct Beside {
    config: Arc<NetworkConfig>,
    stage: Stage,
    began: Instant,
    /// What it wants to be published.
    published: Attributes,
    mtu: u32,
    /// Its plugin; none: it is not there yet.
    plugin: Option<CurrentPlugin>,
    /// The subnets that its policy has been told are this node's.
    told: Subnets,
    /// Lease changes that its policy is to be asked about.
    pending: VecDeque<PeerChange>,
    /// The peers that a call of it is about, and whether they have a lease.
    job: Option<BTreeMap<PeerId, bool>>,
    ticking: bool,
    commits: usize,
    ticks: Ticks,
    retry: Option<Instant>,
    /// Until when its policy is not asked about peers, because it has used up its time again and again.
    rest: Option<Instant>,
    health: PluginHealth,
    /// Peers that its policy wants to be told of again.
    refreshes: Refreshes,
    /// Peers that its policy is asked about, or was, and has not been told to forget.
    asked: HashSet<PeerId>,
    /// Peers that its policy has been asked about, and serves.
    served: HashSet<PeerId>,
    /// Peers that are reached by it.
    uses: HashSet<PeerId>,
    /// Peers that are not reached by the generation that is moved to.
    tries: BTreeMap<PeerId, moves::Try>,
    /// How often it was tried in vain to reach a peer by commands that fail while the former's entries are there.
    setbacks: BTreeMap<PeerId, u32>,
    /// Peers that do not serve the generation any more that they are reached by, whose policy is not told so yet.
    held: BTreeMap<PeerId, Slot>,
    /// Peers that have said of one that it is the main one, and that they use it for everybody: when they say nothing of generations any more,
    /// they have no other.
    settled: BTreeMap<PeerId, Slot>,
    /// Which one the others are told is the main one.
    main: Slot,
    /// Which one the datapath has on trial.
    on_trial: Slot,
    /// The peers that nothing was said of are reached by this one.
    usual: Slot,
    /// The change was turned round: whatever a peer was reached by before, a probe has to be answered.
    is_turned: bool,
    complete: bool,
    /// Since when nobody needs the one that is not moved to.
    calm_since: Option<Instant>,
    assess: Option<Instant>,
    waits_for: Vec<String>,
    moved: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is loaded, registered, and its devices are made.
    Starting,
    Running,
    /// One of both is about to be the only one, and the others are told so before anything of the other one goes.
    Leaving(Slot, Farewell),
    /// One of both is on its way to be the only one.
    Ending(Slot),
}

/// How far a node is in telling that it has one generation only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// It is being written down, for the next start.
    Recording,
    /// It is being published.
    Publishing,
    /// It has been in the store since then.
    Published(Instant),
}

impl BackendChange {
    /// `serving`: whose backend serves. `target`: what is in the store. `resumed`: what this node said before, in the middle of a change.
    pub(super) fn new(
        serving: Arc<NetworkConfig>,
        target: Arc<NetworkConfig>,
        base: Attributes,
        resumed: Option<Attributes>,
    ) -> Self {
        Self {
            serving,
            target,
            refused: None,
            base,
            resumed,
            beside: None,
            retry: None,
            failure: None,
            since: None,
            seen: None,
        }
    }

    /// Whether peers have to wait until it is known what was in force before: what is in the kernel is by which they are reached.
    pub(super) fn holds_peers(&self) -> bool {
        let starts = self.beside.as_ref().is_none_or(|beside| beside.stage == Stage::Starting);
        self.resumed.is_some() && starts && self.is_wanted()
    }

    /// Whether the policy that serves is not to be called, since it may be about to go.
    pub(super) fn holds_policy(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| matches!(beside.stage, Stage::Ending(_)))
    }

    /// Whether all that the generation beside wants is in the kernel, if there is one.
    pub(super) fn is_settled(&self) -> bool {
        !self.holds_peers()
            && self.beside.as_ref().is_none_or(|beside| {
                !beside.is_running()
                    || beside.pending.is_empty() && beside.job.is_none() && beside.commits == 0
            })
    }

    fn is_wanted(&self) -> bool {
        self.target.backend_key() != self.serving.backend_key()
    }

    /// The config that is to be gone on with, when the node starts over.
    pub(super) fn target(&self) -> Arc<NetworkConfig> {
        Arc::clone(&self.target)
    }

    /// When there is something to do. What is due already waits for an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let beside = self.beside.as_ref();
        let of_beside = beside.filter(|beside| beside.is_running()).into_iter().flat_map(|beside| {
            let refresh = beside.refreshes.deadline();
            let calls = [beside.retry, beside.rest, beside.ticks.due(), refresh].into_iter().flatten();
            let tries = beside.tries.values().filter_map(|one| one.due);
            let calm = beside.calm_since.map(|since| since + CALM);
            let farewell = match beside.stage {
                Stage::Leaving(_, Farewell::Published(since)) => Some(since + FAREWELL),
                _ => None,
            };
            calls.chain(tries).chain(calm).chain(farewell).chain(beside.assess)
        });
        let retry = self.retry.map(|(_, again)| again).filter(|_| beside.is_none());
        of_beside.chain(retry).filter(|due| self.seen.is_none_or(|seen| *due > seen)).min()
    }
}

impl Beside {
    fn new(config: Arc<NetworkConfig>, usual: Slot, told: Subnets, now: Instant) -> Self {
        Self {
            config,
            stage: Stage::Starting,
            began: now,
            published: Attributes::default(),
            mtu: 0,
            plugin: None,
            told,
            pending: VecDeque::new(),
            job: None,
            ticking: false,
            commits: 0,
            ticks: Ticks::default(),
            retry: None,
            rest: None,
            health: PluginHealth::default(),
            refreshes: Refreshes::default(),
            asked: HashSet::new(),
            served: HashSet::new(),
            uses: HashSet::new(),
            tries: BTreeMap::new(),
            setbacks: BTreeMap::new(),
            held: BTreeMap::new(),
            settled: BTreeMap::new(),
            main: Slot::Serving,
            on_trial: Slot::Beside,
            usual,
            is_turned: false,
            complete: false,
            calm_since: None,
            assess: None,
            waits_for: Vec::new(),
            moved: 0,
        }
    }

    /// Whether it is called, and peers may move.
    fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Leaving(..))
    }

    /// Whether its policy is being asked about a peer, if this is the slot that is meant.
    fn awaits(&self, peer: PeerId, slot: Slot) -> bool {
        let is_open = self.asked.contains(&peer) && !self.served.contains(&peer);
        slot == Slot::Beside && is_open && self.health.serves(peer)
    }

    fn is_free(&self) -> bool {
        self.is_running() && self.job.is_none() && !self.ticking && self.commits == 0
    }
}

impl Coordinator {
    /// The store has another network config, or one that cannot be taken up.
    pub(super) fn config_seen(&mut self, outcome: Result<Arc<NetworkConfig>, String>, now: Instant) {
        match outcome {
            Ok(config) => {
                self.change.refused = None;
                if config.backend_key() == self.change.target.backend_key() {
                    self.tell_of_change();
                    return;
                }
                info!(
                    backend = shown::shown(&config),
                    "the network config has another backend: the cluster changes to it"
                );
                self.change.target = config;
                (self.change.retry, self.change.failure) = (None, None);
                if self.change.beside.is_none() && !self.change.is_wanted() {
                    self.change.resumed = None;
                    self.change.since = None;
                    self.publish_generations(now);
                }
                self.retarget(now);
            }
            Err(reason) => {
                if self.change.refused.as_ref() != Some(&reason) {
                    error!(
                        reason,
                        "the network config in the store is not taken up: what is in force goes on"
                    );
                }
                self.change.refused = Some(reason);
            }
        }
        self.tell_of_change();
    }

    /// Begins a change that is wanted, and goes on with the one that is under way.
    pub(super) fn proceed_with_change(&mut self, now: Instant) {
        if self.change.beside.is_none() {
            self.begin_change_if_wanted(now);
        }
        self.call_beside(now);
        self.try_peers(now);
        self.assess(now);
        self.leave_if_calm(now);
        self.end_if_left(now);
        self.change.seen = Some(now);
    }

    fn begin_change_if_wanted(&mut self, now: Instant) {
        let resumed = self.change.resumed.is_some();
        let ready = matches!(self.phase, Phase::Ready { .. });
        let waits = self.change.retry.is_some_and(|(_, again)| again > now);
        let busy = self.swap.is_running() || self.restart.is_some() || self.ended;
        if !self.change.is_wanted() || waits || busy || !(ready || resumed) {
            return;
        }
        let usual = match &self.change.resumed {
            // Who was done with it may be the last to be so: the others may not have the former any more.
            Some(before) if published::is_complete(before, self.change.target.backend_key()) => Slot::Beside,
            _ => Slot::Serving,
        };
        let config = Arc::clone(&self.change.target);
        self.change.since.get_or_insert_with(Timestamp::now);
        let own = self.own.lease.clone();
        let mut beside = Beside::new(Arc::clone(&config), usual, own.subnets, now);
        if let Some(before) = &self.change.resumed
            && before.generation(config.backend_key()).is_some_and(|generation| generation.main)
        {
            beside.main = Slot::Beside;
        }
        self.change.beside = Some(beside);
        let serving = Arc::clone(&self.change.serving);
        self.effects.push(Effect::Change(ChangeCall::Start { serving, config, own, usual }));
        self.tell_of_change();
    }

    /// The generation beside is there: its devices can receive.
    pub(super) fn beside_started(&mut self, outcome: Result<BesideFacts, String>, now: Instant) {
        if self.change.beside.is_none() {
            return;
        }
        match outcome {
            Ok(facts) => {
                info!(
                    plugin = facts.name,
                    version = facts.version,
                    mtu = facts.mtu,
                    "the new backend is there beside the one in force"
                );
                self.change.resumed = None;
                (self.change.retry, self.change.failure) = (None, None);
                let all = self.view.all();
                if let Some(beside) = &mut self.change.beside {
                    beside.stage = Stage::Running;
                    (beside.published, beside.mtu) = (facts.published, facts.mtu);
                    beside.plugin = Some(facts.plugin);
                    beside.ticks.want(now);
                    beside.began = now;
                    beside.assess = Some(now + ASSESS);
                }
                self.submit_to_beside(&all, now);
                self.publish_generations(now);
            }
            Err(reason) => {
                let attempts = self.change.retry.map_or(0, |(attempts, _)| attempts);
                if self.change.failure.as_ref() != Some(&reason) {
                    error!(
                        reason,
                        backend = self.change.target.backend_type,
                        "the new backend cannot be had on this node: it stays with the one in force, and the others reach it by that; trying again"
                    );
                }
                self.change.failure = Some(reason);
                self.change.retry = Some((attempts.saturating_add(1), now + START_RETRY.after(attempts)));
                self.change.beside = None;
                let resumed = self.change.resumed.take().is_some();
                if resumed {
                    self.publish_generations(now);
                }
            }
        }
        // The target may be another one by now.
        self.retarget(now);
        self.tell_of_change();
    }

    /// What is moved to may be another generation than before.
    fn retarget(&mut self, now: Instant) {
        let target = self.target_slot();
        let Some(beside) = &mut self.change.beside else { return };
        if !beside.is_running() || beside.on_trial == target {
            return;
        }
        beside.stage = Stage::Running;
        beside.is_turned = true;
        info!(
            backend = self.change.target.backend_type,
            "the change of the backend is turned round: peers move back"
        );
        beside.on_trial = target;
        (beside.complete, beside.calm_since, beside.began) = (false, None, now);
        beside.assess = Some(now + ASSESS);
        beside.tries.clear();
        self.effects.push(Effect::Change(ChangeCall::SetTarget(target)));
        self.try_all(now);
        self.publish_generations(now);
    }

    /// Which generation is moved to.
    pub(super) fn target_slot(&self) -> Slot {
        let Some(beside) = &self.change.beside else { return Slot::Serving };
        let target = self.change.target.backend_key();
        // One that is neither of both comes when one of both is the only one; who has told the others of the new one goes on to that.
        let is_beside = beside.config.backend_key() == target
            || (beside.main == Slot::Beside && self.change.serving.backend_key() != target);
        if is_beside { Slot::Beside } else { Slot::Serving }
    }

    /// The generation that is not moved to goes when nobody has needed it for a while. First it is told.
    fn leave_if_calm(&mut self, now: Instant) {
        let target = self.target_slot();
        let is_at_rest = self.is_at_rest_for_the_end();
        let Some(beside) = &mut self.change.beside else { return };
        match beside.stage {
            Stage::Leaving(..) if beside.calm_since.is_none() => {
                // Somebody needs it after all.
                beside.stage = Stage::Running;
                self.publish_generations(now);
                self.tell_of_change();
            }
            Stage::Running if is_at_rest && beside.main == target => {
                if beside.calm_since.is_none_or(|since| since + CALM > now) {
                    return;
                }
                let former = if target == Slot::Beside { &self.change.serving } else { &beside.config };
                info!(former = shown::shown(former), "nobody needs the former backend any more: it goes");
                beside.stage = Stage::Leaving(target, Farewell::Recording);
                self.tell_of_change();
                self.effects.push(Effect::Change(ChangeCall::Record));
            }
            _ => {}
        }
    }

    /// What the next start has to know has been written down.
    pub(super) fn change_recorded(&mut self, now: Instant) {
        if let Some(beside) = &mut self.change.beside
            && let Stage::Leaving(_, farewell @ Farewell::Recording) = &mut beside.stage
        {
            *farewell = Farewell::Publishing;
            self.publish_generations(now);
        }
    }

    /// Nothing is under way, and the store has what is to be published.
    fn is_at_rest_for_the_end(&self) -> bool {
        let policy = self.job.is_none() && self.commits == 0 && self.pending.is_empty();
        let beside = self.change.beside.as_ref();
        let beside = beside.is_some_and(|beside| beside.is_free() && beside.pending.is_empty());
        policy && beside && !self.swap.is_running() && self.own.is_known(&self.own.lease.attributes)
    }

    /// All have had the time to hear that it goes.
    fn end_if_left(&mut self, now: Instant) {
        let is_at_rest = self.is_at_rest_for_the_end();
        let Some(beside) = &mut self.change.beside else { return };
        match beside.stage {
            Stage::Leaving(kept, Farewell::Publishing) if is_at_rest => {
                beside.stage = Stage::Leaving(kept, Farewell::Published(now));
            }
            Stage::Leaving(kept, Farewell::Published(since)) if is_at_rest && since + FAREWELL <= now => {
                beside.stage = Stage::Ending(kept);
                self.effects.push(Effect::Change(ChangeCall::End(kept)));
                self.tell_of_change();
            }
            _ => {}
        }
    }

    /// Gives the generation beside up at once, with what was reached by it: the node's own subnets are others, say.
    pub(super) fn give_up_beside(&mut self) {
        if let Some(beside) = &mut self.change.beside
            && beside.is_running()
        {
            warn!("the change of the backend begins anew");
            beside.stage = Stage::Ending(Slot::Serving);
            self.effects.push(Effect::Change(ChangeCall::End(Slot::Serving)));
        }
    }

    /// One generation is the only one now.
    pub(super) fn change_ended(&mut self, now: Instant) {
        let Some(Stage::Ending(kept)) = self.change.beside.as_ref().map(|beside| beside.stage) else {
            return;
        };
        self.release_all(now);
        let Some(beside) = self.change.beside.take() else { return };
        if kept == Slot::Beside {
            self.effects.push(Effect::Change(ChangeCall::TakeOver));
            self.take_over_beside(beside, now);
        } else {
            self.effects.push(Effect::Change(ChangeCall::Forget));
        }
        if !self.change.is_wanted() {
            self.change.since = None;
            info!(backend = shown::shown(&self.change.serving), "the backend is changed");
        }
        self.publish_generations(now);
        self.tell_of_change();
        self.look_again_if_wanted(now);
    }

    /// What was beside is what serves.
    fn take_over_beside(&mut self, beside: Beside, now: Instant) {
        let Beside {
            config,
            published,
            mtu,
            health,
            pending,
            ticks,
            retry,
            rest,
            told,
            plugin,
            refreshes,
            ..
        } = beside;
        self.change.serving = config;
        self.change.base = published;
        (self.health, self.refreshes) = (health, refreshes);
        (self.pending, self.ticks, self.retry, self.rest) = (pending, ticks, retry, rest);
        if let Some(plugin) = plugin {
            // What the operator named stays what he named, for the backends that it is for.
            self.plugin = CurrentPlugin { reference: self.plugin.reference.clone(), ..plugin };
        }
        self.tell_of_peers();
        self.set_mtu(mtu);
        let lease = Lease { subnets: told, ..self.own.lease.clone() };
        self.has_taken_up(&lease, now);
        self.tell(News::Lease(self.own.lease.clone(), self.own.mtu));
    }
}
