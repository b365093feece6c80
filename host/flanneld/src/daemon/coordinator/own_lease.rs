//! The node's own lease: renewed, taken again if it is lost, and taken up by policy, firewall and subnet file.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use flannel_firewall::FirewallError;
use flannel_lease_store::{Renewed, StoreError};
use flannel_model::lease::{Attributes, Generation, Lease, Subnets};
use flannel_model::ledger::Transaction;
use flannel_plugin_host::PluginError;
use flannel_telemetry::Step;
use ipnet::IpNet;
use tracing::{debug, error, info, warn};

use super::publishing::Pace;
use super::{Cause, Coordinator, Effect, Job, News, StoreCall, Wish};
use crate::daemon::DaemonError;

/// How long after a renewal that failed the next is tried; as upstream.
pub(super) const RENEWAL_RETRY: Duration = Duration::from_mins(1);
/// The same while the store has something else of us than what is to be published: others do not find us.
const PUBLISH_RETRY: Duration = Duration::from_secs(1);
/// How soon a lease that somebody else has written is written again, so that he notices, too.
const REASSERT: Duration = Duration::from_mins(1);
/// For how long it is believed that somebody else writes the lease: a few times that.
const CONTEST: Duration = Duration::from_mins(3);
/// How long after an attempt that failed the subnet file is written again.
const FILE_RETRY: Duration = Duration::from_secs(1);
/// How often the log repeats that nothing can be published, or written.
const REMIND: Duration = Duration::from_mins(1);

/// What the node holds, and what of it is in force.
pub(super) struct OwnLease {
    /// The lease, as the store has it.
    pub(super) lease: Lease,
    /// What is to be published.
    pub(super) published: Attributes,
    /// The MTU of pods.
    pub(super) mtu: u32,
    /// The subnets that policy, firewall and subnet file are for; `None` until the policy has taken up the first.
    pub(super) in_force: Option<Subnets>,
    /// When the policy is to be told of the lease; `None` if it has taken it up.
    uptake: Option<Instant>,
    /// When the lease is to be renewed.
    renewal: Option<Instant>,
    /// What the store is being asked to publish.
    asked: Option<Attributes>,
    throttle: LogThrottle,
    rules: Progress,
    rules_throttle: LogThrottle,
    subnet_file: Progress,
    subnet_file_throttle: LogThrottle,
    /// Until when it is believed that somebody else writes the lease, too.
    contested: Option<Instant>,
    contest_throttle: LogThrottle,
    /// When a subnet file that could not be written is tried again.
    file_retry: Option<Instant>,
    /// When something else is published because the plugin wants so.
    pace: Pace,
}

/// Something that is made for the subnets in force, one attempt after the other.
#[derive(Default)]
struct Progress {
    /// Attempts that are under way.
    running: u32,
    /// Whether the last attempt that ended went well; `None` if none has ended.
    done: Option<bool>,
}

impl Progress {
    fn begin(&mut self) {
        self.running += 1;
    }

    /// An attempt has ended. Answers whether its outcome counts, because no later one is under way.
    fn end(&mut self, done: bool) -> bool {
        self.running = self.running.saturating_sub(1);
        self.done = Some(done);
        self.running == 0
    }

    /// Whether it is time for another attempt.
    fn has_failed(&self) -> bool {
        self.running == 0 && self.done == Some(false)
    }
}

impl OwnLease {
    pub(super) fn new(
        lease: Lease,
        published: Attributes,
        mtu: u32,
        renewal: Option<Instant>,
        now: Instant,
    ) -> Self {
        let renewal = if lease.attributes == published { renewal } else { Some(now) };
        Self {
            lease,
            published,
            mtu,
            in_force: None,
            uptake: Some(now),
            renewal,
            asked: None,
            throttle: LogThrottle::new(Some(REMIND)),
            rules: Progress::default(),
            rules_throttle: LogThrottle::new(Some(REMIND)),
            subnet_file: Progress::default(),
            subnet_file_throttle: LogThrottle::new(Some(REMIND)),
            contested: None,
            contest_throttle: LogThrottle::new(Some(CONTEST)),
            file_retry: None,
            pace: Pace::new(now),
        }
    }

    /// When the policy is to be told of the lease.
    pub(super) fn uptake_due(&self) -> Option<Instant> {
        self.uptake
    }

    /// Whether rules and subnet file have been tried, and are not under way.
    pub(super) fn is_taken_up(&self) -> bool {
        let is_over = |progress: &Progress| progress.running == 0 && progress.done.is_some();
        is_over(&self.rules) && is_over(&self.subnet_file)
    }

    /// When the store is to be asked to renew the lease. It is asked one thing at a time.
    pub(super) fn renewal_due(&self) -> Option<Instant> {
        let wanted = self.pace.due().filter(|_| self.lease.attributes != self.published);
        [self.renewal, wanted].into_iter().flatten().min().filter(|_| self.asked.is_none())
    }

    /// When the lease is the node's alone again, if nobody else writes it meanwhile.
    pub(super) fn contest_over(&self) -> Option<Instant> {
        self.contested
    }

    /// When the subnet file is to be written once more.
    pub(super) fn file_due(&self) -> Option<Instant> {
        self.file_retry
    }

    /// Something else may be wanted to be known from now on.
    pub(super) fn publish(&mut self, attributes: Attributes, now: Instant) {
        if attributes != self.published {
            self.published = attributes;
            self.renewal = Some(now);
        }
    }

    /// The plugin wants something else to be known from now on. It may want that often, and each time all nodes hear of it.
    pub(super) fn publish_wish(&mut self, attributes: Attributes, wish: Wish, now: Instant) {
        if attributes != self.published {
            self.published = attributes;
            self.pace.want(wish, now);
        }
    }

    /// Whether the store has all that others have to know, but for data that the plugin wants to be known and whose turn comes.
    pub(super) fn is_known(&self, stored: &Attributes) -> bool {
        let waits = || self.pace.due().is_some() && without_data(stored) == without_data(&self.published);
        *stored == self.published || waits()
    }

    /// The lease may be lost: the store is to be asked.
    pub(super) fn verify(&mut self, now: Instant) {
        self.renewal = Some(now);
    }
}

fn without_data(attributes: &Attributes) -> Attributes {
    let bare = |generation: &Generation| Generation {
        backend_data: None,
        backend_v6_data: None,
        ..generation.clone()
    };
    let generations = attributes.generations.iter().map(bare).collect();
    Attributes { backend_data: None, backend_v6_data: None, generations, ..attributes.clone() }
}

impl Coordinator {
    /// Renews the lease, or takes it again if it is lost. While the store is away the node goes on with the lease that it has.
    pub(super) fn renew_if_due(&mut self, now: Instant) {
        if self.own.renewal_due().is_some_and(|due| due <= now) {
            self.own.renewal = None;
            self.own.pace.begin(now);
            self.own.asked = Some(self.own.published.clone());
            let call = StoreCall::Renew(self.own.lease.clone(), self.own.published.clone());
            self.effects.push(Effect::Store(call));
        }
    }

    pub(super) fn renewed(&mut self, outcome: Result<(Renewed, Option<Duration>), StoreError>, now: Instant) {
        match outcome {
            Ok((Renewed::Until(expires), due)) => {
                debug!(subnet = %self.own.lease.subnets, "lease renewed");
                let attributes = self.own.asked.take().unwrap_or_else(|| self.own.published.clone());
                self.hold(Lease { subnets: self.own.lease.subnets, attributes, expires }, due, now);
            }
            Ok((Renewed::Lost, _)) => {
                warn!(subnet = %self.own.lease.subnets, "our lease is gone from the store: acquiring it again");
                self.own.asked = Some(self.own.published.clone());
                self.effects.push(Effect::Store(StoreCall::Acquire(self.own.published.clone())));
            }
            Err(error) if self.own.lease.attributes != self.own.published => {
                if self.own.throttle.says(&error.to_string(), now) {
                    warn!(%error, "what this node publishes cannot be written; trying again every second");
                }
                self.store_failed(now + PUBLISH_RETRY);
            }
            Err(error) => {
                warn!(%error, "the lease cannot be renewed; trying again in a minute");
                self.store_failed(now + RENEWAL_RETRY);
            }
        }
    }

    pub(super) fn acquired(&mut self, outcome: Result<(Lease, Option<Duration>), StoreError>, now: Instant) {
        match outcome {
            Ok((lease, due)) => {
                self.own.asked = None;
                let from = self.own.lease.subnets;
                if lease.subnets == from {
                    info!(subnet = %from, "lease acquired again");
                } else {
                    warn!(%from, to = %lease.subnets, "the node has another subnet now: pods of the old one are cut off");
                    self.own.uptake = Some(now);
                    // Whoever has written the one of before has that one.
                    if self.own.contested.is_some() {
                        self.end_contest_now();
                    }
                    self.tell(News::Step(Step::Rules, false));
                    self.tell(News::Step(Step::SubnetFile, false));
                }
                self.hold(lease, due, now);
            }
            Err(error) => {
                error!(%error, "no lease can be acquired; going on without, and trying again in a minute");
                self.store_failed(now + RENEWAL_RETRY);
            }
        }
    }

    /// Another process has written our lease with our address in it: there is another node that takes itself for this one. They share a subnet.
    pub(super) fn lease_contested(&mut self, now: Instant) {
        let addresses: Vec<String> =
            self.own.published.public_addresses().map(|address| address.to_string()).collect();
        if self.own.contest_throttle.says(&self.own.lease.subnets.to_string(), now) {
            error!(
                subnet = %self.own.lease.subnets,
                "another process writes this node's lease: another node has the public address {}, too (behind NAT, say), and so both have one \
                 subnet; give each node an address of its own, with --public-ip or --iface",
                addresses.join(" and ")
            );
        }
        self.own.contested = Some(now + CONTEST);
        self.tell(News::Step(Step::OwnLeaseAlone, false));
        let again = now + REASSERT;
        self.own.renewal = Some(self.own.renewal.map_or(again, |due| due.min(again)));
    }

    pub(super) fn end_contest(&mut self, now: Instant) {
        if self.own.contested.is_some_and(|end| end <= now) {
            info!(subnet = %self.own.lease.subnets, "nobody else writes this node's lease any more");
            self.end_contest_now();
        }
    }

    fn end_contest_now(&mut self) {
        self.own.contested = None;
        self.own.contest_throttle.reset();
        self.tell(News::Step(Step::OwnLeaseAlone, true));
    }

    /// Another node with an older lease is known by something of ours: this machine is a clone of it. It starts over with something new.
    pub(super) fn look_for_clones(&mut self) {
        let Some((key, holder)) = self.view.shared_key() else { return };
        if self.avoid.contains(&key) {
            return;
        }
        warn!(
            "this node's {key} is that of the lease {holder}, too, which is older: this machine may be a clone of that one, with its state directory; \
             taking another one"
        );
        self.avoid.push(key);
        if self.restart.is_none() {
            self.restart = Some(self.external.clone());
        }
    }

    fn store_failed(&mut self, again: Instant) {
        self.own.asked = None;
        self.own.renewal = Some(again);
    }

    /// The store has this lease as ours. `due`: how long until it has to be renewed.
    fn hold(&mut self, lease: Lease, due: Option<Duration>, now: Instant) {
        let delta = self.view.set_own(&lease);
        self.submit(delta, now);
        // Who wants something else to be known by now, or has doubts, asks again at once.
        let is_known = self.own.is_known(&lease.attributes);
        let again = (!is_known).then_some(now);
        self.own.renewal = self.own.renewal.or(again).or_else(|| due.map(|wait| now + wait));
        self.own.lease = lease;
        self.own.throttle.reset();
        self.tell(News::Step(Step::Lease, is_known));
        self.tell(News::Lease(self.own.lease.clone(), self.own.mtu));
        self.look_for_clones();
    }

    /// The policy was told of our lease. One that fails keeps what it had, as do firewall and subnet file, and is asked again.
    pub(super) fn lease_taken(&mut self, outcome: Result<Transaction, PluginError>, now: Instant) {
        let Some(Job::LeaseAcquired(lease)) = self.job.take() else { return };
        match outcome {
            Ok(transaction) => {
                let blackholes = Some(self.blackholes(&lease.subnets));
                self.commit(Transaction { blackholes, ..transaction }, Cause::OwnLease);
                self.own.uptake = (lease.subnets != self.own.lease.subnets).then_some(now);
                if self.own.in_force.is_some_and(|before| before != lease.subnets) {
                    self.give_up_beside();
                }
                self.put_in_force(lease.subnets);
                self.tell(News::Lease(self.own.lease.clone(), self.own.mtu));
            }
            Err(failure) if self.settings.first_failure_is_fatal && self.own.in_force.is_none() => {
                self.own.uptake = Some(now + RENEWAL_RETRY);
                self.effects.push(Effect::Fail(DaemonError::Plugin(failure)));
            }
            Err(failure) => {
                self.own.uptake = Some(now + RENEWAL_RETRY);
                error!(
                    plugin = failure.plugin,
                    function = failure.function,
                    "{failure}; trying again in a minute"
                );
                self.replay_if_ended(&failure, now);
                self.tell(News::PluginFailed(failure));
            }
        }
    }

    /// The blackhole routes of a node with these subnets.
    pub(super) fn blackholes(&self, subnets: &Subnets) -> BTreeSet<IpNet> {
        subnets.iter().filter(|_| self.settings.blackhole).collect()
    }

    /// A policy has taken up these subnets.
    pub(super) fn put_in_force(&mut self, subnets: Subnets) {
        self.own.in_force = Some(subnets);
        self.own.subnet_file.done = None;
        self.set_rules(subnets);
    }

    /// The policy that takes over has been told of this lease.
    pub(super) fn has_taken_up(&mut self, lease: &Lease, now: Instant) {
        self.own.uptake = (lease.subnets != self.own.lease.subnets).then_some(now);
        if self.own.in_force != Some(lease.subnets) {
            self.put_in_force(lease.subnets);
        }
    }

    fn set_rules(&mut self, subnets: Subnets) {
        self.own.rules.begin();
        self.effects.push(Effect::Rules(subnets));
    }

    pub(super) fn rules_set(&mut self, outcome: Result<(), FirewallError>, now: Instant) {
        let first = self.own.rules.done.is_none();
        if !self.own.rules.end(outcome.is_ok()) {
            return;
        }
        match outcome {
            Ok(()) => {
                self.own.rules_throttle.reset();
                self.tell(News::Step(Step::Rules, true));
            }
            Err(error) if self.settings.first_failure_is_fatal && first => {
                self.effects.push(Effect::Fail(DaemonError::Firewall(error)));
                return;
            }
            Err(error) => {
                if self.own.rules_throttle.says(&error.to_string(), now) {
                    error!(%error, "the firewall's rules are not in place; trying again");
                }
            }
        }
        self.tell(News::Refresh);
        if self.own.subnet_file.done != Some(true) {
            self.write_subnet_file();
        }
    }

    /// Container runtimes are told of the subnets in force once the firewall's rules are for them.
    pub(super) fn write_subnet_file(&mut self) {
        self.own.file_retry = None;
        if let Some(subnets) = self.own.in_force {
            self.own.subnet_file.begin();
            self.effects.push(Effect::SubnetFile(subnets, self.own.mtu));
        }
    }

    pub(super) fn subnet_file_written(&mut self, outcome: Result<(), String>, now: Instant) {
        let counts = self.own.subnet_file.end(outcome.is_ok());
        match outcome {
            Ok(()) => {
                self.own.subnet_file_throttle.reset();
                if counts {
                    self.tell(News::Step(Step::SubnetFile, true));
                }
            }
            Err(error) => {
                if self.own.subnet_file_throttle.says(&error, now) {
                    error!(
                        error,
                        "the subnet file cannot be written: container runtimes will not find their subnet; trying again every second"
                    );
                }
                if counts {
                    self.own.file_retry = Some(now + FILE_RETRY);
                    self.tell(News::Step(Step::SubnetFile, false));
                }
            }
        }
        self.say_ready();
    }

    /// Somebody has removed it, or put something else in its place.
    pub(super) fn subnet_file_lost(&mut self) {
        if self.own.subnet_file.running == 0 && self.own.file_retry.is_none() {
            warn!("the subnet file is not what it was: writing it again");
            self.tell(News::Step(Step::SubnetFile, false));
            self.write_subnet_file();
        }
    }

    /// Looks after what nobody tells us of.
    pub(super) fn keep_own_subnet(&mut self) {
        let Some(subnets) = self.own.in_force else { return };
        if self.own.rules.has_failed() {
            self.set_rules(subnets);
        }
    }
}
