//! What a call of a plugin costs: `flanneld plugin bench`.

use std::time::{Duration, Instant};

use flannel_plugin_host::{Artifact, PeerChange};
use serde::Serialize;

use super::leases::LeasesFile;
use super::session::Session;
use super::subject::{Subject, put};
use super::wanted::Wanted;

/// The most made-up leases that are handed over: their numbers are 16 bits, and the last one is the node's.
pub const MAX_LEASES: u16 = u16::MAX - 1;
/// For how long each number of leases is measured, and how often at least.
const TIME: Duration = Duration::from_millis(500);
const LEAST_CALLS: usize = 5;

/// What handing leases over costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// Leases in a call.
    pub leases: usize,
    /// Nanoseconds of a call, the median, with all that the host does for it.
    pub call_ns: u64,
    /// Of that, for each lease.
    pub lease_ns: u64,
    /// Calls that were measured.
    pub calls: usize,
    /// Entries that were declared in a call.
    pub entries: usize,
    /// Peers that are rejected, of a file's.
    pub rejected: usize,
    /// Bytes of memory that the instance has after these calls.
    pub memory: usize,
}

/// The leases of which a call is measured.
#[derive(Clone, Copy, Debug)]
pub enum Leases<'a> {
    /// So many made-up ones, for each number in turn.
    Made(&'a [u16]),
    /// Those of a file, all in a call.
    Of(&'a LeasesFile),
}

/// Measures calls. The error is for an operator.
pub fn measure(artifact: &Artifact, wanted: &Wanted, leases: Leases<'_>) -> Result<Vec<Cost>, String> {
    match leases {
        Leases::Made(counts) => {
            let subject = Subject::new(artifact, wanted)?;
            let mut session = subject.start()?;
            let made = |&count: &u16| {
                let cost = cost(&mut session, &subject.puts(1..=count))?;
                cost.1.map_or(Ok(cost.0), |reason| Err(format!("it rejects a made-up peer: {reason}")))
            };
            counts.iter().map(made).collect()
        }
        Leases::Of(file) => {
            let backend = wanted.of(artifact)?;
            let session = Session::start(artifact, &file.node.clone().told(&wanted.about), &backend);
            let changes = (1..).zip(&file.leases).map(|(id, lease)| put(id, lease.clone()));
            let (cost, _) =
                cost(&mut session.map_err(|error| error.to_string())?, &changes.collect::<Vec<_>>())?;
            Ok(vec![cost])
        }
    }
}

/// Answers also why a peer is rejected, if one is.
fn cost(session: &mut Session, changes: &[PeerChange]) -> Result<(Cost, Option<String>), String> {
    let (mut times, mut entries, mut rejections) = (Vec::new(), 0, Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < TIME || times.len() < LEAST_CALLS {
        let started = Instant::now();
        let applied = session.policy.apply(changes);
        times.push(started.elapsed());
        session.policy.take_records();
        if let Some(error) = applied.failures.first() {
            return Err(error.to_string());
        }
        rejections = applied.rejected;
        entries = applied.transaction.peers.values().flatten().map(Vec::len).sum();
    }
    times.sort_unstable();
    let call_ns = u64::try_from(times[times.len() / 2].as_nanos()).unwrap_or(u64::MAX);
    let leases = changes.len();
    let lease_ns = call_ns / (leases as u64).max(1);
    let cost = Cost {
        leases,
        call_ns,
        lease_ns,
        calls: times.len(),
        entries,
        rejected: rejections.len(),
        memory: session.policy.memory(),
    };
    Ok((cost, rejections.into_iter().next().map(|(_, reason)| reason)))
}
