//! Directories in which nobody but this user and root can have put anything, and files in them.
//!
//! Whether a directory is one's own says nothing as long as somebody else can exchange a directory above it. So each is looked at, from
//! the root on, as `sshd` does for keys, and each is opened from the one above, so that what was looked at is what is used. Symbolic
//! links count for what they are in: nobody else can have made them there.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

/// Symbolic links on the way to a directory, as the kernel has it (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;
/// What group and others must not have: the right to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// A directory where everybody may make files, and nobody may rename or remove those of others.
const STICKY: u32 = 0o1000;

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
        Self::walk(path, false)
    }

    /// The same; it is made, for nobody else's eyes, with those above it that are missing.
    pub fn make(path: &Path) -> io::Result<Self> {
        Self::walk(path, true)
    }

    fn walk(path: &Path, make: bool) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut rest = parts(&path);
        let mut here = rustix::fs::open("/", DIRECTORY, Mode::empty())?;
        check(&rustix::fs::fstat(&here)?, Path::new("/"), rest.is_empty())?;
        let (mut links, mut shown) = (0, PathBuf::from("/"));
        while let Some(name) = rest.pop_front() {
            let next = match rustix::fs::openat(&here, &name, ANYTHING, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    match rustix::fs::mkdirat(&here, &name, Mode::from_raw_mode(0o700)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(said(&shown.join(&name), &error.into())),
                    }
                    rustix::fs::openat(&here, &name, ANYTHING, Mode::empty())
                }
                opened => opened,
            };
            let next = next.map_err(|error| said(&shown.join(&name), &error.into()))?;
            let about = rustix::fs::fstat(&next)?;
            if FileType::from_raw_mode(about.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_LINKS || !is_ours_or_roots(&about) {
                    return Err(distrusted(
                        &shown.join(&name),
                        "is a symbolic link of another user's",
                        &about,
                    ));
                }
                let target = rustix::fs::readlinkat(&next, c"", Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    here = rustix::fs::open("/", DIRECTORY, Mode::empty())?;
                    shown = PathBuf::from("/");
                }
                let mut parts = parts(&target);
                parts.append(&mut rest);
                rest = parts;
                continue;
            }
            shown.push(&name);
            check(&about, &shown, rest.is_empty())?;
            // Without symbolic links: it is the one that was looked at.
            here = rustix::fs::openat(&next, c".", DIRECTORY, Mode::empty())
                .map_err(|error| said(&shown, &error.into()))?;
        }
        Ok(Self { directory: here, path })
    }

    /// As it was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file in it to read: a regular one, which only this user or root can have written, and no symbolic link.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        let about = rustix::fs::fstat(&file)?;
        let path = self.path.join(name);
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(distrusted(&path, "is no regular file", &about));
        }
        if !is_ours_or_roots(&about) || about.st_mode & WRITABLE_BY_OTHERS != 0 {
            return Err(distrusted(&path, "can be written by another user", &about));
        }
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
    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (mut file, temporary) = self.temporary(name)?;
        let made = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| {
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

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Only a place in the file system, so that opening it has no consequences.
const ANYTHING: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Whether nobody else can exchange what is in a directory. In the last one nobody else may make anything, either.
fn check(about: &Stat, path: &Path, last: bool) -> io::Result<()> {
    if FileType::from_raw_mode(about.st_mode) != FileType::Directory {
        return Err(distrusted(path, "is no directory", about));
    }
    if !is_ours_or_roots(about) {
        return Err(distrusted(path, "belongs to another user", about));
    }
    let is_open = about.st_mode & WRITABLE_BY_OTHERS != 0;
    if is_open && (last || about.st_mode & STICKY == 0) {
        return Err(distrusted(path, "can be written by other users", about));
    }
    Ok(())
}

fn is_ours_or_roots(about: &Stat) -> bool {
    about.st_uid == 0 || about.st_uid == rustix::process::geteuid().as_raw()
}

fn distrusted(path: &Path, what: &str, about: &Stat) -> io::Error {
    let (uid, mode) = (about.st_uid, about.st_mode & 0o7777);
    let text = format!(
        "{} {what} (uid {uid}, mode {mode:o}); it has to belong to this user or root, and nobody else may write to it",
        path.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn said(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
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
        TrustedDir::make(&path).expect("made").create("file", b"text").expect("written");
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
        directory.create("file", b"text").expect("made");
        assert_eq!(
            directory.create("file", b"new").expect_err("is there").kind(),
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
