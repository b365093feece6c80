//! Blackhole routes of the main table, for the node's own subnets.

use flannel_model::entry::{BLACKHOLE_METRIC, Key};
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Rt;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::route::{self, address_of};
use crate::netlink::{Message, Payload, create};
use crate::observed::{Observation, ObservedState};
use crate::plan::{Draft, Stage};

/// A blackhole route of ours.
fn blackhole(destination: &IpNet) -> RouteMessage {
    let mut message = route::message(destination, None, BLACKHOLE_METRIC);
    message.header.kind = RouteType::BlackHole;
    message
}

/// The removal of a blackhole route, whatever protocol it has: earlier versions had another.
fn no_blackhole(destination: &IpNet) -> RouteMessage {
    let mut message = blackhole(destination);
    message.header.protocol = RouteProtocol::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message
}

/// The destination of a blackhole route like ours; none if the message is about another route.
pub(super) fn read(message: &RouteMessage) -> Option<IpNet> {
    let header = &message.header;
    let (mut destination, mut table, mut priority) = (None, u32::from(header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => priority = *number,
            _ => {}
        }
    }
    let ours = header.kind == RouteType::BlackHole
        && table == u32::from(RouteHeader::RT_TABLE_MAIN)
        && priority == BLACKHOLE_METRIC;
    IpNet::new(destination?, header.destination_prefix_length).ok().filter(|_| ours)
}

impl Draft<'_> {
    pub(super) fn put_blackhole(&mut self, destination: IpNet) {
        if !self.planner.kernel.blackholes.contains(&destination) {
            self.step(
                Stage::PutRoute,
                Some(Key::Blackhole(destination)),
                create(Payload::Route(Rt::NewRoute(blackhole(&destination)))),
                Observation::Blackhole(destination, true),
            );
        }
    }

    pub(super) fn remove_blackhole(&mut self, destination: &IpNet) {
        if self.planner.kernel.blackholes.contains(destination) {
            self.step(
                Stage::DeleteRoute,
                Some(Key::Blackhole(*destination)),
                Message::plain(Payload::Route(Rt::DelRoute(no_blackhole(destination)))),
                Observation::Blackhole(*destination, false),
            );
        }
    }
}

/// Ours: all with our metric in the cluster networks.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.blackholes.iter().map(|destination| Key::Blackhole(*destination))
}
