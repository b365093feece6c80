//! What a plugin makes of peers that are lost and come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use flannel_model::entry::Entry;
use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;
use flannel_plugin_host::{PeerChange, ProbeCondition};

use super::super::scripted::Script;
use super::super::session::Session;
use super::subject::{self, Subject};
use super::{Outcome, Stop};

const LEASES: u16 = 20;
/// So often a plugin is told again of peers that it asks for, at most; another check warns of one that goes on.
const ROUNDS: u32 = 5;

/// It goes on, whatever is lost, and also where nothing can be probed.
pub(super) fn lost_and_back(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    if !session.policy.probes() {
        return Ok("it has nothing probed".to_owned());
    }
    let changes = subject.puts(1..=LEASES);
    subject::expect(&mut session, &changes)?;
    let put = |change: &PeerChange| match change {
        PeerChange::Put(id, lease) => Some((*id, Arc::clone(lease))),
        PeerChange::Removed(_) => None,
    };
    let peers: Vec<(PeerId, Arc<Lease>)> = changes.iter().filter_map(put).collect();
    let mut when = |script: Script, what: &str| look(&mut session, &peers, script, what);
    when(Script::Nothing, "nothing is known of what it has probed")?;
    let answered = when(Script::All(ProbeCondition::Answered), "all that it has probed answers")?;
    let lost = when(Script::All(ProbeCondition::Lost), "all that it has probed is lost")?;
    let back = when(Script::All(ProbeCondition::Answered), "what was lost is back")?;
    subject::same(("when all answers", &answered), ("when what was lost is back", &back))
        .map_err(Stop::Warned)?;
    when(Script::Unavailable, "nothing can be probed")?;
    let targets = session.probed.len();
    let moved = answered.iter().filter(|(id, entries)| lost.get(id) != Some(entries)).count();
    Ok(format!(
        "{targets} targets of {LEASES} peers; {moved} of these are reached otherwise when all are lost"
    ))
}

/// A tick with what it is told of its probes, and what it asks for in there. Answers what it declares for peers then.
fn look(
    session: &mut Session,
    peers: &[(PeerId, Arc<Lease>)],
    script: Script,
    what: &str,
) -> Result<BTreeMap<PeerId, Vec<Entry>>, String> {
    session.probes.play(script);
    session.tick().map_err(|error| format!("when {what}: {error}"))?;
    for _ in 0..ROUNDS {
        let Some(applied) = session.refreshed(peers) else { break };
        if let Some(error) = applied.failures.first() {
            return Err(format!("when {what}: {error}"));
        }
    }
    Ok(subject::entries(session))
}
