//! IPsec without a daemon of its own: XFRM interfaces, and the policies and states that are tied to them (`ip xfrm` in ip-xfrm(8)).
//!
//! For the reconciler a peer's subnet is one entry, as behind a tunnel of this process. What it consists of is known in here alone: three
//! policies, which say what goes to the peer and may come from it, and states, which change as keys do (`session`).

mod derive;
mod encapsulation;
mod keyring;
mod message;
mod peer;
mod session;
mod socket;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::ipsec::{Ipsec, IpsecPeer};
use flannel_model::wireguard::PublicKey;
use ipnet::IpNet;
use tracing::{debug, info};

use super::netlink::NetlinkError;
use super::tunnels::DescriptorStore;
use encapsulation::Encapsulation;
pub use keyring::KeyRing;
use keyring::OwnKey;
use message::{Sequence, State};
use peer::Peer;
use session::Session;
use socket::XfrmSocket;

/// How often peers are looked at that go over to other keys: at first, and when that takes its time.
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(10);
/// After so long it takes its time.
const FIRST: Duration = Duration::from_secs(30);

/// What is to become of a peer's subnet.
#[derive(Clone, Debug)]
pub(crate) enum IpsecChange {
    /// It is so from now on.
    Put(Arc<IpsecPeer>),
    /// Nobody has it.
    Remove(IpNet),
}

/// What the kernel has for a peer's subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum There {
    /// All that the peer needs.
    Whole(Arc<IpsecPeer>),
    /// Something.
    InPart,
}

/// What has been counted by states that are gone: who makes one anew with the same keys goes on from there.
type Counted = HashMap<(IpNet, Session), [Sequence; 2]>;

/// A device at work.
struct Open {
    device: Ipsec,
    peers: BTreeMap<IpNet, Peer>,
    /// States of this device that a daemon of before has made, by what ties them to a peer.
    found: HashMap<u32, Vec<State>>,
    counted: Counted,
    /// Held open so that the kernel listens.
    _encapsulation: Option<Encapsulation>,
}

/// All of them, by the names of their devices.
pub(crate) struct IpsecDevices {
    open: BTreeMap<Arc<str>, Open>,
    socket: Option<XfrmSocket>,
    ring: KeyRing,
    keeper: Option<Arc<dyn DescriptorStore>>,
    /// When the peers are to be looked at again, and since when that is so.
    look: Option<(Instant, Instant)>,
    /// When they were looked at last.
    looked: Option<Instant>,
}

impl IpsecDevices {
    pub(crate) fn new(ring: KeyRing, keeper: Option<Arc<dyn DescriptorStore>>) -> Self {
        Self { open: BTreeMap::new(), socket: None, ring, keeper, look: None, looked: None }
    }

    fn socket(&mut self) -> Result<&mut XfrmSocket, NetlinkError> {
        if self.socket.is_none() {
            self.socket = Some(XfrmSocket::open()?);
        }
        self.socket.as_mut().ok_or_else(|| NetlinkError::Socket("closed".to_owned()))
    }

    /// Takes a device up, if it is not as it should be. What cannot be with the one of before ends it.
    pub(crate) fn ensure(&mut self, device: &Ipsec) -> Result<(), String> {
        // There has to be one before anything is derived.
        self.ring.published()?;
        if let Some(open) = self.open.get_mut(&device.name) {
            let same = Ipsec { mtu: device.mtu, rekey: device.rekey, ..open.device.clone() } == *device;
            if same {
                open.device = device.clone();
                return Ok(());
            }
            self.close(&device.name.clone());
        }
        let encapsulation = device.udp_port.map(|port| self.encapsulate(device, port)).transpose()?;
        let open = Open {
            device: device.clone(),
            peers: BTreeMap::new(),
            found: HashMap::new(),
            counted: HashMap::new(),
            _encapsulation: encapsulation,
        };
        let states = self.socket().and_then(|socket| socket.states(device.if_id));
        let states = states.map_err(|error| format!("IPsec's states cannot be read: {error}"))?;
        let open = self.open.entry(Arc::clone(&device.name)).or_insert(open);
        for state in states {
            open.found.entry(state.reqid).or_default().push(state);
        }
        info!(
            device = %device.name, if_id = device.if_id, cipher = %device.cipher, udp_port = device.udp_port,
            states_found = open.found.values().map(Vec::len).sum::<usize>(), "IPsec device taken up"
        );
        Ok(())
    }

    fn encapsulate(&self, device: &Ipsec, port: u16) -> Result<Encapsulation, String> {
        let opened = Encapsulation::open(device, port);
        let Some(keeper) = &self.keeper else { return opened };
        // What was kept goes on listening until this one has the port: it has to go first.
        let opened = match opened {
            Err(_) => {
                drop(keeper.take(&device.name));
                keeper.forget(&device.name);
                Encapsulation::open(device, port)?
            }
            Ok(opened) => opened,
        };
        keeper.keep(&device.name, &opened.descriptors());
        Ok(opened)
    }

    /// Ends a device: its policies and states go.
    fn close(&mut self, name: &str) {
        let Some(open) = self.open.remove(name) else { return };
        if let Some(keeper) = &self.keeper {
            keeper.forget(name);
        }
        self.flush(open.device.if_id);
    }

    /// Removes all policies and states that are tied to a device of this number. What cannot be removed carries nothing without the device.
    pub(crate) fn flush(&mut self, if_id: u32) {
        let removed = self.socket().and_then(|socket| socket.flush(if_id));
        if let Err(error) = removed {
            debug!(if_id, %error, "policies and states of an IPsec device are left");
        }
    }

    /// Ends all other devices.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let unwanted: Vec<Arc<str>> = self.open.keys().filter(|name| !is_wanted(name)).cloned().collect();
        for name in unwanted {
            self.close(&name);
        }
    }

    /// A device has another name.
    pub(crate) fn rename(&mut self, from: &Arc<str>, to: &Arc<str>) {
        let Some(mut open) = self.open.remove(from) else { return };
        open.device.name = Arc::clone(to);
        self.open.insert(Arc::clone(to), open);
    }

    /// Changes a device's peers; one result for each change.
    pub(crate) fn change(&mut self, device: &str, changes: &[IpsecChange]) -> Vec<Result<(), NetlinkError>> {
        let now = Instant::now();
        let results = changes.iter().map(|change| self.change_one(device, change, now)).collect();
        self.look_soon(now);
        results
    }

    fn change_one(&mut self, device: &str, change: &IpsecChange, now: Instant) -> Result<(), NetlinkError> {
        let own = OwnKeys::of(&self.ring, now)?;
        self.socket()?;
        let (Some(open), Some(socket)) = (self.open.get_mut(device), self.socket.as_mut()) else {
            return Err(NetlinkError::Unsupported(format!("{device} is not there")));
        };
        match change {
            IpsecChange::Put(peer) => open.put(socket, &own, peer, now),
            IpsecChange::Remove(subnet) => open.remove(socket, subnet),
        }
    }

    /// Reads what the kernel has for a device: the subnets that there is something for, and the peer where all that it needs is there.
    /// `prune`: what nobody wants any more goes.
    pub(crate) fn observe(&mut self, device: &str, prune: bool) -> Result<Vec<(IpNet, There)>, NetlinkError> {
        let now = Instant::now();
        let Some(if_id) = self.open.get(device).map(|open| open.device.if_id) else { return Ok(Vec::new()) };
        let socket = self.socket()?;
        let (policies, states) = (socket.policies(if_id)?, socket.states(if_id)?);
        let (Some(open), Some(socket)) = (self.open.get_mut(device), self.socket.as_mut()) else {
            return Ok(Vec::new());
        };
        Ok(open.observe(socket, &policies, &states, prune, now))
    }

    /// All peers are known, and have what they need for this node's current key: they can be told of it.
    pub(crate) fn settle(&mut self) {
        if !self.open.is_empty() {
            self.ring.release();
        }
    }

    /// What to wait on for others' changes, if there is a device.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(XfrmSocket::descriptor)
    }

    /// Whether somebody else has changed policies or states since the last question.
    pub(crate) fn others_changed(&self) -> bool {
        self.socket.as_ref().is_some_and(XfrmSocket::others_changed)
    }

    fn look_soon(&mut self, now: Instant) {
        self.look = Some((now + SOON, now));
    }

    /// When there is something to do even if nothing is heard.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.age().and_then(|age| self.ring.due(age));
        let next = self.look.map(|(when, _)| when).into_iter().chain(due).min()?;
        Some(self.looked.map_or(next, |looked| next.max(looked + SOON)))
    }

    /// How long this node's key serves; none: as long as the daemon runs.
    fn age(&self) -> Option<Duration> {
        self.open.values().filter_map(|open| open.device.rekey).min()
    }

    /// Looks at the peers, if it is time: who has gone over to another key, and whether this node's is due.
    pub(crate) fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if self.open.is_empty() || self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.looked = Some(now);
        if let Err(error) = self.look_at_peers(now) {
            debug!(%error, "IPsec's peers cannot be looked at");
            self.look = Some((now + LATER, now));
        }
    }

    /// Whether what goes to peers goes by the key that they were told of last.
    fn have_gone_over(&self) -> bool {
        let Some((current, _)) = self.ring.current() else { return true };
        self.open.values().flat_map(|open| open.peers.values()).all(|peer| peer.sends_by(current.public))
    }

    fn look_at_peers(&mut self, now: Instant) -> Result<(), NetlinkError> {
        let is_prepared = self.age().is_some_and(|age| {
            // Not before all peers have gone over to the last one, but for those that take as long again.
            let patience = if self.have_gone_over() { Duration::ZERO } else { age };
            self.ring.prepare(age + patience, now)
        });
        let own = OwnKeys::of(&self.ring, now)?;
        self.socket()?;
        let Self { open, socket: Some(socket), .. } = self else { return Ok(()) };
        let mut settled = true;
        for device in open.values_mut() {
            let states = socket.states(device.device.if_id)?;
            device.count(&states, now);
            device.counted.retain(|(_, session), _| own.accepted.contains(&session.own));
            for subnet in device.peers.keys().copied().collect::<Vec<_>>() {
                match device.advance(socket, &own, &subnet, now) {
                    Ok(is_settled) => settled &= is_settled,
                    // What is wrong with the peer is told where it is put.
                    Err(NetlinkError::Unsupported(_)) => {}
                    Err(error) => {
                        debug!(%subnet, %error, "IPsec states of a peer");
                        settled = false;
                    }
                }
            }
        }
        if is_prepared {
            // One peer that cannot be served does not hold up the others.
            if let Some(key) = self.ring.promote(now) {
                info!(%key, "IPsec key replaced: peers are told of another one");
            }
            self.look_soon(now);
            return Ok(());
        }
        let since = self.look.map_or(now, |(_, since)| since);
        let wait = if now < since + FIRST { SOON } else { LATER };
        self.look = (!settled).then_some((now + wait, since));
        Ok(())
    }
}

/// This node's keys at a time.
pub(super) struct OwnKeys {
    keys: Vec<OwnKey>,
    accepted: Vec<PublicKey>,
    current: PublicKey,
    stored: Option<Instant>,
}

impl OwnKeys {
    fn of(ring: &KeyRing, now: Instant) -> Result<Self, NetlinkError> {
        let keys = ring.accepted(now);
        let (current, stored) =
            ring.current().ok_or_else(|| NetlinkError::Unsupported("there is no IPsec key".to_owned()))?;
        let accepted = keys.iter().map(|key| key.public).collect();
        Ok(Self { keys, accepted, current: current.public, stored })
    }

    fn key(&self, public: &PublicKey) -> Option<&OwnKey> {
        self.keys.iter().find(|key| key.public == *public)
    }
}
