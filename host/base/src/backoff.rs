//! Waits between attempts.

use std::time::Duration;

/// Waits that grow: the first, twice as long after each failure, and never longer than the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The wait after the first failure.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// How long to wait when so many attempts have failed before this one.
    pub fn after(&self, failures: u32) -> Duration {
        self.min.saturating_mul(2_u32.saturating_pow(failures.min(31))).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        let waits: Vec<u128> = (0..6).map(|failures| backoff.after(failures).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.after(u32::MAX), backoff.max);
    }
}
