//! The ipsec backend: ESP in tunnel mode between all nodes, over one XFRM interface; one route for the whole cluster leads to it. What protects
//! packets is derived by the host from what nodes publish in their leases, and from the preshared key, which is never in here. There is no IKE,
//! and so no node of upstream's backend of this name on the other side.

mod options;

use std::net::IpAddr;
use std::time::Duration;

use flannel_backend::ipnet::IpNet;
use flannel_backend::ipsec::{self, PublicKey};
use flannel_backend::serde_json::json;
use flannel_backend::{Config, Lease, Link, Node, PeerId, Policy, Registration, log, own_lease};

use options::Options;

/// The device's name.
const DEVICE: &str = "flannel-ipsec";
/// How often it is looked at whether the host has another key.
const LOOK: Duration = Duration::from_secs(2);

/// The policy.
struct IpsecPolicy {
    node: Node,
    link: Link,
    published: PublicKey,
}

impl Policy for IpsecPolicy {
    const NAME: &'static str = "ipsec";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["ipsec"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let options = Options::read(config, node)?;
        let link = ipsec::ensure(&ipsec::Device {
            name: DEVICE.to_owned(),
            mtu: options.mtu,
            cipher: options.cipher,
            udp_port: options.udp_port,
            rekey_seconds: options.rekey_seconds,
        })?;
        let policy = Self { node: node.clone(), link, published: ipsec::public_key()? };
        let [backend_data, backend_v6_data] = policy.data();
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            backend_data,
            backend_v6_data,
            mtu: options.mtu,
        };
        Ok((policy, registration))
    }

    /// The subnets' own addresses alone, and one route for all peers: which of them has which subnet the policies say.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let alone = |subnet: IpNet| IpNet::from(subnet.network());
        let v4 = self.node.ipv4_network.map(IpNet::from).zip(own.ipv4_subnet.map(IpNet::from));
        let v6 = self.node.ipv6_network.map(IpNet::from).zip(own.ipv6_subnet.map(IpNet::from));
        let (networks, subnets): (Vec<_>, Vec<_>) = v4.into_iter().chain(v6).unzip();
        self.link.set_addresses(&subnets.into_iter().map(alone).collect::<Vec<_>>())?;
        Ok(self.link.set_networks(&networks)?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            log::debug("ignoring a peer of another backend", &[("type", &lease.backend_type)]);
            return Ok(());
        }
        if let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) {
            self.reach(peer, subnet.into(), public.into(), ("BackendData", lease.backend_data.as_deref()))?;
        }
        if let (Some(subnet), Some(public)) = (lease.ipv6_subnet, lease.public_ipv6) {
            let data = ("BackendV6Data", lease.backend_v6_data.as_deref());
            self.reach(peer, subnet.into(), public.into(), data)?;
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        let key = ipsec::public_key()?;
        if key != self.published {
            self.published = key;
            let [v4, v6] = self.data();
            own_lease::publish(v4.as_deref(), v6.as_deref())?;
        }
        Ok(Some(LOOK))
    }
}

impl IpsecPolicy {
    /// What is published for both families.
    fn data(&self) -> [Option<String>; 2] {
        let data = json!({ "PublicKey": self.published.to_string() }).to_string();
        let has = [self.node.ipv4_network.is_some(), self.node.ipv6_network.is_some()];
        has.map(|has| has.then(|| data.clone()))
    }

    fn reach(
        &self,
        peer: PeerId,
        subnet: IpNet,
        endpoint: IpAddr,
        (field, data): (&str, Option<&str>),
    ) -> Result<(), String> {
        let serves = if subnet.addr().is_ipv4() {
            self.node.ipv4_network.is_some()
        } else {
            self.node.ipv6_network.is_some()
        };
        if !serves {
            return Ok(());
        }
        let public_key = peer_key(field, data)?;
        Ok(ipsec::put(peer, &ipsec::Peer { subnet, endpoint, public_key }, &self.link)?)
    }
}

fn peer_key(field: &str, data: Option<&str>) -> Result<PublicKey, String> {
    let missing = || {
        format!(
            "{field}.PublicKey is missing: the peer's flannel negotiates its keys by IKE, as upstream's does, which this backend does not"
        )
    };
    let data = Config::parse(data.ok_or_else(missing)?).map_err(|error| format!("{field}: {error}"))?;
    let key = data.text("PublicKey").map_err(|error| format!("{field}.{error}"))?.ok_or_else(missing)?;
    key.parse().map_err(|error| format!("{field}.PublicKey: {error}"))
}

flannel_backend::export!(IpsecPolicy);

#[cfg(test)]
mod tests;
