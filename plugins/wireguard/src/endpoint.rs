//! Where a peer is to be sent to, where one device serves both families.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_backend::{Lease, Node};

use crate::options::Mode;

/// The peer's address over which the tunnel goes; none if it has none of the family.
pub fn choose(mode: Mode, node: &Node, peer: &Lease) -> Option<IpAddr> {
    let (v4, v6) = (peer.public_ipv4.map(IpAddr::V4), peer.public_ipv6.map(IpAddr::V6));
    match mode {
        Mode::Ipv4 => v4,
        Mode::Ipv6 => v6,
        Mode::Separate | Mode::Auto => auto(node, peer).or(v4).or(v6),
    }
}

/// IPv4 where it is sure to work, else IPv6 where it is, else none.
fn auto(node: &Node, peer: &Lease) -> Option<IpAddr> {
    match (peer.public_ipv4, peer.public_ipv6) {
        (Some(v4), Some(_)) if is_public_v4(v4) && node.public_ipv4.is_some() => Some(v4.into()),
        (_, Some(v6)) if is_public_v6(v6) && node.public_ipv6.is_some_and(is_public_v6) => Some(v6.into()),
        _ => None,
    }
}

/// Not one of those that mean something else elsewhere (RFC 1918, RFC 6598, RFC 3927, RFC 1122).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let own = address.is_link_local() || address.is_loopback() || address.is_unspecified();
    !(address.is_private() || shared || own)
}

/// Global unicast (RFC 4291): 2000::/3 is what has been given out.
fn is_public_v6(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xe000 == 0x2000
}
