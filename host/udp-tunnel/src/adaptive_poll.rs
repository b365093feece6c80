//! Waits for packets, and tries to be awake when the next one comes.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};

/// The longest gap between packets that is watched through. To be woken on an idle core takes about 10 µs; within a
/// request and its answer that happens twice at each end of the tunnel.
const WATCH: Duration = Duration::from_micros(50);
/// So few packets in a round are a request, or an answer.
const SPARSE: usize = 2;
/// A longer gap is the end of a conversation. More than is watched through: without watching, answers take longer.
const ROUND_TRIP: Duration = Duration::from_micros(150);
/// A shorter gap is none: the packets of a flood are better taken many at a time.
const PAUSE: Duration = Duration::from_micros(3);
/// So many such rounds in a row are a conversation, and not the acknowledgements of a stream.
const CONVERSATION: i32 = 8;
/// For so many rounds nothing is watched where others want the core: giving way then costs more than sleeping does.
const CROWDED: i32 = 200;

/// One thread's waiting.
#[derive(Default)]
pub(crate) struct AdaptivePoll {
    /// How many rounds in a row were part of a conversation; below zero where the core is crowded.
    calm: i32,
}

impl AdaptivePoll {
    /// Waits until something is ready. `packets` is how many came in the latest round. While it is one now and then, and
    /// soon after each other, the thread watches instead of sleeping, and leaves the core to whoever wants it. Where
    /// packets come seldom this costs nothing; where they come in plenty it is not done, for it would only take the
    /// batches apart.
    pub(crate) fn wait(&mut self, waits: &mut [PollFd<'_>], packets: usize) -> rustix::io::Result<()> {
        let start = Instant::now();
        if self.calm >= CONVERSATION && packets <= SPARSE {
            while start.elapsed() < WATCH {
                if poll(waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
                    self.judge(start.elapsed(), packets);
                    return Ok(());
                }
                std::thread::yield_now();
            }
            // The last look came much too late: somebody else was computing.
            if start.elapsed() > 2 * WATCH {
                self.calm = -CROWDED;
            }
        }
        poll(waits, None)?;
        self.judge(start.elapsed(), packets);
        Ok(())
    }

    fn judge(&mut self, gap: Duration, packets: usize) {
        let next = self.calm.saturating_add(1);
        let spoken = packets <= SPARSE && (PAUSE..ROUND_TRIP).contains(&gap);
        self.calm = if spoken { next } else { next.min(0) };
    }
}
