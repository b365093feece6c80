//! Plans carried out: requests in batches, and what the kernel says of each.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use flannel_model::entry::Key;
use tracing::{debug, info, warn};

use super::{RETRY, Reconciler};
use crate::netlink::{Message, NetlinkError};
use crate::observed::Observation;
use crate::plan::{Plan, Request, Step};
use crate::report::Failure;
use crate::tunnels::TunnelChange;
use crate::wireguard::PeerChange;

/// Steps after which the notifications are read.
const MAX_STEPS_PER_BATCH: usize = 4096;

/// Requests that go to the same.
enum Batch {
    Routing(Vec<Message>),
    Wireguard(u32, Vec<PeerChange>),
    Tunnel(Arc<str>, Vec<TunnelChange>),
}

impl Batch {
    fn of(request: Request) -> Self {
        match request {
            Request::Routing(message) => Self::Routing(vec![message]),
            Request::Wireguard(index, change) => Self::Wireguard(index, vec![change]),
            Request::Tunnel(device, change) => Self::Tunnel(device, vec![change]),
        }
    }

    /// Adds a request to a batch, or begins one; a request that goes elsewhere is given back.
    fn add(batch: &mut Option<Self>, request: Request) -> Option<Request> {
        match (batch, request) {
            (Some(Self::Routing(messages)), Request::Routing(message)) => messages.push(message),
            (Some(Self::Wireguard(to, changes)), Request::Wireguard(index, change)) if *to == index => {
                changes.push(change);
            }
            (Some(Self::Tunnel(to, changes)), Request::Tunnel(device, change)) if *to == device => {
                changes.push(change);
            }
            (Some(_), other) => return Some(other),
            (none, first) => *none = Some(Self::of(first)),
        }
        None
    }
}

impl Reconciler {
    pub(super) fn reconcile_keys(&mut self, keys: &BTreeSet<Key>) {
        let plan = self.planner().keys(keys);
        self.execute(plan, Some(keys));
    }

    /// Sends a plan. `looked_at`: the keys that it was made for; none: all.
    pub(super) fn execute(&mut self, plan: Plan, looked_at: Option<&BTreeSet<Key>>) {
        if let Some(keys) = looked_at {
            for key in keys {
                self.waiting.remove(key);
                if self.ledger.entry(key).is_none() {
                    self.failures.remove(key);
                }
            }
            self.waiting.extend(plan.waiting);
        } else {
            self.waiting = plan.waiting;
            if !self.failures.is_empty() {
                let planned: HashSet<&Key> = plan.steps.iter().filter_map(|step| step.key.as_ref()).collect();
                self.failures.retain(|key, _| planned.contains(key));
            }
        }
        if plan.steps.is_empty() {
            return;
        }
        let started = Instant::now();
        let (count, mut failed) = (plan.steps.len(), 0);
        let mut steps = plan.steps.into_iter().peekable();
        while steps.peek().is_some() {
            failed += self.send(steps.by_ref().take(MAX_STEPS_PER_BATCH));
            // What others did meanwhile waits in the socket. What we did does not, except for the FDB's notifications,
            // which do not say who caused them; they must not fill the socket, and say what the mirror says already.
            self.ingest_notifications();
        }
        let took = started.elapsed();
        self.figures.batch_time += took;
        debug!(requests = count, failed, took_us = flannel_base::micros(took), "kernel updated");
    }

    /// Sends some steps; answers how many failed.
    fn send(&mut self, steps: impl Iterator<Item = Step>) -> usize {
        let (mut batch, mut pending, mut failed) = (None, Vec::new(), 0);
        for step in steps {
            let removal = step.is_removal();
            // The order of steps is that of their stages, so whom they go to changes seldom.
            if let Some(request) = Batch::add(&mut batch, step.request) {
                failed += self.flush(batch.take(), &mut pending);
                batch = Some(Batch::of(request));
            }
            pending.push((step.key, removal, step.fact));
        }
        failed + self.flush(batch, &mut pending)
    }

    /// Sends requests that go to the same, and takes the results in.
    fn flush(&mut self, batch: Option<Batch>, pending: &mut Vec<(Option<Key>, bool, Observation)>) -> usize {
        let results = match batch {
            None => Vec::new(),
            Some(Batch::Routing(messages)) => self.requests.batch(messages),
            Some(Batch::Wireguard(index, changes)) => match self.wireguard() {
                Ok(socket) => socket.change(index, &changes),
                Err(error) => vec![Err(error); changes.len()],
            },
            Some(Batch::Tunnel(device, changes)) => {
                self.tunnels.change(&device, &changes);
                vec![Ok(()); changes.len()]
            }
        };
        let settled = std::mem::take(pending).into_iter().zip(results);
        settled
            .map(|((key, removal, fact), result)| usize::from(!self.handle_ack(key, removal, fact, result)))
            .sum()
    }

    /// Takes the result of one request in; `false`: it failed and will be tried again.
    fn handle_ack(
        &mut self,
        key: Option<Key>,
        removal: bool,
        fact: Observation,
        result: Result<(), NetlinkError>,
    ) -> bool {
        let absent = |error: &NetlinkError| {
            error.is(libc::ENOENT)
                || error.is(libc::ESRCH)
                || error.is(libc::ENODEV)
                || error.is(libc::EADDRNOTAVAIL)
        };
        match result {
            Ok(()) => {
                self.kernel.record(fact);
                if let Some(key) = key
                    && let Some(failure) = self.failures.remove(&key)
                {
                    info!(entry = %key, attempts = failure.attempts, "the kernel took it at last");
                }
                true
            }
            Err(error) if removal && absent(&error) => {
                self.kernel.record(fact);
                true
            }
            Err(error) => {
                if matches!(error, NetlinkError::Socket(_)) {
                    self.dirty.everything = true;
                }
                let Some(key) = key else {
                    // A nexthop object: its routes fail too, and say it for their peers.
                    warn!(%error, ?fact, "the kernel refused a nexthop object");
                    return false;
                };
                let attempts = self.failures.get(&key).map_or(0, |failure| failure.attempts);
                if attempts == 0 {
                    warn!(entry = %key, peer = self.ledger.owners(&key).last().map(|p| p.0), %error, "the kernel refused an entry; trying again");
                }
                let again = Instant::now() + RETRY.after(attempts);
                self.failures
                    .insert(key, Failure { reason: error.to_string(), attempts: attempts + 1, again });
                false
            }
        }
    }

    /// Entries that the ledger changed are tried at once, whatever failed before.
    pub(super) fn forget_failures(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            self.failures.remove(key);
        }
    }
}
