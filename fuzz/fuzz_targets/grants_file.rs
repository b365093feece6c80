//! Any text as the file of `--plugin-grants`: refused in one line, or read.

#![no_main]

use flannel_fuzz::is_one_line;
use flannel_plugin_host::fuzz::grants;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(reason) = grants(text) {
        is_one_line(&reason);
    }
});
