//! Any bytes as a component with DWARF tables, looked into where the first two say: nothing is found, or something that fits a line.

#![no_main]

use flannel_fuzz::tables;
use flannel_plugin_host::fuzz::lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As it is, and as the tables of a module that is right otherwise: else nearly nothing would come as far as that.
    for component in [bytes.to_vec(), tables(bytes)] {
        for offset in [0, 9, component.len() / 2] {
            lines(&component, offset);
        }
    }
});
