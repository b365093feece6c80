//! What was pulled before, in the cache directory: manifests and components by their digests, and what tags meant last.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::history::History;
use super::manifest;
use crate::digest::Digest;
use crate::private_dir;
use crate::reference::RegistryReference;
use crate::signature::Evidence;

/// The cache. Whatever is read from it is checked as if it came from a registry.
#[derive(Clone)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in this directory, which need not be there yet.
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The manifest with this digest, and its component.
    pub(super) fn component(&self, manifest: Digest) -> Option<(Vec<u8>, Vec<u8>)> {
        let bytes = self.checked(&manifest_file(manifest), manifest)?;
        let component = self.blob(manifest::layer(&bytes).ok()?.digest)?;
        Some((bytes, component))
    }

    /// The component with this digest.
    pub(super) fn blob(&self, digest: Digest) -> Option<Vec<u8>> {
        self.checked(&component_file(digest), digest)
    }

    /// What a tag meant when its registry was asked last.
    pub(super) fn last_known(&self, reference: &RegistryReference) -> Option<Digest> {
        let text = private_dir::read(&self.directory, &tag_file(reference))?;
        std::str::from_utf8(&text).ok()?.parse().ok()
    }

    /// Keeps a component with its manifest.
    pub(super) fn keep(&self, manifest: Digest, bytes: &[u8], component: Digest, component_bytes: &[u8]) {
        self.write(&component_file(component), component_bytes);
        self.write(&manifest_file(manifest), bytes);
    }

    /// Keeps what a tag means now.
    pub(super) fn remember(&self, reference: &RegistryReference, manifest: Digest) {
        self.write(&tag_file(reference), manifest.to_string().as_bytes());
    }

    /// Signatures of a manifest. They are as good as those from a registry: whoever reads them verifies them.
    pub(super) fn signatures(&self, manifest: Digest) -> Vec<Evidence> {
        let bytes = private_dir::read(&self.directory, &signatures_file(manifest)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Keeps signatures of a manifest.
    pub(super) fn keep_signatures(&self, manifest: Digest, signatures: &[Evidence]) {
        // Strings alone: there is nothing that could not be written.
        self.write(&signatures_file(manifest), &serde_json::to_vec(signatures).unwrap_or_default());
    }

    /// What a tag has meant so far.
    pub(super) fn history(&self, reference: &RegistryReference) -> Option<History> {
        let bytes = private_dir::read(&self.directory, &history_file(reference))?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Keeps what a tag has meant so far.
    pub(super) fn keep_history(&self, reference: &RegistryReference, history: &History) {
        self.write(&history_file(reference), &serde_json::to_vec(history).unwrap_or_default());
    }

    fn checked(&self, name: &str, digest: Digest) -> Option<Vec<u8>> {
        private_dir::read(&self.directory, name).filter(|bytes| Digest::of(bytes) == digest)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        if let Err(error) = private_dir::keep(&self.directory, name, bytes) {
            let file = self.directory.join(name);
            warn!(file = %file.display(), %error, "the plugin cannot be cached: the next start needs its registry");
        }
    }
}

fn manifest_file(digest: Digest) -> String {
    format!("{}.manifest.json", digest.hex())
}

fn component_file(digest: Digest) -> String {
    format!("{}.wasm", digest.hex())
}

fn signatures_file(manifest: Digest) -> String {
    format!("{}.signatures.json", manifest.hex())
}

fn tag_file(reference: &RegistryReference) -> String {
    format!("{}.tag", tag_name(reference))
}

fn history_file(reference: &RegistryReference) -> String {
    format!("{}.history.json", tag_name(reference))
}

/// A tag's name has characters that a file's name must not have.
fn tag_name(reference: &RegistryReference) -> String {
    Digest::of(reference.to_string().as_bytes()).hex()
}
