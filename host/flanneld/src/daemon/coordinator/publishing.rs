//! How often the plugin's wishes for other data go into the lease store: all nodes hear of each.

use std::time::{Duration, Instant};

use flannel_base::TokenBucket;

/// How soon after another something else is written that a fresh instance of the plugin wants.
const ANEW: Duration = Duration::from_secs(10);
/// The same for what the plugin itself publishes while it runs.
const AGAIN: Duration = Duration::from_secs(1);
/// So many of these in a row, and one more each such time.
const WRITES: (u32, Duration) = (10, Duration::from_secs(10));

/// Who wants something else to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Wish {
    /// A fresh instance of the plugin, by what it has registered.
    Fresh,
    /// The plugin, in the middle of its work.
    Running,
}

/// The writes of one lease by such wishes.
pub(super) struct Pace {
    /// When the last one began.
    last: Option<Instant>,
    /// When the next is due; none: nothing is wanted that was not written.
    due: Option<Instant>,
    writes: TokenBucket,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: None, due: None, writes: TokenBucket::full(WRITES.0, WRITES.1, now) }
    }

    /// Something else is wanted. What is due already comes no later for it.
    pub(super) fn want(&mut self, wish: Wish, now: Instant) {
        let after = |wait| self.last.map_or(now, |last| now.max(last + wait));
        let due = match wish {
            Wish::Fresh => after(ANEW),
            Wish::Running => after(AGAIN).max(now + self.writes.wait(1, now)),
        };
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When the next is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is wanted is being written now, whatever for.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.due.take().is_some() {
            self.writes.take(1, now);
            self.last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When something is written by a plugin that publishes something else ten times a second for so long, in seconds.
    fn writes(of: Wish, seconds: u32) -> Vec<u32> {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let mut written = Vec::new();
        for tenth in 0..seconds * 10 {
            let now = begin + Duration::from_millis(100) * tenth;
            pace.want(of, now);
            if pace.due().is_some_and(|due| due <= now) {
                pace.begin(now);
                written.push(tenth / 10);
            }
        }
        written
    }

    #[test]
    fn who_publishes_all_the_time_is_written_each_second_at_first_and_then_now_and_then() {
        let written = writes(Wish::Running, 100);
        assert_eq!(written[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(written.len(), 19, "{written:?}");
        assert_eq!(writes(Wish::Fresh, 100), [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    }

    #[test]
    fn who_was_calm_is_written_at_once() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        pace.want(Wish::Running, begin);
        assert_eq!(pace.due(), Some(begin));
        pace.begin(begin);
        let soon = begin + Duration::from_millis(300);
        pace.want(Wish::Fresh, soon);
        assert_eq!(pace.due(), Some(begin + ANEW));
        pace.want(Wish::Running, soon);
        assert_eq!(pace.due(), Some(begin + AGAIN), "what is due comes no later");
        pace.begin(begin + AGAIN);
        let later = begin + Duration::from_mins(5);
        pace.want(Wish::Running, later);
        assert_eq!(pace.due(), Some(later));
    }
}
