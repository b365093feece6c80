//! Permanent neighbours on our devices.

use std::net::IpAddr;

use flannel_model::entry::{Device, Key, LinkAddress};
use ipnet::IpNet;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use super::family;
use crate::netlink::{Message, Payload, create_or_replace};
use crate::observed::{Fdb, Neighbour, Observation, ObservedState};
use crate::plan::{Draft, Stage};

/// A neighbour entry of ours; without a link layer address, as a deletion needs it.
fn neighbour(index: u32, address: IpAddr, link_address: Option<LinkAddress>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(&address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let octets = link_address.map(LinkAddress::octets);
    message.attributes.extend(octets.map(NeighbourAttribute::LinkLayerAddress));
    message
}

/// A request for the neighbour entries of a device, both families.
pub(crate) fn all_neighbours(index: u32) -> Payload {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(index));
    Payload::Route(Rt::GetNeighbour(message))
}

impl Draft<'_> {
    pub(super) fn put_neighbour(&mut self, key: Key, address: IpAddr, at: LinkAddress, index: u32) {
        let wanted = Neighbour { link_address: Some(at), permanent: true };
        if self.planner.kernel.neighbours.get(&(index, address)) != Some(&wanted) {
            self.step(
                Stage::PutNeighbour,
                Some(key),
                create_or_replace(Payload::Route(Rt::NewNeighbour(neighbour(index, address, Some(at))))),
                Observation::Neighbour(index, address, Some(wanted)),
            );
        }
    }

    pub(super) fn remove_neighbour(&mut self, key: &Key, device: &Device, address: IpAddr) {
        let Some(index) = self.present(device) else { return };
        if self.planner.kernel.neighbours.get(&(index, address)).is_some_and(|entry| entry.permanent) {
            self.step(
                Stage::DeleteNeighbour,
                Some(key.clone()),
                Message::plain(Payload::Route(Rt::DelNeighbour(neighbour(index, address, None)))),
                Observation::Neighbour(index, address, None),
            );
        }
    }
}

/// Ours: permanent ones on our devices, in the cluster networks, and all of GRE devices, where they say which nodes there are.
pub(super) fn ours(kernel: &ObservedState, networks: &[IpNet]) -> impl Iterator<Item = Key> {
    let is_ours = |address: &IpAddr, entry: &Neighbour| is_stray(address, entry, networks);
    let found = kernel.neighbours.iter().filter(move |((_, address), entry)| is_ours(address, entry));
    found.filter_map(|((index, address), _)| {
        Some(Key::Neighbour(Device::Own(kernel.own_device(*index)?.clone()), *address))
    })
}

/// Whether an entry on a device of ours is one that only the policy's belong to.
pub(super) fn is_stray(address: &IpAddr, entry: &Neighbour, networks: &[IpNet]) -> bool {
    let says_node = matches!(entry.link_address, Some(LinkAddress::Ipv4(_)));
    entry.permanent && (says_node || networks.iter().any(|network| network.contains(address)))
}

/// What a neighbour message says: about a neighbour, or about a forwarding database entry of a device itself.
pub(crate) fn read_neighbour(message: &NeighbourMessage, gone: bool) -> Option<Observation> {
    let header = &message.header;
    let (mut address, mut link_address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(to) => address = neighbour_address(to),
            NeighbourAttribute::LinkLayerAddress(bytes) => link_address = LinkAddress::from_octets(bytes),
            _ => {}
        }
    }
    // The kernel takes states as bits: bridge(8) sets `noarp` beside `permanent`.
    let permanent = u16::from(header.state) & u16::from(NeighbourState::Permanent) != 0;
    match header.family {
        AddressFamily::Inet | AddressFamily::Inet6 => {
            let gone = gone || matches!(header.state, NeighbourState::Failed | NeighbourState::None);
            let entry = (!gone).then_some(Neighbour { link_address, permanent });
            Some(Observation::Neighbour(header.ifindex, address?, entry))
        }
        // Entries of the bridge that the device may be a port of are another matter: only the device's own count.
        AddressFamily::Bridge if header.flags.contains(NeighbourFlags::Own) => {
            let entry = (!gone).then_some(Fdb { destination: address, permanent });
            let Some(LinkAddress::Ethernet(mac)) = link_address else { return None };
            Some(Observation::Fdb(header.ifindex, mac, entry))
        }
        _ => None,
    }
}

fn neighbour_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        NeighbourAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        // A forwarding database entry's destination: its family is told by its length alone.
        NeighbourAddress::Other(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    }
}
