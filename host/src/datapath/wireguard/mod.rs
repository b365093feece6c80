//! WireGuard (`linux/wireguard.h`): keys, peers, and the generic netlink family that sets them.

mod key_files;
mod keys;
mod socket;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use key_files::KeyFiles;
pub use keys::{Keys, PublicKey, Secret};
pub use socket::WireguardSocket;

/// A peer of a WireGuard device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WireguardPeer {
    /// Who it is.
    pub key: PublicKey,
    /// Where it was told to be; none in what was read of a peer that has been heard of lately: where it is then, is right,
    /// even if it is elsewhere than it was told to be.
    pub endpoint: Option<SocketAddr>,
    /// The networks behind it.
    pub allowed: BTreeSet<IpNet>,
    /// Seconds between packets that keep a NAT open; 0: none.
    pub keepalive: u16,
    /// The key that both share besides.
    pub preshared: Option<Secret>,
}

impl WireguardPeer {
    /// Whether a peer that was read is as this one should be.
    pub fn is_met_by(&self, found: &Self) -> bool {
        let here = found.endpoint.is_none() || found.endpoint == self.endpoint;
        here && self.key == found.key
            && self.allowed == found.allowed
            && self.keepalive == found.keepalive
            && self.preshared == found.preshared
    }
}

/// What is to become of a peer.
#[derive(Clone, Debug)]
pub enum PeerChange {
    /// It is so from now on.
    Put(Arc<WireguardPeer>),
    /// It goes.
    Remove(Arc<PublicKey>),
}

/// A device as it was read.
#[derive(Clone, Debug, Default)]
pub struct WireguardDevice {
    /// Its key; none: it has none yet.
    pub public_key: Option<PublicKey>,
    /// The UDP port that it listens on.
    pub port: u16,
    /// Its peers.
    pub peers: Vec<WireguardPeer>,
}
