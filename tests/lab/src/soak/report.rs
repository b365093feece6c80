//! What is said as it goes, and the table at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::scene::Resources;
use crate::ping_probe::{Report as Packets, millis};

/// How many faults a failure names.
const LAST: usize = 8;

/// Says something.
pub fn say(text: &str) {
    // Nobody listening is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A group of faults that is over.
pub struct Record {
    /// Kinds and what was done, in the order of their end.
    pub faults: Vec<(&'static str, String)>,
    /// From the end of the last one until all was well.
    pub converged: Duration,
    /// From the beginning of the first one until all was well.
    pub packets: Packets,
    /// A node has another subnet than before.
    pub replaced: bool,
    /// The nodes whose daemons ended at their start, and were started again.
    pub revived: Vec<usize>,
}

/// The report.
pub struct Report {
    begin: Instant,
    begun: Vec<String>,
    records: Vec<Record>,
}

impl Report {
    /// From now on.
    pub fn begin() -> Self {
        Self { begin: Instant::now(), begun: Vec::new(), records: Vec::new() }
    }

    /// A fault has begun.
    pub fn begun(&mut self, kind: &str, told: &str) {
        self.begun.push(format!("{:7.1} s  {:<24} {}", self.begin.elapsed().as_secs_f64(), kind, told));
    }

    /// A group is over.
    pub fn healed(&mut self, record: Record) {
        let at = self.begin.elapsed().as_secs_f64();
        for (number, (kind, told)) in record.faults.iter().enumerate() {
            // Those of a group share what comes of them, which is said once.
            let outcome = if number + 1 < record.faults.len() {
                "with the next".to_owned()
            } else {
                let subnet = if record.replaced { ", another subnet" } else { "" };
                let again =
                    |node: &usize| format!(", node{} ended at its start and was started again", node + 1);
                let revived = record.revived.iter().map(again).collect::<Vec<_>>().concat();
                format!(
                    "converged after {:.0} ms, {} of {} packets lost{subnet}{revived}",
                    millis(record.converged),
                    record.packets.lost,
                    record.packets.sent
                )
            };
            say(&format!("{at:7.1} s  {kind:<24} {told:<64} {outcome}"));
        }
        self.records.push(record);
    }

    /// The last faults, one a line.
    pub fn last(&self) -> String {
        self.begun[self.begun.len().saturating_sub(LAST)..].join("\n")
    }

    /// How often each kind was there, and what came of it.
    pub fn table(&self) {
        say(&table(&self.records));
    }
}

/// What the daemons need that have gone through all of it, and what fresh ones do.
pub fn resources(old: &Resources, fresh: &Resources) {
    let words =
        |most: &Resources| format!("{} MiB and {} descriptors", most.resident / 1024, most.descriptors);
    say(&format!("a daemon had at most {} at the end, and a fresh one has {}", words(old), words(fresh)));
}

fn table(records: &[Record]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        for (kind, _) in &record.faults {
            kinds.entry(kind).or_default().push(record);
        }
    }
    let mut text = format!(
        "\n{:<24} {:>5}  {:>16}  {:>13}  {:>7}\n",
        "kind", "times", "converged median", "longest (ms)", "lost"
    );
    for (kind, records) in kinds {
        let mut times: Vec<Duration> = records.iter().map(|record| record.converged).collect();
        times.sort_unstable();
        let lost: usize = records.iter().map(|record| record.packets.lost).sum();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{kind:<24} {:>5}  {:>16.0}  {:>13.0}  {lost:>7}",
            times.len(),
            millis(median),
            millis(longest)
        );
    }
    text.push_str("(Faults that overlap share their figures.)\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kinds: &[&'static str], millis: u64, lost: usize) -> Record {
        let packets = Packets {
            sent: 100,
            received: 100 - lost,
            lost,
            refused: 0,
            longest_gap: Duration::ZERO,
            slowest: Duration::ZERO,
        };
        let faults = kinds.iter().map(|kind| (*kind, String::new())).collect();
        Record {
            faults,
            converged: Duration::from_millis(millis),
            packets,
            replaced: false,
            revived: Vec::new(),
        }
    }

    #[test]
    fn the_table_has_times_median_longest_and_lost_of_each_kind() {
        let records = [record(&["a"], 10, 1), record(&["a", "b"], 30, 2), record(&["a"], 20, 0)];
        let text = table(&records);
        let row = |kind: &str| {
            let line = text.lines().find(|line| line.starts_with(kind)).expect("a row");
            line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("a "), ["a", "3", "20", "30", "3"]);
        assert_eq!(row("b "), ["b", "1", "30", "30", "2"]);
    }
}
