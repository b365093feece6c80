//! What the store costs, and how it is heard of, in figures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flannel_kube_api::ReflectorState;

/// Since the daemon started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Bytes of all answers of the API server, without TLS and heads.
    pub bytes_read: u64,
    /// How often all nodes were read.
    pub lists: u64,
    /// How long that took the last time.
    pub list_took: Option<Duration>,
    /// Watches that have ended, by reason; `end`: as they should.
    pub watch_ends: BTreeMap<&'static str, u64>,
    /// Events of nodes that have come.
    pub events: u64,
    /// Those of them that said something else than before.
    pub relevant_events: u64,
    /// How long ago the API server last said something of use.
    pub silent_for: Option<Duration>,
    /// How often this node's annotations were changed by somebody, and put back.
    pub repairs: u64,
}

/// What is counted besides what the reflector counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub repairs: AtomicU64,
}

impl Figures {
    pub(super) fn new(bytes_read: u64, state: &ReflectorState, counters: &Counters) -> Self {
        Self {
            bytes_read,
            lists: state.syncs,
            list_took: state.sync_took,
            watch_ends: state.ends.clone(),
            events: state.events,
            relevant_events: state.told,
            silent_for: state.last_contact.map(|at| at.elapsed()),
            repairs: counters.repairs.load(Ordering::Relaxed),
        }
    }
}
