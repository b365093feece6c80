//! Sockets for ESP in UDP (RFC 3948): whatever comes to their port is the kernel's, which takes ESP out of it. Without a socket it would not
//! listen. Nothing is ever read from them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use flannel_model::ipsec::Ipsec;

/// `UDP_ENCAP` of `linux/udp.h`.
const UDP_ENCAP: libc::c_int = 100;
/// `UDP_ENCAP_ESPINUDP`.
const ESP_IN_UDP: libc::c_int = 2;

/// The sockets of a device.
pub(super) struct Encapsulation {
    sockets: Vec<UdpSocket>,
}

impl Encapsulation {
    /// Opens them: one for each address that tunnels begin at. The error says what is in the way.
    pub(super) fn open(device: &Ipsec, port: u16) -> Result<Self, String> {
        let addresses = device.ipv4.map(IpAddr::V4).into_iter().chain(device.ipv6.map(IpAddr::V6));
        let sockets =
            addresses.map(|address| listen(SocketAddr::new(address, port))).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// Their descriptors, for whoever keeps them while this process is away.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.as_fd()).collect()
    }
}

fn listen(address: SocketAddr) -> Result<UdpSocket, String> {
    let socket = UdpSocket::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "another program has UDP port {} of {}: an IKE daemon, as a rule; stop it, or leave UDPEncap out",
            address.port(),
            address.ip()
        ),
        _ => format!("UDP port {} of {}: {error}", address.port(), address.ip()),
    })?;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the descriptor is open for as long as `socket` is; the value is an int that lives until the call returns, and its size is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_ENCAP,
            std::ptr::from_ref(&ESP_IN_UDP).cast(),
            size,
        )
    };
    if outcome != 0 {
        let error = std::io::Error::last_os_error();
        return Err(format!("this kernel takes no ESP in UDP over {}: {error}", address.ip()));
    }
    Ok(socket)
}
