//! The wireguard backend: every peer is a WireGuard peer, known by its public key, with its subnets behind it; one route for the
//! whole cluster leads to the device. The private key is the host's, and never in here.

mod endpoint;
mod options;

use std::net::IpAddr;

use flannel_backend::ipnet::IpNet;
use flannel_backend::serde_json::json;
use flannel_backend::wireguard::{self, PublicKey};
use flannel_backend::{Config, Lease, Link, Node, PeerId, Policy, Registration, log};

use options::{Mode, Options};

/// Names of the devices; with one device for both families, it is the first.
const DEVICES: [&str; 2] = ["flannel-wg", "flannel-wg-v6"];

/// A device.
struct Tunnel {
    link: Link,
    /// The port that it listens on; peers that say nothing of theirs have the same.
    port: u16,
}

/// The policy.
struct WireguardPolicy {
    node: Node,
    options: Options,
    preshared: bool,
    /// For IPv4, or for both families.
    v4: Option<Tunnel>,
    /// For IPv6 alone.
    v6: Option<Tunnel>,
}

impl Policy for WireguardPolicy {
    const NAME: &'static str = "wireguard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["wireguard"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let options = Options::read(config, node)?;
        let tunnel = |name: &str, port| {
            let device = wireguard::Device { name: name.to_owned(), listen_port: port, mtu: options.mtu };
            Ok::<_, String>(Tunnel { link: wireguard::ensure(&device)?, port })
        };
        let separate = options.mode == Mode::Separate;
        let (has_v4, has_v6) = (node.ipv4_network.is_some(), node.ipv6_network.is_some());
        let v4 = (has_v4 || !separate).then(|| tunnel(DEVICES[0], options.port)).transpose()?;
        let v6 = (has_v6 && separate).then(|| tunnel(DEVICES[1], options.port_v6)).transpose()?;
        let key = wireguard::public_key()?;
        let data = |tunnel: &Option<Tunnel>| tunnel.as_ref().map(|tunnel| published(key, tunnel.port));
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            backend_data: data(&v4).filter(|_| has_v4),
            backend_v6_data: data(if separate { &v6 } else { &v4 }).filter(|_| has_v6),
            mtu: options.mtu,
        };
        let preshared = wireguard::has_preshared_key();
        Ok((Self { node: node.clone(), options, preshared, v4, v6 }, registration))
    }

    /// The subnets' own addresses alone, and one route for all peers: WireGuard knows which of them has which subnet.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let alone = |subnet: IpNet| IpNet::from(subnet.network());
        let address_v4 = own.ipv4_subnet.map(|subnet| alone(subnet.into()));
        let address_v6 = own.ipv6_subnet.map(|subnet| alone(subnet.into()));
        let network_v4 = self.node.ipv4_network.map(IpNet::from);
        let network_v6 = self.node.ipv6_network.map(IpNet::from);
        let both = self.options.mode != Mode::Separate;
        let of = |v4: Option<IpNet>, v6: Option<IpNet>| v4.into_iter().chain(v6).collect::<Vec<_>>();
        if let Some(tunnel) = &self.v4 {
            tunnel.link.set_addresses(&of(address_v4, address_v6.filter(|_| both)))?;
            tunnel.link.set_networks(&of(network_v4, network_v6.filter(|_| both)))?;
        }
        if let Some(tunnel) = &self.v6 {
            tunnel.link.set_addresses(&of(None, address_v6))?;
            tunnel.link.set_networks(&of(None, network_v6))?;
        }
        Ok(())
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            log::debug("ignoring a peer of another backend", &[("type", &lease.backend_type)]);
            return Ok(());
        }
        let (subnet_v4, subnet_v6) = (lease.ipv4_subnet.map(IpNet::from), lease.ipv6_subnet.map(IpNet::from));
        let data_v4 = ("BackendData", lease.backend_data.as_deref());
        let data_v6 = ("BackendV6Data", lease.backend_v6_data.as_deref());
        if self.options.mode != Mode::Separate {
            let Some(tunnel) = &self.v4 else { return Ok(()) };
            let address = endpoint::choose(self.options.mode, &self.node, lease)
                .ok_or("it has published no address of the family that Mode asks for")?;
            let data = if address.is_ipv6() && data_v6.1.is_some() { data_v6 } else { data_v4 };
            let subnets = subnet_v4.into_iter().chain(subnet_v6).collect();
            return self.reach(peer, tunnel, subnets, address, data);
        }
        if let (Some(tunnel), Some(subnet), Some(public)) = (&self.v4, subnet_v4, lease.public_ipv4) {
            self.reach(peer, tunnel, vec![subnet], public.into(), data_v4)?;
        }
        if let (Some(tunnel), Some(subnet), Some(public)) = (&self.v6, subnet_v6, lease.public_ipv6) {
            self.reach(peer, tunnel, vec![subnet], public.into(), data_v6)?;
        }
        Ok(())
    }
}

impl WireguardPolicy {
    fn reach(
        &self,
        peer: PeerId,
        tunnel: &Tunnel,
        allowed: Vec<IpNet>,
        address: IpAddr,
        data: (&str, Option<&str>),
    ) -> Result<(), String> {
        let (public_key, port) = peer_data(data)?;
        let wireguard = wireguard::Peer {
            public_key,
            endpoint: (address, if port == 0 { tunnel.port } else { port }),
            allowed,
            keepalive: self.options.keepalive,
            preshared: self.preshared,
        };
        Ok(wireguard::put(peer, &wireguard, &tunnel.link)?)
    }
}

/// Byte for byte what upstream publishes.
fn published(key: PublicKey, port: u16) -> String {
    format!(r#"{{"PublicKey":{},"Port":{port}}}"#, json!(key.to_string()))
}

/// A peer's key and port; 0 where it says nothing of its port, as upstream's before v0.26.6.
fn peer_data((field, data): (&str, Option<&str>)) -> Result<(PublicKey, u16), String> {
    let data = data.ok_or_else(|| format!("{field} is missing: the peer has published no key"))?;
    let data = Config::parse(data).map_err(|error| format!("{field}: {error}"))?;
    let key = data.text("PublicKey").map_err(|error| format!("{field}.{error}"))?;
    let key = key.ok_or_else(|| format!("{field}.PublicKey is missing"))?;
    let key = key.parse().map_err(|error| format!("{field}.PublicKey: {error}"))?;
    let port = data.number("Port", 0..=65535).map_err(|error| format!("{field}.{error}"))?;
    Ok((key, port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0)))
}

flannel_backend::export!(WireguardPolicy);

#[cfg(test)]
mod tests;
