//! Upstream's daemon in the same cluster, on a node of its own.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::process::{Cost, peak_kib, received};
use super::{Daemon, KubernetesOptions, SETTLED, load, ms};
use crate::control_plane::Client;
use crate::reference::Reference;
use crate::{Cluster, Node, wait};

/// Its node.
const NODE: usize = 1;
/// The minute that its heartbeats begin with: later than all that were sent to ours.
const LATER: u32 = 720;

/// Starts it with one peer, and ends it. Answers its largest memory.
pub fn first(program: &Path, cluster: &Cluster) -> Result<u64> {
    let node = cluster.node(NODE);
    let daemon = start(program, cluster, 1)?;
    let peak = peak_kib(daemon.pid())?;
    daemon.terminate()?;
    node.ip("link delete flannel.1")?;
    Ok(peak)
}

/// Measures its start and the heartbeats.
pub fn measure(
    program: &Path,
    cluster: &Cluster,
    admin: &Client,
    options: &KubernetesOptions,
    figures: &mut Daemon,
) -> Result<()> {
    let node = cluster.node(NODE);
    let (before, begin) = (received(node)?, Instant::now());
    let daemon = start(program, cluster, options.nodes)?;
    figures.sync_ms = ms(begin.elapsed());
    let after = Cost::now(node, daemon.pid())?;
    (figures.sync_cpu_ms, figures.sync_bytes) = (after.cpu_ms, after.bytes - before);
    figures.peak_kib = peak_kib(daemon.pid())?;
    std::thread::sleep(SETTLED);
    let (cost, begin) = (Cost::now(node, daemon.pid())?, Instant::now());
    load::heartbeats(admin, options.nodes, options.heartbeats, options.time, LATER)?;
    figures.beats(Cost::now(node, daemon.pid())?.since(cost), begin.elapsed());
    figures.later_kib = peak_kib(daemon.pid())?;
    daemon.terminate()?;
    node.ip("link delete flannel.1")?;
    Ok(())
}

fn start(program: &Path, cluster: &Cluster, peers: u32) -> Result<Reference> {
    let node = cluster.node(NODE);
    let mut daemon = Reference::start(program, node, cluster.store())?;
    daemon.wait_ready()?;
    wait::until_true("upstream's daemon has routes to all peers", || Ok(routes(node)? >= peers as usize))?;
    Ok(daemon)
}

fn routes(node: &Node) -> Result<usize> {
    Ok(node.ip("route show dev flannel.1")?.lines().filter(|line| line.contains(" via ")).count())
}
