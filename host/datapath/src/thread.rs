//! The reconciler's thread, and the handle by which the rest of the daemon talks to it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flannel_model::entry::{DeviceSpec, Mac};
use flannel_model::ledger::{PeerId, Slot, Transaction};
use flannel_model::wireguard::PublicKey;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::oneshot;

use super::ipsec::KeyRing;
use super::kinds;
use super::links;
use super::netlink::{NetlinkError, Payload, RequestSocket};
use super::reconciler::{Event, Reconciler};
use super::report::{PeerReport, Report};
use super::tunnels::TunnelContext;
use super::wireguard::WireguardSocket;

/// Why the datapath does not answer.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel could not be talked to.
    #[error("the kernel's network configuration is out of reach: {0}")]
    Netlink(#[from] NetlinkError),
    /// Something other than netlink failed.
    #[error("the datapath cannot run: {0}")]
    System(#[from] std::io::Error),
    /// The thread is gone.
    #[error("the datapath has stopped")]
    Stopped,
}

/// Says whether this daemon may have a device of this name, or why not.
pub type DeviceClaim = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What the datapath has to do with the rest of the daemon.
#[derive(Clone, Default)]
pub struct Context {
    /// What tunnels have.
    pub tunnels: TunnelContext,
    /// This node's keys for IPsec.
    pub ipsec: KeyRing,
    /// The file in which it is written down which routes over the external interface are ours.
    pub record: Option<PathBuf>,
    /// The file in which it is written down what a change of the backend has changed of things that are not ours.
    pub trial_record: Option<PathBuf>,
    /// Whom devices are asked from, if there may be other daemons.
    pub claim: Option<DeviceClaim>,
    /// The cluster's networks without those that it had before, for the mark on our devices; empty: all are in force.
    pub in_force: Vec<IpNet>,
    /// The names of the interfaces that plugins may use beside the external one.
    pub uplinks: Vec<String>,
}

enum Command {
    Commit(Box<Transaction>, oneshot::Sender<Report>),
    Replace(Box<Transaction>, oneshot::Sender<Result<Report, String>>),
    StartForwarding(oneshot::Sender<Report>),
    PruneStale(oneshot::Sender<Report>),
    Begin(Box<Transaction>, BTreeSet<IpNet>, Slot, oneshot::Sender<Result<u32, String>>),
    CommitBeside(Box<Transaction>, Vec<(PeerId, Vec<IpNet>)>, oneshot::Sender<Report>),
    Use(Vec<(PeerId, Slot, Vec<IpNet>)>, oneshot::Sender<Report>),
    SetTarget(Slot, oneshot::Sender<Report>),
    End(Slot, oneshot::Sender<Report>),
    Report(oneshot::Sender<Report>),
    Peers(oneshot::Sender<HashMap<PeerId, PeerReport>>),
    Stop,
}

/// The way to the reconciler. Dropping it stops the thread and leaves the kernel as it is.
pub struct Datapath {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Datapath {
    /// Starts the reconciler in the calling thread's network namespace. Nothing is changed before the first commit.
    /// `external` is the external interface's name, `networks` are the cluster networks.
    pub fn start(
        external: &str,
        networks: Vec<IpNet>,
        context: Context,
    ) -> Result<(Self, tokio::sync::mpsc::UnboundedReceiver<Event>), DatapathError> {
        let (events, heard) = tokio::sync::mpsc::unbounded_channel();
        let reconciler = Reconciler::open(external, networks, context, events)?;
        let wake = Arc::new(
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(std::io::Error::from)?,
        );
        let (commands, inbox) = channel();
        let bell = Arc::clone(&wake);
        let thread = std::thread::Builder::new()
            .name("reconciler".into())
            .spawn(move || run(reconciler, &inbox, &bell))?;
        Ok((Self { commands, wake, thread: Mutex::new(Some(thread)) }, heard))
    }

    fn send(&self, command: Command) -> Result<(), DatapathError> {
        self.commands.send(command).map_err(|_| DatapathError::Stopped)?;
        notify(&self.wake);
        Ok(())
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, DatapathError> {
        let (sender, answer) = oneshot::channel();
        self.send(command(sender))?;
        answer.await.map_err(|_| DatapathError::Stopped)
    }

    /// Makes a transaction part of what should be. Returns when the kernel was brought there as far as it would go.
    pub async fn commit(&self, transaction: Transaction) -> Result<Report, DatapathError> {
        self.ask(|answer| Command::Commit(Box::new(transaction), answer)).await
    }

    /// Puts a whole desired state in the place of what there is: only the difference reaches the kernel. The inner error says what
    /// the kernel refused; then all is as it was.
    pub async fn replace(&self, whole: Transaction) -> Result<Result<Report, String>, DatapathError> {
        self.ask(|answer| Command::Replace(Box::new(whole), answer)).await
    }

    /// Says that the peers that can be had at the moment have been committed, and that others may follow: tunnels let packets pass
    /// from now on, and leftovers of earlier runs stay.
    pub async fn start_forwarding(&self) -> Result<Report, DatapathError> {
        self.ask(Command::StartForwarding).await
    }

    /// Says that all peers have been committed: leftovers of earlier runs are removed now, and from now on.
    pub async fn prune_stale(&self) -> Result<Report, DatapathError> {
        self.ask(Command::PruneStale).await
    }

    /// Begins a change of the backend: another generation's devices are made beside those that are there, and the ground for trials with
    /// these addresses of the node's own. `usual`: by which generation peers are reached that nothing is said of. Answers with the mark of
    /// packets that go by the routes on trial; or why it cannot be, and then all is as it was.
    pub async fn begin_change(
        &self,
        registered: Transaction,
        addresses: BTreeSet<IpNet>,
        usual: Slot,
    ) -> Result<Result<u32, String>, DatapathError> {
        self.ask(|answer| Command::Begin(Box::new(registered), addresses, usual, answer)).await
    }

    /// Makes a transaction part of what the generation beside the one that serves wants. `subnets`: those of its peers.
    pub async fn commit_beside(
        &self,
        transaction: Transaction,
        subnets: Vec<(PeerId, Vec<IpNet>)>,
    ) -> Result<Report, DatapathError> {
        self.ask(|answer| Command::CommitBeside(Box::new(transaction), subnets, answer)).await
    }

    /// Says by which generation peers are reached from now on, and which subnets they have.
    pub async fn use_for(&self, peers: Vec<(PeerId, Slot, Vec<IpNet>)>) -> Result<Report, DatapathError> {
        self.ask(|answer| Command::Use(peers, answer)).await
    }

    /// Says which generation's routes are on trial from now on.
    pub async fn set_target(&self, target: Slot) -> Result<Report, DatapathError> {
        self.ask(|answer| Command::SetTarget(target, answer)).await
    }

    /// Ends the change: one generation serves alone, and all else goes. What the kernel refuses of that is tried again.
    pub async fn end_change(&self, kept: Slot) -> Result<Report, DatapathError> {
        self.ask(|answer| Command::End(kept, answer)).await
    }

    /// How things stand.
    pub async fn report(&self) -> Result<Report, DatapathError> {
        self.ask(Command::Report).await
    }

    /// How things stand, peer by peer.
    pub async fn peers(&self) -> Result<HashMap<PeerId, PeerReport>, DatapathError> {
        self.ask(Command::Peers).await
    }

    /// Stops the thread after all that it was asked for, waits for its end, and leaves the kernel as it is. Who asks for something
    /// afterwards hears [`DatapathError::Stopped`].
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It may have ended by itself. A panic in there has been reported by the panic hook.
            let _ = self.send(Command::Stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.stop();
    }
}

fn notify(bell: &OwnedFd) {
    // It can only fail when it has rung 2^64 times without being heard, and then it still rings.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn run(mut reconciler: Reconciler, inbox: &Receiver<Command>, bell: &OwnedFd) {
    loop {
        loop {
            match inbox.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Ok(command) => dispatch(&mut reconciler, command),
                Err(TryRecvError::Empty) => break,
            }
        }
        reconciler.run_once();
        wait(&reconciler, bell);
    }
}

fn dispatch(reconciler: &mut Reconciler, command: Command) {
    // Whoever asked may have given up: then nobody needs the answer.
    match command {
        Command::Commit(transaction, answer) => drop(answer.send(reconciler.commit(*transaction))),
        Command::Replace(whole, answer) => drop(answer.send(reconciler.replace(*whole))),
        Command::StartForwarding(answer) => drop(answer.send(reconciler.start_forwarding())),
        Command::PruneStale(answer) => drop(answer.send(reconciler.prune_stale())),
        Command::Begin(registered, addresses, usual, answer) => {
            drop(answer.send(reconciler.begin_change(*registered, addresses, usual)));
        }
        Command::CommitBeside(transaction, subnets, answer) => {
            drop(answer.send(reconciler.commit_beside(*transaction, subnets)));
        }
        Command::Use(peers, answer) => drop(answer.send(reconciler.use_for(peers))),
        Command::SetTarget(target, answer) => drop(answer.send(reconciler.set_target(target))),
        Command::End(kept, answer) => drop(answer.send(reconciler.end_change(kept))),
        Command::Report(answer) => drop(answer.send(reconciler.report())),
        Command::Peers(answer) => drop(answer.send(reconciler.peers())),
        // The thread ends before.
        Command::Stop => {}
    }
}

/// Waits for a command, a notification, or the time of the next duty.
fn wait(reconciler: &Reconciler, bell: &OwnedFd) {
    let patience = reconciler.deadline().saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(patience).ok();
    let mut descriptors = vec![
        PollFd::from_borrowed_fd(reconciler.descriptor(), PollFlags::IN),
        PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN),
    ];
    descriptors.extend(
        reconciler.ipsec_descriptor().map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)),
    );
    // A signal or a time-out ends the wait as well; either way the next turn looks at everything that may be due.
    let _ = poll(&mut descriptors, timeout.as_ref());
    let mut count = [0; 8];
    let _ = rustix::io::read(bell, &mut count);
}

/// Questions about links that need no reconciler: for the policy's capabilities, and for the start.
pub struct Probe {
    socket: Mutex<RequestSocket>,
}

impl Probe {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Mutex::new(RequestSocket::open()?) })
    }

    /// All routes of the main tables, one by one: of many, not all are in memory at once. What changes meanwhile may come twice.
    pub fn each_route(&self, mut take: impl FnMut(RouteMessage)) -> Result<(), NetlinkError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        for ipv4 in [true, false] {
            socket.dump_each(&kinds::route::all_routes(ipv4), |found| {
                if let Payload::Route(RouteNetlinkMessage::NewRoute(route)) = found {
                    take(route);
                }
            })?;
        }
        Ok(())
    }

    /// Whether an address is reached over a link, by its name, without a gateway.
    pub fn is_on_link(&self, destination: IpAddr, link: &str) -> Result<bool, NetlinkError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        match links::find(&mut socket, link)?.link {
            Some(link) => links::is_on_link(&mut socket, destination, link.index),
            None => Ok(false),
        }
    }

    /// Bytes of the largest IP packet that a link carries, by its name, and its addresses that are good beyond the link; none if there is no
    /// such link.
    pub fn link(&self, name: &str) -> Result<Option<(u32, BTreeSet<IpNet>)>, NetlinkError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(link) = links::find(&mut socket, name)?.link else { return Ok(None) };
        let mut addresses = links::addresses_of(&mut socket, link.index)?;
        addresses.retain(|address| match address.addr() {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        });
        Ok(Some((link.mtu, addresses)))
    }

    /// The Ethernet address of a VXLAN device, by its name; none if there is no such device.
    pub fn vtep_mac(&self, device: &str) -> Result<Option<Mac>, NetlinkError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let found = links::find(&mut socket, device)?;
        let mac = found.link.as_ref().and_then(|link| link.mac);
        Ok(mac.filter(|_| found.name == device && found.is_vxlan()))
    }

    /// What would keep a device from being made or taken up, a line for each reason; nothing is changed. `networks`: the cluster's, those
    /// that it had before among them. `own_ports`: UDP ports that this node's daemon has itself. `external`: the interface that devices would be on.
    pub fn obstacles(
        &self,
        wanted: &DeviceSpec,
        networks: &[IpNet],
        own_ports: &[u16],
        external: &str,
    ) -> Result<Vec<String>, NetlinkError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = links::Owner::new(networks, networks.to_vec());
        links::obstacles(&mut socket, &owner, wanted, own_ports, external)
    }

    /// The public key of a WireGuard device, by its name; none if there is no such device, or it has no key.
    pub fn wireguard_key(&self, device: &str) -> Result<Option<PublicKey>, NetlinkError> {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        match links::find(&mut socket, device)?.link {
            Some(link) => Ok(WireguardSocket::open()?.device(link.index)?.public_key),
            None => Ok(None),
        }
    }
}
