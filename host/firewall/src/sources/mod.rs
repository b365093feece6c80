//! Only nodes may send into the tunnels: a VXLAN or IPIP packet from an address that no lease publishes is dropped before a tunnel
//! device sees it. The tunnels themselves take packets from anywhere, so that any host of the underlay could reach pods as if it were a node.
//! The entry point is [`TunnelSources`].
//!
//! | Module | Its job |
//! |---|---|
//! | `rules` | which packets of a tunnel are whose, as expressions of nf_tables |
//! | `message` | those, tables, sets and their elements in netlink's wire format |
//! | `socket` | transactions, and reading the counter |
//! | `keeper` | the thread that has the socket |
//!
//! The rules are in tables that belong to the socket (`NFT_TABLE_F_OWNER`, Linux 5.12): nobody else can change or flush them, and the kernel
//! removes them when the process ends, however it ends. So nobody who takes this daemon's place finds a filter that is not kept any more.
//! They are made by netlink, since `iptables` has no sets, and not every host with `iptables` has `nft` or `ipset`.

mod keeper;
mod message;
mod rules;
mod socket;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use flannel_base::Family;
use ipnet::{IpNet, Ipv4Net};

use super::rules::Owner;

/// Packets that come out of a tunnel's device at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tunnel {
    /// VXLAN (RFC 7348) to a UDP port. Other networks of other programs may share the port.
    Vxlan {
        /// The family of the outer packets.
        family: Family,
        /// The UDP port.
        port: u16,
        /// The VXLAN network identifier, 24 bits.
        vni: u32,
    },
    /// IPv4 in IPv4 (RFC 2003). The host may have other tunnels of the kind: what is for other networks is none of ours.
    Ipip {
        /// Where inner packets go.
        inner: Ipv4Net,
    },
    /// Any other IP in IP (RFC 4213, RFC 2473), likewise.
    IpInIp {
        /// The family of the outer packets.
        family: Family,
        /// Where inner packets go.
        inner: IpNet,
    },
    /// GRE (RFC 2784), whatever its key, likewise.
    Gre {
        /// The family of the outer packets.
        family: Family,
        /// Where inner packets go; none: Ethernet frames, wherever they go.
        inner: Option<IpNet>,
    },
    /// All that comes to a UDP port: Geneve (RFC 8926), FOU or GUE.
    Udp {
        /// The family of the outer packets.
        family: Family,
        /// The UDP port.
        port: u16,
    },
}

impl Tunnel {
    /// The family of the outer packets.
    pub fn family(self) -> Family {
        match self {
            Self::Vxlan { family, .. }
            | Self::IpInIp { family, .. }
            | Self::Gre { family, .. }
            | Self::Udp { family, .. } => family,
            Self::Ipip { .. } => Family::Ipv4,
        }
    }
}

/// How the filter stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcesStatus {
    /// It is in place, for all tunnels that there are.
    pub in_place: bool,
    /// Why not, if it could not be had.
    pub error: Option<String>,
    /// Addresses that may send.
    pub addresses: usize,
    /// Packets that were dropped since the daemon's start.
    pub dropped: u64,
}

/// The filter, and the thread that has it. Dropping it removes it.
pub struct TunnelSources {
    shared: Arc<Shared>,
}

/// What is wanted, and how things stand.
struct Shared {
    wanted: Mutex<Wanted>,
    news: Condvar,
    status: Mutex<SourcesStatus>,
}

/// What is wanted. Peers are known by numbers.
#[derive(Debug, Default)]
struct Wanted {
    tunnels: BTreeSet<Tunnel>,
    peers: HashMap<u64, Vec<IpAddr>>,
    /// How many peers have an address.
    holders: BTreeMap<IpAddr, u32>,
    /// Addresses that have come or gone since the thread looked; `None`: all may have.
    touched: Option<BTreeSet<IpAddr>>,
    /// The tunnels are others than when the thread looked.
    other_tunnels: bool,
    /// All peers have been told of: before, nobody is a stranger.
    known: bool,
    over: bool,
}

impl Wanted {
    fn put(&mut self, peer: u64, addresses: Vec<IpAddr>) {
        let before = if addresses.is_empty() {
            self.peers.remove(&peer)
        } else {
            self.peers.insert(peer, addresses.clone())
        };
        for address in &addresses {
            *self.holders.entry(*address).or_default() += 1;
        }
        for address in before.iter().flatten() {
            if let Some(count) = self.holders.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(address);
                }
            }
        }
        if let Some(touched) = &mut self.touched {
            touched.extend(before.into_iter().flatten().chain(addresses));
        }
    }

    fn has_news(&self) -> bool {
        self.over || self.other_tunnels || self.touched.as_ref().is_none_or(|touched| !touched.is_empty())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TunnelSources {
    /// Starts the thread, in the network namespace of the calling one. There is no filter before the peers and a tunnel are known.
    pub fn start(owner: &Owner) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { wanted: Mutex::default(), news: Condvar::new(), status: Mutex::default() });
        let keeper = keeper::Keeper::new(owner.name('-', "flannel-tunnels"), Arc::clone(&shared));
        std::thread::Builder::new().name("tunnel-sources".into()).spawn(move || keeper.run())?;
        Ok(Self { shared })
    }

    /// These are the tunnels.
    pub fn set_tunnels(&self, tunnels: BTreeSet<Tunnel>) {
        let mut wanted = lock(&self.shared.wanted);
        if wanted.tunnels != tunnels {
            wanted.tunnels = tunnels;
            wanted.other_tunnels = true;
            self.shared.news.notify_one();
        }
    }

    /// These are the peers, and no others, with their addresses.
    pub fn set_peers(&self, peers: impl IntoIterator<Item = (u64, Vec<IpAddr>)>) {
        let mut wanted = lock(&self.shared.wanted);
        (wanted.peers, wanted.holders, wanted.touched) = Default::default();
        peers.into_iter().for_each(|(peer, addresses)| wanted.put(peer, addresses));
        wanted.known = true;
        self.shared.news.notify_one();
    }

    /// Some peers have other addresses; without any, they are gone.
    pub fn change_peers(&self, peers: impl IntoIterator<Item = (u64, Vec<IpAddr>)>) {
        let mut wanted = lock(&self.shared.wanted);
        peers.into_iter().for_each(|(peer, addresses)| wanted.put(peer, addresses));
        self.shared.news.notify_one();
    }

    /// How the filter stands.
    pub fn status(&self) -> SourcesStatus {
        lock(&self.shared.status).clone()
    }
}

impl Drop for TunnelSources {
    fn drop(&mut self) {
        lock(&self.shared.wanted).over = true;
        self.shared.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 77, last])
    }

    #[test]
    fn an_address_may_send_as_long_as_some_peer_has_it() {
        let mut wanted = Wanted { touched: Some(BTreeSet::new()), ..Wanted::default() };
        wanted.put(1, vec![address(1)]);
        wanted.put(2, vec![address(1), address(2)]);
        wanted.put(1, vec![address(3)]);
        assert_eq!(wanted.holders.keys().copied().collect::<Vec<_>>(), [1, 2, 3].map(address));
        wanted.put(2, Vec::new());
        assert_eq!(wanted.holders.keys().copied().collect::<Vec<_>>(), [address(3)]);
        assert_eq!(wanted.touched, Some([1, 2, 3].map(address).into()));
    }

    #[test]
    fn a_peer_that_is_told_of_twice_counts_once() {
        let mut wanted = Wanted::default();
        wanted.put(1, vec![address(1)]);
        wanted.put(1, vec![address(1)]);
        wanted.put(1, Vec::new());
        assert!(wanted.holders.is_empty() && wanted.peers.is_empty());
    }
}
