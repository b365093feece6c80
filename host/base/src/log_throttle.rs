//! The same trouble over and over, in few lines of log.

use std::time::{Duration, Instant};

/// Which of many like messages are said: the first, each that differs from the one before, and a reminder now and then.
#[derive(Debug)]
pub struct LogThrottle {
    remind: Option<Duration>,
    last: Option<(Instant, String)>,
}

impl LogThrottle {
    /// With a reminder after each `remind`; `None` for none.
    pub const fn new(remind: Option<Duration>) -> Self {
        Self { remind, last: None }
    }

    /// Whether this message is to be said now.
    pub fn says(&mut self, message: &str, now: Instant) -> bool {
        let is_news = self.last.as_ref().is_none_or(|(when, last)| {
            last != message || self.remind.is_some_and(|remind| now.duration_since(*when) >= remind)
        });
        if is_news {
            self.last = Some((now, message.to_owned()));
        }
        is_news
    }

    /// All is well: the next message is news.
    pub fn reset(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_said_once_and_then_now_and_then() {
        let (mut throttle, now) = (LogThrottle::new(Some(Duration::from_mins(1))), Instant::now());
        let mut says = |message, after| throttle.says(message, now + Duration::from_secs(after));
        assert!(says("away", 0) && !says("away", 1) && says("refused", 2) && says("away", 3));
        assert!(!says("away", 62) && says("away", 63) && !says("away", 64));
        throttle.reset();
        assert!(throttle.says("away", now + Duration::from_secs(65)));
    }

    #[test]
    fn without_a_reminder_only_what_differs_is_said() {
        let (mut throttle, now) = (LogThrottle::new(None), Instant::now());
        assert!(throttle.says("away", now) && !throttle.says("away", now + Duration::from_hours(99)));
    }
}
