//! The end of a backend on this node: its policy removes what it has outside of the kernel (`retirement.retire` of the contract), while
//! another one serves. It holds nothing up, and nothing depends on it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use flannel_base::Backoff;
use flannel_plugin_host::{Policy, processor_time};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use super::clouds::CloudClientGuard;
use super::policy::PolicyThread;

/// So many calls may fail; then what is left stays.
const FAILURES: u32 = 5;
/// Waits after one that has failed.
const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };
/// How long it may take all in all.
const LONGEST: Duration = Duration::from_mins(10);
/// So many times as long as a call took of a processor there is no other, as after a tick.
const REST: u32 = 10;
/// How long a backend that comes back waits for it: what is still there, and about to be removed, would carry packets for a moment. Then it is
/// ended, and that long is waited for the call that is under way.
const PATIENCE: Duration = Duration::from_mins(2);
const LAST_CALL: Duration = Duration::from_secs(10);

/// One that is under way. When it is dropped, it ends with the call that is under way, and that one gets no more answers of clouds.
pub(super) struct Retirement {
    /// Whose it is.
    backend_type: String,
    _clouds: CloudClientGuard,
    /// When this is dropped, there is no further call.
    _end: Sender<()>,
    /// Its other end is dropped when it is over.
    over: oneshot::Receiver<()>,
}

/// What the policy's thread does last.
pub(super) struct LastCalls {
    end: Receiver<()>,
    _over: oneshot::Sender<()>,
}

impl Retirement {
    /// Begins it; none: this backend has nothing to remove.
    pub(super) fn begin(policy: PolicyThread, backend_type: &str, clouds: CloudClientGuard) -> Option<Self> {
        let ((end, told), (done, over)) = (channel(), oneshot::channel());
        let begun = policy.retire(LastCalls { end: told, _over: done });
        begun.then(|| Self { backend_type: backend_type.to_owned(), _clouds: clouds, _end: end, over })
    }

    /// Whether it is of a backend of this type.
    pub(super) fn is_of(&self, backend_type: &str) -> bool {
        self.backend_type == backend_type
    }

    /// Whether it is over.
    pub(super) fn is_over(&mut self) -> bool {
        !matches!(self.over.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }

    /// The backend comes back, and what it makes then is to stay.
    pub(super) async fn end(self) {
        let Self { backend_type, _clouds: clouds, _end: end, mut over } = self;
        if timeout(PATIENCE, &mut over).await.is_ok() {
            return;
        }
        drop((clouds, end));
        if timeout(LAST_CALL, over).await.is_err() {
            warn!(backend = backend_type, "the call in which it removes what it had does not end");
        }
    }
}

impl LastCalls {
    /// Calls the policy until there is nothing left, or no more to be hoped for. `keep`: writes what it wants to remember.
    pub(super) fn run(&self, policy: &mut Policy, mut keep: impl FnMut(&Policy)) {
        let begun = Instant::now();
        let mut failures = 0;
        loop {
            let used_before = processor_time();
            let outcome = policy.retire();
            let rest = processor_time().saturating_sub(used_before) * REST;
            keep(policy);
            policy.take_suppressed_lines();
            let plugin = policy.name();
            let wait = match outcome {
                Ok(None) => {
                    info!(plugin, "the former backend has nothing outside of the kernel any more");
                    return;
                }
                Ok(Some(wait)) => wait,
                Err(error) => {
                    failures += 1;
                    warn!(plugin, %error, "what the former backend has outside of the kernel cannot be removed");
                    RETRY.after(failures - 1)
                }
            };
            let wait = wait.max(rest);
            if failures >= FAILURES || begun.elapsed() + wait > LONGEST {
                warn!(plugin, "it stays, and does no harm: nobody reaches this node by it");
                return;
            }
            match self.end.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
