//! The entry point for fuzzing: whatever the bytes, nothing may panic.

use crate::netlink::NexthopMessage;

/// Treats bytes as the kernel's word about a nexthop object. Panics if what was read is not written such that it is read the same.
pub fn nexthop(bytes: &[u8]) {
    if let Ok(message) = NexthopMessage::decode(bytes) {
        assert_eq!(NexthopMessage::decode(&message.encode()).ok(), Some(message));
    }
}
