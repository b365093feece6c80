//! The tunnels' queues and sockets stay with the service manager while the daemon is away, and so do the packets that wait in them.

use std::os::fd::{BorrowedFd, OwnedFd};

use flannel_datapath::DescriptorStore;
use flannel_telemetry::FdStore;

/// The service manager, as tunnels know it.
pub(super) struct ServiceManager(pub(super) FdStore);

impl DescriptorStore for ServiceManager {
    fn take(&self, device: &str) -> Vec<OwnedFd> {
        self.0.take(&name(device))
    }

    fn keep(&self, device: &str, descriptors: &[BorrowedFd<'_>]) {
        self.0.keep(&name(device), descriptors);
    }

    fn forget(&self, device: &str) {
        self.0.forget(&name(device));
    }
}

fn name(device: &str) -> String {
    format!("tunnel-{device}")
}
