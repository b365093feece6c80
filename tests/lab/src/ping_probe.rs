//! A ping that runs beside what a test does, and tells afterwards what was lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::echo::{Echo, EchoSocket};
use crate::{Namespace, Pod, wait};

/// How often is asked if nothing else is said: a hundred times a second.
pub const INTERVAL: Duration = Duration::from_millis(10);

/// As many packets tell whether any are lost.
const MANY: usize = 50;

/// How long an answer may take before the packet counts as lost.
const GRACE: Duration = Duration::from_secs(2);

/// What became of a request.
struct Probe {
    sent: Instant,
    answered: Option<Instant>,
    refused: bool,
}

#[derive(Default)]
struct Shared {
    probes: Mutex<Vec<Probe>>,
    stop: AtomicBool,
}

/// A ping that runs until it is dropped.
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A ping of each family from one pod to another, or among several.
pub struct Pings(Vec<Prober>);

impl Pings {
    /// Starts them.
    pub fn start(from: &Pod, to: &Pod) -> Result<Self> {
        Self::among([(from, to)], INTERVAL)
    }

    /// The same for several pairs of pods, at another interval.
    pub fn among<'p>(
        pairs: impl IntoIterator<Item = (&'p Pod, &'p Pod)>,
        interval: Duration,
    ) -> Result<Self> {
        let mut probers = Vec::new();
        for (from, to) in pairs {
            for address in to.addresses() {
                probers.push(Prober::start(from.namespace(), Echo::to(address), interval)?);
            }
        }
        Ok(Self(probers))
    }

    /// This moment.
    pub fn mark(&self) -> Vec<Mark> {
        self.0.iter().map(Prober::mark).collect()
    }

    /// What happened since a moment, all together.
    pub fn since(&self, marks: &[Mark]) -> Result<Report> {
        // All wait for late answers from the same moment on, and not one after the other.
        let now = Instant::now();
        let reports = self.0.iter().zip(marks).map(|(ping, mark)| ping.report_until(*mark, now));
        reports.reduce(Report::with).context("no ping runs")
    }

    /// What happened from the beginning.
    pub fn total(&self) -> Result<Report> {
        self.since(&vec![Mark::default(); self.0.len()])
    }

    /// Waits until packets pass again.
    pub fn flow(&self) -> Result<()> {
        self.0.iter().try_for_each(|ping| ping.first_answer(ping.mark()).map(drop))
    }

    /// Waits until each is answered.
    pub fn wait_answered(&self) -> Result<()> {
        self.0.iter().try_for_each(|ping| ping.first_answer(Mark::default()).map(drop))
    }

    /// All packets were answered. Waits until there were enough of them to tell.
    pub fn lost_nothing(&self) -> Result<()> {
        for ping in &self.0 {
            wait::until_true("many packets are sent", || Ok(ping.mark().0 >= MANY))?;
            let report = ping.total();
            if report.lost > 0 {
                bail!("packets were lost: {report:?}");
            }
        }
        Ok(())
    }
}

/// A moment in a prober's life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark(usize);

/// What happened between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Requests that were sent, or that the kernel refused to send.
    pub sent: usize,
    /// Those that were answered.
    pub received: usize,
    /// Those that were not.
    pub lost: usize,
    /// Of the lost ones, those that the kernel refused to send.
    pub refused: usize,
    /// The longest time from one answer to the next.
    pub longest_gap: Duration,
    /// The longest time from a request to its answer.
    pub slowest: Duration,
}

impl Prober {
    /// Starts pinging from a namespace.
    pub fn start(from: &Namespace, echo: Echo, interval: Duration) -> Result<Self> {
        let socket = EchoSocket::open(from, echo)?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("prober".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(socket, interval, &shared)
            })
            .context("cannot start a thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark(self.shared.with(|probes| probes.len()))
    }

    /// Waits until a request that was sent after that moment is answered. Answers when the answer came.
    pub fn first_answer(&self, since: Mark) -> Result<Instant> {
        let answered =
            || self.shared.with(|probes| probes[since.0..].iter().find_map(|probe| probe.answered));
        wait::until("an answer to the running ping", || Ok(answered())).map(|(when, _)| when)
    }

    /// What happened from a moment until now. Waits for answers that are still to come.
    pub fn report(&self, since: Mark) -> Report {
        self.report_until(since, Instant::now())
    }

    fn report_until(&self, since: Mark, now: Instant) -> Report {
        let end = self.mark().0;
        while now.elapsed() < wait::scaled(GRACE)
            && self.shared.with(|probes| probes[since.0..end].iter().any(Probe::open))
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.shared.with(|probes| evaluate(&probes[since.0..end], now))
    }

    /// What happened from the beginning until now.
    pub fn total(&self) -> Report {
        self.report(Mark::default())
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Probe {
    /// May an answer still come?
    fn open(&self) -> bool {
        self.answered.is_none() && !self.refused
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<Probe>) -> T) -> T {
        look(&mut self.probes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Report {
    /// Both together.
    fn with(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            lost: self.lost + other.lost,
            refused: self.refused + other.refused,
            longest_gap: self.longest_gap.max(other.longest_gap),
            slowest: self.slowest.max(other.slowest),
        }
    }

    /// The same in numbers for a machine, times in milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "longest_gap_ms": millis(self.longest_gap),
            "slowest_ms": millis(self.slowest),
        })
    }
}

/// Milliseconds with three places.
pub fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn run(mut socket: EchoSocket, interval: Duration, shared: &Shared) {
    let mut due = Instant::now();
    let mut sequence = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= due {
            let refused = socket.send(sequence).is_err();
            shared.with(|probes| probes.push(Probe { sent: now, answered: None, refused }));
            sequence += 1;
            // After a standstill of the machine, go on at the usual pace instead of sending all that was missed.
            due = (due + interval).max(now);
        }
        match socket.receive(due.saturating_duration_since(Instant::now())) {
            Ok(Some(answered)) => shared.with(|probes| {
                let probe = usize::try_from(answered).ok().and_then(|at| probes.get_mut(at));
                if let Some(probe) = probe.filter(|probe| probe.answered.is_none()) {
                    probe.answered = Some(Instant::now());
                }
            }),
            Ok(None) => {}
            // An error that stays must not make this a busy loop.
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn evaluate(probes: &[Probe], end: Instant) -> Report {
    let mut answers: Vec<Instant> = probes.iter().filter_map(|probe| probe.answered).collect();
    answers.sort_unstable();
    let begin = probes.first().map(|probe| probe.sent);
    let moments: Vec<Instant> =
        begin.into_iter().chain(answers.iter().copied()).chain(begin.map(|_| end)).collect();
    let gap = moments.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max();
    let slowest =
        probes.iter().filter_map(|probe| Some(probe.answered?.saturating_duration_since(probe.sent))).max();
    Report {
        sent: probes.len(),
        received: answers.len(),
        lost: probes.len() - answers.len(),
        refused: probes.iter().filter(|probe| probe.refused).count(),
        longest_gap: gap.unwrap_or_default(),
        slowest: slowest.unwrap_or_default(),
    }
}
