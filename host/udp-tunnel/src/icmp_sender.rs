//! Sends ICMP errors to local senders of packets: pods, and the host itself.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};

/// Raw sockets. Written to the TUN device as upstream does, an answer from the tunnel's own address is dropped by the
/// kernel as a "martian", for it comes from outside with a source of this host (`accept_local` in ip-sysctl.rst). Sent
/// from here it is the host's own packet.
pub(crate) struct IcmpSender {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl IcmpSender {
    /// One in the calling thread's network namespace. Without CAP_NET_RAW it sends nothing.
    pub(crate) fn open() -> Self {
        // Packets are given with their IP header: that is what IPPROTO_RAW says (raw(7)).
        let open = |family| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))
                .inspect_err(|error| tracing::debug!(%error, "ICMP answers go through the TUN device"))
                .ok()
        };
        Self { v4: open(AddressFamily::INET), v6: open(AddressFamily::INET6) }
    }

    /// Sends a whole packet to `to`; whether that was possible.
    pub(crate) fn send(&self, packet: &[u8], to: IpAddr) -> bool {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        // The port of a raw IPv6 socket's address is a protocol, and zero is any (raw(7)).
        let sent = |socket| sendto(socket, packet, SendFlags::empty(), &SocketAddr::new(to, 0)).is_ok();
        socket.as_ref().is_some_and(sent)
    }
}
