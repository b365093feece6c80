//! Signatures beside a plugin's file: `FILE.sig`, which `cosign sign-blob --output-signature` writes, and `FILE.sigstore.json`, a bundle.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flannel_base::regular_file;

use super::evidence::{Evidence, Subject};
use super::{Provenance, TrustedKey, bundle, none_of};
use crate::artifact::MAX_COMPONENT_BYTES;
use crate::digest::Digest;

/// What the name of a file with a signature has behind the plugin's.
pub const SIGNATURE_EXTENSION: &str = ".sig";
/// The same of a bundle.
pub const BUNDLE_EXTENSION: &str = ".sigstore.json";
/// Bytes of the largest file with signatures.
const LARGEST: u64 = 64 << 10;
/// Signatures in one file, one a line. For each of them the plugin may be read once.
const MAX_SIGNATURES: usize = 4;

/// The file beside a plugin's.
pub fn beside_name(plugin: &Path, extension: &str) -> PathBuf {
    let mut name = OsString::from(plugin);
    name.push(extension);
    name.into()
}

/// Who has signed a plugin that came from a file, of those whose keys are given. Without keys no file is looked for.
pub(crate) fn beside(plugin: &Path, bytes: &[u8], trusted: &[TrustedKey]) -> Provenance {
    if trusted.is_empty() {
        return Provenance::default();
    }
    let (mut evidence, mut troubles) = (Vec::new(), Vec::new());
    for (extension, read) in
        [(SIGNATURE_EXTENSION, plain as fn(&[u8]) -> Option<Vec<Evidence>>), (BUNDLE_EXTENSION, bundle::read)]
    {
        let file = beside_name(plugin, extension);
        match content(&file).map(|content| content.map(|content| read(&content))) {
            Ok(None) => {}
            Ok(Some(Some(found))) => evidence.extend(found),
            Ok(Some(None)) => troubles.push(format!("there is no signature in {}", file.display())),
            Err(error) => troubles.push(format!("{} cannot be read: {error}", file.display())),
        }
    }
    Provenance::judge(&evidence, &Subject::new(bytes), trusted, || {
        match (evidence.len(), troubles.is_empty()) {
            (0, true) => {
                let file = plugin.display();
                format!(
                    "it has no signature: there is neither {file}{SIGNATURE_EXTENSION} nor {file}{BUNDLE_EXTENSION}"
                )
            }
            (0, false) => troubles.join(", "),
            (count, _) => none_of(count),
        }
    })
}

/// The digest of a plugin's file, and who has signed it, of those whose keys are given. Whether it is a plugin does not matter.
pub fn verify_file(plugin: &Path, trusted: &[TrustedKey]) -> io::Result<(Digest, Provenance)> {
    let bytes = read_plugin(plugin)?;
    Ok((Digest::of(&bytes), beside(plugin, &bytes, trusted)))
}

/// Reads what may be a plugin.
pub fn read_plugin(file: &Path) -> io::Result<Vec<u8>> {
    read_opened(&regular_file::open(file)?)
}

/// The same of a file that is open: no more than a component may have, however it grows meanwhile.
pub(crate) fn read_opened(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(io::Error::other("larger than 256 MiB"));
    }
    Ok(bytes)
}

fn content(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match regular_file::read(file, LARGEST + 1) {
        Ok(bytes) if bytes.len() as u64 > LARGEST => Err(io::Error::other("it is larger than 64 KiB")),
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A signature in base64, or several, one a line; or one as it is, as `openssl dgst -sign` writes it.
fn plain(content: &[u8]) -> Option<Vec<Evidence>> {
    let lines = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).take(MAX_SIGNATURES);
        lines.map(|line| BASE64_STANDARD.decode(line).ok()).collect::<Option<Vec<_>>>()
    };
    let signatures = std::str::from_utf8(content).ok().and_then(lines);
    let signatures = signatures.unwrap_or_else(|| vec![content.to_owned()]);
    (!signatures.is_empty())
        .then(|| signatures.into_iter().map(|signature| Evidence::Plain { signature }).collect())
}
