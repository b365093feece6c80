//! From the peers to the kernel: receives, checks who may send what, merges, and writes to the TUN device.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;

use super::coalesce::Coalescer;
use super::counters::Reason;
use super::icmp::{self, Problem};
use super::limiter::Limiter;
use super::packet::Inner;
use super::path::Path;
use super::receiver::{BUFFER, Receiver};
use super::sender::Sender;
use super::tx_batch::TxBatch;

/// Buffers received at once when each holds many datagrams, and when each holds one.
const BUFFERS_GRO: usize = 16;
const BUFFERS: usize = 64;

/// Bytes of answers to peers that wait to be sent: one of the largest fits always.
const ANSWERS: usize = 2 * 65_600;
/// Answers have no headers apart, but the outbox keeps room for one.
const ANSWER_HEADERS: usize = 128;

/// One thread's way in.
pub(crate) struct Ingress {
    receiver: Receiver,
    buffers: usize,
    checks: Checks,
}

/// What happens to the packets received, apart from the memory that they lie in.
struct Checks {
    coalescer: Coalescer,
    answers: TxBatch,
    sender: Sender,
    limiter: Limiter,
    /// The peer of the latest packets and their number and bytes, not yet counted.
    latest: (u32, u64, u64),
}

impl Ingress {
    /// One with empty buffers. `gro`: buffers hold many datagrams; `tso`, `uso`: the device takes super-packets.
    pub(crate) fn new(gro: bool, tso: bool, uso: bool) -> Self {
        let buffers = if gro { BUFFERS_GRO } else { BUFFERS };
        Self {
            receiver: Receiver::new(buffers),
            buffers,
            checks: Checks {
                coalescer: Coalescer::new(tso, uso),
                answers: TxBatch::new(ANSWERS, ANSWER_HEADERS, false),
                sender: Sender::new(),
                limiter: Limiter::new(),
                latest: (0, 0, 0),
            },
        }
    }

    /// Delivers what the socket has, up to one batch; the number of datagrams, and whether there may be more.
    pub(crate) fn run(&mut self, socket: BorrowedFd<'_>, path: Path<'_>) -> (usize, bool) {
        // An error is about a datagram sent before; the error queue says which, and is read when poll reports it.
        let Ok(filled) = self.receiver.receive(socket) else { return (0, false) };
        let mut datagrams = 0;
        for index in 0..filled {
            let Some(received) = self.receiver.received(index) else { continue };
            let end = index * BUFFER + received.length;
            if received.truncated {
                path.drop(Reason::Oversized);
                continue;
            }
            if received.length == 0 {
                path.drop(Reason::Short);
            }
            for start in (index * BUFFER..end).step_by(received.size) {
                datagrams += 1;
                let range = start..end.min(start + received.size);
                if let Err(reason) =
                    self.checks.datagram(&mut self.receiver.memory, range, received.sender, path)
                {
                    path.drop(reason);
                }
            }
        }
        self.checks.count(path);
        self.checks.coalescer.deliver(&mut self.receiver.memory, path);
        if !self.checks.answers.is_empty() {
            self.checks.sender.flush(&mut self.checks.answers, path, |_, _, _| {});
            self.checks.answers.clear();
        }
        (datagrams, filled == self.buffers)
    }
}

impl Checks {
    fn datagram(
        &mut self,
        memory: &mut [u8],
        range: std::ops::Range<usize>,
        sender: IpAddr,
        path: Path<'_>,
    ) -> Result<(), Reason> {
        let start = range.start;
        let packet = &mut memory[range];
        let inner = Inner::parse(packet)?;
        let packet = &mut packet[..inner.total];
        // One look-up decides both: the peer that has the inner source must be the one that sent it. Only the address
        // of the sender counts, since address translation on the way may change its port.
        let owner = path.roster.find(inner.source(packet));
        let Some((number, _)) = owner
            .and_then(|number| Some((number, path.roster.peer(number)?)))
            .filter(|(_, peer)| peer.endpoint.address == sender)
        else {
            let known = path.roster.endpoint(sender).is_some();
            return Err(if known { Reason::ForeignSource } else { Reason::UnknownSender });
        };
        if !inner.decrement_ttl(packet) {
            self.answer(packet, &inner, path);
            return Err(Reason::HopsExhausted);
        }
        if self.latest.0 != number {
            self.count(path);
            self.latest.0 = number;
        }
        self.latest.1 += 1;
        self.latest.2 += inner.total as u64;
        self.coalescer.push(memory, start, &inner);
        Ok(())
    }

    /// Counts the latest peer's packets.
    fn count(&mut self, path: Path<'_>) {
        let (number, packets, bytes) = std::mem::take(&mut self.latest);
        if packets == 0 {
            return;
        }
        path.tallies.traffic.rx.add(packets, bytes);
        if let Some(peer) = path.roster.peer(number) {
            peer.traffic.rx.add(packets, bytes);
        }
    }

    /// Tells a peer's host that its packet had no hop left. The answer goes back through the tunnel.
    fn answer(&mut self, packet: &[u8], inner: &Inner, path: Path<'_>) {
        let Some(number) = path.roster.find(inner.source(packet)) else { return };
        let Some(peer) = path.roster.peer(number) else { return };
        // More answers than fit one batch would be more than the limit allows anyway.
        if !self.answers.has_space() {
            return;
        }
        let Some((start, room)) = self.answers.room() else { return };
        let answer = icmp::answer(packet, inner, Problem::HopsExhausted, &path.roster.addresses, room);
        if let Some(length) = answer.filter(|_| self.limiter.take()) {
            self.answers.keep(length);
            self.answers.push(number, peer.endpoint.address.is_ipv4(), 0, (start, length));
            path.tallies.answers.fetch_add(1, Relaxed);
        }
    }
}
