//! A cluster of two nodes to throw away, for `flanneld plugin dev --cluster`: two network namespaces with a cable between them, this very
//! daemon in each, leases in a directory, and a ping from pod to pod that goes on all the time. What was built is swapped into both.

mod daemon;
mod network;
mod ping;
mod privileged;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flannel_telemetry::control::{SwapOrder, ask_swap};
use flanneld::cli::{ClusterFamilies, Options};

use super::super::output;
use daemon::Daemon;
use network::{NODES, Network};
use ping::Ping;
pub(crate) use privileged::PrivilegedCluster;

/// How long packets may take to pass after a change, until that is said.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster.
struct Cluster {
    // Ends before the namespaces that its sockets are in.
    ping: Option<Ping>,
    daemons: Vec<Daemon>,
    network: Network,
    families: ClusterFamilies,
    /// What the daemons are given besides.
    arguments: Vec<String>,
    /// Where compiled forms are kept, and the key with which they are.
    cache_dir: PathBuf,
    state_dir: PathBuf,
    /// The network config with which the daemons began.
    config: String,
}

impl Cluster {
    /// Makes the namespaces. The error is one line, and says what it takes.
    fn new(
        families: ClusterFamilies,
        plugin_options: &[(String, String)],
        options: &Options,
    ) -> anyhow::Result<Self> {
        let network = Network::make(families)?;
        let [one, other] = [network.path(0)?, network.path(1)?].map(|path| path.display().to_string());
        output::line(format_args!(
            "two nodes, in the network namespaces {one} and {other}; to look around: nsenter --net={one} ip route"
        ))?;
        let arguments =
            plugin_options.iter().map(|(name, value)| format!("--plugin-option={name}={value}")).collect();
        let (cache_dir, state_dir) = (options.cache_dir.clone(), options.state_dir.clone());
        Ok(Self {
            ping: None,
            daemons: Vec::new(),
            network,
            families,
            arguments,
            cache_dir,
            state_dir,
            config: String::new(),
        })
    }

    /// Has the nodes run a component for a `Backend` object of the network config, and says how that went.
    fn run(&mut self, component: &Path, backend: &str) -> anyhow::Result<()> {
        let plugin = self.network.place().join("plugin.wasm");
        let new = plugin.with_extension("new");
        // As a whole: a daemon may look at it at any time.
        std::fs::copy(component, &new)
            .and_then(|_| std::fs::rename(&new, &plugin))
            .with_context(|| format!("cannot copy {}", component.display()))?;
        let networks = match self.families {
            ClusterFamilies::Ipv4 => "",
            ClusterFamilies::Dual => r#""EnableIPv6":true,"IPv6Network":"fc00:5::/48","#,
        };
        let config = format!(r#"{{"Network":"10.5.0.0/16",{networks}"Backend":{backend}}}"#);
        let all_run = !self.daemons.is_empty() && self.daemons.iter_mut().all(Daemon::runs);
        if all_run && config == self.config {
            return self.swap(&plugin);
        }
        self.start(&plugin, config)
    }

    /// Starts the daemons, anew if there were some.
    fn start(&mut self, plugin: &Path, config: String) -> anyhow::Result<()> {
        let begin = Instant::now();
        self.ping = None;
        self.network.end_with_us(std::iter::empty())?;
        self.daemons.clear();
        let store = self.network.place().join("store");
        std::fs::create_dir_all(store.join("subnets"))
            .and_then(|()| std::fs::write(store.join("config"), &config))
            .with_context(|| format!("cannot write to {}", store.display()))?;
        self.config = config;
        for node in 0..NODES {
            self.daemons.push(Daemon::start(
                &self.network,
                node,
                plugin,
                &self.arguments,
                &self.cache_dir,
                &self.state_dir,
            )?);
            self.network.end_with_us(self.daemons.iter().map(Daemon::id))?;
        }
        let mut pods = Vec::new();
        for (node, daemon) in self.daemons.iter_mut().enumerate() {
            let addresses = daemon.wait_ready().with_context(|| format!("node {}", node + 1))?;
            self.network.add_pod(node, &addresses)?;
            pods.push(addresses);
        }
        let ready = begin.elapsed();
        let ping = self.ping.insert(Ping::start(&self.network, &pods)?);
        let Some(first) = ping.first_answer(PATIENCE) else {
            let seconds = PATIENCE.as_secs();
            output::line(format_args!(
                "FAILED   ping: no packet from pod to pod was answered within {seconds} s"
            ))?;
            return Ok(());
        };
        Ok(output::line(format_args!(
            "ok       cluster: 2 nodes ready after {} ms, and {} ms later packets pass from pod to pod",
            ready.as_millis(),
            first.as_millis()
        ))?)
    }

    fn swap(&mut self, plugin: &Path) -> anyhow::Result<()> {
        let begin = Instant::now();
        let mark = self.ping.as_ref().map(Ping::mark);
        for (node, daemon) in self.daemons.iter().enumerate() {
            let order = SwapOrder { plugin: plugin.display().to_string(), take_state: false };
            ask_swap(daemon.socket(), order)
                .with_context(|| format!("node {}: what served before goes on", node + 1))?;
        }
        let took = begin.elapsed().as_millis();
        output::line(format_args!("ok       swapped on both nodes in {took} ms"))?;
        let (Some(ping), Some(mark)) = (&self.ping, mark) else { return Ok(()) };
        let report = ping.report(mark, PATIENCE);
        let verdict = if report.passes { "ok    " } else { "FAILED" };
        let now = if report.passes { "packets pass" } else { "no packet passes any more" };
        Ok(output::line(format_args!(
            "{verdict}   ping: {now}; of {} meanwhile {} were lost",
            report.sent, report.lost
        ))?)
    }
}
