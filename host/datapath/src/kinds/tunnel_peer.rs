//! Subnets behind the tunnels of this process.

use std::net::IpAddr;
use std::sync::Arc;

use flannel_model::entry::{Device, Key};
use ipnet::IpNet;

use crate::observed::{Observation, ObservedState};
use crate::plan::{Draft, Stage};
use crate::tunnels::TunnelChange;

impl Draft<'_> {
    pub(super) fn put_tunnel_peer(
        &mut self,
        destination: IpNet,
        endpoint: IpAddr,
        device: &Device,
        index: u32,
    ) {
        let there = self.planner.kernel.tunnelled.get(&(index, destination));
        if let (Device::Own(name), true) = (device, there != Some(&endpoint)) {
            let key = Key::TunnelPeer(device.clone(), destination);
            let change = TunnelChange::Put(destination, endpoint);
            let fact = Observation::TunnelPeer(index, destination, Some(endpoint));
            self.tunnel_step(Stage::PutTunnelPeer, key, Arc::clone(name), change, fact);
        }
    }

    pub(super) fn remove_tunnel_peer(&mut self, key: &Key, device: &Device, subnet: IpNet) {
        let Some(index) = self.present(device) else { return };
        if let (Device::Own(name), true) =
            (device, self.planner.kernel.tunnelled.contains_key(&(index, subnet)))
        {
            let change = TunnelChange::Remove(subnet);
            let fact = Observation::TunnelPeer(index, subnet, None);
            self.tunnel_step(Stage::DeleteTunnelPeer, key.clone(), Arc::clone(name), change, fact);
        }
    }
}

/// Ours: all of our devices.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.tunnelled.keys().filter_map(|(index, subnet)| {
        Some(Key::TunnelPeer(Device::Own(kernel.own_device(*index)?.clone()), *subnet))
    })
}
