//! XFRM interfaces.

use flannel_model::ipsec::Ipsec;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoXfrm, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkXfrm};

use super::{Differences, Observed};
use crate::netlink::{Message, Payload};

/// The request that makes the device. It has no link below: packets go by the routing table, and it outlives the external interface.
pub(super) fn create(wanted: &Ipsec) -> Message {
    let builder = LinkMessageBuilder::<LinkXfrm>::new(&wanted.name);
    let mut link = builder.if_id(wanted.if_id).build();
    link.attributes.push(LinkAttribute::Mtu(wanted.mtu));
    Message { payload: Payload::Route(RouteNetlinkMessage::NewLink(link)), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// What only a new device can put right.
pub(super) fn unchangeable_differences(found: &Observed, wanted: &Ipsec) -> Differences {
    match if_id(found) {
        Some(id) if id == wanted.if_id => Differences::new(),
        // What it is made of is half a secret: it is not shown.
        _ => vec!["its if_id is another one".to_owned()],
    }
}

/// What ties policies and states to a device.
pub(super) fn if_id(found: &Observed) -> Option<u32> {
    let Some(InfoData::Xfrm(options)) = &found.data else { return None };
    options.iter().find_map(|option| match option {
        InfoXfrm::IfId(id) => Some(*id),
        _ => None,
    })
}
