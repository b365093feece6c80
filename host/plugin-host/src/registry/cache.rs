//! What was pulled before, in the cache directory: manifests and components by their digests, and what tags meant last.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::manifest;
use crate::digest::Digest;
use crate::private_dir;
use crate::reference::RegistryReference;

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

    /// The component whose manifest has this digest.
    pub(super) fn component(&self, manifest: Digest) -> Option<Vec<u8>> {
        let bytes = self.checked(&manifest_file(manifest), manifest)?;
        self.blob(manifest::layer(&bytes).ok()?.digest)
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

/// A tag's name has characters that a file's name must not have.
fn tag_file(reference: &RegistryReference) -> String {
    format!("{}.tag", Digest::of(reference.to_string().as_bytes()).hex())
}
