//! The counters, for those who have no business with the tunnel itself.

use std::sync::Arc;

use super::counters::{Counters, TunnelCounters};
use super::peer_table::Shared;

/// The way to a tunnel's counters. They stay readable, and stand still, when the tunnel is gone.
#[derive(Clone)]
pub struct Meter {
    shared: Arc<Shared>,
    tallies: Vec<Arc<Counters>>,
}

impl Meter {
    pub(super) fn new(shared: Arc<Shared>, tallies: Vec<Arc<Counters>>) -> Self {
        Self { shared, tallies }
    }

    /// What has passed so far, without peers.
    pub fn totals(&self) -> TunnelCounters {
        Counters::sum(self.tallies.iter().map(AsRef::as_ref))
    }

    /// What has passed so far.
    pub fn counters(&self) -> TunnelCounters {
        TunnelCounters { peers: self.shared.newest().counters(), ..self.totals() }
    }
}
