//! systemd's file descriptor store (sd_notify(3), `FileDescriptorStoreMax=`): descriptors that somebody else holds while there is no
//! process of ours, and gives to the next one as sd_listen_fds(3) has it.

use std::env;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use tracing::debug;

use super::Systemd;

/// The first descriptor that systemd passes (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// The store, and what it gave to this process.
pub struct FdStore {
    systemd: Arc<Systemd>,
    given: Mutex<Vec<(String, OwnedFd)>>,
}

impl FdStore {
    /// The store of the service manager that started us; none if none did. Takes the descriptors that were passed to this
    /// process, which is possible once.
    pub fn from_env(systemd: Arc<Systemd>) -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if !systemd.is_there() {
            return None;
        }
        let given = if TAKEN.swap(true, Ordering::Relaxed) { Vec::new() } else { given() };
        Some(Self { systemd, given: Mutex::new(given) })
    }

    /// What was passed to this process under a name.
    pub fn take(&self, name: &str) -> Vec<OwnedFd> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.extract_if(.., |(its, _)| its == name).map(|(_, descriptor)| descriptor).collect()
    }

    /// Has duplicates kept. Several under one name are told apart by nobody.
    pub fn keep(&self, name: &str, descriptors: &[BorrowedFd<'_>]) {
        // Otherwise the manager lets go of a socket as soon as it has an error to tell, such as "port unreachable".
        self.systemd.send_with(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), descriptors);
    }

    /// Has what is kept under a name closed, in this process too if nobody has taken it.
    pub fn forget(&self, name: &str) {
        self.take(name);
        self.systemd.send_with(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[]);
    }
}

fn given() -> Vec<(String, OwnedFd)> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut found = Vec::new();
    for descriptor in (FIRST..).take(number("LISTEN_FDS").unwrap_or(0) as usize) {
        let name = names.next().unwrap_or_default().to_owned();
        match take(descriptor) {
            Ok(descriptor) => found.push((name, descriptor)),
            Err(error) => {
                debug!(descriptor, name, %error, "LISTEN_FDS counts a descriptor that is not there");
            }
        }
    }
    found
}

fn take(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed to ask whether it is open, which an unused number answers with EBADF.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(descriptor) })?;
    // SAFETY: it is open, and the environment says that it was passed to this process for whoever asks; nobody asks twice.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl_setfd(&descriptor, flags | FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read, Write};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    /// A message, and the descriptors that came with it.
    fn heard(manager: &UnixDatagram) -> (String, Vec<OwnedFd>) {
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let pieces = &mut [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(manager, pieces, &mut ancillary, RecvFlags::empty()).expect("a message").bytes;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        (String::from_utf8(bytes[..length].to_vec()).expect("text"), descriptors)
    }

    #[test]
    fn the_manager_holds_what_is_kept_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("socket");
        let systemd = Arc::new(Systemd::at(Some(path.as_os_str())));
        let store = FdStore { systemd, given: Mutex::default() };

        let (one, mut other) = UnixStream::pair().expect("pair");
        store.keep("tunnel", &[one.as_fd(), one.as_fd()]);
        drop(one);
        let (message, descriptors) = heard(&manager);
        assert_eq!((message.as_str(), descriptors.len()), ("FDSTORE=1\nFDPOLL=0\nFDNAME=tunnel", 2));
        let mut kept = UnixStream::from(descriptors.into_iter().next().expect("one"));
        kept.write_all(b"!").expect("still open");
        other.read_exact(&mut [0]).expect("heard");

        store.forget("tunnel");
        let (message, descriptors) = heard(&manager);
        assert_eq!((message.as_str(), descriptors.len()), ("FDSTOREREMOVE=1\nFDNAME=tunnel", 0));
    }

    #[test]
    fn what_was_passed_is_given_by_name_and_once() {
        let systemd = Arc::new(Systemd::at(None));
        let (one, other) = UnixStream::pair().expect("pair");
        let given = vec![("tunnel".to_owned(), one.into()), ("else".to_owned(), other.into())];
        let store = FdStore { systemd, given: Mutex::new(given) };
        assert_eq!((store.take("tunnel").len(), store.take("tunnel").len()), (1, 0));
        assert_eq!(store.take("else").len(), 1);
    }
}
