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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last operation went well.
    ok: bool,
    /// What was wrong with the last one, if something was.
    failure: Option<String>,
    /// Why nothing is heard of what others change.
    deaf: Option<String>,
    /// What was wrong the last time that something was.
    last_error: Option<String>,
}

impl StoreHealth {
    /// Of a store that has not been asked yet.
    pub(super) fn new(metrics: Metrics, readiness: Readiness) -> Self {
        Self { metrics, readiness, state: Mutex::default() }
    }

    /// Whether all goes well, and what was wrong the last time that something was.
    pub(super) fn state(&self) -> (bool, Option<String>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.ok && state.deaf.is_none(), state.last_error.clone())
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
        self.note(|state| {
            state.ok = outcome.is_ok();
            state.failure = outcome.as_ref().err().map(ToString::to_string);
            state.last_error = state.failure.clone().or(state.last_error.take());
        });
        outcome
    }

    /// Nothing is heard of what others change, for this reason; or it is again.
    pub(super) fn hears(&self, deaf: Option<String>) {
        self.note(|state| {
            state.last_error = deaf.clone().or(state.last_error.take());
            state.deaf = deaf;
        });
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let trouble = state.failure.as_ref().or(state.deaf.as_ref());
        self.readiness.trouble(trouble.map(|trouble| format!("lease store: {trouble}")));
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

    async fn some_leases(&self) -> Result<Snapshot, StoreError> {
        self.health.observe("list", self.inner.some_leases()).await
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
