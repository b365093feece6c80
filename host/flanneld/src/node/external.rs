//! Which interface this node reaches its peers over, and under which addresses. The choice is a pure function of the
//! options and of what the kernel has; [`super::inventory`] asks the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_model::entry::is_flannel_device_name;
use ipnet::IpNet;

use super::interface_choice::{self, Found};
use super::inventory::{Gateway, Interface, Inventory, is_link_local};

/// Which families the cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// The interface's addresses that count.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
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
    /// `--iface` names what flannel has made, or an address of pods.
    #[error(
        "--iface {wanted}: this is flannel's own, not what the hosts reach each other over; there are: {there}"
    )]
    OwnDevice {
        /// The option's value.
        wanted: String,
        /// The interfaces with their addresses.
        there: String,
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
    /// The default route has several next hops.
    #[error(
        "the {family} default route is over several interfaces: {interfaces}; name the external interface with --iface"
    )]
    SeveralDefaultRoutes {
        /// The family.
        family: &'static str,
        /// Their names.
        interfaces: String,
    },
    /// The interface has no address of a family that the cluster has.
    #[error("interface {interface} has no {family} address{but}, and the cluster network has {family}")]
    NoAddress {
        /// The interface's name.
        interface: String,
        /// The family.
        family: &'static str,
        /// What is wrong with those that it has, if anything.
        but: String,
    },
    /// The address cannot be used yet.
    #[error(
        "address {address} of interface {interface} cannot be used yet: whether another host has it is being found out"
    )]
    Tentative {
        /// The interface's name.
        interface: String,
        /// The address.
        address: IpAddr,
    },
}

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// What the operator asked for.
    pub selector: InterfaceSelector,
    /// The cluster's families.
    pub families: IpFamilies,
    /// Where pods' addresses are, the first and the last of each family: none of them is a host's.
    pub pods: Vec<(IpAddr, IpAddr)>,
    /// Networks that the cluster had before: what has an address in them is hardly a host's.
    pub former: Vec<IpNet>,
    /// What this node is known by: kept, if the interface that is chosen has it.
    pub known_as: Vec<IpAddr>,
}

impl Wish {
    pub(super) fn is_pods(&self, ip: IpAddr) -> bool {
        self.pods
            .iter()
            .any(|(first, last)| first.is_ipv4() == ip.is_ipv4() && (*first..=*last).contains(&ip))
    }

    pub(super) fn is_former(&self, ip: IpAddr) -> bool {
        self.former.iter().any(|network| network.contains(&ip))
    }
}

/// Chooses, for a node that starts.
pub(crate) fn choose(wish: &Wish, inventory: &Inventory) -> Result<External, ExternalError> {
    choose_among(wish, inventory, inventory)
}

/// Chooses, for a node that is in operation: as long as its interface is there it stays there, under its address if it still has it.
pub(crate) fn keep(
    wish: &Wish,
    current: &External,
    inventory: &Inventory,
) -> Result<External, ExternalError> {
    let mut wish = wish.clone();
    wish.known_as = current.addresses().collect();
    let now = match inventory.by_name(&current.name) {
        Some(interface) => choose_among(&wish, &Inventory::only(interface), inventory)?,
        None => choose(&wish, inventory)?,
    };
    // A router's advertisement, or DHCP, may take its time: until then there is an address that peers could not reach.
    let fell_back = |before: Option<IpAddr>, now: Option<IpAddr>| {
        before.is_some_and(|before| !is_link_local(before)) && now.is_some_and(is_link_local)
    };
    for (family, before, address) in [
        ("IPv4", current.ipv4.map(IpAddr::V4), now.ipv4.map(IpAddr::V4)),
        ("IPv6", current.ipv6.map(IpAddr::V6), now.ipv6.map(IpAddr::V6)),
    ] {
        if fell_back(before, address) {
            let but = " but a link-local one".to_owned();
            return Err(ExternalError::NoAddress { interface: now.name, family, but });
        }
    }
    Ok(now)
}

/// `all`: what there is besides.
fn choose_among(wish: &Wish, inventory: &Inventory, all: &Inventory) -> Result<External, ExternalError> {
    let Found { interface, ipv4, ipv6 } = interface_choice::find(wish, inventory)?;
    let selector = &wish.selector;
    Ok(External {
        name: interface.name.clone(),
        mtu: interface.mtu,
        ipv4,
        ipv6,
        public_ipv4: ipv4.map(|own| selector.public_ip.unwrap_or(own)),
        public_ipv6: ipv6.map(|own| selector.public_ipv6.unwrap_or(own)),
        local: local(interface, all),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::node::inventory::Address;

    const DUAL: IpFamilies = IpFamilies { ipv4: true, ipv6: true };
    const V4: IpFamilies = IpFamilies { ipv4: true, ipv6: false };
    const V6: IpFamilies = IpFamilies { ipv4: false, ipv6: true };

    /// An interface with addresses, each with its prefix and what is to be said of it, as in `ip address`.
    fn interface(index: u32, name: &str, addresses: &[&str]) -> Interface {
        let address = |text: &&str| {
            let (prefix, said) = text.split_once(' ').unwrap_or((text, ""));
            let net: IpNet = prefix.parse().expect("prefix");
            Address {
                prefix: net.prefix_len(),
                ip: net.addr(),
                deprecated: said.contains("deprecated"),
                permanent: !said.contains("dynamic"),
                temporary: said.contains("temporary"),
                secondary: said.contains("secondary"),
                tentative: said.contains("tentative"),
                duplicate: said.contains("dadfailed"),
            }
        };
        let addresses = addresses.iter().map(address).collect();
        Interface { index, name: name.to_owned(), mtu: 1500, addresses }
    }

    fn with(interfaces: Vec<Interface>) -> Inventory {
        let default = BTreeSet::from([2]);
        Inventory {
            interfaces,
            default_v4: default.clone(),
            default_v6: default,
            gateways: BTreeSet::new(),
            reach: None,
        }
    }

    fn inventory() -> Inventory {
        with(vec![
            interface(1, "lo", &["127.0.0.1/8", "::1/128"]),
            interface(2, "eth0", &["169.254.7.7/16", "192.168.0.5/24", "fe80::5/64", "fd77::5/64"]),
            interface(3, "eth1", &["10.1.0.5/24"]),
        ])
    }

    fn wish(selector: InterfaceSelector, families: IpFamilies) -> Wish {
        let pods = vec![
            (IpAddr::from([10, 5, 1, 0]), IpAddr::from([10, 5, 255, 255])),
            ("fc00:5::".parse().expect("address"), "fc00:5:0:ffff::".parse().expect("address")),
        ];
        Wish { selector, families, pods, ..Wish::default() }
    }

    fn by_iface(names: &[&str]) -> InterfaceSelector {
        InterfaceSelector {
            iface: names.iter().map(|name| (*name).to_owned()).collect(),
            ..InterfaceSelector::default()
        }
    }

    fn by_regex(text: &str) -> InterfaceSelector {
        InterfaceSelector { iface_regex: vec![text.to_owned()], ..InterfaceSelector::default() }
    }

    fn names(selector: &InterfaceSelector, stack: IpFamilies) -> Result<String, ExternalError> {
        choose(&wish(selector.clone(), stack), &inventory()).map(|external| external.name)
    }

    /// The addresses that a node takes on `eth0` with these, and by which it is known.
    fn addresses(families: IpFamilies, on_eth0: &[&str], known_as: &[&str]) -> Result<String, ExternalError> {
        let mut wish = wish(InterfaceSelector::default(), families);
        wish.known_as = known_as.iter().map(|text| text.parse().expect("address")).collect();
        let external = choose(&wish, &with(vec![interface(2, "eth0", on_eth0)]))?;
        Ok(external.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn without_wishes_it_is_the_default_routes_interface_with_its_global_addresses() {
        let external = choose(&wish(InterfaceSelector::default(), DUAL), &inventory()).expect("found");
        assert_eq!(external.name, "eth0");
        assert_eq!(external.ipv4, Some(Ipv4Addr::new(192, 168, 0, 5)));
        assert_eq!(external.ipv6, "fd77::5".parse().ok());
        assert_eq!(external.public_ipv4, external.ipv4);
    }

    #[test]
    fn of_several_addresses_it_is_the_one_that_is_most_likely_the_nodes() {
        for (families, there, taken) in [
            (V4, vec!["192.168.0.9/32", "192.168.0.5/24"], "192.168.0.5"),
            (V4, vec!["192.168.0.9/24 secondary", "192.168.0.5/24"], "192.168.0.5"),
            (V4, vec!["192.168.0.9/32"], "192.168.0.9"),
            (V4, vec!["169.254.0.9/16", "192.168.0.9/32"], "192.168.0.9"),
            (V4, vec!["192.168.0.9/24 dynamic", "192.168.1.5/24"], "192.168.1.5"),
            (V4, vec!["10.5.9.9/24", "192.168.0.5/24"], "192.168.0.5"),
            (V6, vec!["fd77::100/128", "fd77::5/64 dynamic", "fe80::5/64"], "fd77::5"),
            (V6, vec!["fd77::100/128", "fe80::5/64"], "fd77::100"),
            (V6, vec!["fd77::5/64 deprecated", "fe80::5/64"], "fd77::5"),
            (V6, vec!["fd77::5/64 deprecated", "fd77::100/128"], "fd77::100"),
            (V6, vec!["fd77::5/64 dadfailed", "fe80::5/64"], "fe80::5"),
            (V6, vec!["fd77::6/64 tentative", "fd77::5/64"], "fd77::5"),
            (V6, vec!["fd77::6/64 dynamic temporary", "fd77::5/64 dynamic"], "fd77::5"),
        ] {
            assert_eq!(addresses(families, &there, &[]).expect("found"), taken, "{there:?}");
        }
    }

    #[test]
    fn a_node_keeps_the_address_that_it_is_known_by() {
        for (families, there, known, taken) in [
            (V4, vec!["192.168.0.5/24", "192.168.0.9/24 secondary"], "192.168.0.9", "192.168.0.9"),
            (V4, vec!["192.168.0.5/24", "192.168.0.9/32"], "192.168.0.9", "192.168.0.9"),
            (V6, vec!["fd77::100/64", "fd77::5/64 deprecated"], "fd77::5", "fd77::5"),
            (V4, vec!["192.168.0.5/24"], "192.168.0.9", "192.168.0.5"),
            // Taken for want of others only.
            (V6, vec!["fe80::5/64", "fd77::5/64"], "fe80::5", "fd77::5"),
            (V6, vec!["fd77::5/64", "fd77::6/64 dadfailed"], "fd77::6", "fd77::5"),
        ] {
            assert_eq!(addresses(families, &there, &[known]).expect("found"), taken, "{there:?}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_yet_is_waited_for() {
        for (there, known) in [
            (vec!["fe80::5/64", "fd77::5/64 tentative"], ""),
            (vec!["fd77::100/128", "fd77::5/64 tentative"], ""),
            (vec!["fd77::100/64", "fd77::5/64 tentative"], "fd77::5"),
        ] {
            let known: Vec<&str> = Some(known).filter(|known| !known.is_empty()).into_iter().collect();
            let error = addresses(V6, &there, &known).expect_err("not yet");
            assert!(matches!(error, ExternalError::Tentative { .. }), "{there:?}: {error}");
        }
    }

    #[test]
    fn an_address_that_another_host_has_too_is_named() {
        let error = addresses(V6, &["fd77::5/64 dadfailed"], &[]).expect_err("none").to_string();
        assert!(error.contains("fd77::5 is another host's, too"), "{error}");
    }

    #[test]
    fn the_first_interface_that_exists_and_has_an_address_is_taken() {
        let mut inventory = inventory();
        inventory.interfaces.push(interface(4, "eth2", &[]));
        for wanted in [["none0", "10.1.0.5"], ["eth2", "eth1"]] {
            let external = choose(&wish(by_iface(&wanted), V4), &inventory).expect("found");
            assert_eq!(external.name, "eth1", "{wanted:?}");
        }
    }

    #[test]
    fn an_unknown_interface_is_named_with_those_that_are_there() {
        let error = names(&by_iface(&["eht0"]), V4).expect_err("no such interface").to_string();
        assert!(error.contains("eht0") && error.contains("eth0 (169.254.7.7"), "{error}");
    }

    #[test]
    fn a_public_address_behind_nat_needs_an_interface() {
        let public_ip = Some(Ipv4Addr::new(203, 0, 113, 5));
        assert!(names(&InterfaceSelector { public_ip, ..InterfaceSelector::default() }, V4).is_err());
        let selector = InterfaceSelector { public_ip, ..by_iface(&["eth0"]) };
        let external = choose(&wish(selector, V4), &inventory()).expect("found");
        assert_eq!(external.ipv4, Some(Ipv4Addr::new(192, 168, 0, 5)));
        assert_eq!(external.public_ipv4, public_ip);
    }

    #[test]
    fn a_regex_fits_addresses_before_names() {
        assert_eq!(names(&by_regex("^10\\."), V4).expect("found"), "eth1");
        assert_eq!(names(&by_regex("eth."), V4).expect("found"), "eth0");
        assert_eq!(names(&by_regex("^fd77"), DUAL).expect("found"), "eth0");
        assert!(matches!(names(&by_regex("("), V4), Err(ExternalError::BadRegex { .. })));
    }

    #[test]
    fn flannels_own_devices_and_those_of_pods_are_never_the_external_interface() {
        let mut inventory = inventory();
        inventory.interfaces.insert(0, interface(7, "flannel.1", &["10.5.7.0/32", "192.0.2.7/32"]));
        inventory.interfaces.insert(1, interface(8, "cni0", &["10.5.7.1/24", "10.4.7.1/24"]));
        let mut wish = wish(by_regex("^10\\."), V4);
        wish.former = vec!["10.4.0.0/16".parse().expect("prefix")];
        assert_eq!(choose(&wish, &inventory).expect("found").name, "eth1");
        wish.selector = by_regex("flannel|cni|eth1");
        wish.former.clear();
        inventory.interfaces[1].addresses.truncate(1);
        assert_eq!(choose(&wish, &inventory).expect("found").name, "eth1");
        for wanted in ["flannel.1", "10.5.7.1", "10.5.7.0"] {
            wish.selector = by_iface(&[wanted]);
            let error = choose(&wish, &inventory).expect_err("own");
            assert!(matches!(error, ExternalError::OwnDevice { .. }), "{wanted}: {error}");
        }
        wish.selector = by_iface(&["cni0"]);
        let error = choose(&wish, &inventory).expect_err("pods").to_string();
        assert!(error.contains("10.5.7.1 is one of the cluster's pods"), "{error}");
    }

    #[test]
    fn of_names_that_a_regex_fits_one_with_an_address_is_taken() {
        let mut inventory = inventory();
        inventory.interfaces.insert(1, interface(9, "eth00", &["fe80::9/64"]));
        assert_eq!(choose(&wish(by_regex("^eth"), V4), &inventory).expect("found").name, "eth0");
    }

    #[test]
    fn a_default_route_of_several_next_hops_counts_if_they_are_over_one_interface() {
        let mut inventory = inventory();
        inventory.default_v4 = BTreeSet::from([2, 3]);
        let error = choose(&wish(InterfaceSelector::default(), V4), &inventory).expect_err("two").to_string();
        assert!(error.contains("eth0 and eth1"), "{error}");
        inventory.default_v4 = BTreeSet::from([3]);
        assert_eq!(choose(&wish(InterfaceSelector::default(), V4), &inventory).expect("found").name, "eth1");
    }

    #[test]
    fn an_interface_without_an_address_of_the_clusters_family_is_refused() {
        let error = names(&by_iface(&["eth1"]), DUAL).expect_err("no IPv6");
        assert!(
            matches!(&error, ExternalError::NoAddress { interface, family: "IPv6", .. } if interface == "eth1")
        );
    }

    #[test]
    fn a_node_in_operation_stays_at_its_interface_as_long_as_that_is_there() {
        let default = wish(InterfaceSelector::default(), V4);
        let current = choose(&default, &inventory()).expect("found");
        let mut now = inventory();
        now.default_v4 = BTreeSet::from([3]);
        assert_eq!(keep(&default, &current, &now).expect("kept").name, "eth0");
        now.default_v4.clear();
        now.interfaces[1].addresses[1].ip = [192, 168, 0, 6].into();
        assert_eq!(keep(&default, &current, &now).expect("kept").ipv4, Some([192, 168, 0, 6].into()));
        now.interfaces[1].addresses.clear();
        assert!(keep(&default, &current, &now).is_err(), "waits for an address");
        now.interfaces.remove(1);
        now.default_v4.insert(3);
        assert_eq!(keep(&default, &current, &now).expect("another").name, "eth1");
    }

    #[test]
    fn a_node_in_operation_waits_rather_than_to_take_a_link_local_address() {
        let wish = wish(InterfaceSelector::default(), DUAL);
        let current = choose(&wish, &inventory()).expect("found");
        for gone in ["192.168.0.5", "fd77::5"] {
            let mut now = inventory();
            now.interfaces[1].addresses.retain(|address| address.ip.to_string() != gone);
            let error = keep(&wish, &current, &now).expect_err("waits").to_string();
            assert!(error.contains("but a link-local one"), "{error}");
        }
        // One that had nothing else goes on with it.
        let only = with(vec![interface(2, "eth0", &["169.254.7.7/16", "fe80::5/64"])]);
        let current = choose(&wish, &only).expect("found");
        assert_eq!(keep(&wish, &current, &only), Ok(current));
    }

    #[test]
    fn a_node_in_operation_takes_no_address_that_the_operator_did_not_mean() {
        for selector in [by_iface(&["192.168.0.5"]), by_regex("^192")] {
            let wish = wish(selector, V4);
            let current = choose(&wish, &inventory()).expect("found");
            let mut now = inventory();
            now.interfaces[1].addresses[1].ip = [172, 16, 0, 9].into();
            assert!(keep(&wish, &current, &now).is_err());
        }
    }
}
