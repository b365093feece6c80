//! What a failing plugin has left undone, and when it is asked again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use flannel_base::Backoff;
use flannel_model::ledger::PeerId;
use flannel_plugin_host::{Cause, PluginError};
use tracing::warn;

use super::Effort;

/// Waits before peers that a broken plugin could not be asked about are tried again.
pub(super) const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) };
/// So many attempts in a row that lead to nothing are enough: some minutes.
pub(super) const SUSPEND_AFTER_FAILURES: u32 = 10;

/// After a tick the policy has to leave the processor alone for that many times what it took of it.
const TICK_REST: u32 = 10;
/// So many calls in a row that use up their time are one too many.
const EXHAUSTED: u32 = 3;

/// How the plugin does.
#[derive(Default)]
pub(in crate::daemon) struct PluginHealth {
    /// Peers that the policy could not be asked about.
    pub(super) deferred: BTreeSet<PeerId>,
    /// Peers that the policy cannot serve, and why.
    pub(super) rejected: BTreeMap<PeerId, String>,
    /// Attempts in a row that left somebody waiting.
    attempts: u32,
    /// Attempts in a row in which the policy answered for nobody.
    consecutive_failures: u32,
    /// Ticks in a row that failed.
    failed_ticks: u32,
    /// Calls about peers in a row that used up their time, and ticks.
    exhausted: (u32, u32),
}

impl PluginHealth {
    /// What is wrong with a peer, for an operator.
    pub(in crate::daemon) fn problem(&self, peer: PeerId) -> Option<String> {
        let rejected = self.rejected.get(&peer).map(|reason| format!("the policy cannot serve it: {reason}"));
        rejected.or_else(|| self.deferred.contains(&peer).then(|| "waits for the plugin".to_owned()))
    }

    /// Whether the policy serves a peer, as far as it was asked.
    pub(super) fn serves(&self, peer: PeerId) -> bool {
        !self.rejected.contains_key(&peer) && !self.deferred.contains(&peer)
    }

    /// The policy was asked about so many peers, and could not be about so many of them.
    pub(super) fn record_attempt(&mut self, asked: usize, deferred: usize) {
        if asked > deferred {
            self.consecutive_failures = 0;
        } else if asked > 0 {
            self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        }
        self.attempts = match (self.deferred.is_empty(), deferred) {
            (true, _) => 0,
            (false, 0) => self.attempts,
            (false, _) => self.attempts.saturating_add(1),
        };
    }

    /// The policy was asked about peers; answers how long it is to be left alone, if so.
    pub(super) fn rest_after_call(&mut self, effort: Effort) -> Option<Duration> {
        exhaustion(&mut self.exhausted.0, effort, "calls about leases")
    }

    /// There was a tick; answers how long there is to be none.
    pub(super) fn rest_after_tick(&mut self, effort: Effort) -> Duration {
        let wait = exhaustion(&mut self.exhausted.1, effort, "ticks");
        wait.unwrap_or_default().max(effort.processor * TICK_REST)
    }

    /// A tick has failed; answers how long to wait for the next.
    pub(super) fn record_failed_tick(&mut self) -> Duration {
        let wait = RETRY.after(self.failed_ticks);
        self.failed_ticks = self.failed_ticks.saturating_add(1);
        wait
    }

    /// A tick has gone well.
    pub(super) fn record_tick(&mut self) {
        self.failed_ticks = 0;
    }

    /// Another plugin has taken over, which serves all but these.
    pub(super) fn reset(&mut self, rejected: Vec<(PeerId, String)>) {
        *self = Self { rejected: rejected.into_iter().collect(), ..Self::default() };
    }

    /// The operator wants it tried again soon.
    pub(super) fn resume(&mut self) {
        (self.attempts, self.consecutive_failures, self.exhausted) = (0, 0, (0, 0));
    }

    /// Whether the policy has failed so often that it is asked only when something has changed.
    pub(super) fn is_suspended(&self) -> bool {
        self.consecutive_failures >= SUSPEND_AFTER_FAILURES
    }

    /// How long until the next attempt: longer each time.
    pub(super) fn retry_wait(&self) -> Duration {
        RETRY.after(self.attempts)
    }
}

/// Whether there is no instance any more after a call has failed like that.
pub(super) fn ends_instance(failure: &PluginError) -> bool {
    match failure.cause {
        Cause::TimedOut(_)
        | Cause::OutOfMemory { .. }
        | Cause::Trapped(_)
        | Cause::StartedAfresh { .. }
        | Cause::Down(_) => true,
        Cause::NotGranted(_) | Cause::Answered(_) | Cause::Refused(_) | Cause::BadAnswer(_) => false,
    }
}

/// Counts calls that use up their time; answers how long there are to be no more, once there were too many.
fn exhaustion(count: &mut u32, effort: Effort, what: &str) -> Option<Duration> {
    *count = if effort.exhausted { count.saturating_add(1) } else { 0 };
    let wait = RETRY.after(count.checked_sub(EXHAUSTED)?);
    // Said as long as it changes.
    if *count == EXHAUSTED || RETRY.after(*count - EXHAUSTED - 1) < wait {
        warn!(
            what,
            in_a_row = *count,
            wait_s = wait.as_secs(),
            "the plugin uses up its time: it has to wait"
        );
    }
    Some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt with one peer that fails, after which it waits.
    fn fail(health: &mut PluginHealth) {
        health.deferred.insert(PeerId(1));
        health.record_attempt(1, 1);
    }

    #[test]
    fn a_policy_that_answers_for_nobody_is_asked_more_and_more_seldom_and_then_suspended() {
        let mut health = PluginHealth::default();
        let mut waits = Vec::new();
        while !health.is_suspended() {
            fail(&mut health);
            waits.push(health.retry_wait());
        }
        assert!(waits.is_sorted() && waits.len() == SUSPEND_AFTER_FAILURES as usize, "{waits:?}");
        assert_eq!((waits[0], waits[9]), (RETRY.min * 2, RETRY.max));
        // Nothing to do is no answer; another peer's answer is one.
        health.record_attempt(0, 0);
        assert!(health.is_suspended());
        health.record_attempt(2, 1);
        assert!(!health.is_suspended());
    }

    #[test]
    fn who_uses_up_its_time_again_and_again_has_to_wait_longer_and_longer() {
        let mut health = PluginHealth::default();
        let used_up = Effort { processor: Duration::from_secs(1), exhausted: true };
        let waits: Vec<_> = (0..12).map(|_| health.rest_after_call(used_up)).collect();
        assert_eq!(waits[..4], [None, None, Some(RETRY.min), Some(RETRY.min * 2)]);
        assert_eq!(waits[11], Some(RETRY.max));
        assert_eq!(health.rest_after_call(Effort::default()), None);
        assert_eq!(health.rest_after_call(used_up), None, "it has done better meanwhile");
    }

    #[test]
    fn after_a_tick_there_is_none_for_ten_times_what_it_took() {
        let mut health = PluginHealth::default();
        let effort = |ms, exhausted| Effort { processor: Duration::from_millis(ms), exhausted };
        assert_eq!(health.rest_after_tick(effort(300, false)), Duration::from_secs(3));
        let waits: Vec<_> = (0..12).map(|_| health.rest_after_tick(effort(1000, true)).as_secs()).collect();
        assert_eq!((waits[0], waits[11]), (10, 60));
    }

    #[test]
    fn who_takes_over_begins_without_the_others_failures() {
        let mut health = PluginHealth::default();
        (0..20).for_each(|_| fail(&mut health));
        health.reset(vec![(PeerId(2), "no".to_owned())]);
        assert!(!health.is_suspended() && health.deferred.is_empty());
        assert_eq!((health.rejected.len(), health.retry_wait()), (1, RETRY.min));
    }
}
