//! Any bytes as the subnet file that an earlier run, an older version or somebody else left: subnets come out of it, or none do.

#![no_main]

use flannel_model::subnet_file::{previous, variables};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let text = String::from_utf8_lossy(content);
    if let Some(previous) = previous(&text, |_, _| {}) {
        assert!(previous.v4.is_some() || previous.v6.is_some());
        assert!(previous.iter().all(|subnet| subnet.trunc() == subnet));
    }
    for (key, value) in variables(&text) {
        assert!(!key.contains('\n') && !value.contains('\n'), "{key:?}={value:?}");
    }
});
