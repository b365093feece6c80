//! The file for `--leases` of `flanneld plugin run`, `check` and `bench`: leases as they are in a store, with their subnets in them, and if wanted the node
//! that looks at them.
//!
//! ```json
//! {
//!   "Node": {"Network": "10.5.0.0/16", "Subnet": "10.5.72.0/24", "PublicIP": "192.168.0.72"},
//!   "Leases": [
//!     {"Subnet": "10.5.3.0/24", "PublicIP": "192.168.0.3", "BackendType": "vxlan",
//!      "BackendData": {"VNI": 1, "VtepMAC": "9e:00:00:00:00:03"}}
//!   ]
//! }
//! ```
//!
//! Without a node the array alone will do. A lease has `Subnet` or `IPv6Subnet` or both; the other fields are those of a lease's value
//! in etcd: `PublicIP`, `PublicIPv6`, `BackendType`, `BackendData`, `BackendV6Data`, each of which may be missing. What the node has is
//! in `NodeSpec`.

use std::net::{Ipv4Addr, Ipv6Addr};

use flannel_model::codec;
use flannel_model::lease::{Lease, Subnets};
use flannel_model::network_config::fields;
use flannel_model::prefix;
use flannel_plugin_host::Uplink;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::node::{Families, SampleNode};

/// What the file has.
#[derive(Debug)]
pub struct LeasesFile {
    /// The node that looks at them.
    pub node: SampleNode,
    /// The leases, by subnet.
    pub leases: Vec<Lease>,
}

/// The node that looks at the leases. What is missing is as [`SampleNode::own`] has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct NodeSpec {
    /// The external interface's name.
    interface: Option<String>,
    /// Bytes of the largest IP packet that it carries.
    #[serde(rename = "MTU")]
    mtu: Option<u32>,
    /// Its IPv4 address.
    #[serde(rename = "IPv4")]
    ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(rename = "IPv6")]
    ipv6: Option<Ipv6Addr>,
    /// The published IPv4 address; without it the interface's.
    #[serde(rename = "PublicIP")]
    public_ip: Option<Ipv4Addr>,
    /// The published IPv6 address; without it the interface's.
    #[serde(rename = "PublicIPv6")]
    public_ipv6: Option<Ipv6Addr>,
    /// The cluster's IPv4 network. If one of the networks is named, the cluster has no others.
    network: Option<Ipv4Net>,
    /// The cluster's IPv6 network.
    #[serde(rename = "IPv6Network")]
    ipv6_network: Option<Ipv6Net>,
    /// The node's own IPv4 subnet.
    subnet: Option<Ipv4Net>,
    /// The node's own IPv6 subnet.
    #[serde(rename = "IPv6Subnet")]
    ipv6_subnet: Option<Ipv6Net>,
    /// The networks that the node reaches without a gateway; without it everything.
    on_link: Option<Vec<IpNet>>,
    /// The interfaces that plugins may use beside the external one; without it one, `eth1`.
    uplinks: Option<Vec<UplinkSpec>>,
}

/// One of these interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct UplinkSpec {
    /// Its name.
    name: String,
    /// Bytes of the largest IP packet that it carries; without it 1500.
    #[serde(rename = "MTU")]
    mtu: Option<u32>,
    /// Its addresses, each with the length of its network's prefix.
    #[serde(default)]
    addresses: Vec<IpNet>,
}

impl UplinkSpec {
    fn uplink(&self) -> Uplink {
        let (name, addresses) = (self.name.clone(), self.addresses.clone());
        Uplink { name, mtu: self.mtu.unwrap_or(1500), addresses }
    }
}

/// Reads the file's text; the cluster is of these families if the file names no network. The error says what is wrong with which lease.
pub fn read(text: &str, families: Families) -> Result<LeasesFile, String> {
    const RIGHT: &str = r#"right would be an array of leases, or {"Node": {…}, "Leases": […]}"#;
    let wrong = |error: serde_json::Error| format!("{error}; {RIGHT}");
    let (mut node, mut values) = (NodeSpec::default(), Vec::<Box<RawValue>>::new());
    if text.trim_start().starts_with('[') {
        values = serde_json::from_str(text).map_err(wrong)?;
    } else {
        for (name, value) in fields(text).map_err(wrong)? {
            match name.as_str() {
                "Node" => {
                    node = serde_json::from_str(value.get()).map_err(|error| format!("Node: {error}"))?;
                }
                "Leases" => {
                    values = serde_json::from_str(value.get()).map_err(|error| format!("Leases: {error}"))?;
                }
                _ => return Err(format!("{name:?} is neither Node nor Leases")),
            }
        }
    }
    let mut leases = Vec::<Lease>::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        let lease = lease(value.get()).map_err(|error| format!("lease {}: {error}", at + 1))?;
        leases.push(lease);
    }
    leases.sort_by_key(|lease| lease.subnets);
    let twice = leases.windows(2).find(|pair| pair[0].subnets == pair[1].subnets);
    if let Some([lease, _]) = twice {
        return Err(format!("there are two leases of {}", lease.subnets));
    }
    let node = node.node(families);
    if let Some(same) = leases.iter().find(|lease| lease.subnets.overlaps(&node.subnets)) {
        return Err(format!(
            "the lease of {} overlaps the node's own, {}: give the node another one, as Node.Subnet or Node.IPv6Subnet",
            same.subnets, node.subnets
        ));
    }
    Ok(LeasesFile { node, leases })
}

fn lease(text: &str) -> Result<Lease, String> {
    let attributes = codec::decode(text.as_bytes()).map_err(|error| error.to_string())?;
    let mut subnets = Subnets { v4: None, v6: None };
    for (name, value) in fields(text).map_err(|error| error.to_string())? {
        let said = |right: &str| format!("its {name} {} is wrong: right would be {right}", value.get());
        let text = serde_json::from_str::<String>(value.get()).unwrap_or_default();
        if name.eq_ignore_ascii_case("Subnet") {
            let right = "an IPv4 network such as 10.5.3.0/24";
            let net: Option<Ipv4Net> = prefix::ipv4(&text).filter(|net| *net == net.trunc());
            subnets.v4 = Some(net.ok_or_else(|| said(right))?);
        } else if name.eq_ignore_ascii_case("IPv6Subnet") {
            let right = "an IPv6 network such as fc00:0:0:3::/64";
            let net: Option<Ipv6Net> = prefix::ipv6(&text).filter(|net| *net == net.trunc());
            subnets.v6 = Some(net.ok_or_else(|| said(right))?);
        }
    }
    if subnets.v4.is_none() && subnets.v6.is_none() {
        return Err("it has neither Subnet nor IPv6Subnet".to_owned());
    }
    Ok(Lease { subnets, attributes, expires: None })
}

impl NodeSpec {
    /// The node, in a cluster of these families if the networks are not named.
    fn node(&self, families: Families) -> SampleNode {
        let families = match (self.network, self.ipv6_network) {
            (None, None) => families,
            (Some(_), None) => Families::Ipv4,
            (None, Some(_)) => Families::Ipv6,
            (Some(_), Some(_)) => Families::Dual,
        };
        let mut node = SampleNode::own(families);
        let facts = &mut node.facts;
        if let Some(interface) = &self.interface {
            facts.interface.clone_from(interface);
        }
        facts.mtu = self.mtu.unwrap_or(facts.mtu);
        if families.v4() {
            facts.ipv4 = self.ipv4.or(facts.ipv4);
            facts.public_ipv4 = self.public_ip.or(facts.ipv4);
            facts.ipv4_network = self.network.or(facts.ipv4_network);
            node.subnets.v4 = self.subnet.or(node.subnets.v4);
        }
        if families.v6() {
            facts.ipv6 = self.ipv6.or(facts.ipv6);
            facts.public_ipv6 = self.public_ipv6.or(facts.ipv6);
            facts.ipv6_network = self.ipv6_network.or(facts.ipv6_network);
            node.subnets.v6 = self.ipv6_subnet.or(node.subnets.v6);
        }
        node.on_link.clone_from(&self.on_link);
        if let Some(uplinks) = &self.uplinks {
            node.uplinks = uplinks.iter().map(UplinkSpec::uplink).collect();
        }
        node
    }
}
