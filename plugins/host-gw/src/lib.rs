//! The host-gw backend: all nodes are on one link, so a plain route to each peer is all that it takes.

use std::net::IpAddr;

use flannel_backend::ipnet::IpNet;
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Route, links, log, routes};

/// The policy.
struct HostGwPolicy {
    ipv4: bool,
    ipv6: bool,
}

impl Policy for HostGwPolicy {
    const NAME: &'static str = "host-gw";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["host-gw"];

    fn register(node: &Node, _config: &Config) -> Result<(Self, Registration), String> {
        let external = &node.external;
        if node.ipv4_network.is_some() {
            same_address(&external.name, external.ipv4.map(Into::into), node.public_ipv4.map(Into::into))?;
        }
        if node.ipv6_network.is_some() {
            same_address(&external.name, external.ipv6.map(Into::into), node.public_ipv6.map(Into::into))?;
        }
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            mtu: external.mtu,
            ..Registration::default()
        };
        let policy = Self { ipv4: node.ipv4_network.is_some(), ipv6: node.ipv6_network.is_some() };
        Ok((policy, registration))
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            log::debug("ignoring a peer of another backend", &[("type", &lease.backend_type)]);
            return Ok(());
        }
        if let (true, Some(subnet), Some(public)) = (self.ipv4, lease.ipv4_subnet, lease.public_ipv4) {
            reach(peer, subnet.into(), public.into())?;
        }
        if let (true, Some(subnet), Some(public)) = (self.ipv6, lease.ipv6_subnet, lease.public_ipv6) {
            reach(peer, subnet.into(), public.into())?;
        }
        Ok(())
    }
}

/// Peers route to the published address: behind NAT, nothing would listen there.
fn same_address(interface: &str, own: Option<IpAddr>, public: Option<IpAddr>) -> Result<(), String> {
    if own == public {
        return Ok(());
    }
    let shown = |address: Option<IpAddr>| address.map_or("none".to_owned(), |address| address.to_string());
    Err(format!(
        "the public address {} is not {interface}'s own, {}: host-gw cannot work through NAT; right would be vxlan, or no --public-ip",
        shown(public),
        shown(own)
    ))
}

/// The kernel would refuse a gateway that is not on the link; this says for which peer, and what is wrong. When that may have
/// changed, the host asks again.
fn reach(peer: PeerId, subnet: IpNet, public: IpAddr) -> Result<(), String> {
    let external = links::external();
    if !links::is_on_link(public)? {
        return Err(format!(
            "{public} is not on the link of {}: host-gw needs all nodes on one link; right for this cluster would be vxlan, with DirectRouting",
            external.name()
        ));
    }
    let route = Route { destination: subnet, via: public, onlink: false };
    Ok(routes::put(peer, &route, &external)?)
}

flannel_backend::export!(HostGwPolicy);

#[cfg(test)]
mod tests;
