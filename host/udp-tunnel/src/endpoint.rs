//! Where peers are: the outer address, as the kernel wants it, and what is known of the way to it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a path MTU is believed (Linux: `net.ipv4.route.mtu_expires`; RFC 1191, section 6.3).
const BELIEVED: Duration = Duration::from_mins(10);
/// The least path MTUs that are believed, against forged ICMP (Linux: `net.ipv4.route.min_pmtu`; RFC 8200).
const LEAST_V4: u32 = 552;
const LEAST_V6: u32 = 1280;

/// A socket address in the kernel's form.
#[repr(C)]
pub(crate) union SocketName {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// An outer address.
pub(crate) struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Address and port for the kernel.
    pub name: SocketName,
    /// Bytes of `name`.
    pub name_length: libc::socklen_t,
    /// Errors reported about it.
    pub errors: AtomicU64,
    /// Zero: unknown.
    path_mtu: AtomicU32,
    /// Seconds after `born`.
    until: AtomicU64,
    born: Instant,
}

impl Endpoint {
    /// The endpoint at an address and port.
    pub(crate) fn new(address: IpAddr, port: u16) -> Self {
        let (name, length) = match address {
            IpAddr::V4(a) => (
                SocketName {
                    v4: libc::sockaddr_in {
                        sin_family: family(libc::AF_INET),
                        sin_port: port.to_be(),
                        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.octets()) },
                        sin_zero: [0; 8],
                    },
                },
                size_of::<libc::sockaddr_in>(),
            ),
            IpAddr::V6(a) => (
                SocketName {
                    v6: libc::sockaddr_in6 {
                        sin6_family: family(libc::AF_INET6),
                        sin6_port: port.to_be(),
                        sin6_flowinfo: 0,
                        sin6_addr: libc::in6_addr { s6_addr: a.octets() },
                        sin6_scope_id: 0,
                    },
                },
                size_of::<libc::sockaddr_in6>(),
            ),
        };
        Self {
            address,
            name,
            name_length: super::bytes::low32(length),
            errors: AtomicU64::new(0),
            path_mtu: AtomicU32::new(0),
            until: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// Bytes of the outer headers: IP and UDP.
    pub(crate) fn overhead(&self) -> usize {
        if self.address.is_ipv4() { 28 } else { 48 }
    }

    /// Bytes of the largest inner packet that the way is known to take, or `most`. Costs one relaxed load.
    pub(crate) fn inner_limit(&self, most: usize) -> usize {
        match self.path_mtu.load(Relaxed) {
            0 => most,
            mtu => most.min((mtu as usize).saturating_sub(self.overhead())),
        }
    }

    /// Bytes of the largest outer packet, if the way is known to be narrower than the link.
    pub(crate) fn path_mtu(&self) -> Option<u32> {
        Some(self.path_mtu.load(Relaxed)).filter(|&mtu| mtu != 0)
    }

    /// Forgets a path MTU that is too old to refuse packets for.
    pub(crate) fn forget_if_old(&self) {
        if self.path_mtu().is_some() && self.born.elapsed().as_secs() >= self.until.load(Relaxed) {
            self.path_mtu.store(0, Relaxed);
        }
    }

    /// Remembers a path MTU that the network or the kernel has told. Zero says nothing (routers before RFC 1191).
    pub(crate) fn learn(&self, mtu: u32) {
        if mtu == 0 {
            return;
        }
        let least = if self.address.is_ipv4() { LEAST_V4 } else { LEAST_V6 };
        self.until.store((self.born.elapsed() + BELIEVED).as_secs(), Relaxed);
        self.path_mtu.store(mtu.max(least), Relaxed);
    }
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or_default()
}

/// Reads the address that the kernel filled in; none if it is of another family.
pub(crate) fn address_of(name: &libc::sockaddr_storage) -> Option<IpAddr> {
    let pointer = std::ptr::from_ref(name);
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a sockaddr_storage is aligned and large enough for any address, and all bytes are initialised.
            let v4 = unsafe { &*pointer.cast::<libc::sockaddr_in>() };
            Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*pointer.cast::<libc::sockaddr_in6>() };
            Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}
