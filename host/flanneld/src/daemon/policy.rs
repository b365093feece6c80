//! The plugin, called from asynchronous code: its calls run on a thread where they may take their time. A tick may wait for clouds, so
//! it runs beside the loop; every other call waits for its end.

use std::time::Duration;

use flannel_model::ledger::Transaction;
use flannel_plugin_host::{CallRecord, CloudRecord, PluginError, Policy};
use tokio::task::{JoinHandle, spawn_blocking};

use super::DaemonError;

/// How a tick ends: with what was declared, and when the next is wanted.
pub(super) type Ticked = Result<(Transaction, Option<Duration>), PluginError>;

/// Where the policy is.
enum Place {
    Here(Box<Policy>),
    /// On the thread of a tick.
    Ticking(JoinHandle<(Box<Policy>, Ticked)>),
    /// Nowhere, after a panic in the host's own code.
    Gone,
}

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

/// Holds the policy between calls.
pub(super) struct PolicyRunner {
    place: Place,
    /// A tick that ended while somebody waited for the policy.
    ticked: Option<Ticked>,
}

impl PolicyRunner {
    /// Takes a started policy.
    pub(super) fn new(policy: Policy) -> Self {
        Self { place: Place::Here(Box::new(policy)), ticked: None }
    }

    /// The policy; none while it ticks, and after a panic in the host's own code.
    pub(super) fn get(&self) -> Option<&Policy> {
        match &self.place {
            Place::Here(policy) => Some(policy),
            Place::Ticking(_) | Place::Gone => None,
        }
    }

    /// Whether a tick is under way, or its outcome waits to be taken.
    pub(super) fn is_ticking(&self) -> bool {
        self.ticked.is_some() || matches!(self.place, Place::Ticking(_))
    }

    /// The calls that have ended since this was asked last.
    pub(super) fn take_records(&mut self) -> Records {
        let Place::Here(policy) = &mut self.place else { return Records::default() };
        Records { calls: policy.take_records(), clouds: policy.take_cloud_records(), memory: policy.memory() }
    }

    /// Begins a tick, unless one is under way.
    pub(super) fn tick(&mut self) -> Result<(), DaemonError> {
        if self.is_ticking() {
            return Ok(());
        }
        let Place::Here(mut policy) = std::mem::replace(&mut self.place, Place::Gone) else {
            return Err(DaemonError::PolicyThread);
        };
        self.place = Place::Ticking(spawn_blocking(move || {
            let ticked = policy.tick();
            (policy, ticked)
        }));
        Ok(())
    }

    /// Waits for the end of the tick that is under way; without one for ever.
    pub(super) async fn ticked(&mut self) -> Result<Ticked, DaemonError> {
        self.come_back().await?;
        match self.ticked.take() {
            Some(ticked) => Ok(ticked),
            None => std::future::pending().await,
        }
    }

    /// Waits for a tick's end, and keeps its outcome. May be dropped at any time: the tick goes on.
    async fn come_back(&mut self) -> Result<(), DaemonError> {
        let Place::Ticking(tick) = &mut self.place else { return Ok(()) };
        let ended = tick.await;
        self.place = Place::Gone;
        let (policy, ticked) = ended.map_err(|_| DaemonError::PolicyThread)?;
        self.place = Place::Here(policy);
        self.ticked = Some(ticked);
        Ok(())
    }

    /// Runs calls on a blocking thread. After a panic in the host's own code in there, there is no policy any more.
    pub(super) async fn call<T: Send + 'static>(
        &mut self,
        calls: impl FnOnce(&mut Policy) -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        self.come_back().await?;
        let Place::Here(mut policy) = std::mem::replace(&mut self.place, Place::Gone) else {
            return Err(DaemonError::PolicyThread);
        };
        let joined = spawn_blocking(move || {
            let answer = calls(&mut policy);
            (policy, answer)
        })
        .await;
        let (policy, answer) = joined.map_err(|_| DaemonError::PolicyThread)?;
        self.place = Place::Here(policy);
        Ok(answer)
    }
}
