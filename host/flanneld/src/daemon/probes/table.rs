//! What is probed, and whose turn it is: a function of what happens and of time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_plugin_host::{ProbeCondition, ProbeKey, ProbeReport, ProbeTarget};

use super::figures::Figures;

/// How long an answer may take. No interval is shorter: each target waits for one answer at most.
pub(super) const ANSWER: Duration = Duration::from_secs(1);
/// Between two requests, whoever is asked: 100 a second.
const PACE: Duration = Duration::from_millis(10);
/// So long the figures of targets are kept that nobody declares any more: a plugin that begins anew may not have come to them yet.
const KEPT: Duration = Duration::from_mins(1);
/// Of so many targets at most.
const MOST_KEPT: usize = 1 << 15;
/// Of targets that are lost, so many are named.
const MOST_NAMED: usize = 20;

/// Who declares targets.
pub(super) type OwnerId = u64;

/// A request that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// By which it is known again.
    pub turn: Turn,
    /// Whom it goes to.
    pub to: IpAddr,
    /// By which device; none: whichever the routing table says.
    pub over: Option<Arc<str>>,
    /// Where it comes from, if this node has that address.
    pub source: Option<IpAddr>,
    /// Bytes, with its IP header.
    pub size: u16,
}

/// A request of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Whose.
    slot: u32,
    /// Which one.
    pub sequence: u32,
    /// What only this daemon can know.
    tag: u64,
}

impl Turn {
    /// In one number.
    pub(super) fn token(self) -> u128 {
        u128::from(self.slot) << 96 | u128::from(self.sequence) << 64 | u128::from(self.tag)
    }

    /// The other way round.
    #[expect(clippy::cast_possible_truncation, reason = "these are the parts of it")]
    pub(super) fn of_token(token: u128) -> Self {
        Self { slot: (token >> 96) as u32, sequence: (token >> 64) as u32, tag: token as u64 }
    }
}

struct Entry {
    target: ProbeTarget,
    owners: Vec<OwnerId>,
    /// When its next request is due.
    due: Instant,
    /// The last request.
    sequence: u32,
    /// When that was sent, as long as it waits for its answer.
    asked: Option<Instant>,
    figures: Figures,
}

/// How many targets there are, and how they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Summary {
    /// Targets that have neither answered nor been lost.
    pub untested: usize,
    /// Targets that answer.
    pub answered: usize,
    /// Targets that are lost.
    pub lost: usize,
    /// Some of those.
    pub named: Vec<ProbeKey>,
    /// The longest interval.
    pub interval: Duration,
    /// Requests and answers, of all targets that there have been.
    pub requests: u64,
    /// Answers to them.
    pub answers: u64,
}

/// All targets.
#[derive(Default)]
pub(super) struct Table {
    owners: BTreeMap<OwnerId, Vec<ProbeTarget>>,
    slots: HashMap<u32, Entry>,
    by_key: HashMap<ProbeKey, u32>,
    last_slot: u32,
    due: BTreeSet<(Instant, u32)>,
    /// Figures of targets that are not there any more, and when they went.
    former: HashMap<ProbeKey, (Instant, Figures)>,
    /// Requests that may be answered until then, in their order.
    waiting: VecDeque<(Instant, Turn)>,
    /// How many requests in a hundred seconds or so fit in: intervals are longer by this.
    stretch: Stretch,
    /// When the next request may be sent.
    next: Option<Instant>,
    secret: RandomState,
    requests: u64,
    answers: u64,
    /// Whose targets have another condition, and who were not told yet.
    news: BTreeSet<OwnerId>,
}

/// Nanoseconds of the pace that all targets together take in a second, if that is more than there are.
#[derive(Clone, Copy, Default)]
struct Stretch(u128);

impl Stretch {
    const SECOND: u128 = 1_000_000_000;

    fn of(targets: impl Iterator<Item = Duration>) -> Self {
        let each = targets.map(|interval| PACE.as_nanos() * Self::SECOND / interval.as_nanos().max(1));
        Self(each.sum())
    }

    fn apply(self, interval: Duration) -> Duration {
        if self.0 <= Self::SECOND {
            return interval;
        }
        let nanos = interval.as_nanos() * self.0 / Self::SECOND;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Table {
    /// An owner has these targets from now on, and no others. Those that are there already, whoever has declared them, go on.
    pub(super) fn declare(&mut self, owner: OwnerId, targets: Vec<ProbeTarget>, now: Instant) {
        if targets.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.owners.insert(owner, targets);
        }
        self.slots.values_mut().for_each(|entry| entry.owners.clear());
        self.former.retain(|_, (gone, _)| now.saturating_duration_since(*gone) < KEPT);
        for (owner, targets) in &self.owners {
            for target in targets {
                let known = self.by_key.get(&target.key).and_then(|slot| self.slots.get_mut(slot));
                if let Some(entry) = known {
                    entry.owners.push(*owner);
                    // What a later owner says counts.
                    entry.target.clone_from(target);
                    continue;
                }
                self.last_slot = self.last_slot.wrapping_add(1);
                let entry = Entry {
                    target: target.clone(),
                    owners: vec![*owner],
                    due: now,
                    sequence: 0,
                    asked: None,
                    figures: self.former.remove(&target.key).map(|(_, known)| known).unwrap_or_default(),
                };
                self.by_key.insert(target.key.clone(), self.last_slot);
                self.slots.insert(self.last_slot, entry);
                self.due.insert((now, self.last_slot));
            }
        }
        let (by_key, due, former) = (&mut self.by_key, &mut self.due, &mut self.former);
        self.slots.retain(|slot, entry| {
            let stays = !entry.owners.is_empty();
            if !stays {
                by_key.remove(&entry.target.key);
                due.remove(&(entry.due, *slot));
                if former.len() < MOST_KEPT {
                    former.insert(entry.target.key.clone(), (now, std::mem::take(&mut entry.figures)));
                }
            }
            stays
        });
        self.stretch = Stretch::of(self.slots.values().map(|entry| entry.target.interval));
        self.hasten(now);
    }

    /// Those whose interval is shorter now do not wait for the end of the former.
    fn hasten(&mut self, now: Instant) {
        for (slot, entry) in &mut self.slots {
            let latest = now + self.stretch.apply(entry.target.interval);
            if entry.due > latest {
                self.due.remove(&(entry.due, *slot));
                entry.due = latest;
                self.due.insert((latest, *slot));
            }
        }
    }

    /// The next request, if it is time for one. It counts as sent.
    pub(super) fn next(&mut self, now: Instant) -> Option<Request> {
        if self.next.is_some_and(|next| next > now) {
            return None;
        }
        let (due, slot) = *self.due.first()?;
        if due > now {
            return None;
        }
        self.due.pop_first();
        let entry = self.slots.get_mut(&slot)?;
        entry.due = now + self.stretch.apply(entry.target.interval);
        self.due.insert((entry.due, slot));
        self.next = Some(now + PACE);
        self.requests += 1;
        entry.sequence = entry.sequence.wrapping_add(1);
        entry.asked = Some(now);
        let tag = self.secret.hash_one((slot, entry.sequence));
        let turn = Turn { slot, sequence: entry.sequence, tag };
        self.waiting.push_back((now + ANSWER, turn));
        let ProbeTarget { key, source, .. } = &entry.target;
        Some(Request { turn, to: key.address, over: key.over.clone(), source: *source, size: key.size })
    }

    /// An answer has come in. Only one that is waited for counts, and only once.
    pub(super) fn answer(&mut self, turn: Turn, from: IpAddr, now: Instant) {
        if turn.tag != self.secret.hash_one((turn.slot, turn.sequence)) {
            return;
        }
        let Some(entry) = self.slots.get_mut(&turn.slot) else { return };
        if entry.sequence != turn.sequence || entry.target.key.address != from {
            return;
        }
        let Some(took) = entry.asked.map(|asked| now.saturating_duration_since(asked)) else { return };
        if took > ANSWER {
            return;
        }
        entry.asked = None;
        self.answers += 1;
        if entry.figures.answer(took, entry.target.back_after, now) {
            self.news.extend(&entry.owners);
        }
    }

    /// A request could not be sent.
    pub(super) fn unsent(&mut self, turn: Turn) {
        let Some(entry) = self.slots.get_mut(&turn.slot) else { return };
        if entry.sequence == turn.sequence
            && entry.asked.take().is_some()
            && entry.figures.lose(entry.target.lost_after)
        {
            self.news.extend(&entry.owners);
        }
    }

    /// Requests whose time is over are lost.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((_, turn)) = self.waiting.pop_front_if(|(end, _)| *end <= now) {
            self.unsent(turn);
        }
    }

    /// When something is to be done next, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = self.due.first().map(|(due, _)| self.next.map_or(*due, |next| next.max(*due)));
        due.into_iter().chain(self.waiting.front().map(|(end, _)| *end)).min()
    }

    /// Whose targets have another condition than when this was asked last.
    pub(super) fn take_news(&mut self) -> BTreeSet<OwnerId> {
        std::mem::take(&mut self.news)
    }

    /// What is known of a target; none: it is not probed, and was not lately.
    pub(super) fn report(&self, key: &ProbeKey, now: Instant) -> Option<ProbeReport> {
        if let Some(entry) = self.by_key.get(key).and_then(|slot| self.slots.get(slot)) {
            return Some(entry.figures.report(self.stretch.apply(entry.target.interval), now));
        }
        let (gone, figures) = self.former.get(key)?;
        (now.saturating_duration_since(*gone) < KEPT).then(|| figures.report(Duration::ZERO, now))
    }

    /// All of them, in a few figures; none: there are none, and there have not been any.
    pub(super) fn summary(&self) -> Option<Summary> {
        if self.slots.is_empty() && self.requests == 0 {
            return None;
        }
        let mut summary = Summary { requests: self.requests, answers: self.answers, ..Summary::default() };
        let mut lost = Vec::new();
        for entry in self.slots.values() {
            match entry.figures.condition() {
                ProbeCondition::Untested => summary.untested += 1,
                ProbeCondition::Answered => summary.answered += 1,
                ProbeCondition::Lost => lost.push(&entry.target.key),
            }
            summary.interval = summary.interval.max(self.stretch.apply(entry.target.interval));
        }
        summary.lost = lost.len();
        lost.sort_unstable();
        summary.named = lost.into_iter().take(MOST_NAMED).cloned().collect();
        Some(summary)
    }
}

#[cfg(test)]
mod tests {
    use flannel_model::ledger::PeerId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn target(number: u32, seconds: u64) -> ProbeTarget {
        let [.., a, b] = number.to_be_bytes();
        let key =
            ProbeKey { peer: PeerId(number.into()), address: [10, 5, a, b].into(), over: None, size: 44 };
        ProbeTarget {
            key,
            source: None,
            interval: SECOND * u32::try_from(seconds).expect("few"),
            lost_after: 2,
            back_after: 1,
        }
    }

    fn targets(count: u32, seconds: u64) -> Vec<ProbeTarget> {
        (0..count).map(|number| target(number, seconds)).collect()
    }

    /// All that is sent in this time, and when: as soon as it is due.
    fn run(table: &mut Table, from: Instant, time: Duration) -> Vec<(Instant, Request)> {
        let (mut now, mut sent) = (from, Vec::new());
        while now < from + time {
            table.expire(now);
            while let Some(request) = table.next(now) {
                sent.push((now, request));
            }
            now = table.deadline().unwrap_or(from + time).max(now + Duration::from_millis(1));
        }
        sent
    }

    #[test]
    fn each_target_has_its_interval_and_all_together_the_pace() {
        let begin = Instant::now();
        let mut table = Table::default();
        let mut all = targets(2, 1);
        all.push(target(9, 5));
        table.declare(1, all, begin);
        let sent = run(&mut table, begin, SECOND * 10);
        let of = |peer: u32| {
            let to = target(peer, 1).key.address;
            sent.iter().filter(|(_, request)| request.to == to).count()
        };
        assert_eq!([of(0), of(1), of(9)], [10, 10, 2]);
        assert!(sent.windows(2).all(|pair| pair[1].0 - pair[0].0 >= PACE), "{sent:?}");
    }

    #[test]
    fn thousands_of_targets_share_a_hundred_requests_a_second_and_know_their_interval() {
        let begin = Instant::now();
        let mut table = Table::default();
        table.declare(1, targets(5000, 1), begin);
        let report = table.report(&target(7, 1).key, begin).expect("it is probed");
        assert_eq!(report.interval, SECOND * 50);
        let sent = run(&mut table, begin, SECOND * 100);
        assert!(sent.len() <= 10_000 && sent.len() > 9900, "{}", sent.len());
        let mut counts = HashMap::new();
        for (_, request) in &sent {
            *counts.entry(request.to).or_insert(0) += 1;
        }
        assert!(counts.len() == 5000 && counts.values().all(|count| (1..=2).contains(count)));
        // Fewer of them have their own interval again, and do not wait for the end of the long one.
        table.declare(1, targets(10, 1), begin + SECOND * 100);
        let sent = run(&mut table, begin + SECOND * 100, SECOND * 10);
        assert!((90..=110).contains(&sent.len()), "{}", sent.len());
    }

    #[test]
    fn an_answer_counts_once_in_time_from_whom_it_was_asked_and_only_with_its_tag() {
        let begin = Instant::now();
        let mut table = Table::default();
        table.declare(1, targets(1, 1), begin);
        let sent = |table: &mut Table, now: Instant| {
            table.expire(now);
            table.next(now).expect("a request")
        };
        let answered = |table: &Table| table.report(&target(0, 1).key, begin).expect("a report");
        let first = sent(&mut table, begin);
        let soon = begin + Duration::from_millis(3);
        table.answer(first.turn, [10, 5, 0, 1].into(), soon);
        table.answer(Turn { tag: first.turn.tag ^ 1, ..first.turn }, first.to, soon);
        table.answer(Turn { slot: 7, ..first.turn }, first.to, soon);
        table.answer(Turn { sequence: 7, ..first.turn }, first.to, soon);
        assert_eq!(answered(&table).sent, 0);
        let turn = Turn::of_token(first.turn.token());
        assert_eq!(turn, first.turn);
        table.answer(turn, first.to, soon);
        table.answer(turn, first.to, soon);
        let report = answered(&table);
        assert_eq!((report.sent, report.answered), (1, 1));
        assert_eq!(report.round_trip.map(|times| times.last), Some(3000));
        assert_eq!(table.take_news(), BTreeSet::from([1]), "it was untested");
        // The next one is late: lost, and nothing else.
        let second = sent(&mut table, begin + SECOND);
        assert_eq!(table.next(begin + SECOND), None);
        table.answer(second.turn, second.to, begin + SECOND * 2 + PACE);
        table.expire(begin + SECOND * 2 + PACE);
        table.answer(second.turn, second.to, begin + SECOND * 2 + PACE);
        let report = answered(&table);
        assert_eq!((report.sent, report.answered, report.lost_in_a_row), (2, 1, 1));
        assert!(table.take_news().is_empty(), "one is not enough");
        // What cannot be sent is lost at once, and not once more when its time is over.
        let third = sent(&mut table, begin + SECOND * 3);
        table.unsent(third.turn);
        table.expire(begin + SECOND * 5);
        assert_eq!(answered(&table).sent, 3);
        assert_eq!(table.take_news(), BTreeSet::from([1]));
        assert_eq!(table.summary().map(|summary| summary.named), Some(vec![target(0, 1).key]));
    }

    #[test]
    fn who_takes_over_goes_on_with_the_figures_and_what_nobody_has_any_more_is_gone() {
        let begin = Instant::now();
        let mut table = Table::default();
        assert!(table.summary().is_none() && table.deadline().is_none());
        table.declare(1, targets(2, 1), begin);
        let request = table.next(begin).expect("a request");
        table.answer(request.turn, request.to, begin);
        let key = target(0, 1).key;
        let known = table.report(&key, begin).expect("a report");
        assert_eq!(known.answered, 1);
        // Another owner, with another interval.
        table.declare(2, vec![target(0, 3)], begin);
        assert_eq!(table.report(&key, begin), Some(ProbeReport { interval: SECOND * 3, ..known }));
        table.declare(1, Vec::new(), begin);
        assert_eq!(table.report(&key, begin).map(|report| report.answered), Some(1));
        assert_eq!(table.by_key.len(), 1);
        table.declare(2, Vec::new(), begin);
        assert!(table.deadline().is_some_and(|end| end == begin + ANSWER) && table.by_key.is_empty());
        // For a while it is remembered, and goes on with its figures.
        let soon = begin + KEPT / 2;
        assert_eq!(table.report(&key, soon).map(|report| report.answered), Some(1));
        table.declare(3, targets(1, 1), soon);
        assert_eq!(table.report(&key, soon).map(|report| report.answered), Some(1));
        table.declare(3, Vec::new(), soon);
        assert_eq!(table.report(&key, soon + KEPT), None);
        table.declare(4, Vec::new(), soon + KEPT);
        assert!(table.former.is_empty() && table.due.is_empty());
        // An answer to what is not probed any more is nobody's.
        table.answer(request.turn, request.to, begin);
        let summary = table.summary().expect("there were requests");
        assert_eq!((summary.answers, summary.answered + summary.lost + summary.untested), (1, 0));
    }
}
