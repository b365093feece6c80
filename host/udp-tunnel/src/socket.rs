//! The UDP sockets: opened, told what may pass, and asked about errors.

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use flannel_model::offloads::Offloads;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::counters::Counters;
use super::endpoint::address_of;
use super::error::TunnelError;
use super::peer_table::PeerTable;

/// Bytes of the socket buffers: some milliseconds of traffic at 10 Gbit/s, so that a thread may be scheduled away.
const BUFFER: usize = 8 << 20;
/// How long the kernel may hold up a send whose buffer is full. Waiting pushes back on senders, as a full device queue
/// does; without a limit a link that is stuck would stick the thread.
const RECEIVE_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(50);
/// How often, and after which time, a port in use is tried again.
const GRACE_TRIES: usize = 10;
const GRACE: std::time::Duration = std::time::Duration::from_millis(20);
/// Reports read from the error queue at once: the rest waits for the next round.
const REPORTS: usize = 64;

/// A socket of each family that the tunnel uses.
pub(crate) struct Sockets {
    /// IPv4.
    pub v4: Option<OwnedFd>,
    /// IPv6.
    pub v6: Option<OwnedFd>,
}

impl Sockets {
    /// The socket of a family.
    pub(crate) fn of(&self, v4: bool) -> Option<BorrowedFd<'_>> {
        if v4 { self.v4.as_ref().map(AsFd::as_fd) } else { self.v6.as_ref().map(AsFd::as_fd) }
    }
}

/// Opens `count` sockets that share one address and port. The kernel spreads senders over them, so that one peer's
/// datagrams stay in order. What the kernel lacks is cleared in `offloads`. Sockets in `inherited` are bound already.
pub(crate) fn open(
    address: SocketAddr,
    count: usize,
    inherited: Vec<OwnedFd>,
    offloads: &mut Offloads,
) -> Result<Vec<OwnedFd>, TunnelError> {
    let failed = |what| move |source: io::Error| TunnelError::Socket { address, what, source };
    for socket in &inherited {
        set_up(socket, address.is_ipv4(), offloads).map_err(failed("to set it up"))?;
    }
    let mut sockets = inherited;
    for number in sockets.len()..count {
        let socket = new_socket(address, offloads).map_err(failed("to set it up"))?;
        // The first binds alone: sharing the port with a stranger would lose packets to it. Once bound it lets the
        // others in, which the kernel allows to processes of the same user that ask likewise.
        if number > 0 {
            share(&socket).map_err(failed("to share its port"))?;
        }
        bind(&socket, address).map_err(|error| match error {
            rustix::io::Errno::ADDRINUSE => TunnelError::PortInUse { address },
            rustix::io::Errno::ADDRNOTAVAIL => TunnelError::NoSuchAddress { address },
            error => failed("to bind it")(error.into()),
        })?;
        if number == 0 && count > 1 {
            share(&socket).map_err(failed("to share its port"))?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// A port that was closed a moment ago may still be held by a child of ours between fork and exec, or by a process that
/// is just ending: it gets a little time.
fn bind(socket: &OwnedFd, address: SocketAddr) -> rustix::io::Result<()> {
    for _ in 0..GRACE_TRIES {
        match rustix::net::bind(socket, &address) {
            Err(rustix::io::Errno::ADDRINUSE) => std::thread::sleep(GRACE),
            outcome => return outcome,
        }
    }
    rustix::net::bind(socket, &address)
}

fn share(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseport(socket, true)?)
}

fn new_socket(address: SocketAddr, offloads: &mut Offloads) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    set_up(&socket, address.is_ipv4(), offloads)?;
    Ok(socket)
}

fn set_up(socket: &OwnedFd, v4: bool, offloads: &mut Offloads) -> io::Result<()> {
    // "Force" passes the limit of net.core.rmem_max and needs CAP_NET_ADMIN, which making the device needed too.
    if sockopt::set_socket_recv_buffer_size_force(socket, BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(socket, BUFFER).is_err() {
        sockopt::set_socket_send_buffer_size(socket, BUFFER)?;
    }
    sockopt::set_socket_timeout(socket, sockopt::Timeout::Send, Some(RECEIVE_TIMEOUT))?;
    // Datagrams are never fragmented: a packet too large is refused with EMSGSIZE, and the error queue tells the path
    // MTU, and whom a report of ICMP is about, which this one socket for all peers could not know otherwise.
    if v4 {
        set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
        set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
    } else {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
    }
    // Zero: no segmentation unless a message asks for it. Kernels before 4.18 do not know the option.
    offloads.gso = offloads.gso && set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
    // Where it is not wanted, an inherited socket that has it keeps it for now: see `stop_coalescing`.
    offloads.gro = offloads.gro && set(socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    Ok(())
}

/// Turns `UDP_GRO` off in a socket that an earlier process may have turned it on in, unless datagrams wait that the kernel may have
/// merged already: without the option it would not say how long each of them is. True: it is off.
pub(crate) fn stop_coalescing(socket: BorrowedFd<'_>) -> bool {
    // A kernel that does not know the option has merged nothing.
    if set(socket, libc::SOL_UDP, libc::UDP_GRO, 0).is_err() {
        return true;
    }
    // Whatever comes from now on is not merged; what came between the last look and this moment may be.
    let mut waits = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut waits, Some(&now)) == Ok(0) || set(socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_err()
}

fn set(socket: impl AsFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = super::bytes::low32(size_of::<c_int>());
    let pointer = (&raw const value).cast();
    // SAFETY: the options used here read one int, which lives for the call.
    let outcome = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, pointer, length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads the error queue: path MTUs are remembered, other errors counted.
pub(crate) fn read_errors(socket: BorrowedFd<'_>, roster: &PeerTable, tallies: &Counters) {
    for _ in 0..REPORTS {
        // SAFETY: all zeroes is a valid value of these structures of the kernel.
        let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { std::mem::zeroed() };
        let mut control = [0u64; 64];
        let mut payload = [0u8; 64];
        let mut piece = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = super::bytes::low32(size_of_val(&name));
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: all pointers in `header` are to live memory of the lengths given.
        if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } < 0 {
            return;
        }
        let Some(report) = report_in(&header) else { continue };
        tallies.errors.fetch_add(1, Relaxed);
        // The name is the address that the failed datagram was sent to.
        let Some(endpoint) = address_of(&name).and_then(|address| roster.endpoint(address)) else {
            continue;
        };
        if i32::try_from(report.ee_errno) == Ok(libc::EMSGSIZE) {
            endpoint.learn(report.ee_info);
        } else {
            endpoint.errors.fetch_add(1, Relaxed);
        }
    }
}

fn report_in(header: &libc::msghdr) -> Option<libc::sock_extended_err> {
    // SAFETY: recvmsg has filled in `header`, whose control buffer is live and aligned for a cmsghdr.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR yield pointers to whole headers inside the buffer, or null.
        let (level, kind) = unsafe { ((*at).cmsg_level, (*at).cmsg_type) };
        if matches!(
            (level, kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        ) {
            // SAFETY: the data of this message is a sock_extended_err (ip(7)); it need not be aligned.
            return Some(unsafe { libc::CMSG_DATA(at).cast::<libc::sock_extended_err>().read_unaligned() });
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}
