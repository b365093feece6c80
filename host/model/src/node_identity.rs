//! Which leases are one node's: the one rule for it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::lease::Attributes;

/// What tells a node from others: its public addresses. Upstream's rule is the public IPv4 address, and in clusters without IPv4 the
/// public IPv6 address.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeIdentity {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl NodeIdentity {
    /// Of a node with these public addresses.
    pub fn new(v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        Self {
            v4: v4.filter(|address| !address.is_unspecified()),
            v6: v6.filter(|address| !address.is_unspecified()),
        }
    }

    /// Of the node that published this.
    pub fn of(attributes: &Attributes) -> Self {
        Self::new(attributes.public_ip, attributes.public_ipv6)
    }

    /// The same node in a cluster without IPv4, where its IPv4 address says nothing.
    #[must_use]
    pub fn without_ipv4(self) -> Self {
        Self { v4: None, ..self }
    }

    /// Whether both are one node: the same IPv4 address, or the same IPv6 address where one of them has no IPv4 address. Who has no
    /// address is nobody, and no node is that.
    pub fn is_same_node(&self, other: &Self) -> bool {
        match (self.v4, other.v4) {
            (Some(a), Some(b)) => a == b,
            _ => self.v6.is_some() && self.v6 == other.v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(v4: Option<u8>, v6: Option<u16>) -> NodeIdentity {
        let v4 = v4.map(|last| Ipv4Addr::new(192, 168, 0, last));
        NodeIdentity::new(v4, v6.map(|last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)))
    }

    #[test]
    fn a_node_is_its_ipv4_address_and_without_one_its_ipv6_address() {
        let none = node(None, None);
        let cases = [
            (node(Some(1), None), node(Some(1), None), true),
            (node(Some(1), None), node(Some(2), None), false),
            // Another IPv6 address is a change of the same node; the same one under another IPv4 address is none of its.
            (node(Some(1), Some(1)), node(Some(1), Some(2)), true),
            (node(Some(1), Some(1)), node(Some(2), Some(1)), false),
            (node(None, Some(1)), node(None, Some(1)), true),
            (node(None, Some(1)), node(None, Some(2)), false),
            // A cluster that gets its second family, or loses it.
            (node(Some(1), Some(1)), node(None, Some(1)), true),
            (node(Some(1), None), node(None, Some(1)), false),
            (node(Some(1), Some(1)).without_ipv4(), node(Some(2), Some(1)), true),
            (none, none, false),
            (none, node(Some(1), None), false),
            (none, node(None, Some(1)), false),
        ];
        for (a, b, same) in cases {
            assert_eq!((a.is_same_node(&b), b.is_same_node(&a)), (same, same), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn upstreams_way_to_write_no_address_is_no_address() {
        let zeros = NodeIdentity::new(Some(Ipv4Addr::UNSPECIFIED), Some(Ipv6Addr::UNSPECIFIED));
        assert!(!zeros.is_same_node(&zeros));
    }
}
