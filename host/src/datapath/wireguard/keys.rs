//! Keys. The private one is read, used and never shown.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Where the private key is kept, unless `WIREGUARD_KEY_FILE` says otherwise; as upstream.
const KEY_FILE: &str = "/run/flannel/wgkey";
const LENGTH: usize = 32;

/// A public key (RFC 7748, X25519).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; LENGTH]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

/// A private or preshared key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret([u8; LENGTH]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Secret {
    /// For the kernel alone.
    pub(super) fn bytes(&self) -> [u8; LENGTH] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Secret {
    type Err = String;

    /// Reads base64 of 32 bytes, as `wg genkey` and `wg genpsk` print it. The error does not repeat the text.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| {
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
    pub(super) private: Secret,
}

impl Keys {
    /// Those of a private key.
    pub(crate) fn of(private: Secret) -> Self {
        let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(private.0));
        Self { public: PublicKey(public.to_bytes()), private }
    }

    /// Reads the private key from a file, or makes one and writes it there, for root's eyes only. A key that is lost is a new
    /// identity: the lease says so to all peers.
    pub fn load(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        match std::fs::read_to_string(file) {
            Ok(text) => text.parse().map(Self::of).map_err(|error| format!("{shown}: {error}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::generate(file).map_err(|error| {
                    format!("the WireGuard key cannot be written to {shown}: {error}; name another place with WIREGUARD_KEY_FILE")
                })
            }
            Err(error) => Err(format!("the WireGuard key cannot be read from {shown}: {error}")),
        }
    }

    fn generate(file: &Path) -> std::io::Result<Self> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        // As `wg genkey` does it: the bits that X25519 sets and clears anyway.
        bytes[0] &= 0xf8;
        bytes[31] = (bytes[31] & 0x7f) | 0x40;
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        // Written aside and renamed: nobody is to read half a key, and who is faster keeps his.
        let mut new = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o400))
            .tempfile_in(directory)?;
        writeln!(new, "{}", BASE64_STANDARD.encode(bytes))?;
        new.as_file().sync_all()?;
        new.persist_noclobber(file).map_err(|error| error.error)?;
        Ok(Self::of(Secret(bytes)))
    }
}

/// The file of this node's private key.
pub fn key_file() -> PathBuf {
    let named = std::env::var_os("WIREGUARD_KEY_FILE").filter(|path| !path.is_empty());
    named.map_or_else(|| KEY_FILE.into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_public_key_is_the_private_keys() {
        // RFC 7748, section 6.1: Alice's keys.
        let private: Secret = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().expect("a key");
        assert_eq!(Keys::of(private).public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("run/wgkey");
        let first = Keys::load(&file).expect("a new key");
        assert_eq!(Keys::load(&file).expect("the same key"), first);
        let mode = std::fs::metadata(&file).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert_ne!(Keys::load(&directory.path().join("other")).expect("another").public, first.public);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("wgkey");
        for wrong in ["", "c2VjcmV0", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo", "!"] {
            std::fs::write(&file, wrong).expect("written");
            let error = Keys::load(&file).expect_err("no key");
            assert!(error.contains("wgkey") && error.contains("base64 of 32 bytes"), "{error}");
            assert!(wrong.len() < 2 || !error.contains(wrong), "{error}");
        }
        assert_eq!(format!("{:?}", Secret([7; LENGTH])), "(hidden)");
    }
}
