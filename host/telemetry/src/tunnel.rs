//! Figures of the daemon's own tunnels, taken anew at each scrape: their threads count without asking anybody.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// What all tunnels together have carried.
#[derive(Clone, Debug, Default)]
pub struct TunnelFigures {
    /// Packets received from peers, and sent to them.
    pub packets: [u64; 2],
    /// Bytes of them.
    pub bytes: [u64; 2],
    /// Packets dropped, for each reason.
    pub drops: Vec<(&'static str, u64)>,
    /// ICMP errors given to senders.
    pub icmp_errors: u64,
    /// Errors that the network or the kernel reported about what was sent.
    pub socket_errors: u64,
}

/// Where the figures come from; none while there is no tunnel.
pub(crate) type Source = Box<dyn Fn() -> Option<TunnelFigures> + Send + Sync>;

/// Asks the source, once there is one.
#[derive(Clone, Default)]
pub(super) struct Tunnels(Arc<Mutex<Option<Source>>>);

impl Tunnels {
    pub(super) fn come_from(&self, source: Source) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnels")
    }
}

impl Collector for Tunnels {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let source = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(figures) = source.as_ref().and_then(|source| source()) else { return Ok(()) };
        let mut family = |name, help, label, series: &[(&str, u64)]| -> fmt::Result {
            let mut encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (value, count) in series {
                ConstCounter::new(*count).encode(encoder.encode_family(&[(label, *value)])?)?;
            }
            Ok(())
        };
        let ways = |[received, sent]: [u64; 2]| [("receive", received), ("transmit", sent)];
        let packets = "Packets carried by the daemon's tunnels";
        family("flanneld_tunnel_packets", packets, "direction", &ways(figures.packets))?;
        let bytes = "Bytes of inner packets carried by the daemon's tunnels";
        family("flanneld_tunnel_bytes", bytes, "direction", &ways(figures.bytes))?;
        family("flanneld_tunnel_drops", "Packets dropped by the daemon's tunnels", "reason", &figures.drops)?;
        let mut one = |name, help, count| -> fmt::Result {
            let encoder = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::<u64>::new(count).encode(encoder)
        };
        let errors = "ICMP errors that the daemon's tunnels gave to senders";
        one("flanneld_tunnel_icmp_errors", errors, figures.icmp_errors)?;
        let reports = "Errors reported about what the daemon's tunnels sent";
        one("flanneld_tunnel_socket_errors", reports, figures.socket_errors)
    }
}
