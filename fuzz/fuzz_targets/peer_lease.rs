//! Any value of another node's lease, handed to each built-in plugin in the sandbox: served, or refused in words. A trap would cost the
//! node a restart of its plugin for a stranger's lease.

#![no_main]

use flannel_fuzz::plugins::Plugins;
use flannel_model::codec::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((plugin, value)) = bytes.split_first() else { return };
    let Ok(attributes) = decode(value) else { return };
    Plugins::with(|plugins| plugins.take_lease(usize::from(*plugin), attributes));
});
