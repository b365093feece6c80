//! Files that are there as a whole or not at all, whoever reads them and whenever the power goes.
//!
//! The one rule: written aside, synced, renamed, and the directory synced, so that the new name survives, too. (Not every file system
//! can sync a directory, and those that cannot are no error.) What is reached by a directory's descriptor, in the store of leases and of
//! plugins, follows the same rule there.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use super::trusted_file::is_trusted_user;

/// Which mode a file gets.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// This one.
    Exactly(u32),
    /// That of the file in whose place it comes, and this one where there is none of this user's or root's.
    KeepOr(u32),
}

/// Puts a file in the place of what is there. Directories that are missing are made, for everybody to read.
pub fn replace(path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    replace_with(path, mode, |file| file.write_all(bytes))
}

/// The same with what `write` writes, for what is too long to have it in memory.
pub fn replace_with(
    path: &Path,
    mode: Mode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let (written, directory) = written_beside(path, mode, write)?;
    written.persist(path).map_err(|error| error.error)?;
    sync_directory(directory);
    Ok(())
}

/// Makes a file that is not there yet; [`io::ErrorKind::AlreadyExists`] if it is there by now.
pub fn create(path: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let (written, directory) = written_beside(path, mode, |file| file.write_all(bytes))?;
    written.persist_noclobber(path).map_err(|error| error.error)?;
    sync_directory(directory);
    Ok(())
}

fn written_beside(
    path: &Path,
    mode: Mode,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<(NamedTempFile, &Path)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no name"));
    };
    let directory = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    // Of what is there itself: in a directory like `/tmp` it may be a link of anybody's, or a file that is open to all.
    let mode = match (mode, path.symlink_metadata()) {
        (Mode::KeepOr(_), Ok(found)) if found.is_file() && is_trusted_user(found.uid()) => {
            found.permissions().mode() & 0o777
        }
        (Mode::Exactly(mode) | Mode::KeepOr(mode), _) => mode,
    };
    let prefix = format!(".{}", name.to_string_lossy());
    // For nobody else's eyes until it is complete.
    let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory)?;
    write(file.as_file_mut())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok((file, directory))
}

fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_the_mode_that_somebody_chose() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("made/for/it/file");
        let mode = || path.metadata().expect("file").permissions().mode() & 0o7777;
        replace(&path, b"one", Mode::KeepOr(0o644)).expect("written");
        assert_eq!(mode(), 0o644);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
        replace(&path, b"two", Mode::KeepOr(0o644)).expect("written over");
        assert_eq!((mode(), std::fs::read(&path).expect("read")), (0o600, b"two".to_vec()));
        replace(&path, b"three", Mode::Exactly(0o400)).expect("written over");
        assert_eq!(mode(), 0o400);
        let parent = path.parent().expect("parent");
        assert_eq!(parent.read_dir().expect("listing").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_is_there_is_not_made() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("file");
        create(&path, b"one", Mode::Exactly(0o400)).expect("made");
        let error = create(&path, b"two", Mode::Exactly(0o400)).expect_err("it is there");
        assert_eq!(
            (error.kind(), std::fs::read(&path).expect("read")),
            (io::ErrorKind::AlreadyExists, b"one".to_vec())
        );
        assert_eq!(directory.path().read_dir().expect("listing").count(), 1);
    }

    #[test]
    fn a_link_in_the_files_place_is_replaced_and_what_it_leads_to_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        std::fs::write(&other, "other").expect("written");
        std::fs::set_permissions(&other, Permissions::from_mode(0o4666)).expect("mode");
        std::os::unix::fs::symlink(&other, &path).expect("link");
        replace(&path, b"text", Mode::KeepOr(0o644)).expect("written");
        let found = path.symlink_metadata().expect("file");
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o7777, 0o644, "not that of what the link led to");
        assert_eq!(std::fs::read(&other).expect("read"), b"other");
    }

    #[test]
    fn what_breaks_off_while_it_is_written_changes_nothing() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("file");
        std::fs::write(&path, "old").expect("written");
        let broken = replace_with(&path, Mode::Exactly(0o600), |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("broken off"))
        });
        assert_eq!(broken.expect_err("it broke off").to_string(), "broken off");
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        assert_eq!(directory.path().read_dir().expect("listing").count(), 1, "nothing else is left");
    }

    #[test]
    fn what_has_no_name_is_refused() {
        assert_eq!(
            replace(Path::new("/"), b"", Mode::Exactly(0o644)).expect_err("no name").kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
