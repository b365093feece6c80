//! Splits a super-packet of the kernel into the packets that go on the wire. Only headers are written: the payload is
//! sent from where it lies.

use std::ops::Range;

use super::bytes::{low16, low32, put_u16, put_u32, u16_at, u32_at};
use super::counters::Reason;
use super::packet::{Inner, LARGEST_HEADER, TCP, UDP, seal_v4};
use super::vnet::Segments;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// How one super-packet is to be split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GsoSegmenter {
    inner: Inner,
    segments: Segments,
    /// Bytes of the IP and transport headers.
    pub header: usize,
    /// Bytes of payload in each segment but the last.
    pub size: usize,
    /// How many there are; at least 1.
    pub count: usize,
}

impl GsoSegmenter {
    /// Checks that the packet is what the virtio header says: the kernel's word on lengths is not enough to index by.
    pub(crate) fn new(packet: &[u8], inner: &Inner, segments: Segments, size: usize) -> Result<Self, Reason> {
        let (protocol, least) = match segments {
            Segments::Tcp => (TCP, 20),
            Segments::Udp => (UDP, 8),
        };
        if inner.protocol != protocol || inner.fragment || inner.transport + least > inner.total {
            return Err(Reason::Offload);
        }
        let header = inner.transport
            + match segments {
                Segments::Tcp => usize::from(packet[inner.transport + 12] >> 4) * 4,
                Segments::Udp => 8,
            };
        if header < inner.transport + least || header > inner.total || header > LARGEST_HEADER {
            return Err(Reason::Offload);
        }
        let count = (inner.total - header).div_ceil(size).max(1);
        Ok(Self { inner: *inner, segments, header, size, count })
    }

    /// The same with packets of at most `limit` bytes; none for datagrams, which have to stay as they are, and where
    /// there is no room for payload.
    pub(crate) fn narrowed(mut self, limit: usize) -> Option<Self> {
        self.size = limit.checked_sub(self.header).filter(|&size| size > 0)?;
        self.count = (self.inner.total - self.header).div_ceil(self.size).max(1);
        (self.segments == Segments::Tcp).then_some(self)
    }

    /// Writes segment `index`'s headers, checksums and all, to `out` (of [`Self::header`] bytes), and says where in
    /// `packet` its payload lies.
    pub(crate) fn write(&self, packet: &[u8], index: usize, out: &mut [u8]) -> Range<usize> {
        let start = self.header + index * self.size;
        let payload = start..(start + self.size).min(self.inner.total);
        let length = self.header + payload.len();
        let transport = self.inner.transport;
        out.copy_from_slice(&packet[..self.header]);
        if self.inner.v4 {
            put_u16(out, 2, low16(length));
            put_u16(out, 4, u16_at(packet, 4).wrapping_add(low16(index)));
            seal_v4(&mut out[..transport]);
        } else {
            put_u16(out, 4, low16(length - 40));
        }
        let (field, checksum) = match self.segments {
            Segments::Tcp => {
                let sequence = u32_at(packet, transport + 4).wrapping_add(low32(index * self.size));
                put_u32(out, transport + 4, sequence);
                // RFC 3168, section 6.1.2: the window's reduction is told once, in the first. The last alone ends.
                if index > 0 {
                    out[transport + 13] &= !CWR;
                }
                if index + 1 < self.count {
                    out[transport + 13] &= !(FIN | PSH);
                }
                (transport + 16, self.sum(packet, &payload, out, transport + 16).complement())
            }
            Segments::Udp => {
                put_u16(out, transport + 4, low16(8 + payload.len()));
                (transport + 6, self.sum(packet, &payload, out, transport + 6).complement_udp())
            }
        };
        out[field..field + 2].copy_from_slice(&checksum);
        payload
    }

    fn sum(
        &self,
        packet: &[u8],
        payload: &Range<usize>,
        out: &mut [u8],
        field: usize,
    ) -> super::checksum::Sum {
        out[field..field + 2].fill(0);
        let transport = self.inner.transport;
        self.inner
            .pseudo_header(packet, self.header - transport + payload.len())
            .bytes(&out[transport..])
            .bytes(&packet[payload.clone()])
    }
}
