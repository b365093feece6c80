//! The ipip backend: every peer is reached through one IPIP device to any node, by a route that names the peer's public address.
//! With `DirectRouting`, peers on the same link get a plain route instead. IPv4 only.

use flannel_backend::ipnet::IpNet;
use flannel_backend::{
    Config, Ipip, Lease, Link, Node, PeerId, Policy, Registration, Route, links, log, routes,
};

/// The outer IPv4 header.
const OVERHEAD: u32 = 20;
/// What pods need at least (RFC 791).
const LEAST_MTU: u32 = 68;
/// Not `tunl0`, which the kernel makes by itself.
const DEVICE: &str = "flannel.ipip";

/// The policy.
struct IpipPolicy {
    direct_routing: bool,
    link: Link,
}

impl Policy for IpipPolicy {
    const NAME: &'static str = "ipip";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["ipip"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let external = &node.external;
        if node.ipv4_network.is_none() || node.ipv6_network.is_some() {
            return Err(
                "ipip carries IPv4 only: right would be a network config without EnableIPv6, or vxlan"
                    .to_owned(),
            );
        }
        let direct_routing = config.boolean("DirectRouting")?.unwrap_or(false);
        if external.mtu < LEAST_MTU + OVERHEAD {
            return Err(format!(
                "{} has an MTU of {}, and ipip needs at least {}",
                external.name,
                external.mtu,
                LEAST_MTU + OVERHEAD
            ));
        }
        let mtu = external.mtu - OVERHEAD;
        let link = links::ensure_ipip(&Ipip { name: DEVICE.to_owned(), mtu })?;
        let registration =
            Registration { backend_type: Self::NAME.to_owned(), mtu, ..Registration::default() };
        Ok((Self { direct_routing, link }, registration))
    }

    /// The subnet's own address alone (/32), so that the kernel makes no connected route of it.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnet = own.ipv4_subnet.ok_or("the lease lacks an IPv4 subnet")?;
        Ok(self.link.set_addresses(&[IpNet::from(IpNet::from(subnet).network())])?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            log::debug("ignoring a peer of another backend", &[("type", &lease.backend_type)]);
            return Ok(());
        }
        let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
        if self.direct_routing && links::is_on_link(public.into())? {
            let route = Route { destination: subnet.into(), via: public.into(), onlink: false };
            return Ok(routes::put(peer, &route, &links::external())?);
        }
        let route = Route { destination: subnet.into(), via: public.into(), onlink: true };
        Ok(routes::put(peer, &route, &self.link)?)
    }
}

flannel_backend::export!(IpipPolicy);

#[cfg(test)]
mod tests;
