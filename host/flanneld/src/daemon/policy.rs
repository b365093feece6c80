//! The plugin that serves, on a thread of its own: a call may take its time there, and nobody waits for it. The thread is confined.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use flannel_base::LogThrottle;
use flannel_plugin_host::{
    CallRecord, CloudRecord, DirState, PluginSeries, Policy, PublishedAnew, processor_time,
};
use flannel_privileges::{Profile, spawn_confined};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::DaemonError;
use super::coordinator::{Effort, Event, PolicyCall};
use super::probes::ProbeHub;
use super::retirement::LastCalls;
use super::serve::Outcome;

/// How often a write that keeps failing is told of.
const REMIND: Duration = Duration::from_hours(1);

/// Calls that have ended.
#[derive(Default)]
pub(super) struct Records {
    /// Of the plugin.
    pub calls: Vec<CallRecord>,
    /// Of the plugin, to clouds.
    pub clouds: Vec<CloudRecord>,
    /// Bytes of memory that the plugin has now.
    pub memory: usize,
    /// Lines of the plugin's that were suppressed.
    pub suppressed_lines: u64,
}

/// Whose calls these are: of the generation that serves, or of the one beside it during a change of the backend.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<AtomicBool>);

impl Place {
    /// Beside the one that serves.
    pub(super) fn beside() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// It is the one that serves from now on.
    pub(super) fn take_over(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn event(&self, event: Event) -> Event {
        if self.0.load(Ordering::Acquire) { Event::Beside(Box::new(event)) } else { event }
    }

    fn called(&self, event: Event, records: Records) -> Outcome {
        Outcome::Called(self.event(event), records)
    }

    fn published_anew(&self, anew: PublishedAnew) -> Outcome {
        Outcome::PublishedAnew(Box::new(anew), self.0.load(Ordering::Acquire))
    }
}

/// The way to the policy. Dropping it ends the thread, after the call that is under way.
pub(super) struct PolicyThread {
    orders: Sender<Order>,
    /// Whether it has something to do when its backend ends.
    retires: bool,
    /// Whether it begins anew when what is known of the node changes.
    pub(super) follows_node: bool,
    /// What it counts of its own.
    pub(super) series: PluginSeries,
}

enum Order {
    Call(PolicyCall),
    /// The last one.
    Retire(LastCalls),
}

impl PolicyThread {
    /// Takes a started policy. What comes of each call goes to `outcomes`, in the calls' order.
    pub(super) fn start(
        mut policy: Box<Policy>,
        place: Place,
        probes: &ProbeHub,
        outcomes: UnboundedSender<Outcome>,
    ) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let (retires, follows_node) = (policy.retires(), policy.follows_node());
        let series = policy.series().clone();
        let owner = probes.owner({
            let (place, outcomes) = (place.clone(), outcomes.clone());
            // A daemon that starts over, or ends, does not listen any more.
            move || drop(outcomes.send(place.event(Event::ProbesChanged).into()))
        });
        // At once: what another one has probed until now goes on, if this one wants that, too.
        owner.declare(policy.take_probes().unwrap_or_default());
        let run = move || {
            let outcomes = LastWords(outcomes);
            let mut keeper = Keeper::default();
            while let Some(order) = keeper.next(&inbox, policy.state()) {
                let call = match order {
                    Order::Call(call) => call,
                    Order::Retire(calls) => {
                        drop(owner);
                        calls.run(&mut policy, |policy| keeper.keep(policy.state()));
                        break;
                    }
                };
                let (event, calls) = answer(&mut policy, call);
                let (clouds, suppressed_lines) =
                    (policy.take_cloud_records(), policy.take_suppressed_lines());
                if let Some(anew) = policy.take_published_anew() {
                    let _ = outcomes.0.send(place.published_anew(anew));
                }
                if let Some(targets) = policy.take_probes() {
                    owner.declare(targets);
                }
                let records = Records { calls, clouds, memory: policy.memory(), suppressed_lines };
                // A daemon that starts over, or ends, does not listen any more.
                let _ = outcomes.0.send(place.called(event, records));
                let refresh = policy.take_refreshes();
                if !refresh.is_empty() {
                    let _ = outcomes.0.send(place.event(Event::Refresh(refresh)).into());
                }
            }
            keeper.keep(policy.state());
        };
        spawn_confined("policy", Profile::Plugin, run)?;
        Ok(Self { orders, retires, follows_node, series })
    }

    /// Calls the policy after all earlier calls.
    pub(super) fn call(&self, call: PolicyCall) {
        // If the thread is gone, it has said so.
        let _ = self.orders.send(Order::Call(call));
    }

    /// Has the policy remove what it has outside of the kernel, after all earlier calls, and ends the thread then. Answers whether it has
    /// anything to remove.
    pub(super) fn retire(self, calls: LastCalls) -> bool {
        self.retires && self.orders.send(Order::Retire(calls)).is_ok()
    }
}

/// Calls the policy; answers what came of it, and the calls that it took.
fn answer(policy: &mut Policy, call: PolicyCall) -> (Event, Vec<CallRecord>) {
    let (started, used_before) = (Instant::now(), processor_time());
    let mut calls = Vec::new();
    let mut effort = |policy: &Policy| {
        calls = policy.take_records();
        let exhausted = calls.iter().any(|call| call.exhausted);
        Effort { processor: processor_time().saturating_sub(used_before), exhausted }
    };
    let event = match call {
        PolicyCall::LeaseAcquired(lease) => {
            let taken = policy.lease_acquired(&lease);
            effort(policy);
            Event::LeaseTaken(taken)
        }
        PolicyCall::Apply(changes, restarts) | PolicyCall::Refresh(changes, restarts) => {
            let applied = policy.apply_within(&changes, restarts);
            Event::Applied(applied, started.elapsed(), effort(policy))
        }
        PolicyCall::Tick => {
            let ticked = policy.tick();
            Event::Ticked(ticked, effort(policy))
        }
    };
    (event, calls)
}

/// Who sees to it that what plugins write is on the disk soon, also while they are called for nothing.
struct Keeper {
    throttle: LogThrottle,
}

impl Default for Keeper {
    fn default() -> Self {
        Self { throttle: LogThrottle::new(Some(REMIND)) }
    }
}

impl Keeper {
    /// Waits for the next call; none: there will not be any.
    fn next(&mut self, inbox: &Receiver<Order>, state: &DirState) -> Option<Order> {
        loop {
            let Some(due) = state.flush_due() else { return inbox.recv().ok() };
            match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(order) => return Some(order),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.keep(state),
            }
        }
    }

    fn keep(&mut self, state: &DirState) {
        match state.flush() {
            Ok(()) => self.throttle.reset(),
            Err(error) if self.throttle.says(&error.to_string(), Instant::now()) => {
                warn!(%error, "what the plugin wants to remember cannot be written; it is tried again each second");
            }
            Err(_) => {}
        }
    }
}

/// After a panic in the host's own code there is no policy any more, and no going on.
struct LastWords(UnboundedSender<Outcome>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.send(Outcome::Failed(DaemonError::PolicyThread));
        }
    }
}
