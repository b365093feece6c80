//! Any bytes as an OCI manifest, as a challenge and as a token server's reply: refused in one short line, or read.

#![no_main]

use flannel_fuzz::is_one_line;
use flannel_plugin_host::fuzz::registry_answer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| registry_answer(bytes).iter().for_each(|error| is_one_line(error)));
