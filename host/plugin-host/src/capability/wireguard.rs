//! `wireguard`: devices and peers. Keys that are secret stay on this side.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use flannel_model::entry::{Device, DeviceSpec, Entry, Wireguard};
use flannel_model::lease::Lease;
use flannel_model::wireguard::{PublicKey, WireguardPeer};
use wasmtime::component::Resource;

use super::belongs::{check_inside, check_published};
use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::wireguard::{self as wit, Error};
use crate::convert;

/// The least MTU of a device that carries IPv6 (RFC 8200), and of one that does not (RFC 791).
const LEAST_MTU: [u32; 2] = [1280, 68];

impl wit::Host for HostState {
    fn ensure(&mut self, device: wit::Device) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("wireguard.ensure")?;
        let device = self.checked_wireguard(device).map(DeviceSpec::Wireguard);
        self.declared("wireguard.ensure", device)
    }

    fn public_key(&mut self) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.enter("wireguard.public-key")?;
        let keys = self.environment.links.wireguard_keys().map_err(Error::Unavailable);
        Ok(self.outcome("wireguard.public-key", keys.map(|keys| keys.public.0.to_vec())))
    }

    fn has_preshared_key(&mut self) -> wasmtime::Result<bool> {
        self.enter("wireguard.has-preshared-key")?;
        Ok(self.environment.secrets.preshared.is_some())
    }

    fn put(
        &mut self,
        peer: u64,
        wireguard: wit::Peer,
        device: Resource<LinkHandle>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("wireguard.put")?;
        let device = self.device(&device)?;
        let outcome = self.declare(peer, |host, lease| {
            let Device::Own(name) = &device else {
                return Err(Error::Denied("the external interface has no WireGuard peers".to_owned()));
            };
            if !matches!(host.devices.get(name), Some(DeviceSpec::Wireguard(_))) {
                return Err(Error::Denied(format!("{name} is no WireGuard device")));
            }
            Ok(Entry::WireguardPeer { peer: Arc::new(host.checked_peer(lease, wireguard)?), device })
        });
        Ok(self.outcome("wireguard.put", outcome))
    }
}

impl HostState {
    fn checked_wireguard(&self, device: wit::Device) -> Result<Wireguard, Error> {
        let wit::Device { name, listen_port, mtu } = device;
        let least = LEAST_MTU[usize::from(self.environment.node.ipv6_network.is_none())];
        self.check_device(&name, mtu, least)?;
        if listen_port == 0 {
            return Err(Error::InvalidArgument(format!(
                "{name}: a listen port of 0; peers could not know it"
            )));
        }
        Self::check_port(&name, listen_port)?;
        let keys = self.environment.links.wireguard_keys().map_err(Error::Unavailable)?;
        Ok(Wireguard { name: name.into(), port: listen_port, mtu, keys })
    }

    fn checked_peer(&self, lease: &Lease, peer: wit::Peer) -> Result<WireguardPeer, Error> {
        let wit::Peer { public_key, endpoint: (address, port), allowed, keepalive, preshared } = peer;
        let length = public_key.len();
        let key = <[u8; 32]>::try_from(public_key)
            .map_err(|_| Error::InvalidArgument(format!("a public key of {length} bytes; it has 32")))?;
        let address = convert::address(address);
        check_published(lease, address)?;
        if port == 0 {
            return Err(Error::InvalidArgument(format!("{address}: a port of 0")));
        }
        if allowed.len() > self.limits.addresses {
            return Err(Error::LimitExceeded(format!(
                "at most {} networks behind a peer",
                self.limits.addresses
            )));
        }
        let mut networks = BTreeSet::new();
        for network in &allowed {
            let network = convert::network(network)?;
            check_inside(lease, &network, network)?;
            networks.insert(network);
        }
        let preshared = preshared
            .then(|| self.environment.secrets.preshared.clone())
            .map(|key| {
                key.ok_or_else(|| Error::InvalidArgument("the network config has no Backend.PSK".to_owned()))
            })
            .transpose()?;
        let endpoint = Some(SocketAddr::new(address, port));
        Ok(WireguardPeer { key: PublicKey(key), endpoint, allowed: networks, keepalive, preshared })
    }
}
