//! What the coordinator hears of, and what it wants done.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use flannel_datapath::Report;
use flannel_firewall::FirewallError;
use flannel_lease_store::{Event as StoreEvent, Renewed, StoreError};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::{PeerId, Slot, Transaction};
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{ApplyOutcome, PeerChange, PluginError, PluginReference};
use flannel_telemetry::control::{Asker, Attended, Responder, SwapOrder, Swapped};
use flannel_telemetry::{Lack, Step, status};
use ipnet::IpNet;

use super::{CurrentPlugin, Wish};
use crate::daemon::DaemonError;
use crate::node::external::External;

/// How a tick ends: with what was declared, and when the next is wanted.
pub(in crate::daemon) type Ticked = Result<(Transaction, Option<Duration>), PluginError>;

/// What a call of the policy took.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::daemon) struct Effort {
    /// Processor time, with fresh instances and with what the host did for it.
    pub processor: Duration,
    /// It has used nearly all the time that it had.
    pub exhausted: bool,
}

/// Something has happened.
pub(in crate::daemon) enum Event {
    /// The store tells of leases.
    Store(StoreEvent),
    /// Our lease was to be renewed. With it: how long until the next renewal is due; `None` if never.
    Renewed(Result<(Renewed, Option<Duration>), StoreError>),
    /// A lease was asked for. With it: how long until its renewal is due.
    Acquired(Result<(Lease, Option<Duration>), StoreError>),
    /// The policy was told of our lease.
    LeaseTaken(Result<Transaction, PluginError>),
    /// The policy was told of lease changes.
    Applied(ApplyOutcome, Duration, Effort),
    /// The policy has looked after state outside of the kernel.
    Ticked(Ticked, Effort),
    /// A transaction is in the kernel, as far as it would go.
    Committed { report: Report, cause: Cause, took: Duration },
    /// What earlier runs left is gone, or stays for now, as it was asked for.
    Adopted(Report),
    /// The whole desired state was to be replaced. With it: the entries and the netlink messages that it took.
    Replaced(Result<(usize, u64), String>),
    /// The firewall's rules were to be put in place.
    Rules(Result<(), FirewallError>),
    /// The subnet file was to be written, and is, or cannot be.
    SubnetFile(Result<(), String>),
    /// The subnet file is not what was written: it is gone, or another one.
    SubnetFileLost,
    /// Routes, addresses or links of others have changed.
    RoutingChanged,
    /// Addresses of another interface have changed.
    SurroundingsChanged,
    /// The external interface as it would be chosen now, or why none can be; and whether it was chosen afresh.
    External(Result<External, String>, bool),
    /// A plugin was tried; `None` if it is the one that serves.
    Tried(Result<Option<Candidate>, String>),
    /// The plugin has published something else than before, or a fresh instance of it has registered with something else.
    PublishedAnew {
        /// What is to be published from now on.
        published: Attributes,
        /// Bytes of the largest IP packet of a pod.
        mtu: u32,
        /// Who wants it.
        wish: Wish,
    },
    /// The plugin wants to declare anew for these peers.
    Refresh(BTreeSet<PeerId>),
    /// A target of the plugin's probes is lost or back, or has answered for the first time.
    ProbesChanged,
    /// The candidate knows all that has changed meanwhile.
    CaughtUp(Result<Candidate, String>),
    /// An operator wants another plugin.
    SwapAsked(SwapOrder, Asker, Responder<Swapped>, Attended),
    /// The file of `--plugin` is another one.
    PluginFileChanged,
    /// SIGHUP, and who has sent it.
    Reload(Option<Asker>),
    /// What is known of the node has changed, and the policy, or the one beside it, begins anew with that.
    NodeInfoChanged,
    /// What the node cannot take up while it is in operation has changed.
    StartOver,
    /// The network config in the store is another one, or cannot be taken up.
    Config(Result<Arc<NetworkConfig>, String>),
    /// The generation beside the one that serves was to be started.
    BesideStarted(Result<BesideFacts, String>),
    /// A call of its policy has ended.
    Beside(Box<Event>),
    /// What was declared for it, or by which generation peers are reached, is in the kernel as far as it would go.
    BesideCommitted,
    /// A peer was probed by the way of this generation.
    Probed(PeerId, Slot, Result<(), String>),
    /// What the next start has to know of a change that is about to end has been written down.
    ChangeRecorded,
    /// One generation is the only one now.
    ChangeEnded,
    /// A time has come that [`super::Coordinator::deadline`] has named.
    Time,
}

/// Why something was committed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Cause {
    /// The node's own lease.
    OwnLease,
    /// So many lease changes, which the policy took so long for.
    Leases { changes: usize, plugin: Duration },
    /// A tick.
    Tick,
    /// Peers that the plugin has asked to be told of again.
    Refresh { peers: usize },
}

/// A plugin that could take over.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct Candidate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its component.
    pub digest: String,
    /// Its place in the durable store.
    pub store: String,
    /// What it wants to be published.
    pub published: Attributes,
    /// The MTU of pods that it wants.
    pub mtu: u32,
    /// Peers that it cannot serve, and why.
    pub rejected: Vec<(PeerId, String)>,
}

/// A generation beside the one that serves.
#[derive(Clone, Debug)]
pub(in crate::daemon) struct BesideFacts {
    /// Its plugin's name.
    pub name: String,
    /// Its plugin's version.
    pub version: String,
    /// The plugin, and whether it is the one that the operator named.
    pub plugin: CurrentPlugin,
    /// What it wants to be published.
    pub published: Attributes,
    /// The MTU of pods that it wants.
    pub mtu: u32,
}

/// A peer to be probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct ProbeOrder {
    /// Which one.
    pub peer: PeerId,
    /// From which address of this node's to which of the peer's, for each family.
    pub ends: Vec<(IpAddr, IpAddr)>,
    /// Bytes of the largest packet that has to arrive.
    pub mtu: u32,
}

/// A step of a change of the backend.
#[derive(Debug)]
pub(in crate::daemon) enum ChangeCall {
    /// Start the generation of this config beside the one that serves. `usual`: by which one peers are reached that nothing is said of.
    Start { serving: Arc<NetworkConfig>, config: Arc<NetworkConfig>, own: Lease, usual: Slot },
    /// A call of its policy.
    Policy(PolicyCall),
    /// This is to be there for it. With it: the subnets of its peers.
    Commit(Transaction, Vec<(PeerId, Vec<IpNet>)>),
    /// By which generation these peers are reached from now on, with their subnets.
    Use(Vec<(PeerId, Slot, Vec<IpNet>)>),
    /// This generation's routes are on trial from now on.
    SetTarget(Slot),
    /// Probe these peers by the routes on trial, which are this generation's.
    Probe(Vec<ProbeOrder>, Slot),
    /// Say when what the next start has to know has been written down: [`Event::ChangeRecorded`].
    Record,
    /// Bring it about that there is only this generation.
    End(Slot),
    /// The generation beside is the one that serves.
    TakeOver,
    /// The generation beside is gone.
    Forget,
}

/// Something is to be done.
#[derive(Debug)]
pub(in crate::daemon) enum Effect {
    /// A call of the policy; the next comes after its end.
    Policy(PolicyCall),
    /// Something for the kernel, in its order.
    Datapath(DatapathCall),
    /// A question to the lease store; the next comes after its answer.
    Store(StoreCall),
    /// The rules for these subnets.
    Rules(Subnets),
    /// These peers, and no others, may send into tunnels.
    Admit(Vec<PeerChange>),
    /// These peers as well, or not any more.
    AdmitAlso(Vec<PeerChange>),
    /// The subnet file for these subnets and this MTU.
    SubnetFile(Subnets, u32),
    /// A look at the interfaces. `afresh`: as at a start, and not only whether the one that serves is as it was.
    LookAtExternal { afresh: bool },
    /// A step of a swap.
    Trial(TrialCall),
    /// A step of a change of the backend.
    Change(ChangeCall),
    /// What has become of a swap, for whoever asked.
    Answer(Responder<Swapped>, Result<Swapped, String>),
    /// Something for the operator's eyes.
    Tell(News),
    /// Start over with this external interface.
    Restart(External),
    /// There is no going on.
    Fail(DaemonError),
}

/// A call of the policy.
#[derive(Debug)]
pub(in crate::daemon) enum PolicyCall {
    /// Our lease.
    LeaseAcquired(Lease),
    /// Lease changes, and how many fresh instances they may cost, if other than usual.
    Apply(Vec<PeerChange>, Option<u32>),
    /// The same for peers that it has asked to be told of again.
    Refresh(Vec<PeerChange>, Option<u32>),
    /// A tick.
    Tick,
}

/// Something for the kernel.
#[derive(Debug)]
pub(in crate::daemon) enum DatapathCall {
    /// This is to be there.
    Commit(Transaction, Cause),
    /// The peers that can be had are there; what earlier runs left stays.
    Settle,
    /// All peers are there: what earlier runs left goes.
    Adopt,
    /// A look, for metrics.
    Report,
}

/// A question to the lease store.
#[derive(Debug)]
pub(in crate::daemon) enum StoreCall {
    /// Prolong this lease, and publish this.
    Renew(Lease, Attributes),
    /// A lease for who publishes this.
    Acquire(Attributes),
}

/// A step of a swap.
#[derive(Debug)]
pub(in crate::daemon) enum TrialCall {
    /// Load and start a plugin beside the one that serves, and tell it of all. `unless`: the digest that is not worth it. `take_state`: the
    /// durable store that it gets a copy of.
    Start {
        plugin: PluginReference,
        unless: Option<String>,
        take_state: Option<String>,
        own: Lease,
        peers: Vec<PeerChange>,
        attended: Option<Attended>,
    },
    /// Tell the candidate what has changed since.
    CatchUp { own: Lease, since: Vec<PeerChange> },
    /// Bring what the candidate wants into the kernel, in place of all that is there, with blackhole routes for these subnets.
    Replace { blackholes: BTreeSet<IpNet> },
    /// The candidate is the policy from now on.
    TakeOver,
    /// The candidate is not wanted.
    Forget,
}

/// Something for metrics, status or the service manager.
#[derive(Debug)]
pub(in crate::daemon) enum News {
    /// Our lease, and the MTU of pods.
    Lease(Lease, u32),
    /// A step towards readiness is done, or has to be done again.
    Step(Step, bool),
    /// What the node is ready without, and why; none: it has that.
    Lacks(Lack, Option<String>),
    /// Counts of peers: all, those that the policy cannot serve, those that wait for the plugin.
    Peers { all: usize, rejected: usize, deferred: usize },
    /// A call of the plugin has failed.
    PluginFailed(PluginError),
    /// The plugin was started afresh.
    PluginRestarted,
    /// Whether the plugin is asked only when something has changed.
    PluginSuspended(bool),
    /// How the last tick ended.
    Ticked(Option<PluginError>),
    /// A swap has ended.
    Swapped(Result<Swapped, String>),
    /// SIGHUP is being followed.
    Reloading,
    /// It has been.
    Reloaded,
    /// How a change of the backend stands; none: there is none.
    Change(Box<Option<status::Change>>),
    /// A look at firewall and kernel is due.
    Refresh,
}
