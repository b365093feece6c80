//! A node that there is not.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::datapath::DEFAULT_VXLAN_PORT;
use crate::datapath::entry::Mac;
use crate::datapath::tunnel::Offloads;
use crate::datapath::wireguard::Keys;
use crate::plugin::{Environment, Family, Grants, LinkFacts, NodeFacts, Secrets, withhold};

/// Answers about links where there are none.
pub struct DryNode {
    /// Kept for the life of this process only.
    keys: Result<Keys, String>,
}

impl DryNode {
    fn new() -> Self {
        let made = tempfile::tempdir().map_err(|error| error.to_string());
        Self { keys: made.and_then(|directory| Keys::load(&directory.path().join("key"))) }
    }
}

impl LinkFacts for DryNode {
    fn mac(&self, _device: &str, _vni: u32, family: Family) -> Mac {
        Mac([2, 0, 0, 0, if family == Family::Ipv4 { 4 } else { 6 }, 100])
    }

    /// All peers are on the same link.
    fn is_on_link(&self, _address: IpAddr) -> Result<bool, String> {
        Ok(true)
    }

    fn default_vxlan_port(&self) -> u16 {
        DEFAULT_VXLAN_PORT
    }

    fn wireguard_keys(&self) -> Result<Keys, String> {
        self.keys.clone()
    }
}

/// Node 192.168.0.100 on `eth0`, with an MTU of 1500, in cluster 10.0.0.0/8; with IPv6 also fd77::100 in fc00::/16. `backend` is
/// the network config's `Backend` object.
pub fn environment(backend: &str, ipv6: bool) -> Result<Environment, String> {
    let value: Value = serde_json::from_str(backend).map_err(|error| format!("not JSON: {error}"))?;
    let named = value.as_object().into_iter().flatten().find(|(key, _)| key.eq_ignore_ascii_case("type"));
    let backend_type = named.and_then(|(_, value)| value.as_str()).unwrap_or("udp").to_ascii_lowercase();
    let (config, secrets): (String, Secrets) = withhold(&backend_type, backend)?;
    let v6 = |groups: [u16; 8]| ipv6.then(|| groups.into());
    Ok(Environment {
        node: NodeFacts {
            interface: "eth0".to_owned(),
            mtu: 1500,
            ipv4: Some([192, 168, 0, 100].into()),
            ipv6: v6([0xfd77, 0, 0, 0, 0, 0, 0, 0x100]),
            public_ipv4: Some([192, 168, 0, 100].into()),
            public_ipv6: v6([0xfd77, 0, 0, 0, 0, 0, 0, 0x100]),
            ipv4_network: Some(ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8)),
            ipv6_network: v6([0xfc00, 0, 0, 0, 0, 0, 0, 0])
                .map(|address| ipnet::Ipv6Net::new_assert(address, 16)),
        },
        backend_type,
        config,
        secrets,
        offloads: Offloads::ALL,
        grants: Arc::new(Grants::everything()),
        links: Arc::new(DryNode::new()),
    })
}
