//! What protects a direction between two nodes: derived from the preshared key, which only nodes of the cluster have, and from what the two
//! nodes' keys have in common, which only these two know. No message is needed for it but the two leases.

use flannel_base::Secret;
use flannel_model::ipsec::{Cipher, Psk};
use flannel_model::wireguard::PublicKey;
use hkdf::Hkdf;
use ipnet::IpNet;
use sha2::Sha256;

use super::keyring::OwnKey;

/// What keeps these keys from being those of something else that has the same secrets; with the number of this way to derive them.
const LABEL: &[u8] = b"flannel ipsec 1";
/// Numbers up to here are reserved (RFC 4303, section 2.1; 0 to 255), and some below are what people take by hand.
const FIRST_SPI: u32 = 0x1_0000;

/// What a direction is protected with.
pub(super) struct Protection {
    /// The security parameters index (RFC 4303, section 2.1).
    pub spi: u32,
    /// The cipher's key, with its salt.
    pub key: Secret<Vec<u8>>,
}

/// Both directions between this node and a peer.
pub(super) struct Pair {
    /// What comes from the peer.
    pub inbound: Protection,
    /// What goes to it.
    pub outbound: Protection,
}

/// Whose keys, and between which subnets: the same at both ends.
pub(super) struct Ends<'a> {
    /// The device's number, which all nodes with the same options have: two generations of a backend have nothing in common.
    pub if_id: u32,
    /// Our key.
    pub own: &'a OwnKey,
    /// The peer's.
    pub peer: &'a PublicKey,
    /// The peer's subnet, which is the peer's alone: who publishes somebody else's key has another protection.
    pub subnet: &'a IpNet,
    /// This node's subnet of the same family.
    pub own_subnet: &'a IpNet,
}

/// Derives both directions. None: what the peer has published is no key.
pub(super) fn derive(psk: &Psk, cipher: Cipher, ends: &Ends<'_>) -> Option<Pair> {
    let shared = ends.own.agree(ends.peer)?;
    let secret = Secret::new([shared.bytes().as_slice(), psk.reveal().as_bytes()].concat());
    let kdf = Hkdf::<Sha256>::new(Some(LABEL), secret.reveal());
    let what = (ends.if_id, cipher);
    let (own, peer) = ((&ends.own.public, ends.own_subnet), (ends.peer, ends.subnet));
    Some(Pair { inbound: direction(&kdf, what, peer, own)?, outbound: direction(&kdf, what, own, peer)? })
}

type End<'a> = (&'a PublicKey, &'a IpNet);

fn direction(
    kdf: &Hkdf<Sha256>,
    (if_id, cipher): (u32, Cipher),
    from: End<'_>,
    to: End<'_>,
) -> Option<Protection> {
    let (from_net, to_net) = (from.1.to_string(), to.1.to_string());
    let info: Vec<u8> = [
        &if_id.to_be_bytes(),
        cipher.name().as_bytes(),
        &from.0.0,
        &to.0.0,
        from_net.as_bytes(),
        b" ",
        to_net.as_bytes(),
    ]
    .concat();
    let mut material = Secret::new(vec![0; cipher.key_length() + 4]);
    kdf.expand(&info, material.reveal_mut()).ok()?;
    let (spi, key) = material.reveal().split_first_chunk::<4>()?;
    let spi = u32::from_be_bytes(*spi);
    Some(Protection {
        spi: if spi < FIRST_SPI { spi + FIRST_SPI } else { spi },
        key: Secret::new(key.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::keyring::KeyRing;
    use super::*;

    fn key() -> OwnKey {
        let ring = KeyRing::default();
        ring.published().expect("a key");
        ring.accepted(Instant::now()).remove(0)
    }

    fn net(text: &str) -> IpNet {
        text.parse().expect("a network")
    }

    #[test]
    fn what_one_sends_with_is_what_the_other_receives_with() {
        let psk = Psk::new("made up".to_owned());
        let (a, b, nets) = (key(), key(), [net("10.5.1.0/24"), net("10.5.2.0/24")]);
        let at = |own, peer: &OwnKey, own_subnet, subnet| {
            derive(&psk, Cipher::Aes256Gcm, &Ends { if_id: 1, own, peer: &peer.public, subnet, own_subnet })
                .expect("a key")
        };
        let (at_a, at_b) = (at(&a, &b, &nets[0], &nets[1]), at(&b, &a, &nets[1], &nets[0]));
        for (sends, receives) in [(&at_a.outbound, &at_b.inbound), (&at_b.outbound, &at_a.inbound)] {
            assert_eq!((sends.spi, sends.key.reveal()), (receives.spi, receives.key.reveal()));
            assert_eq!(sends.key.reveal().len(), 36);
            assert!(sends.spi >= FIRST_SPI);
        }
        assert_ne!(at_a.outbound.key.reveal(), at_a.inbound.key.reveal());
    }

    #[test]
    fn another_preshared_key_cipher_or_subnet_is_another_protection() {
        let (a, b, nets) = (key(), key(), [net("10.5.1.0/24"), net("10.5.2.0/24")]);
        let derived = |psk: &str, cipher, subnet: &IpNet| {
            let ends = Ends { if_id: 1, own: &a, peer: &b.public, subnet, own_subnet: &nets[0] };
            let pair = derive(&Psk::new(psk.to_owned()), cipher, &ends).expect("a key");
            pair.inbound.key.reveal().clone()
        };
        let one = derived("made up", Cipher::Aes256Gcm, &nets[1]);
        assert_ne!(one, derived("another", Cipher::Aes256Gcm, &nets[1]));
        assert_ne!(one, derived("made up", Cipher::ChaCha20Poly1305, &nets[1]));
        assert_ne!(one, derived("made up", Cipher::Aes256Gcm, &net("10.5.3.0/24")));
    }
}
