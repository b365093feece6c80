//! Permanent neighbour entries (ARP, RFC 826, and neighbour discovery, RFC 4861) on the plugin's own devices.

use std::net::IpAddr;

use crate::{Error, Link, Mac, PeerId};

/// Declares at which Ethernet address a peer's address, which lies in the peer's own subnet, is found on a device.
pub fn put(peer: PeerId, address: IpAddr, mac: Mac, device: &Link) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        use crate::{bindings::flannel::backend::neighbours as wit, convert};
        wit::put(convert::peer(peer), convert::address(address), convert::mac(mac), device.handle())
            .map_err(convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::declare(crate::testing::Declared::Neighbour(peer, address, mac, device.name()))
}
