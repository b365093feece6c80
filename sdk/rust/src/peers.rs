//! Peers that the plugin wants to declare for anew, although nothing about their leases has changed.

use crate::{Error, PeerId};

/// Has the host hand the leases of these peers over once more, when the call of the policy has succeeded: each at most once a second. Those that
/// are not there any more are ignored.
pub fn refresh(peers: &[PeerId]) -> Result<(), Error> {
    #[cfg(target_family = "wasm")]
    {
        let peers: Vec<u64> = peers.iter().map(|peer| peer.0).collect();
        crate::bindings::flannel::backend::peers::refresh(&peers).map_err(crate::convert::error)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| {
        host.refreshed.extend(peers);
        Ok(())
    })
}
