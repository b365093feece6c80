//! Any bytes as the value of a lease: they are refused in one line, or what was read is written such that it is read the same.

#![no_main]

use flannel_fuzz::is_one_line;
use flannel_model::codec::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| match decode(value) {
    Ok(attributes) => {
        let written = encode(&attributes);
        let again = decode(written.as_bytes()).expect("what we write we can read");
        assert_eq!(encode(&again), written);
        assert_eq!(again.public_ip, attributes.public_ip);
        assert_eq!(again.public_ipv6, attributes.public_ipv6);
        assert_eq!(again.backend_type, attributes.backend_type);
    }
    Err(error) => is_one_line(&error.to_string()),
});
