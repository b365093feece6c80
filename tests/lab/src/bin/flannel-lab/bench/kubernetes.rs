//! Figures of a large cluster of Kubernetes, as they are shown.

use anyhow::{Result, bail};
use flannel_lab::bench::{Daemon, Kubernetes, KubernetesOptions, kubernetes};
use flannel_lab::control_plane;

/// Measures clusters of these sizes, one after the other.
pub fn run(nodes: &[u32], options: &KubernetesOptions, json: bool) -> Result<()> {
    if let Some(reason) = control_plane::missing()? {
        bail!("there is no Kubernetes control plane: {reason}");
    }
    for &nodes in nodes {
        let options = KubernetesOptions { nodes, ..options.clone() };
        let result = kubernetes(&options, |text| eprintln!("bench: {nodes} nodes: {text}"))?;
        if json { println!("{}", serde_json::to_string(&result)?) } else { show(&result, &options) }
    }
    Ok(())
}

fn show(result: &Kubernetes, options: &KubernetesOptions) {
    let Kubernetes { nodes, object_bytes, daemons, .. } = result;
    println!("{nodes} nodes of {object_bytes} bytes each");
    println!(
        "  {:9} {:>14} {:>10} {:>12} {:>34} {:>16} {:>14}",
        "daemon",
        "first sync, s",
        "CPU, s",
        "bytes",
        "memory at most, KiB (with 1 peer)",
        "heartbeats: CPU",
        "bytes"
    );
    show_daemon("ours", &result.ours);
    match &result.upstream {
        Some(upstream) => {
            show_daemon("upstream", upstream);
            println!(
                "  upstream's: {} KiB more than with one peer, {:.1} times our bytes with heartbeats",
                upstream.more_kib(),
                upstream.bytes_per_s / result.ours.bytes_per_s.max(1.0)
            );
        }
        None => {
            println!(
                "  {:9} (upstream's daemon: FLANNELD_REFERENCE names none, or it did not get ready)",
                ""
            );
        }
    }
    println!(
        "  memory for {nodes} peers over that with one: {} KiB; after the heartbeats {} KiB at most",
        result.ours.more_kib(),
        result.ours.later_kib
    );
    println!(
        "  {} heartbeats a second for {} s: {} calls of the plugin, {} netlink messages, {} changes in the kernel",
        options.heartbeats,
        options.time.as_secs(),
        result.calls,
        result.messages,
        result.changes
    );
    println!(
        "  one change until it is in the kernel: {:.1} ms (median), {:.1} ms (99 of 100); the API server's answer: {:.1} ms",
        result.change_p50_ms, result.change_p99_ms, result.server_p50_ms
    );
    println!(
        "  the API server with heartbeats: {:.0} ms/s of CPU alone, {:.0} with {watches} watches of whole nodes, {:.0} with {watches} of metadata",
        result.server.alone,
        result.server.whole,
        result.server.metadata,
        watches = result.server.watches
    );
    let kinds: Vec<String> = result.requests.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let all: u32 = result.requests.values().sum();
    println!("  {daemons} daemons at once, first 10 s: {all} requests ({})", kinds.join(", "));
}

fn show_daemon(name: &str, daemon: &Daemon) {
    let (seconds, cpu) =
        (daemon.sync_ms / 1e3, std::time::Duration::from_millis(daemon.sync_cpu_ms).as_secs_f64());
    let memory = format!("{} ({})", daemon.peak_kib, daemon.small_kib);
    println!(
        "  {name:9} {seconds:>14.2} {cpu:>10.2} {:>12} {memory:>34} {:>11.1} ms/s {:>12.0}/s",
        daemon.sync_bytes, daemon.cpu_ms_per_s, daemon.bytes_per_s
    );
}
