//! The tunnels' queues and sockets stay with the service manager while the daemon is away, and so do the packets that wait in them.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::datapath::Keeper;
use crate::observe::FdStore;

impl Keeper for FdStore {
    fn take(&self, device: &str) -> Vec<OwnedFd> {
        FdStore::take(self, &name(device))
    }

    fn keep(&self, device: &str, descriptors: &[BorrowedFd<'_>]) {
        FdStore::keep(self, &name(device), descriptors);
    }

    fn forget(&self, device: &str) {
        FdStore::forget(self, &name(device));
    }
}

fn name(device: &str) -> String {
    format!("tunnel-{device}")
}
