//! Echo requests and their answers (RFC 792, RFC 4443), for all that probes peers. Who sends one gives it a token that nobody else knows; by that,
//! and not by ICMP's numbers alone, which are few, its answer is known.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use flannel_udp_tunnel::internet_checksum;
use socket2::{Domain, MsgHdr, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;

/// Bytes behind ICMP's header of the smallest request: the token.
pub(super) const SMALLEST: usize = 16;
const ICMP_HEADER: usize = 8;
/// Bytes of the headers of the families' IP packets.
const IP_HEADERS: [usize; 2] = [20, 40];
/// The types of a request and of its answer, for each family.
const REQUEST: [u8; 2] = [8, 128];
const REPLY: [u8; 2] = [0, 129];
/// `IP_PMTUDISC_PROBE` of `linux/in.h`: never in fragments, whatever is known of the path.
const PMTUDISC_PROBE: libc::c_int = 3;
/// `ICMP_FILTER` of `linux/icmp.h`: types that are not heard. Its level is `SOL_RAW`.
const ICMP_FILTER: libc::c_int = 1;
/// `ICMPV6_FILTER` of `linux/icmpv6.h`, the same. Its level is the protocol.
const ICMPV6_FILTER: libc::c_int = 1;
/// Room for the longest message by which a packet is told its way.
const CONTROL: usize = 64;

/// What a request and its answer have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// Whose it is.
    pub id: u16,
    /// Which of them it is.
    pub sequence: u16,
    /// What nobody else knows.
    pub token: u128,
}

/// By which way a request leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// The index of the device; 0: the routing table says.
    pub device: u32,
    /// This node's address that it comes from; none: the routing table says.
    pub source: Option<IpAddr>,
}

/// Bytes of the headers before the token.
pub(super) fn headers(ipv4: bool) -> usize {
    ICMP_HEADER + of_family(ipv4, IP_HEADERS)
}

fn of_family<T: Copy>(ipv4: bool, both: [T; 2]) -> T {
    both[usize::from(!ipv4)]
}

/// A socket for a family, in the calling thread's network namespace. It hears answers, and sends no fragments. Takes `CAP_NET_RAW`.
pub(super) fn socket(ipv4: bool) -> io::Result<Socket> {
    let (domain, protocol) =
        if ipv4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    // What bits stand for is not heard.
    if ipv4 {
        set_option(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, PMTUDISC_PROBE)?;
        set_option(&socket, libc::SOL_RAW, ICMP_FILTER, !(1_u32 << REPLY[0]))?;
    } else {
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, PMTUDISC_PROBE)?;
        let mut others = [u32::MAX; 8];
        others[usize::from(REPLY[1]) / 32] &= !(1 << (REPLY[1] % 32));
        set_option(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, others)?;
    }
    Ok(socket)
}

/// A socket that can be waited for.
pub(super) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket is owned by what registers it, which never closes it or puts another one in its place.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn set_option<T: Copy>(socket: &Socket, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the pointer leads to a value of that length.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A request with so many bytes behind ICMP's header, [`SMALLEST`] at least. The kernel fills in ICMPv6's checksum.
pub(super) fn request(ipv4: bool, echo: Echo, bytes: usize) -> Vec<u8> {
    let Echo { id, sequence, token } = echo;
    let mut packet = vec![0; ICMP_HEADER + bytes.max(SMALLEST)];
    packet[0] = of_family(ipv4, REQUEST);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[ICMP_HEADER..ICMP_HEADER + SMALLEST].copy_from_slice(&token.to_be_bytes());
    if ipv4 {
        let sum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// What a message is the answer to. IPv4's come with the IP header.
fn reply(bytes: &[u8], ipv4: bool) -> Option<Echo> {
    let header = if ipv4 { usize::from(bytes.first()? & 0xf) * 4 } else { 0 };
    let message = bytes.get(header..)?;
    let (numbers, token) = (message.get(4..8)?, message.get(ICMP_HEADER..ICMP_HEADER + SMALLEST)?);
    (message[0] == of_family(ipv4, REPLY)).then(|| Echo {
        id: u16::from_be_bytes([numbers[0], numbers[1]]),
        sequence: u16::from_be_bytes([numbers[2], numbers[3]]),
        token: u128::from_be_bytes(token.try_into().unwrap_or_default()),
    })
}

/// Sends a request, as soon as the socket has room for it.
pub(super) async fn send(socket: &AsyncFd<Socket>, to: IpAddr, packet: &[u8]) -> io::Result<()> {
    let to = SockAddr::from(SocketAddr::new(to, 0));
    loop {
        let mut ready = socket.writable().await?;
        if let Ok(outcome) = ready.try_io(|socket| socket.get_ref().send_to(packet, &to)) {
            return outcome.map(drop);
        }
    }
}

/// Sends a request by a way, or says at once why it cannot be.
pub(super) fn send_by(socket: &Socket, to: IpAddr, packet: &[u8], way: Way) -> io::Result<()> {
    let to = SockAddr::from(SocketAddr::new(to, 0));
    if way == Way::default() {
        return socket.send_to(packet, &to).map(drop);
    }
    let mut control = Control([0; CONTROL]);
    let length = if to.is_ipv4() {
        let source = match way.source {
            Some(IpAddr::V4(source)) => u32::from(source).to_be(),
            _ => 0,
        };
        let info = libc::in_pktinfo {
            ipi_ifindex: way.device.cast_signed(),
            ipi_spec_dst: libc::in_addr { s_addr: source },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        control.fill(libc::IPPROTO_IP, libc::IP_PKTINFO, info)
    } else {
        let source = match way.source {
            Some(IpAddr::V6(source)) => source.octets(),
            _ => [0; 16],
        };
        let info =
            libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source }, ipi6_ifindex: way.device };
        control.fill(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
    };
    let buffers = [io::IoSlice::new(packet)];
    let message = MsgHdr::new().with_addr(&to).with_buffers(&buffers).with_control(&control.0[..length]);
    socket.sendmsg(&message, 0).map(drop)
}

/// A message to the kernel about a packet (cmsg(3)).
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

impl Control {
    /// Answers how long it is.
    fn fill<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
        let size = libc::c_uint::try_from(size_of::<T>()).unwrap_or_default();
        // SAFETY: these only calculate.
        let (length, space, data) =
            unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size), libc::CMSG_LEN(0)) };
        let (space, data) = (space as usize, data as usize);
        assert!(space <= CONTROL, "the room for it is a constant, and so are the sizes of what is in it");
        // SAFETY: all zeroes is a valid cmsghdr.
        let mut header: libc::cmsghdr = unsafe { zeroed() };
        header.cmsg_len = length as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        let place = self.0.as_mut_ptr();
        // SAFETY: there is room for both, as was looked at just now; neither write needs an alignment.
        unsafe {
            place.cast::<libc::cmsghdr>().write_unaligned(header);
            place.add(data).cast::<T>().write_unaligned(value);
        }
        space
    }
}

/// The next answer that has come in, and from where; none: what came in was something else. Waits for nothing.
pub(super) fn receive(socket: &Socket, ipv4: bool) -> io::Result<Option<(Echo, IpAddr)>> {
    // The longest header of IPv4's, ICMP's, and the token.
    let mut buffer = [MaybeUninit::<u8>::uninit(); 128];
    let (length, from) = socket.recv_from(&mut buffer)?;
    // SAFETY: the kernel has filled in as many bytes as it says, and it says no more than there are.
    let bytes: Vec<u8> = buffer.iter().take(length).map(|byte| unsafe { byte.assume_init() }).collect();
    let from = from.as_socket().map(|from| from.ip());
    Ok(reply(&bytes, ipv4).zip(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_what_was_sent() {
        let echo = Echo { id: 0xf1a7, sequence: 7, token: 0x0123_4567_89ab_cdef_0011_2233_4455_6677 };
        let mut packet = request(false, echo, SMALLEST);
        assert_eq!(reply(&packet, false), None, "that is a request");
        packet[0] = 129;
        assert_eq!(reply(&packet, false), Some(echo));
        let mut v4 = vec![0x45; 20];
        let mut packet = request(true, echo, 1400);
        assert_eq!(internet_checksum(&packet), [0, 0], "the checksum is right");
        packet[0] = 0;
        v4.extend(packet);
        assert_eq!(reply(&v4, true), Some(echo));
        assert_eq!(reply(&v4[..40], true), None, "the token is cut off");
        assert_eq!(reply(&[], true), None);
    }

    #[test]
    fn a_packet_is_told_its_way_in_the_kernels_words() {
        let mut control = Control([0; CONTROL]);
        let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: [7; 16] }, ipi6_ifindex: 3 };
        let length = control.fill(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        assert!(length == 40 && control.0[..8] == 36_u64.to_ne_bytes(), "{:?}", &control.0[..length]);
        assert_eq!(control.0[16..32], [7; 16]);
        assert_eq!(control.0[32..36], 3_u32.to_ne_bytes());
    }
}
