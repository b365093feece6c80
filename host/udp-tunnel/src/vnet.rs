//! The virtio-net header that goes before each packet on the TUN device (`struct virtio_net_hdr`, linux/virtio_net.h;
//! ten bytes, in the byte order of this machine unless TUNSETVNETLE or -BE was asked for).

use super::counters::Reason;
use super::packet::Inner;

/// Bytes of the header (the kernel's default; see TUNSETVNETHDRSZ).
pub(crate) const LENGTH: usize = 10;

/// The checksum is to be completed from `checksum_start` on.
const NEEDS_CHECKSUM: u8 = 1;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Set beside the type where the first segment alone bears CWR.
const GSO_ECN: u8 = 0x80;

/// What the segments of a super-packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segments {
    /// TCP segments (TSO).
    Tcp,
    /// UDP datagrams (USO).
    Udp,
}

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vnet {
    flags: u8,
    kind: u8,
    header_length: u16,
    segment_size: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

impl Vnet {
    /// A header for the super-packet `packet` of segments with `size` bytes of payload each. `header` counts the bytes
    /// of the IP and transport headers.
    pub(crate) fn super_packet(inner: &Inner, segments: Segments, header: u16, size: u16) -> Self {
        Self {
            flags: NEEDS_CHECKSUM,
            kind: match segments {
                Segments::Udp => GSO_UDP_L4,
                Segments::Tcp if inner.v4 => GSO_TCPV4,
                Segments::Tcp => GSO_TCPV6,
            },
            header_length: header,
            segment_size: size,
            checksum_start: super::bytes::low16(inner.transport),
            checksum_offset: match segments {
                Segments::Tcp => 16,
                Segments::Udp => 6,
            },
        }
    }

    /// Reads it; fewer than [`LENGTH`] bytes are an error.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Reason> {
        let Some(&[flags, kind, h0, h1, s0, s1, c0, c1, o0, o1]) = bytes.first_chunk::<LENGTH>() else {
            return Err(Reason::Offload);
        };
        Ok(Self {
            flags,
            kind,
            header_length: u16::from_ne_bytes([h0, h1]),
            segment_size: u16::from_ne_bytes([s0, s1]),
            checksum_start: u16::from_ne_bytes([c0, c1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The bytes of it.
    pub(crate) fn bytes(&self) -> [u8; LENGTH] {
        let [h, s, c, o] = [self.header_length, self.segment_size, self.checksum_start, self.checksum_offset]
            .map(u16::to_ne_bytes);
        [self.flags, self.kind, h[0], h[1], s[0], s[1], c[0], c[1], o[0], o[1]]
    }

    /// What the packet is to be split into, and the payload's bytes in each; none: it is an ordinary packet.
    pub(crate) fn segments(&self) -> Result<Option<(Segments, usize)>, Reason> {
        let segments = match self.kind & !GSO_ECN {
            0 => return Ok(None),
            GSO_TCPV4 | GSO_TCPV6 => Segments::Tcp,
            GSO_UDP_L4 => Segments::Udp,
            _ => return Err(Reason::Offload),
        };
        if self.segment_size == 0 {
            return Err(Reason::Offload);
        }
        Ok(Some((segments, usize::from(self.segment_size))))
    }

    /// Completes the checksum of an ordinary packet, where the kernel left that to us.
    pub(crate) fn complete_checksum(&self, packet: &mut [u8], inner: &Inner) -> Result<(), Reason> {
        if self.flags & NEEDS_CHECKSUM == 0 {
            return Ok(());
        }
        let start = usize::from(self.checksum_start);
        let field = start + usize::from(self.checksum_offset);
        if field + 2 > packet.len() {
            return Err(Reason::Offload);
        }
        // The field holds the pseudo header's sum already, so it takes part.
        let sum = super::checksum::Sum::default().bytes(&packet[start..]);
        let checksum =
            if inner.protocol == super::packet::UDP { sum.complement_udp() } else { sum.complement() };
        packet[field..field + 2].copy_from_slice(&checksum);
        Ok(())
    }
}
