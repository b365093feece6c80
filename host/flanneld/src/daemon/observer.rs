//! Who tells the world how the daemon is doing: metrics, readiness, the service manager, and the answers on the control socket. Hears
//! of everything from the loop. A question for the status is answered beside the loop, whatever that does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flannel_base::Timestamp;
use flannel_datapath::ipsec::KeyRing;
use flannel_datapath::{Datapath, DescriptorStore, PeerReport, Report, Stats, TunnelContext};
use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{Artifact, CloudRecord, Outcome, PluginError, PluginSeries, Registration};
use flannel_telemetry::control::{
    Asker, Attended, ControlServer, ControlSocket, Request, Responder, SwapOrder, Swapped,
};
use flannel_telemetry::health::{self, HealthServer};
use flannel_telemetry::{
    CallOutcome, CloudOutcome, FdStore, Lack, Metrics, ObserveError, Readiness, Status, Step, Systemd, status,
};
use tokio::sync::mpsc::{Receiver, UnboundedSender, channel};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::info;

use crate::cli::{Options, Store};
use crate::node::external::External;

use super::cni_config::CniConfig;
use super::coordinator::Coordinator;
use super::firewall::NodeFirewall;
use super::kube_node::KubeNode;
use super::links::ipsec_keys;
use super::observed_store::StoreHealth;
use super::policy::Records;
use super::policy_figures;
use super::probes::ProbeHub;
use super::service_manager::ServiceManager;
use super::tunnel_stats;

/// Requests that may wait to be looked at.
const REQUESTS: usize = 16;
/// How long the datapath may take to say how things stand; a status is given without its figures then.
const KERNEL_TIME: Duration = Duration::from_secs(2);
/// A wait that does not end.
const NEVER: Duration = Duration::from_hours(8760);

/// A swap that an operator asks for.
pub(super) type SwapRequest = (SwapOrder, Asker, Responder<Swapped>, Attended);

/// What is asked of a node in operation.
#[derive(Clone)]
pub(super) struct InOperation {
    /// Who knows the peers.
    pub coordinator: Arc<Mutex<Coordinator>>,
    /// Who knows the kernel.
    pub datapath: Arc<Datapath>,
    /// Who knows the rules.
    pub firewall: NodeFirewall,
    /// Where swaps are begun.
    pub swaps: UnboundedSender<SwapRequest>,
}

/// The observer.
pub(super) struct Observer {
    /// For Prometheus.
    pub metrics: Metrics,
    /// How the lease store does.
    pub store: Arc<StoreHealth>,
    /// What tunnels have to do with the rest of the daemon.
    pub tunnels: TunnelContext,
    /// This node's keys for IPsec: as long as the process lives.
    pub ipsec: KeyRing,
    /// All probes of the process.
    pub probes: ProbeHub,
    readiness: Readiness,
    systemd: Arc<Systemd>,
    /// Who lets pods come.
    cni_config: Option<CniConfig>,
    /// Who says so in Kubernetes.
    kube: Mutex<Option<Arc<KubeNode>>>,
    /// Without what changes with time, and without peers.
    base: Mutex<Status>,
    figures: Mutex<Stats>,
    /// What the plugin that serves counts, and the SHA-256 of its component.
    series: Mutex<Option<(PluginSeries, String)>>,
    in_operation: Mutex<Option<InOperation>>,
}

/// The control socket and the health endpoints, which serve until they are dropped.
pub(super) struct Servers {
    observer: Arc<Observer>,
    health: Option<HealthServer>,
    _control: ControlServer,
}

impl Servers {
    /// Ends in order: says so, and lets answers that are under way finish.
    pub(super) async fn stop(self) {
        self.observer.systemd.stopping();
        if let Some(health) = self.health {
            health.stop().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    /// Takes the control socket, which only one daemon of a node can have, and serves the health endpoints, if they are wanted.
    pub(super) fn start(options: &Options) -> Result<(Arc<Self>, Servers), ObserveError> {
        let socket = ControlSocket::bind(&options.control_socket)?;
        let (metrics, readiness) = (Metrics::new(), Readiness::default());
        let port = u16::try_from(options.healthz_port).ok().filter(|&port| port > 0);
        let health = port
            .map(|port| {
                let listener = health::bind(options.healthz_ip, port)?;
                info!(address = %options.healthz_ip, port, "serving /healthz, /readyz and /metrics");
                Ok(health::serve(listener, readiness.clone(), metrics.clone()))
            })
            .transpose()?;
        let (sender, requests) = channel(REQUESTS);
        let (kind, place) = match &options.store {
            Store::Etcd => ("etcd", options.shown_endpoints()),
            Store::File(directory) => ("file", directory.display().to_string()),
            Store::Kube => ("kube", options.shown_cluster()),
        };
        let base = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: Some(Timestamp::now()),
            store: status::Store { kind: kind.to_owned(), place, ..status::Store::default() },
            ..Status::default()
        };
        metrics.ready(false);
        metrics.log_lines_lost(super::log::lost_lines);
        let systemd = Arc::new(Systemd::from_env());
        let keeper = FdStore::from_env(Arc::clone(&systemd))
            .map(|store| Arc::new(ServiceManager(store)) as Arc<dyn DescriptorStore>);
        let tunnels = TunnelContext { keeper, ..TunnelContext::default() };
        let meters = tunnels.meters.clone();
        metrics.tunnels(Box::new(move || tunnel_stats::figures(&meters)));
        let probes = ProbeHub::default();
        metrics.probes(Box::new({
            let probes = probes.clone();
            move || probes.figures()
        }));
        let cni_config = options.cni_conf_from.clone().zip(options.cni_conf_to.clone());
        let cni_config = cni_config.map(|(from, to)| CniConfig::start(from, to));
        let observer = Arc::new(Self {
            tunnels,
            ipsec: KeyRing::default(),
            probes: probes.clone(),
            store: Arc::new(StoreHealth::new(metrics.clone(), readiness.clone())),
            metrics,
            readiness,
            systemd,
            cni_config,
            kube: Mutex::default(),
            base: Mutex::new(base),
            figures: Mutex::default(),
            series: Mutex::default(),
            in_operation: Mutex::default(),
        });
        let control = socket.serve(sender);
        tokio::spawn(Arc::clone(&observer).answer(requests));
        let servers = Servers { observer: Arc::clone(&observer), health, _control: control };
        Ok((observer, servers))
    }

    /// Answers requests, each on its own, so that none waits for another.
    async fn answer(self: Arc<Self>, mut requests: Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Status(answer) => {
                    let observer = Arc::clone(&self);
                    // The receiver is gone if the client is.
                    tokio::spawn(async move { answer.send(observer.status().await) });
                }
                Request::Swap(order, asker, answer, attended) => {
                    let swaps = lock(&self.in_operation).as_ref().map(|node| node.swaps.clone());
                    let refused = match swaps {
                        // If the node starts over, so that nobody listens, the answer's end says so.
                        Some(swaps) => {
                            swaps.send((order, asker, answer, attended)).err().map(|error| error.0.2)
                        }
                        None => Some(answer),
                    };
                    if let Some(answer) = refused {
                        let starting = "the daemon is still starting: try again in a moment";
                        let _ = answer.send(Err(starting.to_owned()));
                    }
                }
            }
        }
    }

    /// From now on there are peers and a kernel to ask about; with `None` no longer.
    pub(super) fn operates(&self, node: Option<InOperation>) {
        *lock(&self.in_operation) = node;
    }

    /// How things stand, with all peers. The kernel's side is as it was when it was heard of last, if it takes too long to ask.
    async fn status(&self) -> Status {
        let node = lock(&self.in_operation).clone();
        let Some(node) = node else { return self.summary() };
        let mut peers: HashMap<PeerId, PeerReport> = HashMap::new();
        let asked = async {
            Ok::<_, flannel_datapath::DatapathError>((
                node.datapath.report().await?,
                node.datapath.peers().await?,
            ))
        };
        if let Ok(Ok((report, reports))) = timeout(KERNEL_TIME, asked).await {
            self.datapath(&report);
            peers = reports;
        }
        self.firewall(node.firewall.status());
        let mut status = self.summary();
        let coordinator = lock(&node.coordinator);
        status.peers = coordinator.peers(&peers);
        status.change = coordinator.change_status();
        status.config = Some(coordinator.config_status());
        drop(coordinator);
        status
    }

    /// Waits for something at the start, and lets the service manager know meanwhile that we are alive.
    pub(super) async fn alive_during<T>(&self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = std::pin::pin!(awaited);
        let mut watchdog = self.next_watchdog();
        loop {
            tokio::select! {
                outcome = &mut awaited => return outcome,
                () = sleep_until(watchdog) => watchdog = self.alive(),
            }
        }
    }

    /// When the service manager has to hear that we are alive.
    pub(super) fn next_watchdog(&self) -> Instant {
        Instant::now() + self.systemd.watchdog_interval().unwrap_or(NEVER)
    }

    /// Says that we are alive; answers when to say so again.
    pub(super) fn alive(&self) -> Instant {
        self.systemd.watchdog();
        self.next_watchdog()
    }

    /// The configuration is looked at again.
    pub(super) fn reloading(&self) {
        self.systemd.reloading();
    }

    /// The configuration has been looked at again.
    pub(super) fn reloaded(&self) {
        self.systemd.ready();
    }

    /// What the start waits for, in words; empty: nothing any more.
    pub(super) fn waits_for(&self, reason: String) {
        self.readiness.trouble(Some(reason).filter(|reason| !reason.is_empty()));
    }

    /// Which cluster it is, as far as that is known by now.
    pub(super) fn cluster(&self, place: Option<String>) {
        if let Some(place) = place {
            lock(&self.base).store.place = place;
        }
    }

    /// Who says in Kubernetes that the node is ready.
    pub(super) fn tells_when_ready(&self, kube: Arc<KubeNode>) {
        // A node that starts over stays ready meanwhile.
        if self.readiness.is_ready() {
            kube.set_ready();
        }
        *lock(&self.kube) = Some(kube);
    }

    /// A step towards readiness is done, or has to be done again.
    pub(super) fn step(&self, step: Step, done: bool) {
        if !done {
            self.readiness.undone(step);
            self.metrics.ready(false);
        } else if self.readiness.done(step) {
            self.metrics.ready(true);
            self.systemd.ready();
            if let Some(cni_config) = &self.cni_config {
                cni_config.node_is_ready();
            }
            if let Some(kube) = &*lock(&self.kube) {
                kube.set_ready();
            }
        }
    }

    /// What the node is ready without, and why; none: it has that.
    pub(super) fn lacks(&self, lack: Lack, why: Option<String>) {
        self.readiness.lacks(lack, why);
    }

    /// The node and its cluster.
    pub(super) fn node(&self, external: &External, config: &NetworkConfig) {
        let addresses = |v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>| {
            v4.map(Into::into).into_iter().chain(v6.map(Into::into)).collect()
        };
        lock(&self.base).node = Some(status::Node {
            interface: external.name.clone(),
            mtu: external.mtu,
            addresses: addresses(external.ipv4, external.ipv6),
            public_addresses: addresses(external.public_ipv4, external.public_ipv6),
        });
        lock(&self.base).network = Some(status::Network {
            ipv4: config.network.filter(|_| config.enable_ipv4).map(Into::into),
            ipv6: config.ipv6_network.filter(|_| config.enable_ipv6).map(Into::into),
        });
    }

    /// The plugin, as far as its file says.
    pub(super) fn artifact(&self, artifact: &Artifact) {
        let mut base = lock(&self.base);
        let plugin = base.plugin.get_or_insert_default();
        plugin.source = artifact.source().to_string();
        artifact.digest().clone_into(&mut plugin.digest);
        plugin.size = artifact.size() as u64;
        let provenance = artifact.provenance();
        plugin.signers = provenance.signers.iter().map(ToString::to_string).collect();
        plugin.moved.clone_from(&provenance.moved);
    }

    /// The plugin has said who it is.
    pub(super) fn registered(&self, registered: &Registration) {
        let mut base = lock(&self.base);
        let plugin = base.plugin.get_or_insert_default();
        plugin.name.clone_from(&registered.name);
        plugin.version.clone_from(&registered.version);
        self.metrics.plugin(&registered.name, &registered.version, &plugin.digest);
    }

    /// A plugin serves from now on: what it counts is shown, and nothing of any other. The same component goes on with its counters, where
    /// the node starts over, say.
    pub(super) fn serves(&self, name: &str, digest: &str, series: &PluginSeries) {
        let now = (series.clone(), digest.to_owned());
        let before = lock(&self.series).replace(now);
        if let Some((former, _)) = before.filter(|(_, its)| its == digest) {
            series.go_on_from(&former);
        }
        let (name, series) = (name.to_owned(), series.clone());
        self.metrics.policy(Box::new(move || policy_figures::figures(&name, &series)));
    }

    /// Calls of the plugin have ended; it has so much memory now.
    pub(super) fn calls(&self, records: &Records) {
        let mut base = lock(&self.base);
        let plugin = base.plugin.get_or_insert_default();
        for record in &records.calls {
            *plugin.calls.entry(record.function.to_owned()).or_default() += 1;
            plugin.failures += u64::from(record.outcome != Outcome::Ok);
            self.metrics.plugin_call(record.function, record.took, outcome(record.outcome));
        }
        self.metrics.plugin_memory(records.memory as u64);
        self.metrics.plugin_lines_suppressed(records.suppressed_lines);
        for CloudRecord { provider, operation, status, took, attempts } in &records.clouds {
            let outcome = match status {
                None => CloudOutcome::NoAnswer,
                Some(200..400) => CloudOutcome::Ok,
                Some(_) => CloudOutcome::Refused,
            };
            self.metrics.cloud_request(provider, operation, *took, outcome, *attempts);
        }
    }

    /// How the policy's last look at state outside of the kernel ended.
    pub(super) fn ticked(&self, failure: Option<&PluginError>) {
        self.metrics.plugin_tick_failing(failure.is_some());
        let mut base = lock(&self.base);
        let plugin = base.plugin.get_or_insert_default();
        plugin.trouble = failure.map(|failure| status::Trouble {
            since: plugin.trouble.as_ref().map_or_else(Timestamp::now, |trouble| trouble.since),
            reason: failure.cause.to_string(),
        });
    }

    /// A call of the plugin has failed.
    pub(super) fn failed(&self, failure: &PluginError) {
        lock(&self.base).plugin.get_or_insert_default().last_error = Some(failure.to_string());
    }

    /// The plugin was started afresh.
    pub(super) fn restarted(&self) {
        lock(&self.base).plugin.get_or_insert_default().restarts += 1;
        self.metrics.plugin_restarted();
    }

    /// A swap of the plugin has ended.
    pub(super) fn swapped(&self, outcome: &Result<Swapped, String>) {
        self.metrics.plugin_swap(outcome.is_ok());
        let mut base = lock(&self.base);
        let swaps = &mut base.plugin.get_or_insert_default().swaps;
        match outcome {
            Ok(_) => swaps.done += 1,
            Err(_) => swaps.refused += 1,
        }
        swaps.last = Some(Timestamp::now());
        swaps.refusal = outcome.as_ref().err().cloned();
        drop(base);
        if outcome.is_ok() {
            self.ticked(None);
        }
    }

    /// Whether the plugin is asked only when something has changed.
    pub(super) fn suspended(&self, suspended: bool) {
        self.metrics.plugin_suspended(suspended);
        lock(&self.base).plugin.get_or_insert_default().suspended = suspended;
    }

    /// How many peers there are, how many of them the policy cannot serve, and how many wait for the plugin.
    pub(super) fn peers(&self, all: usize, rejected: usize, deferred: usize) {
        self.metrics.peers(all);
        self.metrics.peers_rejected(rejected);
        self.metrics.peers_deferred(deferred);
    }

    /// How a change of the backend stands, and what the store has as the network config.
    pub(super) fn change(&self, change: Option<status::Change>, config: status::Config) {
        let (failed, moved) =
            change.as_ref().map_or((false, 0), |change| (change.failure.is_some(), change.moved));
        self.metrics.backend_change(change.is_some(), failed, moved, config.refused.is_some());
        let mut base = lock(&self.base);
        base.change = change;
        base.config = Some(config);
    }

    /// The node's lease, and its pods' MTU.
    pub(super) fn lease(&self, lease: &Lease, mtu: u32) {
        self.metrics.lease_expires(lease.expires);
        // The store has it.
        for key in ipsec_keys(&lease.attributes) {
            self.ipsec.note_stored(key);
        }
        lock(&self.base).lease = Some(status::Lease {
            subnets: lease.subnets.iter().collect(),
            expires: lease.expires.map(Into::into),
            reserved: lease.expires.is_none(),
            mtu,
        });
    }

    /// How the kernel's side stands.
    pub(super) fn datapath(&self, report: &Report) {
        let mut figures = lock(&self.figures);
        let (now, before) = (report.figures, *figures);
        if now.commits < before.commits || now.messages < before.messages || now.resyncs < before.resyncs {
            // Somebody else was asked after this one, and has told already.
            return;
        }
        for (kind, figures) in &report.kinds {
            self.metrics.entries(kind.label(), figures.desired, figures.failed, figures.waiting);
        }
        let took = (now.batch_time + now.resync_time).saturating_sub(before.batch_time + before.resync_time);
        let messages = now.messages.saturating_sub(before.messages);
        if messages > 0 || now.commits != before.commits {
            self.metrics.reconciled(took, messages, report.failures.len());
        }
        (before.resyncs..now.resyncs).for_each(|_| self.metrics.resync());
        self.metrics.notifications(now.notifications.saturating_sub(before.notifications));
        *figures = now;
        drop(figures);
        lock(&self.base).datapath = Some(status::Datapath {
            devices: report
                .devices
                .iter()
                .map(|(name, link)| status::Device {
                    name: name.to_string(),
                    index: link.index,
                    mac: link.mac.map(|mac| mac.to_string()),
                    mtu: link.mtu,
                    up: link.up,
                })
                .collect(),
            device_error: report.device_failure.clone(),
            entries: status::Entries {
                desired: report.entries,
                waiting: report.waiting,
                failed: report.failures.len(),
            },
            resyncs: now.resyncs,
            messages: now.messages,
            nexthops: report.nexthops,
            tunnels: report.tunnels.iter().map(tunnel_stats::tunnel).collect(),
        });
    }

    /// A datapath begins to count anew.
    pub(super) fn new_datapath(&self) {
        *lock(&self.figures) = Stats::default();
    }

    /// How the firewall stands.
    pub(super) fn firewall(&self, firewall: Option<status::Firewall>) {
        if let Some(firewall) = &firewall {
            self.metrics.firewall(firewall.ok, firewall.repairs);
            if let Some(sources) = &firewall.sources {
                self.metrics.tunnel_sources(sources.in_place, sources.dropped);
            }
        }
        lock(&self.base).firewall = firewall;
    }

    /// How things stand, without peers.
    fn summary(&self) -> Status {
        let missing = self.readiness.missing().into_iter().map(|step| step.missing().to_owned()).collect();
        let lacking = self.readiness.lacking();
        let (ok, last_error) = self.store.state();
        let base = lock(&self.base).clone();
        Status {
            time: Timestamp::now(),
            ready: status::Ready { ready: self.readiness.is_ready(), missing, lacking },
            store: status::Store { ok, last_error, ..base.store.clone() },
            probes: self.probes.status(),
            ..base
        }
    }
}

fn outcome(outcome: Outcome) -> CallOutcome {
    match outcome {
        Outcome::Ok => CallOutcome::Ok,
        Outcome::Refused => CallOutcome::Refused,
        Outcome::Error => CallOutcome::Error,
        Outcome::Trap => CallOutcome::Trap,
        Outcome::TimedOut => CallOutcome::Timeout,
        Outcome::OutOfMemory => CallOutcome::OutOfMemory,
    }
}
