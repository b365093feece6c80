//! Forwarding database entries of our VXLAN devices.

use std::net::IpAddr;

use flannel_model::entry::{Device, Key, Mac};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use crate::netlink::{Message, Payload, create_or_replace};
use crate::observed::{Fdb, Observation, ObservedState};
use crate::plan::{Draft, Stage};

/// A forwarding database entry of ours; without a destination, as a deletion may have it.
fn fdb(index: u32, mac: Mac, destination: Option<IpAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(destination.map(|address| NeighbourAttribute::Destination(address.into())));
    message
}

/// A request for the forwarding database of a device.
pub(crate) fn all_fdb(index: u32) -> Payload {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    Payload::Route(Rt::GetNeighbour(message))
}

impl Draft<'_> {
    pub(super) fn put_fdb(&mut self, key: Key, mac: Mac, destination: IpAddr, index: u32) {
        let wanted = Fdb { destination: Some(destination), permanent: true };
        if self.planner.kernel.fdb.get(&(index, mac)) != Some(&wanted) {
            self.step(
                Stage::PutFdb,
                Some(key),
                create_or_replace(Payload::Route(Rt::NewNeighbour(fdb(index, mac, Some(destination))))),
                Observation::Fdb(index, mac, Some(wanted)),
            );
        }
    }

    pub(super) fn remove_fdb(&mut self, key: &Key, device: &Device, mac: Mac) {
        let Some(index) = self.present(device) else { return };
        if self.planner.kernel.fdb.contains_key(&(index, mac)) {
            self.step(
                Stage::DeleteFdb,
                Some(key.clone()),
                Message::plain(Payload::Route(Rt::DelNeighbour(fdb(index, mac, None)))),
                Observation::Fdb(index, mac, None),
            );
        }
    }
}

/// Ours: permanent ones on our devices, but for the one of all zeros, to which the kernel floods.
pub(super) fn ours(kernel: &ObservedState) -> impl Iterator<Item = Key> {
    let found = kernel.fdb.iter().filter(|((_, mac), entry)| is_stray(mac, entry));
    found
        .filter_map(|((index, mac), _)| Some(Key::Fdb(Device::Own(kernel.own_device(*index)?.clone()), *mac)))
}

/// Whether an entry of a device of ours is one that only the policy's belong to.
pub(super) fn is_stray(mac: &Mac, entry: &Fdb) -> bool {
    entry.permanent && mac.0 != [0; 6]
}
