//! A thread of the tunnel: waits for its queue and sockets, and lets both directions run in turn.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flannel_model::offloads::Offloads;
use rustix::event::{PollFd, PollFlags};

use super::adaptive_poll::AdaptivePoll;
use super::counters::Counters;
use super::device::Queue;
use super::egress::Egress;
use super::icmp_sender::IcmpSender;
use super::ingress::Ingress;
use super::path::Path;
use super::peer_table::{Shared, View};
use super::socket::{Sockets, read_errors, stop_coalescing};

/// Batches of one direction before the other gets its turn.
const TURNS: usize = 4;

/// What a thread works on.
pub(crate) struct TunnelQueue {
    /// Its queue of the device.
    pub queue: Queue,
    /// Its sockets.
    pub sockets: Sockets,
    /// For ICMP errors.
    pub answerer: IcmpSender,
    /// Its counters.
    pub tallies: Arc<Counters>,
}

impl TunnelQueue {
    /// The queue and the sockets.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let Sockets { v4, v6 } = &self.sockets;
        std::iter::once(self.queue.as_fd()).chain(v4.iter().chain(v6).map(AsFd::as_fd))
    }
}

/// What may be used, as found.
#[derive(Clone, Copy)]
pub(crate) struct QueueHandles {
    /// See there.
    pub offloads: Offloads,
    /// The device takes super-packets of UDP too.
    pub uso: bool,
}

/// Waits until `settled` becomes readable, then runs until `stop` does. `lost` is set when the device is gone, or the thread can
/// do no more.
pub(crate) fn run(
    lane: &TunnelQueue,
    means: QueueHandles,
    shared: Arc<Shared>,
    [stop, settled]: [&OwnedFd; 2],
    lost: &AtomicBool,
) {
    let mut gate = [PollFd::new(stop, PollFlags::IN), PollFd::new(settled, PollFlags::IN)];
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut gate, None) {}
    let mut view = View::new(shared);
    let mut egress = Egress::new(means.offloads.gso);
    let mut ingress = Ingress::new(means.offloads.gro, means.offloads.tso, means.uso);
    let mut device = true;
    // Sockets in which an earlier process may have left it on: until none of its datagrams waits.
    let mut coalescing = [!means.offloads.gro; 2];
    let mut lull = AdaptivePoll::default();
    // How many came in the latest round.
    let mut packets = usize::MAX;
    let nothing = PollFlags::empty();
    loop {
        // A descriptor that does not take part is replaced by the one that all wait for.
        let mut waits = [
            PollFd::new(stop, PollFlags::IN),
            if device { PollFd::new(&lane.queue, PollFlags::IN) } else { PollFd::new(stop, nothing) },
            lane.sockets.v4.as_ref().map_or(PollFd::new(stop, nothing), |s| PollFd::new(s, PollFlags::IN)),
            lane.sockets.v6.as_ref().map_or(PollFd::new(stop, nothing), |s| PollFd::new(s, PollFlags::IN)),
        ];
        match lull.wait(&mut waits, packets) {
            Ok(()) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                lost.store(true, Ordering::Relaxed);
                tracing::error!(%error, "a tunnel thread cannot wait for packets and stops");
                return;
            }
        }
        let ready = waits.map(|wait| wait.revents());
        if ready[0].contains(PollFlags::IN) {
            return;
        }
        let roster = view.refresh();
        let path = Path {
            roster,
            sockets: &lane.sockets,
            queue: &lane.queue,
            answerer: &lane.answerer,
            tallies: &lane.tallies,
        };
        packets = 0;
        if device && !ready[1].is_empty() {
            if let Ok(sent) = egress.run(path) {
                packets += sent;
            } else {
                device = false;
                if !lost.swap(true, Ordering::Relaxed) {
                    tracing::error!("the tunnel's TUN device is gone: somebody has deleted it");
                }
            }
        }
        let sockets = [(&lane.sockets.v4, ready[2]), (&lane.sockets.v6, ready[3])];
        for ((socket, ready), coalescing) in sockets.into_iter().zip(&mut coalescing) {
            let Some(socket) = socket else { continue };
            if ready.contains(PollFlags::ERR) {
                read_errors(socket.as_fd(), roster, &lane.tallies);
            }
            if ready.contains(PollFlags::IN) {
                for _ in 0..TURNS {
                    let (received, more) = ingress.run(socket.as_fd(), path);
                    packets += received;
                    if !more {
                        break;
                    }
                }
            }
            if *coalescing {
                *coalescing = !stop_coalescing(socket.as_fd());
            }
        }
    }
}
