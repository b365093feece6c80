//! Routes with attributes, in the main table and in the tables of a plugin's own: plain ones, by which of their next hops are usable.

use flannel_model::entry::{Device, Key};
use flannel_model::policy_routing::{Hop, PolicyRoute, RoutePlace};
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Rt;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType,
};

use super::encapsulation;
use super::route::{self, LAST_METRIC, address_of, read_any};
use crate::netlink::{Message, Payload, create, create_or_replace};
use crate::observed::{NextHop, Observation, ObservedState, PolicyHop, Route, SeenPolicyRoute};
use crate::plan::{Draft, Stage};
use crate::policy_tables::{PROTOCOL, PolicyTables};

/// A route of ours, as it is to be or as it is.
fn message(tables: PolicyTables, place: &RoutePlace, route: &SeenPolicyRoute) -> RouteMessage {
    let mut message = route::message(&place.destination, None, place.metric);
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    if let Some(table) = place.table {
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(tables.number(table)));
    }
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<RouteMetric> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    match &route.hops[..] {
        [only] => {
            message.attributes.extend(only.via.map(|via| RouteAttribute::Gateway(via.into())));
            message.attributes.push(RouteAttribute::Oif(only.oif));
            message.attributes.extend(encapsulation::attributes(&only.around));
            if only.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
            if only.via.is_none() && place.destination.addr().is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
        }
        several => {
            message.attributes.push(RouteAttribute::MultiPath(several.iter().map(next_hop).collect()));
        }
    }
    message
}

fn next_hop(hop: &PolicyHop) -> RouteNextHop {
    let mut next = RouteNextHop::default();
    // The kernel's weight begins with 0, and has 8 bits.
    next.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    next.interface_index = hop.oif;
    if hop.onlink {
        next.flags = RouteNextHopFlags::Onlink;
    }
    next.attributes.extend(hop.via.map(|via| RouteAttribute::Gateway(via.into())));
    next.attributes.extend(encapsulation::attributes(&hop.around));
    next
}

/// The removal of a route of ours, whichever next hops it has.
fn no_route(tables: PolicyTables, place: &RoutePlace) -> RouteMessage {
    let mut message = route::message(&place.destination, None, place.metric);
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.scope = RouteScope::NoWhere;
    if let Some(table) = place.table {
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(tables.number(table)));
    }
    message
}

/// A request for all routes of all tables that are a flanneld's with these attributes.
pub(crate) fn all_routes(ipv4: bool) -> Payload {
    let Payload::Route(Rt::GetRoute(mut message)) = route::all_routes(ipv4) else {
        return Payload::Other(0);
    };
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.attributes.clear();
    Payload::Route(Rt::GetRoute(message))
}

/// What a message says about a route of ours, or about one in a place where one of ours could be; `gone`: that it is not there.
pub(super) fn read(
    message: &RouteMessage,
    gone: bool,
    kernel: &ObservedState,
) -> Option<(IpNet, Observation)> {
    let (number, destination, found) = read_any(message)?;
    let table = if number == u32::from(RouteHeader::RT_TABLE_MAIN) {
        None
    } else {
        Some(kernel.policy_tables.table(number)?)
    };
    let place = RoutePlace { table, destination, metric: found.metric };
    if found.protocol == PROTOCOL {
        let route = (!gone).then(|| seen(message, &found));
        return Some((destination, Observation::PolicyRoute(place, route.map(Box::new))));
    }
    // Where routes of other kinds are, the mirror has them as such.
    let is_elsewhere = table.is_none() && crate::observed::is_mirrored(&destination, found.metric);
    (!is_elsewhere).then(|| (destination, Observation::ForeignRoute(place, (!gone).then(|| Box::new(found)))))
}

/// A route of ours as the kernel has it.
fn seen(message: &RouteMessage, found: &Route) -> SeenPolicyRoute {
    let (mut source, mut mtu, mut advmss) = (None, None, None);
    let mut is_odd = message.header.kind != RouteType::Unicast || found.nexthop.is_some();
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::PrefSource(address) => source = address_of(address),
            RouteAttribute::Metrics(metrics) => {
                for metric in metrics {
                    match metric {
                        RouteMetric::Mtu(bytes) => mtu = Some(*bytes),
                        RouteMetric::Advmss(bytes) => advmss = Some(*bytes),
                        _ => is_odd = true,
                    }
                }
            }
            RouteAttribute::MultiPath(several) => hops.extend(several.iter().map(|hop| {
                let via = hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => address_of(address),
                    _ => None,
                });
                let onlink = hop.flags.contains(RouteNextHopFlags::Onlink);
                let (weight, around) = (u16::from(hop.hops) + 1, encapsulation::read(&hop.attributes));
                PolicyHop { via, oif: hop.interface_index, onlink, weight, around }
            })),
            RouteAttribute::Via(_) => is_odd = true,
            _ => {}
        }
    }
    if hops.is_empty() {
        let around = encapsulation::read(&message.attributes);
        hops.push(PolicyHop { via: found.via, oif: found.oif, onlink: found.onlink, weight: 1, around });
    }
    SeenPolicyRoute::new(hops, source, mtu, advmss, is_odd)
}

impl Draft<'_> {
    pub(super) fn put_policy_route(&mut self, route: &PolicyRoute) {
        let kernel = self.planner.kernel;
        let (place, key) = (route.place(), Key::PolicyRoute(route.place()));
        let hops = self.usable_hops(route);
        if hops.is_empty() {
            // What is left of it gives way to the next one.
            self.remove_policy_route(&place);
            return self.wait(key);
        }
        let wanted = SeenPolicyRoute::new(hops, route.source, route.mtu, route.advmss, false);
        let old = kernel.policy_routes.get(&place);
        if old == Some(&wanted) {
            return self.tell_of_better(key, &place);
        }
        // Who deletes or overwrites a route of ours has taken it from us.
        let is_taken = kernel.held_policy_routes.contains(&place);
        let in_the_way = || kernel.foreign_route(&place).or_else(|| kernel.foreign_behind(&place));
        if let (None, false, Some(foreign)) = (old, is_taken, in_the_way()) {
            return self.block(key, foreign);
        }
        for hop in &wanted.hops {
            if let Some(via) = hop.via {
                let hop = NextHop { via, oif: hop.oif, onlink: hop.onlink };
                self.open_policy_way(&key, route, hop);
            }
        }
        self.keep_policy_route_for_those_on_their_way(&place, old);
        let payload = Payload::Route(Rt::NewRoute(message(kernel.policy_tables, &place, &wanted)));
        let replace = old.is_some() || is_taken;
        self.step(
            Stage::PutRoute,
            Some(key.clone()),
            if replace { create_or_replace(payload) } else { create(payload) },
            Observation::PolicyRoute(place, Some(Box::new(wanted))),
        );
        self.tell_of_better(key, &place);
    }

    /// The next hops by which packets may go at the moment: those over devices that are up, and of these those with a carrier, if that leaves
    /// any, or if the table has another route that has one.
    fn usable_hops(&self, route: &PolicyRoute) -> Vec<PolicyHop> {
        let up = |hop: &&Hop| self.planner.link(&hop.device).is_some_and(|link| link.up);
        let has_carrier =
            |hop: &&Hop| self.planner.link(&hop.device).is_some_and(|link| link.up && link.carrier);
        let in_kernel = |hop: &Hop| {
            let oif = self.planner.link(&hop.device)?.index;
            let around = hop.encapsulation.clone().into();
            Some(PolicyHop { via: hop.via, oif, onlink: hop.onlink, weight: hop.weight, around })
        };
        let best: Vec<PolicyHop> = route.hops.iter().filter(has_carrier).filter_map(in_kernel).collect();
        let others = || self.planner.ledger.policy_routes_to(route.table, route.destination);
        let mut others = others().filter(|other| other.metric != route.metric);
        if !best.is_empty() || others.any(|other| other.hops.iter().any(|hop| has_carrier(&hop))) {
            return best;
        }
        route.hops.iter().filter(up).filter_map(in_kernel).collect()
    }

    /// As [`Draft::open_way`] has it: other routes to the same may come with the same requests.
    fn open_policy_way(&mut self, key: &Key, route: &PolicyRoute, hop: NextHop) {
        let is_over = |device: &Device| self.planner.index(device) == Some(hop.oif);
        let mut others = self.planner.ledger.policy_routes_to(None, route.destination);
        let is_elsewhere = others.any(|other| other.hops.iter().any(|hop| !is_over(&hop.device)));
        if is_elsewhere {
            self.open_way_anyway(key, &route.destination, hop);
        } else {
            self.open_way(key, &route.destination, hop);
        }
    }

    /// As for other routes, while the backend changes.
    fn keep_policy_route_for_those_on_their_way(
        &mut self,
        place: &RoutePlace,
        old: Option<&SeenPolicyRoute>,
    ) {
        let kernel = self.planner.kernel;
        let Some(route) = old.filter(|_| kernel.trial_table.is_some()) else { return };
        if !place.destination.addr().is_ipv4() {
            return;
        }
        let (key, last) = (Some(Key::PolicyRoute(*place)), RoutePlace { metric: LAST_METRIC, ..*place });
        let put =
            create_or_replace(Payload::Route(Rt::NewRoute(message(kernel.policy_tables, &last, route))));
        self.step(Stage::OpenWay, key.clone(), put, Observation::Nothing);
        let gone = Message::plain(Payload::Route(Rt::DelRoute(no_route(kernel.policy_tables, &last))));
        self.step(Stage::CloseWay, key, gone, Observation::Nothing);
    }

    /// Of a route that is not flannel's and comes before ours the operator is told.
    fn tell_of_better(&mut self, key: Key, place: &RoutePlace) {
        if let Some(before) = self.planner.kernel.foreign_before(place) {
            self.block(key, before);
        }
    }

    pub(super) fn remove_policy_route(&mut self, place: &RoutePlace) {
        let kernel = self.planner.kernel;
        if kernel.policy_routes.contains_key(place) {
            self.step(
                Stage::DeleteRoute,
                Some(Key::PolicyRoute(*place)),
                Message::plain(Payload::Route(Rt::DelRoute(no_route(kernel.policy_tables, place)))),
                Observation::PolicyRoute(*place, None),
            );
        }
    }
}

/// Ours: all that have our protocol, in the main table and in our own.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.policy_routes.keys().map(|place| Key::PolicyRoute(*place))
}
