//! What plugins count of their own, for Prometheus.

use flannel_plugin_host::{Figure, PluginSeries, SeriesFamily};
use flannel_telemetry::metrics::{PolicyFamily, PolicyFigures, PolicySeries};

/// What a plugin of this name counts.
pub(super) fn figures(plugin: &str, series: &PluginSeries) -> PolicyFigures {
    let families = series.families().into_iter().map(family).collect();
    PolicyFigures { plugin: plugin.to_owned(), families }
}

fn family(family: SeriesFamily) -> PolicyFamily {
    let SeriesFamily { name, help, series } = family;
    let (mut gauges, mut counters) = (Vec::new(), Vec::new());
    for (labels, figure) in series {
        match figure {
            Figure::Gauge(value) => gauges.push((labels, value)),
            Figure::Counter(count) => counters.push((labels, count)),
        }
    }
    // A name is of one kind.
    let series =
        if counters.is_empty() { PolicySeries::Gauges(gauges) } else { PolicySeries::Counters(counters) };
    PolicyFamily { name, help, series }
}
