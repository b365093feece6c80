//! A policy for IPv4 that looks where nodes are: those of one zone reach each other by plain routes, as they are on one link, and all others
//! by VXLAN. A node's zone is the one that its operator gives it (`--plugin-option zone=…`), or else the one of its label in Kubernetes.

use std::net::IpAddr;

use flannel_backend::serde_json::json;
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links,
    neighbours, node_info, routes,
};

/// What Kubernetes calls a node's zone.
const LABEL: &str = "topology.kubernetes.io/zone";
/// What a VXLAN packet adds.
const OVERHEAD: u32 = 50;

/// The policy.
pub struct Zoned {
    zone: String,
    vtep: Link,
}

impl Policy for Zoned {
    const NAME: &'static str = "zoned";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["vxlan"];

    fn register(node: &Node, _: &Config) -> Result<(Self, Registration), String> {
        let zone = node_info::options().remove("zone").or_else(|| node_info::labels().remove(LABEL));
        let zone = zone.filter(|zone| !zone.is_empty()).ok_or_else(|| {
            format!("node {} has no label {LABEL}, and there is no --plugin-option zone=…", node_info::name())
        })?;
        let mtu = node.external.mtu - OVERHEAD;
        let vtep = links::ensure_vxlan(&Vxlan {
            name: "flannel.1".to_owned(),
            vni: 1,
            port: None,
            family: Family::V4,
            learning: false,
            gbp: false,
            mtu,
        })?;
        let mac = vtep.mac().ok_or("no MAC")?;
        let registration = Registration {
            backend_type: "vxlan".to_owned(),
            backend_data: Some(json!({ "VNI": 1, "VtepMAC": mac.to_string(), "Zone": zone }).to_string()),
            backend_v6_data: None,
            mtu,
        };
        Ok((Self { zone, vtep }, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnet = own.ipv4_subnet.ok_or("no IPv4 subnet")?;
        Ok(self.vtep.set_addresses(&[IpAddr::V4(subnet.network()).into()])?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != "vxlan" {
            return Ok(());
        }
        let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
        let data = Config::parse(lease.backend_data.as_deref().ok_or("no data")?)?;
        if data.text("Zone")? == Some(&self.zone) {
            let route = Route { destination: subnet.into(), via: public.into(), onlink: false };
            return Ok(routes::put(peer, &route, &links::external())?);
        }
        let mac: Mac = data.text("VtepMAC")?.ok_or("no MAC")?.parse()?;
        let gateway = IpAddr::V4(subnet.network());
        routes::put(peer, &Route { destination: subnet.into(), via: gateway, onlink: true }, &self.vtep)?;
        fdb::put(peer, mac, public.into(), &self.vtep)?;
        Ok(neighbours::put(peer, gateway, mac, &self.vtep)?)
    }
}

flannel_backend::export!(Zoned);

#[cfg(test)]
mod tests {
    use flannel_backend::testing::{self, samples};

    use super::*;

    #[test]
    fn the_operators_zone_comes_before_the_label_and_without_both_the_node_is_named() {
        let node = samples::node(true, false);
        let config = Config::parse("{}").expect("JSON");
        let zone = || Zoned::register(&node, &config).map(|(policy, _)| policy.zone);
        let refused = zone().expect_err("refused");
        assert!(refused.starts_with("node node-1 has no label topology.kubernetes.io/zone"), "{refused}");
        testing::with(|host| host.labels.insert(LABEL.to_owned(), "b".to_owned()));
        assert_eq!(zone().as_deref(), Ok("b"));
        testing::with(|host| host.options.insert("zone".to_owned(), "a".to_owned()));
        assert_eq!(zone().as_deref(), Ok("a"));
    }
}
