//! Which interface this node reaches its peers over, and under which addresses. The choice is a pure function of the
//! options and of what the kernel has; [`super::inventory`] asks the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_model::entry::is_flannel_device_name;
use ipnet::IpNet;
use regex::Regex;

use super::inventory::{Address, Gateway, Interface, Inventory, is_link_local};

/// Which families the cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpFamilies {
    /// IPv4 is on.
    pub ipv4: bool,
    /// IPv6 is on.
    pub ipv6: bool,
}

/// What the operator asked for. The first that fits is taken: `iface` in order, `iface_regex` in order, `can_reach`; with
/// none of them the public address, and without that the default route.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterfaceSelector {
    /// Names or addresses of interfaces.
    pub iface: Vec<String>,
    /// Regular expressions for addresses, then names.
    pub iface_regex: Vec<String>,
    /// The interface over which this address is reached.
    pub can_reach: Option<IpAddr>,
    /// The IPv4 address to publish instead of the interface's.
    pub public_ip: Option<Ipv4Addr>,
    /// The IPv6 address to publish instead of the interface's.
    pub public_ipv6: Option<Ipv6Addr>,
}

/// The external interface and the addresses that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// The interface's name.
    pub name: String,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// The interface's IPv4 address; none if the cluster has no IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// The interface's IPv6 address; none if the cluster has no IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// The IPv4 address to publish.
    pub public_ipv4: Option<Ipv4Addr>,
    /// The IPv6 address to publish.
    pub public_ipv6: Option<Ipv6Addr>,
    /// What this node is, and what it reaches without anybody's help: no peer can have it.
    pub local: Vec<Local>,
}

/// Something of the node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// An address of an interface.
    Address(IpAddr, String),
    /// The network that an interface is on.
    Network(IpNet, String),
    /// The next hop of a route.
    Gateway(IpAddr),
}

impl Local {
    /// The addresses.
    pub(crate) fn net(&self) -> IpNet {
        match self {
            Self::Address(ip, _) | Self::Gateway(ip) => (*ip).into(),
            Self::Network(net, _) => *net,
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, interface) => write!(f, "{ip}, an address of this node's {interface}"),
            Self::Network(net, interface) => write!(f, "{net}, which this node's {interface} is on"),
            Self::Gateway(ip) => write!(f, "{ip}, a gateway of this node"),
        }
    }
}

impl External {
    /// For tests: `eth0` with this address, on which there is nothing else.
    #[cfg(test)]
    pub(crate) fn with_address(address: [u8; 4]) -> Self {
        let ipv4 = Some(address.into());
        Self {
            name: "eth0".to_owned(),
            mtu: 1500,
            ipv4,
            ipv6: None,
            public_ipv4: ipv4,
            public_ipv6: None,
            local: Vec::new(),
        }
    }

    /// Whether a node that has the one interface could go on as if it had the other: whatever depends on it would be the same.
    pub(crate) fn is_interchangeable(&self, other: &Self) -> bool {
        let elsewhere = Self { local: other.local.clone(), ..self.clone() };
        elsewhere == *other
    }
}

/// Why no interface fits.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExternalError {
    /// `--iface` names what is not there.
    #[error("--iface {wanted}: no such interface or address; there are: {there}")]
    NoSuchInterface {
        /// The option's value.
        wanted: String,
        /// The interfaces with their addresses.
        there: String,
    },
    /// `--iface-regex` fits nothing.
    #[error("--iface-regex {wanted}: fits no address and no name of: {there}")]
    NothingMatches {
        /// The option's value.
        wanted: String,
        /// The interfaces with their addresses.
        there: String,
    },
    /// `--iface-regex` is no regular expression.
    #[error("--iface-regex {wanted}: {reason}")]
    BadRegex {
        /// The option's value.
        wanted: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `--iface-can-reach` leads nowhere.
    #[error("--iface-can-reach {0}: there is no route to it")]
    Unreachable(IpAddr),
    /// `--public-ip` or `--public-ipv6` alone is meant to choose the interface, and no interface has it.
    #[error("--public-ip{six} {address}: no interface has this address; where it is another device's (NAT), name the interface with --iface; there are: {there}", six = if address.is_ipv6() { "v6" } else { "" })]
    PublicAddressNowhere {
        /// The option's value.
        address: IpAddr,
        /// The interfaces with their addresses.
        there: String,
    },
    /// There is no default route.
    #[error(
        "there is no {family} default route to find the external interface by; name it with --iface; there are: {there}"
    )]
    NoDefaultRoute {
        /// The family.
        family: &'static str,
        /// The interfaces with their addresses.
        there: String,
    },
    /// The default routes disagree.
    #[error(
        "the IPv4 default route is over {ipv4}, the IPv6 one over {ipv6}: name the external interface with --iface"
    )]
    DefaultRoutesDiffer {
        /// The interface of the IPv4 one.
        ipv4: String,
        /// The interface of the IPv6 one.
        ipv6: String,
    },
    /// The interface has no address of a family that the cluster has.
    #[error("interface {interface} has no {family} address, and the cluster network has {family}")]
    NoAddress {
        /// The interface's name.
        interface: String,
        /// The family.
        family: &'static str,
    },
}

/// Chooses.
pub(crate) fn choose(
    selector: &InterfaceSelector,
    stack: IpFamilies,
    inventory: &Inventory,
) -> Result<External, ExternalError> {
    let (interface, address) = find(selector, stack, inventory)?;
    let none = |family| ExternalError::NoAddress { interface: interface.name.clone(), family };
    let given_v4 = match address {
        Some(IpAddr::V4(v4)) => Some(v4),
        _ => None,
    };
    let given_v6 = match address {
        Some(IpAddr::V6(v6)) => Some(v6),
        _ => selector.public_ipv6.filter(|v6| interface.has(IpAddr::V6(*v6))),
    };
    let v4 = || given_v4.or_else(|| best_v4(interface)).ok_or_else(|| none("IPv4"));
    let v6 = || given_v6.or_else(|| best_v6(interface)).ok_or_else(|| none("IPv6"));
    let ipv4 = stack.ipv4.then(v4).transpose()?;
    let ipv6 = stack.ipv6.then(v6).transpose()?;
    Ok(External {
        name: interface.name.clone(),
        mtu: interface.mtu,
        ipv4,
        ipv6,
        public_ipv4: ipv4.map(|own| selector.public_ip.unwrap_or(own)),
        public_ipv6: ipv6.map(|own| selector.public_ipv6.unwrap_or(own)),
        local: local(interface, inventory),
    })
}

/// What is the node's own: addresses and networks of all interfaces but flannel's, and where its traffic goes first. `external`: the
/// external interface.
fn local(external: &Interface, inventory: &Inventory) -> Vec<Local> {
    let mut local = Vec::new();
    for interface in inventory.interfaces.iter().filter(|one| !is_flannel_device_name(&one.name)) {
        for address in interface.addresses.iter().filter(|address| !is_link_local(address.ip)) {
            local.push(Local::Address(address.ip, interface.name.clone()));
            let net = address.network();
            if net.prefix_len() < net.max_prefix_len() {
                local.push(Local::Network(net, interface.name.clone()));
            }
        }
    }
    // Other routes may be flannel's own.
    let counts = |gateway: &&Gateway| gateway.default || gateway.interface == external.index;
    let gateways = inventory.gateways.iter().filter(counts).filter(|gateway| !is_link_local(gateway.ip));
    local.extend(gateways.map(|gateway| Local::Gateway(gateway.ip)));
    local.dedup();
    local
}

/// The interface, and the address by which it was found.
fn find<'a>(
    selector: &InterfaceSelector,
    stack: IpFamilies,
    inventory: &'a Inventory,
) -> Result<(&'a Interface, Option<IpAddr>), ExternalError> {
    let there = || inventory.to_string();
    let mut last = None;
    for wanted in &selector.iface {
        match by_name_or_address(wanted, inventory) {
            Some(found) => return Ok(found),
            None => last = Some(ExternalError::NoSuchInterface { wanted: wanted.clone(), there: there() }),
        }
    }
    for wanted in &selector.iface_regex {
        let regex = Regex::new(wanted).map_err(|error| ExternalError::BadRegex {
            wanted: wanted.clone(),
            reason: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })?;
        match by_regex(&regex, stack, inventory) {
            Some(found) => return Ok(found),
            None => last = Some(ExternalError::NothingMatches { wanted: wanted.clone(), there: there() }),
        }
    }
    if let Some(target) = selector.can_reach {
        match &inventory.reach {
            Some((index, source)) if let Some(interface) = inventory.by_index(*index) => {
                return Ok((interface, *source));
            }
            _ => last = Some(ExternalError::Unreachable(target)),
        }
    }
    if let Some(error) = last {
        return Err(error);
    }
    let public = selector.public_ip.map(IpAddr::V4).or(selector.public_ipv6.map(IpAddr::V6));
    if let Some(address) = public {
        return by_name_or_address(&address.to_string(), inventory)
            .ok_or_else(|| ExternalError::PublicAddressNowhere { address, there: there() });
    }
    by_default_route(stack, inventory).map(|interface| (interface, None))
}

fn by_name_or_address<'a>(wanted: &str, inventory: &'a Inventory) -> Option<(&'a Interface, Option<IpAddr>)> {
    match wanted.parse::<IpAddr>() {
        Ok(address) => {
            inventory.interfaces.iter().find(|i| i.has(address)).map(|interface| (interface, Some(address)))
        }
        Err(_) => inventory.interfaces.iter().find(|i| i.name == wanted).map(|interface| (interface, None)),
    }
}

/// Addresses first, then names, each in the kernel's order. In dual stack an address of either family will do
/// (upstream wants the expression to fit both).
fn by_regex<'a>(
    regex: &Regex,
    stack: IpFamilies,
    inventory: &'a Inventory,
) -> Option<(&'a Interface, Option<IpAddr>)> {
    let by_address = inventory.interfaces.iter().find_map(|interface| {
        let fits = |a: &&Address| {
            (if a.ip.is_ipv4() { stack.ipv4 } else { stack.ipv6 }) && regex.is_match(&a.ip.to_string())
        };
        interface.usable().find(fits).map(|address| (interface, Some(address.ip)))
    });
    by_address.or_else(|| {
        inventory.interfaces.iter().find(|i| regex.is_match(&i.name)).map(|interface| (interface, None))
    })
}

fn by_default_route(stack: IpFamilies, inventory: &Inventory) -> Result<&Interface, ExternalError> {
    let of = |family: &'static str, index: Option<u32>| {
        index
            .and_then(|index| inventory.by_index(index))
            .ok_or_else(|| ExternalError::NoDefaultRoute { family, there: inventory.to_string() })
    };
    let ipv4 = stack.ipv4.then(|| of("IPv4", inventory.default_v4)).transpose()?;
    let ipv6 = stack.ipv6.then(|| of("IPv6", inventory.default_v6)).transpose()?;
    match (ipv4, ipv6) {
        (Some(a), Some(b)) if a.index != b.index => {
            Err(ExternalError::DefaultRoutesDiffer { ipv4: a.name.clone(), ipv6: b.name.clone() })
        }
        (Some(interface), _) | (None, Some(interface)) => Ok(interface),
        (None, None) => Err(ExternalError::NoDefaultRoute { family: "IPv4", there: inventory.to_string() }),
    }
}

fn best_v4(interface: &Interface) -> Option<Ipv4Addr> {
    interface.usable().filter(|a| a.ip.is_ipv4()).min_by_key(|a| a.rank()).and_then(|a| match a.ip {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    })
}

fn best_v6(interface: &Interface) -> Option<Ipv6Addr> {
    interface.usable().filter(|a| a.ip.is_ipv6()).min_by_key(|a| a.rank()).and_then(|a| match a.ip {
        IpAddr::V6(v6) => Some(v6),
        IpAddr::V4(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DUAL: IpFamilies = IpFamilies { ipv4: true, ipv6: true };
    const V4: IpFamilies = IpFamilies { ipv4: true, ipv6: false };

    fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
        let address = |text: &&str| Address {
            prefix: 24,
            ip: text.parse().expect("address"),
            deprecated: false,
            permanent: true,
            temporary: false,
        };
        Interface {
            index,
            name: name.to_owned(),
            mtu: 1500,
            addresses: addresses.iter().map(address).collect(),
        }
    }

    fn inventory() -> Inventory {
        Inventory {
            interfaces: vec![
                interface(1, "lo", &["127.0.0.1", "::1"]),
                interface(2, "eth0", &["169.254.7.7", "192.168.0.5", "fe80::5", "fd77::5"]),
                interface(3, "eth1", &["10.1.0.5"]),
            ],
            default_v4: Some(2),
            default_v6: Some(2),
            gateways: BTreeSet::new(),
            reach: None,
        }
    }

    fn names(selector: &InterfaceSelector, stack: IpFamilies) -> Result<String, ExternalError> {
        choose(selector, stack, &inventory()).map(|external| external.name)
    }

    #[test]
    fn without_wishes_it_is_the_default_routes_interface_with_its_global_addresses() {
        let external = choose(&InterfaceSelector::default(), DUAL, &inventory()).expect("found");
        assert_eq!(external.name, "eth0");
        assert_eq!(external.ipv4, Some(Ipv4Addr::new(192, 168, 0, 5)));
        assert_eq!(external.ipv6, "fd77::5".parse().ok());
        assert_eq!(external.public_ipv4, external.ipv4);
    }

    #[test]
    fn the_first_interface_that_exists_is_taken() {
        let selector = InterfaceSelector {
            iface: vec!["none0".into(), "10.1.0.5".into()],
            ..InterfaceSelector::default()
        };
        assert_eq!(names(&selector, V4).expect("found"), "eth1");
    }

    #[test]
    fn an_unknown_interface_is_named_with_those_that_are_there() {
        let selector = InterfaceSelector { iface: vec!["eht0".into()], ..InterfaceSelector::default() };
        let error = names(&selector, V4).expect_err("no such interface").to_string();
        assert!(error.contains("eht0") && error.contains("eth0 (169.254.7.7"), "{error}");
    }

    #[test]
    fn a_public_address_behind_nat_needs_an_interface() {
        let public_ip = Some(Ipv4Addr::new(203, 0, 113, 5));
        assert!(names(&InterfaceSelector { public_ip, ..InterfaceSelector::default() }, V4).is_err());
        let selector =
            InterfaceSelector { public_ip, iface: vec!["eth0".into()], ..InterfaceSelector::default() };
        let external = choose(&selector, V4, &inventory()).expect("found");
        assert_eq!(external.ipv4, Some(Ipv4Addr::new(192, 168, 0, 5)));
        assert_eq!(external.public_ipv4, public_ip);
    }

    #[test]
    fn a_regex_fits_addresses_before_names() {
        let by = |text: &str| InterfaceSelector {
            iface_regex: vec![text.to_owned()],
            ..InterfaceSelector::default()
        };
        assert_eq!(names(&by("^10\\."), V4).expect("found"), "eth1");
        assert_eq!(names(&by("eth."), V4).expect("found"), "eth0");
        assert_eq!(names(&by("^fd77"), DUAL).expect("found"), "eth0");
        assert!(matches!(names(&by("("), V4), Err(ExternalError::BadRegex { .. })));
    }

    #[test]
    fn an_interface_without_an_address_of_the_clusters_family_is_refused() {
        let selector = InterfaceSelector { iface: vec!["eth1".into()], ..InterfaceSelector::default() };
        assert_eq!(
            names(&selector, DUAL),
            Err(ExternalError::NoAddress { interface: "eth1".into(), family: "IPv6" })
        );
    }
}
