//! A long run: small calls one after the other, as a cluster in operation has them, and what each of them leaves behind.
//!
//! A plugin whose memory or handles are over is started afresh by the daemon. That heals, and costs: what the plugin kept in memory is gone,
//! and all leases are handed over again.

use flannel_model::ledger::PeerId;
use flannel_plugin_host::{Limits, PeerChange};

use super::super::session::{Session, in_words};
use super::subject::{self, Subject};
use super::{Outcome, Stop};

/// Calls until a plugin has made itself at home.
const WARM_UP: u32 = 10_000;
/// Calls of a stretch. A heap grows in steps: a language's runtime takes 1 MiB or more at a time, some 3,000 calls apart at the least.
const STRETCH: u32 = 10_000;
/// Stretches until one is steady; more for those that have grown in each of them, since heaps are enlarged before garbage is collected first.
const STRETCHES: u32 = 2;
const MORE_STRETCHES: u32 = 2;
/// Peers that come and go in turn.
const PEERS: u32 = 256;
/// A tick comes after so many calls of `apply`.
const TICK: u32 = 8;
/// Bytes of memory, and handles, by which a steady plugin may grow in all stretches.
const GROWTH: usize = 1 << 20;
const HANDLES: usize = 16;

/// What an instance has at a time.
#[derive(Clone, Copy)]
struct Holding {
    /// Bytes.
    memory: usize,
    handles: usize,
}

/// Neither memory nor handles are less with each call.
pub(super) fn steady(subject: &Subject) -> Outcome {
    let mut run = Run { subject, session: subject.start()?, call: 0, largest: 0, ticks: true };
    let length = subject.calls.map_or(STRETCH, |calls| calls.saturating_sub(WARM_UP).div_ceil(STRETCHES));
    let warm = run.stretch(WARM_UP)?;
    let mut seen = vec![warm];
    while seen.len() <= (STRETCHES + MORE_STRETCHES) as usize {
        if seen.len() > STRETCHES as usize
            && !grows(&seen, |held| held.memory)
            && !grows(&seen, |held| held.handles)
        {
            break;
        }
        seen.push(run.stretch(length)?);
    }
    let (now, calls) = (seen.last().copied().unwrap_or(warm), run.call - WARM_UP);
    let limits = Limits::default();
    if grows(&seen, |held| held.handles) && now.handles > warm.handles + HANDLES {
        let left = left(calls, now.handles - warm.handles, limits.handles.saturating_sub(now.handles));
        return Err(Stop::Failed(format!(
            "after {} calls it has {} handles of links, {} more than after {WARM_UP}: {left} calls later the {} that it may have are over, and it is started afresh; a handle is given back when it is dropped",
            run.call,
            now.handles,
            now.handles - warm.handles,
            limits.handles
        )));
    }
    if !grows(&seen, |held| held.memory) || now.memory <= warm.memory + GROWTH {
        return Ok(format!("{} KiB after {} calls, {} handles", now.memory >> 10, run.call, now.handles));
    }
    let more = now.memory - warm.memory;
    let left = left(calls, more, limits.memory.saturating_sub(now.memory));
    let finding = format!(
        "it grows by {} bytes a call: {} KiB after {WARM_UP} calls, {} KiB after {}; {left} calls later its {} MiB are over, and it is started afresh",
        more as u64 / u64::from(calls.max(1)),
        warm.memory >> 10,
        now.memory >> 10,
        run.call,
        limits.memory >> 20
    );
    Err(run.verdict(finding))
}

/// Whether there is more after each stretch than before it.
fn grows(seen: &[Holding], of: impl Fn(&Holding) -> usize) -> bool {
    seen.windows(2).all(|pair| matches!(pair, [before, after] if of(after) > of(before)))
}

/// After how many calls more `rest` is over, if `calls` have taken `more`.
fn left(calls: u32, more: usize, rest: usize) -> u64 {
    rest as u64 * u64::from(calls) / (more as u64).max(1)
}

/// A plugin that is called one time after the other.
struct Run<'a> {
    subject: &'a Subject<'a>,
    session: Session,
    /// Calls of `apply` so far.
    call: u32,
    /// Bytes that it had at most.
    largest: usize,
    /// It has asked for ticks until now.
    ticks: bool,
}

impl Run<'_> {
    /// So many calls; answers what the plugin has then.
    fn stretch(&mut self, calls: u32) -> Result<Holding, Stop> {
        for _ in 0..calls {
            let number = |call: u32| u16::try_from(call % PEERS + 1).unwrap_or(1);
            let (peer, gone) = (number(self.call), number(self.call + PEERS / 2));
            let changes = [
                subject::put(peer.into(), self.subject.lease(peer)),
                PeerChange::Removed(PeerId(gone.into())),
            ];
            let handles = self.session.policy.handles();
            let failed = subject::hand_over(&mut self.session, &changes).map_err(|reason| {
                Stop::Failed(format!("call {}, with {handles} handles: {reason}", self.call + 1))
            })?;
            self.call += 1;
            if let Some(error) = failed {
                return Err(self.started_afresh(&error));
            }
            if self.ticks && self.call.is_multiple_of(TICK) {
                self.tick()?;
            }
            let memory = self.session.policy.memory();
            // Memory never shrinks: less of it is that of a fresh instance, after a call that could be made again as it was.
            if memory < self.largest {
                return Err(self.started_afresh(&"a call failed, and did not when it was made again"));
            }
            self.largest = memory;
        }
        Ok(Holding { memory: self.largest, handles: self.session.policy.handles() })
    }

    /// One that fails in words is another check's.
    fn tick(&mut self) -> Result<(), Stop> {
        match self.session.policy.tick() {
            Ok((_, next)) => self.ticks = next.is_some(),
            Err(error) if in_words(&error) => self.ticks = false,
            Err(error) => return Err(Stop::Failed(format!("a tick after {} calls: {error}", self.call))),
        }
        Ok(())
    }

    /// Whoever has little memory left may have failed for want of it; for whom that was not the reason, it is no question of garbage.
    fn started_afresh(&self, why: &dyn std::fmt::Display) -> Stop {
        let finding = format!(
            "after {} calls it was started afresh, with {} KiB: {why}",
            self.call,
            self.largest >> 10
        );
        if self.largest > Limits::default().memory / 2 {
            self.verdict(finding)
        } else {
            Stop::Failed(finding)
        }
    }

    /// A language's runtime decides itself when it collects garbage, and may do so too late for what a plugin has: its author can only make
    /// less of it. Who manages memory himself has forgotten something.
    fn verdict(&self, finding: String) -> Stop {
        if self.subject.has_runtime() {
            Stop::Warned(format!(
                "{finding}; less garbage in a call, as by handles that are kept, makes that rarer"
            ))
        } else {
            Stop::Failed(finding)
        }
    }
}
