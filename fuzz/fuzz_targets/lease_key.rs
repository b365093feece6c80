//! Any text as the name of a lease's key: it is refused in one line, or it names subnets, and is the only name that they have.

#![no_main]

use flannel_fuzz::is_one_line;
use flannel_model::codec::{key_name, parse_key_name, read_entry};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|name: &str| {
    match parse_key_name(name) {
        Ok(subnets) => {
            assert!(subnets.v4.is_some() || subnets.v6.is_some());
            assert!(subnets.iter().all(|subnet| subnet.prefix_len() > 0));
            assert_eq!(read_entry(name, b"{}").is_ok(), key_name(&subnets) == name);
        }
        Err(error) => {
            is_one_line(&error.to_string());
            assert!(read_entry(name, b"{}").is_err());
        }
    }
});
