//! Any bytes as the kernel's word about a nexthop object: they are refused, or what was read is written such that it is read the
//! same.

#![no_main]

use flannel_datapath::fuzz::nexthop;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nexthop(bytes));
