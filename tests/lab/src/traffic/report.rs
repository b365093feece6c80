//! What became of the traffic: for people by `Display`, and a verdict.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::arrivals::{Gap, Late};
use crate::wait;

/// A TCP connection on which nothing comes for that long, on an ordinary machine, has stalled.
const STALL: Duration = Duration::from_secs(10);
/// As many gaps of a flow are shown.
const SHOWN: usize = 5;

/// From which pod to which, and with which addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The pod that sends.
    pub from: String,
    /// The pod that receives.
    pub to: String,
    /// The address of the one that sends.
    pub source: IpAddr,
    /// The address of the one that receives.
    pub target: IpAddr,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, source, target } = self;
        write!(f, "{from} → {to} ({source} → {target})")
    }
}

/// Numbered datagrams from one pod to another.
#[derive(Clone, Debug)]
pub struct FlowReport {
    /// From where to where.
    pub way: Way,
    /// How many were sent.
    pub sent: u64,
    /// How many of them have come, each counted once.
    pub received: u64,
    /// Those that have not.
    pub missing: Vec<Gap>,
    /// How many of the missing ones had come as far as the receiver's socket, which had no room: a busy machine, and no network.
    pub overflowed: u64,
    /// How many came again.
    pub duplicates: u64,
    /// Those that came behind higher numbers.
    pub late: Late,
    /// How often the sender's machine had no room, and the same number was sent later.
    pub postponed: u64,
    /// What else the sender's kernel had against sending, the first time.
    pub refused: Option<String>,
}

impl FlowReport {
    /// How many the network has lost.
    pub fn lost(&self) -> u64 {
        self.missing.iter().map(Gap::count).sum::<u64>().saturating_sub(self.overflowed)
    }

    /// Whether each came, and once.
    pub fn is_clean(&self) -> bool {
        self.lost() == 0 && self.duplicates == 0 && self.refused.is_none()
    }
}

impl fmt::Display for FlowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} datagrams lost", self.way, self.lost(), self.sent)?;
        let shown: Vec<String> = self.missing.iter().take(SHOWN).map(Gap::to_string).collect();
        if !shown.is_empty() {
            write!(f, ": {}", shown.join("; "))?;
        }
        if self.missing.len() > SHOWN {
            write!(f, "; and {} more gaps", self.missing.len() - SHOWN)?;
        }
        if self.overflowed > 0 {
            write!(f, "; the receiver had no room for {}", self.overflowed)?;
        }
        if self.duplicates > 0 {
            write!(f, "; {} came again", self.duplicates)?;
        }
        if self.late.count > 0 {
            let Late { count, numbers, time } = self.late;
            write!(f, "; {count} came late, by up to {numbers} numbers and {time:.1?}")?;
        }
        if self.postponed > 0 {
            write!(f, "; the sender had no room {} times", self.postponed)?;
        }
        self.refused.iter().try_for_each(|refused| write!(f, "; refused: {refused}"))
    }
}

/// A TCP connection from one pod to another.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// From where to where.
    pub way: Way,
    /// How many bytes were sent.
    pub sent: u64,
    /// How many of them have come, each the right one.
    pub received: u64,
    /// The longest time in which nothing came of what was on its way.
    pub longest_pause: Duration,
    /// How many segments were sent again.
    pub retransmits: u64,
    /// How it broke.
    pub wrong: Option<String>,
}

impl StreamReport {
    /// Whether each byte came, and the connection never stood still.
    pub fn is_clean(&self) -> bool {
        self.wrong.is_none() && self.received == self.sent && self.longest_pause <= wait::scaled(STALL)
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, sent, received, longest_pause, retransmits, wrong } = self;
        write!(f, "{way}: {received} of {sent} bytes by TCP, {longest_pause:.1?} the longest pause")?;
        if *retransmits > 0 {
            write!(f, ", {retransmits} segments sent again")?;
        }
        wrong.iter().try_for_each(|wrong| write!(f, "; broken: {wrong}"))
    }
}

/// What became of all of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it went on.
    pub lasted: Duration,
    /// The datagrams, one for each way.
    pub flows: Vec<FlowReport>,
    /// The connections, one for each way.
    pub streams: Vec<StreamReport>,
    /// Packets that the queues of this machine's processors had no room for meanwhile, whosever they were.
    pub backlog_drops: u64,
}

impl Report {
    /// Datagrams that were sent.
    pub fn sent(&self) -> u64 {
        self.flows.iter().map(|flow| flow.sent).sum()
    }

    /// Datagrams that the network has lost.
    pub fn lost(&self) -> u64 {
        self.flows.iter().map(FlowReport::lost).sum()
    }

    /// Bytes that came by TCP, each compared.
    pub fn bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.received).sum()
    }

    /// Those behind higher numbers, of all flows: how many, and by how much at most.
    pub fn late(&self) -> Late {
        self.flows.iter().map(|flow| flow.late).fold(Late::default(), |all, late| Late {
            count: all.count + late.count,
            numbers: all.numbers.max(late.numbers),
            time: all.time.max(late.time),
        })
    }

    /// Whether each datagram and each byte came, once, and no connection broke or stood still.
    pub fn is_clean(&self) -> bool {
        self.flows.iter().all(FlowReport::is_clean) && self.streams.iter().all(StreamReport::is_clean)
    }

    /// Panics with all of it unless it is clean, and unless enough was sent to tell.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
        assert!(self.flows.iter().all(|flow| flow.sent > 100), "too few to tell: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, lost, bytes) = (self.sent(), self.lost(), self.bytes());
        write!(
            f,
            "{lost} of {sent} datagrams lost in {:.1?}, and {bytes} bytes by TCP compared",
            self.lasted
        )?;
        let Late { count, numbers, time } = self.late();
        if count > 0 {
            write!(f, "; {count} came late, by up to {numbers} numbers and {time:.1?}")?;
        }
        if self.backlog_drops > 0 {
            write!(f, "; this machine's processors had no room for {} packets", self.backlog_drops)?;
        }
        self.flows.iter().filter(|flow| !flow.is_clean()).try_for_each(|flow| write!(f, "\n  {flow}"))?;
        self.streams
            .iter()
            .filter(|stream| !stream.is_clean())
            .try_for_each(|stream| write!(f, "\n  {stream}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::arrivals::Arrivals;
    use super::*;

    fn way() -> Way {
        let address = |last| IpAddr::from([10, 5, last, 2]);
        Way { from: "one".to_owned(), to: "other".to_owned(), source: address(1), target: address(2) }
    }

    /// Of 200 datagrams these have not come.
    fn flow(without: std::ops::Range<u64>) -> FlowReport {
        let mut arrivals = Arrivals::default();
        for number in (0..200).filter(|number| !without.contains(number)) {
            arrivals.note(number, Duration::from_millis(number), Duration::from_millis(number));
        }
        FlowReport {
            way: way(),
            sent: 200,
            received: arrivals.unique(),
            missing: arrivals.missing(200, Duration::from_millis(200)),
            overflowed: 0,
            duplicates: 0,
            late: arrivals.late(),
            postponed: 0,
            refused: None,
        }
    }

    fn stream() -> StreamReport {
        let longest_pause = Duration::from_millis(3);
        StreamReport { way: way(), sent: 7, received: 7, longest_pause, retransmits: 0, wrong: None }
    }

    fn report(flow: FlowReport, stream: StreamReport) -> Report {
        let (flows, streams) = (vec![flow], vec![stream]);
        Report { lasted: Duration::from_secs(1), flows, streams, backlog_drops: 0 }
    }

    #[test]
    fn a_lost_datagram_is_named_with_its_way_and_its_time() {
        let report = report(flow(7..9), stream());
        assert!(!report.is_clean());
        assert_eq!(report.lost(), 2);
        let text = report.to_string();
        assert!(text.contains("one → other (10.5.1.2 → 10.5.2.2): 2 of 200"), "{text}");
        assert!(text.contains("7–8 sent between 6.0 and 9.0 ms"), "{text}");
    }

    #[test]
    fn what_the_receiver_had_no_room_for_the_network_has_not_lost() {
        let overflowed = FlowReport { overflowed: 2, ..flow(7..9) };
        assert!(report(overflowed.clone(), stream()).is_clean());
        assert_eq!(FlowReport { overflowed: 1, ..overflowed }.lost(), 1);
    }

    #[test]
    fn a_connection_that_breaks_stalls_or_falls_short_is_not_clean() {
        let clean = |stream: StreamReport| report(flow(0..0), stream).is_clean();
        assert!(clean(stream()));
        assert!(!clean(StreamReport { received: 6, ..stream() }));
        assert!(!clean(StreamReport { wrong: Some("reset".to_owned()), ..stream() }));
        assert!(!clean(StreamReport { longest_pause: wait::scaled(STALL) * 2, ..stream() }));
    }

    #[test]
    #[should_panic(expected = "1 of 200 datagrams lost")]
    fn a_report_that_is_not_clean_panics_with_what_was_lost() {
        report(flow(199..200), stream()).assert_clean();
    }
}
