//! How the daemon tells about itself.

use std::time::Duration;

/// Microseconds for a log field: a number in JSON, which wider types are not.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
