//! What a lease is. How it is written in a store (keys and JSON) is in `codec`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::value::RawValue;

/// The subnets of one node: what identifies a lease. At least one family is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnets {
    /// The IPv4 subnet; none in an IPv6-only cluster.
    pub v4: Option<Ipv4Net>,
    /// The IPv6 subnet; none in an IPv4-only cluster.
    pub v6: Option<Ipv6Net>,
}

impl Subnets {
    /// The subnets that are there, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.v4.map(IpNet::V4).into_iter().chain(self.v6.map(IpNet::V6))
    }

    /// Whether a prefix lies in one of the subnets.
    pub fn contains(&self, prefix: &IpNet) -> bool {
        self.iter().any(|subnet| subnet.contains(prefix))
    }

    /// Whether any address belongs to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let v4 = matches!((self.v4, other.v4), (Some(a), Some(b)) if a.contains(&b) || b.contains(&a));
        let v6 = matches!((self.v6, other.v6), (Some(a), Some(b)) if a.contains(&b) || b.contains(&a));
        v4 || v6
    }
}

impl std::fmt::Display for Subnets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, subnet) in self.iter().enumerate() {
            write!(f, "{}{subnet}", if n == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}

/// What a node publishes about itself in its lease.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Where the node can be reached over IPv4; none is written as `0.0.0.0`, upstream's way.
    pub public_ip: Option<Ipv4Addr>,
    /// Where the node can be reached over IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// The backend's type; empty: not published (upstream's udp and alloc).
    pub backend_type: String,
    /// What the backend published for IPv4, as the JSON text that was or will be written.
    pub backend_data: Option<Box<RawValue>>,
    /// What the backend published for IPv6.
    pub backend_v6_data: Option<Box<RawValue>>,
    /// During a change of the backend: all generations that the node serves, that which the fields above describe among them. Empty at
    /// rest.
    pub generations: Vec<Generation>,
}

/// A generation of the backend that a node serves: one `Backend` section of the network config.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// The section, in its canonical form and with digests in the place of its secrets (see [`crate::secrets::digested`]).
    pub backend: String,
    /// It is the one that the lease's upstream fields describe, and has no data of its own here.
    pub main: bool,
    /// The node uses it for every peer that serves it.
    pub complete: bool,
    /// `BackendType` as the lease would have it; empty: left out.
    pub backend_type: String,
    /// `BackendData` as the lease would have it.
    pub backend_data: Option<Box<RawValue>>,
    /// `BackendV6Data` as the lease would have it.
    pub backend_v6_data: Option<Box<RawValue>>,
}

fn text(data: Option<&RawValue>) -> Option<&str> {
    data.map(RawValue::get)
}

impl PartialEq for Generation {
    fn eq(&self, other: &Self) -> bool {
        self.backend == other.backend
            && (self.main, self.complete) == (other.main, other.complete)
            && self.backend_type == other.backend_type
            && text(self.backend_data.as_deref()) == text(other.backend_data.as_deref())
            && text(self.backend_v6_data.as_deref()) == text(other.backend_v6_data.as_deref())
    }
}

impl Eq for Generation {}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.public_ip == other.public_ip
            && self.public_ipv6 == other.public_ipv6
            && self.backend_type == other.backend_type
            && text(self.backend_data.as_deref()) == text(other.backend_data.as_deref())
            && text(self.backend_v6_data.as_deref()) == text(other.backend_v6_data.as_deref())
            && self.generations == other.generations
    }
}

impl Eq for Attributes {}

impl Attributes {
    /// What this would be if the node served one of its generations only: its fields describe that one. `None` if the node does not say
    /// that it serves it.
    pub fn of_generation(&self, backend: &str) -> Option<Self> {
        let generation = self.generations.iter().find(|generation| generation.backend == backend)?;
        let addresses = Self { generations: Vec::new(), ..self.clone() };
        Some(if generation.main {
            addresses
        } else {
            Self {
                backend_type: generation.backend_type.clone(),
                backend_data: generation.backend_data.clone(),
                backend_v6_data: generation.backend_v6_data.clone(),
                ..addresses
            }
        })
    }

    /// What the node says of one of its generations.
    pub fn generation(&self, backend: &str) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.backend == backend)
    }

    /// The published addresses, IPv4 first.
    pub fn public_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.public_ip.map(IpAddr::V4).into_iter().chain(self.public_ipv6.map(IpAddr::V6))
    }
}

/// A node's subnets, what it publishes, and how long it holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The node's subnets.
    pub subnets: Subnets,
    /// What the node publishes.
    pub attributes: Attributes,
    /// When the lease ends unless it is renewed; none: never (a reservation).
    pub expires: Option<SystemTime>,
}
