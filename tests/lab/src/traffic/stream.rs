//! A TCP connection from one pod to another, on which random bytes are sent that the other end knows, too.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::report::{StreamReport, Way};
use super::socket_info;
use crate::Pod;

/// Bytes in a millisecond.
const RATE: u64 = 200;
/// As many bytes at a time.
const BLOCK: usize = 4096;
/// Bytes that are under way at most, all in all. On a machine that is too slow for the rate, TCP fills whatever queue there is until packets are
/// dropped, and datagrams wait in it, too: that says something of the machine, and nothing of what is tried.
const UNDER_WAY: usize = 16 << 10;

/// What both ends know.
#[derive(Debug, Default)]
pub struct Progress {
    sent: AtomicU64,
    received: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the receiving end has come to the end, a good one or another.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The end that sends.
pub struct Source {
    socket: TcpStream,
    seed: u64,
    sent: u64,
    wrong: Option<String>,
    progress: Arc<Progress>,
}

/// The end that receives.
pub struct Sink {
    socket: TcpStream,
    seed: u64,
    received: u64,
    moved: Duration,
    longest_pause: Duration,
    wrong: Option<String>,
    progress: Arc<Progress>,
}

/// Connects two pods.
pub fn open(from: &Pod, to: &Pod, way: &Way, seed: u64) -> Result<(Source, Sink, Arc<Progress>)> {
    let listener = to.namespace().run(|| TcpListener::bind(SocketAddr::new(way.target, 0)))??;
    let target = listener.local_addr()?;
    let source = from.namespace().run(|| TcpStream::connect(target))?;
    let source = source.with_context(|| format!("a TCP connection: {way}"))?;
    let (sink, _) = listener.accept()?;
    SockRef::from(&source).set_send_buffer_size(UNDER_WAY)?;
    for socket in [&source, &sink] {
        socket.set_nonblocking(true)?;
    }
    let progress = Arc::new(Progress::default());
    let (one, other) = (Arc::clone(&progress), Arc::clone(&progress));
    let source = Source { socket: source, seed, sent: 0, wrong: None, progress: one };
    let (moved, longest_pause) = (Duration::ZERO, Duration::ZERO);
    let sink = Sink { socket: sink, seed, received: 0, moved, longest_pause, wrong: None, progress: other };
    Ok((source, sink, progress))
}

impl Source {
    /// Sends what is due, or as much of it as there is room for.
    pub fn send_due(&mut self, begin: Instant) {
        let due = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_mul(RATE);
        while self.sent + BLOCK as u64 <= due && self.wrong.is_none() {
            match self.socket.write(&block(self.seed, self.sent)) {
                Ok(count) => self.sent += count as u64,
                Err(error) if is_a_pause(&error) => break,
                Err(error) => self.wrong = Some(format!("cannot send: {error}, at {:?}", begin.elapsed())),
            }
        }
        self.progress.sent.store(self.sent, Ordering::Relaxed);
    }

    /// Says that no more comes.
    pub fn end(&mut self) {
        if let Err(error) = self.socket.shutdown(Shutdown::Write) {
            self.wrong.get_or_insert(format!("cannot be ended: {error}"));
        }
    }
}

impl Sink {
    /// Takes what has come.
    pub fn receive(&mut self, begin: Instant) {
        if self.progress.is_over() {
            return;
        }
        let mut buffer = [0; BLOCK];
        let before = self.received;
        let ended = loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => break true,
                Ok(count) => {
                    let expected = block(self.seed, self.received);
                    if buffer[..count] != expected[..count] {
                        let at = self.received + differs_at(&buffer[..count], &expected) as u64;
                        self.wrong = Some(format!("byte {at} is another one, at {:?}", begin.elapsed()));
                        break true;
                    }
                    self.received += count as u64;
                }
                Err(error) if is_a_pause(&error) => break false,
                Err(error) => {
                    self.wrong = Some(format!("cannot receive: {error}, at {:?}", begin.elapsed()));
                    break true;
                }
            }
        };
        let now = begin.elapsed();
        let on_the_way = self.progress.sent.load(Ordering::Relaxed) > before;
        if self.received > before || ended || !on_the_way {
            self.longest_pause = self.longest_pause.max(self.pause(now, on_the_way));
            self.moved = now;
        }
        self.progress.received.store(self.received, Ordering::Relaxed);
        self.progress.over.store(ended, Ordering::Relaxed);
    }

    /// For how long nothing has come of what was on its way.
    fn pause(&self, now: Duration, on_the_way: bool) -> Duration {
        if on_the_way { now.saturating_sub(self.moved) } else { Duration::ZERO }
    }
}

/// What became of a connection until a moment.
pub fn report(way: Way, source: &Source, sink: &Sink, end: Duration) -> Result<StreamReport> {
    let unfinished = !sink.progress.is_over();
    let last_pause = sink.pause(end, unfinished && source.sent > sink.received);
    Ok(StreamReport {
        way,
        sent: source.sent,
        received: sink.received,
        longest_pause: sink.longest_pause.max(last_pause),
        retransmits: socket_info::retransmits(&source.socket).context("what TCP knows")?,
        wrong: source.wrong.clone().or_else(|| sink.wrong.clone()),
    })
}

fn is_a_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn differs_at(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The bytes of a stream from a place on.
fn block(seed: u64, from: u64) -> [u8; BLOCK] {
    let mut bytes = [0; BLOCK];
    let (mut at, mut place) = (0, from);
    while at < BLOCK {
        let word = mixed(seed.wrapping_add(place / 8)).to_be_bytes();
        // Less than 8.
        let skipped = (place % 8) as usize;
        let count = (8 - skipped).min(BLOCK - at);
        bytes[at..at + count].copy_from_slice(&word[skipped..skipped + count]);
        at += count;
        place += count as u64;
    }
    bytes
}

/// The last step of splitmix64: bits that look random, for any number.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_the_same_wherever_a_block_begins() {
        let whole = block(7, 0);
        for from in [1, 3, 8, 1001] {
            assert_eq!(block(7, from as u64)[..2000], whole[from..from + 2000], "{from}");
        }
        assert_ne!(block(8, 0), whole);
    }

    #[test]
    fn the_first_byte_that_differs_is_found() {
        assert_eq!(differs_at(b"abcd", b"abxd"), 2);
    }
}
