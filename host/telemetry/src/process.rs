//! What the kernel knows of this process, under the names that all Prometheus clients use.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Reads everything anew at each scrape, but for the start. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process {
    started: Option<f64>,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { started: started() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut one = |name, help, unit: Option<&Unit>, metric: &dyn EncodeMetric| {
            let encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
            metric.encode(encoder)
        };
        let cpu = ConstCounter::new(seconds(ClockId::ProcessCPUTime));
        one("process_cpu", "User and system CPU time spent.", Some(&Unit::Seconds), &cpu)?;
        if let Some(resident) = resident_bytes() {
            let gauge = ConstGauge::new(resident);
            one("process_resident_memory", "Resident memory size.", Some(&Unit::Bytes), &gauge)?;
        }
        if let Some(open) = open_fds() {
            one("process_open_fds", "Number of open file descriptors.", None, &ConstGauge::new(open))?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current.and_then(|most| i64::try_from(most).ok()) {
            one("process_max_fds", "Maximum number of open file descriptors.", None, &ConstGauge::new(most))?;
        }
        if let Some(started) = self.started {
            let gauge = ConstGauge::new(started);
            one("process_start_time", "Start time of the process since 1970.", Some(&Unit::Seconds), &gauge)?;
        }
        Ok(())
    }
}

fn seconds(clock: ClockId) -> f64 {
    Duration::try_from(clock_gettime(clock)).unwrap_or_default().as_secs_f64()
}

fn resident_bytes() -> Option<i64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(rustix::param::page_size()).ok()?)
}

fn open_fds() -> Option<i64> {
    // The one that the directory is read by does not count.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    i64::try_from(open).ok()
}

/// The kernel has it in ticks since boot.
#[allow(clippy::cast_precision_loss, reason = "fractions of a second do not matter")]
fn started() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, may have anything in it. Behind it comes the third field; the start is the 22nd.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let started = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64();
    Some(now - (seconds(ClockId::Boottime) - started))
}
