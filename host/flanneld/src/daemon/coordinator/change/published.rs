//! What nodes say of their generations in their leases.

use std::sync::Arc;
use std::time::Instant;

use flannel_model::lease::{Attributes, Generation, Lease};
use flannel_model::ledger::Slot;
use flannel_plugin_host::PeerChange;

use super::{BackendChange, Beside, Coordinator, Farewell, Stage};
use crate::daemon::coordinator::Wish;

/// Whether a node says that it uses a generation for everybody.
pub(in crate::daemon) fn is_complete(attributes: &Attributes, backend: &str) -> bool {
    attributes.generation(backend).is_some_and(|generation| generation.complete)
}

/// Whether a node says that it uses a generation for everybody, and that it is its main one.
pub(super) fn is_settled_in(attributes: &Attributes, backend: &str) -> bool {
    attributes.generation(backend).is_some_and(|generation| generation.complete && generation.main)
}

/// What is to be published at the start of a node that was in the middle of a change: what it said then, with what the policy that is
/// started first says now.
pub(in crate::daemon) fn resumed(before: &Attributes, serving: &str, registered: &Attributes) -> Attributes {
    let mut now = Attributes { generations: before.generations.clone(), ..registered.clone() };
    let main = now.generations.iter().find(|generation| generation.main);
    if main.is_some_and(|main| main.backend != serving) {
        now.backend_type.clone_from(&before.backend_type);
        now.backend_data.clone_from(&before.backend_data);
        now.backend_v6_data.clone_from(&before.backend_v6_data);
        for generation in now.generations.iter_mut().filter(|generation| generation.backend == serving) {
            *generation = of(serving, registered, generation.complete);
        }
    }
    now
}

fn of(backend: &str, registered: &Attributes, complete: bool) -> Generation {
    Generation {
        backend: backend.to_owned(),
        main: false,
        complete,
        backend_type: registered.backend_type.clone(),
        backend_data: registered.backend_data.clone(),
        backend_v6_data: registered.backend_v6_data.clone(),
    }
}

impl BackendChange {
    /// What the node is to publish.
    pub(in crate::daemon::coordinator) fn published(&self, target: Slot) -> Attributes {
        let serving = self.serving.backend_key();
        let Some(beside) = self.beside.as_ref().filter(|beside| beside.stage != Stage::Starting) else {
            return match &self.resumed {
                Some(before) => resumed(before, serving, &self.base),
                None => self.base.clone(),
            };
        };
        match beside.stage {
            Stage::Leaving(Slot::Serving, Farewell::Publishing | Farewell::Published(_)) => self.base.clone(),
            Stage::Leaving(Slot::Beside, Farewell::Publishing | Farewell::Published(_)) => {
                beside.published.clone()
            }
            _ => compose((serving, &self.base), beside, target),
        }
    }

    /// A peer's lease as the policy that serves is to see it; none: the peer does not serve its generation.
    fn seen_by_serving(&self, lease: &Arc<Lease>) -> Option<Arc<Lease>> {
        seen(lease, self.serving.backend_key())
    }

    /// Lease changes as the policy that serves is to see them.
    pub(in crate::daemon::coordinator) fn for_serving(&self, changes: Vec<PeerChange>) -> Vec<PeerChange> {
        let seen = |change| match change {
            PeerChange::Put(id, lease) => match self.seen_by_serving(&lease) {
                Some(lease) => PeerChange::Put(id, lease),
                None => PeerChange::Removed(id),
            },
            removed @ PeerChange::Removed(_) => removed,
        };
        changes.into_iter().map(seen).collect()
    }
}

fn compose(serving: (&str, &Attributes), beside: &Beside, target: Slot) -> Attributes {
    let beside_key = beside.config.backend_key();
    let both = [(Slot::Serving, serving.0, serving.1), (Slot::Beside, beside_key, &beside.published)];
    let main = if beside.main == Slot::Beside { &beside.published } else { serving.1 };
    let generations = both.map(|(slot, backend, registered)| {
        let complete = slot == target && beside.complete;
        if slot == beside.main {
            Generation { backend: backend.to_owned(), main: true, complete, ..Generation::default() }
        } else {
            of(backend, registered, complete)
        }
    });
    Attributes { generations: generations.to_vec(), ..main.clone() }
}

/// A lease as a policy of a generation is to see it. Who says nothing of generations is at rest, or not one of ours: whether its backend is
/// this one the policy finds out.
fn seen(lease: &Arc<Lease>, backend: &str) -> Option<Arc<Lease>> {
    if lease.attributes.generations.is_empty() {
        return Some(Arc::clone(lease));
    }
    let attributes = lease.attributes.of_generation(backend)?;
    Some(Arc::new(Lease { attributes, ..Lease::clone(lease) }))
}

/// How a peer stands to a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It says that it serves it; and whether it uses it for everybody.
    Said { complete: bool },
    /// It says nothing of generations, and its backend is of that type: it may be this one.
    Maybe,
    /// It does not serve it.
    None,
}

/// How a lease stands to a generation that publishes this type.
pub(super) fn offer(lease: &Lease, backend: &str, backend_type: &str) -> Offer {
    let attributes = &lease.attributes;
    if attributes.generations.is_empty() {
        return if attributes.backend_type == backend_type { Offer::Maybe } else { Offer::None };
    }
    match attributes.generation(backend) {
        Some(generation) => Offer::Said { complete: generation.complete },
        None => Offer::None,
    }
}

/// A lease as the policy of the generation beside is to see it; none: the peer does not serve it.
pub(super) fn for_beside(lease: &Arc<Lease>, backend: &str, backend_type: &str) -> Option<Arc<Lease>> {
    match offer(lease, backend, backend_type) {
        Offer::None => None,
        Offer::Said { .. } | Offer::Maybe => seen(lease, backend),
    }
}

impl Coordinator {
    /// What the node publishes may be something else now.
    pub(in crate::daemon::coordinator) fn publish_generations(&mut self, now: Instant) {
        let published = self.change.published(self.target_slot());
        self.own.publish(published, now);
    }

    /// The same where a plugin wants so, which may be often.
    pub(in crate::daemon::coordinator) fn publish_wish(&mut self, wish: Wish, now: Instant) {
        let published = self.change.published(self.target_slot());
        self.own.publish_wish(published, wish, now);
    }
}
