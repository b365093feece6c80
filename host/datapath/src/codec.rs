//! From entries to netlink messages, and from netlink messages to facts. No decisions, no sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_model::entry::Mac;
use ipnet::IpNet;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::kernel::{Fact, Fdb, Hop, Neighbour, Route, metric};
use super::netlink::{NexthopMessage, Payload};

/// The protocol number that marks our nexthop objects: unassigned in the kernel and in iproute2's `rt_protos`.
pub(crate) const NEXTHOP_PROTOCOL: u8 = 119;
/// `RTPROT_BOOT`, which upstream's routes have, and so ours.
pub(crate) const ROUTE_PROTOCOL: u8 = 3;

/// How a route leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leave {
    /// By a nexthop object.
    Nexthop(u32),
    /// By itself.
    Direct(Hop),
    /// Over the device with this index, which knows by itself where to.
    Device(u32),
}

fn family(address: &IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// A route of ours.
pub(crate) fn route(destination: &IpNet, leave: Option<Leave>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(&destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    match leave {
        Some(Leave::Nexthop(id)) => message.attributes.push(RouteAttribute::NhId(id)),
        Some(Leave::Direct(hop)) => {
            message.attributes.push(RouteAttribute::Gateway(hop.via.into()));
            message.attributes.push(RouteAttribute::Oif(hop.oif));
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        Some(Leave::Device(index)) => {
            if destination.addr().is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
            message.attributes.push(RouteAttribute::Oif(index));
        }
        None => {}
    }
    message
}

/// The removal of a route.
pub(crate) fn unroute(destination: &IpNet, leave: Option<Leave>) -> RouteMessage {
    let mut message = route(destination, leave);
    // Of any scope: routes over a device alone come with either.
    message.header.scope = RouteScope::NoWhere;
    message
}

/// A request for all routes of the main table.
pub(crate) fn all_routes(ipv4: bool) -> Payload {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()));
    Payload::Route(RouteNetlinkMessage::GetRoute(message))
}

/// A neighbour entry of ours; without a MAC, as a deletion needs it.
pub(crate) fn neighbour(index: u32, address: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(&address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    message
}

/// A forwarding database entry of ours; without a destination, as a deletion may have it.
pub(crate) fn fdb(index: u32, mac: Mac, destination: Option<IpAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(destination.map(|address| NeighbourAttribute::Destination(address.into())));
    message
}

/// A request for the neighbour entries of a device, both families.
pub(crate) fn all_neighbours(index: u32) -> Payload {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(index));
    Payload::Route(RouteNetlinkMessage::GetNeighbour(message))
}

/// A request for the forwarding database of a device.
pub(crate) fn all_fdb(index: u32) -> Payload {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    Payload::Route(RouteNetlinkMessage::GetNeighbour(message))
}

/// A nexthop object of ours.
pub(crate) fn nexthop(id: u32, hop: &Hop) -> NexthopMessage {
    NexthopMessage {
        family: if hop.via.is_ipv4() { 2 } else { 10 },
        protocol: NEXTHOP_PROTOCOL,
        onlink: hop.onlink,
        id,
        oif: hop.oif,
        gateway: Some(hop.via),
    }
}

/// What a nexthop object leads to, if it is one of ours.
pub(crate) fn own_nexthop(message: &NexthopMessage) -> Option<Hop> {
    (message.protocol == NEXTHOP_PROTOCOL).then_some(())?;
    Some(Hop { via: message.gateway?, oif: message.oif, onlink: message.onlink })
}

/// What a route message is about: its destination and the route; none if the route is not in the main table or has
/// another metric, source or type of service than ours.
pub(crate) fn read_route(message: &RouteMessage) -> Option<(IpNet, Route)> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut table, mut priority) = (unspecified, u32::from(header.table), 0);
    let mut route = Route {
        via: None,
        oif: 0,
        onlink: header.flags.contains(RouteFlags::Onlink),
        nexthop: None,
        protocol: header.protocol.into(),
        ordinary: header.kind == RouteType::Unicast,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => priority = *number,
            RouteAttribute::Gateway(address) => route.via = address_of(address),
            RouteAttribute::Oif(index) => route.oif = *index,
            RouteAttribute::NhId(id) => route.nexthop = Some(*id),
            RouteAttribute::MultiPath(_)
            | RouteAttribute::Metrics(_)
            | RouteAttribute::PrefSource(_)
            | RouteAttribute::Encap(_)
            | RouteAttribute::Via(_) => route.ordinary = false,
            _ => {}
        }
    }
    let over_device = route.via.is_none() && route.nexthop.is_none();
    route.ordinary &=
        header.scope == RouteScope::Universe || (header.scope == RouteScope::Link && over_device);
    let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    let ours = table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && priority == metric(&destination)
        && header.tos == 0
        && header.source_prefix_length == 0
        && !header.flags.contains(RouteFlags::Cloned);
    ours.then_some((destination, route))
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// What a neighbour message says: about a neighbour, or about a forwarding database entry of a device itself.
pub(crate) fn read_neighbour(message: &NeighbourMessage, gone: bool) -> Option<Fact> {
    let header = &message.header;
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(to) => address = neighbour_address(to),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    // The kernel takes states as bits: bridge(8) sets `noarp` beside `permanent`.
    let permanent = u16::from(header.state) & u16::from(NeighbourState::Permanent) != 0;
    match header.family {
        AddressFamily::Inet | AddressFamily::Inet6 => {
            let gone = gone || matches!(header.state, NeighbourState::Failed | NeighbourState::None);
            let entry = (!gone).then_some(Neighbour { mac, permanent });
            Some(Fact::Neighbour(header.ifindex, address?, entry))
        }
        // Entries of the bridge that the device may be a port of are another matter: only the device's own count.
        AddressFamily::Bridge if header.flags.contains(NeighbourFlags::Own) => {
            let entry = (!gone).then_some(Fdb { destination: address, permanent });
            Some(Fact::Fdb(header.ifindex, mac?, entry))
        }
        _ => None,
    }
}

fn neighbour_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        NeighbourAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        // A forwarding database entry's destination: its family is told by its length alone.
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
