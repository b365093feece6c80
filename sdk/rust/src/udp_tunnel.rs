//! The host's own tunnel: a TUN device on one side, UDP on the other. On the wire each datagram is one inner packet, as upstream's
//! udp backend has it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Link, PeerId};

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name of the TUN device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// UDP port, ours and the peers', 1 to 65535.
    pub port: u16,
    /// Bytes of the largest inner packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Device, Error, IpAddr, IpNet, Link, PeerId};
    use crate::bindings::flannel::backend::udp_tunnel as wit;
    use crate::convert;

    /// Declares a tunnel; only in `register`.
    pub fn ensure(device: &Device) -> Result<Link, Error> {
        let device = wit::Device { name: device.name.clone(), port: device.port, mtu: device.mtu };
        wit::ensure(&device).map(Link::of).map_err(convert::error)
    }

    /// Declares where packets for a peer's subnet go to, and come from.
    pub fn put(peer: PeerId, destination: IpNet, endpoint: IpAddr, device: &Link) -> Result<(), Error> {
        let (destination, endpoint) = (convert::prefix(destination), convert::address(endpoint));
        wit::put(convert::peer(peer), destination, endpoint, device.handle()).map_err(convert::error)
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{Device, Error, IpAddr, IpNet, Link, PeerId};
    use crate::testing::{Declared, declare, with};

    /// Declares a tunnel; only in `register`.
    pub fn ensure(device: &Device) -> Result<Link, Error> {
        with(|host| host.mtus.insert(device.name.clone(), device.mtu));
        declare(Declared::Tunnel(device.clone()))?;
        Ok(Link::named(&device.name))
    }

    /// Declares where packets for a peer's subnet go to, and come from.
    pub fn put(peer: PeerId, destination: IpNet, endpoint: IpAddr, device: &Link) -> Result<(), Error> {
        declare(Declared::TunnelPeer(peer, destination, endpoint, device.name()))
    }
}

pub use host::{ensure, put};
