//! WireGuard devices and their peers. The private key is the host's; a policy knows public keys only.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ipnet::IpNet;

use crate::{Error, Link, PeerId};

/// A public key (RFC 7748, X25519); its text is base64, as in `wg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| format!("{text:?} is no WireGuard key: base64 of 32 bytes"))
    }
}

/// A WireGuard device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// UDP port to listen on, 1 to 65535.
    pub listen_port: u16,
    /// Bytes of the largest IP packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
}

/// A peer of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The peer's public key.
    pub public_key: PublicKey,
    /// Where it is: one of the peer's public addresses, and the port that it listens on.
    pub endpoint: (IpAddr, u16),
    /// The networks behind it; each lies in the peer's own subnets.
    pub allowed: Vec<IpNet>,
    /// Seconds between packets that keep a NAT open; 0: none are sent.
    pub keepalive: u16,
    /// Whether the preshared key of the network config is used.
    pub preshared: bool,
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Device, Error, Link, Peer, PeerId, PublicKey};
    use crate::bindings::flannel::backend::wireguard as wit;
    use crate::convert;

    /// Declares a device; only in `register`.
    pub fn ensure(device: &Device) -> Result<Link, Error> {
        let device =
            wit::Device { name: device.name.clone(), listen_port: device.listen_port, mtu: device.mtu };
        wit::ensure(&device).map(Link::of).map_err(convert::error)
    }

    /// This node's public key, the same for all devices.
    pub fn public_key() -> Result<PublicKey, Error> {
        let bytes = wit::public_key().map_err(convert::error)?;
        let wrong = |bytes: Vec<u8>| Error::Unavailable(format!("a public key of {} bytes", bytes.len()));
        bytes.try_into().map(PublicKey).map_err(wrong)
    }

    /// Whether the network config has a preshared key.
    pub fn has_preshared_key() -> bool {
        wit::has_preshared_key()
    }

    /// Declares a peer of a device.
    pub fn put(peer: PeerId, wireguard: &Peer, device: &Link) -> Result<(), Error> {
        let wireguard = wit::Peer {
            public_key: wireguard.public_key.0.to_vec(),
            endpoint: (convert::address(wireguard.endpoint.0), wireguard.endpoint.1),
            allowed: wireguard.allowed.iter().copied().map(convert::prefix).collect(),
            keepalive: wireguard.keepalive,
            preshared: wireguard.preshared,
        };
        wit::put(convert::peer(peer), &wireguard, device.handle()).map_err(convert::error)
    }
}

#[cfg(not(target_family = "wasm"))]
#[allow(clippy::unnecessary_wraps, reason = "stands in for calls that the host may refuse")]
mod host {
    use super::{Device, Error, Link, Peer, PeerId, PublicKey};
    use crate::testing::{Declared, declare, with};

    /// Declares a device; only in `register`.
    pub fn ensure(device: &Device) -> Result<Link, Error> {
        with(|host| host.mtus.insert(device.name.clone(), device.mtu));
        declare(Declared::Wireguard(device.clone()))?;
        Ok(Link::named(&device.name))
    }

    /// This node's public key, the same for all devices.
    pub fn public_key() -> Result<PublicKey, Error> {
        Ok(with(|host| host.wireguard_key))
    }

    /// Whether the network config has a preshared key.
    pub fn has_preshared_key() -> bool {
        with(|host| host.preshared)
    }

    /// Declares a peer of a device.
    pub fn put(peer: PeerId, wireguard: &Peer, device: &Link) -> Result<(), Error> {
        declare(Declared::WireguardPeer(peer, wireguard.clone(), device.name()))
    }
}

pub use host::{ensure, has_preshared_key, public_key, put};
