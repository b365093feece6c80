//! `tunnel-links`: GRE, Geneve, IP in IP and VLAN devices of the plugin's own.

use std::net::IpAddr;

use flannel_base::Family;
use flannel_model::entry::{Device, DeviceSpec, Entry, LinkAddress};
use flannel_model::tunnel_link::{
    GENEVE_PORT, Payload, TunnelKind, TunnelLink, UdpEncapsulation, UdpKind, VlanProtocol, Way, compatible,
};
use wasmtime::component::Resource;

use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::links::IpFamily;
use crate::bindings::flannel::backend::tunnel_links::{self as wit, Error};
use crate::convert;

/// The least MTU of a device that carries IPv6 (RFC 8200), and of one that does not (RFC 791).
const LEAST_MTU: [u32; 2] = [1280, 68];
/// VLAN identifiers: 0 is no VLAN, and 4095 is kept for others (IEEE 802.1Q).
const LAST_VLAN: u16 = 4094;

impl wit::Host for HostState {
    fn ensure_gre(&mut self, device: wit::Gre) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("tunnel-links.ensure-gre")?;
        let device = self.checked_gre(device).map(DeviceSpec::TunnelLink);
        self.declared("tunnel-links.ensure-gre", device)
    }

    fn ensure_gretap(
        &mut self,
        device: wit::Gretap,
    ) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("tunnel-links.ensure-gretap")?;
        let device = self.checked_gretap(device).map(DeviceSpec::TunnelLink);
        self.declared("tunnel-links.ensure-gretap", device)
    }

    fn ensure_geneve(
        &mut self,
        device: wit::Geneve,
    ) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("tunnel-links.ensure-geneve")?;
        let device = self.checked_geneve(device).map(DeviceSpec::TunnelLink);
        self.declared("tunnel-links.ensure-geneve", device)
    }

    fn ensure_ip_tunnel(
        &mut self,
        device: wit::IpTunnel,
    ) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("tunnel-links.ensure-ip-tunnel")?;
        let device = self.checked_ip_tunnel(device).map(DeviceSpec::TunnelLink);
        self.declared("tunnel-links.ensure-ip-tunnel", device)
    }

    fn ensure_vlan(&mut self, device: wit::Vlan) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("tunnel-links.ensure-vlan")?;
        let device = self.checked_vlan(device).map(DeviceSpec::TunnelLink);
        self.declared("tunnel-links.ensure-vlan", device)
    }
}

/// What a plugin says of how packets find their node.
#[derive(Clone, Copy)]
struct Asked {
    outer: IpFamily,
    external: bool,
    udp: Option<wit::UdpEncapsulation>,
}

impl HostState {
    fn checked_gre(&self, device: wit::Gre) -> Result<TunnelLink, Error> {
        let wit::Gre { name, outer, key, external, udp, mtu } = device;
        self.check_device(&name, mtu, self.least_mtu(true))?;
        if external && key.is_some() {
            return Err(Error::InvalidArgument(format!(
                "{name}: a GRE device that is external has no key; its routes have"
            )));
        }
        let way = self.checked_way(&name, Asked { outer, external, udp })?;
        Ok(TunnelLink { name: name.into(), mtu, kind: TunnelKind::Gre { way, key } })
    }

    fn checked_gretap(&self, device: wit::Gretap) -> Result<TunnelLink, Error> {
        let wit::Gretap { name, outer, mtu } = device;
        self.check_device(&name, mtu, self.least_mtu(true))?;
        let family = convert::family(outer);
        self.check_local(&name, family)?;
        let mac = self.environment.links.mac(&name, 0, family);
        Ok(TunnelLink { name: name.into(), mtu, kind: TunnelKind::Gretap { family, mac } })
    }

    fn checked_geneve(&self, device: wit::Geneve) -> Result<TunnelLink, Error> {
        let wit::Geneve { name, port, mtu } = device;
        self.check_device(&name, mtu, self.least_mtu(true))?;
        let port = port.unwrap_or(GENEVE_PORT);
        Self::check_port(&name, port)?;
        let family = if self.environment.node.ipv4.is_some() { Family::Ipv4 } else { Family::Ipv6 };
        let mac = self.environment.links.mac(&name, 0, family);
        Ok(TunnelLink { name: name.into(), mtu, kind: TunnelKind::Geneve { port, mac } })
    }

    fn checked_ip_tunnel(&self, device: wit::IpTunnel) -> Result<TunnelLink, Error> {
        let wit::IpTunnel { name, outer, carries, external, udp, mtu } = device;
        let carries = match carries {
            wit::Payload::Ipv4 => Payload::Ipv4,
            wit::Payload::Ipv6 => Payload::Ipv6,
            wit::Payload::Both => Payload::Both,
        };
        let has_v6 = carries.has(Family::Ipv6);
        // The kernel's SIT devices have the least MTU of IPv6, whatever the cluster has.
        let least = if has_v6 && outer == IpFamily::Ipv4 { LEAST_MTU[0] } else { self.least_mtu(has_v6) };
        self.check_device(&name, mtu, least)?;
        let invalid = |text: &str| Err(Error::InvalidArgument(format!("{name}: {text}")));
        if external && has_v6 && outer == IpFamily::Ipv4 {
            return invalid(
                "no device that carries IPv6 in IPv4 is external; GRE and Geneve devices are, or it is reached by next hops",
            );
        }
        if carries == Payload::Both && matches!(udp, Some(wit::UdpEncapsulation::Fou(_))) {
            return invalid("FOU says by its port what it carries, which is IPv4 or IPv6; GUE carries both");
        }
        let way = self.checked_way(&name, Asked { outer, external, udp })?;
        Ok(TunnelLink { name: name.into(), mtu, kind: TunnelKind::IpTunnel { way, carries } })
    }

    fn checked_vlan(&self, device: wit::Vlan) -> Result<TunnelLink, Error> {
        let wit::Vlan { name, id, protocol, mtu } = device;
        self.check_device(&name, mtu, self.least_mtu(true))?;
        let carried = convert::carried(self.environment.node.mtu);
        let invalid = |text: String| Err(Error::InvalidArgument(format!("{name}: {text}")));
        if mtu > carried {
            return invalid(format!(
                "an MTU of {mtu} is more than the external interface carries, {carried}"
            ));
        }
        if !(1..=LAST_VLAN).contains(&id) {
            return invalid(format!("VLAN {id} is not between 1 and {LAST_VLAN}"));
        }
        let protocol = match protocol {
            wit::VlanProtocol::Ieee8021q => VlanProtocol::Ieee8021Q,
            wit::VlanProtocol::Ieee8021ad => VlanProtocol::Ieee8021Ad,
        };
        Ok(TunnelLink { name: name.into(), mtu, kind: TunnelKind::Vlan { id, protocol } })
    }

    /// The least MTU of a device that may carry IPv6, or does not.
    fn least_mtu(&self, may_have_v6: bool) -> u32 {
        LEAST_MTU[usize::from(!may_have_v6 || self.environment.node.ipv6_network.is_none())]
    }

    fn check_local(&self, name: &str, family: Family) -> Result<(), Error> {
        let node = &self.environment.node;
        let is_there = match family {
            Family::Ipv4 => node.ipv4.is_some(),
            Family::Ipv6 => node.ipv6.is_some(),
        };
        if is_there { Ok(()) } else { Err(lacks(name, family)) }
    }

    fn checked_way(&self, name: &str, asked: Asked) -> Result<Way, Error> {
        let invalid = |text: &str| Err(Error::InvalidArgument(format!("{name}: {text}")));
        let family = convert::family(asked.outer);
        self.check_local(name, family)?;
        let udp = asked.udp.map(|udp| match udp {
            wit::UdpEncapsulation::Fou(port) => UdpEncapsulation { kind: UdpKind::Fou, port },
            wit::UdpEncapsulation::Gue(port) => UdpEncapsulation { kind: UdpKind::Gue, port },
        });
        udp.map_or(Ok(()), |udp| Self::check_port(name, udp.port))?;
        match (family, asked.external) {
            (_, true) if udp.is_some() => invalid(
                "UDP encapsulation is for devices that find nodes by next hops, and not for one that is external",
            ),
            (_, true) => Ok(Way::Route { family }),
            (Family::Ipv6, false) => invalid(
                "over IPv6 a device is external: a next hop of the underlay would have to be reached through the device",
            ),
            (Family::Ipv4, false) => {
                let local = self.environment.node.ipv4.ok_or_else(|| lacks(name, family))?;
                Ok(Way::NextHop { local, udp })
            }
        }
    }

    fn tunnel_link(&self, device: &Device) -> Option<&TunnelLink> {
        let Device::Own(name) = device else { return None };
        match self.devices.get(name) {
            Some(DeviceSpec::TunnelLink(link)) => Some(link),
            _ => None,
        }
    }

    /// Refuses a next hop by which a device cannot find a node. `encapsulated`: the route says where its packets go.
    pub(super) fn check_next_hop(
        &self,
        device: &Device,
        via: Option<IpAddr>,
        encapsulated: bool,
    ) -> Result<(), Error> {
        let Some(link) = self.tunnel_link(device) else { return Ok(()) };
        let invalid = |text: String| Err(Error::InvalidArgument(format!("{device}: {text}")));
        if link.is_external() && !encapsulated {
            return invalid(
                "it is external: its routes say where packets go, which those of `routes` cannot".to_owned(),
            );
        }
        match (link.way(), via) {
            (Some(Way::NextHop { .. }), None) => {
                invalid("it finds nodes by next hops, and the route has none".to_owned())
            }
            (Some(Way::NextHop { .. }), Some(IpAddr::V6(via))) if compatible(via).is_none() => {
                invalid(format!(
                    "the next hop {via} is no IPv4 address in the form ::192.0.2.1, which is how it finds nodes"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Refuses Ethernet addresses on a device that has none.
    pub(super) fn check_ethernet(&self, device: &Device) -> Result<(), Error> {
        let has_none =
            |link: &&TunnelLink| matches!(link.kind, TunnelKind::Gre { .. } | TunnelKind::IpTunnel { .. });
        match self.tunnel_link(device).filter(has_none) {
            Some(_) => Err(Error::Denied(format!("{device} has no Ethernet addresses"))),
            None => Ok(()),
        }
    }

    /// What a device has to be told of an entry's next hops.
    pub(super) fn neighbours_of(&self, entry: &Entry) -> Vec<Entry> {
        let neighbour = |device: &Device, via: Option<IpAddr>| {
            let address = via?;
            let link_address = LinkAddress::Ipv4(self.tunnel_link(device)?.neighbour(address)?);
            Some(Entry::Neighbour { address, link_address, device: device.clone() })
        };
        match entry {
            Entry::Route { via, device, .. } => neighbour(device, *via).into_iter().collect(),
            Entry::PolicyRoute(route) => {
                route.hops.iter().filter_map(|hop| neighbour(&hop.device, hop.via)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn lacks(name: &str, family: Family) -> Error {
    Error::InvalidArgument(format!("{name}: the external interface has no address of the family {family:?}"))
}
