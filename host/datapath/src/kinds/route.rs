//! Routes of the main table, to one next hop each: through a nexthop object, by themselves, or over a device alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flannel_model::entry::{Device, DeviceSpec, Entry, Key};
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use super::family;
use crate::netlink::{Message, Payload, create, create_or_replace};
use crate::observed::{NextHop, Observation, ObservedState, Route, TUNNEL_METRIC, is_mirrored, usual_metric};
use crate::plan::{Draft, Planner, Stage};

/// `RTPROT_BOOT`, which upstream's routes have, and so ours.
pub(crate) const ROUTE_PROTOCOL: u8 = 3;

/// The metric of a route that comes after all others, those of ours that end packets included.
pub(super) const LAST_METRIC: u32 = u32::MAX;

/// How a route leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RouteTarget {
    /// By a nexthop object.
    Nexthop(u32),
    /// By itself.
    Direct(NextHop),
    /// Over the device with this index, which knows by itself where to.
    Device(u32),
}

/// A route of ours. The kernel chooses the usual metric if it is 0.
pub(crate) fn message(destination: &IpNet, target: Option<RouteTarget>, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(&destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(destination.addr().into()));
    match target {
        Some(RouteTarget::Nexthop(id)) => message.attributes.push(RouteAttribute::NhId(id)),
        Some(RouteTarget::Direct(hop)) => {
            message.attributes.push(RouteAttribute::Gateway(hop.via.into()));
            message.attributes.push(RouteAttribute::Oif(hop.oif));
            if hop.onlink {
                message.header.flags |= RouteFlags::Onlink;
            }
        }
        Some(RouteTarget::Device(index)) => {
            if destination.addr().is_ipv4() {
                message.header.scope = RouteScope::Link;
            }
            message.attributes.push(RouteAttribute::Oif(index));
        }
        None => {}
    }
    if metric > 0 {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

/// The removal of a route. Without a metric IPv4's kernel takes the one that counts, of whatever metric.
fn delete_route(destination: &IpNet, target: Option<RouteTarget>, metric: u32) -> RouteMessage {
    let mut message = message(destination, target, metric);
    // Of any scope: routes over a device alone come with either.
    message.header.scope = RouteScope::NoWhere;
    message
}

/// A route as the kernel shows it, for its removal: of whatever next hops, of which the kernel shows more than it has to be told.
pub(crate) fn without_hops(mut message: RouteMessage) -> RouteMessage {
    message.attributes.retain(|attribute| {
        !matches!(
            attribute,
            RouteAttribute::MultiPath(_) | RouteAttribute::Encap(_) | RouteAttribute::EncapType(_)
        )
    });
    message
}

/// A request for all routes of the main table.
pub(crate) fn all_routes(ipv4: bool) -> Payload {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into()));
    Payload::Route(Rt::GetRoute(message))
}

/// What a route message is about: its destination and the route; none if the route is not in the main table, has another source or type of
/// service than ours, or a metric that is of no concern to us.
pub(crate) fn read_route(message: &RouteMessage) -> Option<(IpNet, Route)> {
    let (table, destination, route) = read_any(message)?;
    let ours = table == u32::from(RouteHeader::RT_TABLE_MAIN) && is_mirrored(&destination, route.metric);
    ours.then_some((destination, route))
}

/// The table of a route, its destination, and the route; none if it has another source or type of service than ours.
pub(crate) fn read_any(message: &RouteMessage) -> Option<(u32, IpNet, Route)> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut table) = (unspecified, u32::from(header.table));
    let mut route = Route {
        via: None,
        oif: 0,
        onlink: header.flags.contains(RouteFlags::Onlink),
        nexthop: None,
        protocol: header.protocol.into(),
        ordinary: header.kind == RouteType::Unicast,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = address_of(address)?,
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => route.metric = *number,
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
    let is_like_ours =
        header.tos == 0 && header.source_prefix_length == 0 && !header.flags.contains(RouteFlags::Cloned);
    is_like_ours.then_some((table, destination, route))
}

pub(crate) fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

impl Draft<'_> {
    pub(super) fn put_route(&mut self, destination: IpNet, hop: NextHop) {
        let metric = usual_metric(&destination);
        let old = self.planner.kernel.route(&destination, metric);
        // On carrier loss nexthop objects go with all routes that use them, where plain routes stay. Devices of ours never lose it.
        let is_external = self.planner.kernel.external.as_ref().is_some_and(|link| link.index == hop.oif);
        // A plain route to the same next hop is as good: upstream's are adopted as they are.
        if old.is_some_and(|route| {
            leads_to(route, &hop, self.planner.kernel) && !(is_external && route.nexthop.is_some())
        }) {
            return self.adopt_route(destination, metric);
        }
        if let Some(route) = old.filter(|route| !self.may_replace(&destination, route)) {
            return self.block(Key::Route(destination), route);
        }
        self.open_way(&Key::Route(destination), &destination, hop);
        self.keep_for_those_on_their_way(&destination, old);
        let by_object = self.planner.nexthops && !is_external;
        let nexthop = by_object.then(|| self.nexthop_for(hop)).flatten();
        self.gaining.extend(nexthop);
        let target = nexthop.map_or(RouteTarget::Direct(hop), RouteTarget::Nexthop);
        if let Some(id) = old.and_then(|route| route.nexthop) {
            self.lose(id);
        }
        let route = Route {
            via: Some(hop.via),
            oif: hop.oif,
            onlink: hop.onlink,
            nexthop,
            protocol: ROUTE_PROTOCOL,
            ordinary: true,
            metric,
        };
        self.step(
            Stage::PutRoute,
            Some(Key::Route(destination)),
            put(old.is_some(), message(&destination, Some(target), 0)),
            Observation::Route(destination, route),
        );
    }

    /// IPv4's kernel has a moment in which a packet that has just found the route before takes it for gone, and looks on
    /// (`fib_dead` in `fib_table_lookup`), by the default route, say. As long as the backend changes a copy of the route before, which comes after all
    /// others, is there for the time of these requests: such a packet goes by that.
    fn keep_for_those_on_their_way(&mut self, destination: &IpNet, old: Option<&Route>) {
        let Some(route) = old.filter(|_| self.planner.kernel.trial_table.is_some()) else { return };
        if !destination.addr().is_ipv4() {
            return;
        }
        let key = Some(Key::Route(*destination));
        let copy = message(destination, Some(target_of(route)), LAST_METRIC);
        let put = create_or_replace(Payload::Route(Rt::NewRoute(copy)));
        self.step(Stage::OpenWay, key.clone(), put, Observation::Nothing);
        let gone = delete_route(destination, Some(target_of(route)), LAST_METRIC);
        let delete = Message::plain(Payload::Route(Rt::DelRoute(gone)));
        self.step(Stage::CloseWay, key, delete, Observation::Nothing);
    }

    /// IPv6's kernel takes no gateway that it reaches over another device by the main table, onlink or not (`ip6_route_check_nh_onlink`): as long
    /// as that is so, a route to the gateway alone shows it the way. It is there for the time of these requests only.
    pub(super) fn open_way(&mut self, key: &Key, destination: &IpNet, hop: NextHop) {
        if hop.via.is_ipv6() && self.leads_elsewhere(hop) {
            self.open_way_anyway(key, destination, hop);
        }
    }

    /// The same, whether the main table leads elsewhere or not.
    pub(super) fn open_way_anyway(&mut self, key: &Key, destination: &IpNet, hop: NextHop) {
        if hop.via.is_ipv4() || !hop.onlink || !destination.contains(&hop.via) || !self.ways.insert(hop.via) {
            return;
        }
        let (gateway, device) = (IpNet::from(hop.via), Some(RouteTarget::Device(hop.oif)));
        let open = create_or_replace(Payload::Route(Rt::NewRoute(message(&gateway, device, 0))));
        self.step(Stage::OpenWay, Some(key.clone()), open, Observation::Nothing);
        let close = Message::plain(Payload::Route(Rt::DelRoute(delete_route(&gateway, device, 0))));
        self.step(Stage::CloseWay, Some(key.clone()), close, Observation::Nothing);
    }

    /// Whether the main table leads to a gateway over another device: by a route to the peer's subnet, or by one to all of them, as a tunnel has.
    /// The kernel does not mind the default route.
    fn leads_elsewhere(&self, hop: NextHop) -> bool {
        let longest_first = (1..=IpNet::from(hop.via).prefix_len()).rev();
        let mut destinations =
            longest_first.filter_map(|length| Some(IpNet::new(hop.via, length).ok()?.trunc()));
        let longest = destinations.find_map(|destination| {
            let kernel = self.planner.kernel;
            let devices = kernel.routes_to(&destination).map(|route| route.oif);
            let mut devices = devices.chain(kernel.policy_devices(destination)).peekable();
            devices.peek().is_some().then(|| devices.any(|device| device != hop.oif))
        });
        longest.unwrap_or(false)
    }

    /// Such routes are few: one for the whole cluster, and so a nexthop object would save nothing.
    pub(super) fn put_device_route(&mut self, destination: IpNet, device: &Device, index: u32) {
        let metric = self.device_metric(&destination, device);
        let old = self.planner.kernel.route(&destination, metric);
        let is_right = |route: &Route| {
            route.ordinary
                && route.protocol == ROUTE_PROTOCOL
                && (route.via, route.nexthop, route.oif) == (None, None, index)
        };
        if old.is_some_and(is_right) {
            self.adopt_route(destination, metric);
            return self.clear_beside(destination, metric, true);
        }
        if let Some(route) = old.filter(|route| !self.may_replace(&destination, route)) {
            return self.block(Key::Route(destination), route);
        }
        if let Some(id) = old.and_then(|route| route.nexthop) {
            self.lose(id);
        }
        let route = Route {
            via: None,
            oif: index,
            onlink: false,
            nexthop: None,
            protocol: ROUTE_PROTOCOL,
            ordinary: true,
            metric,
        };
        self.keep_for_those_on_their_way(&destination, old);
        let asked = if metric == usual_metric(&destination) { 0 } else { metric };
        let message = message(&destination, Some(RouteTarget::Device(index)), asked);
        self.step(
            Stage::PutRoute,
            Some(Key::Route(destination)),
            put(old.is_some(), message),
            Observation::Route(destination, route),
        );
        self.clear_beside(destination, metric, false);
    }

    /// The metric of a route over a device alone.
    fn device_metric(&self, destination: &IpNet, device: &Device) -> u32 {
        let spec = match device {
            Device::Own(name) => self.planner.ledger.device(name),
            Device::External | Device::Uplink(_) => None,
        };
        // A change of the backend has routes to single peers, which take the place of those before.
        let of_all = |name: &Arc<str>| {
            self.planner.ledger.networks().get(name).is_some_and(|networks| networks.contains(destination))
        };
        match (spec, destination, device) {
            (Some(DeviceSpec::Tunnel(_)), IpNet::V4(_), Device::Own(name)) if of_all(name) => TUNNEL_METRIC,
            _ => usual_metric(destination),
        }
    }

    /// Flannel's other routes to the same go as soon as ours is there, such as one of an earlier version of ours, without a metric. Of a
    /// route that is not flannel's and comes before ours the operator is told.
    fn clear_beside(&mut self, destination: IpNet, metric: u32, is_there: bool) {
        let kernel = self.planner.kernel;
        let (flannels, others): (Vec<&Route>, Vec<&Route>) = kernel
            .routes_to(&destination)
            .filter(|route| route.metric != metric)
            .partition(|route| self.may_replace(&destination, route));
        if is_there {
            for route in flannels {
                self.delete(destination, route);
            }
        } else if !flannels.is_empty() {
            self.look_again(Key::Route(destination));
        }
        if let Some(before) = others.into_iter().find(|route| route.metric < metric) {
            self.block(Key::Route(destination), before);
        }
    }

    fn adopt_route(&mut self, destination: IpNet, metric: u32) {
        if self.planner.kernel.held.get(&destination).is_none_or(|held| held.metric != metric) {
            self.adopt(destination, metric);
        }
    }

    /// Whether one of ours may take a route's place. Not, if neither this daemon nor another flannel has made it.
    fn may_replace(&self, destination: &IpNet, route: &Route) -> bool {
        // Who overwrites a route that we hold has taken it from us.
        self.planner.kernel.held.get(destination).is_some_and(|held| held.metric == route.metric)
            || is_own(route, self.planner.kernel)
            || (route.protocol == ROUTE_PROTOCOL
                && route.ordinary
                && route.has_flannels_metric()
                && self.is_flannels(destination, route))
    }

    /// Whether a route looks like one that a flannel of before has made, maybe with another backend: over a device of flannel's, or, at the
    /// start, by way of the very address that the destination's peer has.
    fn is_flannels(&self, destination: &IpNet, route: &Route) -> bool {
        let Planner { ledger, kernel, .. } = self.planner;
        let is_address = |entry: &Entry, via: IpAddr| match entry {
            Entry::Route { via: Some(hop), .. } => *hop == via,
            Entry::Fdb { destination, .. } => *destination == via,
            Entry::TunnelPeer { endpoint, .. } => *endpoint == via,
            Entry::WireguardPeer { peer, .. } => peer.endpoint.is_some_and(|endpoint| endpoint.ip() == via),
            _ => false,
        };
        kernel.former_devices.contains(&route.oif)
            // Whoever writes a lease chooses its address, and must not get hold of an operator's route by that.
            || route.via.filter(|_| self.planner.adopts).is_some_and(|via| {
                let key = Key::Route(*destination);
                let mut claimed = ledger.owners(&key).flat_map(|peer| ledger.entries_of(peer));
                claimed.any(|claim| ledger.entry(&claim.key()).is_some_and(|entry| is_address(entry, via)))
            })
    }

    pub(super) fn remove_route(&mut self, destination: &IpNet) {
        let kernel = self.planner.kernel;
        let held = kernel.held.get(destination);
        let is_held = |route: &Route| {
            route.protocol == ROUTE_PROTOCOL && held.is_some_and(|held| goes_like(held, route))
        };
        // Somebody may have put a route of his own there.
        for route in kernel.routes_to(destination).filter(|route| is_held(route) || is_own(route, kernel)) {
            self.delete(*destination, route);
        }
    }

    fn delete(&mut self, destination: IpNet, route: &Route) {
        let target = Some(target_of(route));
        if let Some(id) = route.nexthop {
            self.lose(id);
        }
        self.step(
            Stage::DeleteRoute,
            Some(Key::Route(destination)),
            Message::plain(Payload::Route(Rt::DelRoute(delete_route(&destination, target, route.metric)))),
            Observation::NoRoute(destination, route.metric),
        );
    }
}

/// How a route leaves.
fn target_of(route: &Route) -> RouteTarget {
    match (route.nexthop, route.via) {
        (Some(id), _) => RouteTarget::Nexthop(id),
        (None, Some(via)) => RouteTarget::Direct(NextHop { via, oif: route.oif, onlink: route.onlink }),
        (None, None) => RouteTarget::Device(route.oif),
    }
}

/// Puts a route in the place of one that is there, or where none is.
fn put(replace: bool, message: RouteMessage) -> Message {
    let payload = Payload::Route(Rt::NewRoute(message));
    if replace { create_or_replace(payload) } else { create(payload) }
}

/// Whether a route is ours by what it leads over.
fn is_own(route: &Route, kernel: &ObservedState) -> bool {
    route.protocol == ROUTE_PROTOCOL
        && route.has_flannels_metric()
        && (kernel.own_device(route.oif).is_some()
            || route.nexthop.is_some_and(|id| kernel.nexthop(id).is_some()))
}

/// Whether two routes to one destination are the same.
fn goes_like(one: &Route, other: &Route) -> bool {
    let what = |route: &Route| (route.via, route.oif, route.nexthop, route.ordinary, route.metric);
    what(one) == what(other)
}

/// Whether a route does what ours would.
fn leads_to(route: &Route, hop: &NextHop, kernel: &ObservedState) -> bool {
    if !route.ordinary || route.protocol != ROUTE_PROTOCOL {
        return false;
    }
    match route.nexthop {
        Some(id) => kernel.nexthop(id) == Some(hop),
        None => route.via == Some(hop.via) && route.oif == hop.oif && route.onlink == hop.onlink,
    }
}

/// Ours: routes over our devices, through our nexthop objects, and others that we have made.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    let is_ours = |(destination, route): &(&IpNet, &Route)| {
        is_own(route, kernel) || kernel.held.get(*destination).is_some_and(|held| goes_like(held, route))
    };
    kernel.routes().filter(is_ours).map(|(destination, _)| Key::Route(*destination))
}

/// What the kernel says of a route to somewhere that concerns us; `gone`: that there is none.
pub(super) fn read(
    message: &RouteMessage,
    gone: bool,
    kernel: &ObservedState,
) -> Option<(IpNet, Observation)> {
    let (destination, mut route) = read_route(message)?;
    if gone {
        return Some((destination, Observation::NoRoute(destination, route.metric)));
    }
    // A kernel may leave the gateway out where a nexthop object says it (nexthop_compat_mode).
    if let Some(hop) = route.nexthop.and_then(|id| kernel.nexthop(id)) {
        route.via = Some(hop.via);
        route.oif = hop.oif;
        route.onlink = hop.onlink;
    }
    Some((destination, Observation::Route(destination, route)))
}

/// Whether somebody has put a route on a device of ours, where nothing but the policy's belongs.
pub(super) fn is_stray(route: &Route, kernel: &ObservedState) -> bool {
    route.protocol == ROUTE_PROTOCOL && route.has_flannels_metric() && kernel.own_device(route.oif).is_some()
}
