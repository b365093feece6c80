//! Plans carried out: requests in batches, and what the kernel says of each.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use flannel_model::entry::Key;
use ipnet::IpNet;
use tracing::{debug, info, warn};

use super::{RETRY, Reconciler};
use crate::ipsec::IpsecChange;
use crate::links;
use crate::netlink::{Message, NetlinkError};
use crate::observed::{Observation, Route};
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
    Ipsec(Arc<str>, Vec<IpsecChange>),
}

impl Batch {
    fn of(request: Request) -> Self {
        match request {
            Request::Routing(message) => Self::Routing(vec![message]),
            Request::Wireguard(index, change) => Self::Wireguard(index, vec![change]),
            Request::Tunnel(device, change) => Self::Tunnel(device, vec![change]),
            Request::Ipsec(device, change) => Self::Ipsec(device, vec![change]),
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
            (Some(Self::Ipsec(to, changes)), Request::Ipsec(device, change)) if *to == device => {
                changes.push(change);
            }
            (Some(_), other) => return Some(other),
            (none, first) => *none = Some(Self::of(first)),
        }
        None
    }
}

/// What the kernel refused for the first time.
#[derive(Default)]
struct Refusals {
    first: Option<(Key, String)>,
    count: usize,
}

impl Refusals {
    fn note(&mut self, key: &Key, reason: &str) {
        self.count += 1;
        if self.first.is_none() {
            self.first = Some((key.clone(), reason.to_owned()));
        }
    }
}

/// Who makes routes, as iproute2 calls them (`/etc/iproute2/rt_protos`).
fn protocol_name(protocol: u8) -> String {
    match protocol {
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        16 => "dhcp".to_owned(),
        other => other.to_string(),
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
        }
        if !self.failures.is_empty() {
            // What was in the way may have gone, and what was refused may be there by now.
            let steps = plan.steps.iter().filter_map(|step| step.key.as_ref());
            let planned: HashSet<&Key> = steps.chain(plan.blocked.iter().map(|(key, _)| key)).collect();
            let is_looked_at = |key: &Key| looked_at.is_none_or(|keys| keys.contains(key));
            self.failures.retain(|key, _| planned.contains(key) || !is_looked_at(key));
        }
        self.settle_held(&plan.adopted, looked_at);
        self.settle_policy_routes(looked_at);
        if !plan.steps.is_empty() {
            self.execute_steps(plan.steps);
        }
        // Of an entry that is there, and behind something else, the latter is to be known.
        self.report_blocked(plan.blocked);
        let is_done = |key: &Key| !self.failures.contains_key(key);
        self.dirty.keys.extend(plan.unfinished.into_iter().filter(is_done));
    }

    fn execute_steps(&mut self, steps: Vec<Step>) {
        let started = Instant::now();
        let (count, mut failed, mut refusals) = (steps.len(), 0, Refusals::default());
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            failed += self.send(steps.by_ref().take(MAX_STEPS_PER_BATCH), &mut refusals);
            // What others did meanwhile waits in the socket. What we did does not, except for the FDB's notifications,
            // which do not say who caused them; they must not fill the socket, and say what the mirror says already.
            self.ingest_notifications();
        }
        self.report_refusals(refusals);
        let took = started.elapsed();
        self.figures.batch_time += took;
        debug!(requests = count, failed, took_us = flannel_base::micros(took), "kernel updated");
    }

    /// Sends some steps; answers how many failed.
    fn send(&mut self, steps: impl Iterator<Item = Step>, refusals: &mut Refusals) -> usize {
        let (mut batch, mut pending, mut failed) = (None, Vec::new(), 0);
        for step in steps {
            let removal = step.is_removal();
            // The order of steps is that of their stages, so whom they go to changes seldom.
            if let Some(request) = Batch::add(&mut batch, step.request) {
                failed += self.flush(batch.take(), &mut pending, refusals);
                batch = Some(Batch::of(request));
            }
            pending.push((step.key, removal, step.fact));
        }
        failed + self.flush(batch, &mut pending, refusals)
    }

    /// Sends requests that go to the same, and takes the results in.
    fn flush(
        &mut self,
        batch: Option<Batch>,
        pending: &mut Vec<(Option<Key>, bool, Observation)>,
        refusals: &mut Refusals,
    ) -> usize {
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
            Some(Batch::Ipsec(device, changes)) => self.ipsec.change(&device, &changes),
        };
        let settled = std::mem::take(pending).into_iter().zip(results);
        settled
            .map(|((key, removal, fact), result)| {
                usize::from(!self.handle_ack(key, removal, fact, result, refusals))
            })
            .sum()
    }

    /// Takes the result of one request in; `false`: it failed and will be tried again.
    fn handle_ack(
        &mut self,
        key: Option<Key>,
        removal: bool,
        fact: Observation,
        result: Result<(), NetlinkError>,
        refusals: &mut Refusals,
    ) -> bool {
        let absent = |error: &NetlinkError| {
            error.is(libc::ENOENT)
                || error.is(libc::ESRCH)
                || error.is(libc::ENODEV)
                || error.is(libc::EADDRNOTAVAIL)
        };
        match result {
            Ok(()) => {
                if let Observation::NoRoute(destination, 0) = &fact {
                    // Without a metric the kernel takes the first: another, if that one was gone already.
                    let mut left = self.kernel.routes_to(destination);
                    self.dirty.everything |= left.any(|route| route.metric > 0);
                }
                self.kernel.confirm(fact);
                if let Some(key) = key
                    && let Some(failure) = self.failures.remove(&key)
                {
                    info!(entry = %key, attempts = failure.attempts, "the kernel took it at last");
                }
                true
            }
            Err(error) if removal && absent(&error) => {
                self.kernel.confirm(fact);
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
                let reason = self.refusal(&key, &error);
                if attempts == 0 {
                    refusals.note(&key, &reason);
                    // Something is there that the mirror does not know of.
                    self.dirty.everything |= error.is(libc::EEXIST);
                }
                let again = Instant::now() + RETRY.after(attempts);
                self.failures.insert(key, Failure { reason, attempts: attempts + 1, again });
                false
            }
        }
    }

    /// One line, however many there are.
    fn report_refusals(&self, Refusals { first, count }: Refusals) {
        if let Some((key, error)) = first {
            let peer = self.holder(&key).map(|peer| peer.0);
            warn!(entry = %key, peer, error, entries = count, "the kernel refused an entry; trying again");
        }
    }

    /// Takes note of which routes are ours: those that we would have made, and none of those that are not wanted any more.
    fn settle_held(&mut self, adopted: &[(IpNet, u32)], looked_at: Option<&BTreeSet<Key>>) {
        let Self { kernel, ledger, .. } = self;
        let mut held = std::mem::take(&mut kernel.held);
        let before = held.len();
        // A route that is about to be removed, or may be soon, is ours until it is gone.
        let is_over = |destination: &IpNet, held: &Route| {
            ledger.entry(&Key::Route(*destination)).is_none()
                && kernel.route(destination, held.metric) != Some(held)
        };
        match looked_at {
            None => held.retain(|destination, route| !is_over(destination, route)),
            Some(keys) => {
                for key in keys {
                    if let Key::Route(destination) = key
                        && held.get(destination).is_some_and(|route| is_over(destination, route))
                    {
                        held.remove(destination);
                    }
                }
            }
        }
        let changed = held.len() != before || !adopted.is_empty();
        for (destination, metric) in adopted {
            if let Some(route) = kernel.route(destination, *metric) {
                held.insert(*destination, route.clone());
            }
        }
        kernel.held = held;
        kernel.held_changed |= changed;
    }

    /// Entries in whose way something of somebody else's is. One line, however many there are.
    fn report_blocked(&mut self, blocked: Vec<(Key, Route)>) {
        let mut first = None;
        let count = blocked.len();
        for (key, route) in blocked {
            let attempts = self.failures.get(&key).map_or(0, |failure| failure.attempts);
            let reason = format!("a route that is not flannel's is in the way: {}", self.describe(&route));
            if self.failures.get(&key).is_none_or(|failure| failure.reason != reason) {
                first = first.or(Some((key.clone(), reason.clone())));
            }
            let again = Instant::now() + RETRY.after(attempts);
            self.failures.insert(key, Failure { reason, attempts: attempts + 1, again });
        }
        if let Some((key, reason)) = first {
            let peer = self.holder(&key).map(|peer| peer.0);
            warn!(entry = %key, peer, reason, entries = count, "an entry waits");
        }
    }

    /// A route in iproute2's words.
    fn describe(&mut self, route: &Route) -> String {
        let via = route.via.map(|via| format!("via {via} ")).unwrap_or_default();
        let metric =
            if route.has_usual_metric() { String::new() } else { format!(" metric {}", route.metric) };
        let name = links::name_of(&mut self.requests, route.oif);
        let device = name.map_or_else(|| format!("interface {}", route.oif), |name| format!("dev {name}"));
        format!("{via}{device} proto {}{metric}", protocol_name(route.protocol))
    }

    /// Entries that the ledger changed are tried at once, whatever failed before.
    pub(super) fn forget_failures(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            self.failures.remove(key);
        }
    }
}
