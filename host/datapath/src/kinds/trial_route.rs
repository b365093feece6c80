//! Routes of the table in which a change of the backend tries its new ways: nothing but marked packets looks there.

use flannel_model::entry::Key;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Rt;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::encapsulation;
use super::route::{RouteTarget, address_of, message};
use crate::netlink::{Message, Payload, create_or_replace};
use crate::observed::{Around, NextHop, Observation, ObservedState, TrialHop, TrialRoute};
use crate::plan::{Draft, Stage};

/// The protocol number of all that is made for trials: unassigned in the kernel and in iproute2's `rt_protos`, so that it can be told from
/// what others have in that table.
pub(crate) const TRIAL_PROTOCOL: u8 = 119;

/// A route of the table.
fn in_table(table: u32, destination: &IpNet, target: Option<RouteTarget>) -> RouteMessage {
    let mut message = message(destination, target, 0);
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.header.protocol = RouteProtocol::Other(TRIAL_PROTOCOL);
    message.attributes.push(RouteAttribute::Table(table));
    message
}

/// A request for all routes of the table.
pub(crate) fn all_routes(table: u32, ipv4: bool) -> Payload {
    let Payload::Route(Rt::GetRoute(mut message)) = super::route::all_routes(ipv4) else {
        return Payload::Other(0);
    };
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.attributes = vec![RouteAttribute::Table(table)];
    Payload::Route(Rt::GetRoute(message))
}

/// Where packets for the cluster end that nothing else in the table takes: else they would go by the main table, and answers prove nothing.
pub(crate) fn dead_end(table: u32, network: &IpNet) -> RouteMessage {
    let mut message = in_table(table, network, None);
    message.header.kind = RouteType::Unreachable;
    message.attributes.push(RouteAttribute::Priority(u32::MAX));
    message
}

/// What a route message is about, if it is one of the table; and who has made it.
pub(crate) fn read(
    message: &RouteMessage,
    table: u32,
    kernel: &ObservedState,
) -> Option<(IpNet, TrialRoute, u8)> {
    let header = &message.header;
    let (mut destination, mut number) = (None, u32::from(header.table));
    let (mut via, mut oif, mut nexthop) = (None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address),
            RouteAttribute::Table(is) => number = *is,
            RouteAttribute::Gateway(address) => via = address_of(address),
            RouteAttribute::Oif(index) => oif = *index,
            RouteAttribute::NhId(id) => nexthop = Some(*id),
            _ => {}
        }
    }
    if number != table || header.kind != RouteType::Unicast {
        return None;
    }
    let destination = IpNet::new(destination?, header.destination_prefix_length).ok()?;
    let mut onlink = header.flags.contains(netlink_packet_route::route::RouteFlags::Onlink);
    if let Some(hop) = nexthop.and_then(|id| kernel.nexthop(id)) {
        (via, oif, onlink) = (Some(hop.via), hop.oif, hop.onlink);
    }
    let around = encapsulation::read(&message.attributes);
    let route = TrialRoute { hop: TrialHop { via, oif, onlink, around }, nexthop };
    Some((destination, route, header.protocol.into()))
}

impl Draft<'_> {
    pub(super) fn put_trial_route(&mut self, destination: IpNet, hop: TrialHop) {
        let Some(table) = self.planner.kernel.trial_table else { return };
        let old = self.planner.kernel.trial_routes.get(&destination);
        if old.is_some_and(|route| route.hop == hop) {
            return;
        }
        // On carrier loss nexthop objects go with all routes that use them, where plain routes stay.
        let is_external = self.planner.kernel.external.as_ref().is_some_and(|link| link.index == hop.oif);
        let full = hop.via.map(|via| NextHop { via, oif: hop.oif, onlink: hop.onlink });
        if let Some(hop) = full {
            self.open_way(&Key::TrialRoute(destination), &destination, hop);
        }
        let by_object = self.planner.nexthops && !is_external && hop.around == Around::Nothing;
        let nexthop = full.filter(|_| by_object).and_then(|hop| self.nexthop_for(hop));
        self.gaining.extend(nexthop);
        if let Some(id) = old.and_then(|route| route.nexthop) {
            self.lose(id);
        }
        let target = match (nexthop, full) {
            (Some(id), _) => RouteTarget::Nexthop(id),
            (None, Some(hop)) => RouteTarget::Direct(hop),
            (None, None) => RouteTarget::Device(hop.oif),
        };
        let mut message = in_table(table, &destination, Some(target));
        message.attributes.extend(encapsulation::attributes(&hop.around));
        self.step(
            Stage::PutRoute,
            Some(Key::TrialRoute(destination)),
            create_or_replace(Payload::Route(Rt::NewRoute(message))),
            Observation::TrialRoute(destination, Some(TrialRoute { hop, nexthop })),
        );
    }

    pub(super) fn remove_trial_route(&mut self, destination: &IpNet) {
        let kernel = self.planner.kernel;
        let (Some(table), Some(route)) = (kernel.trial_table, kernel.trial_routes.get(destination)) else {
            return;
        };
        if let Some(id) = route.nexthop {
            self.lose(id);
        }
        let mut message = in_table(table, destination, None);
        message.header.scope = RouteScope::NoWhere;
        self.step(
            Stage::DeleteRoute,
            Some(Key::TrialRoute(*destination)),
            Message::plain(Payload::Route(Rt::DelRoute(message))),
            Observation::TrialRoute(*destination, None),
        );
    }
}

/// Ours: all that have our protocol.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.trial_routes.keys().map(|destination| Key::TrialRoute(*destination))
}
