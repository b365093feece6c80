//! Probes peers by the ways that are on trial: echo requests (RFC 792, RFC 4443) with the mark that leads by them, from this node's own `.0`
//! address to the peer's. The answer may come by any way.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flannel_udp_tunnel::internet_checksum;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::coordinator::ProbeOrder;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Echo requests a second, at most.
const PER_SECOND: u32 = 100;
/// Bytes behind the ICMP header of a small request: what it is known by.
const SMALL: usize = 16;
/// Bytes of the headers of the families' IP packets, and of ICMP's own.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
/// Bytes of the largest packet that is tried; an interface may have more (65,536), and no path.
const MAX_MTU: usize = 9216;
/// How many bytes less are tried where a device does not carry a packet, and how many less at most.
const LESS: usize = 4;
const MAX_LESS: usize = 160;
/// `IP_PMTUDISC_PROBE` of `linux/in.h`: never in fragments, whatever is known of the path.
const PMTUDISC_PROBE: libc::c_int = 3;

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// Sends probes, and hears the answers.
pub(super) struct Prober {
    nonce: u64,
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    /// By the addresses that they send from.
    sockets: HashMap<IpAddr, Arc<AsyncFd<Socket>>>,
    waiting: Waiting,
    state: Mutex<(u64, Instant)>,
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}

impl Prober {
    /// In the calling thread's network namespace. `sources`: this node's own addresses that probes are sent from.
    pub(super) fn open(mark: u32, sources: impl IntoIterator<Item = IpAddr>) -> io::Result<Self> {
        let waiting = Waiting::default();
        let (mut sockets, mut listeners) = (HashMap::new(), Vec::new());
        for source in sources {
            let socket = socket(mark, source)?;
            // SAFETY: the socket is owned by what registers it, which never closes it or puts another one in its place.
            let socket = Arc::new(unsafe { AsyncFd::register(socket) }?);
            listeners.push(tokio::spawn(listen(Arc::clone(&socket), source.is_ipv4(), Arc::clone(&waiting))));
            sockets.insert(source, socket);
        }
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let state = Mutex::new((0, Instant::now()));
        let shared = Shared { sockets, waiting, state };
        Ok(Self { nonce: u64::from_ne_bytes(nonce), shared: Arc::new(shared), listeners })
    }

    /// Probes a peer: a small request and two of the full size, of each family, one after the other. The error says what was not answered.
    pub(super) fn probe(&self, order: ProbeOrder) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let (shared, nonce) = (Arc::clone(&self.shared), self.nonce);
        async move {
            for (from, to) in order.ends {
                let headers = ICMP_HEADER + if to.is_ipv4() { IPV4_HEADER } else { IPV6_HEADER };
                let full = usize::try_from(order.mtu).unwrap_or(MAX_MTU).min(MAX_MTU);
                let full = full.saturating_sub(headers).max(SMALL);
                shared.ask(from, to, nonce, SMALL, headers).await?;
                let mut bytes = full;
                for _ in 0..2 {
                    bytes = shared.ask_largest(from, to, nonce, bytes, headers).await?;
                }
            }
            Ok(())
        }
    }
}

/// Why there is no answer.
enum NoAnswer {
    /// This node's own device does not carry so much.
    TooLong(String),
    Other(String),
}

impl NoAnswer {
    fn of(to: IpAddr, error: &io::Error) -> Self {
        let text = format!("{to}: {error}");
        if error.raw_os_error() == Some(libc::EMSGSIZE) { Self::TooLong(text) } else { Self::Other(text) }
    }
}

impl From<NoAnswer> for String {
    fn from(answer: NoAnswer) -> Self {
        match answer {
            NoAnswer::TooLong(text) | NoAnswer::Other(text) => text,
        }
    }
}

impl Shared {
    /// With a packet of this size, or of the largest that this node's own device for that family carries: one of IPv6 carries less than what
    /// the pods have. Answers how many bytes there were behind the headers.
    async fn ask_largest(
        &self,
        from: IpAddr,
        to: IpAddr,
        nonce: u64,
        largest: usize,
        headers: usize,
    ) -> Result<usize, String> {
        let mut bytes = largest;
        loop {
            match self.ask(from, to, nonce, bytes, headers).await {
                Ok(()) => return Ok(bytes),
                Err(NoAnswer::TooLong(_)) if largest - bytes < MAX_LESS && bytes > LESS + SMALL => {
                    bytes -= LESS;
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    async fn ask(
        &self,
        from: IpAddr,
        to: IpAddr,
        nonce: u64,
        bytes: usize,
        headers: usize,
    ) -> Result<(), NoAnswer> {
        let size = bytes + headers;
        let Some(socket) = self.sockets.get(&from) else {
            return Err(NoAnswer::Other(format!("{from} is not this node's own address")));
        };
        let number = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = state.1.max(Instant::now());
            *state = (state.0 + 1, turn + Duration::from_secs(1) / PER_SECOND);
            (state.0, turn)
        };
        let (number, turn) = number;
        sleep_until(turn).await;
        let key = nonce.wrapping_add(number);
        let (answer, answered) = oneshot::channel();
        self.lock().insert(key, answer);
        let outcome = async {
            let packet = request(to.is_ipv4(), number, key, bytes);
            send(socket, to, &packet).await.map_err(|error| NoAnswer::of(to, &error))?;
            let answered = timeout(ANSWER, answered).await;
            let silent = || NoAnswer::Other(format!("{to} does not answer packets of {size} bytes"));
            answered.ok().and_then(Result::ok).ok_or_else(silent)
        };
        let outcome = outcome.await;
        self.lock().remove(&key);
        outcome
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn socket(mark: u32, source: IpAddr) -> io::Result<Socket> {
    let ipv4 = source.is_ipv4();
    let (domain, protocol) =
        if ipv4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket = Socket::new(domain, Type::RAW.nonblocking().cloexec(), Some(protocol))?;
    socket.set_mark(mark)?;
    let (level, option) = if ipv4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    };
    set_option(&socket, level, option, PMTUDISC_PROBE)?;
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    Ok(socket)
}

fn set_option(
    socket: &Socket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or_default();
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the pointer leads to a value of that length.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An echo request. The kernel fills in ICMPv6's checksum.
fn request(ipv4: bool, number: u64, key: u64, bytes: usize) -> Vec<u8> {
    let mut packet = vec![0; ICMP_HEADER + bytes];
    packet[0] = if ipv4 { 8 } else { 128 };
    let [.., a, b] = number.to_be_bytes();
    packet[4..6].copy_from_slice(&[0xf1, 0xa7]);
    packet[6..8].copy_from_slice(&[a, b]);
    packet[8..16].copy_from_slice(&key.to_be_bytes());
    if ipv4 {
        let sum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

async fn send(socket: &AsyncFd<Socket>, to: IpAddr, packet: &[u8]) -> io::Result<()> {
    let to = SockAddr::from(SocketAddr::new(to, 0));
    loop {
        let mut ready = socket.writable().await?;
        if let Ok(outcome) = ready.try_io(|socket| socket.get_ref().send_to(packet, &to)) {
            return outcome.map(drop);
        }
    }
}

/// Hears answers until it is ended.
async fn listen(socket: Arc<AsyncFd<Socket>>, ipv4: bool, waiting: Waiting) {
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let mut buffer = [MaybeUninit::<u8>::uninit(); 128];
        let received = ready.try_io(|socket| socket.get_ref().recv(&mut buffer));
        let Ok(Ok(length)) = received else { continue };
        // SAFETY: the kernel has filled in as many bytes as it says, and it says no more than there are.
        let bytes: Vec<u8> = buffer.iter().take(length).map(|byte| unsafe { byte.assume_init() }).collect();
        if let Some(key) = answer_in(&bytes, ipv4)
            && let Some(answer) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
        {
            let _ = answer.send(());
        }
    }
}

/// What an echo reply is the answer to. IPv4's come with the IP header.
fn answer_in(bytes: &[u8], ipv4: bool) -> Option<u64> {
    let header = if ipv4 { usize::from(bytes.first()? & 0xf) * 4 } else { 0 };
    let message = bytes.get(header..)?;
    let reply = if ipv4 { 0 } else { 129 };
    let key = message.get(8..16)?;
    (message[0] == reply && message.get(4..6)? == [0xf1, 0xa7])
        .then(|| u64::from_be_bytes(key.try_into().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_known_by_what_was_sent() {
        let mut packet = request(false, 7, 0x0123_4567_89ab_cdef, SMALL);
        assert_eq!(answer_in(&packet, false), None, "that is a request");
        packet[0] = 129;
        assert_eq!(answer_in(&packet, false), Some(0x0123_4567_89ab_cdef));
        let mut v4 = vec![0x45; 20];
        let mut packet = request(true, 7, 5, 1400);
        assert_eq!(internet_checksum(&packet), [0, 0], "the checksum is right");
        packet[0] = 0;
        v4.extend(packet);
        assert_eq!(answer_in(&v4, true), Some(5));
        assert_eq!(answer_in(&v4[..30], true), None);
        assert_eq!(answer_in(&[], true), None);
    }
}
