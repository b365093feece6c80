//! Between the contract's types and the host's. What comes from the plugin is checked here for what its type cannot say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_base::Family;
use flannel_model::entry::Mac;
use flannel_model::lease::Lease;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::bindings::flannel::backend::types as wit;
use super::facts::NodeFacts;

/// Bytes of a peer's published data that are handed to a plugin; longer is as good as none.
const LONGEST_DATA: usize = 64 << 10;

fn v4_out(address: Ipv4Addr) -> wit::Ipv4Address {
    let [a, b, c, d] = address.octets();
    (a, b, c, d)
}

fn v6_out(address: Ipv6Addr) -> wit::Ipv6Address {
    let [a, b, c, d, e, f, g, h] = address.segments();
    (a, b, c, d, e, f, g, h)
}

fn net4_out(net: Ipv4Net) -> wit::Ipv4Prefix {
    wit::Ipv4Prefix { address: v4_out(net.addr()), length: net.prefix_len() }
}

fn net6_out(net: Ipv6Net) -> wit::Ipv6Prefix {
    wit::Ipv6Prefix { address: v6_out(net.addr()), length: net.prefix_len() }
}

/// An address for the plugin.
pub(crate) fn address_out(address: IpAddr) -> wit::IpAddress {
    match address {
        IpAddr::V4(address) => wit::IpAddress::Ipv4(v4_out(address)),
        IpAddr::V6(address) => wit::IpAddress::Ipv6(v6_out(address)),
    }
}

/// A network, or an address with the length of its prefix, for the plugin.
pub(crate) fn prefix_out(prefix: IpNet) -> wit::IpPrefix {
    match prefix {
        IpNet::V4(net) => wit::IpPrefix::Ipv4(net4_out(net)),
        IpNet::V6(net) => wit::IpPrefix::Ipv6(net6_out(net)),
    }
}

/// A MAC address for the plugin.
pub(crate) fn mac_out(mac: Mac) -> wit::MacAddress {
    let [a, b, c, d, e, f] = mac.0;
    (a, b, c, d, e, f)
}

/// A family of addresses.
pub(crate) fn family(family: wit::IpFamily) -> Family {
    match family {
        wit::IpFamily::Ipv4 => Family::Ipv4,
        wit::IpFamily::Ipv6 => Family::Ipv6,
    }
}

/// Bytes of the largest IP packet over a device: no IPv4 packet is larger than 65535 (RFC 791), though devices such as `lo` may say so.
pub(crate) fn carried(mtu: u32) -> u32 {
    mtu.min(65_535)
}

/// This node for the plugin.
pub(crate) fn node(facts: &NodeFacts) -> wit::Node {
    wit::Node {
        external: wit::ExternalInterface {
            name: facts.interface.clone(),
            mtu: carried(facts.mtu),
            ipv4: facts.ipv4.map(v4_out),
            ipv6: facts.ipv6.map(v6_out),
        },
        public_ipv4: facts.public_ipv4.map(v4_out),
        public_ipv6: facts.public_ipv6.map(v6_out),
        ipv4_network: facts.ipv4_network.map(net4_out),
        ipv6_network: facts.ipv6_network.map(net6_out),
    }
}

/// A lease for the plugin.
pub(crate) fn lease(lease: &Lease) -> wit::Lease {
    let attributes = &lease.attributes;
    let text = |data: &Option<Box<serde_json::value::RawValue>>| {
        data.as_ref().map(|data| data.get()).filter(|text| text.len() <= LONGEST_DATA).map(str::to_owned)
    };
    wit::Lease {
        ipv4_subnet: lease.subnets.v4.map(net4_out),
        ipv6_subnet: lease.subnets.v6.map(net6_out),
        public_ipv4: attributes.public_ip.map(v4_out),
        public_ipv6: attributes.public_ipv6.map(v6_out),
        backend_type: attributes.backend_type.clone(),
        backend_data: text(&attributes.backend_data),
        backend_v6_data: text(&attributes.backend_v6_data),
    }
}

/// An address from the plugin.
pub(crate) fn address(address: wit::IpAddress) -> IpAddr {
    match address {
        wit::IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        wit::IpAddress::Ipv6(address) => ipv6_address(address).into(),
    }
}

/// An IPv6 address from the plugin.
pub(crate) fn ipv6_address((a, b, c, d, e, f, g, h): wit::Ipv6Address) -> Ipv6Addr {
    Ipv6Addr::new(a, b, c, d, e, f, g, h)
}

/// An address with a prefix length from the plugin; bits beyond the length may be set.
pub(crate) fn interface_address(prefix: &wit::IpPrefix) -> Result<IpNet, wit::Error> {
    let (address, length) = match prefix {
        wit::IpPrefix::Ipv4(p) => (address(wit::IpAddress::Ipv4(p.address)), p.length),
        wit::IpPrefix::Ipv6(p) => (address(wit::IpAddress::Ipv6(p.address)), p.length),
    };
    IpNet::new(address, length).map_err(|_| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        wit::Error::InvalidArgument(format!("{address}/{length}: the prefix length is 0 to {most}"))
    })
}

/// A network from the plugin.
pub(crate) fn network(prefix: &wit::IpPrefix) -> Result<IpNet, wit::Error> {
    let net = interface_address(prefix)?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(wit::Error::InvalidArgument(format!(
            "{net}: bits beyond the prefix length are set; {} has not",
            net.trunc()
        )))
    }
}

/// The Ethernet address of one device, from the plugin.
pub(crate) fn mac(mac: wit::MacAddress) -> Result<Mac, wit::Error> {
    let (a, b, c, d, e, f) = mac;
    let mac = Mac([a, b, c, d, e, f]);
    if a & 1 != 0 || mac.0 == [0; 6] {
        return Err(wit::Error::InvalidArgument(format!(
            "{mac} is not the Ethernet address of a single device"
        )));
    }
    Ok(mac)
}

/// Text from the plugin, for an operator: no control characters, and no longer than the limit.
pub(crate) fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    for character in text.trim_end().chars() {
        if shown.len() + character.len_utf8() > limit {
            shown.push('…');
            break;
        }
        if character.is_control() { shown.extend(character.escape_default()) } else { shown.push(character) }
    }
    shown
}
