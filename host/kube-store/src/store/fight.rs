//! Somebody else who writes this node's annotations, too, again and again: a second daemon for it, or a controller that strips annotations. What
//! he writes is put back, at once at first, and then less and less often: all nodes hear of each time.

use std::time::{Duration, Instant};

use super::keeper::RETRY;

/// So often in that time is no accident.
const ACCIDENTS: (usize, Duration) = (3, Duration::from_mins(10));

/// How often annotations were put back lately.
#[derive(Debug, Default)]
pub(super) struct Fight(Vec<Instant>);

impl Fight {
    /// Annotations were put back. Answers how often by now, if that is no accident any more.
    pub(super) fn put_back(&mut self, now: Instant) -> Option<usize> {
        self.0.retain(|at| now.saturating_duration_since(*at) < ACCIDENTS.1);
        self.0.push(now);
        Some(self.0.len()).filter(|times| *times > ACCIDENTS.0)
    }

    /// Before this nothing is put back again.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        let before = self.0.len().checked_sub(ACCIDENTS.0 + 1)?;
        let wait = RETRY.after(u32::try_from(before).unwrap_or(u32::MAX));
        self.0.last().map(|last| *last + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accident_is_put_back_at_once_and_who_means_it_is_answered_less_and_less_often() {
        let (mut fight, begin) = (Fight::default(), Instant::now());
        let mut now = begin;
        for _ in 0..ACCIDENTS.0 {
            assert_eq!((fight.put_back(now), fight.rests_until()), (None, None));
        }
        let mut waits = Vec::new();
        for times in ACCIDENTS.0 + 1.. {
            assert_eq!(fight.put_back(now), Some(times));
            let next = fight.rests_until().expect("a rest");
            waits.push((next - now).as_secs());
            now = next;
            if now - begin > ACCIDENTS.1 {
                break;
            }
        }
        assert!(waits.is_sorted() && waits[0] == 1 && waits.len() < 30, "{waits:?}");
        assert_eq!(waits.last(), Some(&RETRY.max.as_secs()));
        // Much later it is an accident again.
        assert_eq!(fight.put_back(now + ACCIDENTS.1), None);
        assert_eq!(fight.rests_until(), None);
    }
}
