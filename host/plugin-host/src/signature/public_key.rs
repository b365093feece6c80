//! Public keys: ECDSA on P-256 with SHA-256, and Ed25519, which are what cosign makes.

use std::fmt;
use std::io;
use std::path::Path;

use ed25519_dalek::{Signature, VerifyingKey};
use flannel_base::{regular_file, trusted_file};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sha2::{Digest as _, Sha512};
use spki::SubjectPublicKeyInfoRef;
use spki::der::Decode;
use spki::der::asn1::{AnyRef, ObjectIdentifier};

use crate::digest::Digest;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// What comes before the point in the DER form of a P-256 key.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same of an Ed25519 key.
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Bytes of an uncompressed point on P-256; the first of them says that it is one.
const POINT: usize = 65;
const UNCOMPRESSED: u8 = 4;
/// Keys in one file: the one before and the next one, where keys are exchanged now and then.
const MAX_KEYS: usize = 8;
/// Bytes of the largest file with keys.
const LARGEST: u64 = 64 << 10;
const TAG: &str = "PUBLIC KEY";

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    P256([u8; POINT]),
    Ed25519(VerifyingKey),
}

/// Why a text is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; a key is ECDSA P-256 or Ed25519, as PEM: -----BEGIN PUBLIC KEY-----")]
pub struct KeyError(String);

impl PublicKey {
    /// Reads the keys in a PEM text: one, or several of the same signer.
    pub fn read(text: &str) -> Result<Vec<Self>, KeyError> {
        let wrong = |reason: String| Err(KeyError(reason));
        let blocks = match pem::parse_many(text) {
            Ok(blocks) if blocks.is_empty() => return wrong("there is no PEM block".to_owned()),
            Ok(blocks) if blocks.len() > MAX_KEYS => {
                return wrong(format!("there are {} keys, and at most {MAX_KEYS} are taken", blocks.len()));
            }
            Ok(blocks) => blocks,
            // The text of the error has some of the file's, which may be a private key.
            Err(_) => return wrong("it is no valid PEM".to_owned()),
        };
        blocks.iter().map(Self::from_block).collect()
    }

    /// Reads the keys in a PEM file.
    pub fn read_file(file: &Path) -> Result<Vec<Self>, KeyError> {
        Self::read_bytes(regular_file::read(file, LARGEST))
    }

    /// The same, if only this user and root can have written it.
    pub(crate) fn read_trusted_file(file: &Path) -> Result<Vec<Self>, KeyError> {
        Self::read_bytes(trusted_file::read(file, LARGEST))
    }

    fn read_bytes(read: io::Result<Vec<u8>>) -> Result<Vec<Self>, KeyError> {
        let bytes = read.map_err(|error| KeyError(format!("the file cannot be read: {error}")))?;
        Self::read(&String::from_utf8_lossy(&bytes))
    }

    fn from_block(block: &pem::Pem) -> Result<Self, KeyError> {
        match block.tag() {
            TAG => Self::from_der(block.contents()).map_err(|reason| KeyError(reason.to_owned())),
            tag if tag.ends_with("PRIVATE KEY") => {
                Err(KeyError("this is a private key, and has no place here".to_owned()))
            }
            "CERTIFICATE" => Err(KeyError("this is a certificate, of which the key is wanted".to_owned())),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(KeyError(format!("this is a PEM block of {shown:?}")))
            }
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, &'static str> {
        let parsed =
            SubjectPublicKeyInfoRef::from_der(der).map_err(|_| "the key in the PEM block is damaged")?;
        let algorithm = parsed.algorithm;
        let bytes = parsed.subject_public_key.as_bytes().ok_or("the key in the PEM block is damaged")?;
        if algorithm.oid == RSA {
            return Err("this is an RSA key");
        }
        if algorithm.oid == ED25519 {
            return Self::ed25519(bytes);
        }
        if algorithm.oid != EC {
            return Err("this is a key of another algorithm");
        }
        match algorithm.parameters.map(AnyRef::decode_as::<ObjectIdentifier>) {
            Some(Ok(P256)) => Self::p256(bytes),
            _ => Err("this is an ECDSA key on another curve"),
        }
    }

    /// From an uncompressed point.
    pub(super) fn p256(point: &[u8]) -> Result<Self, &'static str> {
        match <[u8; POINT]>::try_from(point) {
            Ok(point) if point[0] == UNCOMPRESSED => Ok(Self(Kind::P256(point))),
            _ => Err("this is an ECDSA key whose point is not in the uncompressed form"),
        }
    }

    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.try_into().map_err(|_| "an Ed25519 key has 32 bytes")?;
        // With a weak key anybody could make signatures.
        match VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(Kind::Ed25519(key))),
            _ => Err("this is an Ed25519 key that no private key belongs to"),
        }
    }

    /// By which keys are told apart: SHA-256 of the DER form (SubjectPublicKeyInfo).
    pub fn id(&self) -> Digest {
        Digest::of(&self.der())
    }

    /// What the key is for.
    pub fn algorithm(&self) -> &'static str {
        match &self.0 {
            Kind::P256(_) => "ECDSA P-256",
            Kind::Ed25519(_) => "Ed25519",
        }
    }

    /// As PEM, with a newline at its end.
    pub fn to_pem(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new(TAG, self.der()), config)
    }

    fn der(&self) -> Vec<u8> {
        match &self.0 {
            Kind::P256(point) => [P256_PREFIX.as_slice(), point].concat(),
            Kind::Ed25519(key) => [ED25519_PREFIX.as_slice(), key.as_bytes()].concat(),
        }
    }

    /// Whether a signature of a message is by this key. Of Ed25519 the plain and the prehashed form (Ed25519ph) are taken: cosign
    /// makes both, and neither can pass for the other.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Kind::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
            }
            Kind::Ed25519(key) => {
                let Ok(signature) = Signature::from_slice(signature) else { return false };
                key.verify_strict(message, &signature).is_ok()
                    || key.verify_prehashed_strict(Sha512::new_with_prefix(message), None, &signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.algorithm(), self.id())
    }
}
