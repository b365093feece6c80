//! Making the declared devices so: created, corrected in place where the kernel can, made anew where it cannot. Only
//! devices that the ledger names are touched.

mod addresses;
mod fou;
mod ipip;
mod ipsec;
mod obstacles;
mod ownership;
mod tunnel_link;
mod vxlan;
mod wireguard;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use flannel_model::entry::{DeviceSpec, Mac};
use flannel_model::generations::temporary_names;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType};
use rtnetlink::LinkUnspec;
use tracing::{debug, info, warn};

use super::kinds;
use super::netlink::{Message, NetlinkError, Payload, RequestSocket};
use super::observed::Link;
pub(crate) use addresses::{add_addresses, of as addresses_of, remove_addresses};
pub(crate) use obstacles::obstacles;
pub(crate) use ownership::Owner;

/// What a device lacks, in the words of the log.
type Differences = Vec<String>;

/// A link as the kernel describes it.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The part that matters for every link.
    pub link: Option<Link>,
    /// Its name.
    pub name: String,
    /// What kind it is; none for hardware.
    kind: Option<InfoKind>,
    /// How it is set up.
    data: Option<InfoData>,
    /// What somebody has written on it.
    alias: Option<String>,
    /// The index of the bridge, bond or the like that it is a port of.
    pub master: Option<u32>,
    /// The index of the link that it is on, if it is on one.
    lower: Option<u32>,
    /// It can send; of a TUN device: some process has it open.
    carrier: bool,
}

impl Observed {
    /// Whether it is a TUN device that some process has open.
    fn is_open(&self) -> bool {
        self.kind == Some(InfoKind::Tun) && self.carrier
    }

    /// What ties IPsec's policies and states to it.
    pub(crate) fn if_id(&self) -> Option<u32> {
        ipsec::if_id(self)
    }

    /// Whether it is a VXLAN device.
    pub(crate) fn is_vxlan(&self) -> bool {
        self.kind == Some(InfoKind::Vxlan)
    }
}

/// Reads a link message.
pub(crate) fn read_link(message: &LinkMessage) -> Observed {
    let mut link = Link {
        index: message.header.index,
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        carrier: true,
    };
    let mut observed = Observed::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => observed.name.clone_from(text),
            LinkAttribute::IfAlias(text) => observed.alias = Some(text.clone()),
            LinkAttribute::Link(index) => observed.lower = Some(*index).filter(|index| *index > 0),
            LinkAttribute::Controller(index) => observed.master = Some(*index).filter(|index| *index > 0),
            LinkAttribute::Carrier(carrier) => {
                observed.carrier = *carrier > 0;
                link.carrier = observed.carrier;
            }
            LinkAttribute::Mtu(bytes) => link.mtu = *bytes,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => observed.kind = Some(kind.clone()),
                        LinkInfo::Data(data) => observed.data = Some(data.clone()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    observed.link = Some(link);
    observed
}

/// What to change on a living device.
#[derive(Default)]
struct Corrections {
    /// In the words of the log.
    differences: Differences,
    attributes: Vec<LinkAttribute>,
}

impl Corrections {
    fn add(&mut self, difference: String, attribute: LinkAttribute) {
        self.differences.push(difference);
        self.attributes.push(attribute);
    }
}

/// Looks a link up by its name.
pub(crate) fn find(socket: &mut RequestSocket, name: &str) -> Result<Observed, NetlinkError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match socket.get(Payload::Route(RouteNetlinkMessage::GetLink(message)))? {
        Some(Payload::Route(RouteNetlinkMessage::NewLink(found))) => Ok(read_link(&found)),
        _ => Ok(Observed::default()),
    }
}

/// The name of the link with this index, if it is there.
pub(crate) fn name_of(socket: &mut RequestSocket, index: u32) -> Option<String> {
    find_by_index(socket, index).ok().map(|found| found.name).filter(|name| !name.is_empty())
}

/// Devices that flannel, ours or upstream's, has made with whatever backend: their indexes.
pub(crate) fn flannels(socket: &mut RequestSocket, owner: &Owner) -> Result<BTreeSet<u32>, NetlinkError> {
    let links = all(socket)?.into_iter().filter(|observed| owner.is_flannels(observed));
    Ok(links.filter_map(|observed| observed.link).map(|link| link.index).collect())
}

/// Removes devices that are this daemon's by their mark, or that flannel makes and that have an address of this cluster, but for these, and
/// for those that somebody uses. `is_free`: whether no other daemon of the host has a device of this name. Answers with the numbers of XFRM
/// interfaces among them.
pub(crate) fn remove_former(
    socket: &mut RequestSocket,
    owner: &Owner,
    own: &BTreeSet<u32>,
    is_free: impl Fn(&str) -> bool,
) -> Result<Vec<u32>, NetlinkError> {
    let mut numbers = Vec::new();
    for found in all(socket)? {
        let Some(link) = found.link.as_ref().filter(|link| !own.contains(&link.index)) else { continue };
        if !owner.is_flannels(&found) || found.is_open() || !is_free(&found.name) {
            continue;
        }
        if !owner.is_this_daemons(&found) {
            let has = addresses::of(socket, link.index)?;
            if !has.iter().any(|has| owner.in_force().iter().any(|network| network.contains(&has.addr()))) {
                continue;
            }
        }
        delete(socket, &found)?;
        info!(device = found.name, "a device that a backend before has left is removed");
        numbers.extend(found.if_id());
    }
    Ok(numbers)
}

fn all(socket: &mut RequestSocket) -> Result<Vec<Observed>, NetlinkError> {
    let found = socket.dump(&Payload::Route(RouteNetlinkMessage::GetLink(LinkMessage::default())))?;
    let link = |message| match message {
        Payload::Route(RouteNetlinkMessage::NewLink(link)) => Some(read_link(&link)),
        _ => None,
    };
    Ok(found.into_iter().filter_map(link).collect())
}

fn find_by_index(socket: &mut RequestSocket, index: u32) -> Result<Observed, NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match socket.get(Payload::Route(RouteNetlinkMessage::GetLink(message)))? {
        Some(Payload::Route(RouteNetlinkMessage::NewLink(found))) => Ok(read_link(&found)),
        _ => Ok(Observed::default()),
    }
}

/// Makes a device what it should be, and answers with it, and with what could not be put right although the device serves: an MTU
/// that the interface below does not carry, say. Sends nothing if nothing differs, and nothing to a device that is not ours. `known`: the
/// index that it had, in case that somebody has given it another name.
pub(crate) fn ensure(
    socket: &mut RequestSocket,
    owner: &Owner,
    wanted: &DeviceSpec,
    known: Option<u32>,
    parent: u32,
    addresses: Option<&BTreeSet<IpNet>>,
) -> Result<(Link, Option<NetlinkError>), NetlinkError> {
    let name = wanted.name();
    let mut found = find(socket, name)?;
    let known = match known {
        None if found.link.is_none() => named_for_a_time(socket, owner, wanted),
        known => known,
    };
    if found.link.is_none()
        && let Some(index) = known
    {
        found = renamed_back(socket, wanted, index, parent)?;
    }
    owner.check(socket, &found, wanted, known)?;
    if found.link.is_some() {
        let wrong = unchangeable_differences(&found, wanted, parent);
        if !wrong.is_empty() {
            warn!(device = %name, differences = wrong.join(", "), "device is made anew");
            delete(socket, &found)?;
            found = Observed::default();
        }
    }
    if let DeviceSpec::TunnelLink(link) = wanted {
        fou::ensure(link)?;
    }
    if found.link.is_some() {
        return bring_about(socket, owner, &found, wanted, addresses);
    }
    let made = match (make(socket, owner, wanted, parent), wanted) {
        (Err(error), DeviceSpec::TunnelLink(link)) => {
            let _ = fou::abandon(socket, link);
            return Err(error);
        }
        (made, _) => made?,
    };
    let outcome = bring_about(socket, owner, &made, wanted, addresses);
    if outcome.is_err() {
        // What cannot serve is not left behind: a port that somebody else has, say.
        let _ = delete(socket, &made);
    }
    outcome
}

/// Makes a device, and writes on it whose it is.
fn make(
    socket: &mut RequestSocket,
    owner: &Owner,
    wanted: &DeviceSpec,
    parent: u32,
) -> Result<Observed, NetlinkError> {
    let creation = match wanted {
        DeviceSpec::Vxlan(vxlan) => vxlan::create(vxlan, parent),
        DeviceSpec::Ipip(ipip) => ipip::create(ipip, parent),
        DeviceSpec::Wireguard(wireguard) => wireguard::create(wireguard),
        DeviceSpec::Ipsec(ipsec) => ipsec::create(ipsec),
        DeviceSpec::TunnelLink(link) => tunnel_link::create(link, parent),
        // Who opens the tunnel makes its device.
        DeviceSpec::Tunnel(_) => return Err(absent()),
    };
    if let Err(error) = socket.execute(creation) {
        return Err(explained(occupied(socket, error, wanted, parent), wanted));
    }
    let name = wanted.name();
    let found = find(socket, name)?;
    let index = found.link.as_ref().ok_or_else(absent)?.index;
    info!(device = %name, index, mac = wanted.mac().map(tracing::field::display), mtu = wanted.mtu(), "device created");
    // The kernel takes no alias with the request that makes a device.
    if let Err(error) = mark(socket, owner, index) {
        let _ = socket.execute(deletion(index));
        return Err(error);
    }
    refuse_router_advertisements(name);
    Ok(found)
}

/// Writes on a device whose it is.
pub(crate) fn mark(socket: &mut RequestSocket, owner: &Owner, index: u32) -> Result<(), NetlinkError> {
    let marked = LinkUnspec::new_with_index(index).alias(owner.mark()).build();
    socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::SetLink(marked))))
}

/// Puts right what can be on a device that is there, and sets it up.
fn bring_about(
    socket: &mut RequestSocket,
    owner: &Owner,
    found: &Observed,
    wanted: &DeviceSpec,
    addresses: Option<&BTreeSet<IpNet>>,
) -> Result<(Link, Option<NetlinkError>), NetlinkError> {
    let link = found.link.as_ref().ok_or_else(absent)?;
    release(socket, found)?;
    let corrected = correct(socket, link, found, wanted);
    if let DeviceSpec::Wireguard(wireguard) = wanted
        && let Err(error) = wireguard::identify(link.index, wireguard)
    {
        return Err(occupied(socket, error, wanted, 0));
    }
    if let Some(addresses) = addresses {
        addresses::set(socket, link.index, addresses, owner.networks())?;
    }
    if !link.up {
        let up = LinkUnspec::new_with_index(link.index).up().build();
        if let Err(error) = socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::SetLink(up)))) {
            return Err(occupied(socket, error, wanted, 0));
        }
    }
    let mtu = if corrected.is_ok() { wanted.mtu() } else { link.mtu };
    Ok((Link { index: link.index, up: true, mtu, mac: wanted.mac(), carrier: true }, corrected.err()))
}

/// Removes a device, and what it alone has needed.
fn delete(socket: &mut RequestSocket, found: &Observed) -> Result<(), NetlinkError> {
    let index = found.link.as_ref().ok_or_else(absent)?.index;
    socket.execute(deletion(index))?;
    fou::release(socket, found)
}

fn deletion(index: u32) -> Message {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Message::plain(Payload::Route(RouteNetlinkMessage::DelLink(message)))
}

/// Takes a device of ours out of a bridge or the like, which would take its packets. A VRF does not.
fn release(socket: &mut RequestSocket, found: &Observed) -> Result<(), NetlinkError> {
    let (Some(link), Some(master)) = (&found.link, takes_packets(socket, found)) else { return Ok(()) };
    warn!(device = found.name, from = master, "device is taken out of what it is a port of");
    let free = LinkUnspec::new_with_index(link.index).nocontroller().build();
    socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::SetLink(free))))
}

/// The name of the bridge, bond or the like that has a device's packets.
fn takes_packets(socket: &mut RequestSocket, found: &Observed) -> Option<String> {
    let master = find_by_index(socket, found.master?).ok()?;
    (master.kind != Some(InfoKind::Vrf)).then_some(master.name)
}

/// Removes a device that was ours. None that is somebody else's or of another kind by now, and none that is gone already. `known`: the
/// index that ours had.
pub(crate) fn remove(
    socket: &mut RequestSocket,
    owner: &Owner,
    device: &DeviceSpec,
    known: Option<u32>,
) -> Result<(), NetlinkError> {
    let found = find(socket, device.name())?;
    if found.link.is_none()
        && let DeviceSpec::TunnelLink(link) = device
    {
        return fou::abandon(socket, link);
    }
    if found.link.is_none() || found.kind.as_ref() != Some(&kind(device).0) {
        return Ok(());
    }
    owner.check(socket, &found, device, known)?;
    delete(socket, &found)?;
    info!(device = %device.name(), "device removed");
    Ok(())
}

fn absent() -> NetlinkError {
    NetlinkError::Refused { errno: libc::ENODEV, text: String::new() }
}

/// The device that a change of the backend has made, and that has not got its own name: many kernels rename only what is down.
fn named_for_a_time(socket: &mut RequestSocket, owner: &Owner, wanted: &DeviceSpec) -> Option<u32> {
    temporary_names(wanted.name()).iter().find_map(|name| {
        let found = find(socket, name).ok()?;
        owner.is_flannels(&found).then_some(found.link?.index)
    })
}

/// Gives a device that is up another name; Linux before 6.2 refuses that (EBUSY).
pub(crate) fn rename(socket: &mut RequestSocket, index: u32, name: &str) -> Result<(), NetlinkError> {
    let named = LinkUnspec::new_with_index(index).name(name.to_owned()).build();
    socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::SetLink(named))))
}

/// Gives a device of ours its name back. Many kernels rename only what is down, and with that go its routes; they are put
/// back like any that is missing.
fn renamed_back(
    socket: &mut RequestSocket,
    wanted: &DeviceSpec,
    index: u32,
    parent: u32,
) -> Result<Observed, NetlinkError> {
    let found = find_by_index(socket, index)?;
    if found.link.is_none() || !unchangeable_differences(&found, wanted, parent).is_empty() {
        return Ok(Observed::default());
    }
    warn!(device = %wanted.name(), renamed = found.name, "device gets its name back");
    let mut change = |message: LinkMessage| {
        socket.execute(Message::plain(Payload::Route(RouteNetlinkMessage::SetLink(message))))
    };
    let named = || LinkUnspec::new_with_index(index).name(wanted.name().to_string()).build();
    match change(named()) {
        Err(error) if error.is(libc::EBUSY) => {
            change(LinkUnspec::new_with_index(index).down().build())?;
            change(named())?;
        }
        other => other?,
    }
    find(socket, wanted.name())
}

/// What only a new device can put right.
fn unchangeable_differences(found: &Observed, wanted: &DeviceSpec, parent: u32) -> Differences {
    let (kind, what) = kind(wanted);
    if found.kind.as_ref() != Some(&kind) {
        return vec![format!("it is not {what}")];
    }
    match wanted {
        DeviceSpec::Vxlan(vxlan) => vxlan::unchangeable_differences(found, vxlan, parent),
        DeviceSpec::Ipip(ipip) => ipip::unchangeable_differences(found, ipip),
        DeviceSpec::Ipsec(ipsec) => ipsec::unchangeable_differences(found, ipsec),
        DeviceSpec::TunnelLink(link) => tunnel_link::unchangeable_differences(found, link, parent),
        DeviceSpec::Wireguard(_) | DeviceSpec::Tunnel(_) => Differences::new(),
    }
}

fn kind(wanted: &DeviceSpec) -> (InfoKind, &'static str) {
    match wanted {
        DeviceSpec::Vxlan(_) => (InfoKind::Vxlan, "a VXLAN device"),
        DeviceSpec::Ipip(_) => (InfoKind::IpIp, "an IPIP device"),
        DeviceSpec::Wireguard(_) => (InfoKind::Wireguard, "a WireGuard device"),
        DeviceSpec::Tunnel(_) => (InfoKind::Tun, "a TUN device"),
        DeviceSpec::Ipsec(_) => (InfoKind::Xfrm, "an XFRM interface"),
        DeviceSpec::TunnelLink(link) => tunnel_link::kind(link),
    }
}

/// Puts right what can be changed on a living device.
fn correct(
    socket: &mut RequestSocket,
    link: &Link,
    found: &Observed,
    wanted: &DeviceSpec,
) -> Result<(), NetlinkError> {
    let mut corrections = Corrections::default();
    match wanted {
        DeviceSpec::Vxlan(vxlan) => vxlan::correct(found, vxlan, &mut corrections),
        DeviceSpec::TunnelLink(link) => tunnel_link::correct(found, link, &mut corrections),
        _ => {}
    }
    if link.mtu != wanted.mtu() {
        corrections.add(format!("MTU {} for {}", wanted.mtu(), link.mtu), LinkAttribute::Mtu(wanted.mtu()));
    }
    if corrections.differences.is_empty() {
        return Ok(());
    }
    let differences = corrections.differences.join(", ");
    if link.up {
        warn!(device = %wanted.name(), differences, "device corrected");
    } else {
        // Just made, as a rule: a tunnel's device has its MTU from us.
        info!(device = %wanted.name(), differences, "device set up");
    }
    // One by one: what the kernel refuses is not to keep the rest from being put right.
    let corrections = corrections.attributes.into_iter().map(|attribute| {
        let mut message = LinkUnspec::new_with_index(link.index).build();
        message.attributes.push(attribute);
        Message::plain(Payload::Route(RouteNetlinkMessage::NewLink(message)))
    });
    socket.batch(corrections.collect()).into_iter().collect()
}

/// Of a port or a VNI that is taken the kernel says that much, and not by whom. `parent`: the index of the link below; 0: it does not matter.
fn occupied(
    socket: &mut RequestSocket,
    error: NetlinkError,
    wanted: &DeviceSpec,
    parent: u32,
) -> NetlinkError {
    let errno = match &error {
        NetlinkError::Refused { errno, .. }
            if [libc::EADDRINUSE, libc::EEXIST, libc::EBUSY].contains(errno) =>
        {
            *errno
        }
        _ => return error,
    };
    let text = match wanted {
        // Without a list it is a port, and whose is not known.
        DeviceSpec::Vxlan(vxlan) => {
            let there = all(socket).unwrap_or_default();
            vxlan::occupied(vxlan, &there.iter().collect::<Vec<_>>())
        }
        DeviceSpec::Wireguard(wireguard) => port_of_another(wireguard.port, "ListenPort"),
        DeviceSpec::TunnelLink(link) => {
            let there = all(socket).unwrap_or_default();
            let parent = Some(parent).filter(|index| *index > 0);
            match (tunnel_link::occupied(link, &there, parent), link.port()) {
                (Some(text), _) => text,
                (None, Some(port)) => port_of_another(port, "port of the plugin's, on all nodes"),
                (None, None) => return error,
            }
        }
        DeviceSpec::Ipip(_) | DeviceSpec::Tunnel(_) | DeviceSpec::Ipsec(_) => return error,
    };
    NetlinkError::Refused { errno, text }
}

/// `option`: what another port is chosen with.
fn port_of_another(port: u16, option: &str) -> String {
    format!("another device or program has UDP port {port}: remove it, or choose another {option}")
}

/// A kernel that lacks a kind of device says no more than that it does not support it.
fn explained(error: NetlinkError, wanted: &DeviceSpec) -> NetlinkError {
    if !error.is(libc::EOPNOTSUPP) {
        return error;
    }
    if let (DeviceSpec::TunnelLink(link), NetlinkError::Refused { text, .. }) = (wanted, &error)
        && text.contains("VLANs not supported")
    {
        return NetlinkError::Unsupported(format!(
            "the external interface takes no VLANs (it is a loopback or TUN device, say): {} needs one that does",
            link.name
        ));
    }
    let (module, since) = module(wanted);
    NetlinkError::Unsupported(format!(
        "this kernel has no {module} devices: it lacks the module `{module}`, which Linux has since {since}; install it, or choose another Backend.Type"
    ))
}

/// The kernel module that has devices of a kind, and since which version of Linux.
fn module(wanted: &DeviceSpec) -> (&'static str, &'static str) {
    match wanted {
        DeviceSpec::Vxlan(_) => ("vxlan", "3.7"),
        DeviceSpec::Ipip(_) => ("ipip", "2.2"),
        DeviceSpec::Wireguard(_) => ("wireguard", "5.6"),
        DeviceSpec::Tunnel(_) => ("tun", "2.4"),
        DeviceSpec::Ipsec(_) => ("xfrm_interface", "4.19"),
        DeviceSpec::TunnelLink(link) => tunnel_link::module(link),
    }
}

/// Upstream sets `accept_ra` to 0: the overlay is no place to take a default route from. In a container `/proc/sys` is read-only, which nobody
/// can do anything about there; a node that forwards takes none by itself.
fn refuse_router_advertisements(device: &str) {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(device).join("accept_ra");
    // The folder is absent where the kernel has no IPv6, and then there is nothing to refuse.
    if path.exists()
        && let Err(error) = std::fs::write(&path, "0")
    {
        let text = format!("cannot set net.ipv6.conf.{device}.accept_ra to 0");
        if error.kind() == ErrorKind::ReadOnlyFilesystem {
            debug!(device, %error, "{text}");
        } else {
            warn!(device, %error, "{text}");
        }
    }
}

/// The question how a destination is reached.
fn lookup(destination: IpAddr) -> RouteMessage {
    let prefix = IpNet::from(destination);
    let mut message = kinds::route::message(&prefix, None, 0);
    message.header = RouteHeader {
        address_family: message.header.address_family,
        destination_prefix_length: prefix.prefix_len(),
        ..Default::default()
    };
    message
}

/// Whether an address is reached over a link without a gateway: a route lookup, as upstream does it. Where the kernel would take another link
/// it is asked for this one: two links may be in one network.
pub(crate) fn is_on_link(
    socket: &mut RequestSocket,
    destination: IpAddr,
    link: u32,
) -> Result<bool, NetlinkError> {
    let message = lookup(destination);
    let mut over_link = message.clone();
    over_link.attributes.push(RouteAttribute::Oif(link));
    // Else IPv4 takes everything to be on a link that it is asked for.
    over_link.header.flags = RouteFlags::FibMatch;
    for question in [message, over_link] {
        let answer = match socket.get(Payload::Route(RouteNetlinkMessage::GetRoute(question))) {
            Err(error) if error.is(libc::ENETUNREACH) || error.is(libc::EHOSTUNREACH) => continue,
            other => other?,
        };
        if let Some(Payload::Route(RouteNetlinkMessage::NewRoute(found))) = answer
            && leads_directly(&found, link)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The gateways by which a link leads everywhere, of each family that has one.
pub(crate) fn gateways(socket: &mut RequestSocket, link: Option<u32>) -> Vec<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): nobody has a route to them but the one for everything.
    let somewhere: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    let Some(link) = link else { return Vec::new() };
    let gateway = |destination: IpAddr| {
        let mut message = lookup(destination);
        message.attributes.push(RouteAttribute::Oif(link));
        let Ok(Some(Payload::Route(RouteNetlinkMessage::NewRoute(found)))) =
            socket.get(Payload::Route(RouteNetlinkMessage::GetRoute(message)))
        else {
            return None;
        };
        found.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(via) => kinds::route::address_of(via),
            _ => None,
        })
    };
    somewhere.into_iter().filter_map(gateway).collect()
}

/// Whether a route leads over a link without a gateway.
fn leads_directly(route: &RouteMessage, link: u32) -> bool {
    if route.header.kind != RouteType::Unicast {
        return false;
    }
    let is_gateway = |a: &RouteAttribute| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
    let gateway = route.attributes.iter().any(is_gateway);
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(index) => *index == link && !gateway,
        RouteAttribute::MultiPath(hops) => {
            hops.iter().any(|hop| hop.interface_index == link && !hop.attributes.iter().any(is_gateway))
        }
        _ => false,
    })
}
