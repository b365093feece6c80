//! The cluster on which faults are made, with what is known of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::check;
use super::setting::{Setting, StoreKind};
use super::stream::Stream;
use super::watch::LogWatch;
use crate::ping_probe::Pings;
use crate::random::Random;
use crate::snapshot::Snapshot;
use crate::state::KernelState;
use crate::store::StoredLease;
use crate::{Cluster, ClusterOptions, Namespace, artifacts};

/// How often a pod asks the next one. Many soaks share a machine.
const INTERVAL: Duration = Duration::from_millis(20);

/// What daemons need at the end, at most.
pub struct Resources {
    /// KiB resident.
    pub resident: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

/// The cluster.
pub struct Scene {
    // Sockets of the traffic are in the cluster's pods.
    traffic: Option<Pings>,
    stream: Option<Stream>,
    /// The cluster.
    pub cluster: Cluster,
    /// Where the faults come from.
    pub random: Random,
    /// What the cluster is like.
    pub setting: Setting,
    /// Each node's subnets, as they were when all was well.
    pub subnets: Vec<Vec<String>>,
    /// The nodes' leases then.
    pub leases: Vec<StoredLease>,
    /// What each node had when all was well and the leases were these.
    pub known: BTreeMap<Vec<StoredLease>, Vec<Snapshot>>,
    /// What the daemons say.
    pub logs: LogWatch,
}

impl Scene {
    /// A lab and a store; no daemon runs yet.
    pub fn prepare(setting: Setting, random: Random) -> Result<Self> {
        let mut cluster = Cluster::prepare(&ClusterOptions {
            nodes: setting.nodes,
            backend: setting.backend,
            config: setting.config(),
            kubernetes: false,
            etcd: setting.store == StoreKind::Etcd,
            // With all that can be granted, so that another build may take over.
            plugin: Some(artifacts::plugin(setting.backend.name())?),
            allow: None,
            binary: None,
        })?;
        if setting.firewall.is_some() {
            cluster.add_arguments(&["--ip-masq"]);
        }
        let logs = LogWatch::new(cluster.lab());
        if !setting.changing.is_empty() {
            // Another backend takes another plugin.
            cluster.set_options(cluster.options().clone().built_in());
        }
        let (subnets, leases, known) = (Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Self { traffic: None, stream: None, cluster, random, setting, subnets, leases, known, logs })
    }

    /// All daemons run, all pods reach each other, and packets flow.
    pub fn bring_up(&mut self) -> Result<()> {
        self.cluster.bring_up()?;
        check::settled(self)?;
        self.start_traffic()
    }

    /// Pings from each pod to the next one, and a TCP connection between two that are not next to each other, from now on.
    pub fn start_traffic(&mut self) -> Result<()> {
        (self.traffic, self.stream) = (None, None);
        let pods: Vec<_> = self.cluster.pods().collect();
        let pairs = pods.iter().enumerate().map(|(at, pod)| (*pod, pods[(at + 1) % pods.len()]));
        let traffic = Pings::among(pairs, INTERVAL)?;
        traffic.wait_answered()?;
        self.traffic = Some(traffic);
        self.stream = Some(Stream::start(self.cluster.pod(0)?, self.cluster.pod(2)?)?);
        Ok(())
    }

    /// What a node has.
    pub fn snapshot(&self, index: usize) -> Result<Snapshot> {
        Snapshot::take(&self.cluster, index, self.setting.firewall)
    }

    /// The pings.
    pub fn traffic(&self) -> Result<&Pings> {
        self.traffic.as_ref().context("no ping runs")
    }

    /// The TCP connection.
    pub fn stream(&self) -> Result<&Stream> {
        self.stream.as_ref().context("no TCP connection")
    }

    /// What the daemons need.
    pub fn resources(&mut self) -> Result<Resources> {
        let mut most = Resources { resident: 0, descriptors: 0 };
        for index in 0..self.setting.nodes {
            let daemon = self.cluster.daemon(index)?;
            let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count();
            most.resident = most.resident.max(daemon.memory()?.resident);
            most.descriptors = most.descriptors.max(descriptors);
        }
        Ok(most)
    }

    /// Copies logs and leases to a place that stays.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        let prefix = format!("flannel-soak-{}-", self.random.seed());
        let place =
            tempfile::Builder::new().prefix(&prefix).tempdir().context("cannot make a directory")?.keep();
        for node in self.cluster.lab().nodes() {
            let log = node.directory().join("flanneld.log");
            std::fs::copy(&log, place.join(format!("{}.log", node.name())))
                .with_context(|| log.display().to_string())?;
            let state =
                KernelState::read(node).map_or_else(|error| format!("{error:#}"), |state| state.to_string());
            std::fs::write(place.join(format!("{}.kernel", node.name())), state)?;
            keep_counters(&place, node.name(), node.namespace())?;
        }
        for pod in self.cluster.pods() {
            keep_counters(&place, pod.namespace().name(), pod.namespace())?;
        }
        for index in (0..self.setting.nodes).filter(|index| self.cluster.has_daemon(*index)) {
            let status =
                self.cluster.status(index).map_or_else(|error| format!("{error:#}"), |it| format!("{it:#}"));
            std::fs::write(place.join(format!("{}.status", self.cluster.node(index).name())), status)?;
        }
        let leases = self
            .cluster
            .store()
            .leases()
            .map_or_else(|error| format!("{error:#}"), |all| format!("{all:#?}"));
        std::fs::write(place.join("leases"), leases)?;
        Ok(place)
    }
}

/// What the kernel has counted in a namespace: where it may have dropped a packet.
fn keep_counters(place: &Path, name: &str, namespace: &Namespace) -> Result<()> {
    let read = || {
        let files =
            ["/proc/thread-self/net/dev", "/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"];
        files.map(|file| std::fs::read_to_string(file).unwrap_or_else(|error| error.to_string())).join("\n")
    };
    std::fs::write(place.join(format!("{}.counters", name.replace(' ', "-"))), namespace.run(read)?)?;
    Ok(())
}
