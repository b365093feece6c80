//! Time and memory.

use std::time::Instant;

use super::subject::{self, Subject};
use super::{Outcome, Stop};
use crate::plugin::{Limits, PeerChange};

/// Leases of the snapshot that is measured: the most that come in one call.
const SNAPSHOT: u16 = 4096;
/// Leases of a round in which memory is measured, and rounds: first until the plugin's own heap has settled, and then those that count.
const ROUND: u16 = 256;
const SETTLING: u64 = 20;
const ROUNDS: u64 = 100;
/// Bytes by which memory may grow over all rounds: less than 41 for each lease that was handed over.
const GROWTH: usize = 1 << 20;

/// A tick, three times.
pub fn tick(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    subject::expect(&mut session, &subject.puts(1..=10))?;
    let mut next = None;
    for _ in 0..3 {
        (_, next) = session.policy.tick().map_err(|error| error.to_string())?;
        if next.is_none() {
            break;
        }
    }
    Ok(next.map_or_else(|| "no more".to_owned(), |after| format!("again after {} ms", after.as_millis())))
}

/// The largest snapshot takes less than half of the time that it may take: other machines are slower.
pub fn time(subject: &Subject) -> Outcome {
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

/// The same leases over and over leave nothing behind.
pub fn memory_of_the_same(subject: &Subject) -> Outcome {
    memory(subject, |_| subject.puts(1..=ROUND))
}

/// Peers that are gone leave nothing behind, though no number comes twice.
pub fn memory_of_others(subject: &Subject) -> Outcome {
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
    for round in 0..SETTLING {
        subject::expect(&mut session, &changes(round))?;
    }
    let before = session.policy.memory();
    for round in SETTLING..SETTLING + ROUNDS {
        subject::expect(&mut session, &changes(round))?;
    }
    let after = session.policy.memory();
    let kilobytes = |bytes: usize| bytes >> 10;
    if after > before + GROWTH {
        return Err(Stop::Failed(format!(
            "{} KiB at first, and {} KiB after {ROUNDS} rounds of {ROUND} leases",
            kilobytes(before),
            kilobytes(after)
        )));
    }
    Ok(format!(
        "{} KiB, {} more after {ROUNDS} rounds",
        kilobytes(after),
        kilobytes(after.saturating_sub(before))
    ))
}
