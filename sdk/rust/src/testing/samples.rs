//! Samples for golden tests: the node and the peer that the documentation of each backend speaks of.

use std::net::Ipv6Addr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{ExternalInterface, Lease, Node};

fn subnet_v4(number: u8) -> Ipv4Net {
    Ipv4Net::new_assert([10, 5, number, 0].into(), 24)
}

fn subnet_v6(number: u16) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 5, 0, number, 0, 0, 0, 0), 64)
}

fn public_v6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number)
}

/// Node 192.168.0.100 and fd77::100 on `eth0`, in a cluster with these families.
pub fn node(v4: bool, v6: bool) -> Node {
    Node {
        external: ExternalInterface {
            name: "eth0".into(),
            mtu: 1500,
            ipv4: v4.then_some([192, 168, 0, 100].into()),
            ipv6: v6.then_some(public_v6(0x100)),
        },
        public_ipv4: v4.then_some([192, 168, 0, 100].into()),
        public_ipv6: v6.then_some(public_v6(0x100)),
        ipv4_network: v4.then_some(Ipv4Net::new_assert([10, 5, 0, 0].into(), 16)),
        ipv6_network: v6.then_some(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 5, 0, 0, 0, 0, 0, 0), 48)),
    }
}

/// The node's own lease: 10.5.72.0/24 and fc00:5:0:72::/64.
pub fn own() -> Lease {
    Lease { ipv4_subnet: Some(subnet_v4(72)), ipv6_subnet: Some(subnet_v6(0x72)), ..Lease::default() }
}

/// A peer of a backend, without backend data: 10.5.3.0/24 and fc00:5:0:3::/64 at 192.168.0.101 and fd77::101.
pub fn peer(backend_type: &str) -> Lease {
    Lease {
        ipv4_subnet: Some(subnet_v4(3)),
        ipv6_subnet: Some(subnet_v6(3)),
        public_ipv4: Some([192, 168, 0, 101].into()),
        public_ipv6: Some(public_v6(0x101)),
        backend_type: backend_type.into(),
        ..Lease::default()
    }
}
