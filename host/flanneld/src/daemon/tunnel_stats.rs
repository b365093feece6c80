//! What the daemon's own tunnels have carried, for status and metrics.

use flannel_datapath::{Meters, TunnelReport};
use flannel_model::offloads::Offloads;
use flannel_telemetry::metrics::TunnelFigures;
use flannel_telemetry::status;
use flannel_udp_tunnel::{Reason, Traffic, TunnelCounters};

/// For the status.
pub(super) fn traffic(traffic: Traffic, errors: u64) -> status::Traffic {
    let Traffic { rx_packets, rx_bytes, tx_packets, tx_bytes } = traffic;
    status::Traffic { rx_packets, rx_bytes, tx_packets, tx_bytes, errors }
}

/// A tunnel, for the status.
pub(super) fn tunnel(report: &TunnelReport) -> status::Tunnel {
    let TunnelReport { device, port, offloads, counters } = report;
    let drops = counters.drops.iter().filter(|(_, count)| *count > 0);
    status::Tunnel {
        device: device.to_string(),
        port: *port,
        offloads: names(*offloads),
        traffic: traffic(counters.total, counters.errors),
        drops: drops.map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
        icmp_errors: counters.answers,
    }
}

/// All tunnels together, for Prometheus; none while there is no tunnel.
pub(super) fn figures(meters: &Meters) -> Option<TunnelFigures> {
    let totals = meters.totals();
    let sum = |of: fn(&TunnelCounters) -> u64| totals.iter().map(of).sum();
    let dropped = |reason| totals.iter().map(|counters| counters.dropped(reason)).sum();
    (!totals.is_empty()).then(|| TunnelFigures {
        packets: [sum(|counters| counters.total.rx_packets), sum(|counters| counters.total.tx_packets)],
        bytes: [sum(|counters| counters.total.rx_bytes), sum(|counters| counters.total.tx_bytes)],
        drops: Reason::ALL.map(|reason| (reason.name(), dropped(reason))).into(),
        icmp_errors: sum(|counters| counters.answers),
        socket_errors: sum(|counters| counters.errors),
    })
}

fn names(offloads: Offloads) -> Vec<String> {
    let all = [("tso", offloads.tso), ("gso", offloads.gso), ("gro", offloads.gro)];
    all.into_iter().filter(|(_, used)| *used).map(|(name, _)| name.to_owned()).collect()
}
