//! Chance, so that thousands of nodes do not ask at the same moment.

use std::time::Duration;

/// A number from the first to the last. Without a source of chance it is the first.
pub(crate) fn random_between(first: u64, last: u64) -> u64 {
    first + getrandom::u64().unwrap_or(0) % (last - first + 1)
}

/// A wait from nothing to this.
pub(crate) fn up_to(longest: Duration) -> Duration {
    Duration::from_millis(random_between(0, u64::try_from(longest.as_millis()).unwrap_or(u64::MAX - 1)))
}
