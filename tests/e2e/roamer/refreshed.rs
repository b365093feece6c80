//! Peers that a plugin declares for anew, although nothing about them has changed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use flannel_lab::ping_probe::Mark;
use flannel_lab::{ClusterOptions, Echo, Prober, wait};

use super::{launch, prepare_with, value};
use crate::node_info::wait_way;

const LEASES: &str = r#"flanneld_policy_leases_total{plugin="roamer",backend="vxlan"}"#;
const TICKS: &str = r#"flanneld_policy_ticks_total{plugin="roamer"}"#;

#[test]
fn a_plugin_that_sees_in_a_tick_that_a_way_is_dead_takes_the_other_one() -> Result<()> {
    let mut cluster = prepare_with(ClusterOptions { nodes: 3, ..ClusterOptions::default() })?;
    launch(&mut cluster, &["at=link,every=300,failover=2", "at=link"])?;
    wait_way(&cluster, 0, 1, false)?;
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    let ping = Prober::start(from.namespace(), Echo::to(to.ipv4()?), Duration::from_millis(1))?;
    // With a second peer its next tick takes the plain way to be dead.
    cluster.launch(2)?.wait_ready()?;
    wait_way(&cluster, 0, 1, true)?;
    // The other one sees no reason for that.
    wait_way(&cluster, 1, 0, false)?;
    let report = ping.report(Mark::default());
    ensure!(report.lost == 0 && report.sent > 100, "{report:?}");
    Ok(())
}

#[test]
fn a_plugin_that_asks_for_peers_in_each_call_about_them_is_told_of_each_once_a_second() -> Result<()> {
    let mut cluster = prepare_with(ClusterOptions::default())?;
    launch(&mut cluster, &["at=link,every=100,hot=1", "at=link"])?;
    let figure = |name| Ok::<_, anyhow::Error>(value(&cluster, 0, name)?.unwrap_or_default());
    let changes = "flanneld_lease_changes_total";
    wait::until_true("the other one is known", || Ok(figure(LEASES)? > 0.0))?;
    let (begin, before) = (Instant::now(), (figure(LEASES)?, figure(TICKS)?, figure(changes)?));
    wait::until_true("it was told again a few times", || Ok(figure(LEASES)? >= before.0 + 3.0))?;
    let (told, seconds) = (figure(LEASES)? - before.0, begin.elapsed().as_secs_f64());
    ensure!(told <= seconds + 2.0, "told {told} times in {seconds} s");
    ensure!(figure(TICKS)? > before.1, "ticks go on");
    ensure!(figure(changes)? <= before.2, "nothing about the lease has changed");
    Ok(())
}
