//! The plugin, called from asynchronous code: its calls run on a thread where they may take their time.

use crate::plugin::{CallRecord, Policy};

use super::DaemonError;

/// Holds the policy between calls.
pub struct PolicyRunner(Option<Policy>);

impl PolicyRunner {
    /// Takes a started policy.
    pub fn new(policy: Policy) -> Self {
        Self(Some(policy))
    }

    /// The policy; none after a panic in the host's own code.
    pub fn get(&self) -> Option<&Policy> {
        self.0.as_ref()
    }

    /// The calls that have ended since this was asked last, and the bytes of memory that the plugin has now.
    pub fn take_records(&mut self) -> (Vec<CallRecord>, usize) {
        self.0.as_mut().map_or_else(Default::default, |policy| (policy.take_records(), policy.memory()))
    }

    /// Runs calls on a blocking thread. After a panic in the host's own code in there, there is no policy any more.
    pub async fn call<T: Send + 'static>(
        &mut self,
        calls: impl FnOnce(&mut Policy) -> T + Send + 'static,
    ) -> Result<T, DaemonError> {
        let mut policy = self.0.take().ok_or(DaemonError::PolicyThread)?;
        let joined = tokio::task::spawn_blocking(move || {
            let answer = calls(&mut policy);
            (policy, answer)
        })
        .await;
        let (policy, answer) = joined.map_err(|_| DaemonError::PolicyThread)?;
        self.0 = Some(policy);
        Ok(answer)
    }
}
