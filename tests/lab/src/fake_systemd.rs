//! In systemd's place: hears what a daemon says of itself (sd_notify(3)), and keeps descriptors from one process to the next
//! (`FileDescriptorStoreMax=`, sd_listen_fds(3)).

use std::io::{ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::Lab;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;
/// Above all that is passed.
const CLEAR: RawFd = 200;
/// The most that one message brings.
const MOST: usize = 64;

/// How soon it sees that it is no longer wanted.
const PATIENCE: Duration = Duration::from_millis(50);

/// A service manager for a daemon that is started with it, again and again.
#[derive(Clone, Debug)]
pub struct ServiceManager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    socket: UnixDatagram,
    kept: Mutex<Kept>,
    signs_of_life: AtomicU64,
}

type Kept = Vec<(String, OwnedFd)>;

impl ServiceManager {
    /// Makes one.
    pub fn new(lab: &Lab) -> Result<Self> {
        let path = lab.directory().join("notify");
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        socket.set_read_timeout(Some(PATIENCE)).context("a socket with a time limit")?;
        let inner = Inner { path, socket, kept: Mutex::default(), signs_of_life: AtomicU64::new(0) };
        let inner = Arc::new(inner);
        let listener = Arc::downgrade(&inner);
        let listen = move || {
            while let Some(inner) = listener.upgrade() {
                if let Err(error) = inner.hear_one() {
                    eprintln!("the service manager hears no more: {error:#}");
                    return;
                }
            }
        };
        std::thread::Builder::new().name("manager".into()).spawn(listen).context("cannot start a thread")?;
        Ok(Self(inner))
    }

    /// How many descriptors it keeps under a name.
    pub fn kept(&self, name: &str) -> usize {
        self.0.lock().iter().filter(|(its, _)| its == name).count()
    }

    /// How often the daemon has fed the watchdog.
    pub fn signs_of_life(&self) -> u64 {
        self.0.signs_of_life.load(Ordering::Relaxed)
    }

    /// Lets a process hear of the manager, and passes it what is kept. The program has to be started by [`Self::SHELL`].
    pub(crate) fn equip(&self, command: &mut Command) -> Result<()> {
        command.env("NOTIFY_SOCKET", &self.0.path);
        let kept = self.0.lock();
        let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        // Duplicates, out of the way of where they will be passed; they close with the command.
        let duplicate = |(_, descriptor): &(String, OwnedFd)| fcntl_dupfd_cloexec(descriptor, CLEAR);
        let passed = kept.iter().map(duplicate).collect::<Result<Vec<OwnedFd>, _>>();
        let passed = passed.context("cannot duplicate descriptors")?;
        let pass = move || {
            for (to, from) in (FIRST..).zip(&passed) {
                // SAFETY: dup2 takes two numbers; what was open at `to` in this child is nobody's, or a pipe that closes on exec.
                let to = unsafe { libc::dup2(from.as_raw_fd(), to) };
                if to < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // SAFETY: it was opened just now; the new owner is forgotten, so that it stays open.
                let open = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(to) });
                fcntl_setfd(&*open, FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(pass) };
        Ok(())
    }

    /// A script that becomes the program in its arguments. The number of a process is known to nobody before it is there.
    pub(crate) const SHELL: &str = r#"LISTEN_PID=$$ exec "$0" "$@""#;
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the next message, if one comes soon.
    fn hear_one(&self) -> Result<()> {
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let length = match recvmsg(&self.socket, &mut pieces, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => message.bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("cannot hear the daemon"),
        };
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        let message = String::from_utf8_lossy(&bytes[..length]);
        let name = message.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        if message.lines().any(|line| line == "WATCHDOG=1") {
            self.signs_of_life.fetch_add(1, Ordering::Relaxed);
        }
        if message.lines().any(|line| line == "FDSTOREREMOVE=1") {
            self.lock().retain(|(its, _)| its != name);
        } else if message.lines().any(|line| line == "FDSTORE=1") {
            self.lock().extend(descriptors.into_iter().map(|descriptor| (name.to_owned(), descriptor)));
        }
        Ok(())
    }
}
