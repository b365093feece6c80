//! Hearing at once of changes to our rules: the kernel tells of everything that goes through nf_tables. That includes the
//! `iptables` of today's distributions; `iptables-legacy` changes things in silence.

use std::io;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// `NFNLGRP_NFTABLES` in the kernel's `linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 7;
/// More than one notification has.
const BUFFER: usize = 64 * 1024;
/// One of them is in each notification about our tables, our chains, and the jumps to them.
const NAMES: [&[u8]; 2] = [b"flannel-ipv", b"FLANNEL-"];

/// A socket that hears of changes.
pub(super) struct Watch {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Watch {
    /// Opens it in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(GROUP)?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Waits until something of ours may have changed. Nothing is lost when the wait is given up.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) if concerns_us(&self.buffer) => return Ok(()),
                Ok(()) => {}
                // Notifications were dropped; ours may have been among them.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what is there, so that what comes after this is news.
    pub(crate) fn drain(&mut self) {
        loop {
            self.buffer.clear();
            match self.socket.socket_ref().recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

fn concerns_us(notification: &[u8]) -> bool {
    NAMES.iter().any(|name| notification.windows(name.len()).any(|part| part == *name))
}
