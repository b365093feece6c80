//! What the daemon's other crates share and that knows nothing of leases, packets or plugins.

#![warn(unreachable_pub)]

pub mod atomic_file;
mod backoff;
pub mod ca_bundle;
#[cfg(feature = "tls")]
pub mod client_identity;
mod family;
mod log_throttle;
pub mod regular_file;
mod secret;
#[cfg(feature = "tls")]
pub mod server_trust;
pub mod text;
mod timestamp;
mod token_bucket;
pub mod trusted_dir;
pub mod trusted_file;
mod trusted_path;

use std::time::Duration;

pub use backoff::Backoff;
pub use family::Family;
pub use log_throttle::LogThrottle;
pub use secret::Secret;
pub use timestamp::{NoTimestamp, Timestamp};
pub use token_bucket::TokenBucket;

/// Microseconds for a log field: a number in JSON, which wider types are not.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
