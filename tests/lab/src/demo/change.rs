//! Another backend in the place of the one that the cluster has, while packets flow.

use anyhow::{Result, ensure};
use serde_json::json;

use super::narrator::Step;
use crate::ping_probe::millis;
use crate::{Backend, Cluster, Pings, Traffic, change};

/// Writes another `Backend` section into the network config, waits until all nodes are at rest with it, and counts what was lost: of the ping,
/// of numbered datagrams from each pod to each other, and of bytes by TCP.
pub fn to(step: &mut Step, cluster: &mut Cluster, pings: &Pings, backend: Backend) -> Result<()> {
    let former = cluster.backend();
    let marks = pings.mark();
    let traffic = Traffic::among(cluster.pods())?;
    step.progress(&format!("the network config asks for {backend} instead of {former}"));
    let took = change::to(cluster, &backend.section())?;
    traffic.goes_on()?;
    pings.flow()?;
    let (counted, pinged) = (traffic.stop()?, pings.since(&marks)?);
    step.figure("took_ms", millis(took));
    step.figure("pings", pinged.to_json());
    step.figure(
        "datagrams",
        json!({"sent": counted.sent(), "lost": counted.lost(), "late": counted.late().count}),
    );
    step.figure("tcp_bytes", counted.bytes());
    ensure!(counted.is_clean(), "{counted}");
    ensure!(pinged.lost == 0, "{} of {} pings were lost", pinged.lost, pinged.sent);
    step.detail(format!(
        "from {former} in {:.1} s: 0 of {} pings and 0 of {} datagrams lost, {} bytes by TCP as they were sent",
        took.as_secs_f64(),
        pinged.sent,
        counted.sent(),
        counted.bytes()
    ));
    Ok(())
}
