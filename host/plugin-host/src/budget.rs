//! The time of a call, on a machine that has other things to do.
//!
//! A call is ended when its time is over on the clock, unless the thread that makes it had little of the processor meanwhile: on a
//! starved machine even an innocent call takes long, and its end would be held against the plugin. Then it goes on until it has used
//! its time on the processor. Whoever waits instead of working does not get more: a wait ends with the clock's time
//! ([`super::wasi`]).

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A call may take that many times its time on the clock, however little of the processor it had.
const STARVED: u32 = 10;

/// The time of the call that is going on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    time: Duration,
    /// This thread's processor time when it is used up.
    processor_end: Duration,
}

impl Budget {
    /// The time for a call that this thread begins now.
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, processor_end: processor_time() + time }
    }

    /// Whether nine tenths of the time are used up on the processor. Asked by the thread that makes the call.
    pub(crate) fn is_nearly_used_up(&self) -> bool {
        processor_time() + self.time / 10 >= self.processor_end
    }

    /// Whether the call may go on after the end that it had on the clock. Asked by the thread that makes it.
    pub(crate) fn is_left(&self, deadline: Instant) -> bool {
        processor_time() < self.processor_end && Instant::now() < deadline + self.time * (STARVED - 1)
    }
}

/// What this thread had of the processor since it began (`clock_gettime(2)`, `CLOCK_THREAD_CPUTIME_ID`).
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(time: Duration) {
        let begin = processor_time();
        while processor_time() < begin + time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn who_had_its_time_on_the_processor_gets_no_more() {
        let budget = Budget::new(Duration::from_millis(20));
        work(Duration::from_millis(20));
        assert!(!budget.is_left(Instant::now()));
    }

    #[test]
    fn who_had_most_of_its_time_is_seen() {
        let budget = Budget::new(Duration::from_millis(20));
        work(Duration::from_millis(1));
        assert!(!budget.is_nearly_used_up());
        work(Duration::from_millis(18));
        assert!(budget.is_nearly_used_up());
    }

    #[test]
    fn who_was_kept_from_working_goes_on() {
        let budget = Budget::new(Duration::from_millis(200));
        work(Duration::from_millis(50));
        assert!(budget.is_left(Instant::now()));
    }

    #[test]
    fn ten_times_the_time_is_the_end_in_any_case() {
        let budget = Budget::new(Duration::from_secs(1));
        let long_ago =
            Instant::now().checked_sub(Duration::from_secs(9)).expect("this machine runs for longer");
        assert!(!budget.is_left(long_ago));
    }
}
