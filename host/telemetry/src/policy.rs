//! Figures of the plugin's own, taken anew at each scrape. Whoever keeps them has checked names and sizes.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// What their names begin with; nothing of the daemon's own is called so.
const PREFIX: &str = "flanneld_policy_";
/// What is said of a name of which the plugin says nothing.
const NO_HELP: &str = "A figure of the plugin";

/// The figures of a plugin.
#[derive(Clone, Debug, Default)]
pub struct PolicyFigures {
    /// The plugin's name.
    pub plugin: String,
    /// All series, by their names.
    pub families: Vec<PolicyFamily>,
}

/// The series of one name.
#[derive(Clone, Debug)]
pub struct PolicyFamily {
    /// Its name, without what it begins with here.
    pub name: String,
    /// What it is about; empty: nobody has said so.
    pub help: String,
    /// The series, by their labels.
    pub series: PolicySeries,
}

/// Labels by name.
type Labels = Vec<(String, String)>;

/// Series of one kind.
#[derive(Clone, Debug)]
pub enum PolicySeries {
    /// So much now.
    Gauges(Vec<(Labels, f64)>),
    /// So often until now.
    Counters(Vec<(Labels, u64)>),
}

/// Where the figures come from.
pub(crate) type Source = Box<dyn Fn() -> PolicyFigures + Send + Sync>;

/// Asks the source, once there is one.
#[derive(Clone, Default)]
pub(super) struct PolicyCollector(Arc<Mutex<Option<Source>>>);

impl PolicyCollector {
    pub(super) fn come_from(&self, source: Source) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

impl fmt::Debug for PolicyCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PolicyCollector")
    }
}

impl Collector for PolicyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(PolicyFigures { plugin, families }) = source.as_ref().map(|source| source()) else {
            return Ok(());
        };
        for PolicyFamily { name, help, series } in &families {
            let name = format!("{PREFIX}{name}");
            let help = if help.is_empty() { Cow::Borrowed(NO_HELP) } else { escaped(help) };
            let kind = match series {
                PolicySeries::Gauges(_) => MetricType::Gauge,
                PolicySeries::Counters(_) => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(&name, &help, None, kind)?;
            match series {
                PolicySeries::Gauges(series) => {
                    for (labels, value) in series {
                        ConstGauge::new(*value).encode(family.encode_family(&all(&plugin, labels))?)?;
                    }
                }
                PolicySeries::Counters(series) => {
                    for (labels, count) in series {
                        ConstCounter::new(*count).encode(family.encode_family(&all(&plugin, labels))?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The plugin's name, and the labels of a series.
fn all<'a>(plugin: &'a str, labels: &'a Labels) -> Vec<(&'a str, &'a str)> {
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    std::iter::once(("plugin", plugin)).chain(labels).collect()
}

/// A help text as OpenMetrics has it; of values of labels the encoder does that itself.
fn escaped(help: &str) -> Cow<'_, str> {
    if !help.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(help);
    }
    help.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").into()
}
