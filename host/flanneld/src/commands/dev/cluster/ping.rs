//! Numbered packets from one node's pod to the other's and back, all the time and in each family. They are UDP, so that it takes no program and no
//! pod but an address.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::network::Network;

/// A packet is sent so often, in each family.
const INTERVAL: Duration = Duration::from_millis(5);
/// An answer that takes longer is none.
const LATE: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(1);
/// Numbers of packets, and one of the family in front.
const LENGTH: usize = 8;

/// What became of the packets so far: by family, by their numbers, whether there was an answer.
type Answered = Arc<Mutex<Vec<Vec<bool>>>>;

/// A ping that goes on until this is dropped.
pub(super) struct Ping {
    answered: Answered,
    begin: Instant,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What came of the packets since a mark.
pub(super) struct Report {
    pub sent: usize,
    pub lost: usize,
    /// The last ones were answered, in each family.
    pub passes: bool,
}

/// A way there and back.
struct Way {
    from: UdpSocket,
    to: UdpSocket,
    destination: SocketAddr,
}

impl Ping {
    /// Begins between the pods of two nodes, which have addresses of the same families in the same order.
    pub(super) fn start(network: &Network, pods: &[Vec<IpAddr>]) -> anyhow::Result<Self> {
        let [one, other] = pods else { return Err(anyhow!("a ping is between two")) };
        let mut ways = Vec::new();
        for (from, to) in one.iter().zip(other) {
            let to = socket(network, 1, *to)?;
            let destination = to.local_addr().context("a socket's address")?;
            ways.push(Way { from: socket(network, 0, *from)?, to, destination });
        }
        let answered: Answered = Arc::new(Mutex::new(vec![Vec::new(); ways.len()]));
        let ends = Arc::new(AtomicBool::new(false));
        let (written, until) = (Arc::clone(&answered), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let mut next = Instant::now();
            while !until.load(Ordering::Relaxed) {
                if Instant::now() >= next {
                    next += INTERVAL;
                    ways.iter().enumerate().for_each(|(index, way)| way.send(&written, index));
                }
                ways.iter().enumerate().for_each(|(index, way)| way.receive(&written, index));
                std::thread::sleep(LOOK);
            }
        });
        Ok(Self { answered, begin: Instant::now(), ends, thread: Some(thread) })
    }

    /// How long the first answer took, once there is one in each family; none: there is none within that time.
    pub(super) fn first_answer(&self, patience: Duration) -> Option<Duration> {
        while self.begin.elapsed() < patience {
            if locked(&self.answered).iter().all(|packets| packets.contains(&true)) {
                return Some(self.begin.elapsed());
            }
            std::thread::sleep(LOOK);
        }
        None
    }

    /// How many packets were sent so far, in each family.
    pub(super) fn mark(&self) -> Vec<usize> {
        locked(&self.answered).iter().map(Vec::len).collect()
    }

    /// What came of the packets since then: waits until those that are sent from now on are answered, as long as that may take.
    pub(super) fn report(&self, mark: Vec<usize>, patience: Duration) -> Report {
        let (begin, now) = (Instant::now(), self.mark());
        let passes = loop {
            let passes = {
                let answered = locked(&self.answered);
                let later =
                    answered.iter().zip(&now).map(|(packets, now)| packets.get(*now..).unwrap_or(&[]));
                later.into_iter().all(|packets| packets.contains(&true))
            };
            if passes || begin.elapsed() > patience {
                break passes;
            }
            std::thread::sleep(LOOK);
        };
        let until = self.mark();
        std::thread::sleep(LATE);
        let answered = locked(&self.answered);
        let ranges = answered.iter().zip(mark.into_iter().zip(until));
        let (mut sent, mut lost) = (0, 0);
        for (packets, (from, until)) in ranges {
            let packets = packets.get(from..until).unwrap_or(&[]);
            sent += packets.len();
            lost += packets.iter().filter(|answered| !**answered).count();
        }
        Report { sent, lost, passes }
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Way {
    /// One that cannot be sent, for want of a route, say, is lost.
    fn send(&self, answered: &Answered, index: usize) {
        let number = {
            let mut answered = locked(answered);
            let Some(packets) = answered.get_mut(index) else { return };
            packets.push(false);
            packets.len() as u64 - 1
        };
        let _ = self.from.send_to(&number.to_be_bytes(), self.destination);
    }

    fn receive(&self, answered: &Answered, index: usize) {
        let mut packet = [0; LENGTH];
        while let Ok((LENGTH, from)) = self.to.recv_from(&mut packet) {
            let _ = self.to.send_to(&packet, from);
        }
        while let Ok((LENGTH, _)) = self.from.recv_from(&mut packet) {
            let number = usize::try_from(u64::from_be_bytes(packet)).unwrap_or(usize::MAX);
            let mut answered = locked(answered);
            if let Some(packet) = answered.get_mut(index).and_then(|packets| packets.get_mut(number)) {
                *packet = true;
            }
        }
    }
}

fn locked(answered: &Answered) -> std::sync::MutexGuard<'_, Vec<Vec<bool>>> {
    answered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket in a node's namespace: it stays there, whatever thread uses it.
fn socket(network: &Network, node: usize, address: IpAddr) -> anyhow::Result<UdpSocket> {
    let made = network.inside(node, || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    made.with_context(|| format!("cannot make a socket of {address} on node {}", node + 1))
}
