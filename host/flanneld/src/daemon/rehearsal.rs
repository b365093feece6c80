//! A plugin that is about to take another's place: loaded, started and told of all leases beside the one that serves, on a thread
//! of its own, which is confined, and where it may take its time. Nothing that it declares reaches the kernel, and nothing that it writes the disk, before it is whole.

use std::collections::HashSet;
use std::sync::Arc;

use flannel_model::lease::Lease;
use flannel_model::ledger::{PeerId, Transaction};
use flannel_plugin_host::{
    Artifact, DirState, Environment, Limits, Loader, PROBE, PeerChange, PluginReference, Policy, Registration,
};

use super::confined;

/// What surrounds the policy that serves, and any other in its place.
#[derive(Clone)]
pub(super) struct Surroundings {
    /// The node.
    pub environment: Environment,
    /// What a plugin may use.
    pub limits: Limits,
    /// The durable store.
    pub state: Arc<DirState>,
    /// How others are loaded.
    pub loader: Loader,
}

/// A plugin that has passed.
pub(super) struct Rehearsed {
    /// What it is.
    pub artifact: Artifact,
    /// In operation.
    pub policy: Policy,
    /// What it registered.
    pub registered: Registration,
    /// All that it wants to be there.
    pub whole: Transaction,
    /// Peers that it cannot serve, and why.
    pub rejected: Vec<(PeerId, String)>,
}

/// Rehearses a plugin with this lease and these peers. `unless`: the digest of the plugin that serves, if the same is not worth it;
/// then there is none. `take_state`: the durable store that it gets a copy of. The error is for the operator.
pub(super) async fn rehearse(
    plugin: PluginReference,
    surroundings: Surroundings,
    unless: Option<String>,
    take_state: Option<String>,
    own: Lease,
    peers: Vec<PeerChange>,
) -> Result<Option<Box<Rehearsed>>, String> {
    let loaded = surroundings.loader.load(&plugin).await;
    let artifact = loaded.map_err(|error| error.to_string())?;
    if unless.as_deref() == Some(artifact.digest()) {
        return Ok(None);
    }
    if artifact.imports().iter().any(|import| import == PROBE) {
        surroundings.environment.probes.prepare();
    }
    let rehearsed = confined::run("rehearsal", move || {
        let Surroundings { environment, limits, state, .. } = surroundings;
        let state = Arc::new(state.shadow(take_state));
        let (policy, registered) =
            Policy::start(&artifact, environment, limits, state).map_err(|error| error.to_string())?;
        let whole = registered.transaction.clone();
        let mut rehearsed = Rehearsed { artifact, policy, registered, whole, rejected: Vec::new() };
        rehearsed.hear(&own, &peers)?;
        Ok(Some(Box::new(rehearsed)))
    });
    rehearsed.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Tells a candidate of what has changed since.
pub(super) async fn catch_up(
    mut candidate: Box<Rehearsed>,
    own: Lease,
    since: Vec<PeerChange>,
) -> Result<Box<Rehearsed>, String> {
    let caught_up = confined::run("rehearsal", move || candidate.hear(&own, &since).map(|()| candidate));
    caught_up.await.unwrap_or_else(|error| Err(error.to_string()))
}

impl Rehearsed {
    /// Tells it of the node's lease and of lease changes. The first call that fails is the end of it.
    fn hear(&mut self, own: &Lease, changes: &[PeerChange]) -> Result<(), String> {
        let heard = self.policy.rehearse(own, changes).map_err(|error| error.to_string())?;
        // What it has published by now is what it takes over with.
        if let Some(anew) = self.policy.take_published_anew() {
            self.registered = anew.registration;
        }
        self.whole.merge(heard.transaction);
        // Nothing of theirs is there that would have to go.
        self.whole.peers.retain(|_, entries| entries.is_some());
        let asked: HashSet<PeerId> = changes.iter().map(PeerChange::id).collect();
        self.rejected.retain(|(id, _)| !asked.contains(id));
        self.rejected.extend(heard.rejected);
        Ok(())
    }
}
