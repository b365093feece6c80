//! Copies of files that are there as a whole or not at all: a runtime may read them, or start them, at any moment.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flannel_base::atomic_file::{self, Mode};
use flannel_base::regular_file;

/// Why a file is not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The source, or what is on the way to it.
    #[error("{0}: cannot be read: {1}")]
    Source(PathBuf, io::Error),
    /// The copy. A source that breaks off while it is read is here, too.
    #[error("{0}: cannot be written: {1}")]
    Copy(PathBuf, io::Error),
}

/// Puts a copy of a file, with its mode, in the place of what is there. A link in that place is replaced, and not followed; links to the
/// source are followed, as ConfigMaps are links.
pub(crate) fn copy(source: &Path, to: &Path) -> Result<(), CopyError> {
    let unreadable = |error| CopyError::Source(source.to_owned(), error);
    let unwritable = |error| CopyError::Copy(to.to_owned(), error);
    let mut from = regular_file::open(source).map_err(unreadable)?;
    // Rights over files, and nothing that makes a program another user's.
    let mode = from.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        // A directory that is missing is more likely a mount that is.
        return Err(unwritable(io::Error::new(io::ErrorKind::NotFound, "there is no such directory")));
    }
    let written =
        atomic_file::replace_with(to, Mode::Exactly(mode), |copy| io::copy(&mut from, copy).map(drop));
    written.map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_copy_has_the_sources_mode_and_takes_the_place_of_what_is_there() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("source"), "new").expect("written");
        std::fs::set_permissions(path("source"), Permissions::from_mode(0o4751)).expect("mode");
        symlink(path("source"), path("link")).expect("link");
        std::fs::write(path("other"), "other").expect("written");
        symlink(path("other"), path("copy")).expect("link");
        copy(&path("link"), &path("copy")).expect("copied");
        let found = path("copy").symlink_metadata().expect("there");
        assert!(found.is_file() && found.permissions().mode() & 0o7777 == 0o751);
        assert_eq!(std::fs::read(path("copy")).expect("read"), b"new");
        assert_eq!(std::fs::read(path("other")).expect("read"), b"other", "a link is not followed");
        assert_eq!(directory.path().read_dir().expect("listing").count(), 4, "nothing else is left");
    }

    #[test]
    fn a_program_that_runs_can_be_replaced() {
        let directory = tempfile::tempdir().expect("directory");
        let program = directory.path().join("sleep");
        let sleep =
            ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|it| Path::new(it).exists()).expect("sleep");
        copy(Path::new(sleep), &program).expect("copied");
        let mut running = loop {
            match std::process::Command::new(&program).arg("60").spawn() {
                // Another test's child has just inherited what the copy was written by.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                started => break started.expect("started"),
            }
        };
        let outcome = copy(Path::new(sleep), &program);
        running.kill().expect("killed");
        running.wait().expect("ended");
        outcome.expect("copied over");
    }

    #[test]
    fn what_cannot_be_copied_is_named_and_what_is_there_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("there"), "old").expect("written");
        std::fs::create_dir(path("directory")).expect("made");
        for (source, to, named) in [
            ("none", "there", "none"),
            ("directory", "there", "directory"),
            ("there", "none/copy", "none/copy"),
            ("there", "directory", "directory"),
        ] {
            let error = copy(&path(source), &path(to)).expect_err(named).to_string();
            assert!(error.starts_with(&path(named).display().to_string()), "{error}");
        }
        assert_eq!(std::fs::read(path("there")).expect("read"), b"old");
        assert_eq!(directory.path().read_dir().expect("listing").count(), 2);
    }
}
