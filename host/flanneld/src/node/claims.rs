//! What only one daemon of a host can have: a cluster network, a device, the plain names in the firewall. Several daemons may run on a host, each
//! for a network of its own; that two have the same would go unnoticed for long.
//!
//! A claim is an abstract Unix socket, of which each network namespace has names of its own, and which goes with its process, however that
//! ends. Anybody may make such a socket, so that one of somebody else's than root's or our own user's counts for nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tracing::warn;

/// How often a claim that another process has is tried again: one that is being replaced may take a moment to end.
const ATTEMPTS: u32 = 20;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);
/// Before the name of each claim.
const PREFIX: &str = "flanneld/";

/// Somebody else has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another flanneld{} on this host has {what}", holder.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
pub struct Taken {
    /// What it is, as in "network 10.5.0.0/16".
    what: String,
    /// The other process, as far as it can be seen from here.
    holder: Option<i32>,
}

/// The claims of this daemon; they end with it.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<HashMap<String, UnixListener>>);

impl Claims {
    /// Takes a cluster network, which must not overlap another daemon's. Waits a moment for one that is ending.
    pub(crate) fn network(&self, network: IpNet) -> Result<(), Taken> {
        let what = format!("network {network}");
        patiently(|| {
            self.take(&format!("network/{network}"), &what)?;
            let overlaps = |name: &str| {
                let other: Option<IpNet> = name.strip_prefix("network/").and_then(|name| name.parse().ok());
                let other = other.filter(|other| *other != network)?;
                (other.contains(&network) || network.contains(&other)).then_some(other)
            };
            for other in names().iter().filter_map(|name| overlaps(name)) {
                let name = format!("network/{other}");
                if !self.has(&name)
                    && let Holder::Daemon(holder) = holder(&name)
                {
                    self.release(&format!("network/{network}"));
                    return Err(Taken { what: format!("network {other}, which overlaps {network}"), holder });
                }
            }
            Ok(())
        })
    }

    /// Takes a directory, or something in it. It is known by its number: in containers different ones may have one name.
    pub(crate) fn place(&self, what: &str, directory: &Path, name: Option<&OsStr>) -> Result<(), Taken> {
        // Made later where that fails now, and then its name has to do.
        let _ = std::fs::create_dir_all(directory);
        let number = std::fs::metadata(directory).map(|found| format!("{}:{}", found.dev(), found.ino()));
        let number = number.unwrap_or_else(|_| directory.display().to_string());
        let name = name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let shown = format!("{what} {}", directory.join(&name).display());
        patiently(|| self.take(&format!("place/{number}/{name}"), &shown))
    }

    /// Takes a device, at once or not at all.
    pub(crate) fn device(&self, name: &str) -> Result<(), Taken> {
        self.take(&format!("device/{name}"), &format!("device {name}"))
    }

    /// Takes the firewall's plain names, if nobody has them.
    pub(crate) fn plain_firewall_names(&self) -> bool {
        self.take("firewall", "the firewall's plain names").is_ok()
    }

    fn has(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    fn release(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn take(&self, name: &str, what: &str) -> Result<(), Taken> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.contains_key(name) {
            return Ok(());
        }
        match address(name).and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(listener) => drop(claims.insert(name.to_owned(), listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if let Holder::Daemon(holder) = holder(name) {
                    return Err(Taken { what: what.to_owned(), holder });
                }
            }
            // No reason to be without a network.
            Err(error) => {
                warn!(%error, "{what} cannot be claimed: that another daemon has it would not be noticed");
            }
        }
        Ok(())
    }
}

fn address(name: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{PREFIX}{name}"))
}

fn patiently(mut take: impl FnMut() -> Result<(), Taken>) -> Result<(), Taken> {
    for _ in 1..ATTEMPTS {
        if take().is_ok() {
            return Ok(());
        }
        std::thread::sleep(BETWEEN_ATTEMPTS);
    }
    take()
}

/// Who has a claim.
enum Holder {
    /// Nobody whose claim would count.
    Nobody,
    /// A daemon, whose process may be out of sight from here.
    Daemon(Option<i32>),
}

fn holder(name: &str) -> Holder {
    let connected = address(name).and_then(|address| UnixStream::connect_addr(&address));
    let Some(peer) = connected.ok().and_then(|stream| credentials(&stream)) else {
        return Holder::Nobody;
    };
    if peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw() {
        // One of another container has no number here.
        Holder::Daemon(Some(peer.pid).filter(|pid| *pid > 0))
    } else {
        warn!(
            name,
            uid = peer.uid,
            "a user who is not root has made a socket with a name of flanneld's: it is passed over"
        );
        Holder::Nobody
    }
}

/// Who is at the other end. By hand: rustix takes a process for one that has a number, which one of another container has not.
fn credentials(stream: &UnixStream) -> Option<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the descriptor is open for as long as the stream is borrowed, and the kernel writes at most `length` bytes to `peer`, all of
    // whose bytes may be any.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    (outcome == 0).then_some(peer)
}

/// The names of all claims in this network namespace.
fn names() -> Vec<String> {
    let listed = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let name = |line: &str| {
        let (_, name) = line.split_once(&format!("@{PREFIX}"))?;
        Some(name.to_owned())
    };
    listed.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("prefix")
    }

    /// Whether the others' claim refuses this.
    fn refused(mine: &Claims, network: &str) -> bool {
        mine.network(net(network)).is_err()
    }

    #[test]
    fn a_network_is_one_daemons_until_it_ends_and_overlapping_ones_are_refused() {
        let (one, other) = (Claims::default(), Claims::default());
        one.network(net("203.0.112.0/22")).expect("the first");
        one.network(net("203.0.112.0/22")).expect("once more");
        let taken = other.network(net("203.0.112.0/22")).expect_err("taken").to_string();
        assert!(taken.contains(&format!("(process {})", std::process::id())), "{taken}");
        assert!(taken.contains("network 203.0.112.0/22"), "{taken}");
        assert!(refused(&other, "203.0.112.0/20") && refused(&other, "203.0.113.0/24"));
        assert!(!refused(&other, "203.0.120.0/22") && !refused(&other, "2001:db8:77::/48"));
        drop(one);
        assert!(!refused(&other, "203.0.112.0/22"));
    }

    #[test]
    fn a_device_is_one_daemons() {
        let (one, other) = (Claims::default(), Claims::default());
        one.device("flannel.99").expect("the first");
        one.device("flannel.99").expect("its own");
        assert!(other.device("flannel.99").is_err());
        other.device("flannel.98").expect("another");
    }

    #[test]
    fn a_directory_is_one_daemons_whatever_it_is_called() {
        let directory = tempfile::tempdir().expect("directory");
        let (one, other) = (Claims::default(), Claims::default());
        let state = directory.path().join("state");
        one.place("state directory", &state, None).expect("the first");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&state, &link).expect("link");
        let taken = other.place("state directory", &link, None).expect_err("taken").to_string();
        assert!(taken.contains(&link.display().to_string()), "{taken}");
        other.place("subnet file", &state, Some(OsStr::new("subnet.env"))).expect("a file in it");
    }
}
