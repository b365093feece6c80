//! A plugin that runs on a made-up node, and what it has declared so far.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Transaction};
use flannel_plugin_host::{
    ApplyOutcome, Artifact, Cause, DirState, Limits, PeerChange, PluginError, Policy, ProbeTarget,
    Registration,
};
use tempfile::TempDir;

use super::node::SampleNode;
use super::scripted::ScriptedProbes;

/// Why a plugin does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// What surrounds it is not there.
    #[error("{0}")]
    Setup(String),
}

impl StartError {
    /// Whether the plugin, or the host on its behalf, said in words why not; that is how a config is refused.
    pub(crate) fn in_words(&self) -> bool {
        match self {
            Self::Plugin(error) => in_words(error),
            Self::Setup(_) => true,
        }
    }
}

/// Whether a call ended orderly, with an error or with a refusal by the host.
pub(crate) fn in_words(error: &PluginError) -> bool {
    matches!(error.cause, Cause::Answered(_) | Cause::Refused(_))
}

/// A running plugin.
pub(crate) struct Session {
    /// The policy.
    pub policy: Policy,
    /// What it said at its start, with what it has published since.
    pub registered: Registration,
    /// All that it has declared.
    pub declared: Transaction,
    /// Peers that it wants to declare for anew.
    pub refresh: BTreeSet<PeerId>,
    /// What it has probed.
    pub probed: Vec<ProbeTarget>,
    /// What is known of that.
    pub probes: Arc<ScriptedProbes>,
    /// The durable state.
    state: Arc<TempDir>,
}

impl Session {
    /// Registers a plugin on a node, and hands the node's lease over.
    pub(crate) fn start(artifact: &Artifact, node: &SampleNode, backend: &str) -> Result<Self, StartError> {
        let mut session = Self::register(artifact, node, backend)?;
        session.lease_acquired(&node.lease(&session.registered))?;
        Ok(session)
    }

    /// Registers a plugin on a node.
    pub(crate) fn register(
        artifact: &Artifact,
        node: &SampleNode,
        backend: &str,
    ) -> Result<Self, StartError> {
        let directory = tempfile::tempdir()
            .map_err(|error| StartError::Setup(format!("no directory for the state: {error}")))?;
        Self::register_with(artifact, node, backend, Arc::new(directory))
    }

    /// Starts the plugin once more with the durable state that this one has left, as the daemon does with one that has failed.
    pub(crate) fn start_again(
        &self,
        artifact: &Artifact,
        node: &SampleNode,
        backend: &str,
    ) -> Result<Self, StartError> {
        // What it has written last may not be on the disk yet.
        let kept = self.policy.state().flush();
        kept.map_err(|error| StartError::Setup(format!("the state cannot be written: {error}")))?;
        let mut session = Self::register_with(artifact, node, backend, Arc::clone(&self.state))?;
        session.lease_acquired(&node.lease(&session.registered))?;
        Ok(session)
    }

    fn register_with(
        artifact: &Artifact,
        node: &SampleNode,
        backend: &str,
        directory: Arc<TempDir>,
    ) -> Result<Self, StartError> {
        let environment = node.environment(backend).map_err(StartError::Setup)?;
        let state = Arc::new(DirState::open(directory.path()));
        let (policy, registered) = Policy::start(artifact, environment, Limits::default(), state)?;
        let declared = registered.transaction.clone();
        Ok(Self {
            policy,
            registered,
            declared,
            refresh: BTreeSet::new(),
            probed: Vec::new(),
            probes: Arc::clone(&node.probes),
            state: directory,
        })
    }

    /// Hands the node's own lease over.
    pub(crate) fn lease_acquired(&mut self, own: &Lease) -> Result<(), PluginError> {
        let transaction = self.policy.lease_acquired(own)?;
        self.declared.merge(transaction);
        self.take_wishes();
        Ok(())
    }

    /// It may have asked for something besides what it declares.
    fn take_wishes(&mut self) {
        self.refresh.extend(self.policy.take_refreshes());
        if let Some(probed) = self.policy.take_probes() {
            self.probed = probed;
        }
        if let Some(anew) = self.policy.take_published_anew() {
            self.registered = anew.registration;
        }
    }

    /// Lets it look after what is outside of the kernel.
    pub(crate) fn tick(&mut self) -> Result<Option<Duration>, PluginError> {
        let ticked = self.policy.tick();
        self.take_wishes();
        let (transaction, next) = ticked?;
        self.declared.merge(transaction);
        Ok(next)
    }

    /// Tells it of the peers among these that it has asked for. Answers what came of that, or none: it has asked for none.
    pub(crate) fn refreshed(&mut self, peers: &[(PeerId, Arc<Lease>)]) -> Option<ApplyOutcome> {
        let wanted = std::mem::take(&mut self.refresh);
        let again = peers.iter().filter(|(id, _)| wanted.contains(id));
        let again: Vec<PeerChange> =
            again.map(|(id, lease)| PeerChange::Put(*id, Arc::clone(lease))).collect();
        (!again.is_empty()).then(|| self.apply(&again))
    }

    /// Hands changes over, and keeps what is declared for them.
    pub(crate) fn apply(&mut self, changes: &[PeerChange]) -> ApplyOutcome {
        let mut applied = self.policy.apply(changes);
        self.take_wishes();
        self.policy.take_records();
        self.declared.merge(std::mem::take(&mut applied.transaction));
        for change in changes {
            if let PeerChange::Removed(peer) = change {
                self.declared.peers.remove(peer);
            }
        }
        applied
    }
}
