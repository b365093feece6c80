//! A policy for each kind of device of `tunnel-links`. Its options are the network config's:
//!
//! | option | |
//! |---|---|
//! | `Device` | `gre`, `sit`, `ipip`, `ip` (both families over IPv4), `vlan`: peers are next hops; `geneve`, and `gre`, `gretap`, `ipip`, `ip6gre`, `ip6gretap`, `ip6tnl` with `-external` behind it: routes say where packets go |
//! | `Key` | of `gre`, and the number in routes where devices have one, 5 without it |
//! | `Outer` | `ipv6`: `geneve` leads to public IPv6 addresses |
//! | `Udp` | `fou` or `gue`: the tunnel's packets go in UDP |
//! | `Port` | of that, 5555 without it, and of `geneve` |
//! | `ID` | of `vlan`, 77 without it |
//! | `Protocol` | of `vlan`, `802.1Q` without it, or `802.1ad` |

use std::net::IpAddr;

use flannel_backend::ipnet::IpNet;
use flannel_backend::policy_routing::{self, Encapsulation, NextHop, Tunnel};
use flannel_backend::serde_json::json;
use flannel_backend::tunnel_links::{
    self, Geneve, Gre, Gretap, IpTunnel, Payload, UdpEncapsulation, Vlan, VlanProtocol, next_hop_for_ipv6,
};
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, neighbours, routes,
};

/// The device's name, whatever its kind.
const DEVICE: &str = "flannel.tl";
const UDP_PORT: u16 = 5555;
const VLAN: u16 = 77;
/// GRE's key, and Geneve's VNI, in routes.
const NUMBER: u32 = 5;
/// Of routes with what is put around packets.
const METRIC: u32 = 200;

/// Whom a peer's packets are given to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hop {
    /// Its public IPv4 address.
    Public,
    /// The first address of its subnet, which is on its device.
    OnDevice,
    /// The node that the route says, of this family, and with a number.
    Route(Family, Option<u64>),
}

/// The policy.
pub struct Tunnels {
    link: Link,
    hop: Hop,
    carries: Payload,
}

impl Tunnels {
    fn carries(&self, address: IpAddr) -> bool {
        match self.carries {
            Payload::Both => true,
            Payload::Ipv4 => address.is_ipv4(),
            Payload::Ipv6 => address.is_ipv6(),
        }
    }

    /// The subnets of a lease that go over the device.
    fn subnets(&self, lease: &Lease) -> impl Iterator<Item = IpNet> {
        let both = [lease.ipv4_subnet.map(IpNet::V4), lease.ipv6_subnet.map(IpNet::V6)];
        both.into_iter().flatten().filter(|subnet| self.carries(subnet.addr()))
    }
}

impl Tunnels {
    /// A route that says where its packets go.
    fn put_encapsulated(
        &self,
        peer: PeerId,
        lease: &Lease,
        subnet: IpNet,
        family: Family,
        id: Option<u64>,
    ) -> Result<(), String> {
        let public = match family {
            Family::V4 => lease.public_ipv4.map(IpAddr::V4),
            Family::V6 => lease.public_ipv6.map(IpAddr::V6),
        };
        let Some(destination) = public else { return Ok(()) };
        let around = Encapsulation::Tunnel(Tunnel { id, ..Tunnel::to(destination) });
        // Frames have to be addressed to somebody on the device.
        let hop = match self.link.mac() {
            Some(_) => NextHop { onlink: true, ..NextHop::via(subnet.network(), &self.link).with(around) },
            None => NextHop::by(around, &self.link),
        };
        Ok(policy_routing::put_route(peer, &policy_routing::Route::new(subnet, METRIC), &[hop])?)
    }
}

fn short(config: &Config, name: &str) -> Result<Option<u16>, String> {
    let number = config.number(name, 0..=u16::MAX.into())?;
    Ok(number.and_then(|number| u16::try_from(number).ok()))
}

fn udp(config: &Config) -> Result<Option<UdpEncapsulation>, String> {
    let port = short(config, "Port")?.unwrap_or(UDP_PORT);
    Ok(match config.text("Udp")? {
        None => None,
        Some("fou") => Some(UdpEncapsulation::Fou(port)),
        Some("gue") => Some(UdpEncapsulation::Gue(port)),
        Some(other) => return Err(format!("Udp is fou or gue, and not {other:?}")),
    })
}

/// Declares the device that the config names. `mtu`: what the external interface carries.
fn device(config: &Config, mtu: u32) -> Result<Tunnels, String> {
    let (kind, udp) = (config.text("Device")?.unwrap_or("gre"), udp(config)?);
    let (kind, external) = kind.strip_suffix("-external").map_or((kind, false), |kind| (kind, true));
    let key = config.number("Key", 0..=u32::MAX)?;
    let over_ipv6 = kind.starts_with("ip6") || config.text("Outer")? == Some("ipv6");
    let (outer, name) = (if over_ipv6 { Family::V6 } else { Family::V4 }, DEVICE.to_owned());
    let in_udp = match udp {
        None => 0,
        Some(UdpEncapsulation::Fou(_)) => 8,
        Some(UdpEncapsulation::Gue(_)) => 12,
    };
    let by_number = Hop::Route(outer, Some(key.unwrap_or(NUMBER).into()));
    let usual = |numbered: bool| match (external, numbered) {
        (false, _) => Hop::Public,
        (true, true) => by_number,
        (true, false) => Hop::Route(outer, None),
    };
    // An external device has no key of its own.
    let key = key.filter(|_| !external);
    let (link, hop, carries) = match kind {
        "gre" | "ip6gre" => {
            // A key, and over IPv6 the limit of encapsulations.
            let overhead = if outer == Family::V4 { 28 } else { 56 };
            let mtu = mtu - overhead - in_udp;
            let device = Gre { name, outer, key, external, udp, mtu };
            (tunnel_links::ensure_gre(&device)?, usual(true), Payload::Both)
        }
        "gretap" | "ip6gretap" => {
            let mtu = mtu - if outer == Family::V4 { 42 } else { 70 };
            (tunnel_links::ensure_gretap(&Gretap { name, outer, mtu })?, by_number, Payload::Both)
        }
        "geneve" => {
            let port = short(config, "Port")?;
            let device = Geneve { name, port, mtu: mtu - 70 };
            (tunnel_links::ensure_geneve(&device)?, by_number, Payload::Both)
        }
        "sit" | "ipip" | "ip" | "ip6tnl" => {
            let carries = match kind {
                "sit" => Payload::Ipv6,
                "ipip" => Payload::Ipv4,
                _ => Payload::Both,
            };
            let mtu = mtu - if outer == Family::V4 { 20 } else { 48 } - in_udp;
            let device = IpTunnel { name, outer, carries, external, udp, mtu };
            (tunnel_links::ensure_ip_tunnel(&device)?, usual(false), carries)
        }
        "vlan" => {
            let id = short(config, "ID")?.unwrap_or(VLAN);
            let protocol = match config.text("Protocol")?.unwrap_or("802.1Q") {
                "802.1Q" => VlanProtocol::Ieee8021Q,
                "802.1ad" => VlanProtocol::Ieee8021Ad,
                other => return Err(format!("Protocol: {other:?} is neither 802.1Q nor 802.1ad")),
            };
            let device = Vlan { name, id, protocol, mtu };
            (tunnel_links::ensure_vlan(&device)?, Hop::OnDevice, Payload::Both)
        }
        other => return Err(format!("Device: {other:?} is no kind of device")),
    };
    Ok(Tunnels { link, hop, carries })
}

/// The Ethernet address that a peer has published; none: its device has none.
fn published(data: Option<&str>) -> Result<Option<Mac>, String> {
    let Some(data) = data.filter(|data| *data != "null") else { return Ok(None) };
    let data = Config::parse(data)?;
    let Some(text) = data.text("MAC")? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| format!("MAC: {text:?} is no Ethernet address"))
}

impl Policy for Tunnels {
    const NAME: &'static str = "tunnels";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["tunnels"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let policy = device(config, node.external.mtu)?;
        let data = policy.link.mac().map(|mac| json!({ "MAC": mac.to_string() }).to_string());
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            backend_data: data.clone().filter(|_| node.ipv4_network.is_some()),
            backend_v6_data: data.filter(|_| node.ipv6_network.is_some()),
            mtu: policy.link.mtu(),
        };
        Ok((policy, registration))
    }

    /// Their first addresses alone, so that the kernel makes no connected routes of them.
    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let first: Vec<IpNet> = self.subnets(own).map(|subnet| IpNet::from(subnet.network())).collect();
        Ok(self.link.set_addresses(&first)?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            return Ok(());
        }
        for subnet in self.subnets(lease) {
            let data = if subnet.addr().is_ipv4() { &lease.backend_data } else { &lease.backend_v6_data };
            if let Some(mac) = published(data.as_deref())? {
                neighbours::put(peer, subnet.network(), mac, &self.link)?;
            }
            let via = match (self.hop, lease.public_ipv4) {
                (Hop::Route(family, id), _) => {
                    self.put_encapsulated(peer, lease, subnet, family, id)?;
                    continue;
                }
                (Hop::Public, None) => continue,
                (Hop::OnDevice, _) => subnet.network(),
                (Hop::Public, Some(public)) if subnet.addr().is_ipv4() => public.into(),
                (Hop::Public, Some(public)) => next_hop_for_ipv6(public).into(),
            };
            routes::put(peer, &Route { destination: subnet, via, onlink: true }, &self.link)?;
        }
        Ok(())
    }
}

flannel_backend::export!(Tunnels);

#[cfg(test)]
mod tests;
