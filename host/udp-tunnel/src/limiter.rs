//! A token bucket for what we say unasked.

use std::time::{Duration, Instant};

/// Answers a second, and in a burst, of one thread. Linux limits itself to 1,000 a second too (`icmp_msgs_per_sec`).
const RATE: u32 = 1000;

/// The bucket.
pub(crate) struct Limiter {
    tokens: u32,
    filled: Instant,
}

impl Limiter {
    /// A full one.
    pub(crate) fn new() -> Self {
        Self { tokens: RATE, filled: Instant::now() }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self) -> bool {
        let elapsed = self.filled.elapsed();
        let fresh = u32::try_from(elapsed.as_micros() * u128::from(RATE) / 1_000_000).unwrap_or(RATE);
        if fresh > 0 {
            self.tokens = self.tokens.saturating_add(fresh).min(RATE);
            // What is less than a token stays on the clock.
            self.filled += (Duration::from_secs(1) / RATE).saturating_mul(fresh);
            if self.tokens == RATE {
                self.filled = Instant::now();
            }
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}
