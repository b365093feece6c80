//! Which tunnels and which peers the firewall is told of, so that only nodes send into the tunnels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use flannel_base::Family;
use flannel_firewall::Tunnel;
use flannel_model::entry::DeviceSpec;
use flannel_model::network_config::NetworkConfig;
use flannel_model::tunnel_link::{Payload, TunnelKind, TunnelLink};
use flannel_plugin_host::PeerChange;
use ipnet::IpNet;

/// Devices, by their names.
pub(super) type Devices = BTreeMap<Arc<str>, DeviceSpec>;

/// The tunnels of some devices.
pub(super) fn tunnels(config: &NetworkConfig, devices: &Devices) -> BTreeSet<Tunnel> {
    devices.values().flat_map(|device| of_device(config, device)).collect()
}

fn of_device(config: &NetworkConfig, device: &DeviceSpec) -> Vec<Tunnel> {
    match device {
        DeviceSpec::Vxlan(vxlan) => {
            vec![Tunnel::Vxlan { family: Family::of(vxlan.local), port: vxlan.port, vni: vxlan.vni }]
        }
        DeviceSpec::Ipip(_) => config.network.map(|inner| Tunnel::Ipip { inner }).into_iter().collect(),
        DeviceSpec::TunnelLink(link) => of_link(config, link),
        // The first looks itself who sends, and nobody sends into the others without a key.
        DeviceSpec::Tunnel(_) | DeviceSpec::Wireguard(_) | DeviceSpec::Ipsec(_) => Vec::new(),
    }
}

fn of_link(config: &NetworkConfig, link: &TunnelLink) -> Vec<Tunnel> {
    let networks = || {
        let v4 = config.network.map(IpNet::V4);
        v4.into_iter().chain(config.ipv6_network.map(IpNet::V6))
    };
    let mut tunnels: Vec<Tunnel> = match &link.kind {
        TunnelKind::Gre { way, .. } => {
            let family = way.family();
            networks().map(|inner| Tunnel::Gre { family, inner: Some(inner) }).collect()
        }
        TunnelKind::Gretap { family, .. } => vec![Tunnel::Gre { family: *family, inner: None }],
        TunnelKind::Geneve { port, .. } => {
            Family::ALL.map(|family| Tunnel::Udp { family, port: *port }).into()
        }
        TunnelKind::IpTunnel { way, carries } => networks()
            .filter(|inner| carries.has(Family::of(inner.addr())))
            .map(|inner| match (way.family(), inner) {
                (Family::Ipv4, IpNet::V4(inner)) if *carries == Payload::Ipv4 => Tunnel::Ipip { inner },
                (family, inner) => Tunnel::IpInIp { family, inner },
            })
            .collect(),
        // A link like the external interface: whoever is on it is trusted as there.
        TunnelKind::Vlan { .. } => Vec::new(),
    };
    // What comes in UDP has passed the filter as that.
    tunnels.extend(link.udp().map(|udp| Tunnel::Udp { family: Family::Ipv4, port: udp.port }));
    tunnels
}

/// Peers by their numbers, with the addresses that they send from; without any, they are gone.
pub(super) fn addresses(peers: &[PeerChange]) -> impl Iterator<Item = (u64, Vec<IpAddr>)> {
    peers.iter().map(|change| match change {
        PeerChange::Put(id, lease) => (id.0, lease.attributes.public_addresses().collect()),
        PeerChange::Removed(id) => (id.0, Vec::new()),
    })
}
