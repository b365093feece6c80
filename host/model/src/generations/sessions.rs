//! Which of two WireGuard devices may call a peer.
//!
//! A node has one key, whatever devices it has, and a peer knows it by that alone: were both devices to call the same port of a peer, each
//! would take the other's session and address away there, and what the peer sends would come to the wrong one. A peer that serves both
//! generations listens on a port for each, and is called on each by one device.

use crate::entry::{Device, DeviceSpec, Entry};
use crate::ledger::{PeerId, Slot};
use crate::wireguard::WireguardPeer;

use super::Generations;

impl Generations {
    /// Whether a peer's entry has to wait because the other generation's device calls the same port of it.
    pub(super) fn is_called_by_other(&self, peer: PeerId, slot: Slot, entry: &Entry) -> bool {
        let Some((device, called)) = wireguard_peer(entry) else { return false };
        let other = slot.other();
        let of_other = self.wanted[other as usize].peers.get(&peer).into_iter().flatten();
        let mut of_other = of_other.filter_map(wireguard_peer);
        let same = of_other.find(|(of, there)| *of != device && is_same_port(called, there));
        let Some((others_device, _)) = same else { return false };
        // All nodes have the same port, as a rule: it tells which generation the peer has.
        let listens =
            |slot, device| self.listens_on(slot, device) == called.endpoint.map(|endpoint| endpoint.port());
        match (listens(slot, device), listens(other, others_device)) {
            (true, false) => false,
            (false, true) => true,
            _ => self.used(peer) != slot,
        }
    }

    fn listens_on(&self, slot: Slot, device: &Device) -> Option<u16> {
        let Device::Own(name) = device else { return None };
        match self.wanted[slot as usize].devices.get(name)? {
            DeviceSpec::Wireguard(device) => Some(device.port),
            _ => None,
        }
    }
}

fn wireguard_peer(entry: &Entry) -> Option<(&Device, &WireguardPeer)> {
    match entry {
        Entry::WireguardPeer { device, peer } => Some((device, peer)),
        _ => None,
    }
}

fn is_same_port(one: &WireguardPeer, other: &WireguardPeer) -> bool {
    one.key == other.key && one.endpoint.is_some() && one.endpoint == other.endpoint
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use crate::entry::{Key, Wireguard};
    use crate::ledger::{Ledger, Transaction};
    use crate::wireguard::{Keys, PublicKey};

    use super::*;

    const PEER: PeerId = PeerId(7);
    const FORMER: u16 = 51820;
    const NEW: u16 = 51830;

    fn device(port: u16) -> Transaction {
        let private = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".parse().expect("a key");
        let name: Arc<str> = "flannel-wg".into();
        let spec = Wireguard { name: Arc::clone(&name), port, mtu: 1420, keys: Keys::of(private) };
        Transaction { devices: [(name, DeviceSpec::Wireguard(spec))].into(), ..Transaction::default() }
    }

    fn peer(port: u16) -> Transaction {
        let peer = WireguardPeer {
            key: PublicKey([7; 32]),
            endpoint: Some(([192, 168, 0, 7], port).into()),
            allowed: BTreeSet::new(),
            keepalive: 0,
            preshared: None,
        };
        let entry = Entry::WireguardPeer { device: Device::Own("flannel-wg".into()), peer: Arc::new(peer) };
        Transaction { peers: [(PEER, Some(vec![entry]))].into(), ..Transaction::default() }
    }

    /// A change from one port to another, of which the peer has not spoken yet.
    fn begun() -> (Ledger, Generations) {
        let mut ledger = Ledger::default();
        ledger.commit(device(FORMER));
        ledger.commit(peer(FORMER));
        let (both, begun) = Generations::begin(&ledger, device(NEW), Slot::Serving, Vec::new());
        ledger.commit(begun);
        (ledger, both)
    }

    /// The devices that call the peer, and its ports that they call.
    fn calls(ledger: &Ledger) -> Vec<(&'static str, u16)> {
        let port = |name: &str| {
            let key = Key::WireguardPeer(Device::Own(name.into()), Arc::new(PublicKey([7; 32])));
            match ledger.entry(&key) {
                Some(Entry::WireguardPeer { peer, .. }) => Some(peer.endpoint?.port()),
                _ => None,
            }
        };
        ["flannel-wg", "flannel-wg-n"].into_iter().filter_map(|name| Some((name, port(name)?))).collect()
    }

    #[test]
    fn a_peer_that_has_one_port_yet_is_called_by_the_device_that_serves_alone() {
        let (mut ledger, mut both) = begun();
        ledger.commit(both.commit(Slot::Beside, peer(FORMER)));
        assert_eq!(calls(&ledger), [("flannel-wg", FORMER)]);
    }

    #[test]
    fn a_peer_with_a_port_for_each_generation_is_called_by_both_devices() {
        let (mut ledger, mut both) = begun();
        ledger.commit(both.commit(Slot::Beside, peer(FORMER)));
        ledger.commit(both.commit(Slot::Beside, peer(NEW)));
        assert_eq!(calls(&ledger), [("flannel-wg", FORMER), ("flannel-wg-n", NEW)]);
    }

    #[test]
    fn a_peer_that_has_the_new_port_alone_is_called_by_the_new_device_alone() {
        let (mut ledger, mut both) = begun();
        ledger.commit(both.commit(Slot::Beside, peer(NEW)));
        ledger.commit(both.commit(Slot::Serving, peer(NEW)));
        assert_eq!(calls(&ledger), [("flannel-wg-n", NEW)]);
    }

    #[test]
    fn a_port_that_neither_has_is_called_by_the_device_that_is_used() {
        let (mut ledger, mut both) = begun();
        ledger.commit(both.commit(Slot::Beside, peer(4000)));
        ledger.commit(both.commit(Slot::Serving, peer(4000)));
        assert_eq!(calls(&ledger), [("flannel-wg", 4000)]);
        ledger.commit(both.use_for([(PEER, Slot::Beside, Vec::new())]));
        assert_eq!(calls(&ledger), [("flannel-wg-n", 4000)]);
    }

    #[test]
    fn a_peer_that_is_withheld_from_neither_is_there_when_the_other_one_goes() {
        let (mut ledger, mut both) = begun();
        ledger.commit(both.commit(Slot::Beside, peer(FORMER)));
        let gone = Transaction { peers: [(PEER, None)].into(), ..Transaction::default() };
        ledger.commit(both.commit(Slot::Serving, gone));
        assert_eq!(calls(&ledger), [("flannel-wg-n", FORMER)]);
    }
}
