//! Notifications to the service manager: the protocol of `sd_notify`, which is one datagram each.

use std::env;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

/// The service manager that started us, if one did. Failing to reach it is no reason to do anything else but go on.
#[derive(Debug)]
pub struct Systemd {
    manager: Option<(UnixDatagram, SocketAddrUnix)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment of this process says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET");
        let (period, pid) = (env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok());
        Self::new(socket.as_deref(), period.as_deref(), pid.as_deref(), std::process::id())
    }

    fn new(socket: Option<&OsStr>, period: Option<&str>, pid: Option<&str>, own_pid: u32) -> Self {
        let manager = socket.filter(|name| !name.is_empty()).and_then(|name| {
            open(name).inspect_err(|error| debug!(socket = ?name, %error, "cannot notify systemd")).ok()
        });
        let ours = pid.is_none_or(|pid| pid.parse() == Ok(own_pid));
        let period = period.filter(|_| ours && manager.is_some()).and_then(|period| period.parse().ok());
        let watchdog = period.filter(|micros| *micros > 0).map(|micros| Duration::from_micros(micros) / 2);
        Self { manager, watchdog }
    }

    #[cfg(test)]
    pub(super) fn at(socket: Option<&OsStr>) -> Self {
        Self::new(socket, None, None, std::process::id())
    }

    /// Whether a service manager has started us.
    pub fn is_there(&self) -> bool {
        self.manager.is_some()
    }

    /// The daemon is in operation. Also ends what [`Systemd::reloading`] began.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    /// How often [`Systemd::watchdog`] is to be called: twice in the time after which the manager takes us for dead.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The daemon is alive.
    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        self.send_with(message, &[]);
    }

    /// Sends a message with duplicates of some descriptors: 64 at most.
    pub(super) fn send_with(&self, message: &str, descriptors: &[BorrowedFd<'_>]) {
        let Some((socket, address)) = &self.manager else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            debug!(message, count = descriptors.len(), "too many descriptors for systemd");
            return;
        }
        let pieces = [IoSlice::new(message.as_bytes())];
        if let Err(error) = sendmsg_addr(socket, address, &pieces, &mut ancillary, SendFlags::NOSIGNAL) {
            debug!(%error, message, "cannot notify systemd");
        }
    }
}

/// A path, or with `@` in front a name in the abstract namespace.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddrUnix)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddrUnix::new_abstract_name(rest)?,
        [b'/', ..] => SocketAddrUnix::new(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not stop us.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..length].to_vec()).expect("text")
    }

    fn says_all(socket: &UnixDatagram, name: &OsStr) {
        let systemd = Systemd::new(Some(name), None, None, 1);
        systemd.ready();
        assert_eq!(heard(socket), "READY=1");
        systemd.status("3 peers\nREADY=0");
        assert_eq!(heard(socket), "STATUS=3 peers READY=0", "one line, whatever is in it");
        systemd.reloading();
        let reloading = heard(socket);
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("with the time");
        assert!(micros.parse::<u64>().expect("a number") > 0);
        systemd.watchdog();
        assert_eq!(heard(socket), "WATCHDOG=1");
        systemd.stopping();
        assert_eq!(heard(socket), "STOPPING=1");
    }

    #[test]
    fn a_socket_with_a_path() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notify");
        says_all(&UnixDatagram::bind(&path).expect("socket"), path.as_os_str());
    }

    #[test]
    fn a_socket_in_the_abstract_namespace() {
        let name = format!("flanneld-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("name");
        let socket = UnixDatagram::bind_addr(&address).expect("socket");
        says_all(&socket, OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn nobody_there_is_no_error() {
        for name in [None, Some(""), Some("/nowhere/notify"), Some("vsock:2:1234"), Some("@nobody-there")] {
            let systemd = Systemd::new(name.map(OsStr::new), None, None, 1);
            systemd.ready();
            assert_eq!(systemd.watchdog_interval(), None);
        }
    }

    #[test]
    fn a_manager_that_does_not_read_stops_nobody() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("notify");
        let _socket = UnixDatagram::bind(&path).expect("socket");
        let systemd = Systemd::new(Some(path.as_os_str()), None, None, 1);
        for _ in 0..10_000 {
            systemd.watchdog();
        }
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_if_it_is_ours() {
        let interval =
            |period, pid| Systemd::new(Some(OsStr::new("@flanneld")), period, pid, 712).watchdog_interval();
        assert_eq!(interval(Some("30000000"), Some("712")), Some(Duration::from_secs(15)));
        assert_eq!(interval(Some("30000000"), None), Some(Duration::from_secs(15)));
        assert_eq!(interval(Some("30000000"), Some("1")), None, "somebody else's");
        for nonsense in [None, Some("0"), Some("soon"), Some("-1")] {
            assert_eq!(interval(nonsense, Some("712")), None);
        }
    }
}
