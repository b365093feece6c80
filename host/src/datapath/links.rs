//! Making the declared devices so: created, corrected in place where the kernel can, made anew where it cannot. Only
//! devices that the ledger names are touched.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkUnspec, LinkVxlan};
use tracing::{info, warn};

use super::entry::{Mac, Vxlan};
use super::kernel::Link;
use super::netlink::{Message, NetlinkError, Payload, RequestSocket};

/// The kernel's default VXLAN port (`udp_port` of the vxlan module), which is not the assigned one, 4789.
pub const DEFAULT_VXLAN_PORT: u16 = 8472;

/// What a device lacks, in the words of the log.
type Differences = Vec<String>;

/// A link as the kernel describes it.
#[derive(Debug, Default)]
pub struct Observed {
    /// The part that matters for every link.
    pub link: Option<Link>,
    /// Its name.
    pub name: String,
    /// What kind it is, and how it is set up; none for links that are not VXLAN.
    vxlan: Option<Vec<InfoVxlan>>,
}

/// Reads a link message.
pub fn read_link(message: &LinkMessage) -> Observed {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
    };
    let (mut name, mut vxlan) = (String::new(), None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Mtu(bytes) => link.mtu = *bytes,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Vxlan) => {
                            vxlan.get_or_insert_with(Vec::new);
                        }
                        LinkInfo::Data(InfoData::Vxlan(data)) => vxlan = Some(data.clone()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Observed { link: Some(link), name, vxlan }
}

/// Looks a link up by its name.
pub fn find(socket: &mut RequestSocket, name: &str) -> Result<Observed, NetlinkError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match socket.get(Payload::Route(RouteNetlinkMessage::GetLink(message)))? {
        Some(Payload::Route(RouteNetlinkMessage::NewLink(found))) => Ok(read_link(&found)),
        _ => Ok(Observed::default()),
    }
}

/// Makes a VXLAN device what it should be. Answers with the device and with whether it was made anew, which means
/// that nothing hangs on it any more. Sends nothing if nothing differs.
pub fn ensure_vxlan(
    socket: &mut RequestSocket,
    wanted: &Vxlan,
    parent: u32,
    addresses: Option<&BTreeSet<IpNet>>,
    networks: &[IpNet],
) -> Result<(Link, bool), NetlinkError> {
    let mut anew = false;
    let mut found = find(socket, &wanted.name)?;
    if let Some(link) = &found.link {
        let wrong = unchangeable_differences(&found, wanted, parent);
        if !wrong.is_empty() {
            warn!(device = %wanted.name, differences = wrong.join(", "), "device is made anew");
            let mut message = LinkMessage::default();
            message.header.index = link.index;
            socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::DelLink(message))))?;
            found = Observed::default();
        }
    }
    if found.link.is_none() {
        anew = true;
        create(socket, wanted, parent)?;
        found = find(socket, &wanted.name)?;
        let index = found.link.as_ref().map_or(0, |link| link.index);
        info!(device = %wanted.name, index, mac = %wanted.mac, mtu = wanted.mtu, vni = wanted.vni, port = wanted.port, "device created");
        refuse_router_advertisements(&wanted.name);
    }
    let link =
        found.link.as_ref().ok_or(NetlinkError::Refused { errno: libc::ENODEV, text: String::new() })?;
    correct(socket, link, &found, wanted)?;
    if let Some(addresses) = addresses {
        set_addresses(socket, link.index, addresses, networks)?;
    }
    if !link.up {
        let up = LinkUnspec::new_with_index(link.index).up().build();
        socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::SetLink(up))))?;
    }
    let link = Link { index: link.index, up: true, mtu: wanted.mtu, mac: Some(wanted.mac) };
    Ok((link, anew))
}

fn create(socket: &mut RequestSocket, wanted: &Vxlan, parent: u32) -> Result<(), NetlinkError> {
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
    socket.execute(Message { payload, flags: NLM_F_CREATE | NLM_F_EXCL })
}

/// What only a new device can put right. An option that the kernel does not report is off.
fn unchangeable_differences(found: &Observed, wanted: &Vxlan, parent: u32) -> Differences {
    let Some(data) = &found.vxlan else { return vec!["it is not a VXLAN device".to_owned()] };
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

/// Puts right what can be changed on a living device.
fn correct(
    socket: &mut RequestSocket,
    link: &Link,
    found: &Observed,
    wanted: &Vxlan,
) -> Result<(), NetlinkError> {
    let mut message = LinkUnspec::new_with_index(link.index).build();
    let mut differences = Differences::new();
    if link.mac != Some(wanted.mac) {
        differences.push(format!(
            "MAC {} for {}",
            wanted.mac,
            link.mac.map_or("none".to_owned(), |m| m.to_string())
        ));
        message.attributes.push(LinkAttribute::Address(wanted.mac.0.to_vec()));
    }
    if link.mtu != wanted.mtu {
        differences.push(format!("MTU {} for {}", wanted.mtu, link.mtu));
        message.attributes.push(LinkAttribute::Mtu(wanted.mtu));
    }
    let learning = found.vxlan.iter().flatten().any(|info| matches!(info, InfoVxlan::Learning(true)));
    if learning != wanted.learning {
        differences.push(format!("learning {} for {learning}", wanted.learning));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vec![
                InfoVxlan::Id(wanted.vni),
                InfoVxlan::Learning(wanted.learning),
            ])),
        ]));
    }
    if differences.is_empty() {
        return Ok(());
    }
    warn!(device = %wanted.name, differences = differences.join(", "), "device corrected");
    socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::NewLink(message))))
}

/// Upstream sets `accept_ra` to 0: the overlay is no place to take a default route from.
fn refuse_router_advertisements(device: &str) {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(device).join("accept_ra");
    // The folder is absent where the kernel has no IPv6, and then there is nothing to refuse.
    if path.exists()
        && let Err(error) = std::fs::write(&path, "0")
    {
        warn!(device, %error, "cannot set net.ipv6.conf.{device}.accept_ra to 0");
    }
}

fn address_message(index: u32, address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    if address.addr().is_ipv6() {
        // Nobody else can have it: the lease is ours. Without this it could not be used for a second.
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    message
}

/// The addresses of a device.
fn addresses_of(socket: &mut RequestSocket, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
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

/// Adds what is missing, and removes what lies in a cluster network and should not be there.
fn set_addresses(
    socket: &mut RequestSocket,
    index: u32,
    wanted: &BTreeSet<IpNet>,
    networks: &[IpNet],
) -> Result<(), NetlinkError> {
    let have = addresses_of(socket, index)?;
    for address in wanted.difference(&have) {
        let payload = Payload::Route(RouteNetlinkMessage::NewAddress(address_message(index, address)));
        socket.execute(Message { payload, flags: NLM_F_CREATE | NLM_F_EXCL })?;
        info!(%address, index, "address added");
    }
    for address in have.difference(wanted) {
        if networks.iter().any(|network| network.contains(&address.addr())) {
            let payload = Payload::Route(RouteNetlinkMessage::DelAddress(address_message(index, address)));
            socket.execute(Message::plain(payload))?;
            info!(%address, index, "address removed");
        }
    }
    Ok(())
}

/// Whether an address is reached over a link without a gateway: a route lookup, as upstream does it.
pub fn is_on_link(socket: &mut RequestSocket, destination: IpAddr, link: u32) -> Result<bool, NetlinkError> {
    let prefix = IpNet::from(destination);
    let mut message = super::codec::route(&prefix, None);
    message.header = RouteHeader {
        address_family: message.header.address_family,
        destination_prefix_length: prefix.prefix_len(),
        ..Default::default()
    };
    let answer = match socket.get(Payload::Route(RouteNetlinkMessage::GetRoute(message))) {
        Err(error) if error.is(libc::ENETUNREACH) || error.is(libc::EHOSTUNREACH) => return Ok(false),
        other => other?,
    };
    let Some(Payload::Route(RouteNetlinkMessage::NewRoute(found))) = answer else { return Ok(false) };
    let gateway =
        found.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
    let out = found.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Ok(!gateway && out == Some(link))
}
