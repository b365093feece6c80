//! The operator's file with grants: who may do what, and the keys of those who sign plugins.
//!
//! Whoever can write to it, to a file with keys, or to a directory above them, could grant anything to anybody: then nothing of it counts.

use std::path::Path;

use flannel_base::trusted_file;
use flannel_privileges::with_privileges;
use serde::Deserialize;

use super::digest::Digest;
use super::grants::{GrantError, GrantRequest, parse_grant};
use super::signature::{PublicKey, TrustedKey};

/// Bytes of the largest file with grants.
const LARGEST: u64 = 1 << 20;
/// Keys in all: each signature is tried with each.
const MAX_KEYS: usize = 32;
/// What is a key itself, rather than the name of its file.
const PEM: &str = "-----BEGIN";

/// What is in the file.
#[derive(Debug)]
pub(super) struct GrantFile {
    /// Grants, in the file's order.
    pub grants: Vec<Grant>,
    /// All keys that grants go by, or could.
    pub keys: Vec<TrustedKey>,
}

/// One grant. It is for plugins of which all holds that it says.
#[derive(Debug)]
pub(super) struct Grant {
    digest: Option<Digest>,
    name: Option<String>,
    /// By their digests. One signature is enough.
    keys: Option<Vec<Digest>>,
    pub allow: Vec<String>,
}

impl Grant {
    /// Whether it is for who asks.
    pub(super) fn is_for(&self, asker: &GrantRequest) -> bool {
        self.could_be_for(asker) && self.name.as_ref().is_none_or(|name| name == asker.name)
    }

    /// Whether it is for who asks, if that goes by the right name. A name proves nothing of a file that others can exchange.
    pub(super) fn could_be_for(&self, asker: &GrantRequest) -> bool {
        if self.is_by_name_alone() && asker.provenance.exchangeable.is_some() {
            return false;
        }
        self.digest.is_none_or(|digest| digest.hex() == asker.digest)
            && self.keys.as_ref().is_none_or(|keys| asker.provenance.is_signed_by(keys))
    }

    /// Whether it is for whatever calls itself so.
    pub(super) fn is_by_name_alone(&self) -> bool {
        self.name.is_some() && self.digest.is_none() && self.keys.is_none()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    grant: Vec<WrittenGrant>,
    #[serde(default)]
    signer: Vec<WrittenSigner>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    digest: Option<String>,
    name: Option<String>,
    signer: Option<String>,
    key: Option<String>,
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSigner {
    name: String,
    key: String,
}

/// Reads the file, and the files with keys that it names. The error says what is wrong, and where.
pub(super) fn read(path: &Path) -> Result<GrantFile, GrantError> {
    // A thread that runs plugins cannot.
    with_privileges(|| read_here(path))
}

fn read_here(path: &Path) -> Result<GrantFile, GrantError> {
    let unreadable = |reason: String| GrantError::Unreadable { path: path.to_owned(), reason };
    let bytes = trusted_file::read(path, LARGEST + 1).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable("it is larger than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8".to_owned()))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&text, directory).map_err(|reason| GrantError::Malformed { path: path.to_owned(), reason })
}

fn parse(text: &str, directory: &Path) -> Result<GrantFile, String> {
    let written: Written = toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count());
        format!("line {line}: {}", error.message())
    })?;
    let signers = signers(&written.signer, directory)?;
    let (mut grants, mut keys) = (Vec::new(), signers.clone());
    for (number, grant) in written.grant.into_iter().enumerate() {
        let wrong = |reason: String| format!("grant {}: {reason}", number + 1);
        let (grant, own) = checked(grant, directory, &signers).map_err(wrong)?;
        grants.push(grant);
        keys.extend(own);
    }
    if keys.len() > MAX_KEYS {
        return Err(format!("there are {} keys, and at most {MAX_KEYS} are possible", keys.len()));
    }
    Ok(GrantFile { grants, keys })
}

/// What an operator is told of a file with this text.
#[cfg(feature = "fuzz")]
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    parse(text, Path::new("/nonexistent")).map(drop)
}

fn signers(written: &[WrittenSigner], directory: &Path) -> Result<Vec<TrustedKey>, String> {
    let mut keys: Vec<TrustedKey> = Vec::new();
    for (number, WrittenSigner { name, key }) in written.iter().enumerate() {
        let wrong = |reason: String| format!("signer {}: {reason}", number + 1);
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(wrong(format!("name = {name:?} is no name")));
        }
        if keys.iter().any(|known| known.name == *name) {
            let hint = "several keys of one signer belong into one file";
            return Err(wrong(format!("name = {name:?} is there twice; {hint}")));
        }
        keys.extend(named(name, read_keys(key, directory).map_err(wrong)?));
    }
    Ok(keys)
}

/// A grant, and the keys that are in it itself.
fn checked(
    grant: WrittenGrant,
    directory: &Path,
    signers: &[TrustedKey],
) -> Result<(Grant, Vec<TrustedKey>), String> {
    let WrittenGrant { digest, name, signer, key, allow } = grant;
    if digest.is_none() && name.is_none() && signer.is_none() && key.is_none() {
        return Err("it says for which plugins it is by none of digest, name, signer and key".to_owned());
    }
    let is_digest = |text: String| {
        text.parse::<Digest>()
            .map_err(|_| format!("digest = {text:?} is not sha256: and 64 hexadecimal digits"))
    };
    let digest = digest.map(is_digest).transpose()?;
    let mut own = Vec::new();
    let keys = match (signer, key) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            return Err("it has both signer and key: a key is of a signer, or stands by itself".to_owned());
        }
        (Some(signer), None) => Some(keys_of(&signer, signers)?),
        (None, Some(key)) => {
            // The file's name says more to people than the key does.
            let label = if key.contains(PEM) { "the key of a grant" } else { &key };
            own.extend(named(label, read_keys(&key, directory)?));
            Some(own.iter().map(|trusted| trusted.key.id()).collect())
        }
    };
    if let Some(reason) = allow.iter().find_map(|text| parse_grant(text).err()) {
        return Err(format!("allow: {reason}"));
    }
    Ok((Grant { digest, name, keys, allow }, own))
}

fn keys_of(signer: &str, known: &[TrustedKey]) -> Result<Vec<Digest>, String> {
    let keys: Vec<Digest> =
        known.iter().filter(|key| key.name == signer).map(|known| known.key.id()).collect();
    if !keys.is_empty() {
        return Ok(keys);
    }
    let mut names: Vec<&str> = known.iter().map(|key| key.name.as_str()).collect();
    names.dedup();
    let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(format!("signer = {signer:?}: there is no [[signer]] of that name; there are: {there}"))
}

fn named(name: &str, keys: Vec<PublicKey>) -> impl Iterator<Item = TrustedKey> {
    keys.into_iter().map(move |key| TrustedKey { name: name.to_owned(), key })
}

/// Keys from a file, which is looked for beside the file with grants, or as they are.
fn read_keys(key: &str, directory: &Path) -> Result<Vec<PublicKey>, String> {
    if key.contains(PEM) {
        return PublicKey::read(key).map_err(|error| format!("key: {error}"));
    }
    let wrong = |reason: String| format!("key = {key:?}: {reason}");
    PublicKey::read_trusted_file(&directory.join(key)).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests;
