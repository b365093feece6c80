//! A plugin that is about to take another's place: loaded, started and told of all leases beside the one that serves, on a thread
//! where it may take its time. Nothing that it declares reaches the kernel, and nothing that it writes the disk, before it is whole.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Transaction};
use flannel_plugin_host::{
    Artifact, DirState, Environment, Limits, PeerChange, PluginReference, Policy, Registered,
};
use flannel_telemetry::control::{Answerer, Swapped};
use tokio::task::{JoinHandle, spawn_blocking};

const PANIC: &str = "flanneld itself has panicked meanwhile";

/// Who asked for it.
pub(super) enum Reason {
    /// An operator, who waits for the answer.
    Asked(Answerer<Swapped>),
    /// The plugin's file has changed.
    FileChanged,
}

/// What is rehearsed with.
pub(super) struct Stage {
    /// What surrounds the policy that serves.
    pub environment: Environment,
    /// What a plugin may use.
    pub limits: Limits,
    /// The durable store.
    pub state: Arc<DirState>,
    /// The node's lease.
    pub own: Lease,
    /// All peers.
    pub peers: Vec<PeerChange>,
    /// The digest of the plugin that serves, if a plugin with the same is none worth a swap.
    pub unless: Option<String>,
}

/// A plugin that has passed.
pub(super) struct Candidate {
    /// What it is.
    pub artifact: Artifact,
    /// In operation.
    pub policy: Policy,
    /// What it registered.
    pub registered: Registered,
    /// All that it wants to be there.
    pub whole: Transaction,
    /// Peers that it cannot serve, and why.
    pub rejected: Vec<(PeerId, String)>,
    /// The lease that it knows.
    pub own: Lease,
}

/// How a rehearsal ends; none: the file is what serves already. The error is for the operator.
pub(super) type Outcome = Result<Option<Box<Candidate>>, String>;

/// A rehearsal that is going on. Dropping it lets nobody wait: what it has made goes when it ends.
pub(super) struct Rehearsal {
    task: JoinHandle<Outcome>,
    /// Who asked.
    pub reason: Reason,
    /// The plugin, as the operator calls it.
    pub plugin: PluginReference,
    /// Lease changes that came after it had been told of all peers.
    pub since: Vec<PeerChange>,
    /// When it began.
    pub started: Instant,
}

impl Rehearsal {
    /// Begins one. `cache` is where compiled plugins are kept.
    pub(super) fn start(plugin: PluginReference, reason: Reason, stage: Stage, cache: PathBuf) -> Self {
        let reference = plugin.clone();
        let task = tokio::spawn(async move {
            let loaded =
                flannel_plugin_host::load(&reference, &cache).await.map_err(|error| error.to_string())?;
            let rehearsed = spawn_blocking(move || rehearse(loaded, stage)).await;
            rehearsed.unwrap_or_else(|_| Err(PANIC.to_owned()))
        });
        Self { task, reason, plugin, since: Vec::new(), started: Instant::now() }
    }

    /// Waits for its end; without a rehearsal for ever.
    pub(super) async fn end(rehearsal: &mut Option<Self>) -> Outcome {
        match rehearsal {
            Some(rehearsal) => {
                let ended = (&mut rehearsal.task).await;
                ended.unwrap_or_else(|_| Err(PANIC.to_owned()))
            }
            None => std::future::pending().await,
        }
    }
}

fn rehearse(artifact: Artifact, stage: Stage) -> Outcome {
    if stage.unless.as_deref() == Some(artifact.digest()) {
        return Ok(None);
    }
    let Stage { environment, limits, state, own, peers, .. } = stage;
    let state = Arc::new(state.shadow());
    let (policy, registered) =
        Policy::start(&artifact, environment, limits, state).map_err(|error| error.to_string())?;
    let whole = registered.transaction.clone();
    let mut candidate = Candidate { artifact, policy, registered, whole, rejected: Vec::new(), own };
    candidate.hear(&candidate.own.clone(), &peers)?;
    Ok(Some(Box::new(candidate)))
}

impl Candidate {
    /// Tells it of the node's lease and of lease changes. The first call that fails is the end of it.
    pub(super) fn hear(&mut self, own: &Lease, changes: &[PeerChange]) -> Result<(), String> {
        self.own = own.clone();
        let heard = self.policy.rehearse(own, changes).map_err(|error| error.to_string())?;
        self.whole.merge(heard.transaction);
        let asked: HashSet<PeerId> = changes.iter().map(PeerChange::id).collect();
        self.rejected.retain(|(id, _)| !asked.contains(id));
        self.rejected.extend(heard.rejected);
        for change in changes {
            if let PeerChange::Removed(id) = change {
                self.whole.peers.remove(id);
            }
        }
        Ok(())
    }
}
