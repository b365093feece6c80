//! This machine's root file system, shared with a guest by virtiofsd, which cannot write to it either.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::machine::bound_to_us;

/// Shares it on a socket that is made at this path.
pub fn share(virtiofsd: &Path, socket: &Path) -> Result<Child> {
    let listener: OwnedFd =
        UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))?.into();
    let mut command = Command::new(virtiofsd);
    // Options that the one in C, of Debian 12, and the one in Rust, of newer systems, both understand.
    command.args(["-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always"]);
    command.arg(format!("--fd={}", listener.as_raw_fd()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    bound_to_us(&mut command);
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated. Only the child's own mounts change.
    unsafe {
        command.pre_exec(move || {
            unshare_unsafe(UnshareFlags::NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            read_only()?;
            fcntl_setfd(&listener, FdFlags::empty())?;
            Ok(())
        });
    }
    command.spawn().with_context(|| format!("cannot start {}", virtiofsd.display()))
}

/// Makes all mounts of this process read-only (`mount_setattr(2)`, Linux 5.12). An older kernel leaves it to the guest, which mounts
/// what it is given read-only.
fn read_only() -> io::Result<()> {
    let attributes =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path ends with a zero, and the kernel reads no more than the size says of what the pointer leads to.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    let error = io::Error::last_os_error();
    if outcome == 0 || error.raw_os_error() == Some(libc::ENOSYS) { Ok(()) } else { Err(error) }
}
