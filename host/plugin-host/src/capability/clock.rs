//! `clock`: time.

use std::time::{SystemTime, UNIX_EPOCH};

use super::HostState;
use crate::bindings::flannel::backend::clock as wit;

impl wit::Host for HostState {
    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        self.enter("clock.monotonic")?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let (seconds, nanoseconds) = (u64::try_from(now.tv_sec)?, u64::try_from(now.tv_nsec)?);
        Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    fn wall(&mut self) -> wasmtime::Result<u64> {
        self.enter("clock.wall")?;
        // A clock that is set before 1970 shows 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis())?)
    }
}
