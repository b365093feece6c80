//! The datapath of the `udp` backend: a TUN device on one side, UDP sockets on the other, threads between them.
//!
//! On the wire it is upstream flannel's: the payload of each datagram is one inner packet, without any header, sent from
//! and to the configured port. IPv6, inner and outer, is an extension between nodes of ours. Addresses, MTU, "up" and
//! routes of the device are set elsewhere, by netlink.
//!
//! ```text
//!            Egress: read until empty, look up, split, checksum       TxBatch, Sender
//!   TUN  ──────────────────────────────────────────────────────────▶  sendmmsg, UDP_SEGMENT
//!  queue ◀──────────────────────────────────────────────────────────  recvmmsg, UDP_GRO
//!            Coalescer: merge            Ingress: check, look up      Receiver
//! ```

#![warn(unreachable_pub)]

mod adaptive_poll;
mod bytes;
mod checksum;
mod coalesce;
mod counters;
mod device;
mod egress;
mod endpoint;
mod error;
mod fragment;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod icmp;
mod icmp_sender;
mod ingress;
mod inherited;
mod limiter;
mod merge;
mod meter;
mod packet;
mod path;
mod peer_table;
mod receiver;
mod segment;
mod sender;
mod socket;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod tx_batch;
mod vnet;
mod worker;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use flannel_model::offloads::Offloads;
use rustix::event::{EventfdFlags, eventfd};

pub use checksum::internet_checksum;
pub use counters::{PeerCounters, Reason, Traffic, TunnelCounters};
pub use error::TunnelError;
#[cfg(any(test, feature = "fuzz"))]
pub use fuzz::fuzz;
pub use icmp::Addresses;
pub use inherited::Inherited;
pub use meter::Meter;
pub use spec::{DEFAULT_PORT, PeerChange, TunnelPeer, TunnelSpec};

use counters::Counters;
use device::Device;
use icmp_sender::IcmpSender;
use peer_table::{PeerTable, Shared};
use socket::Sockets;
use worker::{QueueHandles, TunnelQueue};

/// A tunnel at work. Dropping it stops its threads and closes its descriptors; a device that is not persistent goes.
pub struct Tunnel {
    name: String,
    index: u32,
    offloads: Offloads,
    shared: Arc<Shared>,
    tallies: Vec<Arc<Counters>>,
    stop: Arc<OwnedFd>,
    settled: Arc<OwnedFd>,
    lost: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// All queues and sockets, for [`Tunnel::descriptors`].
    lanes: Vec<Arc<TunnelQueue>>,
}

impl Tunnel {
    /// Opens the device and the sockets in the calling thread's network namespace, and starts the threads, which wait for
    /// [`Tunnel::start_forwarding`]. Blocks for up to 0.2 s where the port is in use.
    pub fn open(spec: &TunnelSpec) -> Result<Self, TunnelError> {
        Self::inherit(spec, Inherited::default())
    }

    /// The same with queues and sockets that an earlier process of ours has left, and with the packets that wait in them.
    pub fn inherit(spec: &TunnelSpec, inherited: Inherited) -> Result<Self, TunnelError> {
        let queues = spec.lanes();
        let mut offloads = spec.offloads;
        let addresses = spec.bound();
        if addresses == [None, None] {
            return Err(TunnelError::NoAddress);
        }
        // The sockets first: when a tunnel is at work already, the port says so before its device gives a queue away.
        let mut sockets = Vec::new();
        for (address, bound) in addresses.into_iter().zip(inherited.sockets) {
            let open = |address| socket::open(address, queues, bound, &mut offloads);
            sockets.push(address.map(open).transpose()?.unwrap_or_default());
        }
        let device = Device::open(&spec.name, queues, inherited.queues, offloads.tso, spec.persist)?;
        offloads.tso = device.tso;
        let means = QueueHandles { offloads, uso: device.uso };

        let ports = (spec.ipv4.map_or(0, |a| a.port()), spec.ipv6.map_or(0, |a| a.port()));
        let shared = Arc::new(Shared::new(PeerTable::new(ports, spec.addresses, spec.mtu as usize)));
        let bell = || {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map(Arc::new)
                .map_err(|error| TunnelError::Thread(error.into()))
        };
        let mut tunnel = Self {
            name: device.name,
            index: device.index,
            offloads,
            shared,
            tallies: Vec::new(),
            stop: bell()?,
            settled: bell()?,
            lost: Arc::default(),
            threads: Vec::new(),
            lanes: Vec::new(),
        };
        let mut sockets = sockets.into_iter().map(Vec::into_iter);
        let (mut v4, mut v6) = (sockets.next().into_iter().flatten(), sockets.next().into_iter().flatten());
        for queue in device.queues {
            let sockets = Sockets { v4: v4.next(), v6: v6.next() };
            let lane = TunnelQueue { queue, sockets, answerer: IcmpSender::open(), tallies: Arc::default() };
            tunnel.start(Arc::new(lane), means)?;
        }
        Ok(tunnel)
    }

    fn start(&mut self, lane: Arc<TunnelQueue>, means: QueueHandles) -> Result<(), TunnelError> {
        self.tallies.push(Arc::clone(&lane.tallies));
        self.lanes.push(Arc::clone(&lane));
        let (shared, stop, lost) = (Arc::clone(&self.shared), Arc::clone(&self.stop), Arc::clone(&self.lost));
        let settled = Arc::clone(&self.settled);
        let thread = std::thread::Builder::new()
            .name(format!("tunnel-{}", self.threads.len()))
            .spawn(move || {
                let work = AssertUnwindSafe(|| worker::run(&lane, means, shared, [&stop, &settled], &lost));
                if catch_unwind(work).is_err() {
                    // The queue and the socket would go on filling, unread.
                    lost.store(true, Ordering::Relaxed);
                    tracing::error!("a tunnel thread has panicked: its share of the packets is lost");
                }
            })
            .map_err(TunnelError::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// What was found to be usable when the tunnel was opened. A thread that meets a link without segmentation later
    /// goes on without, and logs it.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Whether the device has been deleted under the tunnel, or a thread has failed: then only a new tunnel helps.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Makes `peers` the only ones, and lets packets pass. Those that stay keep their counters.
    pub fn set_peers(&self, peers: &[TunnelPeer]) {
        self.shared.change(|table| table.replace(peers));
        self.start_forwarding();
    }

    /// Changes some peers. Threads see all the changes at once, from their next batch on.
    pub fn update(&self, changes: &[PeerChange]) {
        self.shared.change(|table| changes.iter().for_each(|change| table.apply(change)));
    }

    /// Says that all peers are known: from now on packets pass. Until then they wait in the kernel, since whose they are may turn
    /// out in a moment.
    pub fn start_forwarding(&self) {
        if let Err(error) = rustix::io::write(&*self.settled, &1u64.to_ne_bytes()) {
            tracing::error!(%error, "the tunnel's threads cannot be told to begin");
        }
    }

    /// All queues and sockets: who keeps a duplicate of them keeps the packets that wait in them, too.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.lanes.iter().flat_map(|lane| lane.descriptors()).collect()
    }

    /// Sets the source addresses of ICMP errors.
    pub fn set_addresses(&self, addresses: Addresses) {
        self.shared.change(|table| table.addresses = addresses);
    }

    /// Sets the bytes of the largest inner packet; see [`TunnelSpec::mtu`].
    pub fn set_mtu(&self, mtu: u32) {
        self.shared.change(|table| table.mtu = mtu as usize);
    }

    /// What has passed so far.
    pub fn counters(&self) -> TunnelCounters {
        self.meter().counters()
    }

    /// The way to the counters without the tunnel.
    pub fn meter(&self) -> Meter {
        Meter::new(Arc::clone(&self.shared), self.tallies.clone())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // The counter of the eventfd is never read: it stays readable, for all threads.
        if let Err(error) = rustix::io::write(&*self.stop, &1u64.to_ne_bytes()) {
            tracing::error!(%error, "the tunnel's threads cannot be told to stop");
            return;
        }
        for thread in self.threads.drain(..) {
            // A panic has been reported by the thread.
            let _ = thread.join();
        }
    }
}
