//! ICMP echo, of both families: what `ping` does, without needing it on the machine.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Namespace, wait};

const ICMP_HEADER: usize = 8;
/// A token that tells our packets from others', and a sequence number.
const OWN_DATA: usize = 16;
/// What `ping` sends if it is not told otherwise.
const USUAL_DATA: usize = 56;

/// How long a single echo request may go without an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// An echo request: where to, how large, and whether it may be cut into pieces.
#[derive(Clone, Copy, Debug)]
pub struct Echo {
    to: IpAddr,
    packet: usize,
    whole: bool,
    patience: Duration,
}

impl Echo {
    /// A small one.
    pub fn to(address: IpAddr) -> Self {
        let packet = ip_header(address) + ICMP_HEADER + USUAL_DATA;
        Self { to: address, packet, whole: false, patience: PATIENCE }
    }

    /// Makes the whole IP packet, with its header, so many bytes long.
    #[must_use]
    pub fn size(self, bytes: u32) -> Self {
        let least = ip_header(self.to) + ICMP_HEADER + OWN_DATA;
        Self { packet: least.max(bytes as usize), ..self }
    }

    /// Nobody may cut the packet into pieces, the sender included.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Waits that long for the answer, as an ordinary machine would: where it is expected that none comes, or where it is asked again.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Sends one from a namespace and waits for the answer. Answers how long that took.
    pub fn once(&self, from: &Namespace) -> Result<Duration> {
        let what = || format!("{} from {} to {}", self.describe(), from.name(), self.to);
        let mut socket = EchoSocket::open(from, *self)?;
        let sent = Instant::now();
        socket.send(0).with_context(what)?;
        loop {
            let left = wait::scaled(self.patience).saturating_sub(sent.elapsed());
            match socket.receive(left).with_context(what)? {
                Some(_) => return Ok(sent.elapsed()),
                None if left.is_zero() => bail!("{}: no answer in {} s", what(), sent.elapsed().as_secs()),
                None => {}
            }
        }
    }

    /// Sends from a namespace until the kernel refuses, because the packet is too large for the way. The first ones may be on
    /// their way before somebody says so; an answer is an error.
    pub fn is_refused(&self, from: &Namespace) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(20);
        let what = || format!("{} from {} to {}", self.describe(), from.name(), self.to);
        let mut socket = EchoSocket::open(from, *self)?;
        let begin = Instant::now();
        while begin.elapsed() < wait::scaled(self.patience) {
            match socket.send(0) {
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(()),
                Err(error) => return Err(error).with_context(what),
                Ok(()) => {}
            }
            // An error of the receiving end is the news that was waited for: the next packet is refused.
            if let Ok(Some(_)) = socket.receive(PAUSE) {
                bail!("{}: was answered", what());
            }
        }
        bail!("{}: nobody says that it is too large", what())
    }

    fn describe(&self) -> String {
        format!("a packet of {} bytes{}", self.packet, if self.whole { " in one piece" } else { "" })
    }
}

fn ip_header(address: IpAddr) -> usize {
    if address.is_ipv4() { 20 } else { 40 }
}

/// A socket that sends one kind of echo request, and sees the answers to its own only.
pub struct EchoSocket {
    socket: Socket,
    echo: Echo,
    ident: u16,
    token: u64,
    buffer: Vec<u8>,
}

impl EchoSocket {
    /// Opens it in a namespace.
    pub fn open(namespace: &Namespace, echo: Echo) -> Result<Self> {
        let socket = namespace
            .run(|| open(echo))?
            .with_context(|| format!("cannot open a socket for ICMP in {}", namespace.name()))?;
        let token = RandomState::new().build_hasher().finish();
        let ident = u16::from_be_bytes([token.to_be_bytes()[0], token.to_be_bytes()[1]]);
        Ok(Self { socket, echo, ident, token, buffer: vec![0; 1 << 16] })
    }

    /// Sends a request. An error is what the kernel had against it: too large, no route.
    pub fn send(&self, sequence: u64) -> io::Result<()> {
        let packet = self.request(sequence);
        self.socket.send_to(&packet, &SocketAddr::new(self.echo.to, 0).into()).map(drop)
    }

    /// Waits for an answer that long at most. Answers the request's number; none if it was something else or nothing came.
    pub fn receive(&mut self, wait: Duration) -> io::Result<Option<u64>> {
        // Not the socket's own timeout, which is as coarse as the kernel's ticks.
        let timeout = Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout))?;
        match self.socket.read(&mut self.buffer) {
            Ok(length) => Ok(self.sequence_of(&self.buffer[..length])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn request(&self, sequence: u64) -> Vec<u8> {
        let mut packet = vec![0; self.echo.packet - ip_header(self.echo.to)];
        packet[0] = if self.echo.to.is_ipv4() { 8 } else { 128 };
        packet[4..6].copy_from_slice(&self.ident.to_be_bytes());
        packet[6..8].copy_from_slice(&sequence.to_be_bytes()[6..]);
        packet[8..16].copy_from_slice(&self.token.to_be_bytes());
        packet[16..24].copy_from_slice(&sequence.to_be_bytes());
        if self.echo.to.is_ipv4() {
            // For ICMPv6 the kernel does it, since the addresses go in.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// The number of the request that a packet answers, if it is one of ours.
    fn sequence_of(&self, packet: &[u8]) -> Option<u64> {
        let (message, reply) = if self.echo.to.is_ipv4() {
            let header = usize::from(packet.first()? & 0x0f) * 4;
            (packet.get(header..)?, 0)
        } else {
            (packet, 129)
        };
        let number = |at: usize| Some(u64::from_be_bytes(message.get(at..at + 8)?.try_into().ok()?));
        let ours = *message.first()? == reply && number(8)? == self.token;
        ours.then(|| number(16))?
    }
}

fn open(echo: Echo) -> io::Result<Socket> {
    let v4 = echo.to.is_ipv4();
    let (domain, protocol) =
        if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    let (level, discover) = if v4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    };
    // Both families have the same values for this.
    let how = if echo.whole { libc::IP_PMTUDISC_DO } else { libc::IP_PMTUDISC_DONT };
    set(&socket, level, discover, how)?;
    if !v4 && echo.whole {
        set(&socket, level, libc::IPV6_DONTFRAG, 1)?;
    }
    Ok(socket)
}

fn set(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or_default();
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes of `value`, which lives until the call is over.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The Internet checksum over an even number of bytes, or an odd one with a zero thought behind it.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
