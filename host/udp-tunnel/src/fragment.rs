//! Fragments an inner IPv4 packet (RFC 791, section 3.2). The inner packet and not the datagram around it: each datagram
//! stays one whole packet, which the peer need not reassemble and no filter on the way mistakes for something else.

use std::ops::Range;

use super::bytes::{low16, put_u16, u16_at};
use super::packet::{FRAGMENT_OFFSET, Inner, MORE_FRAGMENTS, seal_v4};

/// Bit of an option's number that says that each fragment bears it (RFC 791, section 3.1).
const COPIED: u8 = 0x80;

/// How one packet is to be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragmenter {
    total: usize,
    /// Bytes of the IP header.
    pub header: usize,
    /// Bytes of payload in each fragment but the last; a multiple of 8.
    size: usize,
    /// How many there are.
    pub count: usize,
}

impl Fragmenter {
    /// Cuts an IPv4 packet into fragments of at most `limit` bytes; none if that is too little for any payload.
    pub(crate) fn new(inner: &Inner, limit: usize) -> Option<Self> {
        let size = limit.checked_sub(inner.transport)? & !7;
        if !inner.v4 || size == 0 {
            return None;
        }
        let count = (inner.total - inner.transport).div_ceil(size).max(1);
        Some(Self { total: inner.total, header: inner.transport, size, count })
    }

    /// Writes fragment `index`'s header to `out` (of [`Self::header`] bytes), and says where its payload lies.
    pub(crate) fn write(&self, packet: &[u8], index: usize, out: &mut [u8]) -> Range<usize> {
        let start = self.header + index * self.size;
        let payload = start..(start + self.size).min(self.total);
        out.copy_from_slice(&packet[..self.header]);
        put_u16(out, 2, low16(self.header + payload.len()));
        let field = u16_at(packet, 6);
        let offset = (field & FRAGMENT_OFFSET) + low16(index * self.size / 8);
        let more = if index + 1 < self.count { MORE_FRAGMENTS } else { field & MORE_FRAGMENTS };
        put_u16(out, 6, (offset & FRAGMENT_OFFSET) | more);
        if index > 0 {
            blank_options(&mut out[20..]);
        }
        seal_v4(out);
        payload
    }
}

/// Makes "no operation" of the options that only the first fragment bears.
fn blank_options(mut options: &mut [u8]) {
    while let [kind, rest @ ..] = options {
        let length = match (*kind, rest.first()) {
            (0, _) => return,
            (1, _) => 1,
            (_, Some(&length)) if length >= 2 => usize::from(length),
            _ => return,
        };
        let copied = *kind & COPIED != 0;
        let Some((option, after)) = options.split_at_mut_checked(length) else { return };
        if !copied {
            option.fill(1);
        }
        options = after;
    }
}
