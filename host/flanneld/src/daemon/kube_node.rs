//! This node in its Kubernetes cluster, as far as it is more than a lease store: what is known of it before anything begins, and that it is ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::{Backoff, LogThrottle};
use flannel_kube_store::families::Families;
use flannel_kube_store::store::{Before, KubeStore};
use flannel_lease_store::StoreError;
use flannel_plugin_host::NodeInfo;
use flannel_telemetry::metrics::KubernetesFigures;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::warn;

use super::DaemonError;
use super::observed_store::StoreHealth;

/// Waits before the API server is asked again.
const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(10) };
/// How long labels that have changed are waited for to come together.
const LABELS: Duration = Duration::from_secs(1);
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

    /// Where the API server is, as far as that is known, and which node this is.
    pub(super) async fn place(&self, before: &Before) -> Option<String> {
        let store = Arc::clone(&self.store);
        let place = self.runtime.spawn(async move { store.place().await }).await.ok()?.ok()?;
        Some(format!("node {} at {place}", before.name))
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

    /// Has the store's health know when nothing is heard of the other nodes. Ends with the process.
    pub(super) fn watch_contact(&self, health: Arc<StoreHealth>) {
        let mut trouble = self.store.trouble();
        // What was heard by another one counts no more.
        health.hears(None);
        tokio::spawn(async move {
            while trouble.changed().await.is_ok() {
                let trouble = trouble.borrow_and_update().clone();
                health.hears(trouble);
            }
        });
    }

    /// Follows the node's labels. Whoever gets this is told when they change.
    pub(super) fn follow_labels(&self, about: Arc<NodeInfo>) -> watch::Receiver<()> {
        let mut labels = self.store.labels();
        about.set_labels(&labels.borrow_and_update());
        let (changes, changed) = watch::channel(());
        tokio::spawn(async move {
            while labels.changed().await.is_ok() {
                // Whoever labels nodes does so bit by bit, and each change is a new beginning.
                tokio::time::sleep(LABELS).await;
                if about.set_labels(&labels.borrow_and_update()) && changes.send(()).is_err() {
                    return;
                }
            }
        });
        changed
    }

    /// What the store has cost until now; none: it has not been asked for the other nodes yet.
    pub(super) fn figures(&self) -> Option<KubernetesFigures> {
        self.store.figures().map(|figures| KubernetesFigures {
            bytes_read: figures.bytes_read,
            lists: figures.lists,
            list_took: figures.list_took,
            watch_ends: figures.watch_ends.into_iter().collect(),
            events: figures.events,
            relevant_events: figures.relevant_events,
            silent_for: figures.silent_for,
            repairs: figures.repairs,
        })
    }

    /// In a cluster with both families these are served.
    pub(super) fn serve(&self, families: Families) {
        self.store.serve(families);
    }

    /// What is heard of this node; none: nothing, or nothing yet.
    pub(super) fn heard(&self) -> Option<Before> {
        self.store.heard()
    }

    /// Pods can be started here.
    pub(super) fn set_ready(&self) {
        self.store.set_ready();
    }
}
