//! Leases in a directory: for one machine, a lab, or hosts with a shared file system. Needs no server.
//!
//! `DIR/config` is the network config; `DIR/subnets/<name>` is one file for each lease, with the names and the values that
//! they have in etcd. `DIR/.lock` is locked by whoever writes, so that subnets never overlap; readers need no lock, because
//! a file appears and is replaced as a whole.
//!
//! A lease ends 24 hours after its file was modified, by the clock of the file system; renewing it is touching the file. From then on it is in no snapshot,
//! and its file is removed when another node takes a lease. A modification time in the future makes a lease last longer,
//! and is never set back: `touch -d 2100-01-01` makes a reservation.
//!
//! Changes are noticed by inotify at once, and in any case every 30 seconds, of the config every 10: on a shared file system that is how
//! changes of other hosts, and ends of leases, are seen.

mod clock;
mod config;
#[cfg(test)]
mod config_tests;
mod config_watch;
mod directory;
mod notify;
#[cfg(test)]
mod tests;
mod watch;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use flannel_model::lease::{Attributes, Lease};
use tokio::sync::mpsc::Receiver;

use super::store::{Acquire, ConfigWritten, Event, LeaseStore, Renewed, Snapshot, StoreError};
use directory::Directory;

/// The lease store in a directory.
pub struct FileStore {
    directory: Arc<Directory>,
}

impl FileStore {
    /// Opens the directory, which has to be there; `subnets` in it is made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { directory: Arc::new(Directory::open(path)?) })
    }

    /// Takes the directory as it is: nothing is looked at yet, and nothing made. For the network config alone.
    pub fn at(path: &Path) -> Self {
        Self { directory: Arc::new(Directory::at(path)) }
    }

    /// Runs what waits for the disk where it holds up nobody.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Directory) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let directory = Arc::clone(&self.directory);
        let place = directory.place();
        tokio::task::spawn_blocking(move || work(&directory))
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable { place, reason: error.to_string() }))
    }
}

#[async_trait]
impl LeaseStore for FileStore {
    async fn network_config(&self) -> Result<String, StoreError> {
        self.blocking(Directory::config).await
    }

    fn watch_config(self: Arc<Self>) -> Receiver<String> {
        config_watch::start(Arc::clone(&self.directory))
    }

    async fn write_network_config(
        &self,
        text: &str,
        seen: Option<&str>,
    ) -> Result<ConfigWritten, StoreError> {
        let (text, seen) = (text.to_owned(), seen.map(ToOwned::to_owned));
        self.blocking(move |directory| directory.write_config(&text, seen.as_deref())).await
    }

    fn config_place(&self) -> String {
        self.directory.config_place()
    }

    async fn leases(&self) -> Result<Snapshot, StoreError> {
        self.blocking(|directory| Ok(Snapshot { leases: directory.leases()? })).await
    }

    async fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError> {
        let request = request.clone();
        self.blocking(move |directory| directory.acquire(&request)).await
    }

    async fn renew_as(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError> {
        let (lease, attributes) = (lease.clone(), attributes.clone());
        self.blocking(move |directory| directory.renew(&lease, &attributes)).await
    }

    fn watch(self: Arc<Self>) -> Receiver<Event> {
        watch::start(Arc::clone(&self.directory))
    }
}
