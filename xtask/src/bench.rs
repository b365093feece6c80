//! `cargo xtask bench`: builds what it needs, then lets the lab measure.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::bench::{Scale, ScaleOptions, native, scale};

use crate::cargo::output;
use crate::{build, setup};

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Many leases: the start of a daemon, one change, and the removal of all; beside it what iproute2 takes for the same
    /// entries
    Scale {
        /// How many leases; may be given several times
        #[arg(long, default_values_t = [1_000, 5_000, 20_000, 65_000], value_parser = clap::value_parser!(u32).range(1..=65_000))]
        leases: Vec<u32>,
        /// Where the leases are; may be given several times
        #[arg(long, default_values = ["file", "etcd"], value_parser = ["file", "etcd"])]
        store: Vec<String>,
        /// Print one JSON object for each number of leases and each store
        #[arg(long)]
        json: bool,
    },
    /// Calls of the vxlan plugin, beside the same policy linked natively
    Policy {
        /// Leases in a call; may be given several times
        #[arg(long, default_values_t = [1, 100, 10_000], value_parser = clap::value_parser!(u16).range(1..))]
        leases: Vec<u16>,
    },
}

/// Builds and measures.
pub fn run(bench: &Bench) -> Result<()> {
    build::all()?;
    match bench {
        Bench::Scale { leases, store, json } => run_scale(leases, store, *json),
        Bench::Policy { leases } => run_policy(leases),
    }
}

fn run_policy(leases: &[u16]) -> Result<()> {
    let mut command = Command::new(build::daemon());
    command.args(["plugin", "bench", "--json"]);
    for leases in leases {
        command.arg("--leases").arg(leases.to_string());
    }
    let costs: serde_json::Value = serde_json::from_str(&output(&mut command)?)?;
    println!("{:>8}  {:>20}  {:>20}  {:>6}", "leases", "plugin, ns a lease", "native, ns a lease", "ratio");
    for (cost, &leases) in costs.as_array().into_iter().flatten().zip(leases) {
        let plugin = cost["lease_ns"].as_u64().context("lease_ns")?;
        let native = native(leases)?.lease_ns;
        let ratio = Duration::from_nanos(plugin).div_duration_f64(Duration::from_nanos(native));
        println!("{leases:>8}  {plugin:>20}  {native:>20}  {ratio:>6.1}");
    }
    Ok(())
}

fn run_scale(leases: &[u32], store: &[String], json: bool) -> Result<()> {
    for store in store {
        if store == "etcd" {
            setup::put_etcd_into_path()?;
        }
        for &leases in leases {
            let result = scale(ScaleOptions { leases, etcd: store == "etcd" })?;
            if json { println!("{}", serde_json::to_string(&result)?) } else { show(&result) }
        }
    }
    Ok(())
}

fn show(result: &Scale) {
    let Scale { leases, store, limit_ms, start_ms, start_cpu_ms, start_messages, .. } = result;
    println!("{leases} leases, {store}");
    println!(
        "  start with nothing in the kernel: ready after {start_ms:.0} ms, {:.2} times what ip -batch and bridge -batch take ({limit_ms:.0} ms)",
        result.times_limit()
    );
    println!(
        "    plugin {:.1} ms ({:.1} %), reconciler and kernel {:.1} ms; {start_cpu_ms} ms of CPU time, {start_messages} netlink messages",
        result.start_plugin_ms,
        result.plugin_share() * 100.0,
        result.start_kernel_ms
    );
    println!(
        "  start with everything in the kernel: ready after {:.0} ms, {} netlink messages",
        result.restart_ms, result.restart_messages
    );
    println!(
        "  memory: {} KiB at most, {} KiB without leases: {} bytes a lease; {} KiB resident after the start",
        result.full_kib,
        result.idle_kib,
        result.bytes_a_lease(),
        result.resident_kib
    );
    println!(
        "  one change: {:.2} ms (median), {:.2} ms (99 of 100)",
        result.change_p50_ms, result.change_p99_ms
    );
    println!(
        "  removal of all: {:.0} ms, of which {:.0} ms are the store's",
        result.removal_ms, result.removing_ms
    );
}
