//! Private keys: PKCS#8, as it is or as cosign encrypts it.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flannel_base::regular_file;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::public_key::PublicKey;
use super::sealed;

/// Where the password of an encrypted key is, as for cosign.
pub const PASSWORD_VARIABLE: &str = "COSIGN_PASSWORD";
/// Bytes of the largest key file.
const LARGEST: u64 = 64 << 10;

/// A key to sign with.
pub struct PrivateKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why there is no key to sign with: one line, without anything of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {}: {reason}", path.display())]
pub struct PrivateKeyError {
    path: PathBuf,
    reason: String,
}

/// Signing with ECDSA takes random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers to sign with")]
pub struct NoRandomness;

impl PrivateKey {
    /// Reads a key from a PEM file. `password`: of an encrypted one.
    pub fn read(path: &Path, password: Option<&str>) -> Result<Self, PrivateKeyError> {
        let wrong = |reason: String| PrivateKeyError { path: path.to_owned(), reason };
        let bytes = regular_file::read(path, LARGEST).map(Zeroizing::new);
        let bytes = bytes.map_err(|error| wrong(format!("cannot be read: {error}")))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is no PEM file".to_owned()))?;
        Self::parse(text, password).map_err(wrong)
    }

    /// Reads a key from a PEM text.
    fn parse(text: &str, password: Option<&str>) -> Result<Self, String> {
        // The parser's own error may have some of the text.
        let block = pem::parse(text).map_err(|_| "there is no PEM block".to_owned())?;
        let tag = block.tag().to_owned();
        let contents = Zeroizing::new(block.into_contents());
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8(&contents),
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                let password = password.ok_or_else(|| format!("it is encrypted: set {PASSWORD_VARIABLE}"))?;
                Self::from_pkcs8(&sealed::open(&contents, password)?)
            }
            "EC PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
                Err("it is in another form: convert it with `openssl pkcs8 -topk8 -nocrypt`".to_owned())
            }
            "PUBLIC KEY" => Err("this is a public key; to sign takes the private one".to_owned()),
            _ => {
                Err("there is no private key in it: -----BEGIN PRIVATE KEY-----, or one of cosign's"
                    .to_owned())
            }
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, String> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            let public = PublicKey::p256(pair.public_key().as_ref())?;
            return Ok(Self { pair: Pair::P256(pair), public });
        }
        let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) else {
            return Err("it is no valid key of ECDSA P-256 or Ed25519".to_owned());
        };
        let public = PublicKey::ed25519(pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::Ed25519(pair), public })
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of a file, as `cosign sign-blob` writes it: base64, without a newline.
    pub fn sign_file(&self, bytes: &[u8]) -> Result<String, NoRandomness> {
        Ok(BASE64_STANDARD.encode(self.sign(bytes)?))
    }

    /// Signs a message: ECDSA with SHA-256, in DER, or plain Ed25519.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        match &self.pair {
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| NoRandomness)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}
