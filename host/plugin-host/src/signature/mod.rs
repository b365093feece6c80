//! Who stands behind a plugin: signatures as cosign makes them, verified with public keys that an operator names. Nothing is asked of
//! anybody: neither certificates nor transparency logs count, only keys.
//!
//! Facts: cosign's `SIGNATURE_SPEC.md`, sigstore's bundle format 0.3, the DSSE protocol, and RFC 8032.

mod beside;
mod bundle;
mod evidence;
mod private_key;
mod public_key;
mod sealed;
mod signed_text;

use std::fmt;

pub use beside::{BUNDLE_EXTENSION, SIGNATURE_EXTENSION, beside_name, read_plugin, verify_file};
pub(crate) use beside::{beside, read_opened};
pub(crate) use bundle::{is_media_type as is_bundle, read as read_bundle};
pub(crate) use evidence::{Evidence, Subject};
pub use private_key::{NoRandomness, PASSWORD_VARIABLE, PrivateKey, PrivateKeyError};
pub use public_key::{KeyError, PublicKey};
pub(crate) use signed_text::simple_signing;

use super::digest::Digest;

/// A key whose signatures an operator believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Whose it is, in the operator's words.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

/// Who has signed a plugin: a signature by the key was verified for exactly its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Whose key it is, in the operator's words.
    pub name: String,
    /// The key's digest: SHA-256 of its DER form (SubjectPublicKeyInfo).
    pub key: Digest,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (key {})", self.name, self.key)
    }
}

/// What is known of where a plugin comes from, beyond its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Who has signed it, of those whose keys were given.
    pub signers: Vec<Signer>,
    /// Why there are no signers, for people; nothing if no keys were given.
    pub unsigned: Option<String>,
    /// That its tag means an older version than it did before, for people.
    pub moved: Option<String>,
    /// Why others than this user and root can exchange its file, for people.
    pub exchangeable: Option<String>,
}

impl Provenance {
    /// What signatures say of a subject. `unsigned` says why, if there is no good one.
    pub(crate) fn judge(
        evidence: &[Evidence],
        subject: &Subject,
        trusted: &[TrustedKey],
        unsigned: impl FnOnce() -> String,
    ) -> Self {
        let has_signed =
            |trusted: &&TrustedKey| evidence.iter().any(|one| one.is_good(&trusted.key, subject));
        let signers: Vec<Signer> = trusted
            .iter()
            .filter(has_signed)
            .map(|trusted| Signer { name: trusted.name.clone(), key: trusted.key.id() })
            .collect();
        let unsigned = (signers.is_empty() && !trusted.is_empty()).then(unsigned);
        Self { signers, unsigned, ..Self::default() }
    }

    /// Whether one of these keys has signed it.
    pub(crate) fn is_signed_by(&self, keys: &[Digest]) -> bool {
        self.signers.iter().any(|signer| keys.contains(&signer.key))
    }

    /// What there is of signatures, in one line; nothing if no keys were given.
    pub fn signatures(&self) -> Option<String> {
        if self.signers.is_empty() {
            return self.unsigned.clone();
        }
        let signers: Vec<String> = self.signers.iter().map(Signer::to_string).collect();
        Some(format!("it is signed by {}", signers.join(", ")))
    }
}

/// That there are signatures, and none is good.
pub(crate) fn none_of(count: usize) -> String {
    match count {
        1 => "its signature is by none of the keys given, or of other bytes".to_owned(),
        count => format!("none of its {count} signatures is by one of the keys given, for these bytes"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
