//! One lease changes; how long until the kernel has it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::ms;
use crate::netlink_monitor::{Object, Watcher};
use crate::{Node, wait};

/// How long is waited between two changes, so that each meets a daemon that is at rest.
const PAUSE: Duration = Duration::from_millis(5);

/// The times of all changes, in order.
pub struct Latency(Vec<Duration>);

impl Latency {
    /// Changes leases one by one: each gets another Ethernet address, so that a neighbour entry and an FDB entry are replaced.
    pub fn measure(node: &Node, changes: u32, mut change: impl FnMut(u32) -> Result<()>) -> Result<Self> {
        let watcher = Watcher::start(node)?;
        let mut times = Vec::new();
        for number in 0..changes {
            let heard = watcher.all().len();
            let begin = Instant::now();
            change(number)?;
            // The FDB entry of the old address goes last.
            let (last, _) = wait::until("the change is in the kernel", || {
                let changes = watcher.all();
                let gone = changes[heard..].iter().rfind(|c| c.gone && c.object == Object::Neighbour);
                Ok(gone.map(|change| change.at))
            })?;
            times.push(last.saturating_duration_since(begin));
            std::thread::sleep(PAUSE);
        }
        times.sort_unstable();
        Ok(Self(times))
    }

    /// The time that so many of a hundred changes did not take longer than, in milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(rank).copied().map_or(0.0, ms)
    }
}
