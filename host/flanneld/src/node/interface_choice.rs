//! The choice itself: which interface, and which of its addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_model::entry::is_flannel_device_name;
use regex::Regex;

use super::external::{ExternalError, Wish};
use super::inventory::{Address, Interface, Inventory, is_link_local};

/// The interface, and its address in each family that the cluster has.
pub(super) struct Found<'a> {
    pub(super) interface: &'a Interface,
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) ipv6: Option<Ipv6Addr>,
}

/// Which of an interface's addresses the operator means.
enum Meant {
    /// Any.
    Any,
    /// This one, in its family.
    One(IpAddr),
    /// Those that it matches, in families where there are any.
    Matching(Regex),
}

/// Finds what the operator asked for. An interface that has no address is passed over if another one fits, too; one whose address cannot be
/// used yet is waited for.
pub(super) fn find<'a>(wish: &Wish, inventory: &'a Inventory) -> Result<Found<'a>, ExternalError> {
    let selector = &wish.selector;
    let there = || inventory.to_string();
    let mut first_error = None;
    for wanted in &selector.iface {
        match named(wish, wanted, inventory) {
            Err(error) if !matches!(error, ExternalError::Tentative { .. }) => {
                first_error.get_or_insert(error);
            }
            outcome => return outcome,
        }
    }
    for wanted in &selector.iface_regex {
        match matching(wish, wanted, inventory) {
            Err(error) if !matches!(error, ExternalError::Tentative { .. }) => {
                first_error.get_or_insert(error);
            }
            outcome => return outcome,
        }
    }
    if let Some(target) = selector.can_reach {
        let reached = inventory.reach.and_then(|(index, source)| Some((inventory.by_index(index)?, source)));
        match reached.filter(|(interface, _)| !is_own(interface)) {
            // The source address that the kernel would take is better than any, but no better than what the node is known by.
            Some((interface, source)) => {
                let is_kept =
                    |ip: &IpAddr| interface.has(*ip) && source.is_some_and(|s| s.is_ipv4() == ip.is_ipv4());
                let meant = match source {
                    Some(source) if !wish.known_as.iter().any(is_kept) => Meant::One(source),
                    _ => Meant::Any,
                };
                return with_addresses(wish, interface, &meant);
            }
            None => {
                first_error.get_or_insert(ExternalError::Unreachable(target));
            }
        }
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    let public = selector.public_ip.map(IpAddr::V4).or(selector.public_ipv6.map(IpAddr::V6));
    if let Some(address) = public {
        return match by_address(address, inventory) {
            Some(interface) => with_addresses(wish, interface, &Meant::One(address)),
            None => Err(ExternalError::PublicAddressNowhere { address, there: there() }),
        };
    }
    with_addresses(wish, by_default_route(wish, inventory)?, &Meant::Any)
}

/// What flannel has made leads to other hosts only by way of another interface.
fn is_own(interface: &Interface) -> bool {
    is_flannel_device_name(&interface.name)
}

fn by_address(address: IpAddr, inventory: &Inventory) -> Option<&Interface> {
    inventory.interfaces.iter().find(|interface| interface.has(address) && !is_own(interface))
}

/// `--iface`: a name or an address.
fn named<'a>(wish: &Wish, wanted: &str, inventory: &'a Inventory) -> Result<Found<'a>, ExternalError> {
    let none = || ExternalError::NoSuchInterface { wanted: wanted.to_owned(), there: inventory.to_string() };
    let own = || ExternalError::OwnDevice { wanted: wanted.to_owned(), there: inventory.to_string() };
    let Ok(address) = wanted.parse::<IpAddr>() else {
        let interface = inventory.by_name(wanted).ok_or_else(none)?;
        return if is_own(interface) { Err(own()) } else { with_addresses(wish, interface, &Meant::Any) };
    };
    if wish.is_pods(address) {
        return Err(own());
    }
    with_addresses(wish, by_address(address, inventory).ok_or_else(none)?, &Meant::One(address))
}

/// `--iface-regex`: addresses first, then names, each in the kernel's order. In dual stack an address of either family will do (upstream
/// wants the expression to fit both).
fn matching<'a>(wish: &Wish, wanted: &str, inventory: &'a Inventory) -> Result<Found<'a>, ExternalError> {
    let regex = Regex::new(wanted).map_err(|error| ExternalError::BadRegex {
        wanted: wanted.to_owned(),
        reason: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
    })?;
    let interfaces = || inventory.interfaces.iter().filter(|interface| !is_own(interface));
    let fits = |interface: &Interface, former: bool| {
        let of_family = |ip: IpAddr| if ip.is_ipv4() { wish.families.ipv4 } else { wish.families.ipv6 };
        candidates(wish, interface).any(|a| {
            of_family(a.ip) && (former || !wish.is_former(a.ip)) && regex.is_match(&a.ip.to_string())
        })
    };
    let by_address = interfaces()
        .filter(|interface| fits(interface, false))
        .chain(interfaces().filter(|interface| fits(interface, true) && !fits(interface, false)));
    let by_name = interfaces().filter(|interface| regex.is_match(&interface.name));
    let matched: Vec<(&Interface, Meant)> = by_address
        .map(|interface| (interface, Meant::Matching(regex.clone())))
        .chain(by_name.map(|interface| (interface, Meant::Any)))
        .collect();
    let mut first_error = None;
    for (interface, meant) in matched {
        match with_addresses(wish, interface, &meant) {
            Err(error) if !matches!(error, ExternalError::Tentative { .. }) => {
                first_error.get_or_insert(error);
            }
            outcome => return outcome,
        }
    }
    Err(first_error.unwrap_or_else(|| ExternalError::NothingMatches {
        wanted: wanted.to_owned(),
        there: inventory.to_string(),
    }))
}

fn by_default_route<'a>(wish: &Wish, inventory: &'a Inventory) -> Result<&'a Interface, ExternalError> {
    let of = |family: &'static str, indices: &BTreeSet<u32>| {
        let interfaces: Vec<&Interface> =
            indices.iter().filter_map(|index| inventory.by_index(*index)).collect();
        match interfaces[..] {
            [] => Err(ExternalError::NoDefaultRoute { family, there: inventory.to_string() }),
            [interface] => Ok(interface),
            _ => {
                let names: Vec<&str> = interfaces.iter().map(|interface| &*interface.name).collect();
                Err(ExternalError::SeveralDefaultRoutes { family, interfaces: names.join(" and ") })
            }
        }
    };
    let ipv4 = wish.families.ipv4.then(|| of("IPv4", &inventory.default_v4)).transpose()?;
    let ipv6 = wish.families.ipv6.then(|| of("IPv6", &inventory.default_v6)).transpose()?;
    match (ipv4, ipv6) {
        (Some(a), Some(b)) if a.index != b.index => {
            Err(ExternalError::DefaultRoutesDiffer { ipv4: a.name.clone(), ipv6: b.name.clone() })
        }
        (Some(interface), _) | (None, Some(interface)) => Ok(interface),
        (None, None) => Err(ExternalError::NoDefaultRoute { family: "IPv4", there: inventory.to_string() }),
    }
}

/// Addresses that could be the node's.
fn candidates<'a>(wish: &'a Wish, interface: &'a Interface) -> impl Iterator<Item = &'a Address> {
    interface.usable().filter(|address| !wish.is_pods(address.ip))
}

/// An interface with its addresses in the cluster's families.
fn with_addresses<'a>(
    wish: &Wish,
    interface: &'a Interface,
    meant: &Meant,
) -> Result<Found<'a>, ExternalError> {
    let mut found = Found { interface, ipv4: None, ipv6: None };
    if wish.families.ipv4
        && let IpAddr::V4(v4) = address(wish, interface, meant, true)?
    {
        found.ipv4 = Some(v4);
    }
    if wish.families.ipv6
        && let IpAddr::V6(v6) = address(wish, interface, meant, false)?
    {
        found.ipv6 = Some(v6);
    }
    Ok(found)
}

/// The address of a family: the one that the node is known by, else the best.
fn address(wish: &Wish, interface: &Interface, meant: &Meant, v4: bool) -> Result<IpAddr, ExternalError> {
    let all: Vec<&Address> =
        candidates(wish, interface).filter(|address| address.ip.is_ipv4() == v4).collect();
    let is_public = |ip: IpAddr| !v4 && wish.selector.public_ipv6.map(IpAddr::V6) == Some(ip);
    let is_meant = |address: &&&Address| match meant {
        Meant::Any => is_public(address.ip),
        Meant::One(one) => *one == address.ip || (one.is_ipv4() != v4 && is_public(address.ip)),
        Meant::Matching(regex) => regex.is_match(&address.ip.to_string()),
    };
    let mut among: Vec<&Address> = all.iter().filter(is_meant).copied().collect();
    if among.is_empty() {
        among.clone_from(&all);
    }
    let best = among
        .iter()
        .min_by_key(|address| (wish.is_former(address.ip), interface.rank(address), address.tentative));
    let best = best.ok_or_else(|| no_address(wish, interface, v4))?;
    // Link-local addresses are taken for want of others only.
    let is_known = |address: &&&Address| {
        wish.known_as.contains(&address.ip) && (!is_link_local(address.ip) || is_link_local(best.ip))
    };
    let chosen = among.iter().find(is_known).unwrap_or(best);
    if chosen.tentative {
        return Err(ExternalError::Tentative { interface: interface.name.clone(), address: chosen.ip });
    }
    Ok(chosen.ip)
}

fn no_address(wish: &Wish, interface: &Interface, v4: bool) -> ExternalError {
    let of_family = || interface.addresses.iter().filter(|address| address.ip.is_ipv4() == v4);
    let but = if let Some(address) = of_family().find(|address| address.duplicate) {
        format!(" that it could use ({} is another host's, too)", address.ip)
    } else if let Some(address) = of_family().find(|address| wish.is_pods(address.ip)) {
        format!(" of a host ({} is one of the cluster's pods)", address.ip)
    } else {
        String::new()
    };
    ExternalError::NoAddress {
        interface: interface.name.clone(),
        family: if v4 { "IPv4" } else { "IPv6" },
        but,
    }
}
