//! What went through, and what was dropped and why.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Shorter than an IP header.
    Short,
    /// Neither IPv4 nor IPv6.
    Version,
    /// Header lengths that contradict each other.
    Header,
    /// The packet's length field exceeds the datagram.
    Truncated,
    /// The datagram exceeds what can be received.
    Oversized,
    /// The datagram comes from an address that is no peer's.
    UnknownSender,
    /// The inner source does not lie in the sending peer's subnets.
    ForeignSource,
    /// No peer has the inner destination.
    NoRoute,
    /// The inner destination is a multicast or broadcast address, which no peer has.
    Multicast,
    /// The peer's endpoint is of a family that the tunnel has no socket for.
    NoSocket,
    /// No hop left.
    HopsExhausted,
    /// Larger than the way to the peer takes, and not to be fragmented.
    TooBig,
    /// The kernel's send buffer stayed full.
    SendBuffer,
    /// The kernel would not send it.
    SendFailed,
    /// The TUN device would not take it: most often it is down.
    Device,
    /// The kernel's virtio header contradicts the packet.
    Offload,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Short,
        Self::Version,
        Self::Header,
        Self::Truncated,
        Self::Oversized,
        Self::UnknownSender,
        Self::ForeignSource,
        Self::NoRoute,
        Self::Multicast,
        Self::NoSocket,
        Self::HopsExhausted,
        Self::TooBig,
        Self::SendBuffer,
        Self::SendFailed,
        Self::Device,
        Self::Offload,
    ];

    /// The name in metrics: lower case, with underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Version => "version",
            Self::Header => "header",
            Self::Truncated => "truncated",
            Self::Oversized => "oversized",
            Self::UnknownSender => "unknown_sender",
            Self::ForeignSource => "foreign_source",
            Self::NoRoute => "no_route",
            Self::Multicast => "multicast",
            Self::NoSocket => "no_socket",
            Self::HopsExhausted => "hops_exhausted",
            Self::TooBig => "too_big",
            Self::SendBuffer => "send_buffer",
            Self::SendFailed => "send_failed",
            Self::Device => "device",
            Self::Offload => "offload",
        }
    }
}

/// Packets and bytes of inner packets, both ways. "Received" came from peers, "sent" went to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// What one peer's counters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCounters {
    /// The peer's [`TunnelPeer::id`](super::TunnelPeer::id).
    pub id: u64,
    /// Since the peer was first set.
    pub traffic: Traffic,
    /// Errors that the network or the kernel reported about its endpoint, for instance "connection refused". Peers with
    /// one endpoint share them.
    pub errors: u64,
    /// Bytes of the largest datagram's IP packet on the way to its endpoint; none: as far as is known, the link's MTU.
    pub path_mtu: Option<u32>,
}

impl PeerCounters {
    /// With those of another subnet of the same node. Errors are the endpoint's, and so the same where there is one endpoint.
    #[must_use]
    pub fn plus(mut self, other: Option<Self>) -> Self {
        if let Some(other) = other {
            self.traffic.rx_packets += other.traffic.rx_packets;
            self.traffic.rx_bytes += other.traffic.rx_bytes;
            self.traffic.tx_packets += other.traffic.tx_packets;
            self.traffic.tx_bytes += other.traffic.tx_bytes;
            self.errors += other.errors;
            self.path_mtu = self.path_mtu.into_iter().chain(other.path_mtu).min();
        }
        self
    }
}

/// A snapshot. The figures are not taken at one instant.
#[derive(Clone, Debug, Default)]
pub struct TunnelCounters {
    /// All peers, those gone included.
    pub total: Traffic,
    /// Packets dropped, for each reason of [`Reason::ALL`], in that order.
    pub drops: Vec<(Reason, u64)>,
    /// ICMP errors given to senders of inner packets.
    pub answers: u64,
    /// Reports of errors that the sockets gave: what concerns a peer is in the peer's counters too.
    pub errors: u64,
    /// The peers of now, in no order.
    pub peers: Vec<PeerCounters>,
}

impl TunnelCounters {
    /// Packets dropped for `reason`.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops.iter().find(|(r, _)| *r == reason).map_or(0, |(_, n)| *n)
    }
}

/// One direction's counters, on a cache line of their own: sender and receiver threads do not disturb each other.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Direction {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Direction {
    /// Adds packets.
    pub(crate) fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

/// Both directions' live counters.
#[derive(Default)]
pub(crate) struct LiveTraffic {
    /// From peers.
    pub rx: Direction,
    /// To peers.
    pub tx: Direction,
}

impl LiveTraffic {
    /// Adds what they say to `traffic`.
    pub(crate) fn add_to(&self, traffic: &mut Traffic) {
        traffic.rx_packets += self.rx.packets.load(Relaxed);
        traffic.rx_bytes += self.rx.bytes.load(Relaxed);
        traffic.tx_packets += self.tx.packets.load(Relaxed);
        traffic.tx_bytes += self.tx.bytes.load(Relaxed);
    }
}

/// One thread's counters.
#[derive(Default)]
pub(crate) struct Counters {
    /// All its traffic.
    pub traffic: LiveTraffic,
    /// ICMP errors given.
    pub answers: AtomicU64,
    /// Errors reported by sockets.
    pub errors: AtomicU64,
    drops: [AtomicU64; Reason::ALL.len()],
}

impl Counters {
    /// Counts dropped packets.
    pub(crate) fn drop(&self, reason: Reason, packets: usize) {
        self.drops[reason as usize].fetch_add(packets as u64, Relaxed);
    }

    /// The sum over all threads, without peers.
    pub(crate) fn sum<'a>(threads: impl Iterator<Item = &'a Self> + Clone) -> TunnelCounters {
        let mut total = Traffic::default();
        threads.clone().for_each(|t| t.traffic.add_to(&mut total));
        let drops = Reason::ALL
            .iter()
            .map(|&r| (r, threads.clone().map(|t| t.drops[r as usize].load(Relaxed)).sum()))
            .collect();
        TunnelCounters {
            total,
            drops,
            answers: threads.clone().map(|t| t.answers.load(Relaxed)).sum(),
            errors: threads.map(|t| t.errors.load(Relaxed)).sum(),
            peers: Vec::new(),
        }
    }
}
