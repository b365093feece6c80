//! Figures for Prometheus. `docs/metrics.md` has them all, with what to watch for; a test holds it to that.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use flannel_base::Timestamp;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as GaugeOf;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::kubernetes::{self, Kubernetes};
use super::policy::{self, PolicyCollector};
use super::probe::{self, ProbeCollector};
use super::process::Process;
use super::tunnel::{Source, Tunnels};

pub use super::kubernetes::KubernetesFigures;
pub use super::policy::{PolicyFamily, PolicyFigures, PolicySeries};
pub use super::probe::ProbeFigures;
pub use super::tunnel::TunnelFigures;

/// What [`Metrics::encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds of the histograms, in seconds: from a call that does next to nothing to one that has run into its time limit.
const BUCKETS: [f64; 15] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

type Gauge = GaugeOf<u64, AtomicU64>;
/// Names that are known when this is compiled: these are the daemon's, and not a plugin's.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;
type CloudLabels<const N: usize> = [(&'static str, String); N];

/// A metric that is absent where it does not apply.
#[derive(Clone, Debug, Default)]
struct Optional<M> {
    metric: M,
    present: Arc<AtomicBool>,
}

impl<M> Optional<M> {
    fn present(&self) -> &M {
        self.present.store(true, Ordering::Relaxed);
        &self.metric
    }

    fn absent(&self) {
        self.present.store(false, Ordering::Relaxed);
    }
}

impl<M: EncodeMetric> EncodeMetric for Optional<M> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.metric.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.metric.metric_type()
    }

    fn is_empty(&self) -> bool {
        !self.present.load(Ordering::Relaxed)
    }
}

/// A count that is kept elsewhere, and asked for at each scrape.
#[derive(Clone, Debug, Default)]
struct Elsewhere(Arc<OnceLock<fn() -> u64>>);

impl EncodeMetric for Elsewhere {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        let count = self.0.get().map_or(0, |count| count());
        ConstCounter::new(count).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// How a call of the plugin ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It did what it was asked for.
    Ok,
    /// The host refused an entry that it declared.
    Refused,
    /// It answered with an error.
    Error,
    /// It trapped.
    Trap,
    /// It took too long.
    Timeout,
    /// It wanted more memory than it may have.
    OutOfMemory,
}

impl CallOutcome {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Error => "error",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::OutOfMemory => "out_of_memory",
        }
    }
}

/// How a request to a cloud ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudOutcome {
    /// It was carried out.
    Ok,
    /// The cloud did not want to carry it out.
    Refused,
    /// Nobody knows: there was no answer.
    NoAnswer,
}

impl CloudOutcome {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::NoAnswer => "no_answer",
        }
    }
}

/// All figures. A clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    #[cfg(test)]
    names: Vec<String>,
    plugin_info: Family<[(&'static str, String); 3], Gauge>,
    plugin_calls: Family<Labels<2>, Counter>,
    plugin_call_duration: Histograms,
    plugin_restarts: Counter,
    plugin_lines_suppressed: Counter,
    plugin_swaps: Family<Labels<1>, Counter>,
    plugin_suspended: Gauge,
    plugin_tick_failing: Gauge,
    plugin_memory: Gauge,
    cloud_requests: Family<CloudLabels<3>, Counter>,
    cloud_retries: Family<CloudLabels<1>, Counter>,
    cloud_request_duration: Family<CloudLabels<1>, Histogram, fn() -> Histogram>,
    lease_changes: Counter,
    lease_expires: Optional<Gauge>,
    peers: Gauge,
    peers_rejected: Gauge,
    peers_deferred: Gauge,
    backend_change: Gauge,
    backend_change_failed: Gauge,
    backend_change_moved: Gauge,
    config_refused: Gauge,
    entries: Family<Labels<1>, Gauge>,
    entries_failed: Family<Labels<1>, Gauge>,
    entries_waiting: Family<Labels<1>, Gauge>,
    reconcile_duration: Histogram,
    resyncs: Counter,
    netlink_messages: Counter,
    netlink_errors: Counter,
    netlink_notifications: Counter,
    store_operations: Family<Labels<2>, Counter>,
    store_operation_duration: Histograms,
    firewall_ok: Optional<Gauge>,
    firewall_repairs: Optional<Counter>,
    tunnel_sources_ok: Optional<Gauge>,
    tunnel_strangers: Optional<Counter>,
    ready: Gauge,
    log_lines_lost: Elsewhere,
    tunnels: Tunnels,
    kubernetes: Kubernetes,
    policy: PolicyCollector,
    probes: ProbeCollector,
}

/// Makes the registry, and keeps the names for the test of the documentation.
struct Registrar<'a> {
    registry: &'a mut Registry,
    #[cfg(test)]
    names: Vec<String>,
}

impl Registrar<'_> {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        #[cfg(test)]
        self.names.push(format!("flanneld_{name}"));
        self.registry.register(name, help, metric.clone());
        metric
    }

    fn with_unit<M: Metric + Clone>(&mut self, name: &str, unit: Unit, help: &str, metric: M) -> M {
        #[cfg(test)]
        self.names.push(format!("flanneld_{name}_{}", unit.as_str()));
        self.registry.register_with_unit(name, help, unit, metric.clone());
        metric
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[allow(clippy::too_many_lines, reason = "a list of all metrics")]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let (tunnels, kubernetes, policy, probes) = collect(&mut registry);
        let ours = registry.sub_registry_with_prefix("flanneld");
        let mut r = Registrar {
            registry: ours,
            #[cfg(test)]
            names: Vec::new(),
        };
        let build_info: Family<Labels<1>, Gauge> = r.add("build_info", "This flanneld", Family::default());
        build_info.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        Self(Arc::new(Inner {
            plugin_info: r.add("plugin_info", "The plugin in use", Family::default()),
            plugin_calls: r.add("plugin_calls", "Calls of the plugin, by how they ended", Family::default()),
            plugin_call_duration: r.with_unit(
                "plugin_call_duration",
                Unit::Seconds,
                "How long calls of the plugin took",
                Family::new_with_constructor(histogram),
            ),
            plugin_restarts: r.add(
                "plugin_restarts",
                "Fresh instances of the plugin made after one had failed",
                Counter::default(),
            ),
            plugin_lines_suppressed: r.add(
                "plugin_lines_suppressed",
                "Lines of the log that the plugin wanted to write and that were too many",
                Counter::default(),
            ),
            plugin_swaps: r.add(
                "plugin_swaps",
                "Swaps of the plugin in operation, by how they ended",
                Family::default(),
            ),
            plugin_suspended: r.add(
                "plugin_suspended",
                "Whether the plugin has failed so often that it is asked only when something has changed",
                Gauge::default(),
            ),
            plugin_tick_failing: r.add(
                "plugin_tick_failing",
                "Whether the plugin could not do its work outside of the kernel the last time",
                Gauge::default(),
            ),
            cloud_requests: r.add(
                "cloud_requests",
                "Requests to clouds and endpoints on behalf of the plugin, by how they ended",
                Family::default(),
            ),
            cloud_retries: r.add(
                "cloud_retries",
                "How often requests to clouds and endpoints were sent again",
                Family::default(),
            ),
            cloud_request_duration: r.with_unit(
                "cloud_request_duration",
                Unit::Seconds,
                "How long requests to clouds and endpoints took, with all repetitions",
                Family::new_with_constructor(slow_histogram),
            ),
            plugin_memory: r.with_unit(
                "plugin_memory",
                Unit::Bytes,
                "Memory of the plugin's instance",
                Gauge::default(),
            ),
            lease_changes: r.add("lease_changes", "Lease changes of peers", Counter::default()),
            lease_expires: r.with_unit(
                "lease_expires_timestamp",
                Unit::Seconds,
                "When this node's lease ends, since 1970; absent for a reservation",
                Optional::default(),
            ),
            peers: r.add("peers", "Peers with a lease", Gauge::default()),
            peers_rejected: r.add(
                "peers_rejected",
                "Leases that are not believed, and peers that the plugin cannot serve",
                Gauge::default(),
            ),
            peers_deferred: r.add("peers_deferred", "Peers that wait for the plugin", Gauge::default()),
            backend_change: r.add(
                "backend_change",
                "Whether the backend is being changed",
                Gauge::default(),
            ),
            backend_change_failed: r.add(
                "backend_change_failed",
                "Whether the new backend does not start on this node",
                Gauge::default(),
            ),
            backend_change_moved: r.add(
                "backend_change_moved_peers",
                "Peers that are reached by the new backend",
                Gauge::default(),
            ),
            config_refused: r.add(
                "config_refused",
                "Whether the network config in the store is not taken up",
                Gauge::default(),
            ),
            entries: r.add("entries", "Entries that should be in the kernel", Family::default()),
            entries_failed: r.add(
                "entries_failed",
                "Entries that the kernel refused and that are tried again",
                Family::default(),
            ),
            entries_waiting: r.add(
                "entries_waiting",
                "Entries that wait for their device",
                Family::default(),
            ),
            reconcile_duration: r.with_unit(
                "reconcile_duration",
                Unit::Seconds,
                "How long it took to make the kernel as it should be",
                histogram(),
            ),
            resyncs: r.add("resyncs", "Looks at everything in the kernel", Counter::default()),
            netlink_messages: r.add(
                "netlink_messages",
                "Netlink messages sent to change the kernel",
                Counter::default(),
            ),
            netlink_errors: r.add(
                "netlink_errors",
                "Netlink messages that the kernel answered with an error",
                Counter::default(),
            ),
            netlink_notifications: r.add(
                "netlink_notifications",
                "Notifications by the kernel about what others changed",
                Counter::default(),
            ),
            store_operations: r.add(
                "store_operations",
                "Operations on the lease store, by how they ended",
                Family::default(),
            ),
            store_operation_duration: r.with_unit(
                "store_operation_duration",
                Unit::Seconds,
                "How long operations on the lease store took",
                Family::new_with_constructor(histogram),
            ),
            firewall_ok: r.add(
                "firewall_ok",
                "Whether the firewall rules are in place; absent without any",
                Optional::default(),
            ),
            firewall_repairs: r.add(
                "firewall_repairs",
                "Times that firewall rules were gone or changed and were put back",
                Optional::default(),
            ),
            tunnel_sources_ok: r.add(
                "tunnel_sources_ok",
                "Whether packets of tunnels are let in only from addresses that leases publish; absent where that is not wanted",
                Optional::default(),
            ),
            tunnel_strangers: r.add(
                "tunnel_strangers_packets",
                "Packets of tunnels that were dropped because no lease publishes the address that they came from",
                Optional::default(),
            ),
            ready: r.add("ready", "Whether the node is ready, as /readyz has it", Gauge::default()),
            log_lines_lost: r.add(
                "log_lines_lost",
                "Lines of the log that could not be written",
                Elsewhere::default(),
            ),
            #[cfg(test)]
            names: r.names,
            tunnels,
            kubernetes,
            policy,
            probes,
            registry,
        }))
    }

    /// Another plugin is in use.
    pub fn plugin(&self, name: &str, version: &str, digest: &str) {
        self.0.plugin_info.clear();
        let labels = [("name", name), ("version", version), ("digest", digest)];
        self.0.plugin_info.get_or_create(&labels.map(|(key, value)| (key, value.to_owned()))).set(1);
    }

    /// The plugin was called.
    pub fn plugin_call(&self, function: &'static str, took: Duration, outcome: CallOutcome) {
        let labels = [("function", function), ("outcome", outcome.as_str())];
        self.0.plugin_calls.get_or_create(&labels).inc();
        let histogram = self.0.plugin_call_duration.get_or_create(&[("function", function)]);
        histogram.observe(took.as_secs_f64());
    }

    /// A fresh instance took the place of one that had failed.
    pub fn plugin_restarted(&self) {
        self.0.plugin_restarts.inc();
    }

    /// So many lines of the plugin's were not written into the log.
    pub fn plugin_lines_suppressed(&self, lines: u64) {
        self.0.plugin_lines_suppressed.inc_by(lines);
    }

    /// A swap has ended.
    pub fn plugin_swap(&self, done: bool) {
        let outcome = if done { "done" } else { "refused" };
        self.0.plugin_swaps.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Whether the plugin is asked only when something has changed.
    pub fn plugin_suspended(&self, suspended: bool) {
        self.0.plugin_suspended.set(u64::from(suspended));
    }

    /// Whether the plugin's last tick failed.
    pub fn plugin_tick_failing(&self, failing: bool) {
        self.0.plugin_tick_failing.set(u64::from(failing));
    }

    /// A request to a cloud, or to an endpoint (`http:NAME`), has ended. It was sent so often; 0: not known.
    pub fn cloud_request(
        &self,
        provider: &str,
        operation: &str,
        took: Duration,
        outcome: CloudOutcome,
        attempts: u32,
    ) {
        let labels = [
            ("provider", provider.to_owned()),
            ("operation", operation.to_owned()),
            ("outcome", outcome.as_str().to_owned()),
        ];
        self.0.cloud_requests.get_or_create(&labels).inc();
        let provider = [("provider", provider.to_owned())];
        self.0.cloud_request_duration.get_or_create(&provider).observe(took.as_secs_f64());
        self.0.cloud_retries.get_or_create(&provider).inc_by(u64::from(attempts.saturating_sub(1)));
    }

    /// The memory that the plugin's instance has.
    pub fn plugin_memory(&self, bytes: u64) {
        self.0.plugin_memory.set(bytes);
    }

    /// So many leases of peers came, changed or went.
    pub fn lease_changes(&self, count: usize) {
        self.0.lease_changes.inc_by(wide(count));
    }

    /// When this node's lease ends; none for a reservation, or without a lease.
    pub fn lease_expires(&self, expires: Option<SystemTime>) {
        match expires {
            Some(time) => _ = self.0.lease_expires.present().set(Timestamp::from(time).seconds()),
            None => self.0.lease_expires.absent(),
        }
    }

    /// How many peers there are.
    pub fn peers(&self, count: usize) {
        self.0.peers.set(wide(count));
    }

    /// How many of them the plugin cannot serve.
    pub fn peers_rejected(&self, count: usize) {
        self.0.peers_rejected.set(wide(count));
    }

    /// Whether the backend is being changed, whether the new one does not start here, and how many peers are reached by it; and whether the
    /// network config in the store is not taken up.
    pub fn backend_change(&self, goes_on: bool, failed: bool, moved: usize, refused: bool) {
        self.0.backend_change.set(u64::from(goes_on));
        self.0.backend_change_failed.set(u64::from(failed));
        self.0.backend_change_moved.set(wide(moved));
        self.0.config_refused.set(u64::from(refused));
    }

    /// How many of them wait for a plugin that is broken.
    pub fn peers_deferred(&self, count: usize) {
        self.0.peers_deferred.set(wide(count));
    }

    /// How many entries of a kind should be there, and how many of them the kernel refused or wait for their device.
    pub fn entries(&self, kind: &'static str, desired: usize, failed: usize, waiting: usize) {
        let labels = [("kind", kind)];
        self.0.entries.get_or_create(&labels).set(wide(desired));
        self.0.entries_failed.get_or_create(&labels).set(wide(failed));
        self.0.entries_waiting.get_or_create(&labels).set(wide(waiting));
    }

    /// The kernel was made as it should be, by so many more messages, of which so many were refused.
    pub fn reconciled(&self, took: Duration, messages: u64, errors: usize) {
        self.0.reconcile_duration.observe(took.as_secs_f64());
        self.0.netlink_messages.inc_by(messages);
        self.0.netlink_errors.inc_by(wide(errors));
    }

    /// All of the kernel was looked at.
    pub fn resync(&self) {
        self.0.resyncs.inc();
    }

    /// So many more notifications came.
    pub fn notifications(&self, more: u64) {
        self.0.netlink_notifications.inc_by(more);
    }

    /// The lease store was asked for something.
    pub fn store_operation(&self, operation: &'static str, took: Duration, ok: bool) {
        let labels = [("operation", operation), ("outcome", if ok { "ok" } else { "error" })];
        self.0.store_operations.get_or_create(&labels).inc();
        let histogram = self.0.store_operation_duration.get_or_create(&[("operation", operation)]);
        histogram.observe(took.as_secs_f64());
    }

    /// Whether the firewall rules are in place, and how often they had to be put back since the start.
    pub fn firewall(&self, ok: bool, repairs_total: u64) {
        self.0.firewall_ok.present().set(ok.into());
        self.0.firewall_repairs.present().inner().fetch_max(repairs_total, Ordering::Relaxed);
    }

    /// Whether tunnels are open to nodes only, and how many packets of others were dropped since the start.
    pub fn tunnel_sources(&self, ok: bool, dropped_total: u64) {
        self.0.tunnel_sources_ok.present().set(ok.into());
        self.0.tunnel_strangers.present().inner().fetch_max(dropped_total, Ordering::Relaxed);
    }

    /// Whether the node is ready. The health server sets it at each scrape.
    pub fn ready(&self, ready: bool) {
        self.0.ready.set(ready.into());
    }

    /// Who knows how many lines of the log are lost. It is asked at each scrape; only the first counts.
    pub fn log_lines_lost(&self, source: fn() -> u64) {
        let _ = self.0.log_lines_lost.0.set(source);
    }

    /// Where the figures of tunnels come from. It is asked at each scrape.
    pub fn tunnels(&self, source: Source) {
        self.0.tunnels.come_from(source);
    }

    /// Where the figures of the store in Kubernetes come from. It is asked at each scrape.
    pub fn kubernetes(&self, source: kubernetes::Source) {
        self.0.kubernetes.come_from(source);
    }

    /// Where the figures of the plugin that serves come from. It is asked at each scrape, and takes the place of any other.
    pub fn policy(&self, source: policy::Source) {
        self.0.policy.come_from(source);
    }

    /// Where the figures of probes come from. It is asked at each scrape.
    pub fn probes(&self, source: probe::Source) {
        self.0.probes.come_from(source);
    }

    /// All of it as OpenMetrics text, see [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.0.registry) {
            tracing::debug!(%error, "the metrics are incomplete");
        }
        text
    }
}

/// Registers what is asked for its figures at each scrape.
fn collect(registry: &mut Registry) -> (Tunnels, Kubernetes, PolicyCollector, ProbeCollector) {
    let (tunnels, kubernetes) = (Tunnels::default(), Kubernetes::default());
    let (policy, probes) = (PolicyCollector::default(), ProbeCollector::default());
    registry.register_collector(Box::new(Process::new()));
    registry.register_collector(Box::new(tunnels.clone()));
    registry.register_collector(Box::new(kubernetes.clone()));
    registry.register_collector(Box::new(policy.clone()));
    registry.register_collector(Box::new(probes.clone()));
    (tunnels, kubernetes, policy, probes)
}

/// For what others take their time for.
fn slow_histogram() -> Histogram {
    Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Everything has happened once.
    fn used() -> Metrics {
        let metrics = Metrics::new();
        metrics.plugin("vxlan", "0.1.0", "sha256:\"\\\n");
        let took = Duration::from_millis(3);
        metrics.plugin_call("apply", took, CallOutcome::Ok);
        metrics.plugin_call("apply", took, CallOutcome::OutOfMemory);
        metrics.plugin_restarted();
        metrics.plugin_lines_suppressed(3);
        metrics.plugin_swap(true);
        metrics.plugin_suspended(false);
        metrics.plugin_tick_failing(false);
        metrics.cloud_request("aws", "DescribeRouteTables", took, CloudOutcome::Ok, 2);
        metrics.plugin_memory(1 << 20);
        metrics.lease_changes(7);
        metrics.lease_expires(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)));
        metrics.peers(3);
        metrics.peers_rejected(1);
        metrics.peers_deferred(2);
        metrics.backend_change(true, false, 3, false);
        metrics.entries("route", 3, 1, 2);
        metrics.entries("neighbour", 3, 0, 0);
        metrics.entries("fdb", 3, 0, 0);
        metrics.reconciled(took, 9, 1);
        metrics.resync();
        metrics.notifications(4);
        metrics.store_operation("renew", took, true);
        metrics.store_operation("renew", took, false);
        metrics.firewall(true, 2);
        metrics.tunnel_sources(false, 3);
        metrics.tunnels(Box::new(|| {
            let drops = vec![("no_route", 5)];
            Some(TunnelFigures {
                packets: [7, 8],
                bytes: [700, 800],
                drops,
                icmp_errors: 1,
                socket_errors: 0,
            })
        }));
        metrics.kubernetes(Box::new(|| {
            let second = Some(Duration::from_secs(1));
            let watch_ends = vec![("end", 4)];
            Some(KubernetesFigures {
                bytes_read: 6,
                watch_ends,
                list_took: second,
                silent_for: second,
                ..KubernetesFigures::default()
            })
        }));
        metrics.probes(Box::new(|| {
            let targets = [("untested", 1), ("answered", 2), ("lost", 3)];
            Some(ProbeFigures { targets, requests: 60, answers: 40 })
        }));
        metrics.ready(true);
        metrics.log_lines_lost(|| 9);
        metrics
    }

    /// Name and type of each metric in a text.
    fn types(text: &str) -> BTreeMap<String, String> {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }

    #[test]
    fn what_happened_is_counted() {
        let text = used().encode();
        has(&text, r#"flanneld_plugin_calls_total{function="apply",outcome="ok"} 1"#);
        has(&text, r#"flanneld_plugin_calls_total{function="apply",outcome="out_of_memory"} 1"#);
        has(&text, r#"flanneld_plugin_call_duration_seconds_bucket{le="0.0025",function="apply"} 0"#);
        has(&text, r#"flanneld_plugin_call_duration_seconds_bucket{le="0.005",function="apply"} 2"#);
        has(&text, "flanneld_plugin_memory_bytes 1048576");
        has(&text, "flanneld_lease_changes_total 7");
        has(&text, "flanneld_lease_expires_timestamp_seconds 1767323045");
        has(&text, r#"flanneld_entries{kind="route"} 3"#);
        has(&text, r#"flanneld_entries_waiting{kind="route"} 2"#);
        has(&text, "flanneld_netlink_messages_total 9");
        has(&text, r#"flanneld_store_operations_total{operation="renew",outcome="error"} 1"#);
        has(&text, "flanneld_firewall_ok 1");
        has(&text, "flanneld_firewall_repairs_total 2");
        has(&text, "flanneld_tunnel_sources_ok 0");
        has(&text, "flanneld_tunnel_strangers_packets_total 3");
        has(&text, r#"flanneld_tunnel_packets_total{direction="receive"} 7"#);
        has(&text, r#"flanneld_tunnel_bytes_total{direction="transmit"} 800"#);
        has(&text, r#"flanneld_tunnel_drops_total{reason="no_route"} 5"#);
        has(&text, "flanneld_tunnel_icmp_errors_total 1");
        has(&text, "flanneld_kubernetes_read_bytes_total 6");
        has(&text, r#"flanneld_kubernetes_watch_ends_total{reason="end"} 4"#);
        has(&text, "flanneld_kubernetes_silent_seconds 1.0");
        has(&text, r#"flanneld_probe_targets{condition="lost"} 3"#);
        has(&text, "flanneld_probe_requests_total 60");
        has(&text, "flanneld_probe_answers_total 40");
        has(&text, "flanneld_ready 1");
        has(&text, &format!(r#"flanneld_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_reservation_and_a_missing_firewall_are_absent() {
        let metrics = Metrics::new();
        assert!(!metrics.encode().contains("firewall"), "there is none");
        metrics.lease_expires(Some(SystemTime::now()));
        metrics.lease_expires(None);
        assert!(!metrics.encode().contains("lease_expires"), "an alert about the time left must not fire");
    }

    #[test]
    fn a_swapped_plugin_leaves_no_trace() {
        let metrics = used();
        metrics.plugin("vxlan", "0.2.0", "abc");
        let text = metrics.encode();
        has(&text, r#"flanneld_plugin_info{name="vxlan",version="0.2.0",digest="abc"} 1"#);
        assert!(!text.contains(r#"version="0.1.0",digest"#));
    }

    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new().encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in\n{text}")).parse().expect("number")
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") > 0.0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("clock").as_secs_f64();
        let started = value("process_start_time_seconds");
        assert!(started <= now + 1.0 && started > now - 86_400.0, "{started} of {now}");
    }

    /// What a plugin counts: names have digits, and values of labels whatever comes.
    fn counting() -> Metrics {
        let metrics = used();
        let of = |value: &str| vec![("port_2".to_owned(), value.to_owned())];
        let gauges = PolicySeries::Gauges(vec![(Vec::new(), -0.25), (of("a\"\\\nb ö"), 1e300)]);
        let counters = PolicySeries::Counters(vec![(of(""), u64::MAX)]);
        let family = |name: &str, help: &str, series: &PolicySeries| PolicyFamily {
            name: name.to_owned(),
            help: help.to_owned(),
            series: series.clone(),
        };
        let families =
            vec![family("open", "what \"it\" is \\ not", &gauges), family("probes_2", "", &counters)];
        metrics.policy(Box::new(move || PolicyFigures {
            plugin: "my-net".to_owned(),
            families: families.clone(),
        }));
        metrics
    }

    #[test]
    fn what_a_plugin_counts_is_shown_with_its_name_until_another_serves() {
        let metrics = counting();
        let text = metrics.encode();
        has(&text, r#"# HELP flanneld_policy_open what \"it\" is \\ not"#);
        has(&text, "# TYPE flanneld_policy_probes_2 counter");
        has(&text, r#"flanneld_policy_open{plugin="my-net"} -0.25"#);
        has(&text, r#"flanneld_policy_open{plugin="my-net",port_2="a\"\\\nb ö"} 1e300"#);
        has(&text, r#"flanneld_policy_probes_2_total{plugin="my-net",port_2=""} 18446744073709551615"#);
        metrics.policy(Box::new(PolicyFigures::default));
        assert!(!metrics.encode().contains("flanneld_policy_"), "{}", metrics.encode());
    }

    /// Each line by the grammar of OpenMetrics, as strictly as matters here.
    #[test]
    fn each_line_is_openmetrics() {
        let text = counting().encode();
        let types = types(&text);
        let mut lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.pop(), Some(""), "the last line has an end");
        assert_eq!(lines.pop(), Some("# EOF"));
        for line in lines {
            if let Some(described) = line.strip_prefix("# ") {
                let (what, rest) = described.split_once(' ').expect(line);
                assert!(["HELP", "TYPE", "UNIT"].contains(&what), "{line}");
                let (name, said) = rest.split_once(' ').expect(line);
                assert!(types.contains_key(name) && !said.is_empty(), "{line}");
                assert!(what != "UNIT" || name.ends_with(said), "{line}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect(line);
            value.parse::<f64>().expect(line);
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(name.chars().all(is_of_a_name), "{line}");
            let known = types.keys().any(|family| {
                name.strip_prefix(family.as_str())
                    .is_some_and(|rest| ["", "_total", "_bucket", "_sum", "_count"].contains(&rest))
            });
            assert!(known, "{line} has no type");
            label_set(labels).unwrap_or_else(|| panic!("{line}"));
        }
    }

    fn is_of_a_name(c: char) -> bool {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
    }

    /// `name="value",…}` with what is special in values escaped.
    fn label_set(mut text: &str) -> Option<()> {
        while text != "}" {
            let (name, rest) = text.split_once("=\"")?;
            let mut escaped = false;
            let end = rest.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            if name.is_empty() || !name.chars().all(is_of_a_name) {
                return None;
            }
            text = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
        }
        Some(())
    }

    /// The tables of `docs/metrics.md`: name and type.
    fn documented() -> BTreeMap<String, String> {
        let rows = include_str!("../../../docs/metrics.md").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.trim_end_matches('`');
            Some((name.to_owned(), cells.next()?.to_owned()))
        });
        rows.collect()
    }

    #[test]
    fn the_documentation_has_each_metric_and_no_other() {
        let metrics = used();
        let mut present = types(&metrics.encode());
        let names: BTreeSet<&String> = metrics.0.names.iter().collect();
        for name in names {
            assert!(present.contains_key(name), "{name} is not in use: let the test use it");
        }
        // The documentation has the names that one asks Prometheus for.
        present = present
            .into_iter()
            .map(
                |(name, kind)| if kind == "counter" { (format!("{name}_total"), kind) } else { (name, kind) },
            )
            .collect();
        assert_eq!(documented(), present, "left: docs/metrics.md, right: the registry");
    }
}
