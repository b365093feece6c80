//! Numbered datagrams from one pod to another.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::arrivals::Arrivals;
use super::report::{FlowReport, Way};
use super::socket_info;
use crate::{Namespace, Pod};

/// How often a datagram is sent: a thousand times a second.
pub const INTERVAL: Duration = Duration::from_millis(1);
/// Room for some seconds of datagrams, however busy the receiver is.
const RECEIVE_BUFFER: usize = 8 << 20;
/// How many are sent at once after a standstill: the kernel's own queues have little room.
const BURST: u64 = 32;
/// Bytes of a datagram: whose it is, its number, when it was sent, and some more.
const SIZE: usize = 64;

/// What both ends know.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    arrived: AtomicU64,
}

impl Progress {
    /// How many different ones have come.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Whether all that were sent have come.
    pub fn is_complete(&self) -> bool {
        self.arrived() >= self.sent.load(Ordering::Relaxed)
    }
}

/// The end that sends.
pub struct Source {
    socket: UdpSocket,
    target: SocketAddr,
    token: u64,
    next: u64,
    postponed: u64,
    refused: Option<String>,
    progress: Arc<Progress>,
}

/// The end that receives.
pub struct Sink {
    socket: UdpSocket,
    token: u64,
    arrivals: Arrivals,
    progress: Arc<Progress>,
}

/// A source and a sink, and how far they are. The token is what tells their datagrams from others.
pub fn open(from: &Pod, to: &Pod, way: &Way, token: u64) -> Result<(Source, Sink, Arc<Progress>)> {
    let progress = Arc::new(Progress::default());
    let (socket, sink) = (bound(from.namespace(), way.source)?, bound(to.namespace(), way.target)?);
    set_socket_recv_buffer_size_force(&sink, RECEIVE_BUFFER).context("room for datagrams")?;
    let target = sink.local_addr()?;
    let (one, other) = (Arc::clone(&progress), Arc::clone(&progress));
    let source = Source { socket, target, token, next: 0, postponed: 0, refused: None, progress: one };
    let sink = Sink { socket: sink, token, arrivals: Arrivals::default(), progress: other };
    Ok((source, sink, progress))
}

fn bound(namespace: &Namespace, address: IpAddr) -> Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        // Not connected: then what routers say of one datagram does not keep the next one from being sent.
        let socket = UdpSocket::bind(SocketAddr::new(address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    namespace.run(open)?.with_context(|| format!("a UDP socket with {address} in {}", namespace.name()))
}

impl Source {
    /// Sends what is due, with its time.
    pub fn send_due(&mut self, begin: Instant) {
        let due = u64::try_from(begin.elapsed().as_micros() / INTERVAL.as_micros()).unwrap_or(u64::MAX);
        for number in self.next..=due.min(self.next + BURST - 1) {
            match self.socket.send_to(&datagram(self.token, number, begin.elapsed()), self.target) {
                Ok(_) => {}
                // Nobody has lost what has never been sent: it is sent the next time.
                Err(error) if is_busy(&error) => {
                    self.postponed += 1;
                    break;
                }
                Err(error) => {
                    self.refused.get_or_insert_with(|| format!("{error}, at {:?}", begin.elapsed()));
                    break;
                }
            }
            self.next = number + 1;
        }
        self.progress.sent.store(self.next, Ordering::Relaxed);
    }
}

/// Whether the machine has no room at the moment.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

fn datagram(token: u64, number: u64, sent: Duration) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let sent = u64::try_from(sent.as_micros()).unwrap_or(u64::MAX);
    for (at, word) in [token, number, sent].into_iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Token, number, and when it was sent; none: it is something else.
fn parse(bytes: &[u8]) -> Option<(u64, u64, Duration)> {
    let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
    let (words, _) = bytes.as_chunks::<8>();
    let [token, number, sent] = [0, 1, 2].map(|at: usize| u64::from_be_bytes(words[at]));
    Some((token, number, Duration::from_micros(sent)))
}

impl Sink {
    /// Takes what has come.
    pub fn receive(&mut self, begin: Instant) {
        let mut buffer = [0; SIZE + 1];
        // Errors are not about what was received here: nothing is ever sent from this end.
        while let Ok(length) = self.socket.recv(&mut buffer) {
            match parse(&buffer[..length]) {
                Some((token, number, sent)) if token == self.token => {
                    self.arrivals.note(number, sent, begin.elapsed());
                }
                _ => {}
            }
        }
        self.progress.arrived.store(self.arrivals.unique(), Ordering::Relaxed);
    }
}

/// What became of all that were sent until a moment.
pub fn report(way: Way, source: &Source, sink: &Sink, end: Duration) -> Result<FlowReport> {
    Ok(FlowReport {
        way,
        sent: source.next,
        received: sink.arrivals.unique(),
        missing: sink.arrivals.missing(source.next, end),
        overflowed: socket_info::dropped(&sink.socket).context("what a socket had no room for")?,
        duplicates: sink.arrivals.duplicates(),
        late: sink.arrivals.late(),
        postponed: source.postponed,
        refused: source.refused.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_whose_it_is_its_number_and_when_it_was_sent() {
        let sent = Duration::from_micros(123_456);
        assert_eq!(parse(&datagram(7, 1 << 40, sent)), Some((7, 1 << 40, sent)));
        assert_eq!(parse(&[0; SIZE + 1]), None);
        assert_eq!(parse(b"something else"), None);
    }
}
