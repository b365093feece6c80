//! Any bytes as the kernel's word about a nexthop object: they are refused, or what was read is written such that it is read the
//! same.

#![no_main]

use flannel_fuzz::netlink::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(message) = decode(bytes) {
        assert_eq!(decode(&encode(&message)), Some(message));
    }
});
