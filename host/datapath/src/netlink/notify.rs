//! The socket for the kernel's notifications: who changed what.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_XFRM};
use netlink_sys::{Socket, SocketAddr};
use rtnetlink::MulticastGroup;

use super::NetlinkError;
use super::message::Payload;
use super::socket::{decode, for_each_message, grow_receive_buffer};

/// What is asked for as receive buffer, in bytes: the notifications of some ten thousand entries.
const RECEIVE_BUFFER: usize = 16 << 20;

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// What a look at the socket brought.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// What others changed, in order.
    pub messages: Vec<Payload>,
    /// The kernel had to drop notifications: only a look at everything tells what is there.
    pub lost: bool,
}

/// A socket that never blocks and hears of all changes that the reconciler cares about.
pub(crate) struct NotificationSocket {
    socket: Socket,
}

impl NotificationSocket {
    /// Opens the socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            match socket.add_membership(group as u32) {
                // A kernel before 5.3 has no nexthop objects, and so nothing to say about them.
                Err(_) if group == MulticastGroup::Nexthop => {}
                other => other?,
            }
        }
        socket.set_non_blocking(true)?;
        grow_receive_buffer(&socket, RECEIVE_BUFFER);
        Ok(Self { socket })
    }

    /// Opens one for the groups of IPsec's policies and states.
    pub(crate) fn open_xfrm(groups: &[u32]) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_XFRM)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Takes everything that is there; `true`: something was not caused by the socket with the port `own`.
    pub(crate) fn has_others(&self, own: u32) -> Result<bool, NetlinkError> {
        let (mut buffer, mut others) = (Vec::with_capacity(64 * 1024), false);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(others),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    others = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            for_each_message(&buffer, |header, _| {
                others |= header.port_number != own;
                Ok(())
            })?;
        }
    }

    /// The descriptor, to wait on.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open for as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Takes everything that is there, except for what the socket with the port `own` caused.
    pub(crate) fn drain(&self, own: u32, into: &mut Drained) -> Result<(), NetlinkError> {
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    into.lost = true;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            for_each_message(&buffer, |header, body| {
                if header.port_number != own {
                    into.messages.push(decode(header, body)?);
                }
                Ok(())
            })?;
        }
    }
}
