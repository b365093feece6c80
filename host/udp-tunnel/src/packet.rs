//! Inner packets: what their headers say, and the one field that a hop changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::{put_u16, u16_at, u32_at};
use super::checksum::{Sum, adjust};
use super::counters::Reason;

/// Protocol numbers (IANA).
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// The "don't fragment" bit, in the field that it shares with the fragment offset.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
/// The "more fragments" bit.
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
/// The bits of that field that hold the offset, in units of 8 bytes.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;

/// IPv6 extension headers that are walked over; longer chains are treated as an unknown protocol.
const EXTENSIONS: usize = 8;

/// The largest header of a TCP packet: IPv4 or IPv6 without extensions and TCP, all options.
pub(crate) const LARGEST_HEADER: usize = 120;

/// What a packet's headers say. All lengths have been checked against the bytes that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inner {
    /// IPv4; else IPv6.
    pub v4: bool,
    /// Bytes of the packet; the datagram may have been longer.
    pub total: usize,
    /// Where the transport header starts; at most `total`.
    pub transport: usize,
    /// What the transport header is.
    pub protocol: u8,
    /// A fragment, first or not: the transport's checksum cannot be checked.
    pub fragment: bool,
    /// A fragment other than the first: there is no transport header.
    pub later_fragment: bool,
}

impl Inner {
    /// Reads the headers. Any bytes may be given.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        Self::parse_beginning(bytes, bytes.len())
    }

    /// Reads the headers of a packet of which only the beginning is at hand; `length` bytes of it exist.
    pub(crate) fn parse_beginning(bytes: &[u8], length: usize) -> Result<Self, Reason> {
        // Upstream drops what is shorter than an IPv4 header.
        if bytes.len() < 20 {
            return Err(Reason::Short);
        }
        match bytes[0] >> 4 {
            4 => Self::parse_v4(bytes, length),
            6 => Self::parse_v6(bytes, length),
            _ => Err(Reason::Version),
        }
    }

    fn parse_v4(bytes: &[u8], length: usize) -> Result<Self, Reason> {
        let transport = usize::from(bytes[0] & 0xf) * 4;
        let total = usize::from(u16_at(bytes, 2));
        if transport < 20 || total < transport {
            return Err(Reason::Header);
        }
        if total > length || transport > bytes.len() {
            return Err(Reason::Truncated);
        }
        let field = u16_at(bytes, 6);
        Ok(Self {
            v4: true,
            total,
            transport,
            protocol: bytes[9],
            fragment: field & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0,
            later_fragment: field & FRAGMENT_OFFSET != 0,
        })
    }

    fn parse_v6(bytes: &[u8], length: usize) -> Result<Self, Reason> {
        if bytes.len() < 40 {
            return Err(Reason::Short);
        }
        let total = 40 + usize::from(u16_at(bytes, 4));
        if total > length {
            return Err(Reason::Truncated);
        }
        let end = total.min(bytes.len());
        let mut inner = Self {
            v4: false,
            total,
            transport: 40,
            protocol: bytes[6],
            fragment: false,
            later_fragment: false,
        };
        for _ in 0..EXTENSIONS {
            let at = inner.transport;
            // Hop-by-hop, routing, destination options (RFC 8200) are counted in units of 8 bytes; a fragment is 8.
            let size = match inner.protocol {
                0 | 43 | 60 if at + 8 <= end => 8 + 8 * usize::from(bytes[at + 1]),
                44 if at + 8 <= end => {
                    let field = u16_at(bytes, at + 2);
                    inner.fragment = true;
                    inner.later_fragment = field & 0xfff8 != 0;
                    8
                }
                0 | 43 | 44 | 60 => return Err(Reason::Header),
                _ => break,
            };
            if at + size > end {
                return Err(Reason::Header);
            }
            inner.protocol = bytes[at];
            inner.transport = at + size;
            if inner.later_fragment {
                break;
            }
        }
        Ok(inner)
    }

    /// Who sent it. `packet` is what was parsed.
    pub(crate) fn source(&self, packet: &[u8]) -> IpAddr {
        if self.v4 { v4_at(packet, 12) } else { v6_at(packet, 8) }
    }

    /// Whom it is for. `packet` is what was parsed.
    pub(crate) fn destination(&self, packet: &[u8]) -> IpAddr {
        if self.v4 { v4_at(packet, 16) } else { v6_at(packet, 24) }
    }

    /// Whether no router may fragment it.
    pub(crate) fn dont_fragment(&self, packet: &[u8]) -> bool {
        !self.v4 || u16_at(packet, 6) & DONT_FRAGMENT != 0
    }

    /// Takes one hop off; false, and nothing changed, where none would be left.
    pub(crate) fn decrement_ttl(&self, packet: &mut [u8]) -> bool {
        let at = if self.v4 { 8 } else { 7 };
        if packet[at] <= 1 {
            return false;
        }
        if self.v4 {
            let old = u16_at(packet, 8);
            packet[at] -= 1;
            let checksum = adjust(u16_at(packet, 10), old, u16_at(packet, 8));
            put_u16(packet, 10, checksum);
        } else {
            packet[at] -= 1;
        }
        true
    }

    /// The sum of the pseudo header, for a transport of `length` bytes, header included (RFC 793, RFC 8200 section 8.1).
    pub(crate) fn pseudo_header(&self, packet: &[u8], length: usize) -> Sum {
        let addresses = if self.v4 { &packet[12..20] } else { &packet[8..40] };
        Sum::default().bytes(addresses).word(u16::from(self.protocol)).word(super::bytes::low16(length))
    }
}

fn v4_at(packet: &[u8], at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(u32_at(packet, at)))
}

fn v6_at(packet: &[u8], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&packet[at..at + 16]);
    IpAddr::V6(Ipv6Addr::from(octets))
}

/// Writes an IPv4 header's checksum. `header` is the header, options included.
pub(crate) fn seal_v4(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = Sum::default().bytes(header).complement();
    header[10..12].copy_from_slice(&checksum);
}
