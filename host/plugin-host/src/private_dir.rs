//! Files in a directory that only this user can write to: what is read from there was put there by us.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use flannel_base::atomic_file::{self, Mode};

/// Reads a file, if nobody but us could have put it there.
pub(crate) fn read(directory: &Path, name: &str) -> Option<Vec<u8>> {
    if is_private(directory) { std::fs::read(directory.join(name)).ok() } else { None }
}

/// Writes a file in one step, and makes the directory if it is not there.
pub(crate) fn keep(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if !is_private(directory) {
        return Err(io::Error::other("the directory belongs to or can be written by others"));
    }
    atomic_file::replace(&directory.join(name), bytes, Mode::Exactly(0o600))
}

fn is_private(directory: &Path) -> bool {
    let us = rustix::process::geteuid().as_raw();
    std::fs::metadata(directory).is_ok_and(|meta| meta.uid() == us && meta.mode() & 0o022 == 0)
}
