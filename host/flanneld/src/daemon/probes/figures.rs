//! How one target has done.

use std::time::{Duration, Instant};

use flannel_plugin_host::{ProbeCondition, ProbeReport, RoundTrip};

/// Requests that are looked back at.
const WINDOW: usize = 32;
/// Stands for a request that was lost, among round trips.
const LOST: u32 = u32::MAX;

/// What has become of a target's requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    condition: ProbeCondition,
    answered_in_a_row: u32,
    lost_in_a_row: u32,
    sent: u64,
    answered: u64,
    last_answer: Option<(Instant, u32)>,
    /// Round trips of the last requests in microseconds; the oldest is at [`Self::next`] once there are enough.
    window: [u32; WINDOW],
}

impl Figures {
    /// A request was answered after this time. Answers whether the condition is another one by that.
    pub(super) fn answer(&mut self, took: Duration, back_after: u8, now: Instant) -> bool {
        let micros = u32::try_from(took.as_micros()).unwrap_or(LOST - 1);
        self.add(micros);
        self.answered += 1;
        self.last_answer = Some((now, micros));
        self.lost_in_a_row = 0;
        self.answered_in_a_row = self.answered_in_a_row.saturating_add(1);
        match self.condition {
            ProbeCondition::Answered => false,
            ProbeCondition::Lost if self.answered_in_a_row < u32::from(back_after) => false,
            ProbeCondition::Lost | ProbeCondition::Untested => self.turn(ProbeCondition::Answered),
        }
    }

    /// A request was not answered in time, or could not be sent. Answers the same.
    pub(super) fn lose(&mut self, lost_after: u8) -> bool {
        self.add(LOST);
        self.answered_in_a_row = 0;
        self.lost_in_a_row = self.lost_in_a_row.saturating_add(1);
        let is_news = self.condition != ProbeCondition::Lost && self.lost_in_a_row >= u32::from(lost_after);
        is_news && self.turn(ProbeCondition::Lost)
    }

    fn turn(&mut self, condition: ProbeCondition) -> bool {
        self.condition = condition;
        true
    }

    fn add(&mut self, entry: u32) {
        let place = usize::try_from(self.sent % WINDOW as u64).unwrap_or_default();
        self.window[place] = entry;
        self.sent += 1;
    }

    /// How it does.
    pub(super) fn condition(&self) -> ProbeCondition {
        self.condition
    }

    /// All of it.
    pub(super) fn report(&self, interval: Duration, now: Instant) -> ProbeReport {
        let count = usize::try_from(self.sent).unwrap_or(WINDOW).min(WINDOW);
        let answered = || self.window[..count].iter().filter(|entry| **entry != LOST);
        let times = u32::try_from(answered().count()).unwrap_or_default();
        let sum: u64 = answered().map(|time| u64::from(*time)).sum();
        let round_trip = answered().min().zip(self.last_answer).map(|(least, (_, last))| RoundTrip {
            least: *least,
            mean: u32::try_from(sum / u64::from(times.max(1))).unwrap_or(LOST),
            last,
        });
        let window = u32::try_from(count).unwrap_or_default();
        ProbeReport {
            condition: self.condition,
            sent: self.sent,
            answered: self.answered,
            lost_in_a_row: self.lost_in_a_row,
            window,
            window_lost: window - times,
            round_trip,
            since_answer: self.last_answer.map(|(at, _)| now.saturating_duration_since(at)),
            interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(figures: &mut Figures, micros: &[u64], now: Instant) -> Vec<bool> {
        let one = |micros: &u64| figures.answer(Duration::from_micros(*micros), 2, now);
        micros.iter().map(one).collect()
    }

    #[test]
    fn a_target_is_lost_and_back_after_so_many_in_a_row_and_that_is_news_once() {
        let now = Instant::now();
        let mut figures = Figures::default();
        assert_eq!(figures.report(Duration::ZERO, now), ProbeReport::default());
        assert_eq!(answers(&mut figures, &[5, 5], now), [true, false], "the first answer is enough at first");
        assert_eq!([figures.lose(3), figures.lose(3)], [false; 2]);
        assert_eq!(answers(&mut figures, &[5], now), [false], "two are not three");
        let news: Vec<bool> = (0..5).map(|_| figures.lose(3)).collect();
        assert_eq!(news, [false, false, true, false, false]);
        assert_eq!(answers(&mut figures, &[5], now), [false]);
        assert!(!figures.lose(3) && figures.condition() == ProbeCondition::Lost, "one is not two");
        assert_eq!(answers(&mut figures, &[5, 5, 5], now), [false, true, false]);
        // Who never answers is lost, too.
        let mut silent = Figures::default();
        assert_eq!([silent.lose(2), silent.lose(2)], [false, true]);
    }

    #[test]
    fn figures_are_those_of_the_last_requests_and_of_all() {
        let begin = Instant::now();
        let mut figures = Figures::default();
        answers(&mut figures, &[100], begin);
        for _ in 0..31 {
            figures.lose(1);
        }
        let now = begin + Duration::from_secs(9);
        let report = figures.report(Duration::from_secs(2), now);
        assert_eq!((report.sent, report.answered, report.lost_in_a_row), (32, 1, 31));
        assert_eq!((report.window, report.window_lost), (32, 31));
        assert_eq!(report.round_trip, Some(RoundTrip { least: 100, mean: 100, last: 100 }));
        assert_eq!((report.since_answer, report.interval), (Some(now - begin), Duration::from_secs(2)));
        // The first one leaves the window.
        figures.lose(1);
        let report = figures.report(Duration::ZERO, now);
        assert_eq!((report.window_lost, report.round_trip, report.answered), (32, None, 1));
        answers(&mut figures, &[300, 100, 200], now);
        let report = figures.report(Duration::ZERO, now);
        assert_eq!(report.round_trip, Some(RoundTrip { least: 100, mean: 200, last: 200 }));
        assert_eq!((report.sent, report.answered, report.lost_in_a_row, report.window_lost), (36, 4, 0, 29));
    }
}
