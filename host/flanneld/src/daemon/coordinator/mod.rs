//! What the daemon does about what happens: a function of events and time. It waits for nothing and touches nothing. What is to be
//! done comes back as effects, which [`super::serve`] carries out, and what came of them comes as further events.
//!
//! | Module | What it decides |
//! |---|---|
//! | this one | which call of the policy is next, and when all that earlier runs left may go |
//! | [`own_lease`] | when the node's lease is renewed, and that policy, firewall and subnet file follow it |
//! | [`publishing`] | how often what a plugin publishes anew goes into the store |
//! | [`refreshes`] | when a plugin is told again of peers that it has asked for |
//! | [`ticks`] | when a plugin is due for a tick |
//! | [`own_interface`] | whether the node goes on with its external interface, waits for its address, or starts over with another |
//! | [`plugin_health`] | when a plugin that fails is asked again |
//! | [`change`] | how the cluster changes from one backend to another |
//! | [`swap`] | how one plugin takes another's place |
//! | [`events`] | the events and the effects |

mod change;
mod events;
mod own_interface;
mod own_lease;
mod plugin_health;
mod publishing;
mod refreshes;
mod swap;
#[cfg(test)]
mod tests;
mod ticks;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::{TokenBucket, micros};
use flannel_datapath::{PeerReport, Report};
use flannel_model::lease::{Attributes, Lease};
use flannel_model::lease_key::LeaseKey;
use flannel_model::ledger::{PeerId, Slot, Transaction};
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{ApplyOutcome, PeerChange, PluginError, PluginReference};
use flannel_telemetry::control::Asker;
use flannel_telemetry::{Lack, Step, status};
use tracing::{debug, error, info, warn};

use crate::node::external::External;

use super::cluster_view::{ClusterView, Delta, LeaseGate};
use change::BackendChange;
pub(super) use change::{published, shown};
pub(super) use events::{
    BesideFacts, Candidate, Cause, ChangeCall, DatapathCall, Effect, Effort, Event, News, PolicyCall,
    ProbeOrder, StoreCall, Ticked, TrialCall,
};
pub(super) use own_interface::ADDRESS_GRACE;
use own_interface::InterfaceWatch;
use own_lease::OwnLease;
pub(super) use plugin_health::PluginHealth;
use plugin_health::{RETRY, SUSPEND_AFTER_FAILURES};
pub(super) use publishing::Wish;
use refreshes::Refreshes;
use swap::{Swap, Trigger};
use ticks::Ticks;

/// Changes of the surroundings come in bursts: this long is waited for more before the policy is asked again.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Lease changes that the policy is asked about at once: a few hundredths of a second's work.
const MAX_CHANGES: usize = 2048;
/// Lease changes that wait for the policy, before the store has to wait with more.
const MAX_PENDING: usize = 4 * MAX_CHANGES;
/// Lines about single failures of the plugin and single peers that it cannot serve: so many at once, and one each such time. What is in
/// them is the plugin's.
const LINES: (u32, Duration) = (100, Duration::from_secs(1));
/// Transactions on their way to the kernel, before the policy has to wait with more.
const MAX_COMMITS: usize = 2;

/// The plugin that serves.
#[derive(Clone, Debug)]
pub(super) struct CurrentPlugin {
    /// What the operator named; `None`: nothing.
    pub reference: Option<PluginReference>,
    /// It is that which serves, and not the built-in one for a backend that it is not for.
    pub is_named: bool,
    /// SHA-256 of its component.
    pub digest: String,
    /// Its place in the durable store.
    pub store: String,
    /// It runs commands, which change what the kernel has without anybody's being told.
    pub runs_commands: bool,
}

/// What does not change while the node is in operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Between two looks at what nobody tells us of.
    pub upkeep: Duration,
    /// Whether the own subnets get blackhole routes.
    pub blackhole: bool,
    /// Whether a plugin or firewall that fails for the first lease ends the daemon: nothing is in operation yet.
    pub first_failure_is_fatal: bool,
    /// For so long the first peers are waited for, before pods are let in without; none: for ever.
    pub patience: Option<Duration>,
}

/// What a node begins with.
pub(super) struct Beginning {
    /// The lease that it holds.
    pub own: Lease,
    /// What its policy wants to publish.
    pub published: Attributes,
    /// The network config whose backend that is.
    pub serving: Arc<NetworkConfig>,
    /// The network config in the store.
    pub config: Arc<NetworkConfig>,
    /// What this node said of its generations before, if that was in the middle of a change of the backend.
    pub resumed: Option<Attributes>,
    /// The MTU of pods.
    pub mtu: u32,
    /// How long until the lease has to be renewed; `None` if never.
    pub renewal: Option<Duration>,
    /// The peers, if they are known from before.
    pub view: Option<ClusterView>,
    /// Which leases are believed.
    pub gate: LeaseGate,
    /// The plugin.
    pub plugin: CurrentPlugin,
    /// The external interface.
    pub external: External,
    /// What this node must not be known by, since another one is.
    pub avoid: Vec<LeaseKey>,
}

/// What a restart with another external interface keeps.
pub(super) struct Preserved {
    /// The lease that the node holds, as the store has it.
    pub own: Lease,
    /// The peers; `None` if the store has not told of them yet.
    pub view: Option<ClusterView>,
    /// The plugin that serves.
    pub plugin: CurrentPlugin,
    /// The network config in the store.
    pub config: Arc<NetworkConfig>,
    /// What this node must not be known by, since another one is.
    pub avoid: Vec<LeaseKey>,
}

/// How far the peers of the first snapshot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The store has not told of leases yet.
    Waiting,
    /// They are on their way through the policy into the kernel.
    Applying,
    /// The kernel is being cleaned of what earlier runs left, if the policy has spoken about all peers.
    Adopting { complete: bool },
    /// In operation. As long as the policy has not spoken about some peer, an earlier run's entries for it stay.
    Ready { adopted: bool },
}

/// How the first peers are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstPeers {
    /// However long it takes, or not any more, since they are there.
    Whenever,
    /// Until then.
    Until(Instant),
    /// The node is ready without all of them.
    Lacking,
}

/// Why the policy is asked about peers.
#[derive(Clone, Copy)]
enum Why {
    /// Their leases have changed, or the policy has to know them from the beginning.
    Changed,
    /// It has asked for them.
    Refresh,
}

/// A call of the policy that is under way.
enum Job {
    LeaseAcquired(Lease),
    Apply { asked: BTreeSet<PeerId>, gone: usize, why: Why },
    Tick,
}

/// The state of a node in operation.
pub(super) struct Coordinator {
    settings: Settings,
    view: ClusterView,
    own: OwnLease,
    health: PluginHealth,
    plugin: CurrentPlugin,
    swap: Swap,
    change: BackendChange,
    external: External,
    avoid: Vec<LeaseKey>,
    phase: Phase,
    /// Lease changes that the policy is to be asked about, in their order.
    pending: VecDeque<PeerChange>,
    job: Option<Job>,
    /// Transactions on their way to the kernel.
    commits: usize,
    ticks: Ticks,
    /// When peers that wait for the plugin are tried again.
    retry: Option<Instant>,
    /// Until when the policy is not asked about peers, because it has used up its time again and again.
    rest: Option<Instant>,
    /// Peers that the policy wants to be told of again.
    refreshes: Refreshes,
    /// What may be said of single failures and peers.
    lines: TokenBucket,
    /// When the surroundings have been calm for long enough.
    debounce: Option<Instant>,
    /// A look at the interfaces is under way.
    looking: bool,
    watch: InterfaceWatch,
    /// The policy has to be told of all peers again afterwards: what it decides may depend on what has changed.
    replay_wanted: bool,
    upkeep: Instant,
    /// The external interface to start over with, as soon as the policy is free.
    restart: Option<External>,
    /// The end of this has been asked for.
    ended: bool,
    first_peers: FirstPeers,
    /// All peers are in the kernel, which is not said before the node's own things are in place.
    unsaid: Option<Report>,
    effects: Vec<Effect>,
}

impl Coordinator {
    /// Begins; the first effects come with the first event, which [`Self::deadline`] makes due at once.
    pub(super) fn new(settings: Settings, beginning: Beginning, now: Instant) -> Self {
        let Beginning {
            own,
            published,
            serving,
            config,
            resumed,
            mtu,
            renewal,
            view,
            gate,
            plugin,
            external,
            avoid,
        } = beginning;
        let change = BackendChange::new(serving, config, published, resumed);
        let published = change.published(Slot::Serving);
        let (view, phase, effects) = match view {
            Some(mut view) => {
                // All that is believed is told anew in any case.
                let _ = view.set_gate(gate);
                let admit = Effect::Admit(view.all());
                (view, Phase::Applying, vec![admit])
            }
            None => (ClusterView::new(&own, gate), Phase::Waiting, Vec::new()),
        };
        let mut coordinator = Self {
            pending: change.for_serving(view.all()).into(),
            view,
            own: OwnLease::new(own, published, mtu, renewal.map(|wait| now + wait), now),
            health: PluginHealth::default(),
            plugin,
            swap: Swap::default(),
            change,
            external,
            avoid,
            phase,
            job: None,
            commits: 0,
            ticks: Ticks::default(),
            retry: None,
            rest: None,
            refreshes: Refreshes::default(),
            lines: TokenBucket::full(LINES.0, LINES.1, now),
            debounce: None,
            looking: false,
            watch: InterfaceWatch::default(),
            replay_wanted: false,
            upkeep: now + settings.upkeep,
            restart: None,
            ended: false,
            first_peers: settings
                .patience
                .map_or(FirstPeers::Whenever, |patience| FirstPeers::Until(now + patience)),
            unsaid: None,
            effects,
            settings,
        };
        coordinator.tell_of_change();
        coordinator
    }

    /// Takes an event, and answers what is to be done, in this order.
    pub(super) fn on(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        self.take(event, now);
        self.proceed(now);
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Time`] is wanted, if nothing else happens before.
    pub(super) fn deadline(&self) -> Instant {
        let mut due = Vec::new();
        let own = [self.own.renewal_due(), self.own.file_due(), self.own.contest_over()];
        due.extend(own.into_iter().flatten());
        due.extend(self.debounce.filter(|_| !self.looking));
        due.extend(self.change.deadline());
        if let FirstPeers::Until(end) = self.first_peers {
            due.push(end);
        }
        if self.policy_is_free() {
            let calls = [self.own.uptake_due(), self.retry, self.rest, self.ticks.due(), self.refresh_due()];
            due.extend(calls.into_iter().flatten());
        }
        due.into_iter().min().map_or(self.upkeep, |due| due.min(self.upkeep))
    }

    /// Whether it can take more lease changes: a plugin may be slower than the store.
    pub(super) fn takes_leases(&self) -> bool {
        self.pending.len() < MAX_PENDING
    }

    /// Whether the peers of the first snapshot are not in the kernel yet.
    pub(super) fn is_starting(&self) -> bool {
        !matches!(self.phase, Phase::Ready { .. })
    }

    /// How things stand with each peer.
    pub(super) fn peers(&self, reports: &HashMap<PeerId, PeerReport>) -> Vec<status::Peer> {
        let mut peers = self.view.statuses(&self.change.base, reports, &self.health);
        self.add_generations(&mut peers, Instant::now());
        peers
    }

    /// What a restart keeps. Nothing else is to be asked of this coordinator afterwards.
    pub(super) fn preserve(&mut self) -> Preserved {
        let own = self.own.lease.clone();
        let view = std::mem::replace(&mut self.view, ClusterView::new(&own, LeaseGate::default()));
        let view = (self.phase != Phase::Waiting).then_some(view);
        let config = self.change.target();
        Preserved { own, view, plugin: self.plugin.clone(), config, avoid: std::mem::take(&mut self.avoid) }
    }

    fn take(&mut self, event: Event, now: Instant) {
        match event {
            Event::Store(event) => {
                let delta = self.view.take(event, now);
                let (lost, contested) = (delta.own_lost, delta.own_contested);
                self.submit(delta, now);
                if lost {
                    self.own.verify(now);
                }
                if contested {
                    self.lease_contested(now);
                }
                self.look_for_clones();
                if self.phase == Phase::Waiting {
                    self.phase = Phase::Applying;
                    self.effects.push(Effect::Admit(self.view.all()));
                }
            }
            Event::Renewed(outcome) => self.renewed(outcome, now),
            Event::Acquired(outcome) => self.acquired(outcome, now),
            Event::LeaseTaken(outcome) => self.lease_taken(outcome, now),
            Event::Applied(applied, took, effort) => {
                self.rest_after(effort, now);
                self.refreshes.end_call(effort.processor, now);
                self.applied(applied, took, now);
            }
            Event::Ticked(ticked, effort) => self.ticked(ticked, effort, now),
            Event::Committed { report, cause, took } => self.committed(&report, &cause, took),
            Event::Adopted(report) => self.adopted(&report, now),
            Event::Replaced(outcome) => self.replaced(outcome, now),
            Event::Rules(outcome) => self.rules_set(outcome, now),
            Event::SubnetFile(outcome) => self.subnet_file_written(outcome, now),
            Event::SubnetFileLost => self.subnet_file_lost(),
            // Looked at when the first peers are in the kernel.
            Event::RoutingChanged | Event::SurroundingsChanged
                if matches!(self.phase, Phase::Applying | Phase::Adopting { .. }) => {}
            Event::RoutingChanged if self.phase != Phase::Waiting => {
                self.replay_wanted = true;
                self.debounce = Some(now + DEBOUNCE);
            }
            Event::RoutingChanged | Event::SurroundingsChanged => self.debounce = Some(now + DEBOUNCE),
            Event::External(outcome, afresh) => {
                self.looking = false;
                self.external_seen(outcome, afresh, now);
                if std::mem::take(&mut self.replay_wanted) && self.restart.is_none() {
                    self.replay(now);
                }
            }
            Event::Tried(outcome) => self.tried(outcome, now),
            Event::CaughtUp(outcome) => self.caught_up(outcome, now),
            Event::PublishedAnew { published, mtu, wish } => self.published_anew(published, mtu, wish, now),
            Event::Refresh(peers) => {
                let known = peers.into_iter().filter(|id| self.view.subnets(*id).is_some());
                self.refreshes.ask(known, now);
            }
            Event::SwapAsked(order, asker, answer, attended) => {
                self.swap.asked(order, asker, answer, attended);
            }
            Event::PluginFileChanged => {
                info!("the plugin's file has changed");
                self.look_at_plugin_file(Trigger::FileWatch, now);
            }
            Event::Reload(sender) => self.reload(sender, now),
            Event::NodeInfoChanged => {
                // It begins anew with the next call: all peers are asked about again, and there may be none.
                self.ticks.want(now);
                self.replay(now);
            }
            // Before that, the first tick is still to come.
            Event::ProbesChanged if self.is_starting() => {}
            Event::ProbesChanged => self.ticks.hear_news(now),
            Event::StartOver => drop(self.restart.get_or_insert_with(|| self.external.clone())),
            Event::Config(outcome) => self.config_seen(outcome, now),
            Event::BesideStarted(outcome) => self.beside_started(outcome, now),
            Event::Beside(event) => self.beside_called(*event, now),
            Event::BesideCommitted => self.beside_committed(now),
            Event::Probed(peer, by, outcome) => self.probed(peer, by, outcome, now),
            Event::ChangeRecorded => self.change_recorded(now),
            Event::ChangeEnded => self.change_ended(now),
            Event::Time => {}
        }
    }

    /// Does what has become due or possible.
    fn proceed(&mut self, now: Instant) {
        self.end_contest(now);
        self.go_on_without_peers(now);
        self.renew_if_due(now);
        if self.own.file_due().is_some_and(|due| due <= now) {
            self.write_subnet_file();
        }
        if self.upkeep <= now {
            self.upkeep = now + self.settings.upkeep;
            let expired = self.view.expire(now);
            self.submit(expired, now);
            self.keep_own_subnet();
            self.effects.push(Effect::Datapath(DatapathCall::Report));
            self.tell(News::Refresh);
        }
        if self.debounce.is_some_and(|due| due <= now) && !self.looking {
            (self.debounce, self.looking) = (None, true);
            let afresh = std::mem::take(&mut self.watch.afresh);
            self.effects.push(Effect::LookAtExternal { afresh });
        }
        self.proceed_with_swap(now);
        self.proceed_with_change(now);
        if self.job.is_none()
            && !self.swap.holds_policy()
            && !self.change.holds_policy()
            && let Some(external) = self.restart.take()
        {
            self.ended = true;
            self.effects.push(Effect::Restart(external));
        }
        if self.retry.is_some_and(|due| due <= now) && self.policy_is_free() {
            self.retry = None;
            let deferred = std::mem::take(&mut self.health.deferred);
            let again = deferred.into_iter().filter_map(|id| self.view.one(id)).collect();
            self.pending.extend(self.for_serving(again));
        }
        self.rest = self.rest.filter(|end| *end > now);
        self.next_call(now);
        self.proceed_with_snapshot(now);
    }

    fn policy_is_free(&self) -> bool {
        self.job.is_none()
            && !self.swap.holds_policy()
            && !self.change.holds_policy()
            && self.restart.is_none()
            && !self.ended
            && self.commits < MAX_COMMITS
    }

    /// Calls the policy, if it is free and there is something to call it for: our own lease first, then peers, then a tick.
    fn next_call(&mut self, now: Instant) {
        if !self.policy_is_free() {
            return;
        }
        if self.own.uptake_due().is_some_and(|due| due <= now) {
            let lease = self.own.lease.clone();
            self.effects.push(Effect::Policy(PolicyCall::LeaseAcquired(lease.clone())));
            self.job = Some(Job::LeaseAcquired(lease));
        } else if let Some(changes) = self.changes_for_policy() {
            let asked = changes.iter().map(PeerChange::id).collect();
            let gone = changes.iter().filter(|change| matches!(change, PeerChange::Removed(_))).count();
            let restarts = self.health.is_suspended().then_some(1);
            self.effects.push(Effect::Policy(PolicyCall::Apply(changes, restarts)));
            self.job = Some(Job::Apply { asked, gone, why: Why::Changed });
        } else if self.ticks.due().is_some_and(|due| due <= now) {
            self.ticks.begin();
            self.effects.push(Effect::Policy(PolicyCall::Tick));
            self.job = Some(Job::Tick);
        } else if self.refresh_due().is_some_and(|due| due <= now) {
            self.refresh(now);
        }
    }

    /// When the policy is to be told again of peers that it has asked for, if nothing else is to be said of any.
    fn refresh_due(&self) -> Option<Instant> {
        let waits = self.is_starting()
            || self.own.in_force.is_none()
            || self.rest.is_some()
            || self.change.holds_peers();
        self.refreshes.deadline().filter(|_| !waits)
    }

    /// Tells the policy of peers that it has asked for and whose turn it is. Those that wait for it anyway have a turn of their own.
    fn refresh(&mut self, now: Instant) {
        let mut turns = self.refreshes.take(MAX_CHANGES, now);
        turns.retain(|id| !self.health.deferred.contains(id));
        let again = turns.into_iter().filter_map(|id| self.view.one(id)).collect();
        let mut again = self.for_serving(again);
        again.retain(|change| matches!(change, PeerChange::Put(..)));
        if again.is_empty() {
            return;
        }
        let asked = again.iter().map(PeerChange::id).collect();
        let restarts = self.health.is_suspended().then_some(1);
        self.refreshes.begin_call();
        self.effects.push(Effect::Policy(PolicyCall::Refresh(again, restarts)));
        self.job = Some(Job::Apply { asked, gone: 0, why: Why::Refresh });
    }

    /// What the policy is to be asked about peers, if it can be.
    fn changes_for_policy(&mut self) -> Option<Vec<PeerChange>> {
        let waits = self.own.in_force.is_none() || self.rest.is_some() || self.change.holds_peers();
        if waits || self.pending.is_empty() {
            return None;
        }
        let count = self.pending.len().min(MAX_CHANGES);
        Some(self.pending.drain(..count).collect())
    }

    /// Whether everything that is known of peers has gone through the policy into the kernel, or waits for a broken plugin.
    fn is_settled(&self) -> bool {
        self.pending.is_empty()
            && self.commits == 0
            && self.own.in_force.is_some()
            && self.change.is_settled()
            && !matches!(self.job, Some(Job::Apply { .. } | Job::LeaseAcquired(_)))
    }

    /// What earlier runs left and nobody needs goes when the policy was asked about all peers, and has answered.
    fn proceed_with_snapshot(&mut self, now: Instant) {
        let complete = self.health.deferred.is_empty();
        match self.phase {
            Phase::Applying if self.is_settled() => {
                self.phase = Phase::Adopting { complete };
                let call = if complete { DatapathCall::Adopt } else { DatapathCall::Settle };
                self.effects.push(Effect::Datapath(call));
                self.ticks.want(now);
                self.next_call(now);
            }
            Phase::Ready { adopted: false } if complete && self.is_settled() => {
                self.phase = Phase::Ready { adopted: true };
                self.effects.push(Effect::Datapath(DatapathCall::Adopt));
            }
            _ => {}
        }
    }

    /// A store that does not tell of all nodes, or a cluster in which that takes its time, keeps no pods away.
    fn go_on_without_peers(&mut self, now: Instant) {
        if !matches!(self.first_peers, FirstPeers::Until(end) if end <= now) {
            return;
        }
        self.first_peers = FirstPeers::Lacking;
        let waited = self.settings.patience.unwrap_or_default().as_secs();
        let what = if self.phase == Phase::Waiting {
            "the store has not told of all nodes"
        } else {
            "not all nodes are in the kernel"
        };
        let why = format!(
            "{what} {waited} s after this one was published: pods are let in, and reach those of other nodes as these become known"
        );
        warn!("{why}");
        self.tell(News::Lacks(Lack::Peers, Some(why)));
        self.tell(News::Step(Step::Snapshot, true));
    }

    fn adopted(&mut self, report: &Report, now: Instant) {
        let Phase::Adopting { complete } = self.phase else { return };
        if std::mem::replace(&mut self.first_peers, FirstPeers::Whenever) == FirstPeers::Lacking {
            info!("all nodes are known by now");
        }
        self.tell(News::Lacks(Lack::Peers, None));
        self.phase = Phase::Ready { adopted: complete };
        self.unsaid = Some(report.clone());
        self.say_ready();
        self.tell(News::Step(Step::Snapshot, true));
        // What has changed meanwhile was not looked at.
        self.debounce = Some(now);
        self.look_again_if_wanted(now);
    }

    /// Says so, once peers, rules and subnet file are what they will be without anybody's help.
    fn say_ready(&mut self) {
        if !self.own.is_taken_up() {
            return;
        }
        let Some(report) = self.unsaid.take() else { return };
        info!(
            peers = self.view.served(),
            deferred = self.health.deferred.len(),
            entries = report.entries,
            waiting = report.waiting,
            refused = report.failures.len(),
            netlink_messages = report.figures.messages,
            "ready"
        );
    }

    /// Changes of the cluster: for the policy that serves, and for one that is about to take over.
    fn submit(&mut self, delta: Delta, now: Instant) {
        // One line, however many there are: whoever writes leases must not fill the log.
        if let Some((subnet, reason)) = delta.refused.first() {
            warn!(%subnet, reason, leases = delta.refused.len(), "leases are not believed; flanneld status has all");
        }
        let news = !delta.refused.is_empty() || !delta.peers.is_empty();
        self.hold_former(&delta.peers);
        self.submit_to_beside(&delta.peers, now);
        // Before the first snapshot nobody is a stranger.
        if self.phase != Phase::Waiting && !delta.peers.is_empty() {
            self.effects.push(Effect::AdmitAlso(delta.peers.clone()));
        }
        let for_serving = self.for_serving(delta.peers);
        self.swap.record(&for_serving);
        self.pending.extend(for_serving);
        if news {
            self.tell_counts();
        }
    }

    fn tell_counts(&mut self) {
        self.tell(News::Peers {
            all: self.view.served(),
            rejected: self.health.rejected.len() + self.view.refused(),
            deferred: self.health.deferred.len(),
        });
    }

    /// All peers again, but for those whose turn comes with the next attempt.
    fn replay(&mut self, now: Instant) {
        let mut again = self.view.all();
        self.submit_to_beside(&again, now);
        again.retain(|change| !self.health.deferred.contains(&change.id()));
        self.pending.extend(self.for_serving(again));
        self.swap.record_replay();
    }

    /// A call that is not about peers may have ended the instance: the next one has to know all of them, and before it is asked for anything
    /// else.
    fn replay_if_ended(&mut self, failure: &PluginError, now: Instant) {
        if plugin_health::ends_instance(failure) && !self.is_starting() {
            self.replay(now);
        }
    }

    fn applied(&mut self, applied: ApplyOutcome, took: Duration, now: Instant) {
        let Some(Job::Apply { asked, gone, why }) = self.job.take() else { return };
        let mut suppressed = 0_usize;
        for failure in applied.failures {
            if self.lines.take(1, now) {
                error!(plugin = failure.plugin, function = failure.function, "{failure}");
            } else {
                suppressed += 1;
            }
            self.tell(News::PluginFailed(failure));
        }
        if applied.restarted {
            self.tell(News::PluginRestarted);
        }
        for (id, reason) in &applied.rejected {
            if self.health.rejected.get(id) == Some(reason) {
                continue;
            }
            if !self.lines.take(1, now) {
                suppressed += 1;
                continue;
            }
            let subnet = self.view.subnets(*id).map(|subnets| subnets.to_string());
            warn!(peer = id.0, subnet, reason, "the policy cannot serve this peer");
        }
        if suppressed > 0 {
            warn!(
                lines = suppressed,
                "more failures and peers that the policy cannot serve; flanneld status has them"
            );
        }
        let health = &mut self.health;
        health.rejected.retain(|id, _| !asked.contains(id));
        health.rejected.extend(applied.rejected);
        health.deferred.retain(|id| !asked.contains(id));
        health.deferred.extend(applied.deferred.iter().map(PeerChange::id));
        health.record_attempt(asked.len() - gone, applied.deferred.len());
        self.schedule_retry(!applied.deferred.is_empty(), now);
        self.tell_of_peers();
        if applied.restarted && asked.len() < self.view.served() {
            // The fresh instance knows only the peers of this call; a policy may remember others.
            self.replay_wanted = true;
            self.debounce = Some(now + self.health.retry_wait());
        }
        let cause = match why {
            Why::Changed => Cause::Leases { changes: asked.len(), plugin: took },
            Why::Refresh => Cause::Refresh { peers: asked.len() },
        };
        self.commit(applied.transaction, cause);
        self.release_rejected(Slot::Serving, now);
        self.try_some(asked.into_iter().collect(), now);
    }

    /// A policy that uses up its time again and again is left alone for a while: what changes meanwhile, it is asked about at once.
    fn rest_after(&mut self, effort: Effort, now: Instant) {
        self.rest = self.health.rest_after_call(effort).map(|wait| now + wait);
    }

    /// When peers that wait are tried again. `more`: others wait since just now.
    fn schedule_retry(&mut self, more: bool, now: Instant) {
        let peers = self.health.deferred.len();
        if peers == 0 {
            self.retry = None;
        } else if self.health.is_suspended() {
            self.retry = None;
            error!(
                peers,
                "the plugin is suspended: it has failed {SUSPEND_AFTER_FAILURES} times in a row; what is in the kernel stays; \
                 change the lease or the config that it fails for, swap the plugin, or send SIGHUP"
            );
        } else if more || self.retry.is_none_or(|due| due > now + RETRY.max) {
            let wait = self.health.retry_wait();
            warn!(peers, wait_s = wait.as_secs(), "peers wait for the plugin");
            self.retry = Some(now + wait);
        }
    }

    /// One that fails is tried again: soon at first, then every minute.
    fn ticked(&mut self, ticked: Ticked, effort: Effort, now: Instant) {
        self.job = None;
        let rest = self.health.rest_after_tick(effort);
        match ticked {
            Ok((transaction, next)) => {
                self.health.record_tick();
                self.tell(News::Ticked(None));
                self.ticks.end(next, rest, now);
                self.commit(transaction, Cause::Tick);
            }
            Err(failure) => {
                error!(plugin = failure.plugin, function = failure.function, "{failure}");
                let wait = self.health.record_failed_tick().max(rest);
                self.ticks.end(Some(wait), wait, now);
                self.replay_if_ended(&failure, now);
                self.tell(News::PluginFailed(failure.clone()));
                self.tell(News::Ticked(Some(failure)));
            }
        }
    }

    fn commit(&mut self, transaction: Transaction, cause: Cause) {
        self.commits += 1;
        self.effects.push(Effect::Datapath(DatapathCall::Commit(transaction, cause)));
    }

    fn committed(&mut self, report: &Report, cause: &Cause, took: Duration) {
        self.commits -= 1;
        match cause {
            Cause::OwnLease => {
                if let Some(reason) = &report.device_failure {
                    warn!(reason, "the node's own devices are not complete yet");
                }
            }
            Cause::Leases { changes, plugin } => info!(
                changes,
                plugin_us = micros(*plugin),
                kernel_us = micros(took),
                entries = report.entries,
                "leases applied"
            ),
            Cause::Refresh { peers } => debug!(peers, entries = report.entries, "peers declared anew"),
            Cause::Tick => {}
        }
    }

    fn reload(&mut self, sender: Option<Asker>, now: Instant) {
        let (uid, pid) = (sender.map(|sender| sender.uid), sender.and_then(|sender| sender.pid));
        info!(
            uid,
            pid, "SIGHUP: looking at the external interface, at the plugin's file, and at all peers again"
        );
        self.tell(News::Reloading);
        self.replay_wanted = true;
        self.debounce = Some(now);
        self.watch.afresh = true;
        self.health.resume();
        self.rest = None;
        // Not for a policy that wants none.
        self.ticks.hasten(now);
        self.look_at_plugin_file(Trigger::Signal(sender), now);
        self.tell(News::Reloaded);
    }

    fn tell_of_peers(&mut self) {
        self.tell(News::PluginSuspended(self.health.is_suspended()));
        self.tell_counts();
    }

    fn tell(&mut self, news: News) {
        self.effects.push(Effect::Tell(news));
    }
}
