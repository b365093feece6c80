//! A plugin like any other, but making an instance of it never ends.

use flannel_backend::{Config, Lease, Node, PeerId, Policy, Registration};

struct Slow;

impl Policy for Slow {
    const NAME: &'static str = "slow-start";
    const VERSION: &'static str = "0.0.0";
    const BACKEND_TYPES: &'static [&'static str] = &["hostile"];

    fn register(_: &Node, _: &Config) -> Result<(Self, Registration), String> {
        Err("it has started after all".to_owned())
    }

    fn lease_acquired(&mut self, _: &Lease) -> Result<(), String> {
        Ok(())
    }

    fn put(&mut self, _: PeerId, _: &Lease) -> Result<(), String> {
        Ok(())
    }
}

flannel_backend::export!(Slow);

/// Called when an instance is made.
// SAFETY: the name is the one that component tools call at the start, and nothing else in here has it.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    loop {
        std::hint::black_box(());
    }
}
