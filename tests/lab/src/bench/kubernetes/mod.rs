//! A large cluster of Kubernetes, whose nodes are objects at a real API server and nothing else, and real daemons among them: what the
//! store of nodes' annotations costs a daemon, and the API server.

mod audit;
mod load;
mod object;
mod process;
mod reference;
mod watchers;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use super::ms;
use super::scale::Latency;
use crate::control_plane::client::Patch;
use crate::control_plane::{Client, Part};
use crate::kube_store::KubeStore;
use crate::netlink_monitor::Watcher;
use crate::{Cluster, ClusterOptions, Store, wait};
use audit::Audit;
use object::Object;
use process::{Cost, peak_kib, received};
pub use watchers::Server;

/// Upstream's daemon needs the module br_netfilter otherwise.
const CONFIG: &str = r#"{"Network":"10.0.0.0/8","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;
/// Entries of a peer: a route, a neighbour, and an FDB entry.
const ENTRIES: u64 = 3;
/// How many single changes are timed.
const CHANGES: u32 = 50;
/// Requests are counted for so long after the start of many daemons.
const RUSH: Duration = Duration::from_secs(10);
/// Nothing is heard of a daemon's start after this time.
const SETTLED: Duration = Duration::from_secs(3);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct KubernetesOptions {
    /// How many nodes there are besides the lab's own.
    pub nodes: u32,
    /// How many of them say in a second that they live.
    pub heartbeats: u32,
    /// For how long.
    pub time: Duration,
    /// How many daemons start at once.
    pub daemons: usize,
}

/// What came of it. Times in milliseconds, memory in KiB, bytes with all headers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kubernetes {
    /// How many nodes.
    pub nodes: u32,
    /// Bytes of a node's object in JSON, as the API server sends it.
    pub object_bytes: usize,
    /// Our daemon.
    pub ours: Daemon,
    /// Upstream's, where there is one.
    pub upstream: Option<Daemon>,
    /// One node changed, until the kernel has it: the median.
    pub change_p50_ms: f64,
    /// The 99th percentile.
    pub change_p99_ms: f64,
    /// Until the API server had answered to who changed it: the median.
    pub server_p50_ms: f64,
    /// Calls of the plugin because of heartbeats.
    pub calls: u64,
    /// Netlink messages because of them, as the daemon counts.
    pub messages: u64,
    /// What the kernel has told of changes to entries of flannel's meanwhile.
    pub changes: usize,
    /// What heartbeats cost the API server.
    pub server: Server,
    /// How many daemons were started at once.
    pub daemons: usize,
    /// What they asked for within ten seconds.
    pub requests: BTreeMap<&'static str, u32>,
}

/// A daemon's figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Daemon {
    /// From its start until all peers are in the kernel.
    pub sync_ms: f64,
    /// CPU time until then.
    pub sync_cpu_ms: u64,
    /// Bytes received until then.
    pub sync_bytes: u64,
    /// Its largest resident memory with one peer.
    pub small_kib: u64,
    /// The same with all.
    pub peak_kib: u64,
    /// The same after the heartbeats.
    pub later_kib: u64,
    /// Milliseconds of CPU time a second, with the heartbeats.
    pub cpu_ms_per_s: f64,
    /// Bytes received a second, with the heartbeats.
    pub bytes_per_s: f64,
}

impl Daemon {
    /// How much more memory many peers take than one, at the most.
    pub fn more_kib(&self) -> u64 {
        self.peak_kib.saturating_sub(self.small_kib)
    }

    fn beats(&mut self, cost: Cost, time: Duration) {
        let seconds = time.as_secs_f64();
        self.cpu_ms_per_s = Duration::from_millis(cost.cpu_ms).as_secs_f64() * 1e3 / seconds;
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        let bytes = cost.bytes as f64;
        self.bytes_per_s = bytes / seconds;
    }
}

/// Measures. Says meanwhile what is done.
pub fn kubernetes(options: &KubernetesOptions, say: impl Fn(&str)) -> Result<Kubernetes> {
    let mut audit = None;
    let cluster =
        ClusterOptions { nodes: options.daemons, config: CONFIG.to_owned(), ..ClusterOptions::default() };
    let mut cluster = Cluster::prepare_with(&cluster, |lab| {
        let (file, flags) = Audit::prepare(lab)?;
        audit = Some(file);
        let mut store = KubeStore::without_nodes(lab, &flags.each_ref().map(String::as_str))?;
        // All nodes have their podCIDRs, and more than its networks hold.
        store.plane.kill(Part::Controllers);
        lab.nodes().iter().try_for_each(|node| store.join(node))?;
        Ok(Store::Kube(Box::new(store)))
    })?;
    let audit = audit.context("the API server's audit")?;
    // The built-in plugin: what one loads from a file is compiled once, which is not what is measured here.
    let built_in = cluster.options().clone().built_in();
    cluster.set_options(built_in);
    let admin = cluster.store().as_kube()?.admin();
    let mut result = Kubernetes { nodes: options.nodes, daemons: options.daemons, ..Kubernetes::default() };

    load::create(&admin, 0, 1)?;
    result.ours.small_kib = first(&mut cluster, 1)?;
    let reference = crate::reference::program();
    if let Some(program) = &reference {
        result.upstream =
            Some(Daemon { small_kib: reference::first(program, &cluster)?, ..Daemon::default() });
    }
    say(&format!("making {} nodes", options.nodes));
    load::create(&admin, 1, options.nodes)?;
    result.object_bytes = admin.get(&Object::new(0, 0).path())?.body.len();
    std::thread::sleep(SETTLED);

    say("first sync");
    // Upstream's daemon has left its node's lease behind.
    sync(&mut cluster, &mut result, options.nodes + u32::from(reference.is_some()))?;
    say("heartbeats");
    heartbeats(&mut cluster, &admin, options, &mut result)?;
    say("changes");
    changes(&cluster, &admin, &mut result)?;
    cluster.take_daemon(0)?.kill9();
    if let (Some(program), Some(figures)) = (&reference, &mut result.upstream) {
        say("upstream's daemon");
        if let Err(error) = reference::measure(program, &cluster, &admin, options, figures) {
            say(&format!("there are no figures of upstream's daemon: {}", error.root_cause()));
            result.upstream = None;
        }
    }
    say("the API server with many watches");
    result.server = Server::measure(&cluster, options)?;
    say(&format!("{} daemons at once", options.daemons));
    result.requests = rush(&mut cluster, &audit)?;
    Ok(result)
}

/// Starts a daemon with nothing in the kernel, waits until it has so many peers, and ends it. Answers its largest memory.
fn first(cluster: &mut Cluster, peers: u32) -> Result<u64> {
    cluster.launch(0)?.wait_ready()?;
    wait_peers(cluster, peers)?;
    let daemon = cluster.take_daemon(0)?;
    let peak = peak_kib(daemon.pid())?;
    daemon.kill9();
    cluster.node(0).ip("link delete flannel.1")?;
    Ok(peak)
}

/// Waits until the kernel has all entries of so many peers, as the daemon says in its log.
fn wait_peers(cluster: &mut Cluster, peers: u32) -> Result<()> {
    let log = cluster.daemon(0)?.log().clone();
    wait::until_true("all peers are in the kernel", || {
        let last = log.lines().iter().rev().find_map(|line| line.number("entries"));
        Ok(last == Some(u64::from(peers) * ENTRIES))
    })?;
    Ok(())
}

fn sync(cluster: &mut Cluster, result: &mut Kubernetes, peers: u32) -> Result<()> {
    let before = received(cluster.node(0))?;
    let daemon = cluster.launch(0)?;
    let (begin, pid) = (Instant::now(), daemon.pid());
    daemon.wait_ready()?;
    wait_peers(cluster, peers)?;
    result.ours.sync_ms = ms(begin.elapsed());
    let after = Cost::now(cluster.node(0), pid)?;
    (result.ours.sync_cpu_ms, result.ours.sync_bytes) = (after.cpu_ms, after.bytes - before);
    result.ours.peak_kib = peak_kib(pid)?;
    Ok(())
}

fn heartbeats(
    cluster: &mut Cluster,
    admin: &Client,
    options: &KubernetesOptions,
    result: &mut Kubernetes,
) -> Result<()> {
    let pid = cluster.daemon(0)?.pid();
    // What a start leaves to be done is done.
    std::thread::sleep(SETTLED);
    let before = counters(&cluster.status(0)?)?;
    let (watcher, cost) = (Watcher::start(cluster.node(0))?, Cost::now(cluster.node(0), pid)?);
    let begin = Instant::now();
    load::heartbeats(admin, options.nodes, options.heartbeats, options.time, 1)?;
    result.ours.beats(Cost::now(cluster.node(0), pid)?.since(cost), begin.elapsed());
    result.changes = watcher.ours()?.len();
    let after = counters(&cluster.status(0)?)?;
    (result.calls, result.messages) = (after.0 - before.0, after.1 - before.1);
    result.ours.later_kib = peak_kib(pid)?;
    Ok(())
}

/// Calls of the plugin and netlink messages, as a daemon counts them.
fn counters(status: &Value) -> Result<(u64, u64)> {
    let calls = status["plugin"]["calls"].as_object().context("plugin.calls")?;
    let messages = status["datapath"]["messages"].as_u64().context("datapath.messages")?;
    Ok((calls.values().filter_map(Value::as_u64).sum(), messages))
}

fn changes(cluster: &Cluster, admin: &Client, result: &mut Kubernetes) -> Result<()> {
    let mut connection = admin.keep()?;
    let mut answers = Vec::new();
    let changes = CHANGES.min(result.nodes);
    let latency = Latency::measure(cluster.node(0), changes, |number| {
        let (begin, node) = (Instant::now(), Object::new(number, 1));
        connection.patch(&node.path(), Patch::Merge, &node.change())?;
        answers.push(begin.elapsed());
        Ok(())
    })?;
    (result.change_p50_ms, result.change_p99_ms) = (latency.percentile(50), latency.percentile(99));
    answers.sort_unstable();
    result.server_p50_ms = answers.get(answers.len() / 2).copied().map_or(0.0, ms);
    Ok(())
}

/// Starts all daemons at once, and says what they have asked for after a while.
fn rush(cluster: &mut Cluster, audit: &Audit) -> Result<BTreeMap<&'static str, u32>> {
    cluster.node(0).ip("link delete flannel.1")?;
    let before = audit.requests()?;
    let begin = Instant::now();
    for index in 0..cluster.lab().nodes().len() {
        cluster.launch(index)?;
    }
    std::thread::sleep(RUSH.saturating_sub(begin.elapsed()));
    let mut requests = audit.requests()?;
    for index in 0..cluster.lab().nodes().len() {
        if !cluster.daemon(index)?.runs()? {
            bail!("{} has no daemon any more", cluster.node(index).name());
        }
        cluster.take_daemon(index)?.kill9();
    }
    for (kind, count) in &mut requests {
        *count -= before.get(kind).copied().unwrap_or(0);
    }
    requests.retain(|_, count| *count > 0);
    ensure!(!requests.is_empty(), "the API server has written down no request");
    Ok(requests)
}
