//! The udp backend: one TUN device for all peers, and the host carries packets between it and a UDP port. On the wire it is
//! upstream's; IPv6 is an extension between nodes of ours.

use std::net::IpAddr;

use flannel_backend::ipnet::IpNet;
use flannel_backend::{Config, Lease, Link, Node, PeerId, Policy, Registration, log, udp_tunnel};

/// Upstream takes the first free `flannel%d`; there is no other.
const DEVICE: &str = "flannel0";
/// Upstream's port.
const PORT: u16 = 8285;
/// The outer IP header and UDP's.
const OVERHEAD_V4: u32 = 20 + 8;
const OVERHEAD_V6: u32 = 40 + 8;

/// The policy.
struct UdpPolicy {
    link: Link,
    networks: Vec<IpNet>,
}

impl Policy for UdpPolicy {
    const NAME: &'static str = "udp";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["udp"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let port =
            config.number("Port", 1..=65535)?.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT);
        let (overhead, least) = match node.ipv6_network {
            // One device for both families: the larger header counts.
            Some(_) => (OVERHEAD_V6, 1280),
            None => (OVERHEAD_V4, 68),
        };
        let external = &node.external;
        if external.mtu < least + overhead {
            return Err(format!(
                "{} has an MTU of {}, and udp needs at least {}",
                external.name,
                external.mtu,
                least + overhead
            ));
        }
        let mtu = external.mtu - overhead;
        let link = udp_tunnel::ensure(&udp_tunnel::Device { name: DEVICE.to_owned(), port, mtu })?;
        let networks = node.networks().collect();
        // Like upstream it publishes no type.
        Ok((Self { link, networks }, Registration { mtu, ..Registration::default() }))
    }

    /// The subnets' own addresses alone, and one route for all peers: the tunnel knows where each of them is.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnets = own.ipv4_subnet.map(IpNet::from).into_iter().chain(own.ipv6_subnet.map(IpNet::from));
        let addresses: Vec<IpNet> = subnets.map(|subnet| IpNet::from(subnet.network())).collect();
        self.link.set_addresses(&addresses)?;
        Ok(self.link.set_networks(&self.networks)?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if !["", Self::NAME].contains(&lease.backend_type.as_str()) {
            log::debug("ignoring a peer of another backend", &[("type", &lease.backend_type)]);
            return Ok(());
        }
        let in_cluster = |subnet: &IpNet| self.networks.iter().any(|network| network.contains(subnet));
        let reach = |subnet: Option<IpNet>, public: Option<IpAddr>| match (subnet.filter(in_cluster), public)
        {
            (Some(subnet), Some(public)) => udp_tunnel::put(peer, subnet, public, &self.link),
            _ => Ok(()),
        };
        reach(lease.ipv4_subnet.map(IpNet::from), lease.public_ipv4.map(IpAddr::from))?;
        reach(lease.ipv6_subnet.map(IpNet::from), lease.public_ipv6.map(IpAddr::from))?;
        Ok(())
    }
}

flannel_backend::export!(UdpPolicy);

#[cfg(test)]
mod tests;
