//! Figures of the lease store in Kubernetes, taken anew at each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What the API server has said, and how well it is heard.
#[derive(Clone, Debug, Default)]
pub struct KubernetesFigures {
    /// Bytes of its answers.
    pub bytes_read: u64,
    /// How often all nodes were read.
    pub lists: u64,
    /// How long that took the last time.
    pub list_took: Option<Duration>,
    /// Watches that have ended, for each reason.
    pub watch_ends: Vec<(&'static str, u64)>,
    /// Events of nodes that came.
    pub events: u64,
    /// Those that said something else than before.
    pub relevant_events: u64,
    /// How long ago something of use came.
    pub silent_for: Option<Duration>,
    /// How often this node's annotations were put back.
    pub repairs: u64,
}

/// Where the figures come from; none while there are none.
pub(crate) type Source = Box<dyn Fn() -> Option<KubernetesFigures> + Send + Sync>;

/// Asks the source, once there is one.
#[derive(Clone, Default)]
pub(super) struct Kubernetes(Arc<Mutex<Option<Source>>>);

impl Kubernetes {
    pub(super) fn come_from(&self, source: Source) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kubernetes")
    }
}

impl Collector for Kubernetes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(figures) = source.as_ref().and_then(|source| source()) else { return Ok(()) };
        for (name, help, count) in [
            ("flanneld_kubernetes_read_bytes", "Bytes of the API server's answers", figures.bytes_read),
            ("flanneld_kubernetes_lists", "How often all nodes were read", figures.lists),
            ("flanneld_kubernetes_events", "Events of nodes that came", figures.events),
            (
                "flanneld_kubernetes_relevant_events",
                "Events of nodes that said something else than before",
                figures.relevant_events,
            ),
            (
                "flanneld_kubernetes_annotation_repairs",
                "How often this node's annotations were put back",
                figures.repairs,
            ),
        ] {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::<u64>::new(count).encode(encoder)?;
        }
        let mut ends = encoder.encode_descriptor(
            "flanneld_kubernetes_watch_ends",
            "Watches of nodes that have ended",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in &figures.watch_ends {
            ConstCounter::new(*count).encode(ends.encode_family(&[("reason", *reason)])?)?;
        }
        for (name, help, time) in [
            (
                "flanneld_kubernetes_list_duration_seconds",
                "How long all nodes took to be read the last time",
                figures.list_took,
            ),
            (
                "flanneld_kubernetes_silent_seconds",
                "How long ago the API server said something of use",
                figures.silent_for,
            ),
        ] {
            if let Some(time) = time {
                let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(time.as_secs_f64()).encode(encoder)?;
            }
        }
        Ok(())
    }
}
