//! Many leases: how long until the last entry is in the kernel, what it costs, and how fast one change is with all of them there.

mod feed;
mod latency;
mod limit;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::ms;
use crate::crowd::CONFIG;
use crate::log::Log;
use crate::{Cluster, ClusterOptions, wait};
pub(super) use feed::{Feed, Invented};
pub(super) use latency::Latency;

/// Entries of a peer: a route, a neighbour, and an FDB entry.
const ENTRIES: u64 = 3;
/// How many single changes are timed.
const CHANGES: u32 = 200;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct ScaleOptions {
    /// How many leases, at most 65,000.
    pub leases: u32,
    /// Leases in a real etcd instead of in a directory.
    pub etcd: bool,
}

/// What came of it. Times in milliseconds, memory in KiB.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scale {
    /// How many leases.
    pub leases: u32,
    /// Where they are.
    pub store: &'static str,
    /// `ip -batch` and `bridge -batch` putting the same entries in, one after the other.
    pub limit_ms: f64,
    /// From a daemon's start, with all leases in the store and nothing in the kernel, until it is ready.
    pub start_ms: f64,
    /// Of that: in calls of the plugin.
    pub start_plugin_ms: f64,
    /// Of that: in the reconciler, with waiting for the kernel.
    pub start_kernel_ms: f64,
    /// CPU time of the daemon until it was ready.
    pub start_cpu_ms: u64,
    /// Netlink messages that it sent until then.
    pub start_messages: u64,
    /// From a daemon's start, with all leases in the store and all entries in the kernel, until it is ready.
    pub restart_ms: f64,
    /// Netlink messages that it sent until then.
    pub restart_messages: u64,
    /// The daemon's largest resident memory, without leases.
    pub idle_kib: u64,
    /// The same after the start with all leases.
    pub full_kib: u64,
    /// Its resident memory then.
    pub resident_kib: u64,
    /// One lease changed while all are there, until the kernel has it: the median.
    pub change_p50_ms: f64,
    /// The 99th percentile.
    pub change_p99_ms: f64,
    /// From the removal of the first lease until the last entry is gone.
    pub removal_ms: f64,
    /// Of that: removing the leases from the store, which the daemon does not do.
    pub removing_ms: f64,
}

impl Scale {
    /// How much longer than the limit the start takes.
    pub fn times_limit(&self) -> f64 {
        self.start_ms / self.limit_ms
    }

    /// Bytes of memory for a lease, at the most.
    pub fn bytes_a_lease(&self) -> u64 {
        self.full_kib.saturating_sub(self.idle_kib) * 1024 / u64::from(self.leases)
    }

    /// The plugin's share of the start.
    pub fn plugin_share(&self) -> f64 {
        self.start_plugin_ms / self.start_ms
    }
}

/// Measures.
pub fn scale(options: ScaleOptions) -> Result<Scale> {
    let mut cluster = Cluster::prepare(&ClusterOptions {
        nodes: 1,
        config: CONFIG.to_owned(),
        etcd: options.etcd,
        ..ClusterOptions::default()
    })?;
    // The built-in plugin: what one loads from a file is compiled once, which is not what is measured here.
    let daemon = cluster.options().clone().built_in();
    cluster.set_options(daemon);
    let store = if options.etcd { "etcd" } else { "file" };
    let mut result = Scale { leases: options.leases, store, ..Scale::default() };
    result.limit_ms = ms(limit::measure(options.leases)?);
    cluster.start_all()?;
    result.idle_kib = cluster.daemon(0)?.memory()?.peak;
    cluster.take_daemon(0)?.kill9();

    Feed::open(cluster.store(), cluster.lab())?.put_all(options.leases)?;
    start(&mut cluster, &mut result)?;
    cluster.take_daemon(0)?.kill9();
    let ready = cluster.launch(0)?.wait_ready()?;
    result.restart_ms = ms(ready.after);
    result.restart_messages = ready.line.number("netlink_messages").context("netlink_messages")?;

    let own = cluster.lease(0)?.key;
    let log = cluster.daemon(0)?.log().clone();
    let mut feed = Feed::open(cluster.store(), cluster.lab())?;
    let latency = Latency::measure(cluster.node(0), CHANGES.min(options.leases), |number| {
        feed.put(&Invented::new(number, 1))
    })?;
    (result.change_p50_ms, result.change_p99_ms) = (latency.percentile(50), latency.percentile(99));

    let begin = Instant::now();
    feed.remove_all(options.leases, &own)?;
    result.removing_ms = ms(begin.elapsed());
    wait::until_true("all entries are gone", || {
        Ok(log.lines().last().is_some_and(|line| line.number("entries") == Some(0)))
    })?;
    result.removal_ms = ms(begin.elapsed());
    Ok(result)
}

/// A start with nothing in the kernel.
fn start(cluster: &mut Cluster, result: &mut Scale) -> Result<()> {
    cluster.node(0).ip("link delete flannel.1")?;
    let ready = cluster.launch(0)?.wait_ready()?;
    result.start_ms = ms(ready.after);
    result.start_messages = ready.line.number("netlink_messages").context("netlink_messages")?;
    let entries = ready.line.number("entries");
    anyhow::ensure!(entries == Some(u64::from(result.leases) * ENTRIES), "ready with {entries:?} entries");
    let daemon = cluster.daemon(0)?;
    let memory = daemon.memory()?;
    (result.full_kib, result.resident_kib) = (memory.peak, memory.resident);
    result.start_cpu_ms = cpu_ms(daemon.pid())?;
    (result.start_plugin_ms, result.start_kernel_ms) = applied(daemon.log());
    Ok(())
}

/// Milliseconds in the plugin and in the reconciler, as the daemon tells them.
fn applied(log: &Log) -> (f64, f64) {
    let lines = log.lines();
    let batches = || lines.iter().filter(|line| line.message() == "leases applied");
    let sum = |field: &str| batches().filter_map(|line| line.number(field)).sum::<u64>();
    let ms = |field: &str| ms(Duration::from_micros(sum(field)));
    (ms("plugin_us"), ms("kernel_us"))
}

/// CPU time of a process, in user space and in the kernel.
pub(super) fn cpu_ms(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    // The fields behind the name, which is in brackets and may have spaces: the 12th and 13th of these are ticks.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).context("a number");
    let per_second = rustix::param::clock_ticks_per_second();
    Ok((ticks(11)? + ticks(12)?) * 1000 / per_second)
}
