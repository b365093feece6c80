//! The peers. A [`PeerTable`] is a snapshot that never changes once threads see it; [`Shared`] hands out the newest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::counters::{LiveTraffic, PeerCounters, Traffic};
use super::endpoint::Endpoint;
use super::icmp::Addresses;
use super::spec::{PeerChange, TunnelPeer};
use super::table::Table;

/// A peer.
pub(crate) struct Peer {
    id: u64,
    subnets: Vec<IpNet>,
    /// Where it is.
    pub endpoint: Arc<Endpoint>,
    /// What went to it and came from it.
    pub traffic: Arc<LiveTraffic>,
}

/// An endpoint and the number of peers that share it.
#[derive(Clone)]
struct Shares {
    endpoint: Arc<Endpoint>,
    peers: usize,
}

/// All that the threads need to know. Numbers of peers are valid within one snapshot.
#[derive(Clone)]
pub(crate) struct PeerTable {
    /// The ports that peers are sent to, by family.
    ports: (u16, u16),
    /// The source of ICMP errors.
    pub addresses: Addresses,
    /// Bytes of the largest inner packet.
    pub mtu: usize,
    peers: Vec<Option<Arc<Peer>>>,
    free: Vec<u32>,
    numbers: HashMap<u64, u32>,
    v4: Table<u32>,
    v6: Table<u128>,
    endpoints: HashMap<IpAddr, Shares>,
}

impl PeerTable {
    /// One without peers. `ports` are the ones of IPv4 and IPv6.
    pub(crate) fn new(ports: (u16, u16), addresses: Addresses, mtu: usize) -> Self {
        Self {
            ports,
            addresses,
            mtu,
            peers: Vec::new(),
            free: Vec::new(),
            numbers: HashMap::new(),
            v4: Table::default(),
            v6: Table::default(),
            endpoints: HashMap::new(),
        }
    }

    /// The peer that an inner address belongs to.
    pub(crate) fn find(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(a) => self.v4.find(a.to_bits()),
            IpAddr::V6(a) => self.v6.find(a.to_bits()),
        }
    }

    /// The peer of that number.
    pub(crate) fn peer(&self, number: u32) -> Option<&Peer> {
        self.peers.get(number as usize)?.as_deref()
    }

    /// The endpoint at an outer address, if any peer is there.
    pub(crate) fn endpoint(&self, address: IpAddr) -> Option<&Endpoint> {
        Some(&*self.endpoints.get(&address)?.endpoint)
    }

    /// The counters of all peers.
    pub(crate) fn counters(&self) -> Vec<PeerCounters> {
        self.peers.iter().flatten().map(|peer| peer.counters()).collect()
    }

    /// Applies a change.
    pub(crate) fn apply(&mut self, change: &PeerChange) {
        match change {
            PeerChange::Set(peer) => self.set(peer),
            PeerChange::Remove(id) => drop(self.remove(*id)),
        }
    }

    /// Makes `peers` the only ones.
    pub(crate) fn replace(&mut self, peers: &[TunnelPeer]) {
        let keep = peers.iter().map(|peer| peer.id).collect::<std::collections::HashSet<_>>();
        let gone = self.numbers.keys().copied().filter(|id| !keep.contains(id)).collect::<Vec<_>>();
        for id in gone {
            self.remove(id);
        }
        for peer in peers {
            self.set(peer);
        }
    }

    fn set(&mut self, peer: &TunnelPeer) {
        let unchanged = self.numbers.get(&peer.id).and_then(|&n| self.peer(n)).is_some_and(|known| {
            // Its prefixes may have been taken over by a peer set later; then it is to win again.
            known.endpoint.address == peer.endpoint
                && known.subnets == peer.subnets
                && known.subnets.iter().all(|net| self.exact(net) == self.numbers.get(&peer.id).copied())
        });
        if unchanged {
            return;
        }
        let traffic = self.remove(peer.id).map(|old| Arc::clone(&old.traffic)).unwrap_or_default();
        let port = if peer.endpoint.is_ipv4() { self.ports.0 } else { self.ports.1 };
        let shares = self
            .endpoints
            .entry(peer.endpoint)
            .or_insert_with(|| Shares { endpoint: Arc::new(Endpoint::new(peer.endpoint, port)), peers: 0 });
        shares.peers += 1;
        let endpoint = Arc::clone(&shares.endpoint);
        let number = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            super::bytes::low32(self.peers.len() - 1)
        });
        for net in &peer.subnets {
            self.lead(net, number);
        }
        self.peers[number as usize] =
            Some(Arc::new(Peer { id: peer.id, subnets: peer.subnets.clone(), endpoint, traffic }));
        self.numbers.insert(peer.id, number);
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Peer>> {
        let number = self.numbers.remove(&id)?;
        let peer = self.peers[number as usize].take()?;
        self.free.push(number);
        for net in &peer.subnets {
            if self.exact(net) != Some(number) {
                continue;
            }
            // Where another peer claims the same subnet it falls to that one: leases change hands in either order.
            let heir = self.peers.iter().position(|p| p.as_ref().is_some_and(|p| p.subnets.contains(net)));
            match (heir, net) {
                (Some(heir), net) => self.lead(net, super::bytes::low32(heir)),
                (None, IpNet::V4(n)) => self.v4.remove(n.network().to_bits(), n.prefix_len()),
                (None, IpNet::V6(n)) => self.v6.remove(n.network().to_bits(), n.prefix_len()),
            }
        }
        if let Some(shares) = self.endpoints.get_mut(&peer.endpoint.address) {
            shares.peers -= 1;
            if shares.peers == 0 {
                self.endpoints.remove(&peer.endpoint.address);
            }
        }
        Some(peer)
    }

    fn lead(&mut self, net: &IpNet, number: u32) {
        match net {
            IpNet::V4(n) => self.v4.insert(n.network().to_bits(), n.prefix_len(), number),
            IpNet::V6(n) => self.v6.insert(n.network().to_bits(), n.prefix_len(), number),
        }
    }

    fn exact(&self, net: &IpNet) -> Option<u32> {
        match net {
            IpNet::V4(n) => self.v4.get(n.network().to_bits(), n.prefix_len()),
            IpNet::V6(n) => self.v6.get(n.network().to_bits(), n.prefix_len()),
        }
    }
}

impl Peer {
    /// Its number, chosen by the caller.
    #[cfg(test)]
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn counters(&self) -> PeerCounters {
        let mut traffic = Traffic::default();
        self.traffic.add_to(&mut traffic);
        PeerCounters {
            id: self.id,
            traffic,
            errors: self.endpoint.errors.load(Ordering::Relaxed),
            path_mtu: self.endpoint.path_mtu(),
        }
    }
}

/// The newest snapshot. Threads look at a counter for each batch and take the lock only after a change.
pub(crate) struct Shared {
    generation: AtomicU64,
    newest: Mutex<Arc<PeerTable>>,
}

impl Shared {
    /// Starts with `roster`.
    pub(crate) fn new(roster: PeerTable) -> Self {
        Self { generation: AtomicU64::new(0), newest: Mutex::new(Arc::new(roster)) }
    }

    /// The newest snapshot.
    pub(crate) fn newest(&self) -> Arc<PeerTable> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes a copy and makes it the newest.
    pub(crate) fn change(&self, change: impl FnOnce(&mut PeerTable)) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut copy = PeerTable::clone(&newest);
        change(&mut copy);
        let old = std::mem::replace(&mut *newest, Arc::new(copy));
        self.generation.fetch_add(1, Ordering::Release);
        drop(newest);
        // Freeing 10,000 peers' worth of tables is no work for under the lock.
        drop(old);
    }
}

/// One thread's view of the newest snapshot.
pub(crate) struct View {
    shared: Arc<Shared>,
    generation: u64,
    roster: Arc<PeerTable>,
}

impl View {
    /// A view that is up to date.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let generation = shared.generation.load(Ordering::Acquire);
        let roster = shared.newest();
        Self { shared, generation, roster }
    }

    /// The newest snapshot.
    pub(crate) fn refresh(&mut self) -> &PeerTable {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.roster = self.shared.newest();
        }
        &self.roster
    }
}
