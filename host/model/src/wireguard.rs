//! WireGuard's keys and peers. What is private is read, used and never shown.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flannel_base::Secret;
use ipnet::IpNet;

const LENGTH: usize = 32;

/// A public key (RFC 7748, X25519).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; LENGTH]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    /// Reads base64 of 32 bytes, as `wg pubkey` prints it.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = BASE64_STANDARD.decode(text).ok();
        let bytes = bytes.and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| "not a public key: base64 of 32 bytes".to_owned())
    }
}

/// A private or preshared key. It is not shown, and overwritten when it goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretKey(Secret<[u8; LENGTH]>);

impl SecretKey {
    /// For the kernel alone.
    pub fn bytes(&self) -> [u8; LENGTH] {
        *self.0.reveal()
    }

    /// As the kernel tells of it.
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(Secret::new(bytes))
    }
}

impl FromStr for SecretKey {
    type Err = String;

    /// Reads base64 of 32 bytes, as `wg genkey` and `wg genpsk` print it. The error does not repeat the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
        bytes.map(Self::from_bytes).ok_or_else(|| {
            "not a key: base64 of 32 bytes, as `wg genkey` and `wg genpsk` print it".to_owned()
        })
    }
}

/// This node's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// What peers know it by.
    pub public: PublicKey,
    /// What only the kernel gets.
    pub private: SecretKey,
}

impl Keys {
    /// Those of a private key.
    pub fn of(private: SecretKey) -> Self {
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(private.bytes()));
        Self { public: PublicKey(public.to_bytes()), private }
    }
}

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
    pub preshared: Option<SecretKey>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_the_private_keys() {
        // RFC 7748, section 6.1: Alice's keys.
        let private: SecretKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().expect("a key");
        assert_eq!(Keys::of(private).public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([7; LENGTH])), "SecretKey((hidden))");
    }
}
