//! WireGuard (`linux/wireguard.h`): keys, peers, and the generic netlink family that sets them.

mod key_files;
mod socket;

use std::sync::Arc;

use flannel_model::wireguard::{PublicKey, WireguardPeer};

pub use key_files::KeyFiles;
pub use socket::WireguardSocket;
pub(crate) use socket::generic_family;

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
