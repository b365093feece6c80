//! Between the contract's types and the standard library's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::bindings::flannel::backend::types as wit;
use crate::types::{Error, ExternalInterface, Family, Lease, Mac, Node, PeerId};

pub fn ipv4(address: wit::Ipv4Address) -> Ipv4Addr {
    let (a, b, c, d) = address;
    Ipv4Addr::new(a, b, c, d)
}

pub fn ipv6(address: wit::Ipv6Address) -> Ipv6Addr {
    let (a, b, c, d, e, f, g, h) = address;
    Ipv6Addr::new(a, b, c, d, e, f, g, h)
}

/// The host hands over lengths within bounds, so that the fallback is never taken.
pub fn ipv4_net(prefix: &wit::Ipv4Prefix) -> Ipv4Net {
    Ipv4Net::new(ipv4(prefix.address), prefix.length).unwrap_or_default()
}

pub fn ipv6_net(prefix: &wit::Ipv6Prefix) -> Ipv6Net {
    Ipv6Net::new(ipv6(prefix.address), prefix.length).unwrap_or_default()
}

pub fn node(node: &wit::Node) -> Node {
    Node {
        external: ExternalInterface {
            name: node.external.name.clone(),
            mtu: node.external.mtu,
            ipv4: node.external.ipv4.map(ipv4),
            ipv6: node.external.ipv6.map(ipv6),
        },
        public_ipv4: node.public_ipv4.map(ipv4),
        public_ipv6: node.public_ipv6.map(ipv6),
        ipv4_network: node.ipv4_network.as_ref().map(ipv4_net),
        ipv6_network: node.ipv6_network.as_ref().map(ipv6_net),
    }
}

pub fn lease(lease: wit::Lease) -> Lease {
    Lease {
        ipv4_subnet: lease.ipv4_subnet.as_ref().map(ipv4_net),
        ipv6_subnet: lease.ipv6_subnet.as_ref().map(ipv6_net),
        public_ipv4: lease.public_ipv4.map(ipv4),
        public_ipv6: lease.public_ipv6.map(ipv6),
        backend_type: lease.backend_type,
        backend_data: lease.backend_data,
        backend_v6_data: lease.backend_v6_data,
    }
}

// The other direction is needed only where there is a host to call.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
mod outward {
    use super::{Error, Family, IpAddr, IpNet, Ipv4Addr, Ipv6Addr, Mac, PeerId, wit};

    pub fn peer(peer: PeerId) -> wit::PeerId {
        peer.0
    }

    pub fn mac(mac: Mac) -> wit::MacAddress {
        let [a, b, c, d, e, f] = mac.0;
        (a, b, c, d, e, f)
    }

    pub fn mac_from(mac: wit::MacAddress) -> Mac {
        let (a, b, c, d, e, f) = mac;
        Mac([a, b, c, d, e, f])
    }

    pub fn address_from(address: wit::IpAddress) -> IpAddr {
        match address {
            wit::IpAddress::Ipv4(address) => super::ipv4(address).into(),
            wit::IpAddress::Ipv6(address) => super::ipv6(address).into(),
        }
    }

    pub fn family(family: Family) -> wit::IpFamily {
        match family {
            Family::V4 => wit::IpFamily::Ipv4,
            Family::V6 => wit::IpFamily::Ipv6,
        }
    }

    fn v4(address: Ipv4Addr) -> wit::Ipv4Address {
        let [a, b, c, d] = address.octets();
        (a, b, c, d)
    }

    pub fn ipv6_address(address: Ipv6Addr) -> wit::Ipv6Address {
        let [a, b, c, d, e, f, g, h] = address.segments();
        (a, b, c, d, e, f, g, h)
    }

    pub fn address(address: IpAddr) -> wit::IpAddress {
        match address {
            IpAddr::V4(address) => wit::IpAddress::Ipv4(v4(address)),
            IpAddr::V6(address) => wit::IpAddress::Ipv6(ipv6_address(address)),
        }
    }

    pub fn prefix(prefix: IpNet) -> wit::IpPrefix {
        match prefix {
            IpNet::V4(net) => {
                wit::IpPrefix::Ipv4(wit::Ipv4Prefix { address: v4(net.addr()), length: net.prefix_len() })
            }
            IpNet::V6(net) => wit::IpPrefix::Ipv6(wit::Ipv6Prefix {
                address: ipv6_address(net.addr()),
                length: net.prefix_len(),
            }),
        }
    }

    pub fn prefix_from(prefix: &wit::IpPrefix) -> IpNet {
        match prefix {
            wit::IpPrefix::Ipv4(prefix) => super::ipv4_net(prefix).into(),
            wit::IpPrefix::Ipv6(prefix) => super::ipv6_net(prefix).into(),
        }
    }

    pub fn error(error: wit::Error) -> Error {
        match error {
            wit::Error::InvalidArgument(text) => Error::InvalidArgument(text),
            wit::Error::Denied(text) => Error::Denied(text),
            wit::Error::LimitExceeded(text) => Error::LimitExceeded(text),
            wit::Error::Unavailable(text) => Error::Unavailable(text),
        }
    }
}

#[cfg(target_family = "wasm")]
pub use outward::*;
