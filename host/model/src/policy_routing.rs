//! Routes with attributes, and the rules that lead to tables of a plugin's own, as plain data.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::entry::Device;

/// How many tables a plugin has of its own.
pub const TABLES: u8 = 16;
/// What the host adds to the priority of a rule: behind what operators and other daemons usually have, and before the main table's (32766).
pub const FIRST_PRIORITY: u32 = 20_000;
/// How many priorities a plugin has.
pub const PRIORITIES: u16 = 1000;
/// The highest metric: those above are the host's own.
pub const LAST_METRIC: u32 = u32::MAX - 2;
/// The lowest metric in the main table: those below are the kernel's, and those of routes without one.
pub const FIRST_MAIN_METRIC: u32 = 101;

/// What packets get around them, or before them, on a next hop (`encap` in ip-route(8)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encapsulation {
    /// A device in external mode sends them in packets of its own.
    Tunnel(TunnelKey),
    /// An IPv6 header with a segment routing header (RFC 8754): through these nodes in their order, the last of which takes both off.
    Segments(Box<[Ipv6Addr]>),
    /// MPLS labels (RFC 3032), the outermost first.
    Labels(Box<[u32]>),
}

/// What a device in external mode is told of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelKey {
    /// To whom.
    pub destination: IpAddr,
    /// GRE's key, or the VNI.
    pub id: Option<u64>,
    /// Of the outer packet; none: the kernel's choice.
    pub ttl: Option<u8>,
    /// Of the outer packet, 0 to 63.
    pub dscp: u8,
}

impl fmt::Display for Encapsulation {
    /// In iproute2's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn joined<T: fmt::Display>(all: &[T], by: &str) -> String {
            all.iter().map(T::to_string).collect::<Vec<_>>().join(by)
        }
        match self {
            Self::Tunnel(TunnelKey { destination, id, ttl, dscp }) => {
                let (kind, limit) = if destination.is_ipv4() { ("ip", "ttl") } else { ("ip6", "hoplimit") };
                write!(f, "encap {kind}")?;
                id.map_or(Ok(()), |id| write!(f, " id {id}"))?;
                write!(f, " dst {destination}")?;
                ttl.map_or(Ok(()), |ttl| write!(f, " {limit} {ttl}"))?;
                if *dscp > 0 { write!(f, " dscp {dscp}") } else { Ok(()) }
            }
            Self::Segments(segments) => write!(f, "encap seg6 mode encap segs {}", joined(segments, ",")),
            Self::Labels(labels) => write!(f, "encap mpls {}", joined(labels, "/")),
        }
    }
}

/// One of the ways that a route has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// Where packets leave.
    pub device: Device,
    /// The gateway, of the destination's family; none: the device knows where the peer is.
    pub via: Option<IpAddr>,
    /// The gateway is on the device's link even though no address of this node says so.
    pub onlink: bool,
    /// Its share of the flows, 1 to 256; 1 for the only one.
    pub weight: u16,
    /// What packets get around them.
    pub encapsulation: Option<Arc<Encapsulation>>,
}

impl Hop {
    /// The nodes that its segments name.
    pub fn segments(&self) -> &[Ipv6Addr] {
        match self.encapsulation.as_deref() {
            Some(Encapsulation::Segments(segments)) => segments,
            _ => &[],
        }
    }
}

/// A route to a peer's subnet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRoute {
    /// A table of the plugin's own, below [`TABLES`]; none: the main table.
    pub table: Option<u8>,
    /// The peer's subnet, or part of it.
    pub destination: IpNet,
    /// Of several routes to one destination that with the lowest counts.
    pub metric: u32,
    /// What packets of this node itself have as their source.
    pub source: Option<IpAddr>,
    /// Bytes of the largest IP packet.
    pub mtu: Option<u32>,
    /// Bytes of the largest TCP segment that is announced.
    pub advmss: Option<u32>,
    /// At least one; several have gateways, but for IPv4's with an encapsulation that needs none.
    pub hops: Box<[Hop]>,
}

impl PolicyRoute {
    /// What identifies it in the kernel.
    pub fn place(&self) -> RoutePlace {
        RoutePlace { table: self.table, destination: self.destination, metric: self.metric }
    }

    /// The nodes that its segments name.
    pub fn segments(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.hops.iter().flat_map(Hop::segments).copied()
    }
}

/// What identifies a route in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoutePlace {
    /// A table of the plugin's own; none: the main table.
    pub table: Option<u8>,
    /// Where to.
    pub destination: IpNet,
    /// The metric.
    pub metric: u32,
}

impl fmt::Display for RoutePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} metric {}", self.destination, self.metric)?;
        self.table.map_or(Ok(()), |table| write!(f, " in table {table}"))
    }
}

/// Bits of a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketMark {
    /// How they are.
    pub value: u32,
    /// Which ones.
    pub mask: u32,
}

/// Which packets go by a table of the plugin's own. The whole of it identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// As the plugin says it, below [`PRIORITIES`].
    pub priority: u16,
    /// Packets from here.
    pub source: Option<IpNet>,
    /// Packets to there. One of both is given.
    pub destination: Option<IpNet>,
    /// Packets with this mark.
    pub mark: Option<PacketMark>,
    /// Packets that have come in over this one.
    pub input: Option<Device>,
    /// The table, below [`TABLES`].
    pub table: u8,
}

impl Rule {
    /// Whether it is about IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.source.or(self.destination).is_none_or(|network| network.addr().is_ipv4())
    }

    /// The same where devices have other names.
    #[must_use]
    pub fn renamed(mut self, name: impl FnOnce(&Arc<str>) -> Option<Arc<str>>) -> Self {
        if let Some(input) = &mut self.input {
            input.rename(name);
        }
        self
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        self.source.map_or(Ok(()), |source| write!(f, " from {source}"))?;
        self.destination.map_or(Ok(()), |destination| write!(f, " to {destination}"))?;
        if let Some(PacketMark { value, mask }) = self.mark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        self.input.as_ref().map_or(Ok(()), |input| write!(f, " iif {input}"))?;
        write!(f, " lookup {}", self.table)
    }
}

/// A route over devices that have other names.
pub(crate) fn renamed(
    route: &Arc<PolicyRoute>,
    name: impl Fn(&Arc<str>) -> Option<Arc<str>>,
) -> Arc<PolicyRoute> {
    let mut route = PolicyRoute::clone(route);
    for hop in &mut route.hops {
        hop.device.rename(&name);
    }
    Arc::new(route)
}
