//! Traffic between pods of which each packet is counted: numbered datagrams, a thousand a second from each pod to each other in each family,
//! and TCP connections with bytes that both ends know.
//!
//! A packet that the network has lost is told from one that a busy machine had no room for, at either end. One thread sends and one
//! receives, however many ways there are: what is sent waits for nobody.

mod arrivals;
mod flow;
mod report;
mod socket_info;
mod stream;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

pub use arrivals::{Gap, Late};
pub use report::{FlowReport, Report, StreamReport, Way};

use crate::{Pod, wait};

/// How often is looked for what has come.
const LOOK: Duration = Duration::from_millis(2);
/// At least so long the sender sleeps: where it is behind, others shall have a turn, too.
const REST: Duration = Duration::from_micros(200);
/// How long is waited for datagrams that are still on their way, and for the rest of the connections.
const GRACE: Duration = Duration::from_secs(3);
const STREAM_GRACE: Duration = Duration::from_secs(15);

/// Traffic that flows until it is stopped or dropped.
pub struct Traffic {
    begin: Instant,
    ways: Vec<Way>,
    flows: Vec<Arc<flow::Progress>>,
    streams: Vec<Arc<stream::Progress>>,
    backlog_drops: u64,
    sender: Worker<Sources>,
    receiver: Worker<Sinks>,
}

impl Traffic {
    /// From each pod to each other, both ways. Waits until it flows.
    pub fn among<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> Result<Self> {
        let pods: Vec<&Pod> = pods.into_iter().collect();
        let pairs = pods.iter().enumerate().flat_map(|(at, from)| {
            let others = pods.iter().enumerate().filter(move |(other, _)| *other != at);
            others.map(|(_, to)| (*from, *to))
        });
        Self::start(pairs.collect::<Vec<_>>())
    }

    /// From one pod to another each, in each family that both have. Waits until it flows.
    pub fn start<'p>(pairs: impl IntoIterator<Item = (&'p Pod, &'p Pod)>) -> Result<Self> {
        let token = RandomState::new().build_hasher().finish();
        let (mut ways, mut flows, mut streams) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sources, mut sinks) = (Sources::default(), Sinks::default());
        for (from, to) in pairs {
            for way in ways_between(from, to) {
                let token = token.wrapping_add(ways.len() as u64);
                let (source, sink, progress) = flow::open(from, to, &way, token)?;
                sources.flows.push(source);
                sinks.flows.push(sink);
                flows.push(progress);
                let (source, sink, progress) = stream::open(from, to, &way, token)?;
                sources.streams.push(source);
                sinks.streams.push(sink);
                streams.push(progress);
                ways.push(way);
            }
        }
        let backlog_drops = backlog_drops()?;
        let begin = Instant::now();
        let receiver = Worker::start("traffic's receiver", move |stop| sinks.receive(begin, stop))?;
        let sender = Worker::start("traffic's sender", move |stop| sources.send(begin, stop))?;
        let traffic = Self { begin, ways, flows, streams, backlog_drops, sender, receiver };
        traffic.goes_on()?;
        Ok(traffic)
    }

    /// How long it has flowed. Times in the report are since the same moment.
    pub fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Waits until something more has come on each way.
    pub fn goes_on(&self) -> Result<()> {
        let datagrams: Vec<u64> = self.flows.iter().map(|flow| flow.arrived()).collect();
        let bytes: Vec<u64> = self.streams.iter().map(|stream| stream.received()).collect();
        let what = "something more comes on each way";
        wait::until_equal(what, || {
            let flows = self.flows.iter().zip(&datagrams).map(|(flow, before)| flow.arrived() > *before);
            let streams = self.streams.iter().zip(&bytes);
            let streams = streams.map(|(stream, before)| stream.received() > *before || stream.is_over());
            let mut both = self.ways.iter().zip(flows.zip(streams));
            let still = both.find(|(_, (flow, stream))| !(*flow && *stream));
            Ok(still.map(|(way, (flow, _))| {
                format!("{way}: no {}", if flow { "bytes by TCP" } else { "datagrams" })
            }))
        })?;
        Ok(())
    }

    /// Stops it, waits for what is still on its way, and says what became of it.
    pub fn stop(self) -> Result<Report> {
        let sources = self.sender.stop()?;
        let end = self.begin.elapsed();
        // That something has not come by then is what the report tells.
        wait_until(GRACE, || self.flows.iter().all(|flow| flow.is_complete()));
        wait_until(STREAM_GRACE, || self.streams.iter().all(|stream| stream.is_over()));
        let sinks = self.receiver.stop()?;
        let last = self.begin.elapsed();
        let flows = self.ways.iter().zip(sources.flows.iter().zip(&sinks.flows));
        let flows = flows.map(|(way, (source, sink))| flow::report(way.clone(), source, sink, end));
        let streams = self.ways.iter().zip(sources.streams.iter().zip(&sinks.streams));
        let streams = streams.map(|(way, (source, sink))| stream::report(way.clone(), source, sink, last));
        Ok(Report {
            lasted: end,
            flows: flows.collect::<Result<_>>()?,
            streams: streams.collect::<Result<_>>()?,
            backlog_drops: backlog_drops()?.saturating_sub(self.backlog_drops),
        })
    }
}

/// The ends that send.
#[derive(Default)]
struct Sources {
    flows: Vec<flow::Source>,
    streams: Vec<stream::Source>,
}

impl Sources {
    /// Sends until it is told to stop.
    fn send(mut self, begin: Instant, stop: &AtomicBool) -> Self {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            for flow in &mut self.flows {
                flow.send_due(begin);
            }
            for stream in &mut self.streams {
                stream.send_due(begin);
            }
            turn += 1;
            let next = flow::INTERVAL * turn;
            std::thread::sleep(next.saturating_sub(begin.elapsed()).max(REST));
        }
        for stream in &mut self.streams {
            stream.end();
        }
        self
    }
}

/// The ends that receive.
#[derive(Default)]
struct Sinks {
    flows: Vec<flow::Sink>,
    streams: Vec<stream::Sink>,
}

impl Sinks {
    /// Receives until it is told to stop.
    fn receive(mut self, begin: Instant, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            for flow in &mut self.flows {
                flow.receive(begin);
            }
            for stream in &mut self.streams {
                stream.receive(begin);
            }
            std::thread::sleep(LOOK);
        }
        self
    }
}

fn ways_between(from: &Pod, to: &Pod) -> Vec<Way> {
    let sources = from.addresses();
    let of_family = |target: &IpAddr| sources.iter().find(|source| source.is_ipv4() == target.is_ipv4());
    let name = |pod: &Pod| pod.namespace().name().to_owned();
    let way = |target| Some(Way { from: name(from), to: name(to), source: *of_family(&target)?, target });
    to.addresses().into_iter().filter_map(way).collect()
}

/// Waits that long at most, as an ordinary machine would.
fn wait_until(longest: Duration, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() && begin.elapsed() < wait::scaled(longest) {
        std::thread::sleep(LOOK);
    }
}

/// Packets that the queues of this machine's processors had no room for, since it started.
fn backlog_drops() -> Result<u64> {
    let file = "/proc/net/softnet_stat";
    let text = std::fs::read_to_string(file).context(file)?;
    let of = |line: &str| -> Result<u64> {
        let dropped = line.split_whitespace().nth(1).context("a second column")?;
        Ok(u64::from_str_radix(dropped, 16)?)
    };
    text.lines().map(of).sum::<Result<u64>>().context(file)
}

/// A thread that works until it is told to stop, or dropped.
struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&told));
        Ok(Self { stop, thread: Some(thread.context("cannot start a thread")?) })
    }

    fn stop(mut self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a thread that was stopped before")?;
        thread.join().map_err(|_| anyhow!("a thread of the traffic panicked"))
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has said so on standard error.
            let _ = thread.join();
        }
    }
}
