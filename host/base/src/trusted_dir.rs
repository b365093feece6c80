//! Directories in which nobody but this user and root can have put anything, and files in them.
//!
//! Whether a directory is one's own says nothing as long as somebody else can exchange a directory above it. So each is looked at, from
//! the root on, as `sshd` does for keys (`trusted_path.rs`).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::trusted_path::{DIRECTORY, check_directory, check_file, follow};

/// An open directory.
#[derive(Debug)]
pub struct TrustedDir {
    directory: OwnedFd,
    path: PathBuf,
}

/// A file in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was written or [touched](TrustedDir::touch) last.
    pub used: SystemTime,
}

impl TrustedDir {
    /// Opens a directory that is there. An error says whose fault it is that it cannot be trusted.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::walk(path, None, false)
    }

    /// The same; it is made, for nobody else's eyes, with those above it that are missing.
    pub fn make(path: &Path) -> io::Result<Self> {
        Self::walk(path, Some(0o700), false)
    }

    /// One where others may look, and, as in `/tmp`, make files of their own. It is made, with those above it that are missing, so that
    /// everybody can read what is in it.
    pub fn make_shared(path: &Path) -> io::Result<Self> {
        Self::walk(path, Some(0o755), true)
    }

    fn walk(path: &Path, make: Option<u32>, shared: bool) -> io::Result<Self> {
        let end = follow(path, make)?;
        let directory =
            rustix::fs::openat(&end.directory, &end.name, DIRECTORY, Mode::empty()).map_err(|error| {
                io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", end.path.display()))
            })?;
        check_directory(&directory, &rustix::fs::fstat(&directory)?, &end.path, shared)?;
        Ok(Self { directory, path: std::path::absolute(path)? })
    }

    /// As it was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it to read: a regular one, which only this user or root can have written, and no symbolic link.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        self.open_checked(name, OFlags::RDONLY)
    }

    /// Opens a file in it that is there to be locked. It is made if it is not there; what another user put in its place is not taken.
    pub fn open_lock(&self, name: &str) -> io::Result<File> {
        self.open_checked(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_checked(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o600))?;
        check_file(&file, &rustix::fs::fstat(&file)?, &self.path.join(name))?;
        Ok(File::from(file))
    }

    /// Reads a file in it, of at most `max` bytes.
    pub fn read(&self, name: &str, max: u64) -> io::Result<Vec<u8>> {
        let file = self.open_file(name)?;
        let mut bytes = Vec::new();
        file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::other(format!(
                "{}: it has more than {max} bytes",
                self.path.join(name).display()
            )));
        }
        Ok(bytes)
    }

    /// Puts a file in the place of what is there, as a whole, for nobody else's eyes; answers it, to read and write.
    pub fn replace(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
        let (mut file, temporary) = self.temporary(name)?;
        let written = write(&mut file)
            .and_then(|()| file.sync_all())
            .and_then(|()| Ok(rustix::fs::renameat(&self.directory, &temporary, &self.directory, name)?));
        if let Err(error) = written {
            let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
            return Err(error);
        }
        // Not every file system can do that for a directory.
        let _ = rustix::fs::fsync(&self.directory);
        Ok(file)
    }

    /// Makes a file that is not there yet; [`io::ErrorKind::AlreadyExists`] if it is there by now.
    pub fn create(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let (mut file, temporary) = self.temporary(name)?;
        let made = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| {
            Ok(rustix::fs::linkat(&self.directory, &temporary, &self.directory, name, AtFlags::empty())?)
        });
        let _ = rustix::fs::unlinkat(&self.directory, &temporary, AtFlags::empty());
        let _ = rustix::fs::fsync(&self.directory);
        made
    }

    fn temporary(&self, name: &str) -> io::Result<(File, String)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let process = std::process::id();
        for attempt in 0_u32.. {
            let temporary = format!(".{name}.{process}.{attempt}");
            match rustix::fs::openat(&self.directory, &temporary, flags, Mode::from_raw_mode(0o600)) {
                Ok(file) => return Ok((File::from(file), temporary)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Notes that a file is used now, for those who remove what nobody uses.
    pub fn touch(&self, name: &str) -> io::Result<()> {
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        Ok(rustix::fs::utimensat(&self.directory, name, &now, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.directory, name, AtFlags::empty())?)
    }

    /// The regular files in it whose names are text.
    pub fn files(&self) -> io::Result<Vec<FileInfo>> {
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.directory)? {
            let entry = entry?;
            found.extend(self.about(entry.file_name()));
        }
        Ok(found)
    }

    fn about(&self, name: &CStr) -> Option<FileInfo> {
        let about = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return None;
        }
        Some(FileInfo {
            name: name.to_str().ok()?.to_owned(),
            bytes: u64::try_from(about.st_size).unwrap_or(0),
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(about.st_mtime).unwrap_or(0)),
        })
    }
}

impl AsFd for TrustedDir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }

    fn reason(path: &Path) -> String {
        TrustedDir::open(path).expect_err("refused").to_string()
    }

    #[test]
    fn what_is_missing_is_made_for_nobody_elses_eyes() {
        let above = tempfile::tempdir().expect("directory");
        let path = above.path().join("one/two");
        assert_eq!(TrustedDir::open(&path).expect_err("is not there").kind(), io::ErrorKind::NotFound);
        let made = TrustedDir::make(&path).expect("made");
        made.replace("file", |file| file.write_all(b"text")).expect("written");
        assert_eq!(made.read("file", 4).expect("read"), b"text");
        assert!(made.read("file", 3).expect_err("too large").to_string().ends_with("more than 3 bytes"));
        assert_eq!(path.metadata().expect("directory").permissions().mode() & 0o777, 0o700);
        assert_eq!(path.join("file").metadata().expect("file").permissions().mode() & 0o777, 0o600);
        assert_eq!(made.files().expect("listed").len(), 1, "nothing else is left");
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_not_trusted_and_neither_is_what_is_below_it() {
        let above = tempfile::tempdir().expect("directory");
        let path = above.path().join("open/own");
        TrustedDir::make(&path).expect("made");
        for wrong in [0o777, 0o775, 0o720] {
            mode(&above.path().join("open"), wrong);
            assert!(reason(&path).contains("open can be written by other users"), "{wrong:o}");
        }
        // As /tmp is: one's own directory in it nobody else can exchange. What is in it itself is anybody's.
        mode(&above.path().join("open"), 0o1777);
        TrustedDir::open(&path).expect("trusted");
        assert!(reason(&above.path().join("open")).contains("can be written by other users"));
    }

    #[test]
    fn links_of_ones_own_lead_on_and_links_in_a_circle_nowhere() {
        let above = tempfile::tempdir().expect("directory");
        let path = above.path().join("real");
        TrustedDir::make(&path)
            .expect("made")
            .create("file", |file| file.write_all(b"text"))
            .expect("written");
        symlink("./../real", path.join("relative")).expect("link");
        symlink(&path, above.path().join("absolute")).expect("link");
        let led = TrustedDir::open(&above.path().join("absolute/relative")).expect("trusted");
        assert_eq!(led.read("file", 10).expect("read"), b"text");
        symlink("circle", above.path().join("circle")).expect("link");
        TrustedDir::open(&above.path().join("circle")).expect_err("leads nowhere");
    }

    #[test]
    fn a_file_that_another_could_have_written_is_not_read() {
        let above = tempfile::tempdir().expect("directory");
        let directory = TrustedDir::open(above.path()).expect("trusted");
        directory.create("file", |file| file.write_all(b"text")).expect("made");
        assert_eq!(
            directory.create("file", |_| Ok(())).expect_err("is there").kind(),
            io::ErrorKind::AlreadyExists
        );
        symlink("file", above.path().join("link")).expect("link");
        directory.read("link", 10).expect_err("a link");
        let pipe = above.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        assert!(directory.read("pipe", 10).expect_err("a pipe").to_string().contains("is no regular file"));
        mode(&above.path().join("file"), 0o666);
        let error = directory.read("file", 10).expect_err("open to all").to_string();
        assert!(error.contains("can be written by another user") && error.contains("mode 666"), "{error}");
    }
}
