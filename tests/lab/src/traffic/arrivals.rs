//! Which numbers of a flow have come, in whatever order, and which are missing. Kept as gaps, so that a long run costs no more than what
//! it has lost.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Numbers that have not come, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// When the number before was sent, since the traffic began: these were sent after that.
    pub after: Duration,
    /// When the number behind was sent, or the traffic ended: these were sent before that.
    pub before: Duration,
    noticed: Duration,
}

impl Gap {
    /// How many numbers these are.
    pub fn count(&self) -> u64 {
        self.last + 1 - self.first
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, after, before, .. } = self;
        if first == last {
            write!(f, "{first}")?;
        } else {
            write!(f, "{first}–{last}")?;
        }
        write!(f, " sent between {:.1} and {:.1} ms", millis(*after), millis(*before))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What has come of a flow.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// The lowest number that is higher than all that have come.
    next: u64,
    /// When the one before that was sent.
    newest: Duration,
    gaps: BTreeMap<u64, Gap>,
    unique: u64,
    duplicates: u64,
    late: Late,
}

/// Numbers that came behind higher ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// By how many numbers, at most.
    pub numbers: u64,
    /// By how much time, at most: since the first higher one came.
    pub time: Duration,
}

impl Arrivals {
    /// Notes a number with the time when it was sent, and the present time.
    pub fn note(&mut self, number: u64, sent: Duration, now: Duration) {
        if number < self.next {
            return self.note_late(number, now);
        }
        if number > self.next {
            let gap =
                Gap { first: self.next, last: number - 1, after: self.newest, before: sent, noticed: now };
            self.gaps.insert(gap.first, gap);
        }
        self.next = number + 1;
        self.newest = sent;
        self.unique += 1;
    }

    fn note_late(&mut self, number: u64, now: Duration) {
        let below = self.gaps.range(..=number).next_back();
        let Some(gap) = below.map(|(_, gap)| *gap).filter(|gap| number <= gap.last) else {
            self.duplicates += 1;
            return;
        };
        self.gaps.remove(&gap.first);
        if gap.first < number {
            self.gaps.insert(gap.first, Gap { last: number - 1, ..gap });
        }
        if number < gap.last {
            self.gaps.insert(number + 1, Gap { first: number + 1, ..gap });
        }
        self.unique += 1;
        self.late.count += 1;
        self.late.numbers = self.late.numbers.max(self.next - 1 - number);
        self.late.time = self.late.time.max(now.saturating_sub(gap.noticed));
    }

    /// How many different numbers have come.
    pub fn unique(&self) -> u64 {
        self.unique
    }

    /// How many came again.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Those that came behind higher ones.
    pub fn late(&self) -> Late {
        self.late
    }

    /// What is missing of the numbers below `sent`, the last of which was sent at `end`.
    pub fn missing(&self, sent: u64, end: Duration) -> Vec<Gap> {
        let tail = Gap {
            first: self.next,
            last: sent.saturating_sub(1),
            after: self.newest,
            before: end,
            noticed: end,
        };
        self.gaps.values().copied().chain((self.next < sent).then_some(tail)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Each number is sent at as many milliseconds as it says, and comes one later than the one that came before.
    fn arrivals(numbers: &[u64]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for (turn, number) in numbers.iter().enumerate() {
            arrivals.note(*number, at(*number), at(100 + turn as u64));
        }
        arrivals
    }

    fn missing(arrivals: &Arrivals, sent: u64) -> Vec<(u64, u64)> {
        arrivals.missing(sent, at(sent)).iter().map(|gap| (gap.first, gap.last)).collect()
    }

    #[test]
    fn numbers_in_order_leave_nothing_out() {
        let all = arrivals(&[0, 1, 2, 3]);
        assert_eq!(
            (missing(&all, 4), all.unique(), all.duplicates(), all.late()),
            (vec![], 4, 0, Late::default())
        );
    }

    #[test]
    fn what_is_left_out_is_missing_with_the_times_around_it() {
        let all = arrivals(&[0, 1, 5, 6]);
        let [gap] = all.missing(7, at(7))[..] else { panic!("one gap: {all:?}") };
        assert_eq!((gap.first, gap.last, gap.count(), gap.after, gap.before), (2, 4, 3, at(1), at(5)));
        assert_eq!(gap.to_string(), "2–4 sent between 1.0 and 5.0 ms");
    }

    #[test]
    fn the_first_and_the_last_ones_may_be_missing_too() {
        assert_eq!(missing(&arrivals(&[2, 3]), 6), [(0, 1), (4, 5)]);
        assert_eq!(missing(&arrivals(&[]), 3), [(0, 2)]);
        assert_eq!(missing(&arrivals(&[]), 0), []);
    }

    #[test]
    fn what_comes_late_is_not_missing_any_more() {
        let all = arrivals(&[0, 5, 3, 1, 4, 2]);
        assert_eq!(missing(&all, 6), []);
        assert_eq!(all.late(), Late { count: 4, numbers: 4, time: at(4) });
        assert_eq!((all.unique(), all.duplicates()), (6, 0));
    }

    #[test]
    fn a_gap_that_is_filled_in_part_stays_in_parts() {
        let all = arrivals(&[0, 9, 4]);
        assert_eq!(missing(&all, 10), [(1, 3), (5, 8)]);
        assert_eq!(missing(&arrivals(&[0, 9, 1, 8]), 10), [(2, 7)]);
    }

    #[test]
    fn what_comes_twice_is_a_duplicate_and_not_late() {
        let all = arrivals(&[0, 1, 1, 5, 3, 3, 0]);
        assert_eq!((all.duplicates(), all.late().count, all.unique()), (3, 1, 4));
        assert_eq!(missing(&all, 6), [(2, 2), (4, 4)]);
    }
}
