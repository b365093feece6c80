//! Peers that a plugin wants to be asked about again: when their turns come.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use flannel_model::ledger::PeerId;

/// A peer's turn comes at most once in so long.
const INTERVAL: Duration = Duration::from_secs(1);
/// After such a call there is none for that many times what it took of the processor.
const REST: u32 = 4;

/// Those of one plugin.
#[derive(Default)]
pub(super) struct Refreshes {
    /// Peers that wait, by when their turns come.
    waiting: BTreeSet<(Instant, PeerId)>,
    /// The same, by peer.
    due: HashMap<PeerId, Instant>,
    /// Peers whose turns were less than an interval ago, in the turns' order, and when that was.
    recent: VecDeque<(Instant, PeerId)>,
    /// The same, by peer.
    last: HashMap<PeerId, Instant>,
    /// A call about some of them is under way.
    calling: bool,
    /// Until when there are no turns.
    rest: Option<Instant>,
}

impl Refreshes {
    /// The plugin asks for these.
    pub(super) fn ask(&mut self, peers: impl IntoIterator<Item = PeerId>, now: Instant) {
        self.forget(now);
        for peer in peers {
            if !self.due.contains_key(&peer) {
                let due = self.last.get(&peer).map_or(now, |last| *last + INTERVAL);
                self.due.insert(peer, due);
                self.waiting.insert((due, peer));
            }
        }
    }

    /// Those whose turns it is, so many at most.
    pub(super) fn take(&mut self, most: usize, now: Instant) -> Vec<PeerId> {
        self.forget(now);
        let mut taken = Vec::new();
        while taken.len() < most && self.deadline().is_some_and(|due| due <= now) {
            let Some((_, peer)) = self.waiting.pop_first() else { break };
            self.due.remove(&peer);
            self.last.insert(peer, now);
            self.recent.push_back((now, peer));
            taken.push(peer);
        }
        taken
    }

    /// When the next turn comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (due, _) = self.waiting.first()?;
        Some(self.rest.map_or(*due, |rest| rest.max(*due)))
    }

    /// A call about those that were taken last begins.
    pub(super) fn begin_call(&mut self) {
        self.calling = true;
    }

    /// A call about peers has ended, which was about some of these if one was under way. It has taken so much of the processor.
    pub(super) fn end_call(&mut self, processor: Duration, now: Instant) {
        if std::mem::take(&mut self.calling) {
            self.rest = Some(now + processor * REST);
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some((last, peer)) = self.recent.front().copied()
            && last + INTERVAL <= now
        {
            self.recent.pop_front();
            self.last.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(numbers: std::ops::Range<u64>) -> Vec<PeerId> {
        numbers.map(PeerId).collect()
    }

    #[test]
    fn a_turn_comes_at_once_and_then_once_a_second_however_often_it_is_asked_for() {
        let begin = Instant::now();
        let mut refreshes = Refreshes::default();
        let mut turns = Vec::new();
        for tenth in 0..35 {
            let now = begin + Duration::from_millis(100) * tenth;
            refreshes.ask(peers(1..2), now);
            refreshes.ask(peers(1..2), now);
            turns.extend(refreshes.take(10, now).iter().map(|_| tenth));
        }
        assert_eq!(turns, [0, 10, 20, 30]);
        // What was long ago is not remembered.
        assert!(refreshes.take(10, begin + Duration::from_mins(1)).len() == 1 && refreshes.last.len() == 1);
    }

    #[test]
    fn many_come_in_batches_and_each_batch_is_followed_by_a_rest() {
        let now = Instant::now();
        let mut refreshes = Refreshes::default();
        refreshes.ask(peers(0..25), now);
        assert_eq!(refreshes.take(10, now), peers(0..10));
        refreshes.end_call(Duration::from_secs(5), now);
        assert_eq!(refreshes.deadline(), Some(now), "that was about others");
        refreshes.begin_call();
        refreshes.end_call(Duration::from_millis(5), now);
        assert!(refreshes.take(10, now).is_empty());
        let later = now + Duration::from_millis(20);
        assert_eq!(refreshes.deadline(), Some(later));
        assert_eq!(refreshes.take(10, later), peers(10..20));
        // Others do not wait for those whose turn has just been.
        refreshes.ask(peers(0..30), later);
        assert_eq!(refreshes.take(100, later), peers(20..30));
        assert_eq!(refreshes.deadline(), Some(now + INTERVAL));
    }
}
