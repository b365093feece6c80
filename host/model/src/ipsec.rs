//! IPsec (RFC 4301) without a daemon of its own: devices, peers, and how packets are protected. What is private is used and never shown.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use flannel_base::Secret;
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::wireguard::PublicKey;

/// The preshared key of the network config, `Backend.PSK`: a text, of which every byte counts.
pub type Psk = Secret<String>;

/// What packets are encrypted and authenticated with: authenticated encryption, in ESP (RFC 4303).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES in Galois/Counter Mode with a key of 128 bits (RFC 4106).
    Aes128Gcm,
    /// The same with 192 bits.
    Aes192Gcm,
    /// The same with 256 bits.
    Aes256Gcm,
    /// `ChaCha20` and `Poly1305` (RFC 7634).
    ChaCha20Poly1305,
}

impl Cipher {
    /// As strongSwan calls it in its proposals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128gcm16",
            Self::Aes192Gcm => "aes192gcm16",
            Self::Aes256Gcm => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
        }
    }

    /// As the kernel calls it (`xfrm_algo.c`).
    pub fn kernel_name(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "rfc7539esp(chacha20,poly1305)",
            _ => "rfc4106(gcm(aes))",
        }
    }

    /// Bytes of a key with its salt of four bytes (RFC 4106, section 8.1; RFC 7634, section 2.1).
    pub fn key_length(self) -> usize {
        4 + match self {
            Self::Aes128Gcm => 16,
            Self::Aes192Gcm => 24,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An XFRM interface of ours (`xfrm` in ip-link(8)): what is routed to it leaves in ESP, and what comes in so comes out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipsec {
    /// The device's name, 1 to 15 bytes.
    pub name: Arc<str>,
    /// What ties the kernel's policies and states to the device (`if_id`): [`if_id`].
    pub if_id: u32,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Where ESP over IPv4 comes from: the external interface's address; none if the cluster has no IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Where ESP over IPv6 comes from; none if the cluster has no IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// How packets are protected: the same at all nodes.
    pub cipher: Cipher,
    /// The UDP port, ours and the peers', that ESP goes by (RFC 3948); none: as a protocol of its own.
    pub udp_port: Option<u16>,
    /// How long this node's key serves before another one takes its place; none: as long as the daemon runs.
    pub rekey: Option<Duration>,
    /// What all nodes have in common.
    pub psk: Psk,
}

/// The number of a device that is declared so, never 0. Devices that cannot be one have different ones, such that both can be there during a
/// change of the backend; it stays when a device gets another name.
pub fn if_id(name: &str, cipher: Cipher, udp_port: Option<u16>, psk: &Psk) -> u32 {
    let mut hash = Sha256::new();
    for part in [
        "flannel ipsec if_id".as_bytes(),
        name.as_bytes(),
        psk.reveal().as_bytes(),
        cipher.name().as_bytes(),
        &udp_port.unwrap_or(0).to_be_bytes(),
    ] {
        hash.update([part.len().to_be_bytes().as_slice(), part].concat());
    }
    let id = hash.finalize().iter().take(4).fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
    // Some tools show it as a number with a sign.
    (id >> 1).max(1)
}

impl Ipsec {
    /// Where the tunnel to a peer begins: our address of its endpoint's family.
    pub fn local(&self, endpoint: IpAddr) -> Option<IpAddr> {
        match endpoint {
            IpAddr::V4(_) => self.ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// A subnet of a peer behind a device of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpsecPeer {
    /// The subnet: packets to it go to the peer, and what the peer sends comes from it.
    pub subnet: IpNet,
    /// This node's subnet of the same family: what is between two nodes depends on both.
    pub own_subnet: IpNet,
    /// The peer's public address.
    pub endpoint: IpAddr,
    /// What the peer has published.
    pub key: PublicKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_cannot_be_one_are_told_apart_by_their_numbers() {
        let psk = Psk::new("made up".to_owned());
        let id = if_id("flannel-ipsec", Cipher::Aes128Gcm, None, &psk);
        assert_ne!(id, 0);
        for other in [
            if_id("flannel-ipsec", Cipher::Aes128Gcm, None, &Psk::new("another".to_owned())),
            if_id("flannel-ipsec", Cipher::Aes256Gcm, None, &psk),
            if_id("flannel-ipsec", Cipher::Aes128Gcm, Some(4500), &psk),
            if_id("flannel-ipsec2", Cipher::Aes128Gcm, None, &psk),
        ] {
            assert_ne!(other, id);
        }
    }

    #[test]
    fn the_preshared_key_is_not_shown() {
        let device = Ipsec {
            name: "flannel-ipsec".into(),
            if_id: 1,
            mtu: 1423,
            ipv4: Some(Ipv4Addr::new(192, 168, 0, 1)),
            ipv6: None,
            cipher: Cipher::Aes128Gcm,
            udp_port: None,
            rekey: None,
            psk: Psk::new("made up".to_owned()),
        };
        assert!(!format!("{device:?}").contains("made up"));
    }
}
