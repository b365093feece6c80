//! The addresses of a device of ours.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use tracing::info;

use crate::netlink::{Message, NetlinkError, Payload, RequestSocket};

fn address_message(index: u32, address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    // What is reached over a device is said by routes, which are checked: an address brings none. The flag does not fit into the header.
    let mut flags = AddressFlags::Noprefixroute;
    if address.addr().is_ipv6() {
        // Nobody else can have it: the lease is ours. Without this it could not be used for a second.
        message.header.flags = AddressHeaderFlags::Nodad;
        flags |= AddressFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Flags(flags));
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

/// The addresses of a device.
pub(crate) fn of(socket: &mut RequestSocket, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
    let mut request = AddressMessage::default();
    request.header.index = index;
    let found = socket.dump(&Payload::Route(RouteNetlinkMessage::GetAddress(request)))?;
    Ok(found
        .iter()
        .filter_map(|payload| match payload {
            Payload::Route(RouteNetlinkMessage::NewAddress(message)) if message.header.index == index => {
                let local = message.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Local(address) => Some(*address),
                    _ => None,
                });
                let plain = message.attributes.iter().find_map(|a| match a {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                });
                IpNet::new(local.or(plain)?, message.header.prefix_len).ok()
            }
            _ => None,
        })
        .collect())
}

/// Adds what is missing.
pub(crate) fn add_addresses(
    socket: &mut RequestSocket,
    index: u32,
    wanted: &BTreeSet<IpNet>,
) -> Result<(), NetlinkError> {
    let have = of(socket, index)?;
    for address in wanted.difference(&have) {
        let payload = Payload::Route(RouteNetlinkMessage::NewAddress(address_message(index, address)));
        socket.execute(Message { payload, flags: NLM_F_CREATE | NLM_F_EXCL })?;
        info!(%address, index, "address added");
    }
    Ok(())
}

/// Removes what is there of these.
pub(crate) fn remove_addresses(
    socket: &mut RequestSocket,
    index: u32,
    unwanted: &BTreeSet<IpNet>,
) -> Result<(), NetlinkError> {
    if unwanted.is_empty() {
        return Ok(());
    }
    for address in of(socket, index)?.intersection(unwanted) {
        let payload = Payload::Route(RouteNetlinkMessage::DelAddress(address_message(index, address)));
        socket.execute(Message::plain(payload))?;
        info!(%address, index, "address removed");
    }
    Ok(())
}

/// Adds what is missing, and removes what lies in a cluster network and should not be there.
pub(super) fn set(
    socket: &mut RequestSocket,
    index: u32,
    wanted: &BTreeSet<IpNet>,
    networks: &[IpNet],
) -> Result<(), NetlinkError> {
    add_addresses(socket, index, wanted)?;
    let have = of(socket, index)?;
    for address in have.difference(wanted) {
        if networks.iter().any(|network| network.contains(&address.addr())) {
            let payload = Payload::Route(RouteNetlinkMessage::DelAddress(address_message(index, address)));
            socket.execute(Message::plain(payload))?;
            info!(%address, index, "address removed");
        }
    }
    Ok(())
}
