//! Routes with attributes, and the rules that lead to tables of a plugin's own, as plain data.

use std::fmt;
use std::net::IpAddr;
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
    /// At least one; several have gateways.
    pub hops: Box<[Hop]>,
}

impl PolicyRoute {
    /// What identifies it in the kernel.
    pub fn place(&self) -> RoutePlace {
        RoutePlace { table: self.table, destination: self.destination, metric: self.metric }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rule {
    /// As the plugin says it, below [`PRIORITIES`].
    pub priority: u16,
    /// Packets from here.
    pub source: Option<IpNet>,
    /// Packets to there. One of both is given.
    pub destination: Option<IpNet>,
    /// Packets with this mark.
    pub mark: Option<PacketMark>,
    /// The table, below [`TABLES`].
    pub table: u8,
}

impl Rule {
    /// Whether it is about IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.source.or(self.destination).is_none_or(|network| network.addr().is_ipv4())
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
