//! The loop: hands what happens to the coordinator, and carries out what that wants done. It waits for nothing but news: whatever may
//! take its time runs beside it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flannel_datapath::{Datapath, Event as DatapathEvent};
use flannel_lease_store::{Event as StoreEvent, LeaseStore};
use flannel_model::lease::Subnets;
use flannel_model::ledger::Transaction;
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{DirState, PluginReference, PublishedAnew};
use flannel_telemetry::control::Attended;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant as At, sleep_until};
use tracing::{error, info};

use crate::node::backend_record::BackendRecord;
use crate::node::external::External;
use crate::node::subnet_file::SubnetFile;

use super::DaemonError;
use super::beside::BesideGeneration;
use super::clouds::CloudClientGuard;
use super::coordinator::{
    Candidate, Coordinator, DatapathCall, Effect, Event, News, PolicyCall, Preserved, Settings, StoreCall,
    TrialCall, Wish,
};
use super::firewall::NodeFirewall;
use super::in_order::InOrder;
use super::observer::{InOperation, Observer, SwapRequest};
use super::plugin_watch::PluginWatch;
use super::policy::{Place, PolicyThread, Records};
use super::rehearsal::{self, Rehearsed, Surroundings};
use super::reload::Reloads;
use super::retirement::Retirement;
use super::start::{self, Node, Started};
use super::subnet_file_watch::SubnetFileWatch;
use super::tunnel_sources::Devices;

/// How long a node of Kubernetes waits for all others before pods are let in: a huge or sick cluster must not keep them away.
const PEERS_PATIENCE: Duration = Duration::from_secs(30);

/// What comes of work beside the loop.
pub(super) enum Outcome {
    /// An event for the coordinator.
    Event(Event),
    /// A call of the policy has ended.
    Called(Event, Records),
    /// In the call whose end comes next, the plugin has published something else than before, or a fresh instance has registered with it.
    /// Whether it is the plugin of the generation beside the one that serves.
    PublishedAnew(Box<PublishedAnew>, bool),
    /// A generation beside the one that serves was to be started.
    BesideStarted(Result<Box<BesideGeneration>, String>),
    /// The kernel was asked how things stand.
    Report(Box<flannel_datapath::Report>),
    /// A plugin was tried.
    Tried(Result<Option<Box<Rehearsed>>, String>),
    /// The candidate has caught up.
    CaughtUp(Result<Box<Rehearsed>, String>),
    /// There is no going on.
    Failed(DaemonError),
}

/// Start over with another external interface.
pub(super) struct Restart {
    /// The external interface as it is now.
    pub external: External,
    /// What stays.
    pub preserved: Preserved,
}

/// A node in operation.
pub(super) struct Operation {
    pub(super) node: Node,
    pub(super) observer: Arc<Observer>,
    pub(super) coordinator: Arc<Mutex<Coordinator>>,
    pub(super) policy: PolicyThread,
    pub(super) surroundings: Surroundings,
    /// The plugin that is about to take over.
    candidate: Option<Box<Rehearsed>>,
    /// The generation beside the one that serves, during a change of the backend.
    pub(super) beside: Option<Box<BesideGeneration>>,
    /// Of backends that have left, and have something to remove.
    pub(super) retirements: Vec<Retirement>,
    /// Writes what plugins want to remember, at the latest when all this ends.
    _kept: Kept,
    /// Ends what the policy still waits for.
    pub(super) clouds: CloudClientGuard,
    pub(super) datapath: Arc<Datapath>,
    /// The devices that the policy has.
    pub(super) devices: Devices,
    pub(super) datapath_work: InOrder,
    pub(super) files_work: InOrder,
    subnet_file_watch: SubnetFileWatch,
    pub(super) firewall: NodeFirewall,
    /// What is written down of the backend.
    pub(super) recorded: Option<BackendRecord>,
    pub(super) outcomes: UnboundedSender<Outcome>,
    news: Sources,
}

/// The durable stores.
pub(super) struct Kept(Arc<DirState>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.0.flush() {
            error!(%error, "what the plugin has written last cannot be kept: it is lost with the next restart");
        }
    }
}

/// Where news come from.
struct Sources {
    leases: Receiver<StoreEvent>,
    /// The network config, as it is written.
    config: Receiver<String>,
    /// The one in force.
    in_force: Arc<NetworkConfig>,
    /// Where it is.
    store: Arc<dyn LeaseStore>,
    outcomes: UnboundedReceiver<Outcome>,
    notifications: UnboundedReceiver<DatapathEvent>,
    swaps: UnboundedReceiver<SwapRequest>,
    plugin_file: PluginWatch,
    reload: Reloads,
    about_changed: Option<watch::Receiver<()>>,
}

impl Sources {
    /// The next of them. `leases`: whether lease changes can be taken. `deadline`: until when to wait.
    async fn next(&mut self, leases: bool, deadline: Instant) -> Outcome {
        tokio::select! {
            event = self.leases.recv(), if leases => match event {
                Some(event) => Outcome::Event(Event::Store(event)),
                None => Outcome::Failed(DaemonError::WatchEnded),
            },
            Some(text) = self.config.recv() => {
                Outcome::Event(Event::Config(start::taken_up(&text, &*self.store, &self.in_force)))
            }
            Some(outcome) = self.outcomes.recv() => outcome,
            Some(event) = self.notifications.recv() => Outcome::Event(match event {
                DatapathEvent::Reachability => Event::RoutingChanged,
                DatapathEvent::Surroundings => Event::SurroundingsChanged,
            }),
            Some((order, asker, answer, attended)) = self.swaps.recv() => {
                Outcome::Event(Event::SwapAsked(order, asker, answer, attended))
            }
            Some(()) = self.plugin_file.changed() => Outcome::Event(Event::PluginFileChanged),
            Some(sender) = self.reload.next() => Outcome::Event(Event::Reload(sender)),
            () = changed(&mut self.about_changed) => Outcome::Event(Event::NodeInfoChanged),
            () = sleep_until(deadline.into()) => Outcome::Event(Event::Time),
        }
    }
}

/// Waits for a change; for ever, where there is none.
async fn changed(receiver: &mut Option<watch::Receiver<()>>) {
    if let Some(changes) = receiver {
        if changes.changed().await.is_ok() {
            return;
        }
        *receiver = None;
    }
    std::future::pending::<()>().await;
}

impl Operation {
    /// Puts a started node into operation. `restarted`: it was before, with another external interface.
    pub(super) fn begin(
        node: Node,
        started: Started,
        restarted: bool,
        firewall: NodeFirewall,
        observer: Arc<Observer>,
    ) -> Result<Self, DaemonError> {
        let Started { beginning, policy, surroundings, clouds, datapath, devices, notifications } = started;
        firewall.set_tunnels(&node.config, &devices);
        let (name, digest) = (policy.name().to_owned(), beginning.plugin.digest.clone());
        let settings = Settings {
            upkeep: Duration::from_secs(node.options.iptables_resync.unsigned_abs()),
            blackhole: node.options.ip_blackhole_route,
            first_failure_is_fatal: !restarted,
            patience: node.before.is_some().then_some(PEERS_PATIENCE),
        };
        let coordinator = Coordinator::new(settings, beginning, Instant::now());
        let coordinator = Arc::new(Mutex::new(coordinator));
        let datapath = Arc::new(datapath);
        let (outcomes, heard) = unbounded_channel();
        let (swap_requests, swaps) = unbounded_channel();
        let watched = match &node.plugin {
            Some(PluginReference::File { path, .. }) if node.options.watch_plugin => Some(path),
            _ => None,
        };
        let news = Sources {
            leases: Arc::clone(&node.store).watch(),
            config: Arc::clone(&node.store).watch_config(),
            in_force: Arc::clone(&node.config),
            store: Arc::clone(&node.store),
            outcomes: heard,
            notifications,
            swaps,
            plugin_file: PluginWatch::start(watched),
            reload: Reloads::listen().map_err(DaemonError::Signals)?,
            about_changed: node.about_changed.clone(),
        };
        observer.operates(Some(InOperation {
            coordinator: Arc::clone(&coordinator),
            datapath: Arc::clone(&datapath),
            firewall: firewall.clone(),
            swaps: swap_requests,
        }));
        let policy = PolicyThread::start(policy, Place::default(), &node.probes, outcomes.clone())
            .map_err(DaemonError::Thread)?;
        observer.serves(&name, &digest, &policy.series);
        Ok(Self {
            node,
            observer,
            coordinator,
            policy,
            _kept: Kept(Arc::clone(&surroundings.state)),
            surroundings,
            candidate: None,
            beside: None,
            retirements: Vec::new(),
            clouds,
            datapath,
            devices,
            datapath_work: InOrder::start(),
            files_work: InOrder::start(),
            subnet_file_watch: SubnetFileWatch::start({
                let outcomes = outcomes.clone();
                move || drop(outcomes.send(Event::SubnetFileLost.into()))
            }),
            firewall,
            recorded: None,
            outcomes,
            news,
        })
    }

    /// The way to have it end as if the external interface had changed.
    pub(super) fn start_over(&self) -> impl FnOnce() + use<> {
        let outcomes = self.outcomes.clone();
        move || drop(outcomes.send(Event::StartOver.into()))
    }

    /// Serves until the external interface has changed, or until something without which there is no going on has failed.
    pub(super) async fn serve(mut self) -> Result<Restart, DaemonError> {
        let mut watchdog = self.observer.next_watchdog();
        let mut outcome = Outcome::Event(Event::Time);
        loop {
            let event = self.hear(outcome)?;
            if let Some(event) = event {
                for effect in self.coordinate(event) {
                    match effect {
                        Effect::Restart(external) => return Ok(self.restart(external).await),
                        Effect::Fail(error) => return Err(error),
                        effect => self.carry_out(effect),
                    }
                }
            }
            let (leases, deadline) = self.wanted();
            outcome =
                waiting(self.news.next(leases, deadline), &mut watchdog, || self.observer.alive()).await;
        }
    }

    fn follows_node(&self) -> bool {
        let beside = self.beside.as_ref().is_some_and(|beside| beside.policy.follows_node);
        self.policy.follows_node || beside
    }

    fn coordinate(&self, event: Event) -> Vec<Effect> {
        let mut coordinator = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
        coordinator.on(event, Instant::now())
    }

    /// Whether lease changes can be taken, and until when to wait for news.
    fn wanted(&self) -> (bool, Instant) {
        let coordinator = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
        (coordinator.takes_leases(), coordinator.deadline())
    }

    /// What an outcome means for the coordinator; nothing, maybe.
    fn hear(&mut self, outcome: Outcome) -> Result<Option<Event>, DaemonError> {
        Ok(Some(match outcome {
            // Nobody else is asked about all peers for that.
            Outcome::Event(Event::NodeInfoChanged) if !self.follows_node() => return Ok(None),
            Outcome::Event(event) => {
                if let Event::Committed { report, .. } | Event::Adopted(report) = &event {
                    self.observer.datapath(report);
                }
                if let Event::Adopted(_) = &event {
                    self.forget_own_notifications();
                }
                event
            }
            Outcome::Called(event, records) => {
                self.observer.calls(&records);
                event
            }
            Outcome::PublishedAnew(anew, beside) => {
                let PublishedAnew { registration, fresh } = *anew;
                if !beside && fresh {
                    self.observer.registered(&registration);
                }
                let published = start::published(&self.node.external, &registration);
                let wish = if fresh { Wish::Fresh } else { Wish::Running };
                let event = Event::PublishedAnew { published, mtu: registration.mtu, wish };
                if beside { Event::Beside(Box::new(event)) } else { event }
            }
            Outcome::BesideStarted(Ok(generation)) => {
                let facts = generation.facts(&self.node.external);
                self.have_beside(generation);
                Event::BesideStarted(Ok(facts))
            }
            Outcome::BesideStarted(Err(reason)) => Event::BesideStarted(Err(reason)),
            Outcome::Report(report) => {
                self.observer.datapath(&report);
                return Ok(None);
            }
            Outcome::Tried(Ok(Some(candidate))) => {
                let facts = self.facts(&candidate);
                self.candidate = Some(candidate);
                Event::Tried(Ok(Some(facts)))
            }
            Outcome::Tried(Ok(None)) => Event::Tried(Ok(None)),
            Outcome::Tried(Err(reason)) => Event::Tried(Err(reason)),
            Outcome::CaughtUp(Ok(candidate)) => {
                let facts = self.facts(&candidate);
                self.candidate = Some(candidate);
                Event::CaughtUp(Ok(facts))
            }
            Outcome::CaughtUp(Err(reason)) => Event::CaughtUp(Err(reason)),
            Outcome::Failed(error) => return Err(error),
        }))
    }

    /// What the datapath saw while the first peers came is no change of the surroundings.
    fn forget_own_notifications(&mut self) {
        let coordinator = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner);
        if coordinator.is_starting() {
            while self.news.notifications.try_recv().is_ok() {}
        }
    }

    fn facts(&self, candidate: &Rehearsed) -> Candidate {
        Candidate {
            name: candidate.registered.name.clone(),
            version: candidate.registered.version.clone(),
            digest: candidate.artifact.digest().to_owned(),
            store: candidate.policy.store(),
            published: start::published(&self.node.external, &candidate.registered),
            mtu: candidate.registered.mtu,
            rejected: candidate.rejected.clone(),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Policy(call) => {
                if let PolicyCall::Apply(changes, _) = &call {
                    self.observer.metrics.lease_changes(changes.len());
                }
                self.policy.call(call);
            }
            Effect::Datapath(call) => self.call_datapath(call),
            Effect::Store(call) => self.call_store(call),
            Effect::Rules(subnets) => {
                let outcomes = self.outcomes.clone();
                let done = move |outcome| drop(outcomes.send(Outcome::Event(Event::Rules(outcome))));
                self.firewall.set(&self.node.options, &self.node.config, &subnets, done);
            }
            Effect::Admit(peers) => self.firewall.admit(&peers),
            Effect::AdmitAlso(peers) => self.firewall.admit_also(&peers),
            Effect::SubnetFile(subnets, mtu) => self.write_subnet_file(subnets, mtu),
            Effect::LookAtExternal { afresh } => self.look_at_external(afresh),
            Effect::Trial(call) => self.go_on_with_trial(call),
            Effect::Change(call) => self.go_on_with_change(call),
            // Whoever asked may have gone.
            Effect::Answer(answer, outcome) => drop(answer.send(outcome)),
            Effect::Tell(news) => self.tell(news),
            // The loop's own.
            Effect::Restart(_) | Effect::Fail(_) => {}
        }
    }

    fn call_datapath(&mut self, call: DatapathCall) {
        if let DatapathCall::Commit(transaction, _) = &call
            && !transaction.devices.is_empty()
        {
            self.devices = self.devices_with(&transaction.devices);
            self.firewall.set_tunnels(&self.node.config, &self.devices);
        }
        let (datapath, outcomes) = (Arc::clone(&self.datapath), self.outcomes.clone());
        self.datapath_work.push(async move {
            let started = Instant::now();
            let outcome = match call {
                DatapathCall::Commit(transaction, cause) => {
                    let report = datapath.commit(transaction).await;
                    report.map(|report| Event::Committed { report, cause, took: started.elapsed() }.into())
                }
                DatapathCall::Settle => {
                    datapath.start_forwarding().await.map(|report| Event::Adopted(report).into())
                }
                DatapathCall::Adopt => {
                    datapath.prune_stale().await.map(|report| Event::Adopted(report).into())
                }
                DatapathCall::Report => {
                    datapath.report().await.map(|report| Outcome::Report(Box::new(report)))
                }
            };
            // A daemon that starts over does not listen any more.
            let _ = outcomes.send(outcome.unwrap_or_else(|error| Outcome::Failed(error.into())));
        });
    }

    /// The devices that there are, and others.
    pub(super) fn devices_with(&self, others: &Devices) -> Devices {
        let mut all = self.devices.clone();
        all.extend(others.iter().map(|(name, device)| (Arc::clone(name), device.clone())));
        all
    }

    /// The store may take its time, or hang.
    fn call_store(&self, call: StoreCall) {
        let (store, outcomes) = (Arc::clone(&self.node.store), self.outcomes.clone());
        let margin = Duration::from_mins(self.node.options.subnet_lease_renew_margin.unsigned_abs());
        let (config, file) = (Arc::clone(&self.node.config), self.node.options.subnet_file.clone());
        tokio::spawn(async move {
            let event = match call {
                StoreCall::Renew(lease, attributes) => {
                    let renewed = store.renew_as(&lease, &attributes).await;
                    Event::Renewed(renewed.map(|renewed| {
                        let due = match renewed {
                            flannel_lease_store::Renewed::Until(expires) => start::until_renewal(
                                &flannel_model::lease::Lease { expires, ..lease },
                                margin,
                            ),
                            flannel_lease_store::Renewed::Lost => None,
                        };
                        (renewed, due)
                    }))
                }
                StoreCall::Acquire(attributes) => {
                    let request = start::acquire_request(&config, &attributes, &file);
                    let acquired = store.acquire(&request).await;
                    Event::Acquired(acquired.map(|lease| {
                        let due = start::until_renewal(&lease, margin);
                        (lease, due)
                    }))
                }
            };
            let _ = outcomes.send(event.into());
        });
    }

    /// A failure leaves the node without pods, but not without forwarding.
    fn write_subnet_file(&self, subnets: Subnets, mtu: u32) {
        let path = self.node.options.subnet_file.clone();
        let file = SubnetFile::new(&self.node.config, &subnets, mtu, self.node.options.ip_masq);
        let (outcomes, watch) = (self.outcomes.clone(), self.subnet_file_watch.setter());
        self.files_work.push(async move {
            watch(None);
            let written = spawn_blocking({
                let (path, file) = (path.clone(), file.clone());
                move || file.write(&path)
            });
            let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            if written.is_ok() {
                info!(file = %path.display(), subnet = %subnets, mtu, "subnet file written");
                watch(Some((path.clone(), file)));
            }
            let outcome = written.map_err(|error| format!("{}: {error}", path.display()));
            let _ = outcomes.send(Event::SubnetFile(outcome).into());
        });
    }

    fn look_at_external(&self, afresh: bool) {
        let (node, outcomes) = (self.node.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let external = start::external_now(&node, afresh).await;
            let _ =
                outcomes.send(Event::External(external.map_err(|error| error.to_string()), afresh).into());
        });
    }

    fn go_on_with_trial(&mut self, call: TrialCall) {
        let outcomes = self.outcomes.clone();
        match call {
            TrialCall::Start { plugin, unless, take_state, own, peers, attended } => {
                let surroundings = self.surroundings.clone();
                tokio::spawn(async move {
                    let rehearsed = rehearsal::rehearse(plugin, surroundings, unless, take_state, own, peers);
                    // What compiles ends with it, and calls of the plugin by their limits.
                    let tried = tokio::select! {
                        tried = rehearsed => tried,
                        () = nobody_waits(attended) => {
                            Err("it is cancelled: who asked for it does not wait any more".to_owned())
                        }
                    };
                    let _ = outcomes.send(Outcome::Tried(tried));
                });
            }
            TrialCall::CatchUp { own, since } => {
                let Some(candidate) = self.candidate.take() else { return };
                tokio::spawn(async move {
                    let caught_up = rehearsal::catch_up(candidate, own, since).await;
                    let _ = outcomes.send(Outcome::CaughtUp(caught_up));
                });
            }
            TrialCall::Replace { blackholes } => {
                let Some(candidate) = &mut self.candidate else { return };
                let whole = std::mem::take(&mut candidate.whole);
                let whole = Transaction { blackholes: Some(blackholes), ..whole };
                // Both plugins', until it is known which of them serves.
                self.firewall.set_tunnels(&self.node.config, &self.devices_with(&whole.devices));
                let datapath = Arc::clone(&self.datapath);
                self.datapath_work.push(async move {
                    let replaced =
                        async {
                            let before = datapath.report().await?.figures.messages;
                            Ok::<_, flannel_datapath::DatapathError>(datapath.replace(whole).await?.map(
                                |report| (report.entries, report.figures.messages.saturating_sub(before)),
                            ))
                        };
                    let outcome = replaced.await.map(|replaced| Event::Replaced(replaced).into());
                    let _ = outcomes.send(outcome.unwrap_or_else(|error| Outcome::Failed(error.into())));
                });
                self.call_datapath(DatapathCall::Report);
            }
            TrialCall::TakeOver => {
                if let Some(candidate) = self.candidate.take() {
                    self.take_over(*candidate);
                }
            }
            TrialCall::Forget => {
                self.candidate = None;
                self.firewall.set_tunnels(&self.node.config, &self.devices);
            }
        }
    }

    /// The candidate is the policy from now on: the kernel has what it wants.
    fn take_over(&mut self, candidate: Rehearsed) {
        let Rehearsed { artifact, policy, registered, .. } = candidate;
        // Not before the kernel has taken it: a plugin that stays may be of the same name, and has the same store.
        if let Err(error) = policy.state().commit_pending() {
            error!(%error, "what the plugin wants to remember cannot be written: it is lost with the next restart");
        }
        self.surroundings.state = Arc::clone(policy.state());
        match PolicyThread::start(
            Box::new(policy),
            Place::default(),
            &self.node.probes,
            self.outcomes.clone(),
        ) {
            Ok(policy) => self.policy = policy,
            Err(error) => {
                let _ = self.outcomes.send(Outcome::Failed(DaemonError::Thread(error)));
            }
        }
        self.observer.artifact(&artifact);
        self.observer.registered(&registered);
        self.observer.serves(&registered.name, artifact.digest(), &self.policy.series);
        // Those of the one before are gone.
        self.devices = registered.transaction.devices;
        self.firewall.set_tunnels(&self.node.config, &self.devices);
    }

    fn tell(&mut self, news: News) {
        if let News::Change(change) = news {
            return self.tell_of_change(*change);
        }
        let observer = &self.observer;
        match news {
            News::Lease(lease, mtu) => observer.lease(&lease, mtu),
            News::Step(step, done) => observer.step(step, done),
            News::Lacks(lack, why) => observer.lacks(lack, why),
            News::Peers { all, rejected, deferred } => observer.peers(all, rejected, deferred),
            News::PluginFailed(failure) => observer.failed(&failure),
            News::PluginRestarted => observer.restarted(),
            News::PluginSuspended(suspended) => observer.suspended(suspended),
            News::Ticked(failure) => observer.ticked(failure.as_ref()),
            News::Swapped(outcome) => observer.swapped(&outcome),
            News::Reloading => observer.reloading(),
            News::Reloaded => observer.reloaded(),
            News::Change(_) => {}
            News::Refresh => observer.firewall(self.firewall.status()),
        }
    }

    /// Ends all that works on the kernel, before another takes over.
    async fn restart(self, external: External) -> Restart {
        self.observer.operates(None);
        let preserved = self.coordinator.lock().unwrap_or_else(PoisonError::into_inner).preserve();
        let datapath = Arc::clone(&self.datapath);
        drop(self);
        // Fast, unless the kernel is slow; a thread that cannot be waited for has ended.
        let _ = spawn_blocking(move || datapath.stop()).await;
        Restart { external, preserved }
    }
}

/// Returns when nobody waits any more, if somebody did.
async fn nobody_waits(attended: Option<Attended>) {
    match attended {
        Some(mut attended) => attended.over().await,
        None => std::future::pending().await,
    }
}

/// Waits for something. Only who waits is alive: a loop that does not come to it is stuck, and the service manager ends it. `due`: when
/// the service manager has to hear next.
async fn waiting<T>(next: impl Future<Output = T>, due: &mut At, mut alive: impl FnMut() -> At) -> T {
    let mut next = std::pin::pin!(next);
    loop {
        tokio::select! {
            outcome = &mut next => return outcome,
            () = sleep_until(*due) => *due = alive(),
        }
    }
}

impl From<Event> for Outcome {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn a_loop_that_waits_is_alive_however_long_that_takes() {
        let (signs, mut due) = (AtomicU32::new(0), At::now() + INTERVAL);
        // News come when the service manager has heard of it three times.
        let news = async {
            while signs.load(Ordering::Relaxed) < 3 {
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let alive = || {
            signs.fetch_add(1, Ordering::Relaxed);
            At::now() + INTERVAL
        };
        waiting(news, &mut due, alive).await;
    }
}
