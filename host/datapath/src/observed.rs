//! What the kernel has at the moment, as far as it concerns us: filled by dumps, kept current by notifications and by
//! the acknowledgements of what we send. Decides nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use flannel_model::entry::{LinkAddress, Mac};
use flannel_model::policy_routing::{Encapsulation, RoutePlace, Rule};
use flannel_model::wireguard::{PublicKey, WireguardPeer};
use ipnet::IpNet;

use super::ipsec::There;
use super::kinds::rule::Interfaces;
use super::policy_tables::PolicyTables;

/// The metric that the kernel gives an IPv6 route without one (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;
/// The metric of IPv4 routes over a tunnel of this process. Upstream, in our place, makes another device beside ours, and adds its route
/// without a metric: it finds that place free, and wins.
pub(crate) const TUNNEL_METRIC: u32 = 100;
/// Where the numbers of nexthop objects begin, how many a device has, and for how many devices there are some.
const FIRST_NEXTHOP: u32 = 0x1000_0000;
const NEXTHOPS_PER_DEVICE: u32 = 0x10_0000;
const NEXTHOP_RANGES: u32 = 0xe00;

/// A link of ours, or the external interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Whether it can send. Devices of ours always count as if they could.
    pub carrier: bool,
}

/// A route in the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The device's index.
    pub oif: u32,
    /// Whether the next hop need not be covered by an address.
    pub onlink: bool,
    /// The nexthop object that it uses.
    pub nexthop: Option<u32>,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// An ordinary unicast route, without anything that we would not have asked for.
    pub ordinary: bool,
    /// As the kernel shows it. Of several routes to one destination, one for each metric, that with the lowest counts.
    pub metric: u32,
}

impl Route {
    /// Whether it has the metric of a route that was made without one.
    pub(crate) fn has_usual_metric(&self) -> bool {
        [0, IPV6_METRIC].contains(&self.metric)
    }

    /// Whether a flannel, ours or upstream's, may have made it by its metric. Others' come with any.
    pub(crate) fn has_flannels_metric(&self) -> bool {
        self.has_usual_metric() || self.metric == TUNNEL_METRIC
    }
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Where the neighbour is found; none: unknown.
    pub link_address: Option<LinkAddress>,
    /// It does not age.
    pub permanent: bool,
}

/// An entry of a VXLAN device's forwarding database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fdb {
    /// Where frames go.
    pub destination: Option<IpAddr>,
    /// It does not age.
    pub permanent: bool,
}

/// What a nexthop object leads to: one object serves all routes with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NextHop {
    /// The gateway.
    pub via: IpAddr,
    /// The device's index.
    pub oif: u32,
    /// Whether the gateway need not be covered by an address.
    pub onlink: bool,
}

/// Where a route of the table for trials leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrialHop {
    /// The gateway; none: the device knows.
    pub via: Option<IpAddr>,
    /// The device's index.
    pub oif: u32,
    /// Whether the gateway need not be covered by an address.
    pub onlink: bool,
    /// What packets get around them.
    pub around: Around,
}

/// A route of the table for trials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrialRoute {
    /// Where it leads.
    pub hop: TrialHop,
    /// The nexthop object that it uses.
    pub nexthop: Option<u32>,
}

/// What packets get around them on a next hop, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Around {
    /// Nothing.
    #[default]
    Nothing,
    /// This.
    This(Arc<Encapsulation>),
    /// Something that we would not have asked for.
    Odd,
}

impl From<Option<Arc<Encapsulation>>> for Around {
    fn from(wanted: Option<Arc<Encapsulation>>) -> Self {
        wanted.map_or(Self::Nothing, Self::This)
    }
}

/// One of the next hops of a route with attributes, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PolicyHop {
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The device's index.
    pub oif: u32,
    /// Whether the gateway need not be covered by an address.
    pub onlink: bool,
    /// Its share of the flows.
    pub weight: u16,
    /// What packets get around them.
    pub around: Around,
}

/// A route with attributes, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenPolicyRoute {
    /// In the order of their values: the kernel's own may be any.
    pub hops: Box<[PolicyHop]>,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// Bytes of the largest segment that is announced.
    pub advmss: Option<u32>,
    /// It has something that we would not have asked for.
    is_odd: bool,
}

impl SeenPolicyRoute {
    /// One with these next hops. A single one has no share.
    pub(crate) fn new(
        mut hops: Vec<PolicyHop>,
        source: Option<IpAddr>,
        mtu: Option<u32>,
        advmss: Option<u32>,
        is_odd: bool,
    ) -> Self {
        if let [only] = &mut hops[..] {
            only.weight = 1;
        }
        hops.sort_unstable();
        Self { hops: hops.into(), source, mtu, advmss, is_odd }
    }
}

/// One change of the mirror.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    /// Nothing that is of interest afterwards.
    Nothing,
    /// A route is there.
    Route(IpNet, Route),
    /// None is there with this metric.
    NoRoute(IpNet, u32),
    /// A route of the table for trials is there, or none is.
    TrialRoute(IpNet, Option<TrialRoute>),
    /// A blackhole route is there, or none is.
    Blackhole(IpNet, bool),
    /// A neighbour entry is there, or none is.
    Neighbour(u32, IpAddr, Option<Neighbour>),
    /// A forwarding database entry is there, or none is.
    Fdb(u32, Mac, Option<Fdb>),
    /// A WireGuard device has a peer, or has not.
    WireguardPeer(u32, Arc<PublicKey>, Option<Arc<WireguardPeer>>),
    /// A tunnel knows where a subnet is, or does not.
    TunnelPeer(u32, IpNet, Option<IpAddr>),
    /// There is something for a subnet behind an XFRM interface, or nothing.
    IpsecPeer(u32, IpNet, Option<There>),
    /// A nexthop object of ours is there, or none is.
    Nexthop(u32, Option<NextHop>),
    /// A route with attributes of ours is there, or none is.
    PolicyRoute(RoutePlace, Option<Box<SeenPolicyRoute>>),
    /// A route that is not ours is where one with attributes could be, or none is.
    ForeignRoute(RoutePlace, Option<Box<Route>>),
    /// A rule of ours is there, or is not.
    Rule(Arc<Rule>, bool),
}

/// The mirror. What each peer has one of is in trees: a hash map doubles, and is half empty afterwards.
#[derive(Debug, Default)]
pub(crate) struct ObservedState {
    /// The external interface; none while it is away.
    pub external: Option<Link>,
    /// Our devices by name, as far as they are there.
    pub links: BTreeMap<Arc<str>, Link>,
    /// Devices with names that flannel gives, which this daemon does not have: a former backend's.
    pub former_devices: BTreeSet<u32>,
    /// Routes to destinations in the cluster networks, with the metric that most of ours have.
    routes: BTreeMap<IpNet, Route>,
    /// Those with other metrics, as far as [`is_mirrored`] has it: few, if any.
    beside: BTreeMap<(IpNet, u32), Route>,
    /// Of the destinations that are wanted, the routes that we have made there, or found as we would make them. What is there at the
    /// moment may be another one.
    pub held: BTreeMap<IpNet, Route>,
    /// Those are others than they were when this was last set to false.
    pub held_changed: bool,
    /// The table in which a change of the backend tries its new ways; none: there is no change.
    pub trial_table: Option<u32>,
    /// Its routes that are ours.
    pub trial_routes: HashMap<IpNet, TrialRoute>,
    /// Interfaces of the operator's that plugins may use, as far as they are there.
    pub uplinks: BTreeMap<Arc<str>, Link>,
    /// The tables of the plugin's own.
    pub policy_tables: PolicyTables,
    /// What interfaces that are not ours are called.
    pub interfaces: Interfaces,
    /// Routes with attributes that are ours.
    pub policy_routes: BTreeMap<RoutePlace, SeenPolicyRoute>,
    /// Where we have made one that is still wanted. What is there at the moment may be another one.
    pub held_policy_routes: BTreeSet<RoutePlace>,
    /// Routes that are not ours, where ours could be: with metrics that no other route of ours has, and in the tables of the plugin's own.
    foreign_routes: BTreeMap<RoutePlace, Route>,
    /// Rules that are ours.
    pub rules: BTreeSet<Arc<Rule>>,
    /// Blackhole routes in the cluster networks, with the metric that ours have.
    pub blackholes: BTreeSet<IpNet>,
    /// Neighbour entries on our devices.
    pub neighbours: BTreeMap<(u32, IpAddr), Neighbour>,
    /// Forwarding database entries of our devices.
    pub fdb: BTreeMap<(u32, Mac), Fdb>,
    /// Peers of our WireGuard devices.
    pub wireguard: HashMap<(u32, Arc<PublicKey>), Arc<WireguardPeer>>,
    /// Subnets behind the tunnels of this process.
    pub tunnelled: HashMap<(u32, IpNet), IpAddr>,
    /// Subnets behind our XFRM interfaces.
    pub ipsec: HashMap<(u32, IpNet), There>,
    /// Numbers of others' nexthop objects, which are taken.
    pub foreign_nexthops: BTreeSet<u32>,
    nexthops: BTreeMap<u32, NextHop>,
    by_hop: HashMap<NextHop, u32>,
    users: HashMap<u32, u32>,
}

impl ObservedState {
    /// Nothing yet, where the plugin has these tables, and interfaces are called so.
    pub(crate) fn of(policy_tables: PolicyTables, interfaces: Interfaces) -> Self {
        Self { policy_tables, interfaces, ..Self::default() }
    }

    /// Forgets all but the links, and what we have made.
    pub(crate) fn forget_entries(&mut self) {
        self.routes.clear();
        self.beside.clear();
        self.trial_routes.clear();
        self.policy_routes.clear();
        self.foreign_routes.clear();
        self.rules.clear();
        self.blackholes.clear();
        self.neighbours.clear();
        self.fdb.clear();
        self.wireguard.clear();
        self.tunnelled.clear();
        self.ipsec.clear();
        self.foreign_nexthops.clear();
        self.nexthops.clear();
        self.by_hop.clear();
        self.users.clear();
    }

    /// Takes note of a change.
    pub(crate) fn record(&mut self, fact: Observation) {
        match fact {
            Observation::Nothing => {}
            Observation::Route(destination, route) => {
                self.record_route(destination, route.metric, Some(route));
            }
            Observation::NoRoute(destination, metric) => self.record_route(destination, metric, None),
            Observation::TrialRoute(destination, route) => self.record_trial_route(destination, route),
            Observation::PolicyRoute(place, Some(route)) => {
                self.foreign_routes.remove(&place);
                self.policy_routes.insert(place, *route);
            }
            Observation::PolicyRoute(place, None) => {
                self.policy_routes.remove(&place);
            }
            Observation::ForeignRoute(place, Some(route)) => {
                // It is in the place of ours, or would be beside it, which comes to the same: ours is put back.
                self.policy_routes.remove(&place);
                self.foreign_routes.insert(place, *route);
            }
            Observation::ForeignRoute(place, None) => {
                self.foreign_routes.remove(&place);
            }
            Observation::Rule(rule, true) => {
                self.rules.insert(rule);
            }
            Observation::Rule(rule, false) => {
                self.rules.remove(&rule);
            }
            Observation::Blackhole(destination, true) => {
                self.blackholes.insert(destination);
            }
            Observation::Blackhole(destination, false) => {
                self.blackholes.remove(&destination);
            }
            Observation::Neighbour(index, address, Some(entry)) => {
                self.neighbours.insert((index, address), entry);
            }
            Observation::Neighbour(index, address, None) => {
                self.neighbours.remove(&(index, address));
            }
            Observation::Fdb(index, mac, Some(entry)) => {
                self.fdb.insert((index, mac), entry);
            }
            Observation::Fdb(index, mac, None) => {
                self.fdb.remove(&(index, mac));
            }
            Observation::WireguardPeer(index, key, Some(peer)) => {
                self.wireguard.insert((index, key), peer);
            }
            Observation::WireguardPeer(index, key, None) => {
                self.wireguard.remove(&(index, key));
            }
            Observation::TunnelPeer(index, subnet, Some(endpoint)) => {
                self.tunnelled.insert((index, subnet), endpoint);
            }
            Observation::TunnelPeer(index, subnet, None) => {
                self.tunnelled.remove(&(index, subnet));
            }
            Observation::IpsecPeer(index, subnet, Some(there)) => {
                self.ipsec.insert((index, subnet), there);
            }
            Observation::IpsecPeer(index, subnet, None) => {
                self.ipsec.remove(&(index, subnet));
            }
            Observation::Nexthop(id, Some(hop)) => {
                self.nexthops.insert(id, hop);
                self.by_hop.insert(hop, id);
            }
            Observation::Nexthop(id, None) => {
                if let Some(hop) = self.nexthops.remove(&id)
                    && self.by_hop.get(&hop) == Some(&id)
                {
                    self.by_hop.remove(&hop);
                }
            }
        }
    }

    /// The kernel has done what we asked.
    pub(crate) fn confirm(&mut self, fact: Observation) {
        match &fact {
            Observation::Route(destination, route) => self.hold(*destination, route.clone()),
            Observation::NoRoute(destination, metric)
                if self.held.get(destination).is_some_and(|held| held.metric == *metric) =>
            {
                self.held_changed |= self.held.remove(destination).is_some();
            }
            Observation::PolicyRoute(place, Some(_)) => {
                self.held_policy_routes.insert(*place);
            }
            Observation::PolicyRoute(place, None) => {
                self.held_policy_routes.remove(place);
            }
            _ => {}
        }
        self.record(fact);
    }

    /// A route is ours.
    pub(crate) fn hold(&mut self, destination: IpNet, route: Route) {
        self.held.insert(destination, route);
        self.held_changed = true;
    }

    /// The route to a destination with this metric.
    pub(crate) fn route(&self, destination: &IpNet, metric: u32) -> Option<&Route> {
        if metric == usual_metric(destination) {
            self.routes.get(destination)
        } else {
            self.beside.get(&(*destination, metric))
        }
    }

    /// The routes to a destination, of whatever metric.
    pub(crate) fn routes_to(&self, destination: &IpNet) -> impl Iterator<Item = &Route> {
        let beside = self.beside.range((*destination, 0)..=(*destination, u32::MAX));
        self.routes.get(destination).into_iter().chain(beside.map(|(_, route)| route))
    }

    /// All routes to destinations in the cluster networks.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&IpNet, &Route)> {
        self.routes.iter().chain(self.beside.iter().map(|((destination, _), route)| (destination, route)))
    }

    /// A route that is not ours in the place of one with attributes.
    pub(crate) fn foreign_route(&self, place: &RoutePlace) -> Option<&Route> {
        self.foreign_routes.get(place)
    }

    /// A route of the main table that is not ours, and would come behind one with attributes, if that were there.
    pub(crate) fn foreign_behind(&self, place: &RoutePlace) -> Option<&Route> {
        self.foreign_beside(place)
            .filter(|route| route.metric > place.metric)
            .min_by_key(|route| route.metric)
    }

    /// A route of the main table that is not ours, and comes before one with attributes.
    pub(crate) fn foreign_before(&self, place: &RoutePlace) -> Option<&Route> {
        self.foreign_beside(place)
            .filter(|route| route.metric < place.metric)
            .min_by_key(|route| route.metric)
    }

    fn foreign_beside(&self, place: &RoutePlace) -> impl Iterator<Item = &Route> {
        let (first, last) = (RoutePlace { metric: 0, ..*place }, RoutePlace { metric: u32::MAX, ..*place });
        let held = self.held.get(&place.destination);
        let is_ours = move |route: &&Route| {
            held.is_some_and(|held| held.metric == route.metric)
                || self.own_device(route.oif).is_some()
                || route.nexthop.is_some_and(|id| self.nexthop(id).is_some())
        };
        let others = self.routes_to(&place.destination).filter(move |route| !is_ours(route));
        let all = others.chain(self.foreign_routes.range(first..=last).map(|(_, route)| route));
        // In tables of the plugin's own nobody has anything to lose.
        all.filter(|_| place.table.is_none())
    }

    /// Over which devices routes with attributes of the main table lead to a destination.
    pub(crate) fn policy_devices(&self, destination: IpNet) -> impl Iterator<Item = u32> {
        let place = |metric| RoutePlace { table: None, destination, metric };
        let there = self.policy_routes.range(place(0)..=place(u32::MAX));
        there.flat_map(|(_, route)| route.hops.iter().map(|hop| hop.oif))
    }

    fn record_route(&mut self, destination: IpNet, metric: u32, route: Option<Route>) {
        let new = route.as_ref().and_then(|r| r.nexthop);
        let usual = metric == usual_metric(&destination);
        let old = match route {
            Some(route) if usual => self.routes.insert(destination, route),
            Some(route) => self.beside.insert((destination, metric), route),
            None if usual => self.routes.remove(&destination),
            None => self.beside.remove(&(destination, metric)),
        };
        self.count_users(new, old.and_then(|r| r.nexthop));
    }

    fn record_trial_route(&mut self, destination: IpNet, route: Option<TrialRoute>) {
        let new = route.as_ref().and_then(|route| route.nexthop);
        let old = match route {
            Some(route) => self.trial_routes.insert(destination, route),
            None => self.trial_routes.remove(&destination),
        };
        self.count_users(new, old.and_then(|route| route.nexthop));
    }

    /// A route uses this nexthop object, and not that one any more.
    fn count_users(&mut self, new: Option<u32>, old: Option<u32>) {
        if let Some(id) = new {
            *self.users.entry(id).or_default() += 1;
        }
        if let Some(id) = old
            && let Some(count) = self.users.get_mut(&id)
        {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&id);
            }
        }
    }

    /// The number of our nexthop object that leads there, if there is one.
    pub(crate) fn nexthop_to(&self, hop: &NextHop) -> Option<u32> {
        self.by_hop.get(hop).copied()
    }

    /// Where a nexthop object of ours leads.
    pub(crate) fn nexthop(&self, id: u32) -> Option<&NextHop> {
        self.nexthops.get(&id)
    }

    /// Our nexthop objects that no route uses.
    pub(crate) fn idle_nexthops(&self) -> Vec<u32> {
        self.nexthops.keys().copied().filter(|id| !self.users.contains_key(id)).collect()
    }

    /// How many routes use a nexthop object.
    pub(crate) fn users(&self, id: u32) -> u32 {
        self.users.get(&id).copied().unwrap_or(0)
    }

    /// A number for a new nexthop object over a device, where `last` is the last one that was given away: the next after all that the device
    /// has, and only when there is none the first that it has not. None if it has all.
    pub(crate) fn free_nexthop(&self, device: u32, last: Option<u32>) -> Option<u32> {
        let numbers = nexthop_numbers(device);
        let last = last.max(self.nexthops.range(numbers.clone()).next_back().map(|(id, _)| *id));
        let after = last.map_or(*numbers.start(), |last| last + 1);
        (after..=*numbers.end()).chain(numbers).find(|id| {
            last != Some(*id) && !self.nexthops.contains_key(id) && !self.foreign_nexthops.contains(id)
        })
    }

    /// The device of ours with this index.
    pub(crate) fn own_device(&self, index: u32) -> Option<&Arc<str>> {
        self.links.iter().find(|(_, link)| link.index == index).map(|(name, _)| name)
    }
}

/// The numbers of a device's nexthop objects: no other device's, so that several daemons do not get into each other's way, and high enough to
/// stay clear of numbers that people choose.
fn nexthop_numbers(device: u32) -> RangeInclusive<u32> {
    let first = FIRST_NEXTHOP + (device % NEXTHOP_RANGES) * NEXTHOPS_PER_DEVICE;
    first..=first + (NEXTHOPS_PER_DEVICE - 1)
}

/// Whether routes to a destination with this metric concern us: where ours have it, and where they come before ours.
pub(crate) fn is_mirrored(destination: &IpNet, metric: u32) -> bool {
    match destination {
        IpNet::V4(_) => metric <= TUNNEL_METRIC,
        IpNet::V6(_) => metric == IPV6_METRIC,
    }
}

/// The metric of most of our routes as the kernel shows it: none is asked for, which means 0 for IPv4 and 1024 for IPv6.
pub(crate) fn usual_metric(destination: &IpNet) -> u32 {
    match destination {
        IpNet::V4(_) => 0,
        IpNet::V6(_) => IPV6_METRIC,
    }
}
