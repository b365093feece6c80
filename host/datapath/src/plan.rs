//! Desired against actual: the requests that turn one into the other, in an order in which no packet is lost. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use flannel_model::entry::{Device, Entry, Key};
use flannel_model::ledger::Ledger;
use flannel_model::wireguard::WireguardPeer;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Rt;

use super::codec::{self, Leave, NEXTHOP_PROTOCOL, ROUTE_PROTOCOL};
use super::kernel::{Fact, Fdb, Hop, Kernel, Neighbour, Route};
use super::netlink::{Message, NexthopMessage, Payload, create_or_replace};
use super::tunnels::TunnelChange;
use super::wireguard::PeerChange;

/// Where our nexthop objects' numbers begin: high enough to stay clear of numbers that people choose.
const FIRST_NEXTHOP: u32 = 0x0f1a_0000;

/// The order of requests. Neighbours and FDB entries before routes, else the kernel would ask the network for what it
/// is about to be told; additions before removals, so that a peer which moves is reachable throughout; nexthop objects
/// go last, since with one go all the routes that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    PutFdb,
    PutNeighbour,
    PutWireguardPeer,
    PutTunnelPeer,
    PutNexthop,
    PutRoute,
    DeleteRoute,
    DeleteNexthop,
    DeleteWireguardPeer,
    DeleteTunnelPeer,
    DeleteNeighbour,
    DeleteFdb,
}

/// A request to the kernel.
#[derive(Debug)]
pub(crate) enum Request {
    /// To the routing family.
    Routing(Message),
    /// To a WireGuard device, by its index.
    Wireguard(u32, PeerChange),
    /// To a tunnel of this process, by its device.
    Tunnel(Arc<str>, TunnelChange),
}

/// One request, what it is for, and what is true once the kernel has done it.
#[derive(Debug)]
pub(crate) struct Step {
    stage: Stage,
    /// The entry that it is for; none for nexthop objects.
    pub key: Option<Key>,
    /// The request.
    pub request: Request,
    /// What to put into the mirror on success.
    pub fact: Fact,
}

impl Step {
    /// Whether the request removes something: then it is as good as done if nothing was there.
    pub(crate) fn is_removal(&self) -> bool {
        self.stage >= Stage::DeleteRoute
    }
}

/// The requests, and what cannot be asked for now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order of sending.
    pub steps: Vec<Step>,
    /// Entries whose device is away or down: they come when it does.
    pub waiting: BTreeSet<Key>,
}

/// What to plan with.
pub(crate) struct Planner<'a> {
    /// What should be.
    pub ledger: &'a Ledger,
    /// What is.
    pub kernel: &'a Kernel,
    /// Whether routes go through nexthop objects.
    pub nexthops: bool,
    /// The cluster networks.
    pub networks: &'a [IpNet],
}

impl Planner<'_> {
    /// Plans for some keys: those that the ledger changed, or that the kernel told of.
    pub(crate) fn keys<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Plan {
        let mut draft = Draft::new(self);
        for key in keys {
            match self.ledger.entry(key) {
                Some(entry) => draft.put(entry),
                None => draft.remove(key),
            }
        }
        draft.finish()
    }

    /// Plans for everything. With `prune`, what is ours and no longer wanted goes: permanent neighbours and FDB entries
    /// on our devices, routes over our devices or through our nexthop objects, and idle nexthop objects.
    pub(crate) fn everything(&self, prune: bool) -> Plan {
        let mut draft = Draft::new(self);
        for (_, entry) in self.ledger.entries() {
            draft.put(entry);
        }
        if prune {
            for key in self.stale() {
                draft.remove(&key);
            }
            for id in self.kernel.idle_nexthops() {
                draft.retire(id);
            }
        }
        draft.finish()
    }

    /// What is ours in the kernel and not in the ledger.
    fn stale(&self) -> Vec<Key> {
        let mut stale = Vec::new();
        let own = |index: u32| self.kernel.own_device(index).cloned().map(Device::Own);
        for (destination, route) in &self.kernel.routes {
            let ours = route.protocol == ROUTE_PROTOCOL
                && (own(route.oif).is_some()
                    || route.nexthop.is_some_and(|id| self.kernel.nexthop(id).is_some()));
            stale.extend(ours.then_some(Key::Route(*destination)));
        }
        for ((index, address), neighbour) in &self.kernel.neighbours {
            if neighbour.permanent
                && self.networks.iter().any(|n| n.contains(address))
                && let Some(device) = own(*index)
            {
                stale.push(Key::Neighbour(device, *address));
            }
        }
        for ((index, mac), fdb) in &self.kernel.fdb {
            if fdb.permanent
                && mac.0 != [0; 6]
                && let Some(device) = own(*index)
            {
                stale.push(Key::Fdb(device, *mac));
            }
        }
        for (index, key) in self.kernel.wireguard.keys() {
            stale.extend(own(*index).map(|device| Key::WireguardPeer(device, Arc::clone(key))));
        }
        for (index, subnet) in self.kernel.tunnelled.keys() {
            stale.extend(own(*index).map(|device| Key::TunnelPeer(device, *subnet)));
        }
        stale.retain(|key| self.ledger.entry(key).is_none());
        stale
    }

    fn index(&self, device: &Device) -> Option<u32> {
        let link = match device {
            Device::External => self.kernel.external.as_ref(),
            Device::Own(name) => self.kernel.links.get(name),
        };
        link.filter(|link| link.up).map(|link| link.index)
    }
}

struct Draft<'a> {
    planner: &'a Planner<'a>,
    plan: Plan,
    /// Nexthop objects that this plan makes.
    made: HashMap<Hop, u32>,
    next: u32,
    /// Nexthop objects that lose a route by this plan, and those that gain one.
    losing: HashMap<u32, u32>,
    gaining: BTreeSet<u32>,
}

impl<'a> Draft<'a> {
    fn new(planner: &'a Planner<'a>) -> Self {
        Self {
            planner,
            plan: Plan::default(),
            made: HashMap::new(),
            next: FIRST_NEXTHOP,
            losing: HashMap::new(),
            gaining: BTreeSet::new(),
        }
    }

    fn step(&mut self, stage: Stage, key: Option<Key>, message: Message, fact: Fact) {
        self.plan.steps.push(Step { stage, key, request: Request::Routing(message), fact });
    }

    fn wireguard_step(&mut self, stage: Stage, key: Key, index: u32, change: PeerChange, fact: Fact) {
        let request = Request::Wireguard(index, change);
        self.plan.steps.push(Step { stage, key: Some(key), request, fact });
    }

    fn put(&mut self, entry: &Entry) {
        let kernel = self.planner.kernel;
        let Some(index) = self.planner.index(entry.device()) else {
            self.plan.waiting.insert(entry.key());
            return;
        };
        match entry {
            Entry::Route { destination, via: Some(via), onlink, .. } => {
                self.put_route(*destination, Hop { via: *via, oif: index, onlink: *onlink });
            }
            Entry::Route { destination, via: None, .. } => self.put_device_route(*destination, index),
            Entry::WireguardPeer { peer, .. } => self.put_wireguard_peer(entry.key(), peer, index),
            Entry::TunnelPeer { destination, endpoint, device } => {
                let there = kernel.tunnelled.get(&(index, *destination));
                if let (Device::Own(name), true) = (device, there != Some(endpoint)) {
                    self.plan.steps.push(Step {
                        stage: Stage::PutTunnelPeer,
                        key: Some(entry.key()),
                        request: Request::Tunnel(
                            Arc::clone(name),
                            TunnelChange::Put(*destination, *endpoint),
                        ),
                        fact: Fact::TunnelPeer(index, *destination, Some(*endpoint)),
                    });
                }
            }
            Entry::Neighbour { address, mac, .. } => {
                let wanted = Neighbour { mac: Some(*mac), permanent: true };
                if kernel.neighbours.get(&(index, *address)) != Some(&wanted) {
                    let message = codec::neighbour(index, *address, Some(*mac));
                    self.step(
                        Stage::PutNeighbour,
                        Some(entry.key()),
                        create_or_replace(Payload::Route(Rt::NewNeighbour(message))),
                        Fact::Neighbour(index, *address, Some(wanted)),
                    );
                }
            }
            Entry::Fdb { mac, destination, .. } => {
                let wanted = Fdb { destination: Some(*destination), permanent: true };
                if kernel.fdb.get(&(index, *mac)) != Some(&wanted) {
                    let message = codec::fdb(index, *mac, Some(*destination));
                    self.step(
                        Stage::PutFdb,
                        Some(entry.key()),
                        create_or_replace(Payload::Route(Rt::NewNeighbour(message))),
                        Fact::Fdb(index, *mac, Some(wanted)),
                    );
                }
            }
        }
    }

    /// Such routes are few: one for the whole cluster, and so a nexthop object would save nothing.
    fn put_device_route(&mut self, destination: IpNet, index: u32) {
        let old = self.planner.kernel.routes.get(&destination);
        let is_right = |route: &Route| {
            route.ordinary
                && route.protocol == ROUTE_PROTOCOL
                && (route.via, route.nexthop, route.oif) == (None, None, index)
        };
        if old.is_some_and(is_right) {
            return;
        }
        if let Some(id) = old.and_then(|route| route.nexthop) {
            *self.losing.entry(id).or_default() += 1;
        }
        let route = Route {
            via: None,
            oif: index,
            onlink: false,
            nexthop: None,
            protocol: ROUTE_PROTOCOL,
            ordinary: true,
        };
        let message = codec::route(&destination, Some(Leave::Device(index)));
        self.step(
            Stage::PutRoute,
            Some(Key::Route(destination)),
            create_or_replace(Payload::Route(Rt::NewRoute(message))),
            Fact::Route(destination, Some(route)),
        );
    }

    fn put_wireguard_peer(&mut self, key: Key, peer: &Arc<WireguardPeer>, index: u32) {
        let public = Arc::new(peer.key);
        let there = self.planner.kernel.wireguard.get(&(index, Arc::clone(&public)));
        if !there.is_some_and(|there| peer.is_met_by(there)) {
            let fact = Fact::WireguardPeer(index, public, Some(Arc::clone(peer)));
            let change = PeerChange::Put(Arc::clone(peer));
            self.wireguard_step(Stage::PutWireguardPeer, key, index, change, fact);
        }
    }

    fn put_route(&mut self, destination: IpNet, hop: Hop) {
        let old = self.planner.kernel.routes.get(&destination);
        // A plain route to the same next hop is as good: upstream's are adopted as they are.
        if old.is_some_and(|route| leads_to(route, &hop, self.planner.kernel)) {
            return;
        }
        let (leave, nexthop) = if self.planner.nexthops {
            let id = self.nexthop_for(hop);
            self.gaining.insert(id);
            (Leave::Nexthop(id), Some(id))
        } else {
            (Leave::Direct(hop), None)
        };
        if let Some(id) = old.and_then(|route| route.nexthop) {
            *self.losing.entry(id).or_default() += 1;
        }
        let route = Route {
            via: Some(hop.via),
            oif: hop.oif,
            onlink: hop.onlink,
            nexthop,
            protocol: ROUTE_PROTOCOL,
            ordinary: true,
        };
        self.step(
            Stage::PutRoute,
            Some(Key::Route(destination)),
            create_or_replace(Payload::Route(Rt::NewRoute(codec::route(&destination, Some(leave))))),
            Fact::Route(destination, Some(route)),
        );
    }

    fn nexthop_for(&mut self, hop: Hop) -> u32 {
        if let Some(id) = self.planner.kernel.nexthop_to(&hop).or_else(|| self.made.get(&hop).copied()) {
            return id;
        }
        // The numbers run out after some four thousand million objects; the kernel refuses the last one a second time.
        let id = self.planner.kernel.free_nexthops(self.next).next().unwrap_or(u32::MAX);
        self.next = id;
        self.made.insert(hop, id);
        let message = create_or_replace(Payload::NewNexthop(codec::nexthop(id, &hop)));
        self.step(Stage::PutNexthop, None, message, Fact::Nexthop(id, Some(hop)));
        id
    }

    fn remove(&mut self, key: &Key) {
        let kernel = self.planner.kernel;
        match key {
            Key::Route(destination) => {
                let Some(route) = kernel.routes.get(destination) else { return };
                // Somebody may have put a route of his own there after ours was dropped.
                if route.protocol != ROUTE_PROTOCOL {
                    return;
                }
                let leave = match (route.nexthop, route.via) {
                    (Some(id), _) => {
                        *self.losing.entry(id).or_default() += 1;
                        Some(Leave::Nexthop(id))
                    }
                    (None, Some(via)) => {
                        Some(Leave::Direct(Hop { via, oif: route.oif, onlink: route.onlink }))
                    }
                    (None, None) => Some(Leave::Device(route.oif)),
                };
                self.step(
                    Stage::DeleteRoute,
                    Some(key.clone()),
                    Message::plain(Payload::Route(Rt::DelRoute(codec::unroute(destination, leave)))),
                    Fact::Route(*destination, None),
                );
            }
            Key::WireguardPeer(..) => self.remove_wireguard_peer(key),
            Key::TunnelPeer(device, subnet) => {
                let Some(index) = self.present(device) else { return };
                if let (Device::Own(name), true) = (device, kernel.tunnelled.contains_key(&(index, *subnet)))
                {
                    self.plan.steps.push(Step {
                        stage: Stage::DeleteTunnelPeer,
                        key: Some(key.clone()),
                        request: Request::Tunnel(Arc::clone(name), TunnelChange::Remove(*subnet)),
                        fact: Fact::TunnelPeer(index, *subnet, None),
                    });
                }
            }
            Key::Neighbour(device, address) => {
                let Some(index) = self.present(device) else { return };
                if kernel.neighbours.get(&(index, *address)).is_some_and(|entry| entry.permanent) {
                    let message = codec::neighbour(index, *address, None);
                    self.step(
                        Stage::DeleteNeighbour,
                        Some(key.clone()),
                        Message::plain(Payload::Route(Rt::DelNeighbour(message))),
                        Fact::Neighbour(index, *address, None),
                    );
                }
            }
            Key::Fdb(device, mac) => {
                let Some(index) = self.present(device) else { return };
                if kernel.fdb.contains_key(&(index, *mac)) {
                    let message = codec::fdb(index, *mac, None);
                    self.step(
                        Stage::DeleteFdb,
                        Some(key.clone()),
                        Message::plain(Payload::Route(Rt::DelNeighbour(message))),
                        Fact::Fdb(index, *mac, None),
                    );
                }
            }
        }
    }

    fn remove_wireguard_peer(&mut self, key: &Key) {
        let Key::WireguardPeer(device, peer) = key else { return };
        let Some(index) = self.present(device) else { return };
        if self.planner.kernel.wireguard.contains_key(&(index, Arc::clone(peer))) {
            let fact = Fact::WireguardPeer(index, Arc::clone(peer), None);
            let change = PeerChange::Remove(Arc::clone(peer));
            self.wireguard_step(Stage::DeleteWireguardPeer, key.clone(), index, change, fact);
        }
    }

    fn present(&self, device: &Device) -> Option<u32> {
        match device {
            Device::External => self.planner.kernel.external.as_ref(),
            Device::Own(name) => self.planner.kernel.links.get(name),
        }
        .map(|link| link.index)
    }

    fn retire(&mut self, id: u32) {
        if self.gaining.contains(&id) {
            return;
        }
        let message = NexthopMessage { id, ..NexthopMessage::default() };
        self.step(
            Stage::DeleteNexthop,
            None,
            Message::plain(Payload::DelNexthop(message)),
            Fact::Nexthop(id, None),
        );
    }

    fn finish(mut self) -> Plan {
        let losing = std::mem::take(&mut self.losing);
        for (id, routes) in losing {
            if self.planner.kernel.nexthop(id).is_some() && self.planner.kernel.users(id) <= routes {
                self.retire(id);
            }
        }
        // Stable: within a stage the order is that of the ledger.
        self.plan.steps.sort_by_key(|step| step.stage);
        self.plan
    }
}

/// Whether a route does what ours would.
fn leads_to(route: &Route, hop: &Hop, kernel: &Kernel) -> bool {
    if !route.ordinary || route.protocol != ROUTE_PROTOCOL {
        return false;
    }
    match route.nexthop {
        Some(id) => kernel.nexthop(id) == Some(hop),
        None => route.via == Some(hop.via) && route.oif == hop.oif && route.onlink == hop.onlink,
    }
}

/// Whether a nexthop notification is about an object of ours.
pub(crate) fn is_own(message: &NexthopMessage) -> bool {
    message.protocol == NEXTHOP_PROTOCOL
}
