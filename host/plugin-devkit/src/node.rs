//! A node that there is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flannel_model::entry::DEFAULT_VXLAN_PORT;
use flannel_model::entry::Mac;
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::offloads::Offloads;
use flannel_model::wireguard::{Keys, PublicKey, SecretKey};
use flannel_plugin_host::{
    Environment, Family, Grants, LinkFacts, NoClouds, NoCommands, NoEndpoints, NodeFacts, NodeInfo, Probes,
    Registration, Secrets, Uplink, extract_secrets,
};
use ipnet::IpNet;
use serde_json::Value;

use super::scripted::ScriptedProbes;

/// Which families a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both.
    Dual,
}

impl Families {
    /// Whether IPv4 is among them.
    pub fn v4(self) -> bool {
        self != Self::Ipv6
    }

    /// Whether IPv6 is among them.
    pub fn v6(self) -> bool {
        self != Self::Ipv4
    }
}

/// A made-up node, and its place in the cluster.
#[derive(Clone, Debug)]
pub struct SampleNode {
    /// What the policy is told of it.
    pub facts: NodeFacts,
    /// What else it may ask.
    pub about: Arc<NodeInfo>,
    /// Its own subnets.
    pub subnets: Subnets,
    /// The networks that are reached over the external interface without a gateway; none: everything is.
    pub on_link: Option<Vec<IpNet>>,
    /// The interfaces that plugins may use beside the external one.
    pub uplinks: Vec<Uplink>,
    /// What is known of peers that are probed.
    pub(crate) probes: Arc<ScriptedProbes>,
    /// What its Ethernet addresses and its WireGuard key are made of.
    number: u16,
}

/// The number of the node itself; its peers have others.
const OWN: u16 = 100;

impl SampleNode {
    /// Node 192.168.0.100 on `eth0`, with an MTU of 1500 and the subnet 10.255.255.0/24, in cluster 10.0.0.0/8; with IPv6
    /// fd77::100 and fc00:0:0:ffff::/64 in fc00::/16. All of its peers are on the same link. It has an uplink, `eth1`.
    pub fn own(families: Families) -> Self {
        let v4 = [192, 168, 0, 100];
        let v6 = [0xfd77, 0, 0, 0, 0, 0, 0, 0x100];
        let subnets = super::peers::subnets(super::peers::OWN, families);
        Self::at(families, v4, v6, subnets, OWN)
    }

    /// The node that has the made-up lease of this number.
    pub fn peer(number: u16, families: Families) -> Self {
        let (v4, v6) = super::peers::addresses(number);
        Self::at(families, v4, v6, super::peers::subnets(number, families), number)
    }

    /// A node with these facts and subnets, and with Ethernet addresses and keys that are made up.
    pub(crate) fn with(facts: NodeFacts, subnets: Subnets) -> Self {
        Self {
            facts,
            about: Arc::default(),
            subnets,
            on_link: None,
            uplinks: Vec::new(),
            probes: Arc::default(),
            number: OWN,
        }
    }

    /// The same node, of which this is known besides.
    #[must_use]
    pub fn told(self, about: &Arc<NodeInfo>) -> Self {
        Self { about: Arc::clone(about), ..self }
    }

    fn at(families: Families, v4: [u8; 4], v6: [u16; 8], subnets: Subnets, number: u16) -> Self {
        let v4 = families.v4().then(|| v4.into());
        let v6 = families.v6().then(|| v6.into());
        let network_v4 = ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8);
        let network_v6 = ipnet::Ipv6Net::new_assert([0xfc00, 0, 0, 0, 0, 0, 0, 0].into(), 16);
        let facts = NodeFacts {
            interface: "eth0".to_owned(),
            mtu: 1500,
            ipv4: v4,
            ipv6: v6,
            public_ipv4: v4,
            public_ipv6: v6,
            ipv4_network: families.v4().then_some(network_v4),
            ipv6_network: families.v6().then_some(network_v6),
        };
        Self {
            facts,
            about: Arc::default(),
            subnets,
            on_link: None,
            uplinks: made_up_uplinks(number),
            probes: Arc::default(),
            number,
        }
    }

    /// Everything around a policy on this node. `backend` is the network config's `Backend` object.
    pub fn environment(&self, backend: &str) -> Result<Environment, String> {
        let value: Value = serde_json::from_str(backend).map_err(|error| format!("not JSON: {error}"))?;
        let named = value.as_object().into_iter().flatten().find(|(key, _)| key.eq_ignore_ascii_case("type"));
        let backend_type = named.and_then(|(_, value)| value.as_str()).unwrap_or("udp").to_ascii_lowercase();
        let (config, secrets): (String, Secrets) = extract_secrets(&backend_type, backend)?;
        Ok(Environment {
            node: self.facts.clone(),
            about: Arc::clone(&self.about),
            backend_type,
            config,
            secrets,
            offloads: Offloads::ALL,
            grants: Arc::new(Grants::everything()),
            clouds: Arc::new(NoClouds),
            endpoints: Arc::new(NoEndpoints),
            commands: Arc::new(NoCommands),
            probes: Arc::clone(&self.probes) as Arc<dyn Probes>,
            links: Arc::new(DryNode {
                number: self.number,
                on_link: self.on_link.clone(),
                uplinks: self.uplinks.clone(),
            }),
        })
    }

    /// The lease that it has once the plugin has said what to publish.
    pub fn lease(&self, registered: &Registration) -> Lease {
        let attributes = Attributes {
            public_ip: self.facts.public_ipv4,
            public_ipv6: self.facts.public_ipv6,
            backend_type: registered.backend_type.clone(),
            backend_data: registered.backend_data.clone(),
            backend_v6_data: registered.backend_v6_data.clone(),
            generations: Vec::new(),
        };
        Lease { subnets: self.subnets, attributes, expires: None }
    }
}

/// One, `eth1`, with an address of each family.
fn made_up_uplinks(number: u16) -> Vec<Uplink> {
    let [high, low] = number.to_be_bytes();
    let v4 = Ipv4Addr::from([172, 16, high, low]);
    let v6 = Ipv6Addr::from([0xfd78, 0, 0, 0, 0, 0, 0, number]);
    let addresses = [IpNet::new(v4.into(), 16), IpNet::new(v6.into(), 64)];
    let addresses = addresses.into_iter().filter_map(Result::ok).collect();
    vec![Uplink { name: "eth1".to_owned(), mtu: 1500, addresses }]
}

/// Answers about links where there are none.
struct DryNode {
    number: u16,
    on_link: Option<Vec<IpNet>>,
    uplinks: Vec<Uplink>,
}

impl LinkFacts for DryNode {
    fn mac(&self, _device: &str, _vni: u32, family: Family) -> Mac {
        let [high, low] = self.number.to_be_bytes();
        Mac([2, 0, 0, if family == Family::Ipv4 { 4 } else { 6 }, high, low])
    }

    fn is_on_link(&self, address: IpAddr) -> Result<bool, String> {
        let Some(networks) = &self.on_link else { return Ok(true) };
        Ok(networks.iter().any(|network| network.contains(&address)))
    }

    fn default_vxlan_port(&self) -> u16 {
        DEFAULT_VXLAN_PORT
    }

    fn uplinks(&self) -> Result<Vec<Uplink>, String> {
        Ok(self.uplinks.clone())
    }

    /// The same each time, so that what is shown is. No packet was ever encrypted with it.
    fn wireguard_keys(&self) -> Result<Keys, String> {
        let mut bytes = [0x40; 32];
        bytes[1..3].copy_from_slice(&self.number.to_be_bytes());
        BASE64_STANDARD.encode(bytes).parse::<SecretKey>().map(Keys::of)
    }

    fn ipsec_key(&self) -> Result<PublicKey, String> {
        self.wireguard_keys().map(|keys| keys.public)
    }
}
