//! The interfaces, addresses and default routes that the kernel has, for the choice of the external interface.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_datapath::Probe;
use futures::TryStreamExt;
use ipnet::{IpNet, Ipv4Net};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHopFlags, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use tokio::task::spawn_blocking;

/// One address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "flags of the kernel's, in any combination")]
pub(crate) struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix: u8,
    /// It should not be used for anything new.
    pub deprecated: bool,
    /// It was set by hand, not by DHCP or router advertisements.
    pub permanent: bool,
    /// It is a privacy address (RFC 8981).
    pub temporary: bool,
    /// It is an IPv4 address that is not the first of its network.
    pub secondary: bool,
    /// It cannot be used yet: whether somebody else has it is being found out (RFC 4862, 5.4).
    pub tentative: bool,
    /// It cannot be used: somebody else has it.
    pub duplicate: bool,
}

impl Address {
    /// The network that it is in.
    pub(crate) fn network(&self) -> IpNet {
        IpNet::new(self.ip, self.prefix).unwrap_or_else(|_| self.ip.into()).trunc()
    }

    /// Whether its network is more than itself.
    fn has_network(&self) -> bool {
        let max = if self.ip.is_ipv4() { 32 } else { 128 };
        self.prefix < max
    }
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Its addresses in the kernel's order.
    pub addresses: Vec<Address>,
}

impl Interface {
    /// Whether it has an address, usable or not.
    pub(crate) fn has(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.ip == ip)
    }

    /// The addresses that peers could reach, or could soon: no loopback ones, and none that somebody else has.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &Address> {
        self.addresses
            .iter()
            .filter(|a| !a.duplicate && !a.ip.is_loopback() && !a.ip.is_multicast() && !a.ip.is_unspecified())
    }

    /// Which address is the node's, rather than a guest's there: lower is better. Link-local ones come last, before them those that should
    /// not be used any more, then second ones, and those without a network where others have one: a VIP is such an address. Of equal
    /// ones permanent before dynamic and lasting before temporary, as upstream.
    pub(crate) fn rank(&self, address: &Address) -> (u8, bool, bool) {
        let is_real =
            |a: &&Address| a.ip.is_ipv4() == address.ip.is_ipv4() && a.has_network() && !is_link_local(a.ip);
        let class = if is_link_local(address.ip) {
            4
        } else if address.deprecated {
            3
        } else if address.secondary {
            2
        } else {
            u8::from(!address.has_network() && self.usable().any(|a| is_real(&a)))
        };
        (class, !address.permanent, address.temporary)
    }
}

/// The next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gateway {
    /// Its address.
    pub ip: IpAddr,
    /// The number of the interface that it is reached over.
    pub interface: u32,
    /// It is a default route's.
    pub default: bool,
}

/// What the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// All interfaces, in the order of their numbers.
    pub interfaces: Vec<Interface>,
    /// The interfaces of the IPv4 default route with the lowest metric: of several next hops, maybe.
    pub default_v4: BTreeSet<u32>,
    /// The same for IPv6.
    pub default_v6: BTreeSet<u32>,
    /// The next hops of routes in the main table.
    pub gateways: BTreeSet<Gateway>,
    /// The interface, and the source address, with which the asked-for address is reached.
    pub reach: Option<(u32, Option<IpAddr>)>,
}

impl Inventory {
    /// The interface with a name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// What there would be with no other interface than this, and all routes are over this one.
    pub(crate) fn only(interface: &Interface) -> Self {
        let this = BTreeSet::from([interface.index]);
        Self {
            interfaces: vec![interface.clone()],
            default_v4: this.clone(),
            default_v6: this,
            gateways: BTreeSet::new(),
            reach: Some((interface.index, None)),
        }
    }

    /// The interface with a number.
    pub(crate) fn by_index(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// Asks the kernel. `target`: an address for `reach`.
    pub(crate) async fn take(target: Option<IpAddr>) -> Result<Self, rtnetlink::Error> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| rtnetlink::Error::NamespaceError(error.to_string()))?;
        let task = tokio::spawn(connection);
        let inventory = Self::ask(&handle, target).await;
        task.abort();
        inventory
    }

    async fn ask(handle: &Handle, target: Option<IpAddr>) -> Result<Self, rtnetlink::Error> {
        let links: Vec<LinkMessage> = handle.link().get().execute().try_collect().await?;
        let addresses: Vec<AddressMessage> = handle.address().get().execute().try_collect().await?;
        let mut interfaces: Vec<Interface> = links.iter().map(interface).collect();
        interfaces.sort_by_key(|interface| interface.index);
        for message in &addresses {
            if let Some(interface) = interfaces.iter_mut().find(|i| i.index == message.header.index) {
                interface.addresses.extend(address(message));
            }
        }
        let Routes { default_v4, default_v6, gateways } =
            look_at_routes(Routes::default(), Routes::see).await?;
        let has = |target: &IpAddr| interfaces.iter().find(|interface| interface.has(*target));
        let reach = match target {
            // The kernel's answer would be the loopback.
            Some(target) if let Some(interface) = has(&target) => Some((interface.index, Some(target))),
            Some(target) => reach(handle, target).await?,
            None => None,
        };
        let [default_v4, default_v6] =
            [default_v4, default_v6].map(|best| best.map(|(_, interfaces)| interfaces).unwrap_or_default());
        Ok(Self { interfaces, default_v4, default_v6, gateways, reach })
    }
}

impl fmt::Display for Inventory {
    /// The interfaces with their addresses, but for the loopback.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for interface in self.interfaces.iter().filter(|interface| interface.name != "lo") {
            let addresses: Vec<String> = interface.addresses.iter().map(|a| a.ip.to_string()).collect();
            let addresses = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(" ") };
            write!(f, "{separator}{} ({addresses})", interface.name)?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("none but lo") } else { Ok(()) }
    }
}

fn interface(message: &LinkMessage) -> Interface {
    let mut interface =
        Interface { index: message.header.index, name: String::new(), mtu: 0, addresses: Vec::new() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            _ => {}
        }
    }
    interface
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut plain) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the other end's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => plain = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let is_v6 = message.header.family == AddressFamily::Inet6;
    Some(Address {
        ip: local.or(plain)?,
        prefix: message.header.prefix_len,
        deprecated: flags.contains(AddressFlags::Deprecated),
        permanent: flags.contains(AddressFlags::Permanent),
        // One bit for both.
        temporary: is_v6 && flags.contains(AddressFlags::Secondary),
        secondary: !is_v6 && flags.contains(AddressFlags::Secondary),
        // Linux takes optimistic ones for use at once (RFC 4429).
        tentative: flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

/// What is taken note of while routes pass: there may be tens of thousands, nearly all of them ours.
#[derive(Default)]
struct Routes {
    /// The lowest metric, and the interfaces that it leads over.
    default_v4: Option<(u32, BTreeSet<u32>)>,
    default_v6: Option<(u32, BTreeSet<u32>)>,
    gateways: BTreeSet<Gateway>,
}

impl Routes {
    fn see(&mut self, route: &RouteMessage) {
        if !is_plain(route) {
            return;
        }
        self.gateways.extend(gateways_of(route));
        if route.header.destination_prefix_length != 0 {
            return;
        }
        let metric = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Priority(metric) => Some(*metric),
            _ => None,
        });
        let is_v6 = route.header.address_family == AddressFamily::Inet6;
        let best = if is_v6 { &mut self.default_v6 } else { &mut self.default_v4 };
        let (metric, interfaces) = (metric.unwrap_or(0), interfaces_of(route));
        if !interfaces.is_empty() && best.as_ref().is_none_or(|(lowest, _)| metric < *lowest) {
            *best = Some((metric, interfaces));
        }
    }
}

/// Whether it is an ordinary one of the main table.
fn is_plain(route: &RouteMessage) -> bool {
    route.header.kind == RouteType::Unicast && route.header.table == RouteHeader::RT_TABLE_MAIN
}

/// Lets all routes pass, and answers what was taken note of. Not by rtnetlink, which has a whole dump in memory.
async fn look_at_routes<T: Send + 'static>(
    mut seen: T,
    see: impl Fn(&mut T, &RouteMessage) + Send + 'static,
) -> Result<T, rtnetlink::Error> {
    let failed = |error: &dyn fmt::Display| rtnetlink::Error::NamespaceError(error.to_string());
    // Opened here: its network namespace is this thread's.
    let probe = Probe::open().map_err(|error| failed(&error))?;
    let looking = spawn_blocking(move || probe.each_route(|route| see(&mut seen, &route)).map(|()| seen));
    looking.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
}

/// The interfaces that a route leads over; without those that are down, if there are others.
fn interfaces_of(route: &RouteMessage) -> BTreeSet<u32> {
    let (mut alive, mut all) = (BTreeSet::new(), BTreeSet::new());
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => drop(all.insert(*index)),
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    all.insert(hop.interface_index);
                    if !hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown) {
                        alive.insert(hop.interface_index);
                    }
                }
            }
            _ => {}
        }
    }
    if alive.is_empty() { all } else { alive }
}

/// The next hop of a route of the main table that leads to exactly this network, if there is one.
pub(crate) async fn gateway_to(network: Ipv4Net) -> Result<Option<IpAddr>, rtnetlink::Error> {
    let wanted = RouteAddress::Inet(network.network());
    let leads_there = move |route: &RouteMessage| {
        is_plain(route)
            && route.header.destination_prefix_length == network.prefix_len()
            && route
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, RouteAttribute::Destination(to) if *to == wanted))
    };
    let first = look_at_routes(None, move |found: &mut Option<IpAddr>, route| {
        if found.is_none() && leads_there(route) {
            *found = gateways_of(route).first().map(|gateway| gateway.ip);
        }
    });
    first.await
}

/// The next hops of a route, of which there may be several.
fn gateways_of(route: &RouteMessage) -> Vec<Gateway> {
    let default = route.header.destination_prefix_length == 0;
    let (mut oif, mut via, mut gateways) = (None, None, Vec::new());
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    let via = hop.attributes.iter().find_map(|attribute| match attribute {
                        RouteAttribute::Gateway(address) => ip(address),
                        _ => None,
                    });
                    gateways.extend(via.map(|ip| Gateway { ip, interface: hop.interface_index, default }));
                }
            }
            _ => {}
        }
    }
    gateways.extend(via.zip(oif).map(|(ip, interface)| Gateway { ip, interface, default }));
    gateways
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

async fn reach(handle: &Handle, target: IpAddr) -> Result<Option<(u32, Option<IpAddr>)>, rtnetlink::Error> {
    let request = match target {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, 32).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, 128).build(),
    };
    let Ok(answers) = handle.route().get(request).execute().try_collect::<Vec<_>>().await else {
        // The kernel's way of saying that there is no route.
        return Ok(None);
    };
    let Some(route) = answers.first() else { return Ok(None) };
    let (mut oif, mut source) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    Ok(oif.map(|index| (index, source)))
}

pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
