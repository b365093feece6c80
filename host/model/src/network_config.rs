//! The network config: the JSON that an operator writes once for all nodes, read as Go reads it, and checked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_base::text::{beginning, excerpt};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::canonical::canonical;
use crate::prefix;
use crate::secrets::{digested, option_with_digest};

/// A cluster's network config, checked and with all defaults filled in.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Whether nodes get IPv4 subnets.
    pub enable_ipv4: bool,
    /// Whether nodes get IPv6 subnets.
    pub enable_ipv6: bool,
    /// Whether firewall rules are nftables' instead of iptables'.
    pub enable_nftables: bool,
    /// The cluster's IPv4 network; there if IPv4 is enabled.
    pub network: Option<Ipv4Net>,
    /// Prefix length of a node's IPv4 subnet, the network's + 2 to 30; 0 if IPv4 is off.
    pub subnet_len: u8,
    /// First IPv4 subnet that is leased; `0.0.0.0` if IPv4 is off.
    pub subnet_min: Ipv4Addr,
    /// Last IPv4 subnet that is leased.
    pub subnet_max: Ipv4Addr,
    /// The cluster's IPv6 network; there if IPv6 is enabled.
    pub ipv6_network: Option<Ipv6Net>,
    /// Prefix length of a node's IPv6 subnet, the network's + 2 to 126; 0 if IPv6 is off.
    pub ipv6_subnet_len: u8,
    /// First IPv6 subnet that is leased; `::` if IPv6 is off.
    pub ipv6_subnet_min: Ipv6Addr,
    /// Last IPv6 subnet that is leased.
    pub ipv6_subnet_max: Ipv6Addr,
    /// The backend's type in lower case; `udp` if there is no `Backend`, as upstream.
    pub backend_type: String,
    /// The whole `Backend` object as it was written; the backend knows what is in it.
    pub backend: Box<RawValue>,
    /// The same in its canonical form, with digests in the place of its secrets.
    backend_key: String,
}

/// The fields that are read; any case will do.
pub const FIELDS: [&str; 12] = [
    "Network",
    "SubnetLen",
    "SubnetMin",
    "SubnetMax",
    "IPv6Network",
    "IPv6SubnetLen",
    "IPv6SubnetMin",
    "IPv6SubnetMax",
    "EnableIPv4",
    "EnableIPv6",
    "EnableNFTables",
    "Backend",
];

/// The fields of a network config that nobody reads, each once.
pub fn unread_fields(text: &str) -> Vec<String> {
    let mut unread: Vec<String> = Vec::new();
    for (name, _) in fields(text).unwrap_or_default() {
        if !FIELDS.iter().any(|field| field.eq_ignore_ascii_case(&name)) && !unread.contains(&name) {
            unread.push(name);
        }
    }
    unread
}

/// What is wrong with a network config; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON, or no object.
    #[error("it is not a JSON object: {0}")]
    Json(String),
    /// A field is wrong.
    #[error("{field} {value}: {reason}; right would be {right}")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value, as it was written.
        value: String,
        /// What is wrong.
        reason: String,
        /// What would be right.
        right: String,
    },
    /// A field is missing.
    #[error("{field} is missing or empty: right would be {right}")]
    Missing {
        /// The field.
        field: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// Both families are off.
    #[error("EnableIPv4 and EnableIPv6 are both false: right would be one of them true, or both")]
    NoFamily,
}

/// The fields as they were written; none and zero: not set.
struct Written {
    enable_ipv4: bool,
    enable_ipv6: bool,
    enable_nftables: bool,
    network: Option<Ipv4Net>,
    v4: Range<Ipv4Addr>,
    ipv6_network: Option<Ipv6Net>,
    v6: Range<Ipv6Addr>,
    backend: Option<Box<RawValue>>,
}

#[derive(Clone, Copy)]
struct Range<A> {
    len: u64,
    min: Option<A>,
    max: Option<A>,
}

impl NetworkConfig {
    /// The addresses that pods have, in each family that is on: the first of the first subnet that is leased, and the last of the last one.
    pub fn pod_ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + use<> {
        let ends = |first: IpAddr, last: IpAddr, len: u8| {
            (first, IpNet::new(last, len).map_or(last, |subnet| subnet.broadcast()))
        };
        let v4 = self.network.filter(|_| self.enable_ipv4);
        let v6 = self.ipv6_network.filter(|_| self.enable_ipv6);
        let v4 = v4.map(|_| ends(self.subnet_min.into(), self.subnet_max.into(), self.subnet_len));
        let v6 =
            v6.map(|_| ends(self.ipv6_subnet_min.into(), self.ipv6_subnet_max.into(), self.ipv6_subnet_len));
        v4.into_iter().chain(v6)
    }

    /// The `Backend` section in its canonical form, with digests in the place of its secrets: two configs with the same have one backend.
    pub fn backend_key(&self) -> &str {
        &self.backend_key
    }

    /// Whether there are secrets in the `Backend` section.
    pub fn has_secrets(&self) -> bool {
        canonical(self.backend.get()) != self.backend_key
    }

    /// The same with another `Backend` section. One with digests in the place of its secrets is refused.
    pub fn with_backend(&self, section: &str) -> Result<Self, ConfigError> {
        let raw =
            RawValue::from_string(section.to_owned()).map_err(|error| ConfigError::Json(one_line(&error)))?;
        let (backend_type, backend) = backend(Some(raw))?;
        let backend_key = digested(backend.get());
        Ok(Self { backend_type, backend, backend_key, ..self.clone() })
    }

    /// Reads and checks a network config.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::complete(text, Family::check)
    }

    /// The same without a family, for a node that cannot serve both of a cluster's. There is always one: without any left, or of a cluster
    /// that has one alone, it is as it was.
    #[must_use]
    pub fn of_families(self, ipv4: bool, ipv6: bool) -> Self {
        if !(self.enable_ipv4 && self.enable_ipv6) || !(ipv4 || ipv6) {
            return self;
        }
        Self { enable_ipv4: ipv4, enable_ipv6: ipv6, ..self }
    }

    /// Reads a network config of a cluster in which somebody else assigns the subnets, as Kubernetes does. What is said of their size and
    /// place has to be readable and does nothing, and a network may be as small as it likes, as upstream has it there. A pod may be anywhere
    /// in the network: the length is the network's, and the first and last subnet are the whole of it.
    pub fn parse_for_assigned_subnets(text: &str) -> Result<Self, ConfigError> {
        Self::complete(text, |_, network, _| {
            Ok(Subnetting { len: network.prefix, min: network.first, max: network.first })
        })
    }

    fn complete(
        text: &str,
        subnetting: impl Fn(&Family, Network, Range<u128>) -> Result<Subnetting, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let written = Written::read(text)?;
        let (backend_type, backend) = backend(written.backend)?;
        let v4 = match (written.enable_ipv4, written.network) {
            (false, _) => None,
            (true, Some(network)) => Some(subnetting(&V4, network.into(), written.v4.bits())?),
            (true, None) => {
                return Err(ConfigError::Missing {
                    field: "Network",
                    right: "an IPv4 network such as \"10.5.0.0/16\", or EnableIPv4 false",
                });
            }
        };
        let v6 = match (written.enable_ipv6, written.ipv6_network) {
            (false, _) => None,
            (true, Some(network)) => Some(subnetting(&V6, network.into(), written.v6.bits())?),
            (true, None) => {
                return Err(ConfigError::Missing {
                    field: "IPv6Network",
                    right: "an IPv6 network such as \"fc00:5::/48\", or EnableIPv6 false",
                });
            }
        };
        if v4.is_none() && v6.is_none() {
            return Err(ConfigError::NoFamily);
        }
        let (v4, v6) = (v4.unwrap_or_default(), v6.unwrap_or_default());
        Ok(Self {
            enable_ipv4: written.enable_ipv4,
            enable_ipv6: written.enable_ipv6,
            enable_nftables: written.enable_nftables,
            network: written.network,
            subnet_len: v4.len,
            subnet_min: ipv4(v4.min),
            subnet_max: ipv4(v4.max),
            ipv6_network: written.ipv6_network,
            ipv6_subnet_len: v6.len,
            ipv6_subnet_min: Ipv6Addr::from_bits(v6.min),
            ipv6_subnet_max: Ipv6Addr::from_bits(v6.max),
            backend_type,
            backend_key: digested(backend.get()),
            backend,
        })
    }
}

impl Written {
    fn read(text: &str) -> Result<Self, ConfigError> {
        let mut written = Self {
            enable_ipv4: true,
            enable_ipv6: false,
            enable_nftables: false,
            network: None,
            v4: Range { len: 0, min: None, max: None },
            ipv6_network: None,
            v6: Range { len: 0, min: None, max: None },
            backend: None,
        };
        for (name, raw) in fields(text).map_err(|error| ConfigError::Json(one_line(&error)))? {
            written.take(&name, raw)?;
        }
        Ok(written)
    }

    /// Takes one field. As in Go, its name may be in any case, the last of several wins, and null leaves it as it was.
    fn take(&mut self, name: &str, raw: Box<RawValue>) -> Result<(), ConfigError> {
        const NETWORK: &str = "an IPv4 network such as \"10.5.0.0/16\"";
        const NETWORK_V6: &str = "an IPv6 network such as \"fc00:5::/48\"";
        const ADDRESS: &str = "an IPv4 address such as \"10.5.1.0\"";
        const ADDRESS_V6: &str = "an IPv6 address such as \"fc00:5:0:1::\"";
        let text = raw.get();
        match name.to_ascii_lowercase().as_str() {
            "backend" => self.backend = Some(raw),
            "network" => {
                // Null is an error upstream; an empty string, too. Both are reported as missing if IPv4 is on.
                self.network = value("Network", text, NETWORK, prefix::ipv4)?.map(|net| net.trunc());
                self.network = self.network.filter(|net| net.prefix_len() > 0);
            }
            "ipv6network" => {
                self.ipv6_network =
                    value("IPv6Network", text, NETWORK_V6, prefix::ipv6)?.map(|net| net.trunc());
                self.ipv6_network = self.ipv6_network.filter(|net| net.prefix_len() > 0);
            }
            _ if text == "null" => {}
            "enableipv4" => self.enable_ipv4 = boolean("EnableIPv4", text)?,
            "enableipv6" => self.enable_ipv6 = boolean("EnableIPv6", text)?,
            "enablenftables" => self.enable_nftables = boolean("EnableNFTables", text)?,
            "subnetlen" => self.v4.len = length("SubnetLen", text)?,
            "ipv6subnetlen" => self.v6.len = length("IPv6SubnetLen", text)?,
            "subnetmin" => self.v4.min = address("SubnetMin", text, ADDRESS)?,
            "subnetmax" => self.v4.max = address("SubnetMax", text, ADDRESS)?,
            "ipv6subnetmin" => self.v6.min = address("IPv6SubnetMin", text, ADDRESS_V6)?,
            "ipv6subnetmax" => self.v6.max = address("IPv6SubnetMax", text, ADDRESS_V6)?,
            _ => {}
        }
        Ok(())
    }
}

impl<A: Copy + Into<Bits>> Range<A> {
    fn bits(self) -> Range<u128> {
        // The zero address counts as not set.
        let bits = |address: Option<A>| address.map(|address| address.into().0).filter(|bits| *bits != 0);
        Range { len: self.len, min: bits(self.min), max: bits(self.max) }
    }
}

/// An address of either family as a number.
struct Bits(u128);

impl From<Ipv4Addr> for Bits {
    fn from(address: Ipv4Addr) -> Self {
        Self(u128::from(address.to_bits()))
    }
}

impl From<Ipv6Addr> for Bits {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.to_bits())
    }
}

/// A network of either family: its first address and its prefix length.
#[derive(Clone, Copy)]
struct Network {
    first: u128,
    prefix: u8,
}

impl From<Ipv4Net> for Network {
    fn from(net: Ipv4Net) -> Self {
        Self { first: net.network().to_bits().into(), prefix: net.prefix_len() }
    }
}

impl From<Ipv6Net> for Network {
    fn from(net: Ipv6Net) -> Self {
        Self { first: net.network().to_bits(), prefix: net.prefix_len() }
    }
}

/// The subnets of a network that may be leased.
#[derive(Clone, Copy, Default)]
struct Subnetting {
    len: u8,
    min: u128,
    max: u128,
}

/// What differs between the families; the rules are the same.
struct Family {
    /// Bits of an address.
    bits: u8,
    /// The longest prefix of a subnet.
    longest: u8,
    /// The prefix of a subnet, if the network has room for at least four of them.
    usual: u8,
    /// Names of the fields: network, length, first, last.
    names: [&'static str; 4],
    /// How an address is written.
    show: fn(u128) -> String,
}

const V4: Family = Family {
    bits: 32,
    longest: 30,
    usual: 24,
    names: ["Network", "SubnetLen", "SubnetMin", "SubnetMax"],
    show: |bits| ipv4(bits).to_string(),
};

const V6: Family = Family {
    bits: 128,
    longest: 126,
    usual: 64,
    names: ["IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"],
    show: |bits| Ipv6Addr::from_bits(bits).to_string(),
};

impl Family {
    /// Fills in what is not set, in upstream's way, and checks the rest.
    fn check(&self, network: Network, written: Range<u128>) -> Result<Subnetting, ConfigError> {
        let shown = format!("{}/{}", (self.show)(network.first), network.prefix);
        let [network_name, len_name, min_name, max_name] = self.names;
        let wrong =
            |field, value, reason: String, right: String| ConfigError::Field { field, value, reason, right };
        let shortest = network.prefix + 2;
        if shortest > self.longest {
            let right = format!("a prefix length of at most {}", self.longest - 2);
            return Err(wrong(network_name, shown, "it has no room for four subnets".to_owned(), right));
        }
        let len = match u8::try_from(written.len) {
            Ok(0) => self.usual.max(shortest),
            Ok(len) if (shortest..=self.longest).contains(&len) => len,
            _ => {
                let reason =
                    format!("{network_name} {shown} must hold at least four subnets of at least two hosts");
                let right = format!("{shortest} to {}", self.longest);
                return Err(wrong(len_name, written.len.to_string(), reason, right));
            }
        };
        // Neither shift reaches 128: a prefix of 0 is no network, and a subnet is at most the longest.
        let size = 1u128 << (self.bits - len);
        let last = network.first + ((1u128 << (self.bits - network.prefix)) - size);
        let place = |field, address: u128| {
            let value = (self.show)(address);
            if address < network.first || address > last + (size - 1) {
                let right = format!("{} to {}", (self.show)(network.first), (self.show)(last));
                return Err(wrong(field, value, format!("it is not in {network_name} {shown}"), right));
            }
            let boundary = address - address % size;
            if address != boundary {
                let reason = format!("it is no boundary between /{len} subnets");
                return Err(wrong(field, value, reason, (self.show)(boundary)));
            }
            Ok(address)
        };
        // The first subnet is left out unless the operator asks for it.
        let min = written.min.map_or(Ok(network.first + size), |address| place(min_name, address))?;
        let max = written.max.map_or(Ok(last), |address| place(max_name, address))?;
        if min > max {
            let reason = format!("it is beyond {max_name} {}", (self.show)(max));
            let right = format!("{} or less", (self.show)(max));
            return Err(wrong(min_name, (self.show)(min), reason, right));
        }
        Ok(Subnetting { len, min, max })
    }
}

/// An IPv4 address out of the wider number that both families are reckoned with.
fn ipv4(bits: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or_default())
}

/// The type, and the whole object.
fn backend(raw: Option<Box<RawValue>>) -> Result<(String, Box<RawValue>), ConfigError> {
    let missing = || ConfigError::Missing { field: "Backend.Type", right: "a backend such as \"vxlan\"" };
    let raw = match raw {
        Some(raw) => raw,
        None => RawValue::from_string("{\"Type\":\"udp\"}".to_owned())
            .map_err(|error| ConfigError::Json(one_line(&error)))?,
    };
    if raw.get() == "null" {
        return Err(missing());
    }
    let not_an_object = |_| field_error("Backend", raw.get(), "it is no JSON object", "{\"Type\":\"vxlan\"}");
    let mut name = String::new();
    for (field, value) in fields(raw.get()).map_err(not_an_object)? {
        if field.eq_ignore_ascii_case("Type") && value.get() != "null" {
            name = serde_json::from_str(value.get()).map_err(|_| {
                field_error("Backend.Type", value.get(), "it is no string", "a backend such as \"vxlan\"")
            })?;
        }
    }
    if let Some(option) = option_with_digest(raw.get()) {
        let reason = "it is the digest of a secret, as leases have it";
        return Err(field_error("Backend", &option, reason, "the secret itself"));
    }
    if name.is_empty() { Err(missing()) } else { Ok((name.to_lowercase(), raw)) }
}

fn boolean(field: &'static str, text: &str) -> Result<bool, ConfigError> {
    text.parse().map_err(|_| field_error(field, text, "it is no boolean", "true or false"))
}

fn length(field: &'static str, text: &str) -> Result<u64, ConfigError> {
    text.parse().map_err(|_| {
        field_error(field, text, "it is no length of a prefix", "a number such as 24, without quotes")
    })
}

/// An address in a string; none if it is empty or null.
fn address<T: std::str::FromStr>(
    field: &'static str,
    text: &str,
    right: &str,
) -> Result<Option<T>, ConfigError> {
    value(field, text, right, |text| text.parse().ok())
}

/// What stands in a string; none if it is empty or null.
fn value<T>(
    field: &'static str,
    text: &str,
    right: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ConfigError> {
    if matches!(text, "null" | "\"\"") {
        return Ok(None);
    }
    let value = serde_json::from_str::<String>(text).ok().and_then(|text| read(&text));
    value.map(Some).ok_or_else(|| field_error(field, text, "it cannot be read", right))
}

fn field_error(field: &'static str, value: &str, reason: &str, right: &str) -> ConfigError {
    ConfigError::Field { field, value: excerpt(value), reason: reason.to_owned(), right: right.to_owned() }
}

fn one_line(error: &serde_json::Error) -> String {
    beginning(&error.to_string(), 200)
}

/// The fields of a JSON object in their order, with repetitions, each value as it was written.
pub fn fields(text: &str) -> Result<Vec<(String, Box<RawValue>)>, serde_json::Error> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut fields = Vec::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Fields)?;
    deserializer.end()?;
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> String {
        match NetworkConfig::parse(text) {
            Ok(config) => format!("{} {} .. {}", config.subnet_len, config.subnet_min, config.subnet_max),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn worked_examples() {
        for (text, expected) in [
            (r#"{"Network":"10.5.0.0/16"}"#, "24 10.5.1.0 .. 10.5.255.0"),
            (
                r#"{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0"}"#,
                "20 10.10.0.0 .. 10.99.0.0",
            ),
            (r#"{"Network":"10.5.0.0/22"}"#, "24 10.5.1.0 .. 10.5.3.0"),
            (r#"{"Network":"10.5.0.0/23"}"#, "25 10.5.0.128 .. 10.5.1.128"),
            (r#"{"Network":"10.5.0.0/28"}"#, "30 10.5.0.4 .. 10.5.0.12"),
            (
                r#"{"Network":"10.5.0.0/29"}"#,
                "Network 10.5.0.0/29: it has no room for four subnets; right would be a prefix length of at most 28",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":17}"#,
                "SubnetLen 17: Network 10.5.0.0/16 must hold at least four subnets of at least two hosts; right would be 18 to 30",
            ),
            (r#"{"Network":"10.5.0.0/16","SubnetLen":18}"#, "18 10.5.64.0 .. 10.5.192.0"),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":31}"#,
                "SubnetLen 31: Network 10.5.0.0/16 must hold at least four subnets of at least two hosts; right would be 18 to 30",
            ),
            (r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.0.0"}"#, "24 10.5.0.0 .. 10.5.255.0"),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.1"}"#,
                "SubnetMin 10.5.1.1: it is no boundary between /24 subnets; right would be 10.5.1.0",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMax":"10.6.0.0"}"#,
                "SubnetMax 10.6.0.0: it is not in Network 10.5.0.0/16; right would be 10.5.0.0 to 10.5.255.0",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}"#,
                "SubnetMin 10.5.9.0: it is beyond SubnetMax 10.5.8.0; right would be 10.5.8.0 or less",
            ),
        ] {
            assert_eq!(v4(text), expected, "{text}");
        }
    }

    #[test]
    fn worked_examples_of_ipv6() {
        for (network, expected) in [
            ("fc00:5::/48", "64 fc00:5:0:1:: .. fc00:5:0:ffff::"),
            ("fc00:5::/56", "64 fc00:5:0:1:: .. fc00:5:0:ff::"),
            ("fc00:5::/63", "65 fc00:5:0:0:8000:: .. fc00:5:0:1:8000::"),
            ("fc00:5::/112", "114 fc00:5::4000 .. fc00:5::c000"),
            (
                "fc00:5::/125",
                "IPv6Network fc00:5::/125: it has no room for four subnets; right would be a prefix length of at most 124",
            ),
        ] {
            let text = format!("{{\"EnableIPv4\":false,\"EnableIPv6\":true,\"IPv6Network\":\"{network}\"}}");
            let found = match NetworkConfig::parse(&text) {
                Ok(c) => format!("{} {} .. {}", c.ipv6_subnet_len, c.ipv6_subnet_min, c.ipv6_subnet_max),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected, "{network}");
        }
    }

    fn assigned(text: &str) -> String {
        match NetworkConfig::parse_for_assigned_subnets(text) {
            Ok(config) => {
                let networks = [config.network.map(IpNet::V4), config.ipv6_network.map(IpNet::V6)];
                format!("{:?} {:?}", networks.map(|net| net.map(|net| net.to_string())), config.backend_type)
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn where_subnets_are_assigned_their_size_and_place_do_nothing() {
        for text in [
            r#"{"Network":"10.5.0.0/29"}"#,
            r#"{"Network":"10.5.0.0/29","SubnetLen":24}"#,
            r#"{"Network":"10.5.0.0/29","SubnetMin":"10.9.1.1","SubnetMax":"10.2.0.0"}"#,
        ] {
            assert!(NetworkConfig::parse(text).is_err(), "{text}");
            assert_eq!(assigned(text), r#"[Some("10.5.0.0/29"), None] "udp""#, "{text}");
        }
    }

    #[test]
    fn where_subnets_are_assigned_pods_may_be_anywhere_in_the_network() {
        let text = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/56"}"#;
        let config = NetworkConfig::parse_for_assigned_subnets(text).expect("valid");
        let ranges: Vec<String> =
            config.pod_ranges().map(|(first, last)| format!("{first} .. {last}")).collect();
        assert_eq!(ranges, ["10.5.0.0 .. 10.5.255.255", "fd00:: .. fd00::ff:ffff:ffff:ffff:ffff"]);
        let text = r#"{"Network":"10.5.0.7/32"}"#;
        let config = NetworkConfig::parse_for_assigned_subnets(text).expect("valid");
        assert_eq!(
            config.pod_ranges().next(),
            Some((IpAddr::from([10, 5, 0, 7]), IpAddr::from([10, 5, 0, 7])))
        );
    }

    #[test]
    fn a_network_of_all_addresses_is_none_where_its_family_is_off() {
        // As k3s writes it.
        for (text, expected) in [
            (
                r#"{"Network":"10.42.0.0/16","EnableIPv6":false,"EnableIPv4":true,"IPv6Network":"::/0","Backend":{"Type":"vxlan"}}"#,
                r#"[Some("10.42.0.0/16"), None] "vxlan""#,
            ),
            (
                r#"{"Network":"0.0.0.0/0","EnableIPv6":true,"EnableIPv4":false,"IPv6Network":"fd00:42::/56"}"#,
                r#"[None, Some("fd00:42::/56")] "udp""#,
            ),
            (
                r#"{"Network":"0.0.0.0/0"}"#,
                "Network is missing or empty: right would be an IPv4 network such as \"10.5.0.0/16\", or EnableIPv4 false",
            ),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":"24"}"#,
                "SubnetLen \"24\": it is no length of a prefix; right would be a number such as 24, without quotes",
            ),
            (
                r#"{"Network":"0.0.0.0/0","EnableIPv4":false}"#,
                "EnableIPv4 and EnableIPv6 are both false: right would be one of them true, or both",
            ),
        ] {
            assert_eq!(assigned(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_with_leading_zeros_are_refused_in_every_field() {
        for (field, value) in [
            ("Network", "010.5.0.0/16"),
            ("Network", "10.5.0.00/16"),
            ("SubnetMin", "10.5.010.0"),
            ("SubnetMax", "10.05.9.0"),
            ("IPv6Network", "::ffff:10.05.0.0/112"),
        ] {
            let other = if field == "Network" { "" } else { r#""Network":"10.5.0.0/16","# };
            let text = format!(r#"{{{other}"{field}":"{value}"}}"#);
            let error = NetworkConfig::parse(&text).expect_err(value).to_string();
            assert!(error.starts_with(&format!("{field} \"{value}\": it cannot be read")), "{error}");
        }
    }

    #[test]
    fn it_is_read_as_go_reads_it() {
        let text = r#"{"network":"10.5.3.7/16","NETWORK":"10.6.3.7/16","subnetlen":25,"SubnetLen":null,
            "SubnetMin":"0.0.0.0","Unknown":[1],"enablenftables":true,"backend":{"type":"VXLAN","VNI":7}}"#;
        let config = NetworkConfig::parse(text).expect("valid");
        assert_eq!(config.network, "10.6.0.0/16".parse().ok(), "the last one wins, without host bits");
        assert_eq!((config.subnet_len, config.subnet_min), (25, [10, 6, 0, 128].into()));
        assert!(config.enable_nftables && config.enable_ipv4 && !config.enable_ipv6);
        assert_eq!(config.backend_type, "vxlan");
        assert_eq!(config.backend.get(), r#"{"type":"VXLAN","VNI":7}"#);
        let config = NetworkConfig::parse(r#"{"Network":"10.5.0.0/16"}"#).expect("valid");
        assert_eq!(config.backend_type, "udp");
    }

    #[test]
    fn a_backend_is_known_by_its_secrets_and_does_not_tell_them() {
        let with = |psk: &str| {
            let text =
                format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"wireguard","psk":"{psk}"}}}}"#);
            NetworkConfig::parse(&text)
        };
        let (one, other) = (with("made-up").expect("valid"), with("made up, too").expect("valid"));
        assert_ne!(one.backend_key(), other.backend_key());
        assert!(one.has_secrets() && !one.backend_key().contains("made-up"), "{}", one.backend_key());
        let again = other.with_backend(one.backend.get()).expect("a backend");
        assert_eq!((again.backend_key(), again.backend.get()), (one.backend_key(), one.backend.get()));
        assert!(!with("").expect("valid").has_secrets());
    }

    #[test]
    fn a_digest_is_refused_where_a_secret_has_to_be() {
        let config = NetworkConfig::parse(r#"{"Network":"10.5.0.0/16"}"#).expect("valid");
        for section in [
            r#"{"Type":"wireguard","PSK":"sha256:c20e65119435d188564d9eb736e3bd37fac49ba17b11971d80e251bc43129524"}"#,
            r#"{"Type":"ali-vpc","AccessKeyID":"id","accesskeysecret":"sha256:"}"#,
        ] {
            let error = config.with_backend(section).expect_err("no secret").to_string();
            assert!(error.contains("it is the digest of a secret") && !error.contains("c20e"), "{error}");
        }
    }

    #[test]
    fn fields_that_nobody_reads_are_told() {
        let text = r#"{"network":"10.5.0.0/16","Netwrok":1,"_comment":"x","backend":{"x":1},"Netwrok":2}"#;
        assert_eq!(unread_fields(text), ["Netwrok", "_comment"]);
        assert_eq!(unread_fields("[]"), [""; 0]);
        let all = FIELDS.map(|field| format!("\"{field}\":null")).join(",");
        assert_eq!(unread_fields(&format!("{{{all}}}")), [""; 0]);
    }

    #[test]
    fn each_field_that_is_read_is_listed() {
        for field in FIELDS {
            // What no field can be.
            let text =
                format!("{{\"Network\":\"10.5.0.0/16\",\"IPv6Network\":\"fc00::/48\",\"{field}\":{{}}}}");
            assert!(NetworkConfig::parse(&text).is_err(), "{field}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for (text, expected) in [
            ("", "it is not a JSON object"),
            ("[]", "it is not a JSON object"),
            (r#"{"Network":"10.5.0.0/16"} x"#, "it is not a JSON object"),
            ("{}", "Network is missing or empty"),
            (r#"{"Network":null}"#, "Network is missing or empty"),
            (r#"{"Network":"0.0.0.0/0"}"#, "Network is missing or empty"),
            (
                r#"{"Network":"fc00:5::/48"}"#,
                "Network \"fc00:5::/48\": it cannot be read; right would be an IPv4 network",
            ),
            (r#"{"Network":"10.5.0.0"}"#, "Network \"10.5.0.0\""),
            (r#"{"Network":7}"#, "Network 7"),
            ("{\"Network\":{\n\"a\":1}}", "Network { \"a\":1}"),
            (&format!("\"{}\"", "\u{7f}".repeat(1000)), "it is not a JSON object"),
            (
                r#"{"Network":"10.5.0.0/16","SubnetLen":"24"}"#,
                "SubnetLen \"24\": it is no length of a prefix",
            ),
            (r#"{"Network":"10.5.0.0/16","SubnetLen":-1}"#, "SubnetLen -1"),
            (r#"{"Network":"10.5.0.0/16","SubnetLen":300}"#, "SubnetLen 300"),
            (r#"{"Network":"10.5.0.0/16","SubnetMax":"10.5.9.0/24"}"#, "SubnetMax \"10.5.9.0/24\""),
            (r#"{"Network":"10.5.0.0/16","EnableIPv6":"yes"}"#, "EnableIPv6 \"yes\": it is no boolean"),
            (r#"{"Network":"10.5.0.0/16","EnableIPv6":true}"#, "IPv6Network is missing or empty"),
            (r#"{"Network":"10.5.0.0/16","IPv6Network":"10.6.0.0/16"}"#, "IPv6Network \"10.6.0.0/16\""),
            (r#"{"EnableIPv4":false}"#, "EnableIPv4 and EnableIPv6 are both false"),
            (r#"{"Network":"10.5.0.0/16","Backend":{}}"#, "Backend.Type is missing or empty"),
            (r#"{"Network":"10.5.0.0/16","Backend":null}"#, "Backend.Type is missing or empty"),
            (r#"{"Network":"10.5.0.0/16","Backend":{"Type":7}}"#, "Backend.Type 7: it is no string"),
            (r#"{"Network":"10.5.0.0/16","Backend":"vxlan"}"#, "Backend \"vxlan\": it is no JSON object"),
        ] {
            let error = NetworkConfig::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected) && error.lines().count() == 1, "{text}: {error}");
        }
    }
}
