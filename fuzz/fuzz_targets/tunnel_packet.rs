//! Any bytes as what a TUN device gives, and as what a peer sends: they are refused, or taken apart and put together, and nothing
//! panics.

#![no_main]

use flannel_udp_tunnel::fuzz;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzz(bytes));
