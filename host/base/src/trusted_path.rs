//! Following a path to where it leads, with a look at each part: whether somebody else could have it lead elsewhere.
//!
//! Each directory is opened from the one above, so that what was looked at is what is used. Symbolic links count for what they are in:
//! those of a volume of Kubernetes' (`grants.toml -> ..data/grants.toml`) lead on.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

/// Symbolic links on the way, as the kernel has it (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;
/// What group and others must not have: the right to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// A directory where everybody may make files, and nobody may rename or remove those of others.
const STICKY: u32 = 0o1000;
/// Whose everything is that belongs to nobody of this user namespace (`/proc/sys/kernel/overflowuid`, unless somebody has changed it).
const UNMAPPED: u32 = 65_534;

pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Only a place in the file system, so that opening it has no consequences.
const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Where a path leads: all above is trusted, and what is there is for the caller to judge, when it has opened it.
pub(crate) struct End {
    pub(crate) directory: OwnedFd,
    /// In the directory, and no symbolic link.
    pub(crate) name: OsString,
    /// Both, for people.
    pub(crate) path: PathBuf,
}

/// Follows a path to its end, which is there. `make`: the mode of directories that are made where they are missing. An error says which part
/// cannot be trusted, and what would be right.
pub(crate) fn follow(path: &Path, make: Option<u32>) -> io::Result<End> {
    let mut rest = parts(&std::path::absolute(path)?);
    let root = || rustix::fs::openat(CWD, "/", PLACE, Mode::empty());
    let mut end = End { directory: root()?, name: ".".into(), path: "/".into() };
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let about = rustix::fs::fstat(&end.directory)?;
        check_directory(&end.directory, &about, &end.path, true)?;
        let path = end.path.join(&name);
        let place = open(&end.directory, &name, make).map_err(|error| said(&path, &error.into()))?;
        let about = rustix::fs::fstat(&place)?;
        if FileType::from_raw_mode(about.st_mode) == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(said(&path, &Errno::LOOP.into()));
            }
            if !is_ours_or_roots(&about) {
                return Err(distrusted(
                    &path,
                    "is a symbolic link of another user's",
                    &about,
                    "chown -h root",
                ));
            }
            let target = rustix::fs::readlinkat(&place, c"", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                end = End { directory: root()?, name: ".".into(), path: "/".into() };
            }
            let mut parts = parts(&target);
            parts.append(&mut rest);
            rest = parts;
            continue;
        }
        if rest.is_empty() {
            return Ok(End { name, path, ..end });
        }
        end = End { directory: place, name: ".".into(), path };
    }
    Ok(end)
}

fn open(directory: &OwnedFd, name: &OsStr, make: Option<u32>) -> rustix::io::Result<OwnedFd> {
    let open = || rustix::fs::openat(directory, name, PLACE, Mode::empty());
    match (open(), make) {
        (Err(Errno::NOENT), Some(mode)) => {
            let mode = Mode::from_raw_mode(mode);
            match rustix::fs::mkdirat(directory, name, mode) {
                // Whatever the umask.
                Ok(()) => rustix::fs::chmodat(directory, name, mode, AtFlags::empty())?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            open()
        }
        (opened, _) => opened,
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::from_bytes(b"..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}

/// Whether nobody else can exchange what is in a directory. `shared`: others may make files of their own in it, as in `/tmp`.
pub(crate) fn check_directory(fd: impl AsFd, about: &Stat, path: &Path, shared: bool) -> io::Result<()> {
    if FileType::from_raw_mode(about.st_mode) != FileType::Directory {
        return Err(said(path, &Errno::NOTDIR.into()));
    }
    if !is_ours_or_roots(about) {
        return Err(distrusted(path, "belongs to another user", about, "chown root"));
    }
    if is_open(fd, about) && !(shared && about.st_mode & STICKY != 0) {
        return Err(distrusted(path, "can be written by other users", about, "chmod go-w"));
    }
    Ok(())
}

/// Whether something is a regular file.
pub(crate) fn check_regular(about: &Stat) -> io::Result<()> {
    match FileType::from_raw_mode(about.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
    }
}

/// Whether something is a regular file that nobody else can have written.
pub(crate) fn check_file(fd: impl AsFd, about: &Stat, path: &Path) -> io::Result<()> {
    check_regular(about).map_err(|error| said(path, &error))?;
    if !is_ours_or_roots(about) {
        return Err(distrusted(path, "belongs to another user", about, "chown root"));
    }
    if is_open(fd, about) {
        return Err(distrusted(path, "can be written by another user", about, "chmod go-w"));
    }
    Ok(())
}

/// Whether its mode lets others write. Where nobody can write, it lets nobody: volumes of Kubernetes' have mode 777, and are mounted
/// read-only.
fn is_open(fd: impl AsFd, about: &Stat) -> bool {
    about.st_mode & WRITABLE_BY_OTHERS != 0
        && !rustix::fs::fstatvfs(fd).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Whether something belongs to this user or root.
pub(crate) fn is_ours_or_roots(about: &Stat) -> bool {
    is_trusted_user(about.st_uid)
}

/// Whether a user is this one or root. Where `/` itself belongs to nobody of this user namespace, what is the real root's cannot be told
/// apart from what else is not mapped.
pub fn is_trusted_user(uid: u32) -> bool {
    let root_is_unmapped = || rustix::fs::stat("/").is_ok_and(|root| root.st_uid == UNMAPPED);
    uid == 0 || uid == rustix::process::geteuid().as_raw() || uid == UNMAPPED && root_is_unmapped()
}

fn distrusted(path: &Path, what: &str, about: &Stat, remedy: &str) -> io::Error {
    let (path, uid, mode) = (path.display(), about.st_uid, about.st_mode & 0o7777);
    let text = format!("{path} {what} (uid {uid}, mode {mode:o}): `{remedy} {path}`");
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn said(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
