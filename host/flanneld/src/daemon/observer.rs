//! Who tells the world how the daemon is doing: metrics, readiness, the service manager, and the answers on the control socket.
//! Hears of everything from the loop, and never asks back.

use std::sync::Arc;
use std::time::Duration;

use flannel_base::Timestamp;
use flannel_datapath::{Figures, Keeper, Report, TunnelContext};
use flannel_model::entry::Kind;
use flannel_model::lease::Lease;
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{Artifact, CloudRecord, Outcome, PluginError, Registered};
use flannel_telemetry::control::{ControlServer, ControlSocket, Request, Swapped};
use flannel_telemetry::health::{self, HealthServer};
use flannel_telemetry::{
    CallOutcome, CloudOutcome, EntryKind, FdStore, Metrics, ObserveError, Readiness, Status, Step, Systemd,
    status,
};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::cli::{Options, Store};
use crate::node::external::External;

use super::carried;
use super::keeper::ServiceManager;
use super::observed_store::StoreHealth;
use super::policy::Records;

/// Requests that may wait for the loop.
const REQUESTS: usize = 16;
/// A wait that does not end.
const NEVER: Duration = Duration::from_hours(8760);

/// The observer.
pub(super) struct Observer {
    /// For Prometheus.
    pub metrics: Metrics,
    /// What `flanneld status` wants to know.
    pub requests: Receiver<Request>,
    /// How the lease store does.
    pub store: Arc<StoreHealth>,
    /// What tunnels have to do with the rest of the daemon.
    pub tunnels: TunnelContext,
    readiness: Readiness,
    systemd: Arc<Systemd>,
    /// Without what changes with time, and without peers.
    base: Status,
    figures: Figures,
    health: Option<HealthServer>,
    _control: ControlServer,
}

impl Observer {
    /// Takes the control socket, which only one daemon of a node can have, and serves the health endpoints, if they are wanted.
    pub(super) fn start(options: &Options) -> Result<Self, ObserveError> {
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
            Store::Etcd => ("etcd", options.etcd_endpoints.join(", ")),
            Store::File(directory) => ("file", directory.display().to_string()),
        };
        let base = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: Some(Timestamp::now()),
            store: status::Store { kind: kind.to_owned(), place, ..status::Store::default() },
            ..Status::default()
        };
        metrics.ready(false);
        let systemd = Arc::new(Systemd::from_env());
        let keeper = FdStore::from_env(Arc::clone(&systemd))
            .map(|store| Arc::new(ServiceManager(store)) as Arc<dyn Keeper>);
        let tunnels = TunnelContext { keeper, ..TunnelContext::default() };
        let meters = tunnels.meters.clone();
        metrics.tunnels(Box::new(move || carried::figures(&meters)));
        Ok(Self {
            tunnels,
            store: Arc::new(StoreHealth::new(metrics.clone())),
            metrics,
            requests,
            readiness,
            systemd,
            base,
            figures: Figures::default(),
            health,
            _control: socket.serve(sender),
        })
    }

    /// Waits for something at the start, and answers meanwhile.
    pub(super) async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = std::pin::pin!(awaited);
        let mut watchdog = self.next_watchdog();
        loop {
            tokio::select! {
                outcome = &mut awaited => return outcome,
                Some(request) = self.requests.recv() => match request {
                    // Whoever asked may have gone.
                    Request::Status(answer) => drop(answer.send(self.status())),
                    Request::Swap(_, answer) => {
                        drop(answer.send(Err("the daemon is still starting: try again in a moment".to_owned())));
                    }
                },
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

    /// Ends in order: says so, and lets answers that are under way finish.
    pub(super) async fn stop(&mut self) {
        self.systemd.stopping();
        if let Some(health) = self.health.take() {
            health.stop().await;
        }
    }

    /// A step towards readiness is done.
    pub(super) fn done(&mut self, step: Step) {
        if self.readiness.done(step) {
            self.metrics.ready(true);
            self.systemd.ready();
        }
    }

    /// The node and its cluster.
    pub(super) fn node(&mut self, external: &External, config: &NetworkConfig) {
        let addresses = |v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>| {
            v4.map(Into::into).into_iter().chain(v6.map(Into::into)).collect()
        };
        self.base.node = Some(status::Node {
            interface: external.name.clone(),
            mtu: external.mtu,
            addresses: addresses(external.ipv4, external.ipv6),
            public_addresses: addresses(external.public_ipv4, external.public_ipv6),
        });
        self.base.network = Some(status::Network {
            ipv4: config.network.filter(|_| config.enable_ipv4).map(Into::into),
            ipv6: config.ipv6_network.filter(|_| config.enable_ipv6).map(Into::into),
        });
    }

    /// The plugin, as far as its file says.
    pub(super) fn artifact(&mut self, artifact: &Artifact) {
        let plugin = self.base.plugin.get_or_insert_default();
        plugin.source = artifact.source().to_string();
        artifact.digest().clone_into(&mut plugin.digest);
        plugin.size = artifact.size() as u64;
    }

    /// The plugin has said who it is.
    pub(super) fn registered(&mut self, registered: &Registered) {
        let plugin = self.base.plugin.get_or_insert_default();
        plugin.name.clone_from(&registered.name);
        plugin.version.clone_from(&registered.version);
        self.metrics.plugin(&registered.name, &registered.version, &plugin.digest);
    }

    /// Calls of the plugin have ended; it has so much memory now.
    pub(super) fn calls(&mut self, records: &Records) {
        let plugin = self.base.plugin.get_or_insert_default();
        for record in &records.calls {
            *plugin.calls.entry(record.function.to_owned()).or_default() += 1;
            plugin.failures += u64::from(record.outcome != Outcome::Ok);
            self.metrics.plugin_call(record.function, record.took, outcome(record.outcome));
        }
        self.metrics.plugin_memory(records.memory as u64);
        for CloudRecord { provider, operation, status, took, attempts } in &records.clouds {
            let outcome = match status {
                None => CloudOutcome::NoAnswer,
                Some(200..400) => CloudOutcome::Ok,
                Some(_) => CloudOutcome::Refused,
            };
            self.metrics.cloud_request(provider.name(), operation, *took, outcome, *attempts);
        }
    }

    /// How the policy's last look at state outside of the kernel ended.
    pub(super) fn ticked(&mut self, failure: Option<&PluginError>) {
        self.metrics.plugin_tick_failing(failure.is_some());
        let plugin = self.base.plugin.get_or_insert_default();
        plugin.trouble = failure.map(|failure| status::Trouble {
            since: plugin.trouble.as_ref().map_or_else(Timestamp::now, |trouble| trouble.since),
            reason: failure.cause.to_string(),
        });
    }

    /// A call of the plugin has failed.
    pub(super) fn failed(&mut self, failure: &PluginError) {
        self.base.plugin.get_or_insert_default().last_error = Some(failure.to_string());
    }

    /// The plugin was started afresh.
    pub(super) fn restarted(&mut self) {
        self.base.plugin.get_or_insert_default().restarts += 1;
        self.metrics.plugin_restarted();
    }

    /// A swap of the plugin has ended.
    pub(super) fn swapped(&mut self, outcome: &Result<Swapped, String>) {
        self.metrics.plugin_swap(outcome.is_ok());
        let swaps = &mut self.base.plugin.get_or_insert_default().swaps;
        match outcome {
            Ok(_) => swaps.done += 1,
            Err(_) => swaps.refused += 1,
        }
        swaps.last = Some(Timestamp::now());
        swaps.refusal = outcome.as_ref().err().cloned();
        if outcome.is_ok() {
            self.ticked(None);
        }
    }

    /// Whether the plugin is asked only when something has changed.
    pub(super) fn suspended(&mut self, suspended: bool) {
        self.metrics.plugin_suspended(suspended);
        self.base.plugin.get_or_insert_default().suspended = suspended;
    }

    /// How many peers there are, how many of them the policy cannot serve, and how many wait for the plugin.
    pub(super) fn peers(&self, all: usize, rejected: usize, deferred: usize) {
        self.metrics.peers(all);
        self.metrics.peers_rejected(rejected);
        self.metrics.peers_deferred(deferred);
    }

    /// The node's lease, and its pods' MTU.
    pub(super) fn lease(&mut self, lease: &Lease, mtu: u32) {
        self.metrics.lease_expires(lease.expires);
        self.base.lease = Some(status::Lease {
            subnets: lease.subnets.iter().collect(),
            expires: lease.expires.map(Into::into),
            reserved: lease.expires.is_none(),
            mtu,
        });
    }

    /// How the kernel's side stands.
    pub(super) fn datapath(&mut self, report: &Report) {
        let (now, before) = (report.figures, self.figures);
        for (kind, figures) in &report.kinds {
            let kind = match kind {
                Kind::Route => EntryKind::Route,
                Kind::Neighbour => EntryKind::Neighbour,
                Kind::Fdb => EntryKind::Fdb,
                Kind::WireguardPeer => EntryKind::WireguardPeer,
                Kind::TunnelPeer => EntryKind::TunnelPeer,
            };
            self.metrics.entries(kind, figures.desired, figures.failed, figures.waiting);
        }
        let took = (now.batch_time + now.resync_time).saturating_sub(before.batch_time + before.resync_time);
        let messages = now.messages.saturating_sub(before.messages);
        if messages > 0 || now.commits != before.commits {
            self.metrics.reconciled(took, messages, report.failures.len());
        }
        (before.resyncs..now.resyncs).for_each(|_| self.metrics.resync());
        self.metrics.notifications(now.notifications.saturating_sub(before.notifications));
        self.figures = now;
        self.base.datapath = Some(status::Datapath {
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
            tunnels: report.tunnels.iter().map(carried::tunnel).collect(),
        });
    }

    /// A datapath begins to count anew.
    pub(super) fn new_datapath(&mut self) {
        self.figures = Figures::default();
    }

    /// How the firewall stands.
    pub(super) fn firewall(&mut self, firewall: Option<status::Firewall>) {
        if let Some(firewall) = &firewall {
            self.metrics.firewall(firewall.ok, firewall.repairs);
        }
        self.base.firewall = firewall;
    }

    /// How things stand, without peers.
    pub(super) fn status(&self) -> Status {
        let missing = self.readiness.missing().into_iter().map(|step| step.missing().to_owned()).collect();
        let (ok, last_error) = self.store.state();
        Status {
            time: Timestamp::now(),
            ready: status::Ready { ready: self.readiness.is_ready(), missing },
            store: status::Store { ok, last_error, ..self.base.store.clone() },
            ..self.base.clone()
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
