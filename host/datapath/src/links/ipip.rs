//! IPIP devices. `tunl0`, which the kernel makes by itself, is never touched.

use std::net::{IpAddr, Ipv4Addr};

use flannel_model::entry::Ipip;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoIpTunnel, LinkAttribute};
use rtnetlink::LinkIpIp;

use super::{Differences, Observed};
use crate::netlink::{Message, Payload};

/// The request that makes the device: to any node, so that routes say where packets go.
pub(super) fn create(wanted: &Ipip, parent: u32) -> Message {
    let mut link = LinkIpIp::new(&wanted.name).local(wanted.local).dev(parent).build();
    link.attributes.push(LinkAttribute::Mtu(wanted.mtu));
    Message { payload: Payload::Route(RouteNetlinkMessage::NewLink(link)), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// What only a new device can put right. The underlying link is not among them: upstream's devices have none, and go by the
/// routing table.
pub(super) fn unchangeable_differences(found: &Observed, wanted: &Ipip) -> Differences {
    let options: &[InfoIpTunnel] = match &found.data {
        Some(InfoData::IpTunnel(options)) => options,
        _ => &[],
    };
    let (mut local, mut differences) = (None, Differences::new());
    for option in options {
        match option {
            InfoIpTunnel::Local(address) => local = Some(*address),
            InfoIpTunnel::Remote(address) if *address != IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                differences.push(format!("remote is {address} instead of any"));
            }
            InfoIpTunnel::CollectMetadata => differences.push("external is on".to_owned()),
            _ => {}
        }
    }
    if local != Some(IpAddr::V4(wanted.local)) {
        let found = local.map_or("none".to_owned(), |address| address.to_string());
        differences.push(format!("local address is {found} instead of {}", wanted.local));
    }
    differences
}
