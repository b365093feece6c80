//! Which tunnels and which peers the firewall is told of, so that only nodes send into the tunnels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use flannel_base::Family;
use flannel_firewall::Tunnel;
use flannel_model::entry::DeviceSpec;
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::PeerChange;

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
        // The first looks itself who sends, and nobody sends into the others without a key.
        DeviceSpec::Tunnel(_) | DeviceSpec::Wireguard(_) | DeviceSpec::Ipsec(_) => Vec::new(),
    }
}

/// Peers by their numbers, with the addresses that they send from; without any, they are gone.
pub(super) fn addresses(peers: &[PeerChange]) -> impl Iterator<Item = (u64, Vec<IpAddr>)> {
    peers.iter().map(|change| match change {
        PeerChange::Put(id, lease) => (id.0, lease.attributes.public_addresses().collect()),
        PeerChange::Removed(id) => (id.0, Vec::new()),
    })
}
