//! What a node's annotations say: the parts of its lease, each family for itself.
//!
//! Anybody who may write a node's status may have written them. Here is only decided whether they can be read: whether they are believed is
//! decided where all leases are looked at, whatever store they come from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_base::Family;
use flannel_base::text::excerpt;
use flannel_model::codec::{CodecError, decode_data, decode_generations, decode_type};
use flannel_model::entry::Mac;
use flannel_model::lease::Generation;
use flannel_model::lease_key::vtep_mac;
use serde_json::value::RawValue;

use crate::families::Families;
use crate::prefix::Keys;
use flannel_kube_api::Node;

/// Whether a node says that flannel manages it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Managed {
    /// It says so.
    Yes,
    /// It says something else: it is no peer.
    No,
    /// It says nothing: it has no daemon yet, or its annotations are lost.
    Unsaid,
}

impl Managed {
    /// Reads the annotation. Anything but `true` is no, as upstream has it.
    pub fn read(node: &Node, keys: &Keys) -> Self {
        match node.annotations.get(&keys.subnet_manager).map(String::as_str) {
            Some("true") => Self::Yes,
            Some(_) => Self::No,
            None => Self::Unsaid,
        }
    }
}

/// How a node is reached over one family.
#[derive(Debug)]
pub struct Reached<A> {
    /// At which address.
    pub address: A,
    /// What its backend says.
    pub data: Option<Box<RawValue>>,
}

/// What a node says of one family: how it is reached, or nothing, or what cannot be read.
pub type Said<A> = Result<Option<Reached<A>>, CodecError>;

/// The parts of a lease, as a node's annotations have them.
#[derive(Debug)]
pub struct Annotated {
    /// The backend's type; empty: not said.
    pub backend_type: Result<String, CodecError>,
    /// How the node is reached over IPv4.
    pub ipv4: Said<Ipv4Addr>,
    /// How the node is reached over IPv6.
    pub ipv6: Said<Ipv6Addr>,
    /// The generations that it serves during a change of the backend. Who means something else by them serves none.
    pub generations: Vec<Generation>,
}

impl Annotated {
    /// Reads a node's annotations.
    pub fn read(node: &Node, keys: &Keys) -> Self {
        let text = |key: &str| node.annotations.get(key).map(String::as_str).unwrap_or_default();
        let v4 = "an IPv4 address such as 192.168.77.11";
        let v6 = "an IPv6 address such as fd00:77::11";
        Self {
            backend_type: decode_type("backend-type", text(&keys.backend_type)),
            ipv4: said(["public-ip", "backend-data"], text(&keys.public_ip), v4, text(&keys.backend_data)),
            ipv6: said(
                ["public-ipv6", "backend-v6-data"],
                text(&keys.public_ipv6),
                v6,
                text(&keys.backend_v6_data),
            ),
            generations: decode_generations(text(&keys.generations)).unwrap_or_default(),
        }
    }

    /// Whether it says nothing of how the node is reached in these families, not even what cannot be read.
    pub fn is_silent(&self, families: Families) -> bool {
        let speaks_v4 = families.ipv4 && !matches!(self.ipv4, Ok(None));
        let speaks_v6 = families.ipv6 && !matches!(self.ipv6, Ok(None));
        !speaks_v4 && !speaks_v6
    }
}

/// Without an address nothing is said, whatever the data are: upstream leaves data of a former backend behind.
fn said<A: std::str::FromStr + Into<IpAddr> + Copy>(
    [address_field, data_field]: [&'static str; 2],
    address: &str,
    right: &'static str,
    data: &str,
) -> Said<A> {
    if address.is_empty() {
        return Ok(None);
    }
    let parsed: A = address.parse().map_err(|_| CodecError::Field {
        field: address_field,
        value: excerpt(address),
        right,
    })?;
    // Upstream's way to write no address.
    if parsed.into().is_unspecified() {
        return Ok(None);
    }
    Ok(Some(Reached { address: parsed, data: decode_data(data_field, data)? }))
}

/// What a node's own annotations are to a daemon that starts there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `node-public-ip`: the external interface is the one with this address.
    pub public_ip: Option<Ipv4Addr>,
    /// `node-public-ipv6`: the same for IPv6.
    pub public_ipv6: Option<Ipv6Addr>,
    /// What the VTEP's Ethernet address was, as published last: peers have it in their tables.
    pub vtep_mac: Option<Mac>,
    /// The same of the VTEP for IPv6.
    pub vtep_mac_v6: Option<Mac>,
    /// What is there and cannot be used.
    pub wrong: Vec<WrongAddress>,
}

impl Hints {
    /// Reads the node's annotations.
    pub fn read(node: &Node, keys: &Keys) -> Self {
        let mut wrong = Vec::new();
        let mut hint = |family| match address_of(node, keys.node_address(family), family) {
            Ok(found) => found.map(|(address, _)| address),
            Err(error) => {
                wrong.push(error);
                None
            }
        };
        let (v4, v6) = (hint(Family::Ipv4), hint(Family::Ipv6));
        let mac = |family| {
            let data = decode_data("backend-data", node.annotations.get(keys.data(family))?).ok()??;
            vtep_mac(&data)
        };
        Self {
            public_ip: v4.and_then(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None }),
            public_ipv6: v6.and_then(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None }),
            vtep_mac: mac(Family::Ipv4),
            vtep_mac_v6: mac(Family::Ipv6),
            wrong,
        }
    }
}

/// An annotation of an operator that should be an address; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key} {value:?} is not used: right would be an {family} address that a host can have")]
pub struct WrongAddress {
    /// The annotation's key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it should be an address of.
    pub family: Family,
}

/// The address in an annotation of an operator, and the text as it is written there; none if there is nothing.
pub(crate) fn address_of<'a>(
    node: &'a Node,
    key: &str,
    family: Family,
) -> Result<Option<(IpAddr, &'a str)>, WrongAddress> {
    let Some(text) = node.annotations.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let address = text.parse::<IpAddr>().ok().filter(|address| {
        let is_nobodys = address.is_unspecified()
            || address.is_multicast()
            || matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        Family::of(*address) == family && !is_nobodys
    });
    let wrong = || WrongAddress { key: key.to_owned(), value: excerpt(text), family };
    address.map(|address| Some((address, text.as_str()))).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Families = Families { ipv4: true, ipv6: true };

    fn keys() -> Keys {
        Keys::new("flannel.alpha.coreos.com").expect("a prefix")
    }

    fn node(annotations: &[(&str, &str)]) -> Node {
        let prefix = keys().prefix;
        let annotations =
            annotations.iter().map(|(key, value)| (format!("{prefix}{key}"), (*value).to_owned()));
        Node { annotations: annotations.collect(), ..Node::default() }
    }

    #[test]
    fn each_family_is_read_for_itself() {
        let node = node(&[
            ("backend-type", "vxlan"),
            ("public-ip", "192.168.77.11"),
            ("backend-data", "{\"VNI\":1}"),
            ("public-ipv6", "x"),
        ]);
        let read = Annotated::read(&node, &keys());
        assert_eq!(read.backend_type.as_deref(), Ok("vxlan"));
        let v4 = read.ipv4.expect("readable").expect("said");
        assert_eq!(v4.address, Ipv4Addr::new(192, 168, 77, 11));
        assert_eq!(v4.data.as_deref().map(RawValue::get), Some("{\"VNI\":1}"));
        assert_eq!(
            read.ipv6.expect_err("no address").to_string(),
            "its public-ipv6 x is wrong: right would be an IPv6 address such as fd00:77::11"
        );
    }

    #[test]
    fn without_an_address_a_family_is_not_said_whatever_was_left_behind() {
        for annotations in [
            &[("backend-data", "{")][..],
            &[("public-ip", ""), ("backend-data", "null")],
            &[("public-ip", "0.0.0.0"), ("backend-data", "null")],
        ] {
            let read = Annotated::read(&node(annotations), &keys());
            assert!(matches!(read.ipv4, Ok(None)) && read.is_silent(BOTH), "{annotations:?}");
        }
    }

    #[test]
    fn null_and_nothing_are_no_data() {
        for data in ["null", ""] {
            let node = node(&[("public-ip", "10.0.0.1"), ("backend-data", data)]);
            let read = Annotated::read(&node, &keys()).ipv4.expect("readable").expect("said");
            assert!(read.data.is_none(), "{data:?}");
        }
    }

    #[test]
    fn hostile_values_are_said_in_a_line_or_ignored() {
        let big = "[".repeat(1 << 20);
        for value in ["\u{202e}", "{\"a\":", &big, "1.2.3.4\n", "::ffff:1.2.3.4 x"] {
            let node = node(&[
                ("kube-subnet-manager", value),
                ("backend-type", value),
                ("public-ip", value),
                ("public-ipv6", "fd00::1"),
                ("backend-v6-data", value),
                ("generations", value),
                ("node-public-ip", value),
            ]);
            assert_eq!(Managed::read(&node, &keys()), Managed::No);
            let read = Annotated::read(&node, &keys());
            for error in [read.ipv4.err(), read.ipv6.err()] {
                let error = error.expect(value).to_string();
                assert!(error.lines().count() == 1 && error.len() < 400, "{error}");
            }
            assert!(read.generations.is_empty());
            let hints = Hints::read(&node, &keys());
            assert!(hints.public_ip.is_none() && hints.wrong[0].to_string().len() < 500, "{:?}", hints.wrong);
        }
    }

    #[test]
    fn a_starting_daemon_gets_its_addresses_and_its_former_macs_from_its_node() {
        let node = node(&[
            ("node-public-ip", "192.168.77.11"),
            ("node-public-ipv6", "fd00:77::11"),
            ("backend-data", "{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:01\"}"),
            ("backend-v6-data", "{\"VtepMAC\":\"02:00:00:00:00:02\"}"),
        ]);
        let expected = Hints {
            public_ip: "192.168.77.11".parse().ok(),
            public_ipv6: "fd00:77::11".parse().ok(),
            vtep_mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            vtep_mac_v6: Some(Mac([2, 0, 0, 0, 0, 2])),
            wrong: Vec::new(),
        };
        assert_eq!(Hints::read(&node, &keys()), expected);
    }

    #[test]
    fn what_no_host_can_have_is_no_hint() {
        for (address, family) in [
            ("0.0.0.0", Family::Ipv4),
            ("255.255.255.255", Family::Ipv4),
            ("224.0.0.1", Family::Ipv4),
            ("fd00::1", Family::Ipv4),
            ("10.0.0.1", Family::Ipv6),
            ("::", Family::Ipv6),
            ("ff02::1", Family::Ipv6),
        ] {
            let key = keys().node_address(family).to_owned();
            let annotations = [(key.clone(), address.to_owned())].into();
            let node = Node { annotations, ..Node::default() };
            assert!(address_of(&node, &key, family).is_err(), "{address}");
        }
    }
}
