//! Peers that a plugin wants to be told of again.

use std::sync::Arc;

use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;
use flannel_plugin_host::PeerChange;

use super::super::session::in_words;
use super::subject::{self, Subject};
use super::{Outcome, Stop};

const LEASES: u16 = 100;
/// Rounds of ticks, each with what is asked for in it.
const TICKS: u32 = 2;
/// So often in a row it may ask for the same ones.
const ROUNDS: u32 = 5;

/// What it asks for comes to an end, and goes well.
pub(super) fn comes_to_an_end(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    let changes = subject.puts(1..=LEASES);
    subject::expect(&mut session, &changes)?;
    let put = |change: &PeerChange| match change {
        PeerChange::Put(id, lease) => Some((*id, Arc::clone(lease))),
        PeerChange::Removed(_) => None,
    };
    let peers: Vec<(PeerId, Arc<Lease>)> = changes.iter().filter_map(put).collect();
    let mut again = 0;
    for _ in 0..TICKS {
        // What becomes of ticks another check looks at.
        if let Err(error) = session.tick()
            && !in_words(&error)
        {
            return Err(error.to_string().into());
        }
        for round in 0.. {
            let Some(applied) = session.refreshed(&peers) else { break };
            if let Some(error) = applied.failures.first() {
                return Err(format!("when it is told again of peers that it has asked for: {error}").into());
            }
            again += 1;
            if round == ROUNDS {
                return Err(Stop::Warned(format!(
                    "it asks again for peers whenever it is told of them, {round} times in a row: that is a call each second, for ever"
                )));
            }
        }
    }
    Ok(if again == 0 {
        "it asks for none again".to_owned()
    } else {
        format!("{again} calls about peers that it has asked for")
    })
}
