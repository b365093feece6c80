//! Leases in etcd (v3), under the keys and with the values of upstream, so that both can share a cluster.
//!
//! Keys, below the operator's prefix: `config`, and `subnets/<name>` for each lease, attached to an etcd lease of 24 hours
//! that is replaced by a new one at each renewal. A key without an etcd lease is a reservation of the operator's: it is kept
//! for its host, without an end.
//!
//! Where this differs from upstream: each write is a transaction on what was read, so nobody's lease is overwritten; a new
//! lease is written only if no other has come since the last reading, so subnets never overlap, in neither family; an entry
//! that cannot be read is left out and disturbs no other; keys such as `subnets-old/x` are not looked at; every call has a
//! deadline.

mod acquire;
mod cluster;
mod config;
#[cfg(test)]
mod config_tests;
mod own_writes;
mod protocol;
mod read;
#[cfg(test)]
pub(crate) mod server;
#[cfg(test)]
mod tests;
mod tls;
mod watch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use flannel_model::lease::{Attributes, Lease};
use tokio::sync::mpsc::Receiver;

use super::store::{Acquire, ConfigWritten, Event, LeaseStore, Renewed, Snapshot, StoreError};
use cluster::Cluster;
use own_writes::OwnWrites;

/// Where etcd is, and where in it the leases are.
#[derive(Clone, Debug, Default)]
pub struct EtcdOptions {
    /// URLs of the members, such as `http://127.0.0.1:2379`; they are tried in this order.
    pub endpoints: Vec<String>,
    /// What all keys begin with, such as `/coreos.com/network`; cleaned like a path.
    pub prefix: String,
}

/// How etcd is talked to: certificates and the user. The default is none.
#[derive(Clone, Default)]
pub struct EtcdSecurity {
    /// The client's key, PEM; goes with `certfile`.
    pub keyfile: Option<PathBuf>,
    /// The client's certificate, PEM.
    pub certfile: Option<PathBuf>,
    /// The authorities that may sign the servers' certificates, PEM; none: those of the system.
    pub cafile: Option<PathBuf>,
    /// The etcd user; none: no authentication.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

impl fmt::Debug for EtcdSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdSecurity")
            .field("keyfile", &self.keyfile)
            .field("certfile", &self.certfile)
            .field("cafile", &self.cafile)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "(hidden)"))
            .finish()
    }
}

/// The lease store in etcd.
#[derive(Clone)]
pub struct EtcdStore {
    cluster: Arc<Cluster>,
    keys: Arc<Keys>,
    own: Arc<OwnWrites>,
}

/// The names of the keys.
struct Keys {
    config: String,
    /// With the slash at the end.
    subnets: String,
}

impl EtcdStore {
    /// A store that is reached without certificates and user. Nothing is sent yet: an etcd that is away is no error.
    pub fn connect(options: EtcdOptions) -> Result<Self, StoreError> {
        Self::connect_securely(options, &EtcdSecurity::default())
    }

    /// A store that is reached as `security` says. Nothing is sent yet, but certificate files are read, and not again.
    pub fn connect_securely(options: EtcdOptions, security: &EtcdSecurity) -> Result<Self, StoreError> {
        let EtcdOptions { endpoints, prefix } = options;
        let keys = Keys { config: join(&prefix, "config"), subnets: join(&prefix, "subnets") + "/" };
        let cluster = Arc::new(Cluster::new(&endpoints, security)?);
        Ok(Self { cluster, keys: Arc::new(keys), own: Arc::default() })
    }
}

#[async_trait]
impl LeaseStore for EtcdStore {
    async fn network_config(&self) -> Result<String, StoreError> {
        self.read_config().await
    }

    fn watch_config(self: Arc<Self>) -> Receiver<String> {
        config::start(Self::clone(&self))
    }

    async fn write_network_config(
        &self,
        text: &str,
        seen: Option<&str>,
    ) -> Result<ConfigWritten, StoreError> {
        self.write_config(text, seen).await
    }

    fn config_place(&self) -> String {
        format!("key {} in etcd at {}", self.keys.config, self.cluster.place())
    }

    async fn leases(&self) -> Result<Snapshot, StoreError> {
        let listing = self.list().await?;
        Ok(Snapshot { leases: listing.entries.into_iter().filter_map(read::Entry::into_lease).collect() })
    }

    async fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError> {
        self.acquire_lease(request).await
    }

    async fn renew_as(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError> {
        self.renew_lease(lease, attributes).await
    }

    fn watch(self: Arc<Self>) -> Receiver<Event> {
        watch::start(Self::clone(&self))
    }
}

/// Joins two parts of a key as upstream does: like a path, with doubled slashes and dots taken out, and a leading slash only if
/// there was one.
fn join(prefix: &str, name: &str) -> String {
    let rooted = prefix.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in prefix.split('/').chain([name]) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, parts.join("/"))
}
