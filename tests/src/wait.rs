//! Waiting for what will be, with a deadline that only a failure ever reaches.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take before it counts as failed. Generous: a machine that is busy with other things is no failure.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// How often is asked.
const STEP: Duration = Duration::from_millis(2);

/// Asks again and again until there is an answer, and says how long that took.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<(T, Duration)> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok((answer, begin.elapsed()));
        }
        if begin.elapsed() > PATIENCE {
            bail!("waited {} s in vain: {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(STEP);
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
