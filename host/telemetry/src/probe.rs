//! Figures of what plugins have probed, taken anew at each scrape.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// All targets together.
#[derive(Clone, Debug, Default)]
pub struct ProbeFigures {
    /// How many there are in each condition.
    pub targets: [(&'static str, u64); 3],
    /// Requests that were sent, or could not be.
    pub requests: u64,
    /// Those that were answered in time.
    pub answers: u64,
}

/// Where the figures come from; none as long as nothing has been probed.
pub(crate) type Source = Box<dyn Fn() -> Option<ProbeFigures> + Send + Sync>;

/// Asks the source, once there is one.
#[derive(Clone, Default)]
pub(super) struct ProbeCollector(Arc<Mutex<Option<Source>>>);

impl ProbeCollector {
    pub(super) fn come_from(&self, source: Source) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

impl fmt::Debug for ProbeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProbeCollector")
    }
}

impl Collector for ProbeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(figures) = source.as_ref().and_then(|source| source()) else { return Ok(()) };
        let help = "Targets that the plugin has probed, by how they do";
        let mut family =
            encoder.encode_descriptor("flanneld_probe_targets", help, None, MetricType::Gauge)?;
        for (condition, count) in figures.targets {
            ConstGauge::new(count).encode(family.encode_family(&[("condition", condition)])?)?;
        }
        let mut one = |name, help, count| -> fmt::Result {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::<u64>::new(count).encode(encoder)
        };
        one("flanneld_probe_requests", "Echo requests for the plugin's targets", figures.requests)?;
        one("flanneld_probe_answers", "Echo requests that were answered in time", figures.answers)
    }
}
