//! IPsec by the kernel alone: XFRM interfaces and the subnets behind them. Secrets are the host's; a policy knows public keys only.

use std::net::IpAddr;

use ipnet::IpNet;

pub use crate::wireguard::PublicKey;
use crate::{Error, Link, PeerId};

/// What packets are protected with; the same at all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES in Galois/Counter Mode with 128 bits (RFC 4106).
    Aes128Gcm,
    /// The same with 192 bits.
    Aes192Gcm,
    /// The same with 256 bits.
    Aes256Gcm,
    /// `ChaCha20` and `Poly1305` (RFC 7634).
    ChaCha20Poly1305,
}

/// An XFRM interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// Bytes of the largest IP packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
    /// What packets are protected with.
    pub cipher: Cipher,
    /// The UDP port, ours and the peers', that ESP goes by (RFC 3948), 1024 to 65535; none: as a protocol of its own.
    pub udp_port: Option<u16>,
    /// Seconds after which this node's key is replaced, 10 and more; none: never.
    pub rekey_seconds: Option<u32>,
}

/// A peer's subnet behind a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// One of the peer's own subnets.
    pub subnet: IpNet,
    /// Where it is: one of the peer's public addresses, of the subnet's family.
    pub endpoint: IpAddr,
    /// What the peer has published.
    pub public_key: PublicKey,
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Cipher, Device, Error, Link, Peer, PeerId, PublicKey};
    use crate::bindings::flannel::backend::ipsec as wit;
    use crate::convert;

    /// Declares a device; only in `register`.
    pub fn ensure(device: &Device) -> Result<Link, Error> {
        let cipher = match device.cipher {
            Cipher::Aes128Gcm => wit::Cipher::Aes128Gcm,
            Cipher::Aes192Gcm => wit::Cipher::Aes192Gcm,
            Cipher::Aes256Gcm => wit::Cipher::Aes256Gcm,
            Cipher::ChaCha20Poly1305 => wit::Cipher::Chacha20Poly1305,
        };
        let (name, mtu) = (device.name.clone(), device.mtu);
        let (udp_port, rekey_seconds) = (device.udp_port, device.rekey_seconds);
        let device = wit::Device { name, mtu, cipher, udp_port, rekey_seconds };
        wit::ensure(&device).map(Link::of).map_err(convert::error)
    }

    /// What is to be published as this node's key. It changes now and then: ask in each `tick`.
    pub fn public_key() -> Result<PublicKey, Error> {
        let bytes = wit::public_key().map_err(convert::error)?;
        let wrong = |bytes: Vec<u8>| Error::Unavailable(format!("a public key of {} bytes", bytes.len()));
        bytes.try_into().map(PublicKey).map_err(wrong)
    }

    /// Declares a peer's subnet.
    pub fn put(peer: PeerId, ipsec: &Peer, device: &Link) -> Result<(), Error> {
        let ipsec = wit::Peer {
            subnet: convert::prefix(ipsec.subnet),
            endpoint: convert::address(ipsec.endpoint),
            public_key: ipsec.public_key.0.to_vec(),
        };
        wit::put(convert::peer(peer), &ipsec, device.handle()).map_err(convert::error)
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
        declare(Declared::Ipsec(device.clone()))?;
        Ok(Link::named(&device.name))
    }

    /// What is to be published as this node's key. It changes now and then: ask in each `tick`.
    pub fn public_key() -> Result<PublicKey, Error> {
        Ok(with(|host| host.ipsec_key))
    }

    /// Declares a peer's subnet.
    pub fn put(peer: PeerId, ipsec: &Peer, device: &Link) -> Result<(), Error> {
        declare(Declared::IpsecPeer(peer, ipsec.clone(), device.name()))
    }
}

pub use host::{ensure, public_key, put};
