//! `routes`, `neighbours` and `fdb`: entries for a peer.

use std::net::IpAddr;

use flannel_model::entry::{Device, DeviceSpec, Entry};
use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;
use wasmtime::component::Resource;

use super::belongs::{check_inside, check_published};
use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::types::{Error, IpAddress, MacAddress};
use crate::bindings::flannel::backend::{fdb, neighbours, routes};
use crate::convert;

impl routes::Host for HostState {
    fn put(
        &mut self,
        peer: u64,
        route: routes::Route,
        device: Resource<LinkHandle>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("routes.put")?;
        let device = self.device(&device)?;
        let outcome = self.declare(peer, |host, lease| {
            let destination = convert::network(&route.destination)?;
            check_inside(lease, &destination, format_args!("the route's destination {destination}"))?;
            let via = convert::address(route.via);
            if via.is_ipv4() != destination.addr().is_ipv4() || !is_host(via) {
                return Err(Error::InvalidArgument(format!("{via} cannot be the next hop to {destination}")));
            }
            if matches!(device, Device::Uplink(_)) {
                return Err(Error::Denied(format!(
                    "route {destination}: routes over an uplink, {device}, are those of policy-routing"
                )));
            }
            host.check_next_hop(&device, Some(via), false)?;
            Ok(Entry::Route { destination, via: Some(via), onlink: route.onlink, device })
        });
        Ok(self.outcome("routes.put", outcome))
    }
}

impl neighbours::Host for HostState {
    fn put(
        &mut self,
        peer: u64,
        address: IpAddress,
        mac: MacAddress,
        device: Resource<LinkHandle>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("neighbours.put")?;
        let device = self.device(&device)?;
        let outcome = self.declare(peer, |host, lease| {
            let (address, mac) = (convert::address(address), convert::mac(mac)?);
            check_inside(lease, &address.into(), format_args!("the neighbour {address}"))?;
            let device = own(device)?;
            host.check_ethernet(&device)?;
            Ok(Entry::Neighbour { address, link_address: mac.into(), device })
        });
        Ok(self.outcome("neighbours.put", outcome))
    }
}

impl fdb::Host for HostState {
    fn put(
        &mut self,
        peer: u64,
        mac: MacAddress,
        destination: IpAddress,
        device: Resource<LinkHandle>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("fdb.put")?;
        let device = self.device(&device)?;
        let outcome = self.declare(peer, |host, lease| {
            let (destination, mac) = (convert::address(destination), convert::mac(mac)?);
            let device = own(device)?;
            let Device::Own(name) = &device else { return Err(external()) };
            let local = match host.devices.get(name) {
                Some(DeviceSpec::Vxlan(vxlan)) => Some(vxlan.local),
                _ => return Err(Error::Denied(format!("{name} is no VXLAN device"))),
            };
            if local.is_none_or(|local| local.is_ipv4() != destination.is_ipv4()) {
                return Err(Error::InvalidArgument(format!("{destination} is not of the family of {name}")));
            }
            check_published(lease, destination)?;
            Ok(Entry::Fdb { mac, destination, device })
        });
        Ok(self.outcome("fdb.put", outcome))
    }
}

impl HostState {
    /// Adds an entry to a peer of this call.
    pub(super) fn declare(
        &mut self,
        peer: u64,
        entry: impl FnOnce(&Self, &Lease) -> Result<Entry, Error>,
    ) -> Result<(), Error> {
        let id = PeerId(peer);
        let Some(known) = self.call.peers.get_mut(id) else {
            return Err(Error::Denied(format!("peer {id} is not among the changes of this call")));
        };
        let (limit, lease) = (self.limits.peer_entries, std::sync::Arc::clone(&known.lease));
        if known.entries.len() >= limit {
            return Err(Error::LimitExceeded(format!("peer {id}: at most {limit} entries for a peer")));
        }
        if self.entries.total() + self.call.entries >= self.limits.entries {
            return Err(Error::LimitExceeded(format!("at most {} entries in all", self.limits.entries)));
        }
        let entry = entry(self, &lease)?;
        let neighbours = self.neighbours_of(&entry);
        if let Some(known) = self.call.peers.get_mut(id) {
            let before = known.entries.len();
            for neighbour in neighbours {
                if !known.entries.contains(&neighbour) {
                    known.entries.push(neighbour);
                }
            }
            known.entries.push(entry);
            self.call.entries += known.entries.len() - before;
        }
        Ok(())
    }
}

/// A device of the plugin's own.
fn own(device: Device) -> Result<Device, Error> {
    if matches!(device, Device::Own(_)) { Ok(device) } else { Err(external()) }
}

fn external() -> Error {
    Error::Denied("only routes may use the external interface, or an uplink".to_owned())
}

/// Whether packets can be sent to an address: it is one host's.
pub(super) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}
