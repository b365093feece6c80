//! Files of the cache directory: what is read from there was put there by us.

use std::io::{self, Write as _};
use std::path::Path;

use flannel_base::trusted_dir::TrustedDir;

use super::artifact::MAX_COMPONENT_BYTES;

/// Reads a file, if nobody but us could have put it there.
pub(crate) fn read(directory: &Path, name: &str) -> Option<Vec<u8>> {
    let directory = TrustedDir::open(directory).ok()?;
    let bytes = directory.read(name, MAX_COMPONENT_BYTES as u64).ok()?;
    // What is used is not removed when the cache is full.
    let _ = directory.touch(name);
    Some(bytes)
}

/// Writes a file in one step, and makes the directory if it is not there.
pub(crate) fn keep(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    TrustedDir::make(directory)?.replace(name, |file| file.write_all(bytes)).map(drop)
}
