//! What a node remembers in its state directory: a JSON file for each kind of thing.

use std::io;
use std::path::Path;

use flannel_base::atomic_file::{self, Mode};
use flannel_base::regular_file;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

/// More than a record has.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a record. One that is not there is empty; so is one that cannot be read, with a warning. `what`: of what it is, as in "the record of
/// MAC addresses".
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path, what: &str) -> T {
    match regular_file::read(path, MAX_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "the record of {what} is damaged: starting a new one");
            T::default()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => T::default(),
        Err(error) => {
            warn!(file = %path.display(), %error, "the record of {what} cannot be read");
            T::default()
        }
    }
}

/// Replaces a record, for nobody but the daemon to read.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    atomic_file::replace(path, &serde_json::to_vec_pretty(record)?, Mode::Exactly(0o600))
}
