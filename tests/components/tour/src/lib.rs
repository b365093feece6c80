//! What docs/languages.md shows of a backend in Rust: nodes reach each other by VXLAN, and each counts its starts.

use std::net::IpAddr;

use flannel_backend::serde_json::json;
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links, log,
    neighbours, routes, state,
};

/// Bytes that VXLAN adds to a packet.
const OVERHEAD: u32 = 50;

/// The policy. A handle stays valid for as long as the plugin runs.
pub struct Tour {
    vtep: Link,
}

impl Policy for Tour {
    const NAME: &'static str = "tour";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["tour"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        if node.external.ipv4.is_none() {
            return Err("tour tunnels IPv4, which this cluster does not have".to_owned());
        }
        let vni = config.number("VNI", 1..=16_777_215)?.unwrap_or(1);
        count_start()?;
        let mtu = node.external.mtu.saturating_sub(OVERHEAD);
        let vtep = links::ensure_vxlan(&Vxlan {
            name: format!("flannel.{vni}"),
            vni,
            port: None,
            family: Family::V4,
            learning: false,
            gbp: false,
            mtu,
        })?;
        let mac = vtep.mac().ok_or("no MAC")?.to_string();
        let registration = Registration {
            backend_type: Self::NAME.to_owned(),
            backend_data: Some(json!({ "VNI": vni, "VtepMAC": mac }).to_string()),
            backend_v6_data: None,
            mtu,
        };
        Ok((Self { vtep }, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let address = own.ipv4_subnet.map(|subnet| IpAddr::V4(subnet.network()).into());
        Ok(self.vtep.set_addresses(address.as_slice())?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != Self::NAME {
            return Ok(());
        }
        let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
        let data = Config::parse(lease.backend_data.as_deref().unwrap_or("{}"))?;
        let mac: Mac = data.text("VtepMAC")?.ok_or("there is no VtepMAC")?.parse()?;
        let gateway = IpAddr::V4(subnet.network());
        let route = Route { destination: subnet.into(), via: gateway, onlink: true };
        routes::put(peer, &route, &self.vtep)?;
        fdb::put(peer, mac, public.into(), &self.vtep)?;
        Ok(neighbours::put(peer, gateway, mac, &self.vtep)?)
    }
}

/// Counts this start in the durable store, and says it in the log.
fn count_start() -> Result<(), String> {
    let stored = state::get("starts")?.and_then(|value| String::from_utf8(value).ok()?.parse::<u32>().ok());
    let starts = stored.unwrap_or(0).saturating_add(1).to_string();
    state::set("starts", Some(starts.as_bytes()))?;
    log::info("started", &[("starts", &starts)]);
    Ok(())
}

flannel_backend::export!(Tour);
