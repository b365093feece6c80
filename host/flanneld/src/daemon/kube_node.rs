//! This node in its Kubernetes cluster, as far as it is more than a lease store: what is known of it before anything begins, and that it is ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::{Backoff, LogThrottle};
use flannel_kube_store::store::{Before, KubeStore};
use flannel_lease_store::StoreError;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::DaemonError;
use super::observed_store::StoreHealth;

/// Waits before the API server is asked again.
const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(10) };
/// How often the log repeats that we are waiting.
const REMIND: Duration = Duration::from_mins(1);

/// The node.
pub(super) struct KubeNode {
    store: Arc<KubeStore>,
    /// Where the API server is talked to.
    runtime: Handle,
}

impl KubeNode {
    /// The node whose lease is in a store.
    pub(super) fn new(store: Arc<KubeStore>, runtime: Handle) -> Self {
        Self { store, runtime }
    }

    /// What there is of the node, as soon as the API server says so: whatever time or an operator can mend is waited for.
    pub(super) async fn before(&self, health: &StoreHealth) -> Result<Before, DaemonError> {
        let (mut throttle, mut failures) = (LogThrottle::new(Some(REMIND)), 0);
        loop {
            match health.observe("own_node", self.ask()).await {
                Ok(before) => {
                    for wrong in &before.hints.wrong {
                        warn!("{wrong}");
                    }
                    info!(node = before.name, "node of the Kubernetes cluster");
                    return Ok(before);
                }
                Err(error @ StoreError::Setup { .. }) => return Err(error.into()),
                Err(error) => {
                    if throttle.says(&error.to_string(), Instant::now()) {
                        warn!("cannot read this node's object: {error}; trying again");
                    }
                }
            }
            tokio::time::sleep(RETRY.after(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn ask(&self) -> Result<Before, StoreError> {
        let store = Arc::clone(&self.store);
        let asked = self.runtime.spawn(async move { store.before().await });
        asked.await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable { place: "the API server".to_owned(), reason: error.to_string() })
        })
    }

    /// Pods can be started here.
    pub(super) fn set_ready(&self) {
        self.store.set_ready();
    }
}
