//! VXLAN devices.

use std::net::IpAddr;

use flannel_model::entry::Vxlan;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::LinkVxlan;

use super::{Corrections, Differences, Observed};
use crate::netlink::{Message, Payload};

/// The request that makes the device.
pub(super) fn create(wanted: &Vxlan, parent: u32) -> Message {
    let mut builder = LinkVxlan::new(&wanted.name, wanted.vni)
        .dev(parent)
        .port(wanted.port)
        .learning(wanted.learning)
        .mtu(wanted.mtu)
        .address(wanted.mac.0.to_vec());
    builder = match wanted.local {
        IpAddr::V4(local) => builder.local(local),
        IpAddr::V6(local) => builder.local6(local),
    };
    if wanted.gbp {
        builder = builder.gbp();
    }
    let payload = Payload::Route(RouteNetlinkMessage::NewLink(builder.build()));
    Message { payload, flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// What only a new device can put right. An option that the kernel does not report is off.
pub(super) fn unchangeable_differences(found: &Observed, wanted: &Vxlan, parent: u32) -> Differences {
    let data = options(found);
    let (mut vni, mut link, mut port, mut local, mut gbp, mut odd) = (0, 0, 0, None, false, Vec::new());
    for info in data {
        match info {
            InfoVxlan::Id(id) => vni = *id,
            InfoVxlan::Link(index) => link = *index,
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
            InfoVxlan::Gbp => gbp = true,
            InfoVxlan::Group(group) => odd.push(format!("remote is {group} instead of none")),
            InfoVxlan::Group6(group) => odd.push(format!("remote is {group} instead of none")),
            InfoVxlan::L2Miss(true) => odd.push("l2miss is on".to_owned()),
            InfoVxlan::CollectMetadata(true) => odd.push("external is on".to_owned()),
            _ => {}
        }
    }
    let mut differences = odd;
    let mut compare = |what: &str, is: String, should: String| {
        if is != should {
            differences.push(format!("{what} is {is} instead of {should}"));
        }
    };
    compare("VNI", vni.to_string(), wanted.vni.to_string());
    compare("underlying link", link.to_string(), parent.to_string());
    compare("port", port.to_string(), wanted.port.to_string());
    compare("local address", local.map_or("none".to_owned(), |l| l.to_string()), wanted.local.to_string());
    compare("GBP", gbp.to_string(), wanted.gbp.to_string());
    differences
}

/// Who has what a device needs for itself: its VNI on its port, or the port with other options for what comes in.
pub(super) fn occupied(wanted: &Vxlan, devices: &[&Observed]) -> String {
    let (vni, port) = (wanted.vni, wanted.port);
    let others = || {
        let others = devices.iter().filter(|found| found.name != *wanted.name);
        others.filter(|found| options(found).contains(&InfoVxlan::Port(port)))
    };
    if let Some(same) = others().find(|found| options(found).contains(&InfoVxlan::Id(vni))) {
        return format!(
            "the VXLAN device {} has VNI {vni} on UDP port {port}: remove it, or choose another VNI on all nodes",
            same.name
        );
    }
    let has = match others().next() {
        Some(other) => {
            format!("the VXLAN device {} has UDP port {port}, maybe with another GBP: remove it", other.name)
        }
        None => format!("a program has UDP port {port} (`ss -anup sport = :{port}`): stop it"),
    };
    format!("{has}, or choose another Port on all nodes")
}

fn options(found: &Observed) -> &[InfoVxlan] {
    match &found.data {
        Some(InfoData::Vxlan(options)) => options,
        _ => &[],
    }
}

/// What can be changed on a living device, beyond what all kinds have.
pub(super) fn correct(found: &Observed, wanted: &Vxlan, corrections: &mut Corrections) {
    let mac = found.link.as_ref().and_then(|link| link.mac);
    if mac != Some(wanted.mac) {
        corrections.add(
            format!("MAC {} for {}", wanted.mac, mac.map_or("none".to_owned(), |m| m.to_string())),
            LinkAttribute::Address(wanted.mac.0.to_vec()),
        );
    }
    let learning = options(found).iter().any(|info| matches!(info, InfoVxlan::Learning(true)));
    if learning != wanted.learning {
        corrections.add(
            format!("learning {} for {learning}", wanted.learning),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(vec![
                    InfoVxlan::Id(wanted.vni),
                    InfoVxlan::Learning(wanted.learning),
                ])),
            ]),
        );
    }
}
