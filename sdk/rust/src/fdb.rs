//! Entries of the forwarding database of the plugin's own VXLAN devices.

use std::net::IpAddr;

use crate::{Error, Link, Mac, PeerId};

/// Declares to which node, one of the peer's public addresses, frames for an Ethernet address go.
pub fn put(peer: PeerId, mac: Mac, destination: IpAddr, device: &Link) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        use crate::{bindings::flannel::backend::fdb as wit, convert};
        wit::put(convert::peer(peer), convert::mac(mac), convert::address(destination), device.handle())
            .map_err(convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::declare(crate::testing::Declared::Fdb(peer, mac, destination, device.name()))
}
