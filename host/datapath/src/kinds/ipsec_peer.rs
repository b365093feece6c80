//! Subnets behind XFRM interfaces.

use std::sync::Arc;

use flannel_model::entry::{Device, Key};
use flannel_model::ipsec::IpsecPeer;
use ipnet::IpNet;

use crate::ipsec::{IpsecChange, There};
use crate::observed::{Observation, ObservedState};
use crate::plan::{Draft, Stage};

impl Draft<'_> {
    pub(super) fn put_ipsec_peer(&mut self, peer: &Arc<IpsecPeer>, device: &Device, index: u32) {
        let there = self.planner.kernel.ipsec.get(&(index, peer.subnet));
        let wanted = There::Whole(Arc::clone(peer));
        if let (Device::Own(name), true) = (device, there != Some(&wanted)) {
            let key = Key::IpsecPeer(device.clone(), peer.subnet);
            let fact = Observation::IpsecPeer(index, peer.subnet, Some(wanted));
            let change = IpsecChange::Put(Arc::clone(peer));
            self.ipsec_step(Stage::PutTunnelPeer, key, Arc::clone(name), change, fact);
        }
    }

    pub(super) fn remove_ipsec_peer(&mut self, key: &Key, device: &Device, subnet: IpNet) {
        let Some(index) = self.present(device) else { return };
        if let (Device::Own(name), true) = (device, self.planner.kernel.ipsec.contains_key(&(index, subnet)))
        {
            let fact = Observation::IpsecPeer(index, subnet, None);
            let change = IpsecChange::Remove(subnet);
            self.ipsec_step(Stage::DeleteTunnelPeer, key.clone(), Arc::clone(name), change, fact);
        }
    }
}

/// Ours: all of our devices.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.ipsec.keys().filter_map(|(index, subnet)| {
        Some(Key::IpsecPeer(Device::Own(kernel.own_device(*index)?.clone()), *subnet))
    })
}
