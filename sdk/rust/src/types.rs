//! What the capabilities and the policy speak of, in the standard library's types.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Reads six hexadecimal octets in the forms that Go reads, and that upstream's nodes take of a lease: `9e:01:c5:3f:00:0b`,
    /// `9e-01-c5-3f-00-0b` or `9e01.c53f.000b`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no Ethernet address; one looks like 9e:01:c5:3f:00:0b");
        let (separator, digits) = match text.as_bytes() {
            [_, _, b':', ..] => (':', 2),
            [_, _, b'-', ..] => ('-', 2),
            [_, _, _, _, b'.', ..] => ('.', 4),
            _ => return Err(wrong()),
        };
        let is_part = |part: &str| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        if text.len() != 12 + 12 / digits - 1 || !text.split(separator).all(is_part) {
            return Err(wrong());
        }
        let number = u64::from_str_radix(&text.replace(separator, ""), 16).map_err(|_| wrong())?;
        let [_, _, octets @ ..] = number.to_be_bytes();
        Ok(Self(octets))
    }
}

/// Names a peer within one run of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// One node's lease, as it is in the lease store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The node's IPv4 subnet; none in an IPv6-only cluster.
    pub ipv4_subnet: Option<Ipv4Net>,
    /// The node's IPv6 subnet; none in an IPv4-only cluster.
    pub ipv6_subnet: Option<Ipv6Net>,
    /// Where the node can be reached over IPv4.
    pub public_ipv4: Option<Ipv4Addr>,
    /// Where the node can be reached over IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// The backend that wrote the lease; empty where it wrote none.
    pub backend_type: String,
    /// What the backend published for IPv4: JSON text. A stranger's input.
    pub backend_data: Option<String>,
    /// What the backend published for IPv6: JSON text. A stranger's input.
    pub backend_v6_data: Option<String>,
}

/// The external interface: the one over which this node reaches its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalInterface {
    /// The kernel's name of it, such as `eth0`.
    pub name: String,
    /// Bytes of the largest IP packet it carries.
    pub mtu: u32,
    /// Its own IPv4 address; none if the cluster has no IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Its own IPv6 address; none if the cluster has no IPv6.
    pub ipv6: Option<Ipv6Addr>,
}

/// This node and its cluster, as far as a policy needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The external interface.
    pub external: ExternalInterface,
    /// The address published for IPv4; differs from the interface's behind NAT.
    pub public_ipv4: Option<Ipv4Addr>,
    /// The address published for IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// The cluster's IPv4 network; none if the cluster has no IPv4.
    pub ipv4_network: Option<Ipv4Net>,
    /// The cluster's IPv6 network; none if the cluster has no IPv6.
    pub ipv6_network: Option<Ipv6Net>,
}

impl Lease {
    /// The node's subnets, IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4_subnet.map(IpNet::from).into_iter().chain(self.ipv6_subnet.map(IpNet::from))
    }
}

impl Node {
    /// The cluster's networks, IPv4 first.
    pub fn networks(&self) -> impl Iterator<Item = IpNet> {
        self.ipv4_network.map(IpNet::from).into_iter().chain(self.ipv6_network.map(IpNet::from))
    }
}

/// What a node publishes in its lease, and what its pods must know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// `BackendType` in the lease; empty: left out.
    pub backend_type: String,
    /// `BackendData` in the lease: JSON text; none: left out.
    pub backend_data: Option<String>,
    /// `BackendV6Data` in the lease: JSON text; none: left out.
    pub backend_v6_data: Option<String>,
    /// Bytes of the largest IP packet of a pod, 68 to 65535.
    pub mtu: u32,
}

/// Why the host refused a call. A refused call dooms the transaction of the call that the policy is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// An argument is not what the capability asks for.
    InvalidArgument(String),
    /// Outside of what the plugin may touch.
    Denied(String),
    /// One more than the host's limit.
    LimitExceeded(String),
    /// The host could not do it just now.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument(text) => write!(f, "invalid argument: {text}"),
            Self::Denied(text) => write!(f, "denied: {text}"),
            Self::LimitExceeded(text) => write!(f, "limit exceeded: {text}"),
            Self::Unavailable(text) => write!(f, "unavailable: {text}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

impl From<IpAddr> for Family {
    fn from(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_in_gos_forms() {
        let mac = Mac([0x9e, 0x01, 0xc5, 0x3f, 0x00, 0x0b]);
        for text in ["9e:01:c5:3f:00:0b", "9E:01:C5:3f:00:0B", "9e-01-c5-3f-00-0b", "9e01.c53f.000b"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            "9e01c53f000b",
            "9e:01:c5:3f:00",
            "9e:01:c5:3f:00:0b:00:00",
            "9e:01:c5:3f:00:0b:",
            "9e:01-c5:3f:00:0b",
            "9e:1:c5:3f:000:0b",
            "9e:01:c5:3f:00:+b",
            "9e01.c53f.000",
            "9e01.c53f-000b",
            "9e01:c53f:000b",
            "9g:01:c5:3f:00:0b",
            "\u{e9}:01:c5:3f:00:0b",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
