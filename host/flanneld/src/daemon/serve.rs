//! The loop: lease changes through the policy into the datapath, and the node's own lease beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_datapath::{Datapath, Event as DatapathEvent, Report};
use flannel_firewall::Firewall;
use flannel_lease_store::{Change, Event, LeaseStore, Renewed};
use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Transaction};
use flannel_plugin_host::{PeerChange, PluginError, PluginReference, Policy};
use flannel_telemetry::control::{Answerer, Request, Swapped};
use flannel_telemetry::{Status, Step};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant as At, sleep_until};
use tracing::{debug, error, info, warn};

use crate::cli::Options;
use crate::node::blackhole;
use crate::node::external::External;

use super::DaemonError;
use super::clouds::CloudDesk;
use super::firewall;
use super::observer::Observer;
use super::own_lease::{self, RENEWAL_RETRY, Wanted};
use super::peers::Peers;
use super::plugin_watch::PluginWatch;
use super::policy::{PolicyRunner, Ticked};
use super::rehearsal::Rehearsal;
use super::start;

/// Changes of the surroundings come in bursts: this long is waited for more before the policy is asked again.
const SETTLE: Duration = Duration::from_millis(200);
/// First and longest wait before peers that a broken plugin could not be asked about are tried again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// So many attempts in a row that lead to nothing are enough: some minutes.
const SUSPEND_AFTER: u32 = 10;
/// Changes that are taken at once: a few hundredths of a second's work.
const CHANGES: usize = 2048;
/// A time that does not come.
const NEVER: Duration = Duration::from_hours(8760);

/// What a broken plugin has left undone, and how often it was tried.
#[derive(Default)]
pub(super) struct Trouble {
    /// Peers that the policy could not be asked about.
    pub(super) deferred: BTreeSet<PeerId>,
    /// Peers that the policy cannot serve, and why.
    pub(super) rejected: BTreeMap<PeerId, String>,
    /// Attempts in a row that left somebody waiting.
    attempts: u32,
    /// Attempts in a row in which the policy answered for nobody.
    silent: u32,
    /// The policy has not taken up the lease that the node has.
    lease: bool,
    /// Ticks in a row that failed.
    ticks: u32,
}

impl Trouble {
    /// The policy was asked about so many peers, and could not be about so many of them.
    fn heard(&mut self, asked: usize, deferred: usize) {
        if asked > deferred {
            self.silent = 0;
        } else if asked > 0 {
            self.silent = self.silent.saturating_add(1);
        }
        self.attempts = match (self.deferred.is_empty(), deferred) {
            (true, _) => 0,
            (false, 0) => self.attempts,
            (false, _) => self.attempts.saturating_add(1),
        };
    }

    /// Another plugin has taken over, which serves all but these.
    pub(super) fn healed(&mut self, rejected: Vec<(PeerId, String)>) {
        *self = Self { rejected: rejected.into_iter().collect(), ..Self::default() };
    }

    /// Whether the policy has failed so often that it is asked only when something has changed.
    fn is_suspended(&self) -> bool {
        self.silent >= SUSPEND_AFTER
    }

    /// How long until the next attempt: longer each time.
    fn wait(&self) -> Duration {
        growing(self.attempts)
    }
}

/// How long to wait after so many attempts.
fn growing(attempts: u32) -> Duration {
    RETRY.0.saturating_mul(1 << attempts.min(10)).min(RETRY.1)
}

/// Why and with what to start over.
pub(super) struct Moved {
    /// The command line, with the plugin that serves.
    pub options: Arc<Options>,
    /// The external interface as it is now.
    pub external: External,
    /// The lease that the node holds.
    pub own: Lease,
    /// The firewall's rules.
    pub firewall: Option<Firewall>,
}

/// A node in operation.
pub(super) struct Daemon<'o> {
    pub(super) observer: &'o mut Observer,
    pub(super) firewall: Option<Firewall>,
    pub(super) options: Arc<Options>,
    pub(super) external: External,
    pub(super) store: Arc<dyn LeaseStore>,
    pub(super) policy: PolicyRunner,
    /// Ends what the policy still waits for.
    pub(super) _clouds: CloudDesk,
    pub(super) datapath: Datapath,
    pub(super) events: UnboundedReceiver<DatapathEvent>,
    pub(super) wanted: Wanted,
    pub(super) own: Lease,
    pub(super) margin: Duration,
    pub(super) peers: Peers,
    pub(super) trouble: Trouble,
    /// Of the plugin that serves: SHA-256 of its component.
    pub(super) digest: String,
    /// A plugin that is about to take over.
    pub(super) rehearsal: Option<Rehearsal>,
    /// Swaps that operators have asked for, and that wait for all peers to be known.
    pub(super) postponed: Vec<(String, Answerer<Swapped>)>,
    /// The plugin's file has changed meanwhile.
    pub(super) look_again: bool,
}

/// When something is due that nobody tells us of.
pub(super) struct Timers {
    pub(super) renewal: At,
    pub(super) tick: At,
    pub(super) retry: At,
    settle: At,
    upkeep: At,
    watchdog: At,
}

impl Daemon<'_> {
    /// Calls the policy, and counts the calls.
    async fn ask<T: Send + 'static>(
        &mut self,
        calls: impl FnOnce(&mut Policy) -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        let answer = {
            let mut answer = std::pin::pin!(self.policy.call(calls));
            let mut watchdog = self.observer.next_watchdog();
            // A plugin that takes all of its time, again and again, is no reason to be taken for dead.
            loop {
                tokio::select! {
                    answer = &mut answer => break answer?,
                    () = sleep_until(watchdog) => watchdog = self.observer.alive(),
                }
            }
        };
        self.count_calls();
        Ok(answer)
    }

    fn count_calls(&mut self) {
        let records = self.policy.take_records();
        self.observer.calls(&records);
    }

    /// Takes a transaction into the kernel.
    async fn commit(&mut self, transaction: Transaction) -> Result<Report, DaemonError> {
        let report = self.datapath.commit(transaction).await?;
        self.observer.datapath(&report);
        Ok(report)
    }

    fn complain(&mut self, failure: &PluginError) {
        error!(plugin = failure.plugin, function = failure.function, "{failure}");
        self.observer.failed(failure);
    }

    /// Gives the policy the node's own lease, the firewall its rules, and the container runtimes their subnet.
    pub(super) async fn take_up_lease(&mut self) -> Result<(), DaemonError> {
        let own = self.own.clone();
        self.observer.lease(&own, self.wanted.mtu);
        let transaction = self.ask(move |policy| policy.lease_acquired(&own)).await??;
        let report = self.commit(transaction).await?;
        if let Some(reason) = report.device_failure {
            warn!(reason, "the node's own devices are not complete yet");
        }
        self.hold_blackhole().await;
        let before = self.firewall.take();
        let firewall =
            firewall::ensure(before, &self.options, &self.wanted.config, &self.own.subnets).await?;
        self.observer.firewall(Some(firewall::status(&firewall)));
        self.firewall = Some(firewall);
        self.observer.done(Step::Rules);
        if self.wanted.write_subnet_file(&self.own) {
            self.observer.done(Step::SubnetFile);
        }
        Ok(())
    }

    /// Keeps the blackhole route, if there is to be one.
    async fn hold_blackhole(&self) {
        if self.options.ip_blackhole_route
            && let Err(error) = blackhole::ensure(&self.own.subnets).await
        {
            error!(%error, subnet = %self.own.subnets, "the blackhole route cannot be set; trying again");
        }
    }

    /// Serves until the external interface has changed, or until something without which there is no going on has failed.
    pub(super) async fn serve(mut self) -> Result<Moved, DaemonError> {
        let mut watch = Arc::clone(&self.store).watch();
        let mut timers = Timers {
            renewal: self.renewal(),
            tick: never(),
            retry: never(),
            settle: never(),
            upkeep: At::now() + self.upkeep(),
            watchdog: self.observer.next_watchdog(),
        };
        let watched = match &self.options.plugin {
            Some(PluginReference::File { path, .. }) if self.options.watch_plugin => Some(path),
            _ => None,
        };
        let mut file = PluginWatch::start(watched);
        let mut reload = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
        let (mut snapshot, mut adopted) = (false, false);
        loop {
            // What needs the policy waits for the end of a tick; the lease, the watchdog and questions do not.
            let idle = !self.policy.is_ticking();
            tokio::select! {
                event = watch.recv(), if idle => {
                    self.heard(event.ok_or(DaemonError::WatchEnded)?, &mut timers).await?;
                    if !snapshot {
                        snapshot = true;
                        adopted = self.first_snapshot_done(&mut timers).await?;
                    }
                }
                ticked = self.policy.ticked(), if !idle => self.ticked(ticked?, &mut timers).await?,
                Some(DatapathEvent::Reachability) = self.events.recv() => timers.settle = At::now() + SETTLE,
                () = sleep_until(timers.settle), if idle => {
                    timers.settle = never();
                    if let Some(external) = self.other_external().await {
                        let Self { options, own, firewall, .. } = self;
                        return Ok(Moved { options, external, own, firewall });
                    }
                    self.replay(&mut timers).await?;
                }
                () = sleep_until(timers.retry), if idle => self.retry(&mut timers).await?,
                () = sleep_until(timers.renewal) => timers.renewal = self.renew().await?,
                () = sleep_until(timers.upkeep), if idle => {
                    self.hold_blackhole().await;
                    let expired = self.peers.expire(Instant::now());
                    self.apply(expired, &mut timers).await?;
                    self.look_around().await?;
                    timers.upkeep = At::now() + self.upkeep();
                }
                () = sleep_until(timers.tick), if idle => self.tick(&mut timers)?,
                () = sleep_until(timers.watchdog) => timers.watchdog = self.observer.alive(),
                Some(request) = self.observer.requests.recv() => match request {
                    // Whoever asked may have gone.
                    Request::Status(answer) => drop(answer.send(self.status().await?)),
                    Request::Swap(plugin, answer) => self.postponed.push((plugin, answer)),
                },
                outcome = Rehearsal::end(&mut self.rehearsal), if idle => self.rehearsed(outcome, &mut timers).await?,
                Some(()) = file.changed(), if snapshot && idle => {
                    info!("the plugin's file has changed");
                    self.look_at_plugin_file();
                }
                Some(()) = reload.recv(), if idle => {
                    info!("SIGHUP: looking at the external interface, at the plugin's file, and at all peers again");
                    self.observer.reloading();
                    timers.settle = At::now();
                    self.trouble.attempts = 0;
                    self.trouble.silent = 0;
                    // Not for a policy that wants none.
                    if timers.tick < At::now() + NEVER / 2 {
                        timers.tick = At::now();
                    }
                    if snapshot {
                        self.look_at_plugin_file();
                    }
                    self.observer.reloaded();
                }
            }
            if snapshot && !self.policy.is_ticking() {
                for (plugin, answer) in std::mem::take(&mut self.postponed) {
                    self.swap_to(&plugin, answer);
                }
            }
            // As long as the policy has not spoken about some peer, an earlier run's entries for it must stay.
            if snapshot && !adopted && self.trouble.deferred.is_empty() {
                adopted = true;
                self.datapath.adopt().await?;
            }
        }
    }

    /// The external interface as it would be chosen now, if it is another one, or has other addresses. While none can be chosen
    /// the node goes on with the one that it has.
    async fn other_external(&mut self) -> Option<External> {
        match start::external(&self.options, &self.wanted.config).await {
            Ok(external) if external == self.external => None,
            Ok(external) => Some(external),
            Err(error) => {
                warn!(%error, "the external interface is not what it was; going on with what there is");
                None
            }
        }
    }

    /// The policy has been asked about all peers: what earlier runs left and nobody needs goes now, if all went well. Answers
    /// whether it did.
    async fn first_snapshot_done(&mut self, timers: &mut Timers) -> Result<bool, DaemonError> {
        self.tick(timers)?;
        // What the datapath saw while it was starting is no change.
        while self.events.try_recv().is_ok() {}
        let complete = self.trouble.deferred.is_empty();
        let report = if complete { self.datapath.adopt().await? } else { self.datapath.settle().await? };
        info!(
            peers = self.peers.len(),
            deferred = self.trouble.deferred.len(),
            entries = report.entries,
            waiting = report.waiting,
            refused = report.failures.len(),
            netlink_messages = report.figures.messages,
            "ready"
        );
        self.observer.datapath(&report);
        self.observer.done(Step::Snapshot);
        Ok(complete)
    }

    async fn heard(&mut self, event: Event, timers: &mut Timers) -> Result<(), DaemonError> {
        let own = self.own.subnets;
        let (changes, lost) = match event {
            Event::Snapshot(leases) => {
                let lost = lacks(&leases, &self.own);
                (self.peers.replace(leases, &own), lost)
            }
            Event::Bereft(leases) => {
                let lost = lacks(&leases, &self.own);
                (self.peers.hold(leases, &own), lost)
            }
            Event::Changes(changes) => {
                let lost = changes.iter().fold(false, |lost, change| match change {
                    Change::Put(lease) if lease.subnets == own => !same_owner(lease, &self.own),
                    Change::Removed(subnets) if *subnets == own => true,
                    _ => lost,
                });
                (self.peers.update(changes, &own), lost)
            }
        };
        self.apply(changes, timers).await?;
        if lost {
            timers.renewal = self.renew().await?;
        }
        Ok(())
    }

    /// Takes changes through the policy into the kernel, not too many at once: for memory's sake, and so that questions are
    /// answered in between.
    async fn apply(&mut self, mut changes: Vec<PeerChange>, timers: &mut Timers) -> Result<(), DaemonError> {
        while changes.len() > CHANGES {
            let rest = changes.split_off(CHANGES);
            self.apply_some(changes, timers).await?;
            changes = rest;
            timers.watchdog = self.observer.alive();
            while let Ok(request) = self.observer.requests.try_recv() {
                match request {
                    Request::Status(answer) => drop(answer.send(self.status().await?)),
                    Request::Swap(plugin, answer) => self.postponed.push((plugin, answer)),
                }
            }
        }
        if changes.is_empty() { Ok(()) } else { self.apply_some(changes, timers).await }
    }

    async fn apply_some(&mut self, changes: Vec<PeerChange>, timers: &mut Timers) -> Result<(), DaemonError> {
        let count = changes.len();
        let gone_ids: Vec<PeerId> = changes
            .iter()
            .filter_map(|change| match change {
                PeerChange::Removed(id) => Some(*id),
                PeerChange::Put(..) => None,
            })
            .collect();
        let gone = gone_ids.len();
        let asked: BTreeSet<PeerId> = changes.iter().map(PeerChange::id).collect();
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.since.extend(changes.iter().cloned());
        }
        let tries = self.trouble.is_suspended().then_some(1);
        let started = Instant::now();
        self.observer.metrics.lease_changes(count);
        let mut applied = self.ask(move |policy| policy.apply_within(&changes, tries)).await?;
        let plugin_us = flannel_base::micros(started.elapsed());
        // A peer that is gone takes its entries with it, whatever the plugin thinks of it.
        applied.transaction.peers.extend(gone_ids.into_iter().map(|id| (id, None)));
        for failure in &applied.failures {
            self.complain(failure);
        }
        if applied.restarted {
            self.observer.restarted();
        }
        self.trouble.rejected.retain(|id, _| !asked.contains(id));
        self.trouble.rejected.extend(applied.rejected.iter().cloned());
        for (id, reason) in &applied.rejected {
            let subnet = self.peers.subnets(*id).map(|subnets| subnets.to_string());
            warn!(peer = id.0, subnet, reason, "the policy cannot serve this peer");
        }
        let started = Instant::now();
        let report = self.commit(applied.transaction).await?;
        info!(
            changes = count,
            plugin_us,
            kernel_us = flannel_base::micros(started.elapsed()),
            entries = report.entries,
            "leases applied"
        );
        self.trouble.deferred.retain(|id| !asked.contains(id));
        self.trouble.deferred.extend(applied.deferred.iter().map(PeerChange::id));
        self.trouble.heard(asked.len() - gone, applied.deferred.len());
        if self.trouble.deferred.is_empty() {
            timers.retry = never();
        } else if self.trouble.is_suspended() {
            timers.retry = never();
            error!(
                peers = self.trouble.deferred.len(),
                "the plugin is suspended: it has failed {SUSPEND_AFTER} times in a row; what is in the kernel stays; \
                 change the lease or the config that it fails for, swap the plugin, or send SIGHUP"
            );
        } else if !applied.deferred.is_empty() || timers.retry > At::now() + RETRY.1 {
            let wait = self.trouble.wait();
            warn!(peers = self.trouble.deferred.len(), wait_s = wait.as_secs(), "peers wait for the plugin");
            timers.retry = At::now() + wait;
        }
        self.observer.suspended(self.trouble.is_suspended());
        self.observer.peers(self.peers.len(), self.trouble.rejected.len(), self.trouble.deferred.len());
        if applied.restarted && asked.len() < self.peers.len() {
            // The fresh instance knows only the peers of this call; a policy may remember others.
            timers.settle = At::now() + self.trouble.wait();
        }
        Ok(())
    }

    /// All peers again, but for those whose turn comes with the next attempt.
    async fn replay(&mut self, timers: &mut Timers) -> Result<(), DaemonError> {
        let mut again = self.peers.again();
        again.retain(|change| !self.trouble.deferred.contains(&change.id()));
        self.apply(again, timers).await
    }

    async fn retry(&mut self, timers: &mut Timers) -> Result<(), DaemonError> {
        timers.retry = never();
        let changes: Vec<PeerChange> =
            self.trouble.deferred.iter().filter_map(|id| self.peers.one_again(*id)).collect();
        self.trouble.deferred.clear();
        self.apply(changes, timers).await
    }

    /// Begins a tick, which goes on beside everything that does not need the policy.
    pub(super) fn tick(&mut self, timers: &mut Timers) -> Result<(), DaemonError> {
        timers.tick = never();
        self.policy.tick()
    }

    /// A tick has ended. One that fails is tried again: soon at first, then every minute.
    async fn ticked(&mut self, ticked: Ticked, timers: &mut Timers) -> Result<(), DaemonError> {
        self.count_calls();
        match ticked {
            Ok((transaction, next)) => {
                self.trouble.ticks = 0;
                self.observer.ticked(None);
                self.commit(transaction).await?;
                timers.tick = next.map_or_else(never, |wait| At::now() + wait);
            }
            Err(failure) => {
                self.complain(&failure);
                self.observer.ticked(Some(&failure));
                timers.tick = At::now() + growing(self.trouble.ticks);
                self.trouble.ticks = self.trouble.ticks.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Takes note of how kernel and firewall stand.
    async fn look_around(&mut self) -> Result<(), DaemonError> {
        let report = self.datapath.report().await?;
        self.observer.datapath(&report);
        self.observer.firewall(self.firewall.as_ref().map(firewall::status));
        Ok(())
    }

    /// How things stand, with all peers.
    async fn status(&mut self) -> Result<Status, DaemonError> {
        self.look_around().await?;
        let reports = self.datapath.peers().await?;
        let mut status = self.observer.status();
        status.peers = self.peers.statuses(&reports, &self.trouble);
        Ok(status)
    }

    /// How often is looked after what nobody tells us of.
    fn upkeep(&self) -> Duration {
        Duration::from_secs(self.options.iptables_resync.unsigned_abs())
    }

    fn renewal(&self) -> At {
        own_lease::until_renewal(&self.own, self.margin).map_or_else(never, |wait| At::now() + wait)
    }

    /// Renews the lease, or takes it again if it is lost. Answers when to renew next. While the store is away the node goes
    /// on with the lease that it has.
    async fn renew(&mut self) -> Result<At, DaemonError> {
        if self.trouble.lease && !self.policy_has_taken_up().await? {
            return Ok(At::now() + RENEWAL_RETRY);
        }
        // A plugin that took over since may want something else to be known.
        match self.store.renew_as(&self.own, &self.wanted.attributes).await {
            Ok(Renewed::Until(expires)) => {
                debug!(subnet = %self.own.subnets, "lease renewed");
                self.own.expires = expires;
                self.own.attributes = self.wanted.attributes.clone();
                self.observer.lease(&self.own, self.wanted.mtu);
                Ok(self.renewal())
            }
            Ok(Renewed::Lost) => {
                own_lease::mourn(&self.own);
                self.acquire_again().await
            }
            Err(error) => {
                warn!(%error, "the lease cannot be renewed; trying again in a minute");
                Ok(At::now() + RENEWAL_RETRY)
            }
        }
    }

    /// Hands a new lease to a policy in operation. A policy that fails keeps what it had, and is asked again.
    async fn policy_has_taken_up(&mut self) -> Result<bool, DaemonError> {
        self.trouble.lease = false;
        match self.take_up_lease().await {
            Ok(()) => Ok(true),
            Err(DaemonError::Plugin(failure)) => {
                self.trouble.lease = true;
                error!(
                    plugin = failure.plugin,
                    function = failure.function,
                    "{failure}; trying again in a minute"
                );
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }

    async fn acquire_again(&mut self) -> Result<At, DaemonError> {
        match self.store.acquire(&self.wanted.request()).await {
            Ok(lease) => {
                let moved = lease.subnets != self.own.subnets;
                if moved {
                    warn!(from = %self.own.subnets, to = %lease.subnets, "the node has another subnet now: pods of the old one are cut off");
                    if self.options.ip_blackhole_route
                        && let Err(error) = blackhole::remove(&self.own.subnets).await
                    {
                        warn!(%error, subnet = %self.own.subnets, "the old subnet's blackhole route cannot be removed");
                    }
                } else {
                    info!(subnet = %lease.subnets, "lease acquired again");
                }
                self.own = lease;
                if moved && !self.policy_has_taken_up().await? {
                    return Ok(At::now() + RENEWAL_RETRY);
                }
                Ok(self.renewal())
            }
            Err(error) => {
                error!(%error, "no lease can be acquired; going on without, and trying again in a minute");
                Ok(At::now() + RENEWAL_RETRY)
            }
        }
    }
}

pub(super) fn never() -> At {
    At::now() + NEVER
}

/// Whether a snapshot does not have our lease, or has it as somebody else's.
fn lacks(leases: &[Arc<Lease>], own: &Lease) -> bool {
    !leases.iter().any(|lease| lease.subnets == own.subnets && same_owner(lease, own))
}

fn same_owner(a: &Lease, b: &Lease) -> bool {
    match (a.attributes.public_ip, b.attributes.public_ip) {
        (Some(a), Some(b)) => a == b,
        _ => a.attributes.public_ipv6 == b.attributes.public_ipv6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt with one peer that fails, after which it waits.
    fn fail(trouble: &mut Trouble) {
        trouble.deferred.insert(PeerId(1));
        trouble.heard(1, 1);
    }

    #[test]
    fn a_policy_that_answers_for_nobody_is_asked_more_and_more_seldom_and_then_suspended() {
        let mut trouble = Trouble::default();
        let mut waits = Vec::new();
        while !trouble.is_suspended() {
            fail(&mut trouble);
            waits.push(trouble.wait());
        }
        assert!(waits.is_sorted() && waits.len() == SUSPEND_AFTER as usize, "{waits:?}");
        assert_eq!((waits[0], waits[9]), (RETRY.0 * 2, RETRY.1));
        // Nothing to do is no answer; another peer's answer is one.
        trouble.heard(0, 0);
        assert!(trouble.is_suspended());
        trouble.heard(2, 1);
        assert!(!trouble.is_suspended());
    }

    #[test]
    fn who_takes_over_begins_without_the_others_troubles() {
        let mut trouble = Trouble::default();
        (0..20).for_each(|_| fail(&mut trouble));
        trouble.healed(vec![(PeerId(2), "no".to_owned())]);
        assert!(!trouble.is_suspended() && trouble.deferred.is_empty());
        assert_eq!((trouble.rejected.len(), trouble.wait()), (1, RETRY.0));
    }
}
