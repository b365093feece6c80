//! Chance, so that thousands of nodes do not ask at the same moment.

/// A number from the first to the last. Without a source of chance it is the first.
pub(crate) fn random_between(first: u64, last: u64) -> u64 {
    first + getrandom::u64().unwrap_or(0) % (last - first + 1)
}
