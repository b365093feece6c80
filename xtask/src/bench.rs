//! `cargo xtask bench`: builds what it needs, then lets the lab measure.

use anyhow::Result;
use flannel_lab::bench::{Arrival, ArrivalOptions, arrival};

use crate::{build, setup};

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Many leases at once, to a daemon that runs and to one that starts
    Arrival {
        /// How many leases; may be given several times
        #[arg(long, default_values_t = [1000], value_parser = clap::value_parser!(u32).range(1..=64_000))]
        leases: Vec<u32>,
        /// Keep the leases in a real etcd instead of in a directory
        #[arg(long)]
        etcd: bool,
        /// Print one JSON object for each number of leases
        #[arg(long)]
        json: bool,
    },
}

/// Builds and measures.
pub fn run(bench: &Bench) -> Result<()> {
    build::all()?;
    let Bench::Arrival { leases, etcd, json } = bench;
    if *etcd {
        setup::put_etcd_into_path()?;
    }
    for &leases in leases {
        let result = arrival(ArrivalOptions { leases, etcd: *etcd })?;
        if *json { println!("{}", serde_json::to_string(&result)?) } else { show(&result) }
    }
    Ok(())
}

fn show(result: &Arrival) {
    let share = |part: f64, whole: f64| part / whole * 100.0;
    let Arrival { leases, running_ms, writing_ms, plugin_ms, kernel_ms, batches, .. } = result;
    println!("{leases} leases");
    println!(
        "  to a daemon that runs, until all entries are in the kernel: {running_ms:.0} ms, in {batches} batches"
    );
    println!("    writing the leases {writing_ms:.0} ms, meanwhile and after it:");
    println!("    plugin {plugin_ms:.1} ms ({:.1} %)", share(*plugin_ms, *running_ms));
    println!("    reconciler and kernel {kernel_ms:.1} ms ({:.1} %)", share(*kernel_ms, *running_ms));
    let rest = running_ms - plugin_ms - kernel_ms;
    println!("    store, and waiting for it, {rest:.1} ms ({:.1} %)", share(rest, *running_ms));
    let Arrival { start_ms, start_plugin_ms, start_kernel_ms, start_cpu_ms, restart_ms, .. } = result;
    println!(
        "  start with nothing in the kernel, until ready: {start_ms:.0} ms ({start_cpu_ms} ms of CPU time)"
    );
    println!("    plugin {start_plugin_ms:.1} ms, reconciler and kernel {start_kernel_ms:.1} ms");
    println!("  start with everything in the kernel, until ready: {restart_ms:.0} ms");
    let bytes = result.full_kib.saturating_sub(result.idle_kib) * 1024 / u64::from(*leases);
    println!("  largest memory: {} KiB without leases, {} KiB with", result.idle_kib, result.full_kib);
    println!("    {bytes} bytes a lease");
}
