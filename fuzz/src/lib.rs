//! The parts of flanneld that read what strangers write, by themselves: without the plugin host, which takes minutes to compile
//! and reads nothing of this.

// Each file is the daemon's own; not all of it is used here.
#![allow(dead_code)]

/// Leases and the network config.
#[path = "../../host/src/lease"]
pub mod lease {
    pub mod codec;
    pub mod config;
    pub mod model;
}

/// The subnet file.
#[path = "../../host/src/node"]
pub mod node {
    pub mod subnet_file;
}

/// Nexthop objects as the kernel tells of them.
#[path = "../../host/src/datapath/netlink"]
pub mod netlink {
    mod nexthop;

    pub use nexthop::NexthopMessage;

    /// From wire format; none where that is cut short.
    pub fn decode(bytes: &[u8]) -> Option<NexthopMessage> {
        NexthopMessage::decode(bytes).ok()
    }

    /// In wire format.
    pub fn encode(message: &NexthopMessage) -> Vec<u8> {
        message.encode()
    }
}

/// The packets that the tunnel of the backend udp carries.
#[path = "../../host/src/datapath/tunnel/mod.rs"]
pub mod tunnel;

/// A message for the log or the operator: one line, and not longer than a person reads, however long the input was.
pub fn is_one_line(message: &str) {
    const LONGEST: usize = 1000;
    assert!(!message.contains(['\n', '\r']), "{message:?}");
    assert!(message.len() <= LONGEST, "{} bytes: {message:?}", message.len());
}
