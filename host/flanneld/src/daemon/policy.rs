//! The plugin that serves, on a thread of its own: a call may take its time there, and nobody waits for it. The thread is confined.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use flannel_plugin_host::{CallRecord, CloudRecord, Policy};
use flannel_privileges::{Profile, spawn_confined};
use tokio::sync::mpsc::UnboundedSender;

use super::DaemonError;
use super::coordinator::{Event, PolicyCall};
use super::serve::Outcome;

/// Calls that have ended.
#[derive(Default)]
pub(super) struct Records {
    /// Of the plugin.
    pub calls: Vec<CallRecord>,
    /// Of the plugin, to clouds.
    pub clouds: Vec<CloudRecord>,
    /// Bytes of memory that the plugin has now.
    pub memory: usize,
}

/// The way to the policy. Dropping it ends the thread, after the call that is under way.
pub(super) struct PolicyThread {
    calls: Sender<PolicyCall>,
}

impl PolicyThread {
    /// Takes a started policy. What comes of each call goes to `outcomes`, in the calls' order.
    pub(super) fn start(mut policy: Box<Policy>, outcomes: UnboundedSender<Outcome>) -> io::Result<Self> {
        let (calls, inbox) = channel();
        let run = move || {
            let outcomes = LastWords(outcomes);
            while let Ok(call) = inbox.recv() {
                let event = answer(&mut policy, call);
                let (calls, clouds) = (policy.take_records(), policy.take_cloud_records());
                if let Some(registered) = policy.take_registered_anew() {
                    let _ = outcomes.0.send(Outcome::RegisteredAnew(Box::new(registered)));
                }
                let records = Records { calls, clouds, memory: policy.memory() };
                // A daemon that starts over, or ends, does not listen any more.
                let _ = outcomes.0.send(Outcome::Called(event, records));
            }
        };
        spawn_confined("policy", Profile::Plugin, run)?;
        Ok(Self { calls })
    }

    /// Calls the policy after all earlier calls.
    pub(super) fn call(&self, call: PolicyCall) {
        // If the thread is gone, it has said so.
        let _ = self.calls.send(call);
    }
}

fn answer(policy: &mut Policy, call: PolicyCall) -> Event {
    match call {
        PolicyCall::LeaseAcquired(lease) => Event::LeaseTaken(policy.lease_acquired(&lease)),
        PolicyCall::Apply(changes, restarts) => {
            let started = Instant::now();
            let applied = policy.apply_within(&changes, restarts);
            Event::Applied(applied, started.elapsed())
        }
        PolicyCall::Tick => Event::Ticked(policy.tick()),
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
