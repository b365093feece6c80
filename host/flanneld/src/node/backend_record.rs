//! Which backend the node has, for the next start: a node that was away when the network config got another one begins with the one that the
//! others reach it by; and where the config still has that one, nothing has to be asked.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::record;

const FILE: &str = "backend";

/// What is written down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct BackendRecord {
    /// The `Backend` section that serves, in its canonical form with digests in the place of secrets; empty: it is not known. (Daemons of
    /// before wrote a digest of the whole where there are secrets: that is no backend that anybody has.)
    pub serving: String,
    /// It is being changed to another one.
    pub changing: bool,
    /// The one of both that the others have been told is the only one, while there is still something of the other one; empty: there is none.
    pub kept: String,
}

impl BackendRecord {
    /// What a run before has written down.
    pub(crate) fn read(state_dir: &Path) -> Self {
        record::read(&state_dir.join(FILE), "the backend")
    }

    /// Whether a node with this backend has nothing to ask.
    pub(crate) fn is_at_rest_with(&self, backend: &str) -> bool {
        self.serving == backend && !self.changing
    }

    /// The backend that the node had, if it is another one.
    pub(crate) fn other_than(&self, backend: &str) -> Option<&str> {
        Some(self.serving.as_str()).filter(|serving| !serving.is_empty() && *serving != backend)
    }

    /// Writes it down.
    pub(crate) fn write(&self, state_dir: &Path) {
        let path = state_dir.join(FILE);
        if let Err(error) = record::write(&path, self) {
            warn!(file = %path.display(), %error, "the backend cannot be written down: the next start reads all leases");
        }
    }
}
