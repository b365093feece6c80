//! A device's peers: what the kernel has for each, and how it gets what it lacks.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use flannel_model::ipsec::IpsecPeer;
use flannel_model::wireguard::PublicKey;
use ipnet::IpNet;
use tracing::{debug, info};

use super::derive::{Ends, Pair, derive};
use super::message::{Direction, Policy, Protects, Sequence, State, reqid};
use super::session::{Outbound, Own, Session, States, Step};
use super::socket::XfrmSocket;
use super::{Open, OwnKeys, There};
use crate::netlink::NetlinkError;

/// By so many packets what goes out skips ahead when its state has gone and is made anew: more than can have gone since it was looked at.
const SKIP: u64 = 1 << 28;

/// A peer of a device.
pub(super) struct Peer {
    wanted: Arc<IpsecPeer>,
    local: IpAddr,
    states: States,
    has_policies: bool,
}

impl Peer {
    fn state(&self, spi: u32, is_inbound: bool, if_id: u32) -> State {
        let (local, remote) = (self.local, self.wanted.endpoint);
        let (source, destination) = if is_inbound { (remote, local) } else { (local, remote) };
        let reqid = reqid(&self.wanted.subnet);
        State { source, destination, spi, reqid, if_id, sequence: Sequence::default(), packets: 0 }
    }

    fn policies(&self, if_id: u32) -> [Policy; 3] {
        let (local, remote) = (self.local, self.wanted.endpoint);
        Direction::ALL.map(|direction| {
            let (source, destination) =
                if direction == Direction::Out { (local, remote) } else { (remote, local) };
            let subnet = self.wanted.subnet;
            Policy { direction, subnet, source, destination, reqid: reqid(&subnet), if_id }
        })
    }

    /// Whether what goes out goes by this key of ours.
    pub(super) fn sends_by(&self, own: PublicKey) -> bool {
        self.states.sends_by(own)
    }

    fn session(&self, own: &OwnKeys) -> Session {
        Session { own: own.current, peer: self.wanted.key }
    }
}

impl Open {
    /// Brings a peer to where it should be.
    pub(super) fn put(
        &mut self,
        socket: &mut XfrmSocket,
        own: &OwnKeys,
        wanted: &Arc<IpsecPeer>,
        now: Instant,
    ) -> Result<(), NetlinkError> {
        let subnet = wanted.subnet;
        let local = self.device.local(wanted.endpoint).ok_or_else(|| {
            NetlinkError::Unsupported(format!("there is no address here to reach {} from", wanted.endpoint))
        })?;
        let is_elsewhere = self.peers.get(&subnet).is_some_and(|peer| {
            (peer.local, peer.wanted.endpoint, peer.wanted.own_subnet)
                != (local, wanted.endpoint, wanted.own_subnet)
        });
        if is_elsewhere {
            self.remove_states(socket, &subnet)?;
            self.peers.remove(&subnet);
        }
        if let Some(peer) = self.peers.get_mut(&subnet) {
            peer.wanted = Arc::clone(wanted);
        } else {
            let peer = self.adopted(wanted, local);
            self.peers.insert(subnet, peer);
        }
        self.advance(socket, own, &subnet, now)?;
        let if_id = self.device.if_id;
        if let Some(peer) = self.peers.get_mut(&subnet).filter(|peer| !peer.has_policies) {
            socket.put_policies(&peer.policies(if_id))?;
            peer.has_policies = true;
        }
        Ok(())
    }

    /// A peer with what a daemon of before has made for it, as far as it fits.
    fn adopted(&mut self, wanted: &Arc<IpsecPeer>, local: IpAddr) -> Peer {
        let mut states = States::default();
        let found = self.found.remove(&reqid(&wanted.subnet)).unwrap_or_default();
        let (fitting, others): (Vec<State>, Vec<State>) = found.into_iter().partition(|state| {
            let ends = (state.source, state.destination);
            ends == (local, wanted.endpoint) || ends == (wanted.endpoint, local)
        });
        for state in fitting {
            if state.destination == local {
                states.add_inbound(state.spi, None, state.packets);
            } else if states.outbound.is_none() {
                states.outbound = Some(Outbound { spi: state.spi, session: None });
            }
        }
        if !others.is_empty() {
            self.found.insert(reqid(&wanted.subnet), others);
        }
        Peer { wanted: Arc::clone(wanted), local, states, has_policies: false }
    }

    /// Does what a peer's sessions ask for now; answers whether nothing more is to be expected of it.
    pub(super) fn advance(
        &mut self,
        socket: &mut XfrmSocket,
        own: &OwnKeys,
        subnet: &IpNet,
        now: Instant,
    ) -> Result<bool, NetlinkError> {
        let Some(peer) = self.peers.get_mut(subnet) else { return Ok(true) };
        let (key, target) = (peer.wanted.key, peer.session(own));
        let keys = Own { accepted: &own.accepted, current: own.current, stored: own.stored };
        for step in peer.states.steps(&keys, key, now) {
            self.take(socket, own, subnet, step)?;
        }
        Ok(self.peers.get(subnet).is_none_or(|peer| peer.states.is_settled(target)))
    }

    fn take(
        &mut self,
        socket: &mut XfrmSocket,
        own: &OwnKeys,
        subnet: &IpNet,
        step: Step,
    ) -> Result<(), NetlinkError> {
        let if_id = self.device.if_id;
        match step {
            Step::Receive(session) => {
                let Some(pair) = self.pair(own, subnet, session)? else { return Ok(()) };
                let Some(peer) = self.peers.get(subnet) else { return Ok(()) };
                let mut state = peer.state(pair.inbound.spi, true, if_id);
                state.sequence = self
                    .counted
                    .get(&(*subnet, session))
                    .map_or_else(Sequence::default, |[inbound, _]| *inbound);
                let protects = Protects {
                    cipher: self.device.cipher,
                    key: &pair.inbound.key,
                    udp_port: self.device.udp_port,
                };
                self.make_room(socket, &state, &protects)?;
                let Some(peer) = self.peers.get_mut(subnet) else { return Ok(()) };
                peer.states.add_inbound(state.spi, Some(session), 0);
            }
            Step::Send(session) => {
                let Some(pair) = self.pair(own, subnet, session)? else { return Ok(()) };
                let Some(peer) = self.peers.get_mut(subnet) else { return Ok(()) };
                let mut state = peer.state(pair.outbound.spi, false, if_id);
                if let Some([_, outbound]) = self.counted.get(&(*subnet, session)) {
                    state.sequence = Sequence { sent: outbound.sent + SKIP, received: 0 };
                }
                let protects = Protects {
                    cipher: self.device.cipher,
                    key: &pair.outbound.key,
                    udp_port: self.device.udp_port,
                };
                socket.add(&state, &protects)?;
                let before =
                    peer.states.outbound.replace(Outbound { spi: state.spi, session: Some(session) });
                if let Some(before) = before {
                    let before = peer.state(before.spi, false, if_id);
                    debug!(%subnet, endpoint = %peer.wanted.endpoint, "IPsec: other keys to a peer");
                    socket.delete(&before)?;
                }
            }
            Step::Drop(spi) => {
                let Some(peer) = self.peers.get_mut(subnet) else { return Ok(()) };
                socket.delete(&peer.state(spi, true, if_id))?;
                peer.states.inbound.retain(|state| state.spi != spi);
            }
        }
        Ok(())
    }

    /// Adds a state for what comes in. What has its number and is no peer's makes room: it is left over.
    fn make_room(
        &self,
        socket: &mut XfrmSocket,
        state: &State,
        protects: &Protects<'_>,
    ) -> Result<(), NetlinkError> {
        match socket.add(state, protects) {
            Err(error) if error.is(libc::EEXIST) => {
                let has_it = |peer: &Peer| {
                    peer.local == state.destination
                        && peer.states.inbound.iter().any(|other| other.spi == state.spi)
                };
                let is_ours = socket.state(state).is_some_and(|there| there.if_id == state.if_id);
                if !is_ours || self.peers.values().any(has_it) {
                    return Err(NetlinkError::Unsupported(format!(
                        "another IPsec state of {} has the number {:#x}: another key of this node or of the peer's will have another",
                        state.destination, state.spi
                    )));
                }
                socket.delete(state)?;
                socket.add(state, protects)
            }
            other => other,
        }
    }

    /// What protects a session; none if our key of it is gone meanwhile.
    fn pair(&self, own: &OwnKeys, subnet: &IpNet, session: Session) -> Result<Option<Pair>, NetlinkError> {
        let (Some(peer), Some(key)) = (self.peers.get(subnet), own.key(&session.own)) else {
            return Ok(None);
        };
        let own_subnet = &peer.wanted.own_subnet;
        let ends = Ends { if_id: self.device.if_id, own: key, peer: &session.peer, subnet, own_subnet };
        derive(&self.device.psk, self.device.cipher, &ends).map(Some).ok_or_else(|| {
            NetlinkError::Unsupported("what the peer has published is no key of X25519".to_owned())
        })
    }

    /// Takes note of how far states have counted.
    pub(super) fn count(&mut self, states: &[State], now: Instant) {
        let by_spi: HashMap<(IpAddr, u32), &State> =
            states.iter().map(|state| ((state.destination, state.spi), state)).collect();
        for (subnet, peer) in &mut self.peers {
            let inbound: Vec<(u32, Option<Session>)> =
                peer.states.inbound.iter().map(|state| (state.spi, state.session)).collect();
            for (spi, session) in inbound {
                let Some(state) = by_spi.get(&(peer.local, spi)) else { continue };
                peer.states.count(spi, state.packets, now);
                if let Some(session) = session {
                    self.counted.entry((*subnet, session)).or_default()[0] = state.sequence;
                }
            }
            if let Some(Outbound { spi, session: Some(session) }) = peer.states.outbound
                && let Some(state) = by_spi.get(&(peer.wanted.endpoint, spi))
            {
                self.counted.entry((*subnet, session)).or_default()[1] = state.sequence;
            }
        }
    }

    /// Removes a peer's subnet, and all that is there for it.
    pub(super) fn remove(&mut self, socket: &mut XfrmSocket, subnet: &IpNet) -> Result<(), NetlinkError> {
        let if_id = self.device.if_id;
        for direction in Direction::ALL {
            let (source, destination) = (subnet.addr(), subnet.addr());
            let policy = Policy { direction, subnet: *subnet, source, destination, reqid: 0, if_id };
            socket.delete_policy(&policy)?;
        }
        self.remove_states(socket, subnet)?;
        for state in self.found.remove(&reqid(subnet)).unwrap_or_default() {
            socket.delete(&state)?;
        }
        self.peers.remove(subnet);
        Ok(())
    }

    fn remove_states(&mut self, socket: &mut XfrmSocket, subnet: &IpNet) -> Result<(), NetlinkError> {
        let if_id = self.device.if_id;
        let Some(peer) = self.peers.get_mut(subnet) else { return Ok(()) };
        if let Some(outbound) = peer.states.outbound.take() {
            let state = peer.state(outbound.spi, false, if_id);
            if let (Some(session), Some(last)) = (outbound.session, socket.state(&state)) {
                self.counted.entry((*subnet, session)).or_default()[1] = last.sequence;
            }
            socket.delete(&state)?;
        }
        for inbound in std::mem::take(&mut peer.states.inbound) {
            let state = peer.state(inbound.spi, true, if_id);
            if let (Some(session), Some(last)) = (inbound.session, socket.state(&state)) {
                self.counted.entry((*subnet, session)).or_default()[0] = last.sequence;
            }
            socket.delete(&state)?;
        }
        Ok(())
    }

    /// Compares with what the kernel has. What is missing of a peer is forgotten, such that it is made anew.
    pub(super) fn observe(
        &mut self,
        socket: &mut XfrmSocket,
        policies: &[Policy],
        states: &[State],
        prune: bool,
        now: Instant,
    ) -> Vec<(IpNet, There)> {
        self.count(states, now);
        let if_id = self.device.if_id;
        let there: BTreeSet<(IpAddr, IpAddr, u32)> =
            states.iter().map(|state| (state.source, state.destination, state.spi)).collect();
        let has_policy: BTreeSet<(Direction, IpNet, IpAddr, IpAddr, u32)> =
            policies.iter().map(identity).collect();
        let mut found = Vec::new();
        let mut known: BTreeSet<(IpAddr, u32)> = BTreeSet::new();
        for (subnet, peer) in &mut self.peers {
            let before = peer.states.inbound.len();
            let (local, remote) = (peer.local, peer.wanted.endpoint);
            let inbound = |spi: u32| there.contains(&(remote, local, spi));
            peer.states.inbound.retain(|state| inbound(state.spi));
            let outbound = peer.states.outbound.filter(|state| there.contains(&(local, remote, state.spi)));
            let is_whole = peer.states.inbound.len() == before && outbound.is_some();
            peer.states.outbound = outbound;
            peer.has_policies =
                peer.policies(if_id).iter().all(|policy| has_policy.contains(&identity(policy)));
            known.extend(peer.states.inbound.iter().map(|state| (local, state.spi)));
            known.extend(outbound.map(|state| (remote, state.spi)));
            if is_whole && peer.has_policies {
                found.push((*subnet, There::Whole(Arc::clone(&peer.wanted))));
            } else {
                debug!(%subnet, "IPsec: something of a peer is missing");
                found.push((*subnet, There::InPart));
            }
        }
        // Policies of nobody.
        let strays: BTreeSet<IpNet> = policies
            .iter()
            .map(|policy| policy.subnet)
            .filter(|subnet| !self.peers.contains_key(subnet))
            .collect();
        found.extend(strays.into_iter().map(|subnet| (subnet, There::InPart)));
        if prune {
            // States of nobody: left by a run before, or made by somebody else under our number.
            self.found.clear();
            for state in states.iter().filter(|state| !known.contains(&(state.destination, state.spi))) {
                info!(source = %state.source, destination = %state.destination, "an IPsec state of nobody is removed");
                if let Err(error) = socket.delete(state) {
                    debug!(%error, "an IPsec state of nobody stays");
                }
            }
        }
        found
    }
}

fn identity(policy: &Policy) -> (Direction, IpNet, IpAddr, IpAddr, u32) {
    (policy.direction, policy.subnet, policy.source, policy.destination, policy.reqid)
}
