//! The only writer: keeps the kernel as the ledger says. Runs on a thread of its own with blocking sockets, so that a
//! large batch never holds up the rest of the daemon.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::entry::{Device, DeviceSpec, Key, Kind, TunnelDevice};
use flannel_model::ledger::{Changed, Ledger, PeerId, Transaction};
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage as Rt;
use tracing::{debug, info, warn};

use super::codec;
use super::kernel::{Fact, Kernel};
use super::links;
use super::netlink::{
    Drained, Message, NetlinkError, NexthopMessage, NotificationSocket, Payload, RequestSocket,
};
use super::plan::{self, Plan, Planner, Request, Step};
use super::report::{Failure, Figures, KindFigures, PeerReport, Report};
use super::tunnels::{TunnelChange, TunnelContext, Tunnels};
use super::wireguard::{PeerChange, WireguardSocket};

/// First and longest wait before something that the kernel refused is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often everything is looked at, even if nothing was heard.
const RESYNC: Duration = Duration::from_mins(1);
/// A variable for tests: with any value, nexthop objects count as missing, as on a kernel before 5.3.
const WITHOUT_NEXTHOPS: &str = "FLANNELD_TEST_WITHOUT_NEXTHOPS";
/// Rounds of repair within a second after which somebody else is fighting us for the same entries, and we slow down.
const REPAIRS_PER_SECOND: u32 = 200;

/// Steps after which the notifications are read.
const STEPS: usize = 4096;

/// What the daemon wants to know of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The external interface, its addresses or the routes over it changed: which peers are on the link may have too.
    Reachability,
}

/// What to look at in the next round.
#[derive(Debug, Default)]
struct Dirty {
    /// Entries whose state the kernel told us about.
    keys: BTreeSet<Key>,
    /// Notifications do not tell all: look at everything.
    everything: bool,
}

/// Requests that go to the same.
enum Batch {
    Routing(Vec<Message>),
    Wireguard(u32, Vec<PeerChange>),
    Tunnel(Arc<str>, Vec<TunnelChange>),
}

impl Batch {
    fn of(request: Request) -> Self {
        match request {
            Request::Routing(message) => Self::Routing(vec![message]),
            Request::Wireguard(index, change) => Self::Wireguard(index, vec![change]),
            Request::Tunnel(device, change) => Self::Tunnel(device, vec![change]),
        }
    }

    /// Adds a request to a batch, or begins one; a request that goes elsewhere is given back.
    fn add(batch: &mut Option<Self>, request: Request) -> Option<Request> {
        match (batch, request) {
            (Some(Self::Routing(messages)), Request::Routing(message)) => messages.push(message),
            (Some(Self::Wireguard(to, changes)), Request::Wireguard(index, change)) if *to == index => {
                changes.push(change);
            }
            (Some(Self::Tunnel(to, changes)), Request::Tunnel(device, change)) if *to == device => {
                changes.push(change);
            }
            (Some(_), other) => return Some(other),
            (none, first) => *none = Some(Self::of(first)),
        }
        None
    }
}

/// The reconciler's state; owned by its thread.
pub(crate) struct Reconciler {
    ledger: Ledger,
    kernel: Kernel,
    requests: RequestSocket,
    /// Opened when a WireGuard device is there.
    wireguard: Option<WireguardSocket>,
    tunnels: Tunnels,
    notifications: NotificationSocket,
    external: Arc<str>,
    networks: Vec<IpNet>,
    nexthops: bool,
    /// Leftovers are removed only when it is known what should be there.
    prune: bool,
    /// Tunnels let packets pass only when it is known where they go.
    settled: bool,
    dirty: Dirty,
    waiting: BTreeSet<Key>,
    failures: BTreeMap<Key, Failure>,
    device_failure: Option<(String, u32, Instant)>,
    next_resync: Instant,
    repairs: (Instant, u32),
    figures: Figures,
    events: tokio::sync::mpsc::UnboundedSender<Event>,
}

impl Reconciler {
    /// Opens the sockets in the network namespace of the calling thread. `external` is the name of the external
    /// interface, `networks` are the cluster networks, `tunnels` is what tunnels have to do with others.
    pub(crate) fn open(
        external: &str,
        networks: Vec<IpNet>,
        tunnels: TunnelContext,
        events: tokio::sync::mpsc::UnboundedSender<Event>,
    ) -> Result<Self, NetlinkError> {
        let notifications = NotificationSocket::open()?;
        let mut requests = RequestSocket::open()?;
        let refused = std::env::var_os(WITHOUT_NEXTHOPS).is_some_and(|value| !value.is_empty());
        let nexthops = !refused && requests.dump(&Payload::GetNexthop(NexthopMessage::default())).is_ok();
        if !nexthops {
            info!("this kernel has no nexthop objects (5.3 and later have): plain routes instead");
        }
        let mut reconciler = Self {
            ledger: Ledger::default(),
            kernel: Kernel::default(),
            requests,
            wireguard: None,
            tunnels: Tunnels::new(tunnels),
            notifications,
            external: external.into(),
            networks,
            nexthops,
            prune: false,
            settled: false,
            dirty: Dirty::default(),
            waiting: BTreeSet::new(),
            failures: BTreeMap::new(),
            device_failure: None,
            next_resync: Instant::now() + RESYNC,
            repairs: (Instant::now(), 0),
            figures: Figures::default(),
            events,
        };
        reconciler.resync()?;
        Ok(reconciler)
    }

    /// The descriptor of the notification socket, to wait on.
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.notifications.descriptor()
    }

    /// When there is something to do even if nothing is heard.
    pub(crate) fn deadline(&self) -> Instant {
        let retry = self.failures.values().map(|failure| failure.again).min();
        let device = self.device_failure.as_ref().map(|(_, _, again)| *again);
        [retry, device].into_iter().flatten().fold(self.next_resync, Instant::min)
    }

    /// Makes a transaction part of what should be, and the kernel follow.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Report {
        let changed = self.ledger.commit(transaction);
        self.figures.commits += 1;
        self.absorb_notifications();
        self.follow(&changed);
        self.report()
    }

    /// Puts a whole desired state in the place of what there is, and sends the difference. What the kernel refuses of it, and had not
    /// refused before, undoes it: then the error says why, and all is as it was.
    pub(crate) fn replace(&mut self, transaction: Transaction) -> Result<Report, String> {
        let mut ledger = Ledger::default();
        ledger.commit(transaction);
        let changed = self.ledger.difference(&ledger);
        self.figures.commits += 1;
        self.absorb_notifications();
        let refused_before = self.refused();
        let before = std::mem::replace(&mut self.ledger, ledger);
        self.follow(&changed);
        let mut new = self.refused().into_iter().filter(|refused| !refused_before.contains(refused));
        if let Some((what, reason)) = new.next() {
            self.ledger = before;
            self.follow(&changed);
            return Err(format!("{what}: {reason}"));
        }
        drop(new);
        self.remove_devices(&before);
        Ok(self.report())
    }

    /// What the kernel refuses at the moment, and why.
    fn refused(&self) -> BTreeSet<(String, String)> {
        let entries = self.failures.iter().map(|(key, failure)| (key.to_string(), failure.reason.clone()));
        let devices = self.device_failure.iter().map(|(reason, ..)| ("devices".to_owned(), reason.clone()));
        entries.chain(devices).collect()
    }

    /// Brings the kernel to where a change of the ledger wants it.
    fn follow(&mut self, changed: &Changed) {
        if changed.devices || self.dirty.everything {
            self.resync_or_complain();
        } else {
            self.forget_failures(&changed.keys);
            let mut keys = changed.keys.clone();
            keys.append(&mut self.dirty.keys);
            self.reconcile_keys(&keys);
        }
    }

    /// Removes the devices that a ledger of before has, and this one has not. A tunnel's went when it was closed, but for its
    /// persistence.
    fn remove_devices(&mut self, before: &Ledger) {
        let wanted: BTreeSet<&str> = self.ledger.devices().map(|device| &**device.name()).collect();
        for device in before.devices().filter(|device| !wanted.contains(&**device.name())) {
            if let Err(error) = links::remove(&mut self.requests, device) {
                warn!(device = %device.name(), %error, "a device that is needed no more cannot be removed");
            }
            self.kernel.links.remove(device.name());
        }
    }

    /// From now on the ledger holds all peers that can be had at the moment: tunnels let packets pass.
    pub(crate) fn settle(&mut self) -> Report {
        self.settled = true;
        self.tunnels.settle();
        self.report()
    }

    /// From now on the ledger holds all peers: what is ours in the kernel and not in the ledger is removed.
    pub(crate) fn adopt(&mut self) -> Report {
        (self.prune, self.settled) = (true, true);
        self.resync_or_complain();
        self.report()
    }

    /// The external interface has another name now.
    pub(crate) fn set_external(&mut self, name: &str) {
        self.external = name.into();
        self.dirty.everything = true;
    }

    /// Deals with what was heard and what is due.
    pub(crate) fn turn(&mut self) {
        self.absorb_notifications();
        let now = Instant::now();
        let devices_due = self.device_failure.as_ref().is_some_and(|(_, _, again)| *again <= now);
        if self.dirty.everything || devices_due || now >= self.next_resync {
            let heard = self.dirty.everything;
            if heard {
                self.pace();
            }
            self.resync_or_complain();
            return;
        }
        let mut keys = std::mem::take(&mut self.dirty.keys);
        if !keys.is_empty() {
            self.pace();
        }
        keys.extend(self.failures.iter().filter(|(_, f)| f.again <= now).map(|(key, _)| key.clone()));
        if !keys.is_empty() {
            self.reconcile_keys(&keys);
        }
    }

    /// What is, peer by peer.
    pub(crate) fn peers(&self) -> HashMap<PeerId, PeerReport> {
        let (mut peers, traffic) = (HashMap::new(), self.tunnels.traffic());
        for (peer, keys) in self.ledger.peers() {
            let mut report = PeerReport::default();
            for key in keys {
                if let Key::TunnelPeer(Device::Own(device), subnet) = key
                    && let Some(counters) = traffic.get(&(Arc::clone(device), *subnet))
                {
                    report.carried = Some(counters.plus(report.carried));
                }
                *report.entries.entry(key.kind()).or_default() += 1;
                if let Some(failure) = self.failures.get(key) {
                    report.problems.push(format!("{key}: {}", failure.reason));
                } else if self.waiting.contains(key) {
                    report.problems.push(format!("{key}: waits for its device"));
                } else if self.ledger.owners(key).last() != Some(peer) {
                    report.problems.push(format!("{key}: another peer has it, too, and comes first"));
                }
            }
            peers.insert(peer, report);
        }
        peers
    }

    fn kinds(&self) -> BTreeMap<Kind, KindFigures> {
        let figures = |kind| KindFigures { desired: self.ledger.count(kind), ..KindFigures::default() };
        let mut kinds: BTreeMap<Kind, KindFigures> = Kind::ALL.map(|kind| (kind, figures(kind))).into();
        for key in &self.waiting {
            kinds.entry(key.kind()).or_default().waiting += 1;
        }
        for key in self.failures.keys() {
            kinds.entry(key.kind()).or_default().failed += 1;
        }
        kinds
    }

    /// What is, in short.
    pub(crate) fn report(&self) -> Report {
        Report {
            kinds: self.kinds(),
            nexthops: self.nexthops,
            entries: self.ledger.len(),
            waiting: self.waiting.len(),
            failures: self
                .failures
                .iter()
                .map(|(key, failure)| (key.clone(), failure.reason.clone(), self.ledger.owners(key).last()))
                .collect(),
            device_failure: self.device_failure.as_ref().map(|(reason, _, _)| reason.clone()),
            tunnels: self.tunnels.reports(),
            devices: self.kernel.links.iter().map(|(name, link)| (name.clone(), link.clone())).collect(),
            figures: Figures { messages: self.requests.sent(), ..self.figures },
        }
    }

    /// Slows down when somebody undoes our repairs as fast as we make them.
    fn pace(&mut self) {
        let (since, count) = &mut self.repairs;
        if since.elapsed() > Duration::from_secs(1) {
            *since = Instant::now();
            *count = 0;
        }
        *count += 1;
        if *count == REPAIRS_PER_SECOND {
            warn!("something else keeps changing our entries: repairing more slowly");
        }
        if *count >= REPAIRS_PER_SECOND {
            std::thread::sleep(Duration::from_millis(50));
            self.absorb_notifications();
        }
    }

    fn resync_or_complain(&mut self) {
        if let Err(error) = self.resync() {
            self.device_problem(&format!("cannot read the kernel's state: {error}"));
        }
    }

    /// Looks at everything and puts right what differs.
    fn resync(&mut self) -> Result<(), NetlinkError> {
        let started = Instant::now();
        self.figures.resyncs += 1;
        self.next_resync = started + RESYNC;
        self.absorb_notifications();
        self.dirty = Dirty::default();
        self.observe_external()?;
        self.ensure_devices();
        self.observe_entries()?;
        let plan = self.planner().everything(self.prune);
        self.execute(plan, None);
        if self.settled {
            // Those that were opened anew have their peers now.
            self.tunnels.settle();
        }
        self.figures.resync_time += started.elapsed();
        Ok(())
    }

    fn observe_external(&mut self) -> Result<(), NetlinkError> {
        let found = links::find(&mut self.requests, &self.external)?.link;
        if found != self.kernel.external {
            debug!(interface = %self.external, ?found, "external interface");
            self.kernel.external = found;
            // Nobody listens any more when the daemon is going down.
            let _ = self.events.send(Event::Reachability);
        }
        Ok(())
    }

    fn ensure_devices(&mut self) {
        let mut problems = Vec::new();
        let devices: Vec<_> = self.ledger.devices().cloned().collect();
        self.tunnels.retain(|name| devices.iter().any(|device| **device.name() == *name));
        for device in devices {
            let Some(parent) = self.kernel.external.as_ref().map(|link| link.index) else {
                problems.push(format!("{}: the external interface {} is away", device.name(), self.external));
                self.kernel.links.remove(device.name());
                continue;
            };
            let name = device.name();
            let known = self.kernel.links.get(name).map(|link| link.index);
            if let DeviceSpec::Tunnel(tunnel) = &device
                && let Err(error) = self.ensure_tunnel(tunnel)
            {
                self.kernel.links.remove(name);
                problems.push(format!("{name}: {error}"));
                continue;
            }
            let addresses = self.ledger.addresses(name).cloned();
            let requests = &mut self.requests;
            match links::ensure(requests, &device, known, parent, addresses.as_ref(), &self.networks) {
                Ok((link, imperfect)) => {
                    self.kernel.links.insert(Arc::clone(name), link);
                    problems.extend(imperfect.map(|error| format!("{name}: cannot be corrected: {error}")));
                }
                Err(error) => {
                    self.kernel.links.remove(name);
                    problems.push(format!("{name}: {error}"));
                }
            }
        }
        if problems.is_empty() {
            if self.device_failure.take().is_some() {
                info!("devices are as they should be again");
            }
        } else {
            self.device_problem(&problems.join("; "));
        }
    }

    fn ensure_tunnel(&mut self, device: &TunnelDevice) -> Result<(), String> {
        let found = links::find(&mut self.requests, &device.name).map_err(|error| error.to_string())?;
        let index = found.link.map(|link| link.index);
        self.tunnels.ensure(device, index).map_err(|error| error.to_string())?;
        let addresses = self.ledger.addresses(&device.name).into_iter().flatten().map(IpNet::addr);
        self.tunnels.set_addresses(&device.name, addresses);
        Ok(())
    }

    fn device_problem(&mut self, reason: &str) {
        let attempts = self.device_failure.as_ref().map_or(0, |(_, attempts, _)| *attempts);
        if self.device_failure.as_ref().is_none_or(|(before, _, _)| before != reason) {
            warn!(reason, "devices differ from the desired state; trying again");
        }
        let again = Instant::now() + backoff(attempts);
        self.device_failure = Some((reason.to_owned(), attempts + 1, again));
    }

    /// Fills the mirror.
    fn observe_entries(&mut self) -> Result<(), NetlinkError> {
        self.kernel.forget_entries();
        if self.nexthops {
            for found in self.requests.dump(&Payload::GetNexthop(NexthopMessage::default()))? {
                if let Payload::NewNexthop(message) = found {
                    self.observe_nexthop(&message);
                }
            }
        }
        for ipv4 in [true, false] {
            if self.networks.iter().any(|network| network.addr().is_ipv4() == ipv4) {
                self.observe(&codec::all_routes(ipv4))?;
            }
        }
        let indexes: Vec<u32> = self.kernel.links.values().map(|link| link.index).collect();
        for index in indexes {
            self.observe(&codec::all_neighbours(index))?;
            self.observe(&codec::all_fdb(index))?;
        }
        for (name, link) in &self.kernel.links.clone() {
            for (subnet, endpoint) in self.tunnels.peers(name) {
                self.kernel.learn(Fact::TunnelPeer(link.index, subnet, Some(endpoint)));
            }
        }
        self.observe_wireguard()
    }

    /// WireGuard tells nobody of changes: they are seen when everything is looked at.
    fn observe_wireguard(&mut self) -> Result<(), NetlinkError> {
        let devices = self.ledger.devices().filter(|device| matches!(device, DeviceSpec::Wireguard(_)));
        let indexes: Vec<u32> = devices
            .filter_map(|device| self.kernel.links.get(device.name()))
            .map(|link| link.index)
            .collect();
        for index in indexes {
            for peer in self.wireguard()?.device(index)?.peers {
                let key = Arc::new(peer.key);
                self.kernel.learn(Fact::WireguardPeer(index, key, Some(Arc::new(peer))));
            }
        }
        Ok(())
    }

    fn wireguard(&mut self) -> Result<&mut WireguardSocket, NetlinkError> {
        if self.wireguard.is_none() {
            self.wireguard = Some(WireguardSocket::open()?);
        }
        self.wireguard.as_mut().ok_or_else(|| NetlinkError::Socket("closed".to_owned()))
    }

    fn observe(&mut self, request: &Payload) -> Result<(), NetlinkError> {
        let Self { requests, kernel, networks, .. } = self;
        requests.dump_each(request, |found| {
            if let Some(fact) = fact(kernel, networks, &found) {
                kernel.learn(fact);
            }
        })
    }

    fn observe_nexthop(&mut self, message: &NexthopMessage) {
        match codec::own_nexthop(message) {
            Some(hop) => self.kernel.learn(Fact::Nexthop(message.id, Some(hop))),
            None => {
                self.kernel.foreign_nexthops.insert(message.id);
            }
        }
    }

    /// Reads the notifications into the mirror, and notes what has to be looked at.
    fn absorb_notifications(&mut self) {
        let mut drained = Drained::default();
        if let Err(error) = self.notifications.drain(self.requests.port(), &mut drained) {
            warn!(%error, "notifications cannot be read: looking at everything");
            drained.lost = true;
        }
        if drained.lost {
            info!("the kernel dropped notifications: looking at everything");
            self.dirty.everything = true;
        }
        self.figures.notifications += drained.messages.len() as u64;
        for message in drained.messages {
            self.absorb(&message);
        }
    }

    fn absorb(&mut self, message: &Payload) {
        match message {
            Payload::Route(Rt::NewLink(link) | Rt::DelLink(link)) => {
                let gone = matches!(message, Payload::Route(Rt::DelLink(_)));
                self.absorb_link(&links::read_link(link), gone);
            }
            Payload::Route(Rt::NewAddress(address) | Rt::DelAddress(address)) => {
                if self.kernel.own_device(address.header.index).is_some() {
                    self.dirty.everything = true;
                } else if self.kernel.external.as_ref().is_some_and(|l| l.index == address.header.index) {
                    self.dirty.everything = true;
                    let _ = self.events.send(Event::Reachability);
                }
            }
            // With a nexthop object all routes that use it go, and no notification says so.
            Payload::NewNexthop(nexthop) | Payload::DelNexthop(nexthop) => {
                let known = self.kernel.nexthop(nexthop.id);
                if plan::is_own(nexthop) || known.is_some() {
                    self.dirty.everything = true;
                } else if matches!(message, Payload::NewNexthop(_)) {
                    self.kernel.foreign_nexthops.insert(nexthop.id);
                }
            }
            _ => match fact(&self.kernel, &self.networks, message) {
                Some(fact) => {
                    let key = self.key_of(&fact);
                    let (wanted, stray) =
                        (key.clone().filter(|key| self.ledger.entry(key).is_some()), self.is_stray(&fact));
                    self.dirty.keys.extend(wanted.or(key.filter(|_| stray)));
                    self.kernel.learn(fact);
                }
                None => self.absorb_other_route(message),
            },
        }
    }

    /// Whether somebody has put something on a device of ours, where nothing but the policy's entries belongs.
    fn is_stray(&self, fact: &Fact) -> bool {
        let in_cluster = |address: IpAddr| self.networks.iter().any(|network| network.contains(&address));
        self.prune
            && match fact {
                Fact::Route(_, Some(route)) => {
                    route.protocol == codec::ROUTE_PROTOCOL && self.kernel.own_device(route.oif).is_some()
                }
                Fact::Neighbour(_, address, Some(entry)) => entry.permanent && in_cluster(*address),
                Fact::Fdb(_, mac, Some(entry)) => entry.permanent && mac.0 != [0; 6],
                _ => false,
            }
    }

    /// A route that is not ours, over the external interface, may change which peers are on the link.
    fn absorb_other_route(&self, message: &Payload) {
        let (Payload::Route(Rt::NewRoute(route) | Rt::DelRoute(route)), Some(external)) =
            (message, &self.kernel.external)
        else {
            return;
        };
        if codec::read_route(route).is_some_and(|(_, route)| route.oif == external.index) {
            let _ = self.events.send(Event::Reachability);
        }
    }

    fn absorb_link(&mut self, observed: &links::Observed, gone: bool) {
        let Some(link) = &observed.link else { return };
        let external = observed.name == *self.external
            || self.kernel.external.as_ref().is_some_and(|known| known.index == link.index);
        if external && (gone || self.kernel.external.as_ref() != Some(link)) {
            self.dirty.everything = true;
        }
        let known = self.kernel.own_device(link.index).and_then(|name| self.kernel.links.get(name));
        let named = self.ledger.devices().any(|device| **device.name() == *observed.name);
        if (known.is_some() || named) && (gone || known != Some(link)) {
            self.dirty.everything = true;
        }
    }

    fn key_of(&self, fact: &Fact) -> Option<Key> {
        let own = |index: &u32| self.kernel.own_device(*index).cloned().map(Device::Own);
        match fact {
            Fact::Route(destination, _) => Some(Key::Route(*destination)),
            Fact::Neighbour(index, address, _) => Some(Key::Neighbour(own(index)?, *address)),
            Fact::Fdb(index, mac, _) => Some(Key::Fdb(own(index)?, *mac)),
            Fact::WireguardPeer(index, key, _) => Some(Key::WireguardPeer(own(index)?, Arc::clone(key))),
            Fact::TunnelPeer(index, subnet, _) => Some(Key::TunnelPeer(own(index)?, *subnet)),
            Fact::Nexthop(..) => None,
        }
    }

    fn planner(&self) -> Planner<'_> {
        Planner {
            ledger: &self.ledger,
            kernel: &self.kernel,
            nexthops: self.nexthops,
            networks: &self.networks,
        }
    }

    fn reconcile_keys(&mut self, keys: &BTreeSet<Key>) {
        let plan = self.planner().keys(keys);
        self.execute(plan, Some(keys));
    }

    /// Sends a plan. `looked_at`: the keys that it was made for; none: all.
    fn execute(&mut self, plan: Plan, looked_at: Option<&BTreeSet<Key>>) {
        if let Some(keys) = looked_at {
            for key in keys {
                self.waiting.remove(key);
                if self.ledger.entry(key).is_none() {
                    self.failures.remove(key);
                }
            }
            self.waiting.extend(plan.waiting);
        } else {
            self.waiting = plan.waiting;
            if !self.failures.is_empty() {
                let planned: HashSet<&Key> = plan.steps.iter().filter_map(|step| step.key.as_ref()).collect();
                self.failures.retain(|key, _| planned.contains(key));
            }
        }
        if plan.steps.is_empty() {
            return;
        }
        let started = Instant::now();
        let (count, mut failed) = (plan.steps.len(), 0);
        let mut steps = plan.steps.into_iter().peekable();
        while steps.peek().is_some() {
            failed += self.send(steps.by_ref().take(STEPS));
            // What others did meanwhile waits in the socket. What we did does not, except for the FDB's notifications,
            // which do not say who caused them; they must not fill the socket, and say what the mirror says already.
            self.absorb_notifications();
        }
        let took = started.elapsed();
        self.figures.batch_time += took;
        debug!(requests = count, failed, took_us = flannel_base::micros(took), "kernel updated");
    }

    /// Sends some steps; answers how many failed.
    fn send(&mut self, steps: impl Iterator<Item = Step>) -> usize {
        let (mut batch, mut pending, mut failed) = (None, Vec::new(), 0);
        for step in steps {
            let removal = step.is_removal();
            // The order of steps is that of their stages, so whom they go to changes seldom.
            if let Some(request) = Batch::add(&mut batch, step.request) {
                failed += self.flush(batch.take(), &mut pending);
                batch = Some(Batch::of(request));
            }
            pending.push((step.key, removal, step.fact));
        }
        failed + self.flush(batch, &mut pending)
    }

    /// Sends requests that go to the same, and takes the results in.
    fn flush(&mut self, batch: Option<Batch>, pending: &mut Vec<(Option<Key>, bool, Fact)>) -> usize {
        let results = match batch {
            None => Vec::new(),
            Some(Batch::Routing(messages)) => self.requests.batch(messages),
            Some(Batch::Wireguard(index, changes)) => match self.wireguard() {
                Ok(socket) => socket.change(index, &changes),
                Err(error) => vec![Err(error); changes.len()],
            },
            Some(Batch::Tunnel(device, changes)) => {
                self.tunnels.change(&device, &changes);
                vec![Ok(()); changes.len()]
            }
        };
        let settled = std::mem::take(pending).into_iter().zip(results);
        settled
            .map(|((key, removal, fact), result)| usize::from(!self.conclude(key, removal, fact, result)))
            .sum()
    }

    /// Takes the result of one request in; `false`: it failed and will be tried again.
    fn conclude(
        &mut self,
        key: Option<Key>,
        removal: bool,
        fact: Fact,
        result: Result<(), NetlinkError>,
    ) -> bool {
        let absent = |error: &NetlinkError| {
            error.is(libc::ENOENT)
                || error.is(libc::ESRCH)
                || error.is(libc::ENODEV)
                || error.is(libc::EADDRNOTAVAIL)
        };
        match result {
            Ok(()) => {
                self.kernel.learn(fact);
                if let Some(key) = key
                    && let Some(failure) = self.failures.remove(&key)
                {
                    info!(entry = %key, attempts = failure.attempts, "the kernel took it at last");
                }
                true
            }
            Err(error) if removal && absent(&error) => {
                self.kernel.learn(fact);
                true
            }
            Err(error) => {
                if matches!(error, NetlinkError::Socket(_)) {
                    self.dirty.everything = true;
                }
                let Some(key) = key else {
                    // A nexthop object: its routes fail too, and say it for their peers.
                    warn!(%error, ?fact, "the kernel refused a nexthop object");
                    return false;
                };
                let attempts = self.failures.get(&key).map_or(0, |failure| failure.attempts);
                if attempts == 0 {
                    warn!(entry = %key, peer = self.ledger.owners(&key).last().map(|p| p.0), %error, "the kernel refused an entry; trying again");
                }
                let again = Instant::now() + backoff(attempts);
                self.failures
                    .insert(key, Failure { reason: error.to_string(), attempts: attempts + 1, again });
                false
            }
        }
    }

    /// Entries that the ledger changed are tried at once, whatever failed before.
    fn forget_failures(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            self.failures.remove(key);
        }
    }
}

/// What a message says about entries that concern us.
fn fact(kernel: &Kernel, networks: &[IpNet], payload: &Payload) -> Option<Fact> {
    let concerns = |destination: &IpNet| networks.iter().any(|network| network.contains(destination));
    match payload {
        Payload::Route(Rt::NewRoute(message)) => {
            let (destination, mut route) = codec::read_route(message)?;
            concerns(&destination).then(|| {
                // A kernel may leave the gateway out where a nexthop object says it (nexthop_compat_mode).
                if let Some(hop) = route.nexthop.and_then(|id| kernel.nexthop(id)) {
                    route.via = Some(hop.via);
                    route.oif = hop.oif;
                    route.onlink = hop.onlink;
                }
                Fact::Route(destination, Some(route))
            })
        }
        Payload::Route(Rt::DelRoute(message)) => {
            let (destination, _) = codec::read_route(message)?;
            concerns(&destination).then_some(Fact::Route(destination, None))
        }
        Payload::Route(Rt::NewNeighbour(message)) => codec::read_neighbour(message, false),
        Payload::Route(Rt::DelNeighbour(message)) => codec::read_neighbour(message, true),
        _ => None,
    }
    .filter(|fact| match fact {
        Fact::Neighbour(index, ..) | Fact::Fdb(index, ..) => kernel.own_device(*index).is_some(),
        Fact::Route(..) | Fact::Nexthop(..) | Fact::WireguardPeer(..) | Fact::TunnelPeer(..) => true,
    })
}

fn backoff(attempts: u32) -> Duration {
    RETRY.0.saturating_mul(2_u32.saturating_pow(attempts.min(16))).min(RETRY.1)
}
