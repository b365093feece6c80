//! Packets waiting to be sent to peers. Equal-sized ones for the same peer become one message with `UDP_SEGMENT`, all
//! messages one call of `sendmmsg`. Payload is sent from where it was read to.

use super::bytes::low32;
use super::packet::LARGEST_HEADER;
use super::vnet;

/// Bytes of the largest packet with its virtio header.
const LARGEST_READ: usize = vnet::LENGTH + 65_535;
/// Datagrams in one message (the kernel's `UDP_MAX_SEGMENTS` was 64 before Linux 6.9).
const SEGMENTS: usize = 64;
/// Bytes in one message: what fits one IPv4 packet with its headers. IPv6 would take 20 more.
const MESSAGE: usize = 65_507;
/// Messages and pieces in one flush.
const MESSAGES: usize = 128;
const PIECES: usize = 1024;

/// A part of a datagram.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    /// Where it lies.
    pub start: u32,
    /// Its bytes.
    pub length: u32,
    /// The datagram's last piece.
    pub last: bool,
}

/// One or more datagrams for a peer.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    /// Whom it is for.
    pub peer: u32,
    /// Whether the peer's endpoint is an IPv4 address.
    pub v4: bool,
    /// Its first piece.
    pub first: usize,
    /// How many pieces it has.
    pub pieces: usize,
    /// Bytes of the first datagram, and of each other but the last.
    pub size: usize,
    /// How many datagrams it holds.
    pub segments: usize,
    /// Bytes of all.
    pub bytes: usize,
    open: bool,
}

/// The packets, and how they are to be sent.
pub(crate) struct TxBatch {
    /// Packets, then headers of segments.
    memory: Box<[u8]>,
    /// Where the headers start.
    boundary: usize,
    /// Where the next packet goes.
    tail: usize,
    /// Where the next header goes.
    header_tail: usize,
    pub(super) pieces: Vec<Piece>,
    pub(super) messages: Vec<Message>,
    /// Whether several datagrams may share a message; cleared when the kernel turns out not to do it.
    pub gso: bool,
}

impl TxBatch {
    /// One for so many bytes of packets and of segments' headers.
    pub(crate) fn new(packets: usize, headers: usize, gso: bool) -> Self {
        Self {
            memory: vec![0; packets + headers].into(),
            boundary: packets,
            tail: 0,
            header_tail: packets,
            pieces: Vec::with_capacity(PIECES),
            messages: Vec::with_capacity(MESSAGES),
            gso,
        }
    }

    /// Room for one packet of any size with its virtio header, and where it is; none: send first.
    pub(crate) fn room(&mut self) -> Option<(usize, &mut [u8])> {
        if self.boundary - self.tail < LARGEST_READ {
            return None;
        }
        Some((self.tail, &mut self.memory[self.tail..self.tail + LARGEST_READ]))
    }

    /// Keeps the first bytes of the room.
    pub(crate) fn keep(&mut self, length: usize) {
        self.tail += length;
    }

    /// A kept packet.
    pub(crate) fn packet(&mut self, start: usize, length: usize) -> &mut [u8] {
        &mut self.memory[start..start + length]
    }

    /// A kept packet, and room for a header of up to [`LARGEST_HEADER`] bytes, and where that is.
    pub(crate) fn packet_and_header(&mut self, start: usize, length: usize) -> (&[u8], usize, &mut [u8]) {
        let (packets, headers) = self.memory.split_at_mut(self.boundary);
        (&packets[start..start + length], self.header_tail, &mut headers[self.header_tail - self.boundary..])
    }

    /// Whether another datagram with a header of its own can be added.
    pub(crate) fn has_space(&self) -> bool {
        self.messages.len() < MESSAGES
            && self.pieces.len() + 2 <= PIECES
            && self.header_tail + LARGEST_HEADER <= self.memory.len()
    }

    /// Adds a datagram that is a header made in the room of [`Self::packet_and_header`] and a payload, or only one of
    /// both.
    pub(crate) fn push(&mut self, peer: u32, v4: bool, header: usize, payload: (usize, usize)) {
        let bytes = header + payload.1;
        let first = self.pieces.len();
        let pieces = usize::from(header > 0) + usize::from(payload.1 > 0);
        if header > 0 {
            let last = payload.1 == 0;
            self.pieces.push(Piece { start: low32(self.header_tail), length: low32(header), last });
            // Aligned, so that the kernel's copies of headers are.
            self.header_tail += header.next_multiple_of(8);
        }
        if payload.1 > 0 {
            self.pieces.push(Piece { start: low32(payload.0), length: low32(payload.1), last: true });
        }
        if let Some(message) = self.messages.last_mut().filter(|m| {
            m.open && m.peer == peer && bytes <= m.size && m.segments < SEGMENTS && m.bytes + bytes <= MESSAGE
        }) {
            message.pieces += pieces;
            message.segments += 1;
            message.bytes += bytes;
            // Only the last segment may be shorter.
            message.open = bytes == message.size;
            return;
        }
        let open = self.gso;
        self.messages.push(Message { peer, v4, first, pieces, size: bytes, segments: 1, bytes, open });
    }

    /// How many datagrams wait.
    pub(crate) fn datagrams(&self) -> usize {
        self.messages.iter().map(|message| message.segments).sum()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes of a piece.
    pub(crate) fn bytes(&self, piece: Piece) -> &[u8] {
        &self.memory[piece.start as usize..][..piece.length as usize]
    }

    /// Forgets what was to be sent; packets stay where they are.
    pub(crate) fn clear_messages(&mut self) {
        self.messages.clear();
        self.pieces.clear();
        self.header_tail = self.boundary;
    }

    /// Forgets the packets too.
    pub(crate) fn clear(&mut self) {
        self.clear_messages();
        self.tail = 0;
    }
}
