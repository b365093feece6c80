//! CPU time spent, as the kernel counts it: in ticks.

use anyhow::{Context, Result};

/// Seconds that some processes have spent so far.
pub fn of(processes: impl Iterator<Item = u32>) -> Result<f64> {
    let mut ticks = 0;
    for process in processes {
        let file = format!("/proc/{process}/stat");
        let stat = std::fs::read_to_string(&file).with_context(|| file.clone())?;
        // The name, in parentheses, may have anything in it. User and system time are the 14th and 15th field.
        let (_, rest) = stat.rsplit_once(')').context("a name in parentheses")?;
        for field in rest.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u64>().with_context(|| file.clone())?;
        }
    }
    Ok(seconds(ticks))
}

/// Seconds that the machine was not idle so far, all cores together.
pub fn of_machine() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let line =
        stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("the line of all cores")?;
    let fields: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; the rest is in user and nice already (proc(5)).
    let busy = |at: &usize| ![3, 4].contains(at);
    Ok(seconds((0..fields.len().min(8)).filter(busy).map(|at| fields[at]).sum()))
}

#[allow(clippy::cast_precision_loss, reason = "ticks of a benchmark are few")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
