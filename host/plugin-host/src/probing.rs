//! What a plugin has probed: which of its targets are probed at present, whatever becomes of peers and of instances.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flannel_model::lease::Lease;
use flannel_model::ledger::PeerId;

use super::policy::PeerChange;

/// Which target it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeKey {
    /// Whose.
    pub peer: PeerId,
    /// The address that is asked.
    pub address: IpAddr,
    /// The device by which requests leave; none: whichever the routing table says.
    pub over: Option<Arc<str>>,
    /// Bytes of a request with its IP header.
    pub size: u16,
}

/// What is probed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Which one it is.
    pub key: ProbeKey,
    /// What requests come from, where this node has that address.
    pub source: Option<IpAddr>,
    /// Between two requests, if there are not too many of all targets.
    pub interval: Duration,
    /// So many requests in a row without an answer make it lost.
    pub lost_after: u8,
    /// So many answers in a row bring a lost one back.
    pub back_after: u8,
}

/// How a target does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeCondition {
    /// It has neither answered nor been lost.
    #[default]
    Untested,
    /// It answers.
    Answered,
    /// It is lost.
    Lost,
}

/// Round trips, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundTrip {
    /// The least of the window.
    pub least: u32,
    /// Their mean.
    pub mean: u32,
    /// That of the last answer.
    pub last: u32,
}

/// What is known of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// How it does.
    pub condition: ProbeCondition,
    /// Requests that were answered or lost.
    pub sent: u64,
    /// Those that were answered.
    pub answered: u64,
    /// The last ones that were not.
    pub lost_in_a_row: u32,
    /// Requests that are looked back at.
    pub window: u32,
    /// Those of them that were lost.
    pub window_lost: u32,
    /// Of those that were answered; none: none was.
    pub round_trip: Option<RoundTrip>,
    /// How long ago the last answer was.
    pub since_answer: Option<Duration>,
    /// Between two requests.
    pub interval: Duration,
}

/// Who probes. Nothing in here waits.
pub trait Probes: Send + Sync {
    /// A plugin that probes is about to be started. Unlike all else this is called where sockets may be opened.
    fn prepare(&self) {}

    /// Why nothing of a family can be probed; none: it can be.
    fn unavailable(&self, ipv4: bool) -> Option<String>;

    /// What is known of targets, in their order; none of those that are not probed.
    fn reports(&self, targets: &mut dyn Iterator<Item = &ProbeKey>) -> Vec<Option<ProbeReport>>;
}

/// Where nothing is sent: nothing is known of any target.
pub struct NoProbes;

impl Probes for NoProbes {
    fn unavailable(&self, _: bool) -> Option<String> {
        None
    }

    fn reports(&self, targets: &mut dyn Iterator<Item = &ProbeKey>) -> Vec<Option<ProbeReport>> {
        targets.map(|_| None).collect()
    }
}

/// What a policy has declared, which its instances share; a clone is of the same.
#[derive(Clone, Default)]
pub(crate) struct Probing(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Leases that the policy has taken. Only for one that probes.
    told: HashMap<PeerId, Arc<Lease>>,
    declared: Arc<[ProbeTarget]>,
    /// It is the present instance that has declared this.
    is_own: bool,
    /// What is probed may be something else than was asked for last.
    changed: bool,
}

impl Probing {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy has taken these.
    pub(crate) fn told(&self, changes: &[PeerChange]) {
        let mut inner = self.lock();
        for change in changes {
            if let PeerChange::Put(id, lease) = change {
                let before = inner.told.insert(*id, Arc::clone(lease));
                inner.changed |= !before.is_some_and(|before| has_same_addresses(&before, lease));
            }
        }
    }

    /// The policy could not be told of these: what it has declared is of other addresses, maybe.
    pub(crate) fn put_off(&self, changes: &[PeerChange]) {
        let mut inner = self.lock();
        for change in changes {
            if let PeerChange::Put(id, lease) = change
                && inner.told.get(id).is_some_and(|before| !has_same_addresses(before, lease))
            {
                inner.told.remove(id);
                inner.changed = true;
            }
        }
    }

    /// Peers are gone, if any of these are, whatever the policy thinks of it.
    pub(crate) fn take_along(&self, changes: &[PeerChange]) {
        let mut inner = self.lock();
        for change in changes {
            if let PeerChange::Removed(id) = change {
                inner.changed |= inner.told.remove(id).is_some();
            }
        }
    }

    /// What the policy knows of a peer.
    pub(crate) fn lease(&self, peer: PeerId) -> Option<Arc<Lease>> {
        self.lock().told.get(&peer).cloned()
    }

    /// An instance begins that has declared nothing yet.
    pub(crate) fn begin_instance(&self) {
        self.lock().is_own = false;
    }

    /// The instance has declared these.
    pub(crate) fn declare(&self, targets: Arc<[ProbeTarget]>) {
        let mut inner = self.lock();
        inner.changed |= inner.declared != targets;
        (inner.declared, inner.is_own) = (targets, true);
    }

    /// What the present instance has declared.
    pub(crate) fn declared(&self) -> Arc<[ProbeTarget]> {
        let inner = self.lock();
        if inner.is_own { Arc::clone(&inner.declared) } else { Arc::default() }
    }

    /// What is to be probed from now on, if that may be something else than when this was asked last.
    pub(crate) fn take(&self) -> Option<Vec<ProbeTarget>> {
        let mut inner = self.lock();
        std::mem::take(&mut inner.changed).then(|| {
            let is_there = |target: &&ProbeTarget| {
                let lease = inner.told.get(&target.key.peer);
                lease.is_some_and(|lease| belongs(lease, target.key.address))
            };
            inner.declared.iter().filter(is_there).cloned().collect()
        })
    }
}

/// Whether an address is a peer's: one of its public ones, or one in its own subnet.
pub(crate) fn belongs(lease: &Lease, address: IpAddr) -> bool {
    is_inner(lease, address) || lease.attributes.public_addresses().any(|public| public == address)
}

/// Whether an address is in a peer's own subnet.
pub(crate) fn is_inner(lease: &Lease, address: IpAddr) -> bool {
    lease.subnets.contains(&address.into())
}

fn has_same_addresses(one: &Lease, other: &Lease) -> bool {
    one.subnets == other.subnets
        && one.attributes.public_ip == other.attributes.public_ip
        && one.attributes.public_ipv6 == other.attributes.public_ipv6
}
