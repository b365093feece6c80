//! A lease store whose operations are timed, and whose last failure is remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use flannel_lease_store::{Acquire, ConfigWritten, Event, LeaseStore, Renewed, Snapshot, StoreError};
use flannel_model::lease::{Attributes, Lease};
use flannel_model::network_config::{ConfigError, NetworkConfig};
use flannel_telemetry::{Metrics, Readiness};
use tokio::sync::mpsc::Receiver;

/// How a store does.
pub(super) struct StoreHealth {
    metrics: Metrics,
    readiness: Readiness,
    state: Mutex<(bool, Option<String>)>,
}

impl StoreHealth {
    /// Of a store that has not been asked yet.
    pub(super) fn new(metrics: Metrics, readiness: Readiness) -> Self {
        Self { metrics, readiness, state: Mutex::default() }
    }

    /// Whether the last operation went well, and what was wrong the last time that something was.
    pub(super) fn state(&self) -> (bool, Option<String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts an operation, and remembers how it ended.
    pub(super) async fn observe<T>(
        &self,
        operation: &'static str,
        outcome: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begin = Instant::now();
        let outcome = outcome.await;
        self.metrics.store_operation(operation, begin.elapsed(), outcome.is_ok());
        self.heard(outcome.as_ref().err().map(ToString::to_string));
        outcome
    }

    /// Something is wrong with the store, or nothing any more.
    pub(super) fn heard(&self, trouble: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = trouble.is_none();
        self.readiness.trouble(trouble.as_ref().map(|trouble| format!("lease store: {trouble}")));
        if trouble.is_some() {
            state.1 = trouble;
        }
    }
}

/// The store.
pub(super) struct ObservedStore {
    inner: Arc<dyn LeaseStore>,
    health: Arc<StoreHealth>,
}

impl ObservedStore {
    /// Observes a store.
    pub(super) fn new(inner: Arc<dyn LeaseStore>, health: Arc<StoreHealth>) -> Self {
        Self { inner, health }
    }
}

#[async_trait]
impl LeaseStore for ObservedStore {
    async fn network_config(&self) -> Result<String, StoreError> {
        self.health.observe("network_config", self.inner.network_config()).await
    }

    fn parse_config(&self, text: &str) -> Result<NetworkConfig, ConfigError> {
        self.inner.parse_config(text)
    }

    fn watch_config(self: Arc<Self>) -> Receiver<String> {
        Arc::clone(&self.inner).watch_config()
    }

    async fn write_network_config(
        &self,
        text: &str,
        seen: Option<&str>,
    ) -> Result<ConfigWritten, StoreError> {
        self.health.observe("write_config", self.inner.write_network_config(text, seen)).await
    }

    fn config_place(&self) -> String {
        self.inner.config_place()
    }

    async fn leases(&self) -> Result<Snapshot, StoreError> {
        self.health.observe("list", self.inner.leases()).await
    }

    async fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError> {
        self.health.observe("acquire", self.inner.acquire(request)).await
    }

    async fn renew_as(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError> {
        self.health.observe("renew", self.inner.renew_as(lease, attributes)).await
    }

    fn watch(self: Arc<Self>) -> Receiver<Event> {
        Arc::clone(&self.inner).watch()
    }
}
