//! `udp-tunnel`: the host's own tunnel over UDP, and who is behind it.

use std::net::IpAddr;

use flannel_model::entry::{Device, DeviceSpec, Entry, TunnelDevice};
use wasmtime::component::Resource;

use super::belongs::{check_inside, check_published};
use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::udp_tunnel::{self as wit, Error, IpAddress, IpPrefix};
use crate::convert;

/// The least MTU of a device that carries IPv6 (RFC 8200), and of one that does not (RFC 791).
const LEAST_MTU: [u32; 2] = [1280, 68];

impl wit::Host for HostState {
    fn ensure(&mut self, device: wit::Device) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("udp-tunnel.ensure")?;
        let device = self.checked_tunnel(device).map(DeviceSpec::Tunnel);
        self.declared("udp-tunnel.ensure", device)
    }

    fn put(
        &mut self,
        peer: u64,
        destination: IpPrefix,
        endpoint: IpAddress,
        device: Resource<LinkHandle>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("udp-tunnel.put")?;
        let device = self.device(&device)?;
        let outcome = self.declare(peer, |host, lease| {
            let tunnel = match &device {
                Device::Own(name) => host.devices.get(name),
                Device::External | Device::Uplink(_) => None,
            };
            let Some(DeviceSpec::Tunnel(tunnel)) = tunnel else {
                return Err(Error::Denied(format!("{device} is no tunnel")));
            };
            let (destination, endpoint) = (convert::network(&destination)?, convert::address(endpoint));
            check_inside(lease, &destination, destination)?;
            check_published(lease, endpoint)?;
            let has_socket = match endpoint {
                IpAddr::V4(_) => tunnel.ipv4.is_some(),
                IpAddr::V6(_) => tunnel.ipv6.is_some(),
            };
            if !has_socket {
                let name = &tunnel.name;
                return Err(Error::InvalidArgument(format!(
                    "{name} has no socket of the family of {endpoint}"
                )));
            }
            Ok(Entry::TunnelPeer { destination, endpoint, device })
        });
        Ok(self.outcome("udp-tunnel.put", outcome))
    }
}

impl HostState {
    fn checked_tunnel(&self, device: wit::Device) -> Result<TunnelDevice, Error> {
        let wit::Device { name, port, mtu } = device;
        let node = &self.environment.node;
        self.check_device(&name, mtu, LEAST_MTU[usize::from(node.ipv6_network.is_none())])?;
        if port == 0 {
            return Err(Error::InvalidArgument(format!("{name}: a port of 0; peers could not know it")));
        }
        Self::check_port(&name, port)?;
        let (ipv4, ipv6, offloads) = (node.ipv4, node.ipv6, self.environment.offloads);
        Ok(TunnelDevice { name: name.into(), port, mtu, ipv4, ipv6, offloads })
    }
}
