//! The vxlan backend: every peer is a VTEP that is reached by one route, one neighbour entry and one FDB entry, so that
//! nothing is ever asked of the network. With `DirectRouting`, peers on the same link get a plain route instead.

use std::net::IpAddr;

use flannel_backend::ipnet::IpNet;
use flannel_backend::serde_json::json;
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links, log,
    neighbours, routes,
};

mod options;

use options::Options;

/// What a VXLAN packet adds around the inner IP packet: Ethernet 14, VXLAN 8, UDP 8, and the outer IP header.
const OVERHEAD_V4: u32 = 14 + 8 + 8 + 20;
const OVERHEAD_V6: u32 = 14 + 8 + 8 + 40;

/// Our end of the tunnels of one family.
struct Vtep {
    link: Link,
    mac: Mac,
}

/// The policy.
pub struct VxlanPolicy {
    direct_routing: bool,
    v4: Option<Vtep>,
    v6: Option<Vtep>,
}

impl Policy for VxlanPolicy {
    const NAME: &'static str = "vxlan";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["vxlan"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let options = Options::read(config, node)?;
        let vtep = |family, name: String, overhead| {
            let device = Vxlan {
                name,
                vni: options.vni,
                port: options.port,
                family,
                learning: options.learning,
                gbp: options.gbp,
                mtu: options.mtu - overhead,
            };
            let link = links::ensure_vxlan(&device)?;
            let mac = link.mac().ok_or("the host gave the device no Ethernet address")?;
            Ok::<_, String>(Vtep { link, mac })
        };
        let v4 = node.ipv4_network.map(|_| vtep(Family::V4, options.device_v4(), OVERHEAD_V4)).transpose()?;
        let v6 = node.ipv6_network.map(|_| vtep(Family::V6, options.device_v6(), OVERHEAD_V6)).transpose()?;
        let published = |vtep: &Vtep| published(options.vni, vtep.mac);
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            backend_data: v4.as_ref().map(published),
            backend_v6_data: v6.as_ref().map(published),
            // Upstream's figure in dual stack too; the IPv6 device's own MTU makes larger IPv6 packets smaller.
            mtu: options.mtu - if v4.is_some() { OVERHEAD_V4 } else { OVERHEAD_V6 },
        };
        Ok((Self { direct_routing: options.direct_routing, v4, v6 }, registration))
    }

    /// The subnet's own address alone (/32, /128), so that the kernel makes no connected route of it.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnets = [own.ipv4_subnet.map(IpNet::from), own.ipv6_subnet.map(IpNet::from)];
        for (vtep, subnet) in [&self.v4, &self.v6].into_iter().zip(subnets) {
            if let Some(vtep) = vtep {
                let subnet = subnet.ok_or("the lease lacks a subnet of a family that the cluster has")?;
                vtep.link.set_addresses(&[IpNet::from(subnet.network())])?;
            }
        }
        Ok(())
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            log::debug("ignoring a peer of another backend", &[("type", &lease.backend_type)]);
            return Ok(());
        }
        if let (Some(vtep), Some(subnet), Some(public)) = (&self.v4, lease.ipv4_subnet, lease.public_ipv4) {
            let data = ("BackendData", lease.backend_data.as_deref());
            self.reach(peer, vtep, subnet.into(), public.into(), data)?;
        }
        if let (Some(vtep), Some(subnet), Some(public)) = (&self.v6, lease.ipv6_subnet, lease.public_ipv6) {
            let data = ("BackendV6Data", lease.backend_v6_data.as_deref());
            self.reach(peer, vtep, subnet.into(), public.into(), data)?;
        }
        Ok(())
    }
}

impl VxlanPolicy {
    /// All that it takes for packets to a peer's subnet.
    fn reach(
        &self,
        peer: PeerId,
        vtep: &Vtep,
        subnet: IpNet,
        public: IpAddr,
        data: (&str, Option<&str>),
    ) -> Result<(), String> {
        if self.direct_routing && links::is_on_link(public)? {
            let route = Route { destination: subnet, via: public, onlink: false };
            return Ok(routes::put(peer, &route, &links::external())?);
        }
        let mac = peer_mac(data)?;
        neighbours::put(peer, subnet.network(), mac, &vtep.link)?;
        fdb::put(peer, mac, public, &vtep.link)?;
        let route = Route { destination: subnet, via: subnet.network(), onlink: true };
        Ok(routes::put(peer, &route, &vtep.link)?)
    }
}

/// Byte for byte what upstream publishes; its node annotations are read back by position, so the MAC stays last.
fn published(vni: u32, mac: Mac) -> String {
    format!(r#"{{"VNI":{vni},"VtepMAC":{}}}"#, json!(mac.to_string()))
}

/// The MAC address in a peer's published data, where others send frames to.
fn peer_mac((field, data): (&str, Option<&str>)) -> Result<Mac, String> {
    let data = data.ok_or_else(|| format!("{field} is missing: the peer has published no VTEP"))?;
    let data = Config::parse(data).map_err(|error| format!("{field}: {error}"))?;
    let mac = data.text("VtepMAC").map_err(|error| format!("{field}.{error}"))?;
    let mac: Mac = mac.ok_or_else(|| format!("{field}.VtepMAC is missing"))?.parse()?;
    if mac.0[0] & 1 != 0 || mac.0 == [0; 6] {
        return Err(format!("{field}.VtepMAC: {mac} is no address of a single device"));
    }
    Ok(mac)
}

flannel_backend::export!(VxlanPolicy);

#[cfg(test)]
mod tests;
