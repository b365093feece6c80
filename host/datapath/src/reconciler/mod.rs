//! The only writer: keeps the kernel as the ledger says. Runs on a thread of its own with blocking sockets, so that a
//! large batch never holds up the rest of the daemon.

mod change;
mod executor;
mod notifications;
mod policy;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::Backoff;
use flannel_model::entry::{Device, DeviceSpec, Entry, Key, Kind, TunnelDevice};
use flannel_model::generations::{Generations, Names, renamed};
use flannel_model::ledger::{Changed, Ledger, PeerId, Slot, Transaction};
use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::ipsec::IpsecDevices;
use super::kinds::rule::Interfaces;
use super::links::Owner;
use super::netlink::{NetlinkError, NexthopMessage, NotificationSocket, Payload, RequestSocket};
use super::observed::{Observation, ObservedState, Route, usual_metric};
use super::plan::Planner;
use super::policy_tables::PolicyTables;
use super::report::{Failure, KindStats, PeerReport, Report, Stats};
use super::route_record::{Recorded, RouteRecord, WRITE_INTERVAL};
use super::thread::{Context, DeviceClaim};
use super::trial::{self, LoosePaths, Trial};
use super::tunnels::Tunnels;
use super::wireguard::WireguardSocket;
use super::{kinds, links, policy_tables};

/// Waits before something that the kernel refused is tried again.
const RETRY: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(30) };
/// How often everything is looked at, even if nothing was heard.
const RESYNC: Duration = Duration::from_mins(1);
/// How often it is looked at whether other daemons' changes are over, as long as that matters.
const OWED: Duration = Duration::from_secs(2);
/// A variable for tests: with any value, nexthop objects count as missing, as on a kernel before 5.3.
const WITHOUT_NEXTHOPS: &str = "FLANNELD_TEST_WITHOUT_NEXTHOPS";
/// Rounds of repair within a second after which somebody else is fighting us for the same entries, and we slow down.
const REPAIRS_PER_SECOND: u32 = 200;

/// What the daemon wants to know of at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The external interface, its addresses or the routes over it changed: which peers are on the link may have too.
    Reachability,
    /// Addresses of other interfaces changed: what peers may have is another matter now.
    Surroundings,
}

/// What to look at in the next round.
#[derive(Debug, Default)]
struct Dirty {
    /// Entries whose state the kernel told us about.
    keys: BTreeSet<Key>,
    /// Notifications do not tell all: look at everything.
    everything: bool,
}

/// The reconciler's state; owned by its thread.
pub(crate) struct Reconciler {
    ledger: Ledger,
    kernel: ObservedState,
    requests: RequestSocket,
    /// Opened when a WireGuard device is there.
    wireguard: Option<WireguardSocket>,
    tunnels: Tunnels,
    ipsec: IpsecDevices,
    notifications: NotificationSocket,
    external: Arc<str>,
    uplinks: Vec<Arc<str>>,
    /// Why what comes in by segments is dropped here; none: it is not, or there are no segments.
    no_segments: Option<String>,
    networks: Vec<IpNet>,
    owner: Owner,
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
    figures: Stats,
    claim: Option<DeviceClaim>,
    /// During a change of the backend: both generations, and the ground for trials.
    change: Option<(Generations, Trial)>,
    /// Devices that have another name than the policy knows them by, since a change before could not rename them.
    names: Names,
    trial_record: Option<PathBuf>,
    /// What a change has made loose, and which is to be put back when other daemons' changes are over; and when that is looked at.
    owed: Option<LoosePaths>,
    next_owed: Instant,
    record: RouteRecord,
    next_record: Instant,
    /// What an earlier run has recorded and nobody has looked for yet.
    recorded: HashMap<IpNet, Recorded>,
    events: tokio::sync::mpsc::UnboundedSender<Event>,
}

impl Reconciler {
    /// Opens the sockets in the network namespace of the calling thread. `external` is the name of the external
    /// interface, `networks` are the cluster networks.
    pub(crate) fn open(
        external: &str,
        networks: Vec<IpNet>,
        context: Context,
        events: tokio::sync::mpsc::UnboundedSender<Event>,
    ) -> Result<Self, NetlinkError> {
        let Context { tunnels, ipsec, record, trial_record, claim, in_force, uplinks } = context;
        let ipsec = IpsecDevices::new(ipsec, tunnels.keeper.clone());
        let in_force = if in_force.is_empty() { networks.clone() } else { in_force };
        let (record, recorded) = RouteRecord::open(record);
        let notifications = NotificationSocket::open()?;
        let mut requests = RequestSocket::open()?;
        let refused = std::env::var_os(WITHOUT_NEXTHOPS).is_some_and(|value| !value.is_empty());
        let nexthops = !refused && requests.dump(&Payload::GetNexthop(NexthopMessage::default())).is_ok();
        if !nexthops {
            info!("this kernel has no nexthop objects (5.3 and later have): plain routes instead");
        }
        let uplinks: Vec<Arc<str>> = uplinks.iter().map(|name| name.as_str().into()).collect();
        let interfaces = Interfaces { external: external.into(), uplinks: uplinks.clone() };
        let mut reconciler = Self {
            ledger: Ledger::default(),
            kernel: ObservedState::of(PolicyTables::of(&in_force), interfaces),
            requests,
            wireguard: None,
            tunnels: Tunnels::new(tunnels),
            ipsec,
            notifications,
            external: external.into(),
            uplinks,
            no_segments: None,
            owner: Owner::new(&in_force, networks.clone()),
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
            figures: Stats::default(),
            claim,
            change: None,
            names: Names::new(),
            trial_record,
            owed: None,
            next_owed: Instant::now(),
            record,
            next_record: Instant::now(),
            recorded,
            events,
        };
        reconciler.resync()?;
        Ok(reconciler)
    }

    /// The descriptor of the notification socket, to wait on.
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.notifications.descriptor()
    }

    /// The descriptor of IPsec's, if there is such a device.
    pub(crate) fn ipsec_descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.ipsec.descriptor()
    }

    /// When there is something to do even if nothing is heard.
    pub(crate) fn deadline(&self) -> Instant {
        let retry = self.failures.values().map(|failure| failure.again).min();
        let device = self.device_failure.as_ref().map(|(_, _, again)| *again);
        let record = self.kernel.held_changed.then_some(self.next_record);
        // Noted while requests were sent: nothing more is heard of it.
        let noted = self.dirty.everything || !self.dirty.keys.is_empty();
        let noted = noted.then(|| Instant::now() + RETRY.min);
        let owed = self.owed.is_some().then_some(self.next_owed);
        let ipsec = self.ipsec.deadline();
        [retry, device, record, noted, owed, ipsec].into_iter().flatten().fold(self.next_resync, Instant::min)
    }

    /// Makes a transaction part of what should be, and the kernel follow.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Report {
        let transaction = self.of_serving(transaction);
        let changed = self.ledger.commit(transaction);
        self.figures.commits += 1;
        self.ingest_notifications();
        self.apply_changes(&changed);
        self.report()
    }

    /// Puts a whole desired state in the place of what there is, and sends the difference. What the kernel refuses of it, and had not
    /// refused before, undoes it: then the error says why, and all is as it was.
    pub(crate) fn replace(&mut self, transaction: Transaction) -> Result<Report, String> {
        let mut ledger = Ledger::default();
        ledger.commit(renamed(transaction, &self.names));
        let changed = self.ledger.difference(&ledger);
        self.figures.commits += 1;
        self.ingest_notifications();
        let refused_before = self.refused();
        let before = std::mem::replace(&mut self.ledger, ledger);
        self.apply_changes(&changed);
        let mut new = self.refused().into_iter().filter(|refused| !refused_before.contains(refused));
        if let Some((what, reason)) = new.next() {
            self.ledger = before;
            self.apply_changes(&changed);
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
    fn apply_changes(&mut self, changed: &Changed) {
        if changed.devices || self.dirty.everything {
            self.resync_or_complain();
        } else {
            self.forget_failures(&changed.keys);
            let mut keys = changed.keys.clone();
            keys.append(&mut self.dirty.keys);
            self.reconcile_keys(&keys);
            if changed.keys.iter().any(|key| key.kind() == Kind::PolicyRoute) {
                self.look_at_segments();
            }
        }
    }

    /// Removes the devices that a ledger of before has, and this one has not. A tunnel's went when it was closed, but for its
    /// persistence.
    fn remove_devices(&mut self, before: &Ledger) {
        let wanted: BTreeSet<&str> = self.ledger.devices().map(|device| &**device.name()).collect();
        for device in before.devices().filter(|device| !wanted.contains(&**device.name())) {
            let known = self.kernel.links.get(device.name()).map(|link| link.index);
            if let Err(error) = links::remove(&mut self.requests, &self.owner, device, known) {
                warn!(device = %device.name(), %error, "a device that is needed no more cannot be removed");
            }
            self.kernel.links.remove(device.name());
        }
    }

    /// Removes what a backend before has left: devices of this daemon, and those that flannel makes, with an address of this cluster.
    fn remove_former_devices(&mut self) {
        let own: BTreeSet<u32> = self.kernel.links.values().map(|link| link.index).collect();
        let claim = self.claim.clone();
        let is_free = |name: &str| claim.as_ref().is_none_or(|claim| claim(name).is_ok());
        match links::remove_former(&mut self.requests, &self.owner, &own, is_free) {
            // What was tied to them.
            Ok(numbers) => numbers.into_iter().for_each(|if_id| self.ipsec.flush(if_id)),
            Err(error) => warn!(%error, "devices that a backend before has left cannot be removed"),
        }
    }

    /// From now on the ledger holds all peers that can be had at the moment: tunnels let packets pass.
    pub(crate) fn start_forwarding(&mut self) -> Report {
        self.settled = true;
        self.tunnels.start_forwarding();
        self.ipsec.settle();
        self.report()
    }

    /// From now on the ledger holds all peers: what is ours in the kernel and not in the ledger is removed.
    pub(crate) fn prune_stale(&mut self) -> Report {
        (self.prune, self.settled) = (true, true);
        self.ipsec.settle();
        if self.change.is_none() {
            // What a run before has left of a change.
            let loose = self.loose_paths();
            self.owed = trial::clear(&mut self.requests, self.owner.in_force(), loose);
            self.next_owed = Instant::now() + OWED;
        }
        let (tables, interfaces) = (self.kernel.policy_tables, &self.kernel.interfaces);
        policy_tables::clear_former(&mut self.requests, tables, interfaces, &self.networks);
        self.resync_or_complain();
        self.remove_former_devices();
        self.report()
    }

    /// Deals with what was heard and what is due.
    pub(crate) fn run_once(&mut self) {
        self.dirty.everything |= self.ipsec.others_changed();
        self.do_what_is_due();
        self.ipsec.do_what_is_due();
        self.put_back_what_is_owed();
        self.record_routes();
    }

    fn do_what_is_due(&mut self) {
        self.ingest_notifications();
        let now = Instant::now();
        let devices_due = self.device_failure.as_ref().is_some_and(|(_, _, again)| *again <= now);
        if self.dirty.everything || devices_due || now >= self.next_resync {
            let heard = self.dirty.everything;
            if heard {
                self.throttle();
            }
            self.resync_or_complain();
            return;
        }
        let mut keys = std::mem::take(&mut self.dirty.keys);
        if !keys.is_empty() {
            self.throttle();
        }
        keys.extend(self.failures.iter().filter(|(_, f)| f.again <= now).map(|(key, _)| key.clone()));
        if !keys.is_empty() {
            self.reconcile_keys(&keys);
        }
    }

    /// What is, peer by peer.
    pub(crate) fn peers(&self) -> HashMap<PeerId, PeerReport> {
        let (mut peers, traffic): (HashMap<PeerId, PeerReport>, _) = (HashMap::new(), self.tunnels.traffic());
        for (peer, entries) in self.ledger.peers() {
            // What both generations want for a peer is one peer's, during a change of the backend.
            let peer = peer.in_slot(Slot::Serving);
            let report: &mut PeerReport = peers.entry(peer).or_default();
            report.problems.extend(self.segments_problem(entries));
            for key in entries.iter().map(Entry::key) {
                if let Key::TunnelPeer(Device::Own(device), subnet) = &key
                    && let Some(counters) = traffic.get(&(Arc::clone(device), *subnet))
                {
                    report.carried = Some(counters.plus(report.carried));
                }
                *report.entries.entry(key.kind()).or_default() += 1;
                if let Some(failure) = self.failures.get(&key) {
                    report.problems.push(format!("{key}: {}", failure.reason));
                } else if self.waiting.contains(&key) {
                    report.problems.push(format!("{key}: waits for its device"));
                } else if self.holder(&key) != Some(peer) {
                    report.problems.push(format!("{key}: another peer has it, too, and comes first"));
                }
            }
        }
        peers
    }

    /// The peer whose claim to a key counts.
    fn holder(&self, key: &Key) -> Option<PeerId> {
        self.ledger.holder(key).map(|peer| peer.in_slot(Slot::Serving))
    }

    fn kinds(&self) -> BTreeMap<Kind, KindStats> {
        let figures = |kind| KindStats { desired: self.ledger.count(kind), ..KindStats::default() };
        let mut kinds: BTreeMap<Kind, KindStats> = Kind::ALL.map(|kind| (kind, figures(kind))).into();
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
                .map(|(key, failure)| (key.clone(), failure.reason.clone(), self.holder(key)))
                .collect(),
            device_failure: self.device_failure.as_ref().map(|(reason, _, _)| reason.clone()),
            tunnels: self.tunnels.reports(),
            devices: self.kernel.links.iter().map(|(name, link)| (name.clone(), link.clone())).collect(),
            figures: Stats { messages: self.requests.sent(), ..self.figures },
        }
    }

    /// Slows down when somebody undoes our repairs as fast as we make them.
    fn throttle(&mut self) {
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
            self.ingest_notifications();
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
        self.ingest_notifications();
        self.dirty = Dirty::default();
        self.observe_external()?;
        self.observe_uplinks()?;
        self.ensure_devices();
        self.ensure_trial();
        self.observe_entries()?;
        self.recognize_recorded()?;
        let plan = self.planner().everything(self.prune);
        self.execute(plan, None);
        if self.settled {
            // Those that were opened anew have their peers now.
            self.tunnels.start_forwarding();
            self.ipsec.settle();
        }
        self.look_at_segments();
        self.figures.resync_time += started.elapsed();
        Ok(())
    }

    /// Routes that an earlier run has made over the external interface are ours.
    fn recognize_recorded(&mut self) -> Result<(), NetlinkError> {
        let mut indexes: HashMap<String, Option<u32>> = HashMap::new();
        for (destination, recorded) in std::mem::take(&mut self.recorded) {
            let index = match indexes.get(&recorded.device) {
                Some(index) => *index,
                None => links::find(&mut self.requests, &recorded.device)?.link.map(|link| link.index),
            };
            indexes.insert(recorded.device, index);
            let is_it = |route: &Route| {
                route.ordinary
                    && route.protocol == kinds::route::ROUTE_PROTOCOL
                    && (route.via, Some(route.oif)) == (Some(recorded.via), index)
            };
            let found = self.kernel.route(&destination, usual_metric(&destination));
            if let Some(route) = found.filter(|route| is_it(route)) {
                let route = route.clone();
                self.kernel.hold(destination, route);
            }
        }
        Ok(())
    }

    /// Writes down which routes over the external interface are ours, now and then.
    fn record_routes(&mut self) {
        let now = Instant::now();
        if self.kernel.held_changed && now >= self.next_record {
            self.next_record = now + WRITE_INTERVAL;
            self.write_record();
        }
    }

    fn write_record(&mut self) {
        let Some(external) = self.kernel.external.as_ref().map(|link| link.index) else { return };
        self.kernel.held_changed = false;
        let over_external = self.kernel.held.iter().filter(|(_, route)| route.oif == external);
        let recorded = over_external.filter_map(|(destination, route)| {
            Some((destination, Recorded { via: route.via?, device: self.external.to_string() }))
        });
        self.record.write(recorded);
    }

    fn observe_external(&mut self) -> Result<(), NetlinkError> {
        let found = links::find(&mut self.requests, &self.external)?.link;
        if found != self.kernel.external {
            debug!(interface = %self.external, ?found, "external interface");
            // Who is on the link does not depend on the carrier.
            let is_alike = policy::is_alike(found.as_ref(), self.kernel.external.as_ref());
            self.kernel.external = found;
            if is_alike {
                return Ok(());
            }
            // The first sight of it is no change.
            if self.figures.resyncs > 1 {
                // Nobody listens any more when the daemon is going down.
                let _ = self.events.send(Event::Reachability);
            }
        }
        Ok(())
    }

    fn ensure_devices(&mut self) {
        let mut problems = Vec::new();
        let devices: Vec<_> = self.ledger.devices().cloned().collect();
        self.tunnels.retain(|name| devices.iter().any(|device| **device.name() == *name));
        self.ipsec.retain(|name| devices.iter().any(|device| **device.name() == *name));
        for device in devices {
            let Some(parent) = self.kernel.external.as_ref().map(|link| link.index) else {
                problems.push(format!("{}: the external interface {} is away", device.name(), self.external));
                self.kernel.links.remove(device.name());
                continue;
            };
            let name = device.name();
            if let Some(Err(reason)) = self.claim.as_ref().map(|claim| claim(name)) {
                problems.push(format!("{name}: {reason}"));
                self.kernel.links.remove(name);
                continue;
            }
            let known = self.kernel.links.get(name).map(|link| link.index);
            if let DeviceSpec::Tunnel(tunnel) = &device
                && let Err(error) = self.ensure_tunnel(tunnel, &device, known)
            {
                self.kernel.links.remove(name);
                problems.push(format!("{name}: {error}"));
                continue;
            }
            if let DeviceSpec::Ipsec(ipsec) = &device
                && let Err(error) = self.ipsec.ensure(ipsec)
            {
                self.kernel.links.remove(name);
                problems.push(format!("{name}: {error}"));
                continue;
            }
            let addresses = self.ledger.addresses(name).cloned();
            let former = self.former_number(&device);
            let requests = &mut self.requests;
            match links::ensure(requests, &self.owner, &device, known, parent, addresses.as_ref()) {
                Ok((link, imperfect)) => {
                    if let Some(if_id) = former {
                        self.ipsec.flush(if_id);
                    }
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

    /// What ties IPsec's policies and states to a device that is about to be made anew, under another number.
    fn former_number(&mut self, device: &DeviceSpec) -> Option<u32> {
        let DeviceSpec::Ipsec(ipsec) = device else { return None };
        let found = links::find(&mut self.requests, &ipsec.name).ok()?;
        found.if_id().filter(|id| *id != ipsec.if_id)
    }

    /// `spec`: the same as `device`.
    fn ensure_tunnel(
        &mut self,
        device: &TunnelDevice,
        spec: &DeviceSpec,
        known: Option<u32>,
    ) -> Result<(), String> {
        let failed = |error: NetlinkError| error.to_string();
        let Self { requests, owner, tunnels, .. } = self;
        let found = links::find(requests, &device.name).map_err(failed)?;
        // Whoever opens a device takes packets from it: whose it is has to be known before.
        owner.check(requests, &found, spec, known).map_err(failed)?;
        let index = found.link.as_ref().map(|link| link.index);
        if !tunnels.may_have(&device.name, index) {
            owner.check_unused(&found).map_err(failed)?;
        }
        tunnels.ensure(device, index).map_err(|error| error.to_string())?;
        if index.is_none()
            && let Some(made) = tunnels.index(&device.name)
            && let Err(error) = links::mark(requests, owner, made)
        {
            tunnels.retain(|name| *name != *device.name);
            let _ = links::remove(requests, owner, spec, Some(made));
            return Err(error.to_string());
        }
        let addresses = self.ledger.addresses(&device.name).into_iter().flatten().map(IpNet::addr);
        self.tunnels.set_addresses(&device.name, addresses);
        Ok(())
    }

    fn device_problem(&mut self, reason: &str) {
        let attempts = self.device_failure.as_ref().map_or(0, |(_, attempts, _)| *attempts);
        if self.device_failure.as_ref().is_none_or(|(before, _, _)| before != reason) {
            warn!(reason, "devices differ from the desired state; trying again");
        }
        let again = Instant::now() + RETRY.after(attempts);
        self.device_failure = Some((reason.to_owned(), attempts + 1, again));
    }

    /// Fills the mirror.
    fn observe_entries(&mut self) -> Result<(), NetlinkError> {
        self.kernel.forget_entries();
        let own: BTreeSet<u32> = self.kernel.links.values().map(|link| link.index).collect();
        let flannels = links::flannels(&mut self.requests, &self.owner)?;
        self.kernel.former_devices = flannels.difference(&own).copied().collect();
        if self.nexthops {
            for found in self.requests.dump(&Payload::GetNexthop(NexthopMessage::default()))? {
                if let Payload::NewNexthop(message) = found {
                    self.observe_nexthop(&message);
                }
            }
        }
        for ipv4 in [true, false] {
            if self.networks.iter().any(|network| network.addr().is_ipv4() == ipv4) {
                self.observe(&kinds::route::all_routes(ipv4))?;
                if let Some(table) = self.kernel.trial_table {
                    self.observe_trial(table, ipv4)?;
                }
                self.observe_policy_routing(ipv4)?;
            }
        }
        let indexes: Vec<u32> = self.kernel.links.values().map(|link| link.index).collect();
        for index in indexes {
            self.observe(&kinds::neighbour::all_neighbours(index))?;
            self.observe(&kinds::fdb::all_fdb(index))?;
        }
        for (name, link) in &self.kernel.links.clone() {
            for (subnet, endpoint) in self.tunnels.peers(name) {
                self.kernel.record(Observation::TunnelPeer(link.index, subnet, Some(endpoint)));
            }
        }
        for (name, link) in &self.kernel.links.clone() {
            let prune = self.prune && self.change.is_none();
            for (subnet, there) in self.ipsec.observe(name, prune)? {
                self.kernel.record(Observation::IpsecPeer(link.index, subnet, Some(there)));
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
                self.kernel.record(Observation::WireguardPeer(index, key, Some(Arc::new(peer))));
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
            if let Some(fact) = kinds::read(kernel, networks, &found) {
                kernel.record(fact);
            }
        })
    }

    fn observe_nexthop(&mut self, message: &NexthopMessage) {
        match kinds::nexthop::own_nexthop(message, &self.kernel) {
            Some(hop) => self.kernel.record(Observation::Nexthop(message.id, Some(hop))),
            None => {
                self.kernel.foreign_nexthops.insert(message.id);
            }
        }
    }

    fn planner(&self) -> Planner<'_> {
        Planner {
            ledger: &self.ledger,
            kernel: &self.kernel,
            nexthops: self.nexthops,
            networks: &self.networks,
            adopts: !self.prune,
        }
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        if self.kernel.held_changed {
            self.write_record();
        }
    }
}
