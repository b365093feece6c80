//! Desired against actual: the requests that turn one into the other, in an order in which no packet is lost. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use flannel_model::entry::{Device, Entry, Key};
use flannel_model::ledger::Ledger;
use ipnet::IpNet;

use super::ipsec::IpsecChange;
use super::kinds;
use super::netlink::Message;
use super::observed::{Link, NextHop, Observation, ObservedState, Route};
use super::tunnels::TunnelChange;
use super::wireguard::PeerChange;

/// The order of requests. Neighbours and FDB entries before routes, else the kernel would ask the network for what it
/// is about to be told; rules when the routes are there that they lead to, and only as long; what IPv6's kernel wants to see before it takes a gateway around that; additions before removals, so that a peer which moves is reachable throughout; nexthop objects
/// go last, since with one go all the routes that use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    PutFdb,
    PutNeighbour,
    PutWireguardPeer,
    PutTunnelPeer,
    OpenWay,
    PutNexthop,
    PutRoute,
    PutRule,
    DeleteRule,
    DeleteRoute,
    CloseWay,
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
    /// To IPsec's policies and states, by the device that they are tied to.
    Ipsec(Arc<str>, IpsecChange),
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
    pub fact: Observation,
}

impl Step {
    /// Whether the request removes something: then it is as good as done if nothing was there.
    pub(crate) fn is_removal(&self) -> bool {
        self.stage >= Stage::DeleteRule
    }
}

/// The requests, and what cannot be asked for now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order of sending.
    pub steps: Vec<Step>,
    /// Entries whose device is away or down: they come when it does.
    pub waiting: BTreeSet<Key>,
    /// Entries in whose way something is that is not ours: they come when it goes.
    pub blocked: Vec<(Key, Route)>,
    /// Destinations to which a route leads as ours would, although we have not made it, and its metric.
    pub adopted: Vec<(IpNet, u32)>,
    /// Entries that are not all done by these steps: what comes after is planned when the kernel has taken them.
    pub unfinished: BTreeSet<Key>,
}

/// What to plan with.
pub(crate) struct Planner<'a> {
    /// What should be.
    pub ledger: &'a Ledger,
    /// What is.
    pub kernel: &'a ObservedState,
    /// Whether routes go through nexthop objects.
    pub nexthops: bool,
    /// The cluster networks.
    pub networks: &'a [IpNet],
    /// Whether what is there may be what a flannel of before has left: until it is known what should be there.
    pub adopts: bool,
}

impl Planner<'_> {
    /// Plans for some keys: those that the ledger changed, or that the kernel told of.
    pub(crate) fn keys<'k>(&self, keys: impl IntoIterator<Item = &'k Key>) -> Plan {
        let mut draft = Draft::new(self);
        for key in keys {
            match self.ledger.entry(key) {
                Some(entry) => draft.put(entry),
                None => draft.remove_entry(key),
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
                draft.remove_entry(&key);
            }
            for id in self.kernel.idle_nexthops() {
                draft.retire(id);
            }
        }
        draft.finish()
    }

    /// What is ours in the kernel and not in the ledger.
    fn stale(&self) -> BTreeSet<Key> {
        kinds::ours(self.kernel, self.networks).filter(|key| self.ledger.entry(key).is_none()).collect()
    }

    /// A device that is there, be it up or down.
    pub(crate) fn link(&self, device: &Device) -> Option<&Link> {
        match device {
            Device::External => self.kernel.external.as_ref(),
            Device::Own(name) => self.kernel.links.get(name),
            Device::Uplink(name) => self.kernel.uplinks.get(&***name),
        }
    }

    /// The index of a device that is up.
    pub(crate) fn index(&self, device: &Device) -> Option<u32> {
        self.link(device).filter(|link| link.up).map(|link| link.index)
    }
}

/// A plan in the making.
pub(crate) struct Draft<'a> {
    /// What it is made with.
    pub planner: &'a Planner<'a>,
    plan: Plan,
    /// Nexthop objects that this plan makes.
    pub made: HashMap<NextHop, u32>,
    /// The last number that this plan gives to one, by its device.
    pub last_made: HashMap<u32, u32>,
    /// Nexthop objects that lose a route by this plan, and those that gain one.
    losing: HashMap<u32, u32>,
    pub gaining: BTreeSet<u32>,
    /// Gateways that are made known to the kernel for as long as this plan is carried out.
    pub ways: BTreeSet<IpAddr>,
}

impl<'a> Draft<'a> {
    fn new(planner: &'a Planner<'a>) -> Self {
        Self {
            planner,
            plan: Plan::default(),
            made: HashMap::new(),
            last_made: HashMap::new(),
            losing: HashMap::new(),
            gaining: BTreeSet::new(),
            ways: BTreeSet::new(),
        }
    }

    /// Adds a request to the routing family.
    pub(crate) fn step(&mut self, stage: Stage, key: Option<Key>, message: Message, fact: Observation) {
        self.plan.steps.push(Step { stage, key, request: Request::Routing(message), fact });
    }

    /// Adds a request to a WireGuard device.
    pub(crate) fn wireguard_step(
        &mut self,
        stage: Stage,
        key: Key,
        index: u32,
        change: PeerChange,
        fact: Observation,
    ) {
        let request = Request::Wireguard(index, change);
        self.plan.steps.push(Step { stage, key: Some(key), request, fact });
    }

    /// Adds a request to a tunnel of this process.
    pub(crate) fn tunnel_step(
        &mut self,
        stage: Stage,
        key: Key,
        device: Arc<str>,
        change: TunnelChange,
        fact: Observation,
    ) {
        self.plan.steps.push(Step { stage, key: Some(key), request: Request::Tunnel(device, change), fact });
    }

    /// Plans a step for a device of IPsec.
    pub(crate) fn ipsec_step(
        &mut self,
        stage: Stage,
        key: Key,
        device: Arc<str>,
        change: IpsecChange,
        fact: Observation,
    ) {
        self.plan.steps.push(Step { stage, key: Some(key), request: Request::Ipsec(device, change), fact });
    }

    /// A route that is not ours is where one of ours is wanted.
    pub(crate) fn block(&mut self, key: Key, by: &Route) {
        self.plan.blocked.push((key, by.clone()));
    }

    /// A route that is there does what ours would.
    pub(crate) fn adopt(&mut self, destination: IpNet, metric: u32) {
        self.plan.adopted.push((destination, metric));
    }

    /// An entry is to be looked at once more, when the kernel has done what is planned for it.
    pub(crate) fn look_again(&mut self, key: Key) {
        self.plan.unfinished.insert(key);
    }

    /// A route that goes through this nexthop object goes, or goes elsewhere.
    pub(crate) fn lose(&mut self, nexthop: u32) {
        *self.losing.entry(nexthop).or_default() += 1;
    }

    fn put(&mut self, entry: &Entry) {
        // What needs no device gets a number that it has no use for.
        match entry.device().map_or(Some(0), |device| self.planner.index(device)) {
            Some(index) => self.put_entry(entry, index),
            None => drop(self.plan.waiting.insert(entry.key())),
        }
    }

    /// An entry comes when its device does.
    pub(crate) fn wait(&mut self, key: Key) {
        self.plan.waiting.insert(key);
    }

    /// The index of a device that is there, be it up or down.
    pub(crate) fn present(&self, device: &Device) -> Option<u32> {
        self.planner.link(device).map(|link| link.index)
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
