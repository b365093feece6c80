//! A policy for IPv4 that serves its peers by VXLAN, and counts what it does. Its options are the node's (`--plugin-option`): `every` is how
//! many milliseconds there are between two ticks, `trap` the tick that traps, and with `wrong` it counts what is refused, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use flannel_backend::serde_json::json;
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links, metrics,
    neighbours, node_info, routes,
};

/// What a VXLAN packet adds.
const OVERHEAD: u32 = 50;

/// The policy.
pub struct Roamer {
    vtep: Link,
    options: BTreeMap<String, String>,
    ticks: u64,
    peers: BTreeSet<PeerId>,
}

impl Roamer {
    fn number(&self, option: &str) -> Result<Option<u64>, String> {
        let number =
            |text: &String| text.parse().map_err(|_| format!("the option {option}: {text:?} is no number"));
        self.options.get(option).map(number).transpose()
    }
}

impl Policy for Roamer {
    const NAME: &'static str = "roamer";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["vxlan"];

    fn register(node: &Node, _: &Config) -> Result<(Self, Registration), String> {
        metrics::set_help("ticks", "How often it was asked to look after itself")?;
        metrics::add("ticks", &[], 0)?;
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
            backend_data: Some(json!({ "VNI": 1, "VtepMAC": mac.to_string() }).to_string()),
            backend_v6_data: None,
            mtu,
        };
        let policy = Self { vtep, options: node_info::options(), ticks: 0, peers: BTreeSet::new() };
        policy.number("every")?;
        Ok((policy, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnet = own.ipv4_subnet.ok_or("no IPv4 subnet")?;
        Ok(self.vtep.set_addresses(&[IpAddr::V4(subnet.network()).into()])?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        metrics::add("leases", &[("backend", &lease.backend_type)], 1)?;
        if lease.backend_type != "vxlan" {
            return Ok(());
        }
        let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
        let data = Config::parse(lease.backend_data.as_deref().ok_or("no data")?)?;
        let mac: Mac = data.text("VtepMAC")?.ok_or("no MAC")?.parse()?;
        self.peers.insert(peer);
        let gateway = IpAddr::V4(subnet.network());
        routes::put(peer, &Route { destination: subnet.into(), via: gateway, onlink: true }, &self.vtep)?;
        fdb::put(peer, mac, public.into(), &self.vtep)?;
        Ok(neighbours::put(peer, gateway, mac, &self.vtep)?)
    }

    fn removed(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        self.ticks += 1;
        metrics::add("ticks", &[], 1)?;
        #[allow(clippy::cast_precision_loss, reason = "no cluster has that many")]
        metrics::set_gauge("peers", &[("told", "yes")], self.peers.len() as f64)?;
        if self.options.contains_key("wrong") {
            // A figure that is refused costs nothing but itself.
            let _ = metrics::set_gauge("no number", &[], f64::NAN);
        }
        assert!(self.number("trap")? != Some(self.ticks), "the tick that traps");
        Ok(self.number("every")?.map(Duration::from_millis))
    }
}

flannel_backend::export!(Roamer);

#[cfg(test)]
mod tests {
    use flannel_backend::testing::{self, Bench, samples};

    use super::*;

    #[test]
    fn what_it_does_is_counted() {
        let mut bench = Bench::<Roamer>::register(&samples::node(true, false), "{}").expect("registers");
        let data = json!({ "VtepMAC": "02:00:00:00:00:02" }).to_string();
        let lease = Lease { backend_data: Some(data), ..samples::peer("vxlan") };
        bench.put(2, &lease).expect("served");
        bench.put(2, &lease).expect("served");
        assert_eq!(bench.tick(), Ok(None));
        testing::with(|host| {
            assert_eq!(host.counters["leases{backend=\"vxlan\"}"], 2);
            assert_eq!(host.counters["ticks"], 1);
            assert_eq!(host.gauges["peers{told=\"yes\"}"].to_bits(), 1_f64.to_bits());
        });
    }
}
