//! What a call of a plugin costs: `flanneld plugin bench`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_model::ledger::PeerId;
use flannel_plugin_host::{Artifact, DirState, Limits, PeerChange, Policy};
use serde::Serialize;

use super::{environment, lease};

/// The most leases that are handed over: their numbers are 16 bits.
pub const MAX_LEASES: u16 = u16::MAX;
/// For how long each number of leases is measured, and how often at least.
const TIME: Duration = Duration::from_millis(500);
const LEAST_CALLS: usize = 5;

/// What handing leases over costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Leases in a call.
    pub leases: u16,
    /// Nanoseconds of a call, the median, with all that the host does for it.
    pub call_ns: u64,
    /// Of that, for each lease.
    pub lease_ns: u64,
    /// Calls that were measured.
    pub calls: usize,
    /// Entries that were declared in a call.
    pub entries: usize,
}

/// Measures calls with so many leases each. The error is for an operator.
pub fn measure(artifact: &Artifact, backend: &str, leases: &[u16]) -> Result<Vec<Cost>, String> {
    let environment = environment(backend, false)?;
    let backend_type = environment.backend_type.clone();
    let directory = tempfile::tempdir().map_err(|error| format!("no directory for the state: {error}"))?;
    let state = Arc::new(DirState::open(directory.path()));
    let (mut policy, _) =
        Policy::start(artifact, environment, Limits::default(), state).map_err(|error| error.to_string())?;
    policy.lease_acquired(&lease(MAX_LEASES, &backend_type, false)).map_err(|error| error.to_string())?;
    leases.iter().map(|&count| cost(&mut policy, &backend_type, count)).collect()
}

fn cost(policy: &mut Policy, backend_type: &str, leases: u16) -> Result<Cost, String> {
    let put =
        |number: u16| PeerChange::Put(PeerId(number.into()), Arc::new(lease(number, backend_type, false)));
    let changes: Vec<PeerChange> = (1..=leases).map(put).collect();
    let (mut times, mut entries) = (Vec::new(), 0);
    let begin = Instant::now();
    while begin.elapsed() < TIME || times.len() < LEAST_CALLS {
        let started = Instant::now();
        let applied = policy.apply(&changes);
        times.push(started.elapsed());
        policy.take_records();
        if let Some(error) = applied.failures.first() {
            return Err(error.to_string());
        }
        if let Some((_, reason)) = applied.rejected.first() {
            return Err(format!("it rejects a made-up peer: {reason}"));
        }
        entries = applied.transaction.peers.values().flatten().map(Vec::len).sum();
    }
    times.sort_unstable();
    let call_ns = u64::try_from(times[times.len() / 2].as_nanos()).unwrap_or(u64::MAX);
    Ok(Cost { leases, call_ns, lease_ns: call_ns / u64::from(leases.max(1)), calls: times.len(), entries })
}
