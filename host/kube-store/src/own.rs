//! What this node's annotations should say, and the patch that makes them so.
//!
//! What is wanted follows from what the node publishes and from the operator's annotations alone, so that whoever changes an annotation of ours
//! finds it as it was. The patch has what differs, its keys in order, as upstream's has; what upstream leaves behind of a former backend or
//! family goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flannel_base::Family;
use flannel_model::codec::{encode_data, encode_generations, quoted};
use flannel_model::lease::{Attributes, Subnets};

use crate::annotated::{WrongAddress, address_of};
use crate::families::Families;
use crate::prefix::Keys;
use flannel_kube_api::Node;

/// Backends that know no IPv6: their nodes say nothing of it, even where the cluster has both families.
const IPV4_ONLY: [&str; 4] = ["ipip", "ipsec", "gce", "tencent-vpc"];

/// What a node has to say.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// How it is reached.
    pub attributes: &'a Attributes,
    /// The families of the cluster.
    pub families: Families,
    /// The subnets that it has, for those who read the metadata only; none: not said.
    pub subnets: Option<Subnets>,
}

impl Own<'_> {
    /// All addresses by which the node is reached: its own, and the operator's in their place.
    pub fn addresses(&self, overwrites: &Overwrites) -> Vec<IpAddr> {
        let v4 = overwrites.ipv4.iter().map(|(address, _)| IpAddr::V4(*address));
        let v6 = overwrites.ipv6.iter().map(|(address, _)| IpAddr::V6(*address));
        self.attributes.public_addresses().chain(v4).chain(v6).collect()
    }
}

/// The operator's addresses that are published in place of the node's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overwrites {
    /// In place of the IPv4 address, as it is written: upstream copies the text.
    pub ipv4: Option<(Ipv4Addr, String)>,
    /// In place of the IPv6 address.
    pub ipv6: Option<(Ipv6Addr, String)>,
    /// What is there and cannot be used: no peer could read it.
    pub wrong: Vec<WrongAddress>,
}

impl Overwrites {
    /// Reads the node's annotations.
    pub fn read(node: &Node, keys: &Keys) -> Self {
        let mut overwrites = Self::default();
        for family in Family::ALL {
            match address_of(node, keys.overwrite(family), family) {
                Ok(Some((IpAddr::V4(address), text))) => overwrites.ipv4 = Some((address, text.to_owned())),
                Ok(Some((IpAddr::V6(address), text))) => overwrites.ipv6 = Some((address, text.to_owned())),
                Ok(None) => {}
                Err(error) => overwrites.wrong.push(error),
            }
        }
        overwrites
    }
}

/// What the annotations should be: a value, or none for a key that should not be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(BTreeMap<String, Option<String>>);

impl Wanted {
    /// What a node should say, given what its operator has said.
    pub fn new(keys: &Keys, own: &Own<'_>, overwrites: &Overwrites) -> Self {
        let attributes = own.attributes;
        let (v4, v6) = (ipv4(own, overwrites), ipv6(own, overwrites));
        let (public_ip, data) = v4.unzip();
        let (public_ipv6, v6_data) = v6.unzip();
        let pod_cidrs = own
            .subnets
            .map(|subnets| subnets.iter().map(|subnet| subnet.to_string()).collect::<Vec<_>>().join(","));
        let generations =
            (!attributes.generations.is_empty()).then(|| encode_generations(&attributes.generations));
        let wanted = [
            (&keys.subnet_manager, Some("true".to_owned())),
            (&keys.backend_type, Some(attributes.backend_type.clone())),
            (&keys.backend_data, data),
            (&keys.backend_v6_data, v6_data),
            (&keys.public_ip, public_ip),
            (&keys.public_ipv6, public_ipv6),
            (&keys.pod_cidrs, pod_cidrs),
            (&keys.generations, generations),
        ];
        Self(wanted.into_iter().map(|(key, value)| (key.clone(), value)).collect())
    }

    /// The body of a strategic merge patch of `nodes/NAME/status` after which the node says what it should; none if it does.
    pub fn patch(&self, node: &Node) -> Option<String> {
        let mut changes = String::new();
        for (key, wanted) in &self.0 {
            if node.annotations.get(key) == wanted.as_ref() {
                continue;
            }
            let separator = if changes.is_empty() { "" } else { "," };
            let value = wanted.as_ref().map_or_else(|| "null".to_owned(), |value| quoted(value));
            let _ = write!(changes, "{separator}{}:{value}", quoted(key));
        }
        (!changes.is_empty()).then(|| format!("{{\"metadata\":{{\"annotations\":{{{changes}}}}}}}"))
    }
}

/// Address and data for IPv4. Upstream says something of IPv4 even where it is off, but for vxlan.
fn ipv4(own: &Own<'_>, overwrites: &Overwrites) -> Option<(String, String)> {
    let attributes = own.attributes;
    let data = attributes.backend_data.as_deref();
    if data.is_none() && attributes.backend_type == "vxlan" {
        return None;
    }
    let data = match data {
        None if attributes.backend_type == "extension" => String::new(),
        data => encode_data(data),
    };
    // Where IPv4 is off nobody is to look for the node there.
    let address = attributes.public_ip.filter(|_| own.families.ipv4);
    let overwrite = overwrites.ipv4.as_ref().filter(|_| own.families.ipv4);
    let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Some((overwrite.map_or_else(|| address.to_string(), |(_, text)| text.clone()), data))
}

/// Address and data for IPv6.
fn ipv6(own: &Own<'_>, overwrites: &Overwrites) -> Option<(String, String)> {
    let attributes = own.attributes;
    let address = attributes.public_ipv6.filter(|_| own.families.ipv6)?;
    let data = attributes.backend_v6_data.as_deref();
    let is_said = match attributes.backend_type.as_str() {
        // Upstream's ipsec has no data, and no IPv6.
        "vxlan" | "wireguard" | "ipsec" => data.is_some(),
        other => !IPV4_ONLY.contains(&other),
    };
    let overwrite = overwrites.ipv6.as_ref();
    let address = overwrite.map_or_else(|| address.to_string(), |(_, text)| text.clone());
    is_said.then(|| (address, encode_data(data)))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use flannel_model::lease::Generation;

    const BOTH: Families = Families { ipv4: true, ipv6: true };
    const V4: Families = Families { ipv4: true, ipv6: false };

    fn keys() -> Keys {
        Keys::new("f.io").expect("a prefix")
    }

    fn raw(text: &str) -> Option<Box<RawValue>> {
        RawValue::from_string(text.to_owned()).ok()
    }

    fn vxlan() -> Attributes {
        Attributes {
            public_ip: "192.168.77.11".parse().ok(),
            public_ipv6: "fd00:77::11".parse().ok(),
            backend_type: "vxlan".to_owned(),
            backend_data: raw(r#"{"VNI":1}"#),
            backend_v6_data: raw(r#"{"VNI":2}"#),
            generations: Vec::new(),
        }
    }

    fn node(annotations: &[(&str, &str)]) -> Node {
        let annotations = annotations.iter().map(|(key, value)| (format!("f.io/{key}"), (*value).to_owned()));
        Node { annotations: annotations.collect(), ..Node::default() }
    }

    fn wanted(attributes: &Attributes, families: Families, node: &Node) -> Wanted {
        let own = Own { attributes, families, subnets: None };
        Wanted::new(&keys(), &own, &Overwrites::read(node, &keys()))
    }

    fn patch(attributes: &Attributes, families: Families, node: &Node) -> Option<String> {
        wanted(attributes, families, node).patch(node)
    }

    /// The node after a patch, as the API server merges it.
    fn patched(node: &Node, patch: &str) -> Node {
        let patch: serde_json::Value = serde_json::from_str(patch).expect("JSON");
        let mut node = node.clone();
        for (key, value) in patch["metadata"]["annotations"].as_object().expect("annotations") {
            match value.as_str() {
                Some(text) => node.annotations.insert(key.clone(), text.to_owned()),
                None => node.annotations.remove(key),
            };
        }
        node
    }

    #[test]
    fn after_its_patch_a_node_says_what_it_should() {
        for families in [V4, BOTH] {
            for before in [
                node(&[]),
                node(&[("backend-type", "udp"), ("public-ipv6", "fd00::9"), ("other", "stays")]),
                node(&[("generations", "[]"), ("pod-cidrs", "x"), ("public-ip-overwrite", "203.0.113.7")]),
            ] {
                let body = patch(&vxlan(), families, &before).expect("something differs");
                let after = patched(&before, &body);
                assert_eq!(patch(&vxlan(), families, &after), None, "{body}");
                assert_eq!(after.annotations.get("f.io/other"), before.annotations.get("f.io/other"));
            }
        }
    }

    #[test]
    fn only_what_somebody_has_changed_is_put_back() {
        let said = patched(&node(&[]), &patch(&vxlan(), V4, &node(&[])).expect("all"));
        let mut changed = said.clone();
        changed.annotations.insert("f.io/public-ip".to_owned(), "10.0.0.1".to_owned());
        changed.annotations.remove("f.io/kube-subnet-manager");
        assert_eq!(
            patch(&vxlan(), V4, &changed).as_deref(),
            Some(
                r#"{"metadata":{"annotations":{"f.io/kube-subnet-manager":"true","f.io/public-ip":"192.168.77.11"}}}"#
            )
        );
    }

    #[test]
    fn what_a_former_family_or_backend_has_left_behind_goes() {
        let dual = patched(&node(&[]), &patch(&vxlan(), BOTH, &node(&[])).expect("all"));
        assert_eq!(
            patch(&vxlan(), V4, &dual).as_deref(),
            Some(r#"{"metadata":{"annotations":{"f.io/backend-v6-data":null,"f.io/public-ipv6":null}}}"#)
        );
        let ipip = Attributes { backend_type: "ipip".to_owned(), backend_data: None, ..vxlan() };
        assert_eq!(
            patch(&ipip, BOTH, &dual).as_deref(),
            Some(
                r#"{"metadata":{"annotations":{"f.io/backend-data":"null","f.io/backend-type":"ipip","f.io/backend-v6-data":null,"f.io/public-ipv6":null}}}"#
            )
        );
    }

    #[test]
    fn a_vtep_for_ipv6_alone_says_nothing_of_ipv4() {
        let attributes = Attributes { public_ip: None, backend_data: None, ..vxlan() };
        let six = Families { ipv4: false, ipv6: true };
        let before = node(&[("backend-data", "{\"VNI\":1}"), ("public-ip", "192.168.77.11")]);
        let body = patch(&attributes, six, &before).expect("something differs");
        assert!(
            body.contains(r#""f.io/backend-data":null"#) && body.contains(r#""f.io/public-ip":null"#),
            "{body}"
        );
    }

    #[test]
    fn an_overwrite_is_published_as_it_is_written_and_given_up_when_it_goes() {
        let with =
            node(&[("public-ip-overwrite", "203.0.113.7"), ("public-ipv6-overwrite", "2001:db8:0:0::7")]);
        let body = patch(&vxlan(), BOTH, &with).expect("all");
        let after = patched(&with, &body);
        assert_eq!(after.annotations["f.io/public-ip"], "203.0.113.7");
        assert_eq!(after.annotations["f.io/public-ipv6"], "2001:db8:0:0::7");
        let mut without = after;
        without.annotations.retain(|key, _| !key.ends_with("overwrite"));
        assert_eq!(
            patch(&vxlan(), BOTH, &without).as_deref(),
            Some(
                r#"{"metadata":{"annotations":{"f.io/public-ip":"192.168.77.11","f.io/public-ipv6":"fd00:77::11"}}}"#
            )
        );
    }

    #[test]
    fn a_node_is_reached_by_its_own_addresses_and_by_those_in_their_place() {
        let (attributes, overwrites) =
            (vxlan(), Overwrites::read(&node(&[("public-ip-overwrite", "203.0.113.7")]), &keys()));
        let own = Own { attributes: &attributes, families: BOTH, subnets: None };
        let addresses = own.addresses(&overwrites);
        let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(shown, ["192.168.77.11", "fd00:77::11", "203.0.113.7"]);
    }

    #[test]
    fn an_overwrite_that_no_peer_could_read_is_not_published() {
        for wrong in ["x", "203.0.113.7 ", "0.0.0.0", "224.0.0.1", "fd00::1", "203.0.113.07"] {
            let node = node(&[("public-ip-overwrite", wrong)]);
            let body = patch(&vxlan(), V4, &node).expect("all");
            assert!(body.contains(r#""f.io/public-ip":"192.168.77.11""#), "{wrong}: {body}");
            let [error] = &Overwrites::read(&node, &keys()).wrong[..] else { panic!("one error") };
            assert!(error.to_string().starts_with("annotation f.io/public-ip-overwrite"), "{error}");
        }
    }

    #[test]
    fn generations_and_subnets_are_said_apart_from_what_is_upstreams() {
        let main = Generation {
            backend: r#"{"Type":"vxlan"}"#.to_owned(),
            main: true,
            complete: true,
            ..Generation::default()
        };
        let attributes = Attributes { generations: vec![main], ..vxlan() };
        let subnets = Subnets { v4: "10.244.1.0/24".parse().ok(), v6: "fd00:1::/64".parse().ok() };
        let own = Own { attributes: &attributes, families: BOTH, subnets: Some(subnets) };
        let at_rest = patched(&node(&[]), &patch(&vxlan(), BOTH, &node(&[])).expect("all"));
        let body = Wanted::new(&keys(), &own, &Overwrites::default()).patch(&at_rest).expect("more");
        assert_eq!(
            body,
            r#"{"metadata":{"annotations":{"f.io/generations":"[{\"Backend\":{\"Type\":\"vxlan\"},\"Main\":true,\"Complete\":true}]","f.io/pod-cidrs":"10.244.1.0/24,fd00:1::/64"}}}"#
        );
        let after = patched(&at_rest, &body);
        assert_eq!(
            patch(&vxlan(), BOTH, &after).as_deref(),
            Some(r#"{"metadata":{"annotations":{"f.io/generations":null,"f.io/pod-cidrs":null}}}"#)
        );
    }
}
