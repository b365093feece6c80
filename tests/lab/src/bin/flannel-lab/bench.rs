//! The benchmarks' command line, and how their figures are shown.

#[path = "bench/kubernetes.rs"]
mod kubernetes;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts;
use flannel_lab::bench::{
    Change, Iperf3, KubernetesOptions, Scale, ScaleOptions, TunnelOptions, native, of_daemons, of_leases,
    of_reference, scale, swap, tunnel,
};

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
    /// A swap of the plugin with many leases: between two builds of a policy, and between two policies
    Swap {
        /// How many leases; may be given several times
        #[arg(long, default_values_t = [1_000, 5_000, 20_000], value_parser = clap::value_parser!(u32).range(1..=65_000))]
        leases: Vec<u32>,
    },
    /// A change of the backend of a living cluster, from vxlan to host-gw: until the last peer has moved, and until the former is gone
    Change {
        /// How many nodes, each with a daemon; may be given several times
        #[arg(long, default_values_t = [4], value_parser = clap::value_parser!(u32).range(2..=32))]
        nodes: Vec<u32>,
        /// How many leases, with one daemon among them; may be given several times
        #[arg(long, default_values_t = [100, 1_000], value_parser = clap::value_parser!(u32).range(2..=10_000))]
        leases: Vec<u32>,
        /// Upstream's flanneld, whose nodes are all restarted at once for the same change, beside ours
        #[arg(long, value_name = "BINARY")]
        reference: Option<PathBuf>,
    },
    /// Packets from pod to pod: the bare link, the kernel's VXLAN, and the tunnel of the backend udp
    Tunnel {
        /// Seconds for each measurement
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
        /// How often each is made; the medians count
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// Each offload alone, too
        #[arg(long)]
        each: bool,
        /// Another flanneld, with upstream's flags, beside ours
        #[arg(long, value_name = "BINARY")]
        reference: Option<PathBuf>,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// A large cluster of Kubernetes at a real API server: the first sync of a daemon, heartbeats of its peers, one change, and the start of
    /// many daemons at once; beside it upstream's, if `FLANNELD_REFERENCE` says where it is
    Kubernetes {
        /// How many nodes; may be given several times
        #[arg(long, default_values_t = [1_000, 5_000, 15_000], value_parser = clap::value_parser!(u32).range(2..=20_000))]
        nodes: Vec<u32>,
        /// Heartbeats a second, of all nodes together
        #[arg(long, default_value_t = 17, value_parser = clap::value_parser!(u32).range(1..=500))]
        heartbeats: u32,
        /// For so many seconds
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
        /// How many daemons start at once
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=50))]
        daemons: u32,
        /// Print one JSON object for each number of nodes
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

/// Measures.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Scale { leases, store, json } => run_scale(leases, store, *json),
        Bench::Swap { leases } => run_swap(leases),
        Bench::Change { nodes, leases, reference } => run_change(nodes, leases, reference.as_deref()),
        Bench::Kubernetes { nodes, heartbeats, seconds, daemons, json } => {
            let options = KubernetesOptions {
                nodes: 0,
                heartbeats: *heartbeats,
                time: Duration::from_secs(*seconds),
                daemons: usize::try_from(*daemons)?,
            };
            kubernetes::run(nodes, &options, *json)
        }
        Bench::Policy { leases } => run_policy(leases),
        Bench::Tunnel { seconds, rounds, each, reference, json } => {
            let options = TunnelOptions {
                time: Duration::from_secs(*seconds),
                rounds: (*rounds).into(),
                each: *each,
                reference: reference.clone(),
                iperf3: Iperf3::find()?,
            };
            run_tunnel(&options, *json)
        }
    }
}

fn run_tunnel(options: &TunnelOptions, json: bool) -> Result<()> {
    let figures = tunnel(options, |text| eprintln!("bench: {text}"))?;
    if json {
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }
    println!(
        "{:18} {:>14} {:>14} {:>14} {:>12} {:>16} {:>22}",
        "", "1 stream", "4 streams", "daemons' CPU", "machine's", "64-byte packets", "one way, p50 (p99)"
    );
    for row in &figures {
        println!(
            "{:18} {:>7.2} Gbit/s {:>7.2} Gbit/s {:>9.2} s/GB {:>7.2} s/GB {:>14.0}/s {:>10.1} µs ({:.0} µs)",
            row.way,
            row.tcp1_gbits,
            row.tcp4_gbits,
            row.daemons_s_per_gb,
            row.machine_s_per_gb,
            row.small_per_s,
            row.latency_p50_us,
            row.latency_p99_us
        );
    }
    let of = |way: &str| figures.iter().find(|row| row.way == way).with_context(|| way.to_owned());
    let (vxlan, udp) = (of("kernel VXLAN")?, of("udp")?);
    let many = figures.last().context("many peers")?;
    println!();
    target("1 stream, to the kernel's VXLAN", udp.tcp1_gbits / vxlan.tcp1_gbits, 0.7, true);
    target("64-byte packets, to the kernel's VXLAN", udp.small_per_s / vxlan.small_per_s, 1.0, true);
    target("median latency, to the kernel's VXLAN", udp.latency_p50_us / vxlan.latency_p50_us, 1.3, false);
    target("CPU seconds of the daemons for each GB", udp.daemons_s_per_gb, 2.0, false);
    target("1 stream with many peers, to that with one", many.tcp1_gbits / udp.tcp1_gbits, 0.95, true);
    target(
        "64-byte packets with many peers, to those with one",
        many.small_per_s / udp.small_per_s,
        0.95,
        true,
    );
    Ok(())
}

fn target(what: &str, figure: f64, bound: f64, at_least: bool) {
    let (word, met) = if at_least { ("at least", figure >= bound) } else { ("at most", figure <= bound) };
    println!("{what}: {figure:.2}; {word} {bound}: {}", if met { "met" } else { "missed" });
}

/// Runs a command; what it prints is its answer.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn run_policy(leases: &[u16]) -> Result<()> {
    let mut command = Command::new(artifacts::flanneld()?);
    command.args(["plugin", "bench", "--json", "--type", "vxlan"]);
    for leases in leases {
        command.arg("--count").arg(leases.to_string());
    }
    let costs: serde_json::Value = serde_json::from_slice(&output(&mut command)?)?;
    println!("{:>8}  {:>20}  {:>20}  {:>6}", "leases", "plugin, ns a lease", "native, ns a lease", "ratio");
    for (cost, &leases) in costs.as_array().into_iter().flatten().zip(leases) {
        let plugin = cost["lease_ns"].as_u64().context("lease_ns")?;
        let native = native(leases)?.lease_ns;
        let ratio = Duration::from_nanos(plugin).div_duration_f64(Duration::from_nanos(native));
        println!("{leases:>8}  {plugin:>20}  {native:>20}  {ratio:>6.1}");
    }
    Ok(())
}

fn run_swap(leases: &[u32]) -> Result<()> {
    println!(
        "{:>8}  {:>30}  {:>36}",
        "leases", "same policy, ms (longest)", "tunnelled to direct, ms (longest)"
    );
    for &leases in leases {
        let result = swap(leases)?;
        let shown = |(median, longest): (f64, f64), messages: u64| {
            format!("{median:.1} ({longest:.1}), {messages} messages")
        };
        let same = shown(result.same_ms, result.same_messages);
        println!("{leases:>8}  {same:>30}  {:>36}", shown(result.other_ms, result.other_messages));
    }
    Ok(())
}

fn run_change(nodes: &[u32], leases: &[u32], reference: Option<&Path>) -> Result<()> {
    println!(
        "{:>8} {:>8}  {:>12} {:>12}  {:>14} {:>8}  datagrams lost",
        "leases", "daemons", "all moved, s", "all over, s", "echo requests", "CPU, s"
    );
    for nodes in nodes {
        let nodes = usize::try_from(*nodes)?;
        show_change(&of_daemons(nodes)?);
        match reference {
            Some(program) => {
                show_change(&of_reference(program, nodes)?);
                println!("{:>8} (the last line: upstream's, all restarted at once)", "");
            }
            None => println!("{:>8} (upstream's, all restarted at once: --reference names none)", ""),
        }
    }
    leases.iter().try_for_each(|leases| {
        show_change(&of_leases(*leases)?);
        Ok(())
    })
}

fn show_change(change: &Change) {
    let Change { leases, daemons, moved_ms, over_ms, probes, cpu_ms, lost } = change;
    let [moved, over] = [moved_ms, over_ms].map(|ms| ms / 1000.0);
    let cpu = Duration::from_millis(*cpu_ms).as_secs_f64();
    let lost = lost.map_or_else(String::new, |(lost, sent)| format!("{lost} of {sent}"));
    println!("{leases:>8} {daemons:>8}  {moved:>12.2} {over:>12.2}  {probes:>14} {cpu:>8.2}  {lost}");
}

fn run_scale(leases: &[u32], store: &[String], json: bool) -> Result<()> {
    for store in store {
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
