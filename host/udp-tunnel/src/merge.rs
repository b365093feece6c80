//! Which packets may become one super-packet. The rules are those of the kernel's own GRO (net/ipv4/tcp_offload.c,
//! udp_offload.c), of which the essence is: splitting the super-packet must give back the same packets.

use super::bytes::{low16, low32, put_u16, u16_at, u32_at};
use super::checksum::Sum;
use super::packet::{DONT_FRAGMENT, Inner, TCP, UDP, seal_v4};
use super::vnet::{Segments, Vnet};

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Bytes of the largest super-packet: what IPv4's length field can say.
const MAX_PACKET_BYTES: usize = 65_535;
/// Packets in one; bounds the pieces that a write consists of.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// A packet whose checksums are right and that is of a kind which can be merged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub inner: Inner,
    segments: Segments,
    /// Bytes of IP and transport headers.
    pub header: usize,
    /// Bytes of payload in the first packet, and so in all but the last.
    size: usize,
    /// Bytes of payload in all.
    payload: usize,
    /// How many packets have been merged.
    pub count: usize,
    /// Whether one of them asked to be pushed: then it is the last.
    push: bool,
}

impl Head {
    /// Looks whether a packet can be merged at all. Its checksums are verified, since the kernel will be told that they
    /// need not be: a damaged packet must not be blessed.
    pub(crate) fn of(packet: &[u8], inner: &Inner) -> Option<Self> {
        let header = inner.transport;
        if inner.fragment
            || inner.total > packet.len()
            || (inner.v4 && header != 20)
            || (!inner.v4 && header != 40)
        {
            return None;
        }
        let (segments, header, push) = match inner.protocol {
            TCP if header + 20 <= inner.total => {
                let flags = packet[header + 13];
                let length = usize::from(packet[header + 12] >> 4) * 4;
                // The four reserved bits too: the kernel uses one of them (accurate ECN).
                let plain = flags & !PSH == ACK && packet[header + 12] << 4 == 0;
                if !plain || length < 20 {
                    return None;
                }
                (Segments::Tcp, header + length, flags & PSH != 0)
            }
            UDP if header + 8 <= inner.total => {
                let agrees = usize::from(u16_at(packet, header + 4)) == inner.total - header;
                if !agrees || u16_at(packet, header + 6) == 0 {
                    return None;
                }
                (Segments::Udp, header + 8, false)
            }
            _ => return None,
        };
        let payload = inner.total.checked_sub(header).filter(|&p| p > 0)?;
        if inner.v4 && !Sum::default().bytes(&packet[..20]).is_intact() {
            return None;
        }
        let transport = &packet[inner.transport..inner.total];
        if !inner.pseudo_header(packet, transport.len()).bytes(transport).is_intact() {
            return None;
        }
        Some(Self { inner: *inner, segments, header, size: payload, payload, count: 1, push })
    }

    /// Whether it is UDP.
    pub(crate) fn is_udp(&self) -> bool {
        self.segments == Segments::Udp
    }

    /// Whether nothing may follow.
    pub(crate) fn is_full(&self) -> bool {
        self.push || self.count == MAX_SEGMENTS || self.payload < self.size * self.count
    }

    /// Takes `next` in, if it continues what is there. `first` is the first packet's bytes, `packet` the next one's.
    pub(crate) fn take(&mut self, first: &[u8], next: &Self, packet: &[u8]) -> bool {
        if self.is_full()
            || next.segments != self.segments
            || next.header != self.header
            || next.size > self.size
            || self.header + self.payload + next.payload > MAX_PACKET_BYTES
            || !self.same_ip(first, packet)
            || !(self.is_udp() || self.same_tcp(first, packet))
        {
            return false;
        }
        self.payload += next.payload;
        self.count += 1;
        self.push = next.push;
        true
    }

    fn same_ip(&self, a: &[u8], b: &[u8]) -> bool {
        if !self.inner.v4 {
            // Version, class, flow label; hop limit.
            return a[..4] == b[..4] && a[7] == b[7];
        }
        // Without "don't fragment" the identification matters, and splitting will count it up.
        let fragments = u16_at(a, 6) & DONT_FRAGMENT == 0;
        let expected = u16_at(a, 4).wrapping_add(low16(self.count));
        a[1] == b[1] && a[6..9] == b[6..9] && (!fragments || u16_at(b, 4) == expected)
    }

    fn same_tcp(&self, a: &[u8], b: &[u8]) -> bool {
        let t = self.inner.transport;
        // Acknowledgement, data offset; window; options. The flags have been found plain.
        u32_at(b, t + 4) == u32_at(a, t + 4).wrapping_add(low32(self.payload))
            && a[t + 8..t + 13] == b[t + 8..t + 13]
            && a[t + 14..t + 16] == b[t + 14..t + 16]
            && a[t + 20..self.header] == b[t + 20..self.header]
    }

    /// Makes the first packet's header the super-packet's, and gives the virtio header for it.
    pub(crate) fn seal(&self, first: &mut [u8]) -> Vnet {
        let total = self.header + self.payload;
        let transport = self.inner.transport;
        if self.inner.v4 {
            put_u16(first, 2, low16(total));
            seal_v4(&mut first[..transport]);
        } else {
            put_u16(first, 4, low16(total - 40));
        }
        let field = match self.segments {
            Segments::Tcp => {
                first[transport + 13] |= if self.push { PSH } else { 0 };
                transport + 16
            }
            Segments::Udp => {
                put_u16(first, transport + 4, low16(total - transport));
                transport + 6
            }
        };
        let partial = self.inner.pseudo_header(first, total - transport).partial();
        first[field..field + 2].copy_from_slice(&partial);
        Vnet::super_packet(&self.inner, self.segments, low16(self.header), low16(self.size))
    }
}

/// Whether two packets are of one flow: protocol, addresses and ports. Fragments are of none.
pub(crate) fn same_flow(a: (&Inner, &[u8]), b: (&Inner, &[u8])) -> bool {
    let ((ai, a), (bi, b)) = (a, b);
    let addresses = if ai.v4 { 12..20 } else { 8..40 };
    ai.v4 == bi.v4
        && ai.protocol == bi.protocol
        && matches!(ai.protocol, TCP | UDP)
        && a[addresses.clone()] == b[addresses]
        && a.get(ai.transport..ai.transport + 4) == b.get(bi.transport..bi.transport + 4)
}
