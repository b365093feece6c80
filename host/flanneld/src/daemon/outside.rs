//! A runtime whose threads have no privileges: where servers are talked to, and what they answer is read.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use flannel_lease_store::{Acquire, ConfigWritten, Event, LeaseStore, Renewed, Snapshot, StoreError};
use flannel_model::lease::{Attributes, Lease};
use flannel_model::network_config::{ConfigError, NetworkConfig};
use flannel_privileges::{Profile, confine, start_helper};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc::Receiver;

/// The runtime. What runs in it ends when it is dropped.
pub(super) struct Outside(Option<Runtime>);

impl Outside {
    /// Starts its threads.
    pub(super) fn start() -> io::Result<Self> {
        start_helper()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("outside")
            .on_thread_start(|| confine(Profile::Network))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// The way into it.
    pub(super) fn handle(&self) -> Handle {
        // It is there until it is dropped.
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A lease store that is asked in that runtime.
pub(super) struct OutsideStore<S> {
    store: Arc<S>,
    runtime: Handle,
}

impl<S: LeaseStore + 'static> OutsideStore<S> {
    /// With this store, which has not been asked anything yet.
    pub(super) fn new(store: Arc<S>, runtime: Handle) -> Self {
        Self { store, runtime }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        // Whoever does not wait any longer wants no answer either.
        let mut asked = Abandoned(self.runtime.spawn(question));
        (&mut asked.0).await.unwrap_or_else(|error| {
            let place = self.store.config_place();
            Err(StoreError::Unavailable { place, reason: format!("it cannot be asked: {error}") })
        })
    }
}

/// Ends a task when it is dropped.
struct Abandoned<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Abandoned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[async_trait]
impl<S: LeaseStore + 'static> LeaseStore for OutsideStore<S> {
    async fn network_config(&self) -> Result<String, StoreError> {
        let store = Arc::clone(&self.store);
        self.ask(async move { store.network_config().await }).await
    }

    fn parse_config(&self, text: &str) -> Result<NetworkConfig, ConfigError> {
        self.store.parse_config(text)
    }

    fn watch_config(self: Arc<Self>) -> Receiver<String> {
        let _inside = self.runtime.enter();
        Arc::clone(&self.store).watch_config()
    }

    async fn write_network_config(
        &self,
        text: &str,
        seen: Option<&str>,
    ) -> Result<ConfigWritten, StoreError> {
        let store = Arc::clone(&self.store);
        let (text, seen) = (text.to_owned(), seen.map(ToOwned::to_owned));
        self.ask(async move { store.write_network_config(&text, seen.as_deref()).await }).await
    }

    fn config_place(&self) -> String {
        self.store.config_place()
    }

    async fn leases(&self) -> Result<Snapshot, StoreError> {
        let store = Arc::clone(&self.store);
        self.ask(async move { store.leases().await }).await
    }

    async fn some_leases(&self) -> Result<Snapshot, StoreError> {
        let store = Arc::clone(&self.store);
        self.ask(async move { store.some_leases().await }).await
    }

    async fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError> {
        let (store, request) = (Arc::clone(&self.store), request.clone());
        self.ask(async move { store.acquire(&request).await }).await
    }

    async fn renew_as(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError> {
        let (store, lease, attributes) = (Arc::clone(&self.store), lease.clone(), attributes.clone());
        self.ask(async move { store.renew_as(&lease, &attributes).await }).await
    }

    fn watch(self: Arc<Self>) -> Receiver<Event> {
        let _inside = self.runtime.enter();
        Arc::clone(&self.store).watch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_there_reads_files_and_writes_none() {
        let outside = Outside::start().expect("a runtime");
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "text").expect("written");
        for blocking in [false, true] {
            let file = file.clone();
            let work = move || (std::fs::read_to_string(&file), std::fs::write(&file, "other"));
            let runtime = outside.handle();
            let done =
                if blocking { runtime.spawn_blocking(work) } else { runtime.spawn(async move { work() }) };
            let (read, written) = done.await.expect("no panic");
            assert_eq!(read.expect("read"), "text");
            assert_eq!(written.expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
