//! ICMP errors that a router owes to the sender of an inner packet (RFC 792, RFC 1812 section 4.3, RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bytes::{low16, put_u16, put_u32};
use super::checksum::Sum;
use super::packet::{ICMP, ICMPV6, Inner, seal_v4};

/// The largest answer in bytes: ICMPv6 quotes as much as fits the least MTU of IPv6 (RFC 4443, section 2.4).
pub(crate) const MAX_ERROR_BYTES: usize = 1280;

/// The TTL of "unreachable", as upstream sends it.
const UPSTREAM_TTL: u8 = 8;
/// The TTL of the answers that upstream does not give.
const TTL: u8 = 64;

/// What is wrong with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// No peer has its destination.
    NoRoute,
    /// It has no hop left.
    HopsExhausted,
    /// It may not be fragmented, and the way to the peer takes packets of so many bytes.
    TooBig(usize),
}

/// Who answers: the tunnel's own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// None: there is no answer to IPv4 packets.
    pub v4: Option<Ipv4Addr>,
    /// None: there is no answer to IPv6 packets.
    pub v6: Option<Ipv6Addr>,
}

/// Writes the answer about `packet` to `out` (of at least [`MAX_ERROR_BYTES`] bytes) and returns its length. None where no
/// answer may be given: see [`may_answer`].
pub(crate) fn answer(
    packet: &[u8],
    inner: &Inner,
    problem: Problem,
    from: &Addresses,
    out: &mut [u8],
) -> Option<usize> {
    if !may_answer(packet, inner, problem) {
        return None;
    }
    match (inner.source(packet), from.v4, from.v6) {
        (IpAddr::V4(to), Some(from), _) => Some(answer_v4(packet, inner, problem, from, to, out)),
        (IpAddr::V6(to), _, Some(from)) => Some(answer_v6(packet, inner, problem, from, to, out)),
        _ => None,
    }
}

/// RFC 1812, section 4.3.2.7: never about an ICMP error, a fragment other than the first, a packet to or from an address
/// that does not stand for one host. "Unreachable" is never about any ICMP packet, as upstream has it.
fn may_answer(packet: &[u8], inner: &Inner, problem: Problem) -> bool {
    let one_host = |address| match address {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_loopback()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.is_loopback()),
    };
    if inner.later_fragment || !one_host(inner.source(packet)) || !one_host(inner.destination(packet)) {
        return false;
    }
    let kind = packet.get(inner.transport).filter(|_| inner.transport < inner.total);
    match (inner.protocol, kind) {
        (ICMP | ICMPV6, _) if problem == Problem::NoRoute => false,
        (ICMP, Some(3..=5 | 11 | 12) | None) | (ICMPV6, Some(0..128 | 137) | None) => false,
        _ => true,
    }
}

fn answer_v4(
    packet: &[u8],
    inner: &Inner,
    problem: Problem,
    from: Ipv4Addr,
    to: Ipv4Addr,
    out: &mut [u8],
) -> usize {
    let quoted = packet.len().min(inner.total).min(inner.transport + 8);
    let length = 28 + quoted;
    out[..28].fill(0);
    out[0] = 0x45;
    put_u16(out, 2, low16(length));
    out[8] = if problem == Problem::NoRoute { UPSTREAM_TTL } else { TTL };
    out[9] = ICMP;
    out[12..16].copy_from_slice(&from.octets());
    out[16..20].copy_from_slice(&to.octets());
    seal_v4(&mut out[..20]);
    match problem {
        Problem::NoRoute => out[20..22].copy_from_slice(&[3, 0]),
        Problem::HopsExhausted => out[20..22].copy_from_slice(&[11, 0]),
        Problem::TooBig(mtu) => {
            out[20..22].copy_from_slice(&[3, 4]);
            put_u16(out, 26, low16(mtu.min(0xffff)));
        }
    }
    out[28..length].copy_from_slice(&packet[..quoted]);
    let checksum = Sum::default().bytes(&out[20..length]).complement();
    out[22..24].copy_from_slice(&checksum);
    length
}

fn answer_v6(
    packet: &[u8],
    inner: &Inner,
    problem: Problem,
    from: Ipv6Addr,
    to: Ipv6Addr,
    out: &mut [u8],
) -> usize {
    let quoted = packet.len().min(inner.total).min(MAX_ERROR_BYTES - 48);
    let length = 48 + quoted;
    out[..48].fill(0);
    out[0] = 0x60;
    put_u16(out, 4, low16(length - 40));
    out[6] = ICMPV6;
    out[7] = if problem == Problem::NoRoute { UPSTREAM_TTL } else { TTL };
    out[8..24].copy_from_slice(&from.octets());
    out[24..40].copy_from_slice(&to.octets());
    match problem {
        Problem::NoRoute => out[40] = 1,
        Problem::HopsExhausted => out[40] = 3,
        Problem::TooBig(mtu) => {
            out[40] = 2;
            put_u32(out, 44, super::bytes::low32(mtu));
        }
    }
    out[48..length].copy_from_slice(&packet[..quoted]);
    let checksum = Sum::default()
        .bytes(&out[8..40])
        .word(u16::from(ICMPV6))
        .word(low16(length - 40))
        .bytes(&out[40..length])
        .complement();
    out[42..44].copy_from_slice(&checksum);
    length
}
