//! What a tunnel is asked to be.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use flannel_model::offloads::Offloads;
use ipnet::IpNet;

use super::icmp::Addresses;

/// The port of upstream's udp backend.
pub const DEFAULT_PORT: u16 = 8285;

/// A tunnel to be opened.
#[derive(Clone, Debug)]
pub struct TunnelSpec {
    /// The device's name (up to 15 bytes), or a pattern such as `flannel%d`: the first that is free.
    pub name: String,
    /// Where to send and receive IPv4 datagrams. Peers are sent to at the same port.
    pub ipv4: Option<SocketAddrV4>,
    /// The same for IPv6.
    pub ipv6: Option<SocketAddrV6>,
    /// The source addresses of ICMP errors.
    pub addresses: Addresses,
    /// Bytes of the largest inner packet sent; what is larger is fragmented or refused as a router would. Received
    /// packets may be larger.
    pub mtu: u32,
    /// Threads, each with its own queue and sockets: at least 1. None: one for each core that we may use, at most 4.
    pub queues: Option<usize>,
    /// What may be used.
    pub offloads: Offloads,
    /// Whether the device, with its addresses and routes, outlives the tunnel and the process. An existing device of
    /// that name is attached to in either case.
    pub persist: bool,
}

/// The most threads that are started unasked: beyond, they wait for each other more than they help.
const QUEUES: usize = 4;

impl TunnelSpec {
    /// How many threads there will be.
    pub(super) fn lanes(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(QUEUES);
        self.queues.unwrap_or_else(cores).max(1)
    }

    /// What the sockets of IPv4 and of IPv6 are bound to.
    pub(super) fn bound(&self) -> [Option<SocketAddr>; 2] {
        [self.ipv4.map(SocketAddr::V4), self.ipv6.map(SocketAddr::V6)]
    }
}

/// Somebody to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelPeer {
    /// Chosen by the caller; a peer set again with the same number is changed and keeps its counters.
    pub id: u64,
    /// Its networks: packets to them go to it, and it may send only from them. The longest prefix wins; of equal ones,
    /// the last one set.
    pub subnets: Vec<IpNet>,
    /// Where its datagrams go to and come from. Several peers may share one.
    pub endpoint: IpAddr,
}

/// One change of the peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// Adds or changes a peer.
    Set(TunnelPeer),
    /// Removes the peer of that number, if there is one.
    Remove(u64),
}
