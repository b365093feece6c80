//! A node joins, and leaves again.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::narrator::Step;
use crate::ping_probe::millis;
use crate::{Backend, Cluster, Echo, Place, Prober, wait};

/// How often the newcomer asks whether its packets get through yet.
const INTERVAL: Duration = Duration::from_millis(1);

/// Adds a node with a pod. The time to the first packet is measured from the node itself, so that making a pod is not counted.
pub fn join(step: &mut Step, cluster: &mut Cluster) -> Result<usize> {
    let index = cluster.add_node(Place::Near)?;
    let target = cluster.pod(0)?.addresses();
    let node = cluster.node(index);
    let name = node.name().to_owned();
    let probers: Vec<Prober> = target
        .iter()
        .map(|to| Prober::start(node.namespace(), Echo::to(*to), INTERVAL))
        .collect::<Result<_>>()?;
    let ready = cluster.launch(index)?.wait_ready()?;
    let started = cluster.daemon(index)?.started();
    let mut first = Duration::ZERO;
    for prober in &probers {
        let answered = prober.first_answer(crate::ping_probe::Mark::default())?;
        first = first.max(answered.saturating_duration_since(started));
    }
    drop(probers);
    cluster.wait_converged()?;
    let everywhere = started.elapsed();
    cluster.wire_pods()?;
    let newcomer = cluster.pod(index)?;
    for other in 0..index {
        newcomer.reaches(cluster.pod(other)?)?;
        cluster.pod(other)?.reaches(newcomer)?;
    }
    let memory = cluster.daemon(index)?.memory()?;
    step.figure("ready_ms", millis(ready.after));
    step.figure("first_packet_ms", millis(first));
    step.figure("known_everywhere_ms", millis(everywhere));
    step.figure("resident_kib", memory.resident);
    step.detail(format!(
        "{name} ready after {:.0} ms, its first packet answered after {:.0} ms; its pod reaches all others",
        millis(ready.after),
        millis(first)
    ));
    Ok(index)
}

/// Takes the node away: SIGTERM, and its lease removed.
pub fn leave(step: &mut Step, cluster: &mut Cluster, index: usize) -> Result<()> {
    let lease = cluster.leave(index)?;
    let removed = Instant::now();
    let traces: Vec<String> = match cluster.backend() {
        Backend::Vxlan => lease.vteps()?.into_iter().flat_map(|vtep| [vtep.address, vtep.mac]).collect(),
        _ => lease.subnets(),
    };
    wait::until_equal("its entries are gone everywhere", || {
        for other in 0..index {
            let state = cluster.state(other)?;
            if let Some(trace) = traces.iter().find(|trace| state.mentions(trace)) {
                return Ok(Some(format!("{} still has {trace}", cluster.node(other).name())));
            }
            let peers = cluster.status(other)?["peers"].clone();
            if let Some(subnet) = lease.subnets().iter().find(|subnet| peers.to_string().contains(*subnet)) {
                return Ok(Some(format!("{} still knows {subnet}", cluster.node(other).name())));
            }
        }
        Ok(None)
    })?;
    let gone = removed.elapsed();
    step.figure("gone_everywhere_ms", millis(gone));
    step.detail(format!(
        "{} stopped with status 0; its entries gone everywhere {:.0} ms after its lease",
        cluster.node(index).name(),
        millis(gone)
    ));
    Ok(())
}
