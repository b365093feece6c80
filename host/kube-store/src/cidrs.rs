//! Which subnets a node has: Kubernetes assigns them, once for a node's life.

use flannel_base::Family;
use flannel_base::text::excerpt;
use flannel_model::lease::Subnets;
use flannel_model::network_config::NetworkConfig;
use flannel_model::prefix;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::families::Families;
use flannel_kube_api::Node;

/// What a node's CIDRs are, in both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cidrs {
    /// The first of IPv4, without host bits.
    pub v4: Option<Ipv4Net>,
    /// The first of IPv6, without host bits.
    pub v6: Option<Ipv6Net>,
    /// The first that is none, as it is written.
    pub unreadable: Option<String>,
}

impl Cidrs {
    /// Those that Kubernetes has assigned: the first of each family. Their order says nothing.
    pub fn assigned(node: &Node) -> Self {
        Self::first(node.pod_cidrs.iter().map(String::as_str))
    }

    fn first<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut cidrs = Self::default();
        for text in texts.filter(|text| !text.is_empty()) {
            match prefix::either(text) {
                Some(IpNet::V4(net)) => cidrs.v4 = cidrs.v4.or(Some(net.trunc())),
                Some(IpNet::V6(net)) => cidrs.v6 = cidrs.v6.or(Some(net.trunc())),
                None if cidrs.unreadable.is_none() => cidrs.unreadable = Some(excerpt(text)),
                None => {}
            }
            if cidrs.v4.is_some() && cidrs.v6.is_some() {
                break;
            }
        }
        cidrs
    }

    /// Whether there is none, readable or not.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none() && self.unreadable.is_none()
    }

    /// Those of the families that a cluster has; maybe none.
    pub fn of(&self, families: Families) -> Subnets {
        Subnets { v4: self.v4.filter(|_| families.ipv4), v6: self.v6.filter(|_| families.ipv6) }
    }
}

/// Why a node has no subnets to work with; one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Nobody has assigned any yet; may pass by waiting.
    #[error(
        "node {node} has no podCIDR yet: the controller manager assigns it (--allocate-node-cidrs and --cluster-cidr; kubeadm: --pod-network-cidr)"
    )]
    NotAssigned {
        /// The node.
        node: String,
    },
    /// What is assigned is no network.
    #[error("podCIDR {cidr:?} of node {node} is wrong: right would be a network such as 10.244.1.0/24")]
    Unreadable {
        /// The node.
        node: String,
        /// What is assigned.
        cidr: String,
    },
    /// A family that the cluster has is missing.
    #[error(
        "node {node} has no {family} podCIDR, and {family} is on in the network config: give the controller manager a cluster CIDR of both families (which reaches new nodes only), or turn {family} off"
    )]
    NoneOfFamily {
        /// The node.
        node: String,
        /// What is missing.
        family: Family,
        /// What is there, in the other family.
        found: Subnets,
    },
    /// It is not in the cluster's network.
    #[error(
        "podCIDR {cidr} of node {node} does not lie in {field} {network} of the network config: make {field} what the controller manager has as --cluster-cidr, or the other way round"
    )]
    Outside {
        /// The node.
        node: String,
        /// What is assigned.
        cidr: IpNet,
        /// The name of the network config's field.
        field: &'static str,
        /// Its value.
        network: IpNet,
    },
}

/// The subnets of this node's lease: one in each family that the cluster has, in the cluster's networks.
pub fn own_subnets(node: &Node, config: &NetworkConfig) -> Result<Subnets, CidrError> {
    let cidrs = Cidrs::assigned(node);
    let name = || node.name.clone();
    let found = cidrs.of(Families::of(config));
    if let Some((cidr, field, network)) = outside(&found, config) {
        return Err(CidrError::Outside { node: name(), cidr, field, network });
    }
    let missing = Family::ALL.into_iter().find(|family| {
        let is_there = found.iter().any(|subnet| Family::of(subnet.addr()) == *family);
        Families::of(config).has(*family) && !is_there
    });
    match (missing, cidrs.unreadable.clone()) {
        (None, _) => Ok(found),
        (Some(_), Some(cidr)) => Err(CidrError::Unreadable { node: name(), cidr }),
        (Some(_), None) if cidrs.is_empty() => Err(CidrError::NotAssigned { node: name() }),
        (Some(family), None) => Err(CidrError::NoneOfFamily { node: name(), family, found }),
    }
}

/// The first subnet that does not lie in the network of its family, with that field's name and value.
pub(crate) fn outside(subnets: &Subnets, config: &NetworkConfig) -> Option<(IpNet, &'static str, IpNet)> {
    subnets.iter().find_map(|subnet| {
        let (field, network) = match subnet {
            IpNet::V4(_) => ("Network", config.network.map(IpNet::V4)),
            IpNet::V6(_) => ("IPv6Network", config.ipv6_network.map(IpNet::V6)),
        };
        network.filter(|network| !network.contains(&subnet)).map(|network| (subnet, field, network))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"}"#;
    const V4: &str = r#"{"Network":"10.244.0.0/16"}"#;

    fn node(cidrs: &[&str]) -> Node {
        Node {
            name: "n1".to_owned(),
            pod_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            ..Node::default()
        }
    }

    fn own(node: &Node, config: &str) -> Result<String, CidrError> {
        let config = NetworkConfig::parse_for_assigned_subnets(config).expect("a network config");
        own_subnets(node, &config).map(|subnets| subnets.to_string())
    }

    #[test]
    fn the_first_of_each_family_counts_in_whatever_order() {
        for (cidrs, config, expected) in [
            (&["10.244.1.0/24", "fd00:10:244:1::/64"][..], DUAL, "10.244.1.0/24 and fd00:10:244:1::/64"),
            (&["fd00:10:244:1::/64", "10.244.1.0/24"], DUAL, "10.244.1.0/24 and fd00:10:244:1::/64"),
            (&["10.244.1.0/24", "fd00:10:244:1::/64"], V4, "10.244.1.0/24"),
            (&["10.244.1.0/24", "10.244.9.0/24", "10.244.8.0/24"], V4, "10.244.1.0/24"),
            (&["10.244.1.0/24"], V4, "10.244.1.0/24"),
            (&["10.244.1.9/24"], V4, "10.244.1.0/24"),
            (&["x", "10.244.1.0/24"], V4, "10.244.1.0/24"),
        ] {
            assert_eq!(own(&node(cidrs), config).as_deref(), Ok(expected), "{cidrs:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_assigned_subnets_is_said_with_what_would_be_right() {
        for (cidrs, config, expected) in [
            (&[][..], V4, "node n1 has no podCIDR yet: the controller manager assigns it"),
            (&[""], V4, "node n1 has no podCIDR yet"),
            (&["10.244.1.0"], V4, "podCIDR \"10.244.1.0\" of node n1 is wrong"),
            (&["010.244.1.0/24"], V4, "podCIDR \"010.244.1.0/24\" of node n1 is wrong"),
            (&["10.244.1.0/24"], DUAL, "node n1 has no IPv6 podCIDR, and IPv6 is on in the network config"),
            (&["10.244.1.0/24", "fd00::/x"], DUAL, "podCIDR \"fd00::/x\" of node n1 is wrong"),
            (&["fd00:10:244:1::/64"], V4, "node n1 has no IPv4 podCIDR"),
            (&["10.42.1.0/24"], V4, "podCIDR 10.42.1.0/24 of node n1 does not lie in Network 10.244.0.0/16"),
            (&["10.0.0.0/8"], V4, "podCIDR 10.0.0.0/8 of node n1 does not lie in Network 10.244.0.0/16"),
            (&["0.0.0.0/0"], V4, "podCIDR 0.0.0.0/0 of node n1 does not lie in Network 10.244.0.0/16"),
            (
                &["10.244.1.0/24", "fd00:11::/64"],
                DUAL,
                "podCIDR fd00:11::/64 of node n1 does not lie in IPv6Network fd00:10:244::/56",
            ),
        ] {
            let error = own(&node(cidrs), config).expect_err(expected).to_string();
            assert!(error.starts_with(expected) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn who_lacks_one_family_is_told_what_there_is_in_the_other() {
        let found = own(&node(&["10.244.1.0/24"]), DUAL).expect_err("no IPv6");
        let CidrError::NoneOfFamily { family: Family::Ipv6, found, .. } = found else { panic!("{found}") };
        assert_eq!(found.to_string(), "10.244.1.0/24");
    }
}
