//! When a policy is due for a tick: when it has asked for it, and when a target of its probes is lost or back.

use std::time::{Duration, Instant};

/// No two ticks are closer than that.
const LEAST: Duration = Duration::from_millis(100);

/// Those of one policy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ticks {
    /// As it has asked for, or as an operator wants it.
    wanted: Option<Instant>,
    /// Because of news of its probes.
    news: Option<Instant>,
    /// There is none for news before.
    rest: Option<Instant>,
}

impl Ticks {
    /// One that is due now, and nothing else.
    pub(super) fn at(now: Instant) -> Self {
        Self { wanted: Some(now), ..Self::default() }
    }

    /// One is wanted now.
    pub(super) fn want(&mut self, now: Instant) {
        self.wanted = Some(now);
    }

    /// The next one is wanted now, if the policy wants any.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.wanted = self.wanted.map(|_| now);
    }

    /// A target of its probes is lost or back. While a tick is under way there is another one after it: it may have looked already.
    pub(super) fn hear_news(&mut self, now: Instant) {
        let soon = self.rest.map_or(now, |rest| rest.max(now));
        self.news.get_or_insert(soon);
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.into_iter().chain(self.news).min()
    }

    /// One begins.
    pub(super) fn begin(&mut self) {
        (self.wanted, self.news) = (None, None);
    }

    /// It has ended: the next is wanted after that time, and there is none before the rest is over.
    pub(super) fn end(&mut self, next: Option<Duration>, rest: Duration, now: Instant) {
        self.wanted = next.map(|wait| now + wait.max(rest));
        let rest = now + rest.max(LEAST);
        self.rest = Some(rest);
        self.news = self.news.map(|news| news.max(rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn news_of_probes_bring_a_tick_at_once_but_not_before_the_rest_is_over() {
        let now = Instant::now();
        let mut ticks = Ticks::at(now);
        ticks.begin();
        assert_eq!(ticks.due(), None);
        ticks.end(Some(SECOND * 60), Duration::ZERO, now);
        ticks.hear_news(now + SECOND);
        ticks.hear_news(now + SECOND * 2);
        assert_eq!(ticks.due(), Some(now + SECOND));
        ticks.begin();
        // What is heard meanwhile may have come too late for it.
        ticks.hear_news(now + SECOND);
        ticks.end(Some(SECOND * 60), SECOND * 3, now + SECOND);
        assert_eq!(ticks.due(), Some(now + SECOND * 4));
        ticks.begin();
        ticks.end(Some(SECOND * 60), Duration::ZERO, now + SECOND * 4);
        assert_eq!(ticks.due(), Some(now + SECOND * 64));
        // Ten a second at the most.
        ticks.hear_news(now + SECOND * 4);
        assert_eq!(ticks.due(), Some(now + SECOND * 4 + LEAST));
    }

    #[test]
    fn a_policy_that_wants_no_tick_gets_one_when_there_are_news_and_not_when_an_operator_looks() {
        let now = Instant::now();
        let mut ticks = Ticks::at(now);
        ticks.begin();
        ticks.end(None, Duration::ZERO, now);
        ticks.hasten(now);
        assert_eq!(ticks.due(), None);
        ticks.hear_news(now + SECOND);
        assert_eq!(ticks.due(), Some(now + SECOND));
        ticks.want(now);
        assert_eq!(ticks.due(), Some(now));
    }
}
