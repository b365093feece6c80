//! Queues and sockets of an earlier process of ours, which somebody has kept meanwhile.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::device::Queue;
use super::spec::TunnelSpec;

/// All that a tunnel needs, or nothing.
#[derive(Default)]
pub struct Inherited {
    /// Queues of the device.
    pub(super) queues: Vec<Queue>,
    /// Sockets of IPv4, and of IPv6.
    pub(super) sockets: [Vec<OwnedFd>; 2],
}

impl Inherited {
    /// Sorts descriptors. None if they are not exactly what the tunnel needs: one socket too many in a group would get packets
    /// that nobody reads.
    pub fn sort(descriptors: Vec<OwnedFd>, spec: &TunnelSpec) -> Option<Self> {
        let (addresses, lanes) = (spec.bound(), spec.lanes());
        let mut found = Self::default();
        for descriptor in descriptors {
            if let Some(address) = bound_to(&descriptor) {
                let family = addresses.iter().position(|wanted| *wanted == Some(address))?;
                found.sockets[family].push(descriptor);
            } else {
                found.queues.push(Queue::inherit(descriptor, &spec.name)?);
            }
        }
        let families = found.sockets.iter().zip(&addresses);
        let enough = |(sockets, address): (&Vec<OwnedFd>, &Option<SocketAddr>)| {
            sockets.len() == if address.is_some() { lanes } else { 0 }
        };
        (found.queues.len() == lanes && { families }.all(enough)).then_some(found)
    }
}

fn bound_to(descriptor: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getsockname(descriptor).ok()?.try_into().ok()
}
