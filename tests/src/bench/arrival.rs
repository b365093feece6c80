//! Many leases at once: how long until the last entry is in the kernel, and where the time goes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{Cluster, ClusterOptions, Store};

/// Subnets of the first 64,000 leases are the others', the rest is the node's own.
const CONFIG: &str =
    r#"{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMin":"10.254.0.0","Backend":{"Type":"vxlan"}}"#;
/// Entries of a peer: a route, a neighbour, and an FDB entry.
const ENTRIES: u64 = 3;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalOptions {
    /// How many leases, at most 64,000.
    pub leases: u32,
    /// Leases in a real etcd instead of in a directory.
    pub etcd: bool,
}

/// What came of it. Times in milliseconds, memory in KiB.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Arrival {
    /// How many leases.
    pub leases: u32,
    /// From the first lease's writing until the daemon has all entries in the kernel.
    pub running_ms: f64,
    /// Of that: writing the leases, which the daemon does not do.
    pub writing_ms: f64,
    /// Of that: in calls of the plugin.
    pub plugin_ms: f64,
    /// Of that: in the reconciler, with waiting for the kernel.
    pub kernel_ms: f64,
    /// Batches in which the changes came.
    pub batches: usize,
    /// From a daemon's start, with all leases in the store and nothing in the kernel, until it is ready.
    pub start_ms: f64,
    /// Of that: in calls of the plugin for the snapshot.
    pub start_plugin_ms: f64,
    /// Of that: in the reconciler for the snapshot.
    pub start_kernel_ms: f64,
    /// From a daemon's start, with all leases in the store and all entries in the kernel, until it is ready.
    pub restart_ms: f64,
    /// CPU time of the daemon until it was ready, in the run from `start_ms`.
    pub start_cpu_ms: u64,
    /// The daemon's largest resident memory without leases.
    pub idle_kib: u64,
    /// The same with all leases, after the start.
    pub full_kib: u64,
}

/// Measures.
pub fn arrival(options: ArrivalOptions) -> Result<Arrival> {
    let config = CONFIG.to_owned();
    let mut cluster = Cluster::prepare(&ClusterOptions {
        nodes: 1,
        config,
        etcd: options.etcd,
        ..ClusterOptions::default()
    })?;
    let mut result = Arrival { leases: options.leases, ..Arrival::default() };
    cluster.start_all()?;
    // Once more, with the plugin compiled.
    cluster.kill_and_restart(0)?;
    result.idle_kib = cluster.daemon(0)?.memory()?.peak;

    let begin = Instant::now();
    put_all(cluster.store(), options.leases)?;
    result.writing_ms = ms(begin.elapsed());
    let wanted = u64::from(options.leases) * ENTRIES;
    cluster
        .daemon(0)?
        .wait_log("that all entries are there", |line| line.number("entries") == Some(wanted))?;
    result.running_ms = ms(begin.elapsed());
    let log = cluster.daemon(0)?.log().clone();
    (result.plugin_ms, result.kernel_ms, result.batches) = applied(&log);

    cluster.take_daemon(0)?.kill9();
    result.restart_ms = ms(cluster.launch(0)?.wait_ready()?.after);
    cluster.take_daemon(0)?.kill9();
    cluster.node(0).ip("link delete flannel.1")?;
    result.start_ms = ms(cluster.launch(0)?.wait_ready()?.after);
    let daemon = cluster.daemon(0)?;
    result.full_kib = daemon.memory()?.peak;
    result.start_cpu_ms = cpu_ms(daemon.pid())?;
    (result.start_plugin_ms, result.start_kernel_ms, _) = applied(&daemon.log().clone());
    Ok(result)
}

/// Milliseconds in the plugin and in the reconciler, and the number of batches, as the daemon tells them.
fn applied(log: &crate::log::Log) -> (f64, f64, usize) {
    let lines = log.lines();
    let batches: Vec<_> = lines.iter().filter(|line| line.message() == "leases applied").collect();
    let sum = |field: &str| batches.iter().filter_map(|line| line.number(field)).sum::<u64>();
    let ms = |field: &str| ms(Duration::from_micros(sum(field)));
    (ms("plugin_us"), ms("kernel_us"), batches.len())
}

/// Writes the leases, as fast as the store takes them.
fn put_all(store: &Store, leases: u32) -> Result<()> {
    let pairs: Vec<(String, String)> = (0..leases).map(lease).collect();
    match store {
        Store::File(directory) => {
            pairs.iter().try_for_each(|(key, value)| put_file(&directory.join("subnets"), key, value))
        }
        Store::Etcd(etcd) => {
            let keyed: Vec<_> =
                pairs.into_iter().map(|(key, value)| (etcd.key(&format!("subnets/{key}")), value)).collect();
            etcd.put_many(&keyed)
        }
    }
}

/// A key and a value.
fn lease(n: u32) -> (String, String) {
    let [_, _, high, low] = (n + 1).to_be_bytes();
    let value = format!(
        r#"{{"PublicIP":"172.20.{high}.{low}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:{high:02x}:{low:02x}"}}}}"#
    );
    (format!("10.{high}.{low}.0-24"), value)
}

fn put_file(subnets: &Path, key: &str, value: &str) -> Result<()> {
    let file = subnets.join(key);
    let temporary = subnets.join(".arriving");
    std::fs::write(&temporary, value).with_context(|| temporary.display().to_string())?;
    std::fs::rename(&temporary, &file).with_context(|| file.display().to_string())
}

/// CPU time of a process, in user space and in the kernel.
fn cpu_ms(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    // The fields behind the name, which is in brackets and may have spaces: the 12th and 13th of these are ticks.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).context("a number");
    let per_second = rustix::param::clock_ticks_per_second();
    Ok((ticks(11)? + ticks(12)?) * 1000 / per_second)
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 1e2
}
