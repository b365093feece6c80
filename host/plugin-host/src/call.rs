//! One call of a plugin: the transaction that its capability calls write into, and what it may do meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use flannel_cloud::{Failure, Instance, Provider};
use flannel_model::entry::Entry;
use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Transaction};

use super::facts::Uplink;
use super::nodes::NodeAddresses;
use super::probing::ProbeTarget;
use super::published::PublishedData;

/// Which function of the plugin is being called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// `describe`.
    Describe,
    /// `register`.
    Register,
    /// `lease-acquired`.
    LeaseAcquired,
    /// `apply`.
    Apply,
    /// `tick`.
    Tick,
    /// `retirement.retire`.
    Retire,
    /// `cloud-permissions.required`.
    Required,
}

impl Function {
    /// As the contract calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Describe => "describe",
            Self::Register => "register",
            Self::LeaseAcquired => "lease-acquired",
            Self::Apply => "apply",
            Self::Tick => "tick",
            Self::Retire => "retire",
            Self::Required => "required",
        }
    }
}

/// A peer of the call, and what was declared for it so far.
pub(crate) struct Peer {
    /// Its lease.
    pub lease: Arc<Lease>,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// The peers of a call, each once. A policy nearly always speaks of them in the order in which it was told of them.
#[derive(Default)]
pub(crate) struct Peers {
    all: Vec<(PeerId, Peer)>,
    /// The one that was found last.
    at: usize,
    /// Made when one is looked for out of order.
    index: Option<HashMap<PeerId, usize>>,
}

impl Peers {
    /// Adds one that is not there yet.
    pub(crate) fn push(&mut self, id: PeerId, lease: Arc<Lease>) {
        self.all.push((id, Peer { lease, entries: Vec::new() }));
    }

    /// Finds one.
    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        let is = |at: &usize| self.all.get(*at).is_some_and(|(known, _)| *known == id);
        let near = [self.at, self.at + 1].into_iter().find(is);
        self.at = near.or_else(|| {
            let numbered = || self.all.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
            self.index.get_or_insert_with(numbered).get(&id).copied()
        })?;
        self.all.get_mut(self.at).map(|(_, peer)| peer)
    }
}

/// What a call asks for besides what it declares; it counts when the call succeeds.
#[derive(Default)]
pub(crate) struct Wishes {
    /// What the node is to publish.
    pub published: Option<PublishedData>,
    /// Peers that it wants to declare for anew.
    pub refresh: BTreeSet<PeerId>,
    /// What is to be probed from now on.
    pub probes: Option<Arc<[ProbeTarget]>>,
}

/// A call that is going on.
pub(crate) struct Call {
    /// Which function.
    pub function: Function,
    /// Devices and addresses declared so far.
    pub transaction: Transaction,
    /// The peers that may be declared for.
    pub peers: Peers,
    /// Entries declared so far.
    pub entries: usize,
    /// What goes into the durable store when the call succeeds.
    pub state: BTreeMap<String, Option<Vec<u8>>>,
    /// What it asks for besides.
    pub wishes: Wishes,
    /// Why the call is doomed: the first refusal.
    pub refused: Option<String>,
    /// Log lines so far, and the last one at level error.
    pub log_lines: u32,
    /// The last line at level error: what a panic left behind.
    pub panic_message: Option<String>,
    /// Until when clouds may be waited for; none: they have not been asked yet.
    pub cloud_end: Option<Instant>,
    /// Until when commands may be waited for; none: none has been run yet.
    pub commands_end: Option<Instant>,
    /// The operator's interfaces that plugins may use, once they were asked for.
    pub uplinks: Option<Vec<Uplink>>,
    /// The nodes that segments may name.
    pub nodes: Arc<NodeAddresses>,
    /// Requests to clouds so far.
    pub cloud_requests: u32,
    /// What clouds say of this machine, as far as requests had to be compared with that.
    pub cloud_self: BTreeMap<Provider, Result<Instance, Failure>>,
    /// The regions that are asked where requests name none.
    pub cloud_regions: BTreeMap<Provider, Result<String, Failure>>,
}

impl Call {
    /// A call that has declared nothing yet.
    pub(crate) fn new(function: Function) -> Self {
        Self {
            function,
            transaction: Transaction::default(),
            peers: Peers::default(),
            entries: 0,
            state: BTreeMap::new(),
            wishes: Wishes::default(),
            refused: None,
            log_lines: 0,
            panic_message: None,
            cloud_end: None,
            commands_end: None,
            uplinks: None,
            nodes: Arc::default(),
            cloud_requests: 0,
            cloud_self: BTreeMap::new(),
            cloud_regions: BTreeMap::new(),
        }
    }

    /// The whole transaction: peers for which nothing was declared have no entries.
    pub(crate) fn into_transaction(self) -> Transaction {
        let mut transaction = self.transaction;
        transaction.peers = self.peers.all.into_iter().map(|(id, peer)| (id, Some(peer.entries))).collect();
        transaction
    }
}
