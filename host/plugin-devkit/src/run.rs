//! A dry run: `flanneld plugin run`.

use std::sync::Arc;

use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;
use flannel_plugin_host::{Artifact, Grants, PeerChange};

use super::desired::{Desired, Fate};
use super::leases::LeasesFile;
use super::node::{Families, SampleNode};
use super::session::Session;

/// Starts a plugin on the file's node, hands it the file's leases, and answers what it wants to have. The error is for an operator.
pub fn run(
    artifact: &Artifact,
    backend: &str,
    families: Families,
    file: &LeasesFile,
) -> Result<Desired, String> {
    let node = file.node.node(families);
    if let Some(same) = file.leases.iter().find(|lease| lease.subnets.overlaps(&node.subnets)) {
        return Err(format!(
            "the lease of {} overlaps the node's own, {}: give the node another one, as Node.Subnet or Node.IPv6Subnet",
            same.subnets, node.subnets
        ));
    }
    let mut session = Session::start(artifact, &node, backend).map_err(|error| error.to_string())?;
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
    let of = |list: &[(PeerId, String)], id: PeerId| {
        list.iter().find(|(peer, _)| *peer == id).map(|(_, reason)| reason.clone())
    };
    let fate = |id| Fate { rejected: of(&rejected, id), failed: of(&failed, id) };
    let shown = peers.iter().map(|(id, lease)| (*id, &**lease, fate(*id)));
    Desired::new(&session.registered, &session.declared, &node.facts.interface, shown)
}

/// The `Backend` object for a plugin of which nothing is known but its name: that of the first type that it is for.
pub fn plain_backend(artifact: &Artifact) -> Result<String, String> {
    let inspection = super::inspect::inspect(artifact, &Grants::everything())?;
    let first = inspection.backend_types.first();
    let first = first.ok_or_else(|| format!("plugin {} names no backend type", inspection.name))?;
    Ok(serde_json::json!({ "Type": first }).to_string())
}
