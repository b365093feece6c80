//! What a lease store does, whatever it is made of.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use flannel_base::Backoff;
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::network_config::{ConfigError, NetworkConfig};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How long a lease lasts unless it is renewed; as upstream.
pub const LEASE_TTL: Duration = Duration::from_hours(24);

/// How many events a watch holds for a receiver that is busy; the store waits when it is full.
const WATCH_QUEUE: usize = 16;

/// Waits between attempts to get a broken watch going again; as upstream.
pub(super) const RECONNECT: Backoff =
    Backoff { min: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Follows something in a task of its own, which ends when nobody hears of it any more.
pub(super) fn as_long_as_heard<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    follow: impl FnOnce(Sender<T>) -> F,
) -> Receiver<T> {
    let (sender, receiver) = channel(WATCH_QUEUE);
    let follow = follow(sender.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = follow => {}
        }
    });
    receiver
}

/// A place that all nodes share, with the network config and everybody's leases.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// The network config as it was written: JSON, not checked. [`StoreError::NoConfig`] if there is none.
    async fn network_config(&self) -> Result<String, StoreError>;

    /// Reads a network config as the nodes of this store do: where they choose their subnets themselves it has to be possible to choose.
    fn parse_config(&self, text: &str) -> Result<NetworkConfig, ConfigError> {
        NetworkConfig::parse(text)
    }

    /// Follows the network config: the text that is there first, as soon as it can be read, then each other one; never the same twice in a
    /// row, and of several that come quickly maybe the last only. Reconnects by itself, forever; ends when the receiver is dropped.
    ///
    /// Nothing is checked, and while somebody writes a file it may be half of a text: the whole one follows. A config that is gone or
    /// cannot be read is not told of: what is known goes on.
    fn watch_config(self: Arc<Self>) -> Receiver<String>;

    /// Writes the network config, as a whole or not at all, if what is there is still what was `seen` (none: nothing was there).
    async fn write_network_config(&self, text: &str, seen: Option<&str>)
    -> Result<ConfigWritten, StoreError>;

    /// Where the network config is, for messages.
    fn config_place(&self) -> String;

    /// All leases, this node's too. Entries that cannot be read are left out, with a warning.
    async fn leases(&self) -> Result<Snapshot, StoreError>;

    /// Leases, enough of them to see what most nodes say; all where that costs little.
    async fn some_leases(&self) -> Result<Snapshot, StoreError> {
        self.leases().await
    }

    /// Takes a lease: the one that the node has already, else its previous subnets, else a random free one. Two nodes
    /// never get subnets that overlap.
    async fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError>;

    /// Prolongs the node's own lease, and writes its attributes if the store has others. [`Renewed::Lost`] if it is gone
    /// or somebody else's: nothing is written then.
    async fn renew(&self, lease: &Lease) -> Result<Renewed, StoreError> {
        self.renew_as(lease, &lease.attributes).await
    }

    /// The same, with other attributes from now on, even another public address: `lease.attributes` say whose it has been.
    async fn renew_as(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError>;

    /// Follows all leases, this node's too: a snapshot first, then changes in their order; a further snapshot where changes
    /// were missed. Reconnects by itself, forever; ends when the receiver is dropped.
    ///
    /// An entry that turns into something unreadable stays what it was: only a removal removes.
    fn watch(self: Arc<Self>) -> Receiver<Event>;
}

/// What a node wants a lease for.
#[derive(Clone, Debug)]
pub struct Acquire {
    /// The network config.
    pub config: NetworkConfig,
    /// What the node publishes. Its public IPv4 address is its identity, its IPv6 address if IPv4 is off.
    pub attributes: Attributes,
    /// The subnets that it had before and would like to have again, each if it fits the config and is free.
    pub previous: Option<Subnets>,
}

/// All leases at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The leases, in no particular order. Where a store would have to ask for each lease's end, `expires` is none.
    pub leases: Vec<Lease>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A lease that is new, changed or renewed.
    Put(Arc<Lease>),
    /// A lease that is gone.
    Removed(Subnets),
    /// Somebody else has written the lease that was acquired or renewed here, since then.
    Contested(Subnets),
    /// The same, and what he has written is no lease: whose it is has to write it again.
    Spoiled(Subnets),
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All leases that there are, the oldest first as far as the store knows; what is not in it is gone.
    Snapshot(Vec<Arc<Lease>>),
    /// All leases in a store that has lost its data since the last event. The node of a lease that is not in it may well
    /// be there: it has not written again yet.
    StoreReset(Vec<Arc<Lease>>),
    /// What has changed since, in its order; never empty.
    Changes(Vec<Change>),
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is held until then; none: for good, it is a reservation.
    Until(Option<SystemTime>),
    /// The lease is gone or somebody else's.
    Lost,
}

/// What came of writing the network config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigWritten {
    /// It is what the store has.
    Written,
    /// Nothing is written: somebody else has changed the config meanwhile. The store has this, or nothing any more.
    Overtaken(Option<String>),
}

/// Why a store did not do what it was asked; one line for the operator, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store does not answer, or not in time. May pass by waiting.
    #[error("{place}: {reason}")]
    Unavailable {
        /// The store.
        place: String,
        /// What happened.
        reason: String,
    },
    /// There is no network config.
    #[error(
        "no network config at {place}: write it there, for example {{\"Network\":\"10.5.0.0/16\",\"Backend\":{{\"Type\":\"vxlan\"}}}}"
    )]
    NoConfig {
        /// Where it should be.
        place: String,
    },
    /// The store answers, and says no: bad credentials, a missing permission.
    #[error("{place}: {reason}")]
    Refused {
        /// The store.
        place: String,
        /// What it said, and what would be right.
        reason: String,
    },
    /// The way to the store is described wrongly: an endpoint, a certificate file, a directory.
    #[error("{what} {value}: {reason}")]
    Setup {
        /// What is wrong, as the operator knows it.
        what: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// All subnets are leased.
    #[error(
        "out of subnets: all {count} /{length} subnets of {network} from {min} to {max} are leased or overlap leases; widen the network config, or delete leases of hosts that are gone"
    )]
    Exhausted {
        /// The cluster network.
        network: String,
        /// The first subnet that may be leased.
        min: String,
        /// The last.
        max: String,
        /// The length of a subnet's prefix.
        length: u8,
        /// How many subnets there are.
        count: u128,
    },
    /// The node has no public address by which its lease could be told from others.
    #[error(
        "a lease needs the node's public {family} address, and there is none: give the external interface one, or name it with --{option}"
    )]
    NoAddress {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The flag that sets it.
        option: &'static str,
    },
}
