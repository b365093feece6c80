//! Time and memory.

use std::time::Instant;

use flannel_plugin_host::{Limits, PeerChange};

use super::super::session::in_words;
use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// Leases of the snapshot that is measured: the most that come in one call.
const SNAPSHOT: u16 = 4096;
/// Leases of a round in which memory is measured, and rounds: first until the plugin's own heap has settled, and then those that count.
const ROUND: u16 = 256;
const SETTLING: u64 = 20;
const ROUNDS: u64 = 100;
/// Rounds for those that have grown until then, and how often they are given so many.
const LONG: u64 = 200;
const MAX_RESTARTS: u64 = 3;
/// Bytes by which memory may grow over all rounds: less than 41 for each lease that was handed over.
const GROWTH: usize = 1 << 20;

/// A tick, three times.
pub(super) fn tick(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=10))?;
    let mut next = None;
    for _ in 0..3 {
        next = match session.policy.tick() {
            Ok((_, next)) => next,
            // There is no cloud here: to say so is right.
            Err(error) if in_words(&error) && subject.asks_clouds() => {
                return Ok("without a cloud it says what is wrong".to_owned());
            }
            Err(error) => return Err(error.to_string().into()),
        };
        if next.is_none() {
            break;
        }
    }
    Ok(next.map_or_else(|| "no more".to_owned(), |after| format!("again after {} ms", after.as_millis())))
}

/// The end of the backend, which may be asked for again and again, and also before there was a tick.
pub(super) fn retire(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    if !session.policy.retires() {
        return Ok("it has nothing outside of the kernel".to_owned());
    }
    subject::expect(&mut session, &subject.puts(1..=10))?;
    for _ in 0..3 {
        match session.policy.retire() {
            Ok(None) => return Ok("nothing is left".to_owned()),
            Ok(Some(_)) => {}
            // There is no cloud here: to say so is right.
            Err(error) if in_words(&error) && subject.asks_clouds() => {
                return Ok("without a cloud it says what is wrong".to_owned());
            }
            Err(error) => return Err(error.to_string().into()),
        }
    }
    Ok("there is more to be done".to_owned())
}

/// The largest snapshot takes less than half of the time that it may take: other machines are slower.
pub(super) fn time(subject: &Subject) -> Outcome {
    let limits = Limits::default();
    let allowed = limits.call_time + limits.change_time * u32::from(SNAPSHOT);
    let mut session = subject.start()?;
    let changes = subject.puts(1..=SNAPSHOT);
    let mut best = allowed;
    for _ in 0..3 {
        let begin = Instant::now();
        subject::expect(&mut session, &changes)?;
        best = best.min(begin.elapsed());
    }
    let (took, most) = (best / u32::from(SNAPSHOT), allowed / u32::from(SNAPSHOT));
    let seen = format!("{} µs a lease; {} are allowed", took.as_micros(), most.as_micros());
    if best * 2 > allowed { Err(Stop::Failed(seen)) } else { Ok(seen) }
}

/// A glance at what the others look at for long: what a lease takes, and what small calls leave behind.
pub(super) fn short(subject: &Subject) -> Outcome {
    let limits = Limits::default();
    let mut session = subject.start()?;
    let changes = subject.puts(1..=ROUND);
    let begin = Instant::now();
    subject::expect(&mut session, &changes)?;
    let (took, allowed) = (begin.elapsed(), limits.call_time + limits.change_time * u32::from(ROUND));
    if took * 2 > allowed {
        let (took, allowed) = (took.as_millis(), allowed.as_millis());
        return Err(Stop::Failed(format!("{took} ms for {ROUND} leases; {allowed} are allowed")));
    }
    let mut small_calls = || -> Result<(usize, usize), Stop> {
        for change in &changes {
            if let Some(error) = subject::hand_over(&mut session, std::slice::from_ref(change))? {
                return Err(Stop::Failed(format!("it was started afresh: {error}")));
            }
        }
        Ok((session.policy.memory(), session.policy.handles()))
    };
    let before = small_calls()?;
    let (memory, handles) = small_calls()?;
    if handles >= before.1 + changes.len() {
        return Err(Stop::Failed(format!(
            "it has {handles} handles of links, {} more after {} calls; a handle is given back when it is dropped",
            handles - before.1,
            changes.len()
        )));
    }
    let each = took.as_micros() / u128::from(ROUND);
    let more = memory.saturating_sub(before.0) >> 10;
    Ok(format!(
        "{each} µs a lease; {} KiB, {more} more after {} calls; {handles} handles",
        memory >> 10,
        changes.len()
    ))
}

/// The same leases over and over leave nothing behind.
pub(super) fn memory_of_the_same(subject: &Subject) -> Outcome {
    memory(subject, |_| subject.puts(1..=ROUND))
}

/// Peers that are gone leave nothing behind, though no number comes twice.
pub(super) fn memory_of_others(subject: &Subject) -> Outcome {
    let leases = subject.puts(1..=ROUND);
    let renumbered = |round: u64| {
        let first = round * u64::from(ROUND);
        let renumber = |change: &PeerChange| match change {
            PeerChange::Put(id, lease) => subject::put(first + id.0, (**lease).clone()),
            PeerChange::Removed(id) => subject::removed(first + id.0),
        };
        leases.iter().map(renumber).collect::<Vec<_>>()
    };
    memory(subject, |round| {
        let gone = round.checked_sub(1).map(&renumbered).unwrap_or_default();
        let gone = gone.iter().map(|change| PeerChange::Removed(change.id()));
        gone.chain(renumbered(round)).collect()
    })
}

fn memory(subject: &Subject, changes: impl Fn(u64) -> Vec<PeerChange>) -> Outcome {
    let mut session = subject.start()?;
    let mut round = 0;
    let mut largest = 0;
    let mut after = |rounds: u64| -> Result<usize, Stop> {
        for _ in 0..rounds {
            let failed = subject::hand_over(&mut session, &changes(round))?;
            round += 1;
            if let Some(error) = failed {
                let kilobytes = largest >> 10;
                return Err(Stop::Failed(format!(
                    "it was started afresh after {round} rounds of {ROUND} leases, with {kilobytes} KiB: {error}"
                )));
            }
            largest = session.policy.memory();
        }
        Ok(largest)
    };
    let before = after(SETTLING)?;
    let mut now = after(ROUNDS)?;
    if now <= before + GROWTH {
        let more = (now - before) >> 10;
        return Ok(format!("{} KiB, {more} more after {ROUNDS} rounds", now >> 10));
    }
    // Who brings a language's runtime along collects garbage late, if at all: it is enough that no instance is needed in place of this one
    // before tens of thousands of changes.
    if subject.has_runtime() {
        let then = after(LONG)?;
        let (leases, rounds) = ((ROUNDS + LONG) * u64::from(ROUND), SETTLING + ROUNDS + LONG);
        let each = (then - before) as u64 / leases;
        return Ok(format!("{} KiB after {rounds} rounds, {each} bytes more for each lease", then >> 10));
    }
    for _ in 0..MAX_RESTARTS {
        let then = after(LONG)?;
        if then <= now + GROWTH {
            return Ok(format!("{} KiB, no more after a further {LONG} rounds", then >> 10));
        }
        now = then;
    }
    let rounds = SETTLING + ROUNDS + MAX_RESTARTS * LONG;
    Err(Stop::Failed(format!(
        "{} KiB at first, {} KiB after {rounds} rounds of {ROUND} leases, and still growing",
        before >> 10,
        now >> 10
    )))
}
