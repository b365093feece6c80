//! The vxlan backend's policy for IPv4 with the options left alone.

use std::net::IpAddr;

use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links,
    neighbours, routes,
};

/// The device, and whether peers on the link are reached without it.
pub struct Vtep<const DIRECT: bool>(Link);

impl<const DIRECT: bool> Policy for Vtep<DIRECT> {
    const NAME: &'static str = "vxlan";
    const VERSION: &'static str = if DIRECT { "9.0.0-direct" } else { "9.0.0" };
    const BACKEND_TYPES: &'static [&'static str] = &["vxlan"];

    fn register(node: &Node, _: &Config) -> Result<(Self, Registration), String> {
        let mtu = node.external.mtu - 50;
        let link = links::ensure_vxlan(&Vxlan {
            name: "flannel.1".to_owned(),
            vni: 1,
            port: None,
            family: Family::V4,
            learning: false,
            gbp: false,
            mtu,
        })?;
        let mac = link.mac().ok_or("no MAC")?;
        let registration = Registration {
            backend_type: "vxlan".to_owned(),
            backend_data: Some(format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)),
            backend_v6_data: None,
            mtu,
        };
        Ok((Self(link), registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnet = own.ipv4_subnet.ok_or("no IPv4 subnet")?;
        Ok(self.0.set_addresses(&[IpAddr::V4(subnet.network()).into()])?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
        if DIRECT && links::is_on_link(public.into())? {
            let route = Route { destination: subnet.into(), via: public.into(), onlink: false };
            return Ok(routes::put(peer, &route, &links::external())?);
        }
        let data = Config::parse(lease.backend_data.as_deref().ok_or("no data")?)?;
        let mac: Mac = data.text("VtepMAC")?.ok_or("no MAC")?.parse()?;
        let gateway = IpAddr::V4(subnet.network());
        routes::put(peer, &Route { destination: subnet.into(), via: gateway, onlink: true }, &self.0)?;
        fdb::put(peer, mac, public.into(), &self.0)?;
        Ok(neighbours::put(peer, gateway, mac, &self.0)?)
    }
}
