//! So much at once, and so much in the long run.

use std::time::{Duration, Instant};

/// A bucket of tokens that fills up by itself. Whoever has nothing left waits, or goes without.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    /// How long it takes until there is another token.
    interval: Duration,
    /// How long it takes until an empty bucket is full.
    whole: Duration,
    /// When the bucket is full, if nobody takes anything until then.
    full: Instant,
}

impl TokenBucket {
    /// A full one with so many tokens, which gets another after each `interval`.
    pub fn full(tokens: u32, interval: Duration, now: Instant) -> Self {
        Self { interval, whole: interval * tokens, full: now }
    }

    /// Takes so many tokens, if they are there. More than a full bucket has are as many as that.
    pub fn take(&mut self, tokens: u32, now: Instant) -> bool {
        let wait = self.wait(tokens, now);
        if wait.is_zero() {
            self.full = self.full.max(now) + self.cost(tokens);
        }
        wait.is_zero()
    }

    /// How long until so many tokens are there.
    pub fn wait(&self, tokens: u32, now: Instant) -> Duration {
        let missing = self.full.saturating_duration_since(now);
        (missing + self.cost(tokens)).saturating_sub(self.whole)
    }

    fn cost(&self, tokens: u32) -> Duration {
        self.interval.saturating_mul(tokens).min(self.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn so_many_are_there_at_once_and_then_one_after_each_interval() {
        let now = Instant::now();
        let mut bucket = TokenBucket::full(3, SECOND, now);
        assert!((0..3).all(|_| bucket.take(1, now)) && !bucket.take(1, now));
        assert_eq!(bucket.wait(1, now), SECOND);
        assert_eq!(bucket.wait(2, now), SECOND * 2);
        assert!(bucket.take(1, now + SECOND) && !bucket.take(1, now + SECOND));
        // Who takes nothing saves no more than a full bucket.
        let later = now + SECOND * 100;
        assert!((0..3).all(|_| bucket.take(1, later)) && !bucket.take(1, later));
    }

    #[test]
    fn what_costs_more_than_there_ever_is_costs_all_that_is_there() {
        let now = Instant::now();
        let mut bucket = TokenBucket::full(3, SECOND, now);
        assert!(bucket.take(100, now) && !bucket.take(1, now));
        assert!(!bucket.take(100, now + SECOND * 2) && bucket.take(100, now + SECOND * 3));
    }
}
