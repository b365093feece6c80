//! Time.

use std::time::Duration;

/// Since some fixed moment; never goes back.
pub fn monotonic() -> Duration {
    #[cfg(target_family = "wasm")]
    {
        Duration::from_nanos(crate::bindings::flannel::backend::clock::monotonic())
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.now)
}

/// Since 1970-01-01 00:00 UTC, to the millisecond; jumps when the machine's clock is set.
pub fn wall() -> Duration {
    #[cfg(target_family = "wasm")]
    {
        Duration::from_millis(crate::bindings::flannel::backend::clock::wall())
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::with(|host| host.now)
}
