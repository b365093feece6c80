//! Reading files that only this user and root can have written, or exchanged: those by which somebody is given a right.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use super::trusted_path::is_trusted_user;
use super::trusted_path::{check_file, check_regular, follow};

/// Opens such a file to read: a regular one. Symbolic links on the way are followed, if nobody else could have made them there. The error says
/// which part of the path cannot be trusted, and what would be right.
pub fn open(path: &Path) -> io::Result<File> {
    let end = follow(path, None).map_err(|error| match error.kind() {
        // Whoever asked says which file it is.
        io::ErrorKind::NotFound => Errno::NOENT.into(),
        _ => error,
    })?;
    // To open a device may do something: it is looked at before.
    check_regular(&rustix::fs::statat(&end.directory, &end.name, AtFlags::SYMLINK_NOFOLLOW)?)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&end.directory, &end.name, flags, Mode::empty())?;
    check_file(&file, &rustix::fs::fstat(&file)?, &end.path)?;
    Ok(file.into())
}

/// Reads what there is of such a file, up to `max` bytes.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why a file that was opened by this path may be another's next time: who else can exchange it, and what would be right.
pub fn doubt(path: &Path, opened: &File) -> Option<String> {
    let same = || {
        let (now, then) = (open(path)?, rustix::fs::fstat(opened.as_fd())?);
        let now = rustix::fs::fstat(&now)?;
        io::Result::Ok((now.st_dev, now.st_ino) == (then.st_dev, then.st_ino))
    };
    match same() {
        Ok(true) => None,
        Ok(false) => Some(format!("{} was exchanged meanwhile", path.display())),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }

    /// A directory with a file of its owner's.
    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("directory");
        std::fs::create_dir(place.path().join("in")).expect("directory");
        mode(&place.path().join("in"), 0o755);
        std::fs::write(place.path().join("in/file"), "text").expect("written");
        mode(&place.path().join("in/file"), 0o644);
        place
    }

    fn refused(path: &Path) -> String {
        let error = read(path, 10).expect_err("refused").to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[test]
    fn a_file_is_read_that_nobody_else_can_have_written() {
        let place = place();
        let file = place.path().join("in/file");
        assert_eq!(read(&file, 3).expect("read"), b"tex");
        assert_eq!(
            read(&place.path().join("no/file"), 3).expect_err("nothing").kind(),
            io::ErrorKind::NotFound
        );
        for (path, wrong, right) in [(file.clone(), 0o664, 0o644), (place.path().join("in"), 0o777, 0o755)] {
            mode(&path, wrong);
            let error = refused(&file);
            let remedy = format!("mode {wrong:o}): `chmod go-w {}`", path.display());
            assert!(error.ends_with(&remedy) && error.contains("can be written by"), "{error}");
            mode(&path, right);
            read(&file, 3).expect("read");
        }
    }

    #[test]
    fn in_a_directory_like_tmp_a_file_of_ones_own_is_read_and_anothers_is_not() {
        let place = place();
        let file = place.path().join("in/file");
        mode(&place.path().join("in"), 0o1777);
        read(&file, 3).expect("nobody else can exchange it");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        symlink("file", place.path().join("in/link")).expect("link");
        rustix::fs::chownat(
            rustix::fs::CWD,
            place.path().join("in/link"),
            Some(rustix::fs::Uid::from_raw(4321)),
            None,
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .expect("chown");
        assert!(
            refused(&place.path().join("in/link"))
                .contains("link is a symbolic link of another user's (uid 4321")
        );
        chown(&file, Some(4321), None).expect("chown");
        assert!(refused(&file).ends_with(&format!(
            "file belongs to another user (uid 4321, mode 644): `chown root {}`",
            file.display()
        )));
        chown(&file, Some(0), None).expect("chown");
        chown(place.path().join("in"), Some(4321), None).expect("chown");
        assert!(refused(&file).contains("in belongs to another user"));
    }

    #[test]
    fn a_volume_of_kubernetes_is_read_with_its_links() {
        let volume = tempfile::tempdir().expect("directory");
        std::fs::create_dir(volume.path().join("..2024_01")).expect("directory");
        mode(&volume.path().join("..2024_01"), 0o755);
        std::fs::write(volume.path().join("..2024_01/file"), "text").expect("written");
        mode(&volume.path().join("..2024_01/file"), 0o644);
        symlink("..2024_01", volume.path().join("..data")).expect("link");
        symlink("..data/file", volume.path().join("file")).expect("link");
        assert_eq!(read(&volume.path().join("file"), 10).expect("read"), b"text");
        mode(&volume.path().join("..2024_01"), 0o775);
        assert!(refused(&volume.path().join("file")).contains("..2024_01 can be written by other users"));
    }

    /// As a `ConfigMap` is mounted: mode 777, and nobody can write.
    #[test]
    fn what_is_mounted_read_only_has_nobody_who_writes_to_it() {
        let place = place();
        let directory = place.path().join("in");
        mode(&directory, 0o777);
        let mounted = || {
            let mount = |arguments: &[&str]| {
                let mut mount = std::process::Command::new("mount");
                mount.args(arguments).arg(&directory).status().is_ok_and(|status| status.success())
            };
            // SAFETY: no descriptor is shared less than before.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.is_ok()
                && std::process::Command::new("mount")
                    .args(["--make-rprivate", "/"])
                    .status()
                    .is_ok_and(|s| s.success())
                && mount(&["--bind", &directory.display().to_string()])
                && mount(&["-o", "remount,bind,ro"])
        };
        // In a thread of its own, so that no other test sees the mount.
        let read_there = || mounted().then(|| read(&directory.join("file"), 10));
        let read = std::thread::scope(|scope| scope.spawn(read_there).join().expect("no panic"));
        match read {
            Some(read) => assert_eq!(read.expect("read"), b"text"),
            None => flannel_test_support::skip("nothing can be mounted here"),
        }
        assert!(refused(&directory.join("file")).contains("in can be written by other users"));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let place = place();
        let pipe = place.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        for other in [&pipe, place.path(), Path::new("/dev/zero"), Path::new("/")] {
            assert_eq!(refused(other), "it is no regular file", "{}", other.display());
        }
    }

    #[test]
    fn a_file_that_others_can_exchange_is_doubted() {
        let place = place();
        let path = place.path().join("in/file");
        let opened = File::open(&path).expect("opened");
        assert_eq!(doubt(&path, &opened), None);
        mode(&place.path().join("in"), 0o775);
        assert!(doubt(&path, &opened).expect("a doubt").contains("in can be written by other users"));
        mode(&place.path().join("in"), 0o755);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "other").expect("written");
        assert!(doubt(&path, &opened).expect("a doubt").ends_with("was exchanged meanwhile"));
    }
}
