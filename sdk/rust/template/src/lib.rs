//! The backend my-backend: all nodes are on one link, so a plain route to each peer is all that it takes. Change it to what yours does.

use std::net::IpAddr;

use flannel_backend::ipnet::IpNet;
use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration, Route, links, routes};

/// The policy: leases in, entries out. What it has to remember from one call to the next goes in here.
struct Backend;

impl Policy for Backend {
    const NAME: &'static str = "my-backend";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["my-backend"];

    /// Called once: check the options, declare devices, and say what to publish. An error ends the daemon's start.
    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        // An example of an option, `"Backend": {"Type": "my-backend", "MTU": 1400}`: what is wrong with it is said by `number`.
        let largest = node.external.mtu;
        let mtu = config.number("MTU", 1280..=65535)?.unwrap_or(largest).min(largest);
        Ok((Self, Registration { backend_type: Self::NAME.to_owned(), mtu, ..Registration::default() }))
    }

    /// A peer has this lease now: declare all that it needs. What was declared before is forgotten by the host, so there is
    /// nothing to delete. An error rejects this peer, and leaves the others alone.
    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            return Ok(());
        }
        reach(peer, lease.ipv4_subnet.map(IpNet::from), lease.public_ipv4.map(IpAddr::from))?;
        reach(peer, lease.ipv6_subnet.map(IpNet::from), lease.public_ipv6.map(IpAddr::from))
    }
}

fn reach(peer: PeerId, subnet: Option<IpNet>, public: Option<IpAddr>) -> Result<(), String> {
    let (Some(destination), Some(via)) = (subnet, public) else { return Ok(()) };
    if !links::is_on_link(via)? {
        return Err(format!("{via} is not on the link of {}", links::external().name()));
    }
    Ok(routes::put(peer, &Route { destination, via, onlink: false }, &links::external())?)
}

flannel_backend::export!(Backend);

#[cfg(test)]
mod tests {
    use flannel_backend::testing::{Bench, Host, samples};

    use super::Backend;

    #[test]
    fn a_peer_is_a_route() {
        let on_link = ["192.168.0.101".parse().expect("an address")].into();
        let host = Host { on_link, ..Host::default() };
        let mut bench =
            Bench::<Backend>::register_on(host, &samples::node(true, false), "{}").expect("registers");
        let peer = flannel_backend::Lease { ipv6_subnet: None, ..samples::peer("my-backend") };
        assert_eq!(bench.put(1, &peer).expect("served"), ["route 10.5.3.0/24 via 192.168.0.101 dev eth0"]);
    }
}
