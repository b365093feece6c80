//! What the reconciler tells of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::Key;
use super::kernel::Link;
use super::ledger::PeerId;

/// An entry that the kernel refused.
#[derive(Clone, Debug)]
pub struct Failure {
    /// In the kernel's words.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub again: Instant,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
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
    /// Our devices, as far as they are there.
    pub devices: Vec<(Arc<str>, Link)>,
    /// Totals.
    pub figures: Figures,
}
