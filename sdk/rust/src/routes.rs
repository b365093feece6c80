//! Routes to peers' subnets, in the main table.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Link, PeerId};

/// How packets for a peer's subnet leave this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Lies in the peer's own subnet.
    pub destination: IpNet,
    /// The next hop, of the destination's family.
    pub via: IpAddr,
    /// The next hop is on the device's link even though no address of this node says so.
    pub onlink: bool,
}

/// Declares a route for a peer.
pub fn put(peer: PeerId, route: &Route, device: &Link) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        use crate::{bindings::flannel::backend::routes as wit, convert};
        let route = wit::Route {
            destination: convert::prefix(route.destination),
            via: convert::address(route.via),
            onlink: route.onlink,
        };
        wit::put(convert::peer(peer), route, device.handle()).map_err(convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::declare(crate::testing::Declared::Route(peer, route.clone(), device.name()))
}
