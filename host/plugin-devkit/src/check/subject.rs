//! Handing leases over to a plugin that is checked, and comparing what it declares.

use std::collections::BTreeMap;

use flannel_model::entry::Entry;
use flannel_model::ledger::PeerId;
use flannel_plugin_host::{ApplyOutcome, PeerChange, PluginError};

use super::super::session::Session;
pub(super) use super::super::subject::{Subject, describe, put};

/// A peer is gone.
pub(super) fn removed(id: u64) -> PeerChange {
    PeerChange::Removed(PeerId(id))
}

/// Hands over changes that nothing is wrong with.
pub(super) fn expect(session: &mut Session, changes: &[PeerChange]) -> Result<(), String> {
    hand_over(session, changes)?.map_or(Ok(()), |error| Err(error.to_string()))
}

/// The same; answers why it took a fresh instance, if it did.
pub(super) fn hand_over(
    session: &mut Session,
    changes: &[PeerChange],
) -> Result<Option<PluginError>, String> {
    let ApplyOutcome { failures, rejected, split, .. } = session.apply(changes);
    if let Some(error) = failures.first() {
        return Err(error.to_string());
    }
    match rejected.first() {
        Some((id, reason)) => {
            let lease = changes.iter().rev().find_map(|change| match change {
                PeerChange::Put(peer, lease) if peer == id => Some(lease.subnets.to_string()),
                _ => None,
            });
            Err(format!("it rejects {}: {reason}", lease.unwrap_or_else(|| id.to_string())))
        }
        None => Ok(split),
    }
}

/// What is declared for each peer, in the order in which entries are compared.
pub(super) fn entries(session: &Session) -> BTreeMap<PeerId, Vec<Entry>> {
    let sorted = |entries: &Option<Vec<Entry>>| {
        let mut entries = entries.clone().unwrap_or_default();
        entries.sort_by_key(Entry::key);
        entries
    };
    session.declared.peers.iter().map(|(id, entries)| (*id, sorted(entries))).collect()
}

/// Says the first difference in what is declared for peers; the words say which is which.
pub(super) fn same(
    (here, one): (&str, &BTreeMap<PeerId, Vec<Entry>>),
    (there, other): (&str, &BTreeMap<PeerId, Vec<Entry>>),
) -> Result<(), String> {
    let shown = |entries: Option<&Vec<Entry>>| match entries.map(Vec::as_slice).unwrap_or_default() {
        [] => "nothing".to_owned(),
        entries => entries.iter().map(|entry| entry.key().to_string()).collect::<Vec<_>>().join(", "),
    };
    for id in one.keys().chain(other.keys()) {
        let (one, other) = (one.get(id), other.get(id));
        let (keys, others) = (shown(one), shown(other));
        if keys != others {
            return Err(format!("for peer {id} it declares {keys} {here}, and {others} {there}"));
        }
        let differs = |pair: &(&Entry, &Entry)| pair.0 != pair.1;
        let pairs = one.into_iter().flatten().zip(other.into_iter().flatten());
        if let Some((one, other)) = pairs.into_iter().find(differs) {
            return Err(format!("for peer {id} it declares {one:?} {here}, and {other:?} {there}"));
        }
    }
    Ok(())
}
