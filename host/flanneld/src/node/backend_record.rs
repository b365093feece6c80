//! Which backend the node had when it was last at rest: where the network config still has that one, nothing has to be asked at a start.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::record;

const FILE: &str = "backend";

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// The `Backend` section in its canonical form; none: in the middle of a change.
    at_rest: Option<String>,
}

/// Whether a node that has this backend was at rest with it.
pub(crate) fn is_at_rest(state_dir: &Path, backend: &str) -> bool {
    let record: Record = record::read(&state_dir.join(FILE), "the backend");
    record.at_rest.as_deref() == Some(backend)
}

/// Whether it is known that the node has had this backend, or that it was in the middle of a change.
pub(crate) fn is_known(state_dir: &Path, backend: &str) -> bool {
    let path = state_dir.join(FILE);
    path.exists() && {
        let record: Record = record::read(&path, "the backend");
        record.at_rest.is_none_or(|at_rest| at_rest == backend)
    }
}

/// Writes down with which backend the node is at rest; none: it is in the middle of a change.
pub(crate) fn remember(state_dir: &Path, at_rest: Option<&str>) {
    let now = Record { at_rest: at_rest.map(str::to_owned) };
    let path = state_dir.join(FILE);
    let before: Record = record::read(&path, "the backend");
    if before != now
        && let Err(error) = record::write(&path, &now)
    {
        warn!(file = %path.display(), %error, "the backend cannot be written down: the next start reads all leases");
    }
}
