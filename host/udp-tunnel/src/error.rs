//! Why there is no tunnel.

use std::io;
use std::net::SocketAddr;

/// Why a tunnel could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No way to make TUN devices.
    #[error(
        "/dev/net/tun cannot be opened ({0}): load the kernel module `tun`, and give the container the device"
    )]
    NoTun(io::Error),
    /// Not allowed.
    #[error("the TUN device {name} cannot be made or attached to without the capability CAP_NET_ADMIN")]
    NotPermitted {
        /// The device asked for.
        name: String,
    },
    /// The name cannot be one.
    #[error(
        "{name:?} cannot be the name of a TUN device: give 1 to 15 bytes without `/` or white space, such as flannel0 or flannel%d"
    )]
    BadName {
        /// The device asked for.
        name: String,
    },
    /// The name is taken by something else.
    #[error(
        "the device {name} exists and is no multi-queue TUN device: remove it (`ip link delete {name}`) or choose another name"
    )]
    OtherDevice {
        /// The device asked for.
        name: String,
    },
    /// Somebody else has it.
    #[error("the TUN device {name} is in use by another process, or has no free queue: stop that process")]
    Busy {
        /// The device asked for.
        name: String,
    },
    /// The kernel refused something about the device.
    #[error("the TUN device {name}: {what} failed: {source}")]
    Device {
        /// The device.
        name: String,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The port is taken.
    #[error("the UDP port {} of {} is in use by another process: stop it (another flanneld?) or configure another Port on all nodes", address.port(), address.ip())]
    PortInUse {
        /// The address to be bound.
        address: SocketAddr,
    },
    /// The address is not ours.
    #[error("{} is not an address of this host, so that UDP packets cannot be sent from it", address.ip())]
    NoSuchAddress {
        /// The address to be bound.
        address: SocketAddr,
    },
    /// The kernel refused something about a socket.
    #[error("the UDP socket {address}: {what} failed: {source}")]
    Socket {
        /// The address to be bound.
        address: SocketAddr,
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nothing to send with.
    #[error("a tunnel needs an IPv4 or an IPv6 address to bind; the spec has neither")]
    NoAddress,
    /// No thread.
    #[error("a thread of the tunnel cannot be started: {0}")]
    Thread(io::Error),
}
