//! What the reconciler tells of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::entry::{Key, Kind};
use flannel_model::ledger::PeerId;
use flannel_model::offloads::Offloads;
use flannel_udp_tunnel::{PeerCounters, TunnelCounters};

use super::observed::Link;

/// An entry that the kernel refused.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// In the kernel's words.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub again: Instant,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Transactions.
    pub commits: u64,
    /// Looks at everything.
    pub resyncs: u64,
    /// Modifying netlink messages.
    pub messages: u64,
    /// Notifications about what others did.
    pub notifications: u64,
    /// Time spent in sending and waiting for acknowledgements.
    pub batch_time: Duration,
    /// Time spent in looks at everything, with what was sent thereby.
    pub resync_time: Duration,
}

/// How many entries of a kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindStats {
    /// Entries that should exist.
    pub desired: usize,
    /// Of these, those that wait for their device.
    pub waiting: usize,
    /// Of these, those that the kernel refused.
    pub failed: usize,
}

/// A tunnel of this process.
#[derive(Clone, Debug)]
pub struct TunnelReport {
    /// Its TUN device.
    pub device: Arc<str>,
    /// Its UDP port.
    pub port: u16,
    /// The offloads that are in use.
    pub offloads: Offloads,
    /// What has passed through it, without peers.
    pub counters: TunnelCounters,
}

/// How things stand with one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerReport {
    /// How many entries of each kind it has.
    pub entries: BTreeMap<Kind, usize>,
    /// What has passed to and from its subnets, where a tunnel of this process carries it.
    pub carried: Option<PeerCounters>,
    /// What is wrong, for an operator.
    pub problems: Vec<String>,
}

/// How things stand.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Entries that should exist.
    pub entries: usize,
    /// Entries that wait for their device.
    pub waiting: usize,
    /// Entries that the kernel refused, why, and for which peer they were.
    pub failures: Vec<(Key, String, Option<PeerId>)>,
    /// What is wrong with the devices.
    pub device_failure: Option<String>,
    /// Entries by kind.
    pub kinds: BTreeMap<Kind, KindStats>,
    /// Whether routes go through nexthop objects.
    pub nexthops: bool,
    /// Our devices, as far as they are there.
    pub devices: Vec<(Arc<str>, Link)>,
    /// Tunnels of this process.
    pub tunnels: Vec<TunnelReport>,
    /// Totals.
    pub figures: Stats,
}
