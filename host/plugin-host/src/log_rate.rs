//! What a plugin writes into the log over time, whichever way it takes: `log`, standard output and standard error, or being started
//! afresh. What is too much is counted, and the count is said.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flannel_base::TokenBucket;
use tracing::warn;

/// Tokens of a plugin that was quiet for long: lines of up to [`TOKEN`] bytes.
const TOKENS: u32 = 400;
/// Bytes of a line that one token is for; a longer one costs more.
const TOKEN: usize = 512;
/// How long until there is another token: two short lines a second in the long run, or one kibibyte.
const INTERVAL: Duration = Duration::from_millis(500);
/// How often it is said how many lines are suppressed.
const SAID: Duration = Duration::from_secs(10);

/// The log of one plugin, of all of its instances.
#[derive(Clone)]
pub(crate) struct LogRate(Arc<Mutex<State>>);

struct State {
    bucket: TokenBucket,
    /// Lines that were suppressed and not told of yet.
    untold: u64,
    /// Lines that were suppressed in all and that nobody has asked for yet.
    uncounted: u64,
    told: Option<Instant>,
}

impl LogRate {
    /// Of a plugin that has written nothing yet.
    pub(crate) fn new(now: Instant) -> Self {
        let bucket = TokenBucket::full(TOKENS, INTERVAL, now);
        Self(Arc::new(Mutex::new(State { bucket, untold: 0, uncounted: 0, told: None })))
    }

    /// Whether a line of so many bytes is to be written.
    pub(crate) fn admits(&self, plugin: &str, bytes: usize, now: Instant) -> bool {
        let tokens = u32::try_from(1 + bytes / TOKEN).unwrap_or(u32::MAX);
        let mut state = self.lock();
        let admitted = state.bucket.take(tokens, now);
        if !admitted {
            state.suppress();
        }
        state.tell(plugin, now);
        admitted
    }

    /// A line is not written for another reason.
    pub(crate) fn suppress(&self) {
        self.lock().suppress();
    }

    /// Says how many lines were suppressed, if that is due. For when a call has ended: it may have been the last for long.
    pub(crate) fn tell(&self, plugin: &str, now: Instant) {
        self.lock().tell(plugin, now);
    }

    /// Lines that were suppressed since this was asked last.
    pub(crate) fn take_suppressed(&self) -> u64 {
        std::mem::take(&mut self.lock().uncounted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn suppress(&mut self) {
        self.untold += 1;
        self.uncounted += 1;
    }

    fn tell(&mut self, plugin: &str, now: Instant) {
        let due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= SAID);
        if self.untold > 0 && due {
            warn!(
                plugin,
                lines = self.untold,
                "{} lines suppressed: the plugin writes too many",
                self.untold
            );
            (self.untold, self.told) = (0, Some(now));
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.untold > 0 {
            warn!(lines = self.untold, "{} lines suppressed of a plugin that has ended", self.untold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_admitted_as_long_as_they_are_not_too_many_or_too_long() {
        let now = Instant::now();
        let rate = LogRate::new(now);
        let admitted = |bytes, now| (0..1000).filter(|_| rate.admits("p", bytes, now)).count();
        assert_eq!(admitted(100, now), 400);
        assert_eq!(rate.take_suppressed(), 600);
        assert_eq!(admitted(100, now + Duration::from_secs(10)), 20);
        assert_eq!(rate.take_suppressed(), 980);
        // A line of 4 KiB costs as much as nine short ones.
        assert_eq!(admitted(4096, now + Duration::from_hours(1)), 44);
        assert_eq!(rate.take_suppressed(), 956);
    }

    #[test]
    fn how_many_are_suppressed_is_said_at_once_and_then_now_and_then() {
        let now = Instant::now();
        let rate = LogRate::new(now);
        let untold = |after| {
            rate.tell("p", now + Duration::from_secs(after));
            rate.lock().untold
        };
        rate.suppress();
        assert_eq!(untold(0), 0);
        rate.suppress();
        rate.suppress();
        assert_eq!((untold(1), untold(9)), (2, 2));
        assert_eq!(untold(10), 0);
    }
}
