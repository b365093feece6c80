//! Peers of our WireGuard devices.

use std::sync::Arc;

use flannel_model::entry::{Device, Key};
use flannel_model::wireguard::WireguardPeer;

use crate::observed::{Observation, ObservedState};
use crate::plan::{Draft, Stage};
use crate::wireguard::PeerChange;

impl Draft<'_> {
    pub(super) fn put_wireguard_peer(&mut self, key: Key, peer: &Arc<WireguardPeer>, index: u32) {
        let public = Arc::new(peer.key);
        let there = self.planner.kernel.wireguard.get(&(index, Arc::clone(&public)));
        if !there.is_some_and(|there| peer.is_met_by(there)) {
            let fact = Observation::WireguardPeer(index, public, Some(Arc::clone(peer)));
            let change = PeerChange::Put(Arc::clone(peer));
            self.wireguard_step(Stage::PutWireguardPeer, key, index, change, fact);
        }
    }

    pub(super) fn remove_wireguard_peer(&mut self, key: &Key) {
        let Key::WireguardPeer(device, peer) = key else { return };
        let Some(index) = self.present(device) else { return };
        if self.planner.kernel.wireguard.contains_key(&(index, Arc::clone(peer))) {
            let fact = Observation::WireguardPeer(index, Arc::clone(peer), None);
            let change = PeerChange::Remove(Arc::clone(peer));
            self.wireguard_step(Stage::DeleteWireguardPeer, key.clone(), index, change, fact);
        }
    }
}

/// Ours: all of our devices.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    kernel.wireguard.keys().filter_map(|(index, key)| {
        Some(Key::WireguardPeer(Device::Own(kernel.own_device(*index)?.clone()), Arc::clone(key)))
    })
}
