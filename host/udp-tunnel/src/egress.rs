//! From the kernel to the peers: reads the TUN device until it is empty, splits, and sends.

use super::counters::Reason;
use super::fragment::Fragmenter;
use super::icmp::{self, Problem};
use super::limiter::Limiter;
use super::packet::Inner;
use super::path::Path;
use super::peer_table::Peer;
use super::segment::GsoSegmenter;
use super::sender::Sender;
use super::tx_batch::{Piece, TxBatch};
use super::vnet::{self, Vnet};

/// Bytes of packets read before they are sent: about four super-packets. More would fall out of the core's cache before
/// the kernel copies it, less would mean more calls.
const PACKETS: usize = 5 * 65_536;
/// Bytes of segments' headers.
const HEADERS: usize = 64 << 10;

/// The device is gone: its queue gives no more packets.
pub(crate) struct DeviceGone;

/// One thread's way out.
pub(crate) struct Egress {
    outbox: TxBatch,
    sender: Sender,
    limiter: Limiter,
}

impl Egress {
    /// One with empty buffers.
    pub(crate) fn new(gso: bool) -> Self {
        Self { outbox: TxBatch::new(PACKETS, HEADERS, gso), sender: Sender::new(), limiter: Limiter::new() }
    }

    /// Sends what the device has, up to one batch; the number of datagrams.
    pub(crate) fn run(&mut self, path: Path<'_>) -> Result<usize, DeviceGone> {
        let outcome = loop {
            let Some((start, room)) = self.outbox.room() else { break Ok(self.outbox.datagrams()) };
            match path.queue.read(room) {
                Ok(Some(length)) => {
                    self.outbox.keep(length);
                    if let Err(reason) = self.packet(start, length, path) {
                        path.drop(reason);
                    }
                }
                Ok(None) => break Ok(self.outbox.datagrams()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break Err(DeviceGone),
            }
        };
        self.flush(path);
        self.outbox.clear();
        outcome
    }

    fn flush(&mut self, path: Path<'_>) {
        if !self.outbox.is_empty() {
            let limiter = &mut self.limiter;
            self.sender.flush(&mut self.outbox, path, |outbox, pieces, peer| {
                tell_too_big(outbox, pieces, peer, path, limiter);
            });
        }
    }

    fn packet(&mut self, start: usize, length: usize, path: Path<'_>) -> Result<(), Reason> {
        let read = self.outbox.packet(start, length);
        let vnet = Vnet::read(read)?;
        let start = start + vnet::LENGTH;
        let packet = &mut read[vnet::LENGTH..];
        let inner = Inner::parse(packet)?;
        let packet = &mut packet[..inner.total];
        let destination = inner.destination(packet);
        let Some(number) = path.roster.find(destination) else {
            if destination.is_multicast() {
                return Err(Reason::Multicast);
            }
            path.answer(packet, &inner, Problem::NoRoute, &mut self.limiter);
            return Err(Reason::NoRoute);
        };
        let Some(peer) = path.roster.peer(number) else { return Err(Reason::NoRoute) };
        let v4 = peer.endpoint.address.is_ipv4();
        let split = match vnet.segments()? {
            Some((segments, size)) => Some(GsoSegmenter::new(packet, &inner, segments, size)?),
            None => None,
        };
        let largest = split.map_or(inner.total, |s| inner.total.min(s.header + s.size));
        let limit = peer.endpoint.inner_limit(path.roster.mtu);
        if largest > limit {
            peer.endpoint.forget_if_old();
            if inner.dont_fragment(packet) {
                path.answer(packet, &inner, Problem::TooBig(limit), &mut self.limiter);
                return Err(Reason::TooBig);
            }
        }
        if !inner.decrement_ttl(packet) {
            path.answer(packet, &inner, Problem::HopsExhausted, &mut self.limiter);
            return Err(Reason::HopsExhausted);
        }
        match split {
            Some(split) if largest <= limit => self.split(start, &inner, &split, number, v4, path),
            // Where fragments are allowed, smaller segments of a stream are so all the more.
            Some(split) => {
                let split = split.narrowed(limit).ok_or(Reason::TooBig)?;
                self.split(start, &inner, &split, number, v4, path);
            }
            None => {
                vnet.complete_checksum(packet, &inner)?;
                if largest > limit {
                    return self.fragment(start, &inner, limit, number, v4, path);
                }
                if !self.outbox.has_space() {
                    self.flush(path);
                }
                self.outbox.push(number, v4, 0, (start, inner.total));
            }
        }
        Ok(())
    }

    fn split(
        &mut self,
        start: usize,
        inner: &Inner,
        split: &GsoSegmenter,
        peer: u32,
        v4: bool,
        path: Path<'_>,
    ) {
        for index in 0..split.count {
            if !self.outbox.has_space() {
                self.flush(path);
            }
            let (packet, _, header) = self.outbox.packet_and_header(start, inner.total);
            let payload = split.write(packet, index, &mut header[..split.header]);
            self.outbox.push(peer, v4, split.header, (start + payload.start, payload.len()));
        }
    }

    fn fragment(
        &mut self,
        start: usize,
        inner: &Inner,
        limit: usize,
        peer: u32,
        v4: bool,
        path: Path<'_>,
    ) -> Result<(), Reason> {
        let cut = Fragmenter::new(inner, limit).ok_or(Reason::TooBig)?;
        for index in 0..cut.count {
            if !self.outbox.has_space() {
                self.flush(path);
            }
            let (packet, _, header) = self.outbox.packet_and_header(start, inner.total);
            let payload = cut.write(packet, index, &mut header[..cut.header]);
            self.outbox.push(peer, v4, cut.header, (start + payload.start, payload.len()));
        }
        Ok(())
    }
}

/// Tells the sender of a datagram that the kernel found too large for the way. One that may be fragmented is lost, but
/// the path MTU is known from now on, and the next is fragmented.
fn tell_too_big(outbox: &TxBatch, pieces: &[Piece], peer: &Peer, path: Path<'_>, limiter: &mut Limiter) {
    let mut quote = [0; icmp::MAX_ERROR_BYTES];
    let mut quoted = 0;
    let mut length = 0;
    for &piece in pieces {
        let bytes = outbox.bytes(piece);
        let part = bytes.len().min(quote.len() - quoted);
        quote[quoted..quoted + part].copy_from_slice(&bytes[..part]);
        quoted += part;
        length += bytes.len();
    }
    let quote = &quote[..quoted];
    let limit = peer.endpoint.inner_limit(path.roster.mtu);
    let Ok(inner) = Inner::parse_beginning(quote, length) else { return };
    if inner.dont_fragment(quote) && length > limit {
        path.answer(quote, &inner, Problem::TooBig(limit), limiter);
    }
}
