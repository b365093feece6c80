//! Keys. The private one is read, used and never shown.

use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tempfile::NamedTempFile;

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

    /// New ones.
    pub(super) fn generate() -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        // As `wg genkey` does it: the bits that X25519 sets and clears anyway.
        bytes[0] &= 0xf8;
        bytes[31] = (bytes[31] & 0x7f) | 0x40;
        Ok(Self::of(Secret(bytes)))
    }

    /// Writes the private key to a file that is not there yet, for its owner's eyes only. An error if it is there by now.
    pub(super) fn create(&self, file: &Path) -> io::Result<()> {
        let (written, directory) = self.written_beside(file)?;
        written.persist_noclobber(file).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }

    /// Writes the private key to a file, in one step, in the place of what was there.
    pub(super) fn replace(&self, file: &Path) -> io::Result<()> {
        let (written, directory) = self.written_beside(file)?;
        written.persist(file).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    }

    /// The key is written aside and renamed: nobody is to read half of one, not even after a loss of power.
    fn written_beside(&self, file: &Path) -> io::Result<(NamedTempFile, PathBuf)> {
        let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut written =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o400)).tempfile_in(directory)?;
        writeln!(written, "{}", BASE64_STANDARD.encode(self.private.0))?;
        written.as_file().sync_all()?;
        Ok((written, directory.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_key_is_the_private_keys() {
        // RFC 7748, section 6.1: Alice's keys.
        let private: Secret = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().expect("a key");
        assert_eq!(Keys::of(private).public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret([7; LENGTH])), "(hidden)");
    }
}
