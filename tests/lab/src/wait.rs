//! Waiting for what will be, with a deadline that only a failure ever reaches.

use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take before it counts as failed, where processes start as fast as [`USUAL_START`]. Generous: a machine that
/// is busy with other things is no failure.
const DEADLINE: Duration = Duration::from_secs(100);
/// What a failure costs at most, on the slowest machine: a whole suite takes less in an emulated one.
const LONGEST: Duration = Duration::from_mins(10);

/// What the start of a small process takes on an ordinary machine.
const USUAL_START: Duration = Duration::from_millis(1);
/// How often that is measured; the shortest time counts, which a busy machine disturbs least.
const STARTS: usize = 8;
/// Times are not made longer than that many times: waiting for what must not come takes all of it.
const SLOWEST: u32 = 15;

/// How many times as long as on an ordinary machine everything takes here: 1 or more.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
    let start = || {
        let begin = Instant::now();
        let mut command = Command::new("/bin/true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().ok().map(|_| begin.elapsed())
    };
    let shortest = (0..STARTS).filter_map(|_| start()).min().unwrap_or(USUAL_START);
    let times = shortest.as_micros() / USUAL_START.as_micros();
    u32::try_from(times).map_or(SLOWEST, |times| times.clamp(1, SLOWEST))
});

/// A time that something may take, as an ordinary machine would need it: longer on a slow one, as measured.
pub fn scaled(time: Duration) -> Duration {
    time * *SLOWNESS
}

/// How often is asked at most.
const STEP: Duration = Duration::from_millis(2);
/// Up to that, twice the time that asking takes is left to those who are waited for, and to others' tests; and always as much, where asking takes
/// long, such as starting a program in an emulated machine.
const LEISURE: Duration = Duration::from_millis(40);

/// Asks again and again until there is an answer, and says how long that took.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let begin = Instant::now();
    loop {
        let asked = Instant::now();
        if let Some(answer) = ask()? {
            return Ok((answer, begin.elapsed()));
        }
        let took = asked.elapsed();
        let pause = took.max((2 * took).min(LEISURE)).max(STEP);
        if begin.elapsed() > scaled(DEADLINE).min(LONGEST) {
            bail!("waited {} s in vain: {what}", begin.elapsed().as_secs());
        }
        std::thread::sleep(pause);
    }
}

/// Waits until something is so, and says how long that took.
pub fn until_true(what: &str, mut ask: impl FnMut() -> Result<bool>) -> Result<Duration> {
    until(what, || Ok(ask()?.then_some(()))).map(|((), took)| took)
}

/// Waits until there is no difference any more; a failure shows the last one.
pub fn until_equal(what: &str, mut difference: impl FnMut() -> Result<Option<String>>) -> Result<Duration> {
    let mut last = String::new();
    let outcome = until(what, || match difference()? {
        Some(text) => {
            last = text;
            Ok(None)
        }
        None => Ok(Some(())),
    });
    match outcome {
        Ok(((), took)) => Ok(took),
        Err(error) => Err(error.context(last)),
    }
}
