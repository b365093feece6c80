//! A whole cluster: a lab, a lease store, a daemon on each node, and a pod behind each.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ipnet::IpNet;
use serde_json::Value;

use crate::cloud::{self, Cloud, TableRow};
use crate::control;
use crate::daemon::Ready;
use crate::etcd::Etcd;
use crate::state::KernelState;
use crate::store::StoredLease;
use crate::{Backend, artifacts};
use crate::{Daemon, DaemonOptions, Lab, Node, Place, Pod, Store, Underlay, wait};

/// A network config with IPv4 only.
pub const IPV4: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
/// A network config with both families.
pub const DUAL_STACK: &str =
    r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{"Type":"vxlan"}}"#;
/// A network config with IPv6 only.
pub const IPV6_ONLY: &str =
    r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{"Type":"vxlan"}}"#;

/// All that can be granted to a plugin.
pub const EVERYTHING: &str = "links,routes,neighbours,fdb,wireguard,udp-tunnel,ipsec,own-lease,state,node-info,cloud:aws:ec2:*,cloud:google:compute:*,cloud:alibaba:vpc:*,cloud:tencent:vpc:*";

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes.
    pub nodes: usize,
    /// The backend that the network config asks for.
    pub backend: Backend,
    /// The network config.
    pub config: String,
    /// Whether leases are in a real etcd instead of in a directory.
    pub etcd: bool,
    /// Whether they are in Kubernetes instead.
    pub kubernetes: bool,
    /// The plugin's file; none: the backend's that was built.
    pub plugin: Option<PathBuf>,
    /// What that file is granted; none: everything.
    pub allow: Option<String>,
    /// The daemon; none: the one that was built.
    pub binary: Option<PathBuf>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 2,
            backend: Backend::Vxlan,
            config: IPV4.to_owned(),
            etcd: false,
            kubernetes: false,
            plugin: None,
            allow: None,
            binary: None,
        }
    }
}

impl ClusterOptions {
    /// Two nodes with a backend, IPv4 or both families.
    pub fn of(backend: Backend, ipv6: bool) -> Self {
        Self { backend, config: backend.config(ipv6), ..Self::default() }
    }
}

/// A cluster. Its parts end in the right order when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    daemons: Vec<Option<Daemon>>,
    pods: Vec<Option<Pod>>,
    options: DaemonOptions,
    backend: Backend,
    store: Store,
    cloud: Option<Arc<dyn Cloud>>,
    lab: Lab,
}

impl Cluster {
    /// A lab and a lease store with a network config; no daemon runs yet.
    pub fn prepare(options: &ClusterOptions) -> Result<Self> {
        let store = match (options.kubernetes, options.etcd) {
            (true, _) => Store::kube,
            (false, true) => Store::etcd,
            (false, false) => Store::file,
        };
        Self::prepare_with(options, store)
    }

    /// The same with a lease store of another kind than [`ClusterOptions`] knows.
    pub fn prepare_with(options: &ClusterOptions, store: impl FnOnce(&Lab) -> Result<Store>) -> Result<Self> {
        let lab = Lab::new(options.nodes, Underlay { ipv6: true, ..Underlay::default() })?;
        let store = store(&lab)?;
        store.put_config(&options.config)?;
        let plugin = options.plugin.clone().map_or_else(|| artifacts::plugin(options.backend.name()), Ok)?;
        let how = DaemonOptions::new(&store, options.binary.clone(), Some(plugin))?;
        let allow = options.allow.as_deref().unwrap_or(EVERYTHING);
        let how = if options.plugin.is_some() { how.arg(format!("--allow={allow}")) } else { how };
        let cloud = cloud::start(options.backend, &lab)?;
        let how = cloud.iter().fold(how, |how, cloud| {
            let how = cloud.arguments().into_iter().fold(how, DaemonOptions::arg);
            cloud.environment().iter().fold(how, |how, (name, value)| how.env(name, value))
        });
        let daemons = (0..options.nodes).map(|_| None).collect();
        let backend = options.backend;
        Ok(Self { daemons, pods: vec![None; options.nodes], options: how, backend, store, cloud, lab })
    }

    /// A cluster that works: all daemons are ready and know each other, and each node has a pod.
    pub fn start(options: &ClusterOptions) -> Result<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.bring_up()?;
        Ok(cluster)
    }

    /// Starts all daemons, waits until they know each other, and makes a pod on each node.
    pub fn bring_up(&mut self) -> Result<()> {
        self.start_all()?;
        self.wait_converged()?;
        self.wire_pods()
    }

    /// Starts the daemons of all nodes at the same moment, and waits until all are ready.
    pub fn start_all(&mut self) -> Result<Vec<Ready>> {
        for index in 0..self.lab.nodes().len() {
            self.launch(index)?;
        }
        (0..self.lab.nodes().len()).map(|index| self.daemon(index)?.wait_ready()).collect()
    }

    /// Starts a node's daemon and does not wait.
    pub fn launch(&mut self, index: usize) -> Result<&mut Daemon> {
        let daemon = self.lab.node(index).start(&self.options)?;
        Ok(self.daemons[index].insert(daemon))
    }

    /// Adds a node. Nothing runs on it yet.
    pub fn add_node(&mut self, place: Place) -> Result<usize> {
        let node = self.lab.add_node(place)?;
        if let Store::Kube(kube) = &self.store {
            kube.join(node)?;
        }
        if let Some(cloud) = &self.cloud {
            cloud.join(node)?;
        }
        self.daemons.push(None);
        self.pods.push(None);
        Ok(self.daemons.len() - 1)
    }

    /// Makes a pod on each node that has none.
    pub fn wire_pods(&mut self) -> Result<()> {
        (0..self.pods.len()).try_for_each(|index| self.wire_pod(index))
    }

    /// Makes a pod on a node if it has none.
    pub fn wire_pod(&mut self, index: usize) -> Result<()> {
        if self.pods[index].is_none() {
            self.pods[index] = Some(self.lab.node(index).pod()?);
        }
        Ok(())
    }

    /// Makes a node's pod anew: the node has another subnet.
    pub fn replace_pod(&mut self, index: usize) -> Result<()> {
        let node = self.lab.node(index);
        node.remove_pods()?;
        self.pods[index] = Some(node.pod()?);
        Ok(())
    }

    /// Waits until each node whose daemon runs has entries for all leases but its own.
    pub fn wait_converged(&self) -> Result<Duration> {
        if self.backend.routes_each_peer() {
            return self.wait_routes();
        }
        let known = self.wait_peers()?;
        if self.cloud.is_some() { Ok(known + self.wait_table()?) } else { Ok(known) }
    }

    /// Waits until the cloud's table leads to each node whose daemon runs.
    fn wait_table(&self) -> Result<Duration> {
        let cloud = self.cloud()?;
        wait::until_equal("the cloud's table has a row for each node", || {
            let table = cloud.table()?;
            for index in (0..self.daemons.len()).filter(|index| self.daemons[*index].is_some()) {
                let (node, subnets) = (self.lab.node(index), self.subnets(index)?);
                let subnet = subnets.first().context("a subnet")?.parse::<IpNet>()?;
                let leads =
                    |row: &TableRow| row.destination == subnet && row.node == Some(node.address().into());
                if !table.iter().any(leads) {
                    let trouble = self.status(index)?["plugin"].clone();
                    return Ok(Some(format!("{} has {subnet}: {table:#?}, {trouble:#}", node.name())));
                }
            }
            Ok(None)
        })
    }

    /// The cloud whose machines the nodes are, which has to be this one.
    pub fn cloud_as<C: Cloud>(&self) -> Result<&C> {
        let cloud: &dyn Any = self.cloud()?;
        cloud.downcast_ref().with_context(|| format!("{} has another cloud", self.backend))
    }

    /// The cloud whose machines the nodes are.
    pub fn cloud(&self) -> Result<&dyn Cloud> {
        self.cloud.as_deref().with_context(|| format!("{} needs no cloud", self.backend))
    }

    /// Waits until each daemon knows all peers, and serves each with a tunnel if the backend has tunnels.
    fn wait_peers(&self) -> Result<Duration> {
        let running = self.daemons.iter().flatten().count();
        wait::until_equal("all nodes know each other", || {
            let leases = self.store.leases()?.len();
            if leases < running {
                return Ok(Some(format!("{running} daemons have {leases} leases")));
            }
            for index in (0..self.daemons.len()).filter(|index| self.daemons[*index].is_some()) {
                let status = self.status(index)?;
                let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
                let served = |peer: &Value| {
                    !self.backend.connects() || self.backend.is_cloud() || peer["tunnels"].as_u64() > Some(0)
                };
                if peers.len() + 1 != leases || !peers.iter().all(served) {
                    return Ok(Some(format!("{leases} leases, and {:#}", status["peers"])));
                }
            }
            Ok(None)
        })
    }

    /// What a node's daemon says of itself.
    pub fn status(&self, index: usize) -> Result<Value> {
        let node = self.lab.node(index);
        if let Some(status) = control::status(&node.control_socket())? {
            return Ok(status);
        }
        // In the words that its user would see.
        let mut command = self.options.command(node);
        command.args(["status", "--json", "--control-socket"]).arg(node.control_socket());
        let output = command.stdin(Stdio::null()).output().context("cannot run flanneld status")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("flanneld status --json: no JSON")
    }

    /// What keeps a node's plugin from its work outside of the kernel, as its daemon says; none: nothing does.
    pub fn trouble(&self, index: usize) -> Result<Option<String>> {
        Ok(self.status(index)?["plugin"]["trouble"]["reason"].as_str().map(ToOwned::to_owned))
    }

    /// Waits until that has all of these words in it: on one line, as it is shown.
    pub fn wait_trouble(&self, index: usize, words: &[&str]) -> Result<String> {
        let mut last = None;
        let found = wait::until(&format!("node {index} says {words:?}"), || {
            last = self.trouble(index)?;
            Ok(last.clone().filter(|reason| words.iter().all(|word| reason.contains(word))))
        });
        let (reason, _) = found.with_context(|| format!("it says {last:?}"))?;
        ensure!(reason.lines().count() == 1, "{reason:?} is more than a line");
        Ok(reason)
    }

    /// Puts another plugin in the place of the one that a node's daemon has; what the command prints. The error is what it says.
    pub fn swap(&self, index: usize, plugin: &Path) -> Result<Value> {
        self.swap_with(index, plugin, &[])
    }

    /// The same with further arguments.
    pub fn swap_with(&self, index: usize, plugin: &Path, arguments: &[&str]) -> Result<Value> {
        let node = self.lab.node(index);
        let mut command = self.options.command(node);
        command.args(["plugin", "swap", "--json", "--control-socket"]).arg(node.control_socket()).arg(plugin);
        command.args(arguments);
        let output = command.stdin(Stdio::null()).output().context("cannot run flanneld plugin swap")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim_end());
        serde_json::from_slice(&output.stdout).context("flanneld plugin swap --json: no JSON")
    }

    fn wait_routes(&self) -> Result<Duration> {
        wait::until_equal("all nodes know each other", || {
            let leases = self.store.leases()?;
            for (node, daemon) in self.lab.nodes().iter().zip(&self.daemons) {
                let Some(own) = node.subnet_env()?.filter(|_| daemon.is_some()) else { continue };
                let own = own.subnets();
                let wanted: BTreeSet<String> = leases
                    .iter()
                    .flat_map(StoredLease::subnets)
                    .filter(|subnet| !own.contains(subnet))
                    .collect();
                let routes = KernelState::read(node)?.routes;
                let there = routes
                    .iter()
                    .filter_map(|route| route.split(' ').next())
                    .map(ToOwned::to_owned)
                    .collect();
                if wanted != there {
                    return Ok(Some(format!(
                        "{} should have routes to {wanted:?}, and has to {there:?}",
                        node.name()
                    )));
                }
            }
            let running = self.daemons.iter().flatten().count();
            Ok((leases.len() < running).then(|| format!("{running} daemons have {} leases", leases.len())))
        })
    }

    /// A node leaves for good: its daemon is told to stop, and its lease is removed. Answers the lease.
    pub fn leave(&mut self, index: usize) -> Result<StoredLease> {
        let lease = self.lease(index)?;
        let daemon = self.daemons[index].take().with_context(|| format!("node {index} has no daemon"))?;
        let status = daemon.terminate()?;
        if !status.success() {
            return Err(anyhow!("SIGTERM ended the daemon with {status}"));
        }
        self.store.remove(&lease)?;
        Ok(lease)
    }

    /// A node's lease, as it is stored.
    pub fn lease(&self, index: usize) -> Result<StoredLease> {
        self.store.lease_of(&self.subnets(index)?)
    }

    /// A node's subnets, as text, IPv4 first.
    pub fn subnets(&self, index: usize) -> Result<Vec<String>> {
        let node = self.lab.node(index);
        let subnet = node.subnet_env()?.with_context(|| format!("{} has no subnet file", node.name()))?;
        Ok(subnet.subnets())
    }

    /// What a node's kernel has of flannel's.
    pub fn state(&self, index: usize) -> Result<KernelState> {
        KernelState::read(self.lab.node(index))
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The backend.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The network config asks for another backend from now on.
    pub fn set_backend(&mut self, backend: Backend) {
        self.backend = backend;
    }

    /// The lease store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The lease store, to be changed.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The etcd that holds the leases.
    pub fn etcd(&mut self) -> Result<&mut Etcd> {
        self.store.as_etcd()
    }

    /// How daemons are started.
    pub fn options(&self) -> &DaemonOptions {
        &self.options
    }

    /// Starts daemons otherwise from now on.
    pub fn set_options(&mut self, options: DaemonOptions) {
        self.options = options;
    }

    /// Starts daemons with more arguments from now on.
    pub fn add_arguments(&mut self, arguments: &[&str]) {
        let options = self.options.clone();
        self.options = arguments.iter().fold(options, |options, argument| options.arg(*argument));
    }

    /// A node, the first being 0.
    pub fn node(&self, index: usize) -> &Node {
        self.lab.node(index)
    }

    /// A node's pod.
    pub fn pod(&self, index: usize) -> Result<&Pod> {
        self.pods[index].as_ref().with_context(|| format!("node {index} has no pod"))
    }

    /// All pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().flatten()
    }

    /// Whether a node has a daemon.
    pub fn has_daemon(&self, index: usize) -> bool {
        self.daemons[index].is_some()
    }

    /// A node's daemon.
    pub fn daemon(&mut self, index: usize) -> Result<&mut Daemon> {
        self.daemons[index].as_mut().with_context(|| format!("node {index} has no daemon"))
    }

    /// Takes a node's daemon, to end it.
    pub fn take_daemon(&mut self, index: usize) -> Result<Daemon> {
        self.daemons[index].take().with_context(|| format!("node {index} has no daemon"))
    }

    /// Kills a node's daemon as `kill -9` does, and starts it again.
    pub fn kill_and_restart(&mut self, index: usize) -> Result<Ready> {
        self.take_daemon(index)?.kill9();
        self.launch(index)?.wait_ready()
    }
}
