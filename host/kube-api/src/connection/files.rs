//! Whether files have changed. Kubernetes replaces the files of a volume by other ones behind symbolic links: inodes tell, too.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Files as they were at one time.
pub(super) struct Files(Vec<(PathBuf, Option<Fingerprint>)>);

/// Device, inode, length, and the time of the last change in seconds and nanoseconds.
type Fingerprint = (u64, u64, u64, i64, i64);

impl Files {
    /// Looks at the files, before they are read: what changes later is seen.
    pub(super) fn look(files: Vec<PathBuf>) -> Self {
        Self(files.into_iter().map(|file| (file.clone(), fingerprint(&file))).collect())
    }

    /// Whether one of them is another one than it was. One that is gone is no change: what was read of it is still good.
    pub(super) fn have_changed(&self) -> bool {
        self.0.iter().any(|(file, before)| {
            let now = fingerprint(file);
            now.is_some() && now != *before
        })
    }
}

fn fingerprint(file: &PathBuf) -> Option<Fingerprint> {
    let of = std::fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
}
