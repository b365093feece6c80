//! WireGuard devices.

use flannel_model::entry::Wireguard;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::LinkWireguard;
use tracing::info;

use crate::netlink::{Message, NetlinkError, Payload};
use crate::wireguard::WireguardSocket;

/// The request that makes the device.
pub(super) fn create(wanted: &Wireguard) -> Message {
    let mut link = LinkWireguard::new(&wanted.name).build();
    link.attributes.push(LinkAttribute::Mtu(wanted.mtu));
    Message { payload: Payload::Route(RouteNetlinkMessage::NewLink(link)), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// Gives the device its key and its port, if it has others. Peers that it has stay.
pub(super) fn identify(index: u32, wanted: &Wireguard) -> Result<(), NetlinkError> {
    let mut socket = WireguardSocket::open()?;
    let found = socket.device(index)?;
    if found.public_key == Some(wanted.keys.public) && found.port == wanted.port {
        return Ok(());
    }
    info!(device = %wanted.name, port = wanted.port, key = %wanted.keys.public, "WireGuard device gets its key and port");
    socket.identify(index, &wanted.keys, wanted.port)
}
