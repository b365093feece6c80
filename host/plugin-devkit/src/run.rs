//! A dry run: `flanneld plugin run`.

use std::sync::Arc;

use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;
use flannel_plugin_host::{Artifact, PeerChange};

use super::desired::{Desired, Fate};
use super::leases::LeasesFile;
use super::node::SampleNode;
use super::session::Session;
use super::subject::Subject;
use super::wanted::Wanted;

/// So often a plugin is told again of peers that it asks for: who asks each time would go on for ever.
const REFRESHES: u32 = 3;

/// Answers what a plugin wants to have: for the leases of a file on the file's node, or for a few made-up ones. The error is for an operator.
pub fn run(artifact: &Artifact, wanted: &Wanted, leases: Option<&LeasesFile>) -> Result<Desired, String> {
    let Some(file) = leases else { return Subject::new(artifact, wanted)?.example() };
    let backend = wanted.of(artifact)?;
    let node = file.node.clone().told(&wanted.about);
    let mut session = Session::start(artifact, &node, &backend).map_err(|error| error.to_string())?;
    Ok(desired(&mut session, &node, &file.leases))
}

/// Hands leases to a plugin that has been started, and puts together what it wants to have.
pub(super) fn desired(session: &mut Session, node: &SampleNode, leases: &[Lease]) -> Desired {
    let peers: Vec<(PeerId, Arc<Lease>)> =
        (1..).map(PeerId).zip(leases.iter().cloned().map(Arc::new)).collect();
    let put = |(id, lease): &(PeerId, Arc<Lease>)| PeerChange::Put(*id, Arc::clone(lease));
    let applied = session.apply(&peers.iter().map(put).collect::<Vec<_>>());
    let mut rejected = applied.rejected;
    let mut failed = Vec::new();
    // Each alone, so that each has its own reason.
    for change in applied.deferred {
        let again = session.apply(std::slice::from_ref(&change));
        rejected.extend(again.rejected);
        failed.extend(again.failures.first().map(|error| (change.id(), error.to_string())));
    }
    // What is probed is said when all peers are known, if not before. What becomes of ticks a check looks at.
    if session.policy.probes() {
        let _ = session.tick();
    }
    for _ in 0..REFRESHES {
        let Some(again) = session.refreshed(&peers) else { break };
        rejected.extend(again.rejected);
    }
    let of = |list: &[(PeerId, String)], id: PeerId| {
        list.iter().find(|(peer, _)| *peer == id).map(|(_, reason)| reason.clone())
    };
    let fate = |id| Fate { rejected: of(&rejected, id), failed: of(&failed, id) };
    let shown = peers.iter().map(|(id, lease)| (*id, &**lease, fate(*id)));
    let series = session.policy.series();
    Desired::new(
        &session.registered,
        &session.declared,
        &node.facts.interface,
        shown,
        &session.probed,
        series,
    )
}
