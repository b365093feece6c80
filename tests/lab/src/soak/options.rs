//! What a soak is to be like.

use std::time::Duration;

use super::setting::StoreKind;
use crate::Backend;

/// What is not given, the seed chooses.
#[derive(Clone, Debug)]
pub struct SoakOptions {
    /// How long faults are made, in minutes. The last group is gone through to its end.
    pub minutes: u64,
    /// What the random numbers begin with; none: another one each time, or `FLANNEL_LAB_SEED`.
    pub seed: Option<u64>,
    /// How many nodes.
    pub nodes: usize,
    /// Where the leases are.
    pub store: Option<StoreKind>,
    /// The backend.
    pub backend: Option<Backend>,
    /// Change the backend over and over, in the midst of faults.
    pub change: bool,
    /// IPv6 beside IPv4.
    pub ipv6: Option<bool>,
    /// Only faults whose names contain one of these words; empty: all.
    pub only: Vec<String>,
}

impl SoakOptions {
    /// How long faults are made.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.minutes * 60)
    }
}
