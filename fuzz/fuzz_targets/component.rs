//! Random components of wasm-smith's that have the exports of a plugin, with random code behind them: whatever they do, the host goes on, and
//! a call of theirs ends. (libFuzzer's own limits say how much memory and time are too much.)

#![no_main]

use flannel_fuzz::component::{component, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(component) = component(bytes) {
        run(&component);
    }
});
