//! What happens to the packets when a daemon dies, and when somebody deletes what it made.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::narrator::Step;
use crate::ping_probe::{Report, millis};
use crate::repair::Damage;
use crate::{Backend, Cluster, Pings};

/// How long there is no daemon.
const DEAD: Duration = Duration::from_secs(2);
/// How long packets are watched after something has happened.
const AFTER: Duration = Duration::from_millis(500);

/// Kills the daemon of the node that the pings come from, and starts it again.
pub fn kill(step: &mut Step, cluster: &mut Cluster, pings: &Pings) -> Result<()> {
    let marks = pings.mark();
    std::thread::sleep(AFTER);
    let killed = Instant::now();
    cluster.take_daemon(0)?.kill9();
    step.progress(&format!("{} has no daemon for {} s", cluster.node(0).name(), DEAD.as_secs()));
    std::thread::sleep(DEAD);
    let ready = cluster.launch(0)?.wait_ready()?;
    let away = killed.elapsed();
    pings.flow()?;
    std::thread::sleep(AFTER);
    let report = pings.since(&marks)?;
    let messages = ready.line.number("netlink_messages");
    packets(step, &report);
    step.figure("away_ms", millis(away));
    step.figure("ready_ms", millis(ready.after));
    step.figure("netlink_messages", messages);
    let back = format!(
        "back {:.0} ms after its start, with {} changes to the kernel",
        millis(ready.after),
        messages.map_or_else(|| "an unknown number of".to_owned(), |count| count.to_string()),
    );
    if cluster.backend().is_the_daemon() {
        ensure!(
            report.received > 0,
            "no packet passes any more: {} of {} were lost",
            report.lost,
            report.sent
        );
        step.detail(format!(
            "{back}; {} of {} packets lost, {:.0} ms without an answer: the daemon is what carries them",
            report.lost,
            report.sent,
            millis(report.longest_gap)
        ));
        return Ok(());
    }
    ensure!(report.lost == 0, "{} of {} packets were lost", report.lost, report.sent);
    step.detail(format!("0 of {} packets lost; {back}", report.sent));
    Ok(())
}

/// What will be deleted on the first node: of each family its device, and what leads to the second node.
pub fn damages(cluster: &Cluster) -> Result<Vec<Damage>> {
    let backend = cluster.backend();
    if backend == Backend::Vxlan {
        return Ok(cluster.lease(1)?.vteps()?.iter().flat_map(Damage::all).collect());
    }
    if backend.is_cloud() {
        return Ok(Vec::new());
    }
    let subnets = cluster.subnets(1)?;
    let devices = backend.devices(subnets.len() > 1).into_iter().map(|name| Damage::Device(name.to_owned()));
    let networks = backend.networks(subnets.len() > 1).into_iter().map(ToOwned::to_owned);
    let routes = if backend.routes_each_peer() { subnets } else { networks.collect() };
    Ok(devices.chain(routes.into_iter().map(Damage::Route)).collect())
}

/// Deletes something, and watches it come back.
pub fn damage(step: &mut Step, cluster: &Cluster, pings: &Pings, damage: &Damage) -> Result<()> {
    let marks = pings.mark();
    let mended = damage.mended_after(cluster.node(0))?;
    pings.flow()?;
    std::thread::sleep(AFTER);
    let report = pings.since(&marks)?;
    packets(step, &report);
    step.figure("repaired_ms", millis(mended));
    step.detail(format!(
        "back after {:.1} ms; {} of {} packets lost",
        millis(mended),
        report.lost,
        report.sent
    ));
    Ok(())
}

/// What became of all the packets.
pub fn running_ping(step: &mut Step, pings: &Pings) -> Result<()> {
    let report = pings.total()?;
    packets(step, &report);
    ensure!(report.received > 0, "none of {} packets was answered", report.sent);
    step.detail(format!(
        "{} of {} packets lost over all, {:.0} ms the longest without an answer",
        report.lost,
        report.sent,
        millis(report.longest_gap)
    ));
    Ok(())
}

fn packets(step: &mut Step, report: &Report) {
    step.figure("packets", report.to_json());
}
