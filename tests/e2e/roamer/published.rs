//! What a node publishes of itself, and changes while its plugin runs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::plugin;
use flannel_lab::ping_probe::Mark;
use flannel_lab::{Cluster, ClusterOptions, Echo, Prober, control_plane, wait};
use serde_json::Value;

use super::{launch, prepare, prepare_with, value};
use crate::node_info::wait_way;

const MOVES: &str = r#"flanneld_policy_moves_total{plugin="roamer"}"#;
const PUBLISHES: &str = r#"flanneld_policy_publishes_total{plugin="roamer"}"#;
const WRITES: &str = r#"flanneld_store_operations_total{operation="renew",outcome="ok"}"#;

/// What a node's lease has of its plugin's.
fn data(cluster: &Cluster, node: usize) -> Result<Value> {
    if let Ok(kube) = cluster.store().as_kube() {
        let text = kube.annotation(cluster.node(node).name(), "backend-data")?.context("no annotation")?;
        return Ok(serde_json::from_str(&text)?);
    }
    let lease: Value = serde_json::from_str(&cluster.lease(node)?.value)?;
    Ok(lease["BackendData"].clone())
}

/// The first node follows the second, which moves again and again.
fn follows(options: ClusterOptions) -> Result<Cluster> {
    let mut cluster = prepare_with(options)?;
    launch(&mut cluster, &["rack=7", "at=tunnel,every=1200,moves=1000"])?;
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    let ping = Prober::start(from.namespace(), Echo::to(to.ipv4()?), Duration::from_millis(1))?;
    for tunnelled in [false, true, false, true] {
        wait_way(&cluster, 0, 1, tunnelled)?;
    }
    let report = ping.report(Mark::default());
    ensure!(report.lost == 0 && report.sent > 100, "{report:?}");
    ensure!(data(&cluster, 1)?["Moves"].as_u64() > Some(2), "{}", data(&cluster, 1)?);
    Ok(cluster)
}

#[test]
fn a_node_that_moves_is_found_where_it_says_until_another_plugin_takes_over() -> Result<()> {
    let cluster = follows(ClusterOptions::default())?;
    cluster.swap(1, &plugin("vxlan")?)?;
    wait::until_equal("the other plugin's data are published", || {
        let data = data(&cluster, 1)?;
        Ok((!data["At"].is_null()).then(|| data.to_string()))
    })?;
    wait_way(&cluster, 0, 1, true)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_node_that_moves_is_followed_by_way_of_etcd() -> Result<()> {
    follows(ClusterOptions { etcd: true, ..ClusterOptions::default() }).map(drop)
}

#[test]
fn a_node_that_moves_is_followed_by_way_of_its_annotations() -> Result<()> {
    if let Some(reason) = control_plane::missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    follows(ClusterOptions { kubernetes: true, ..ClusterOptions::default() }).map(drop)
}

#[test]
fn a_plugin_that_publishes_a_thousand_times_a_second_is_written_once_a_second_at_most() -> Result<()> {
    let mut cluster = prepare(1, "every=100,burst=100")?;
    cluster.bring_up()?;
    let figure = |name| Ok::<_, anyhow::Error>(value(&cluster, 0, name)?.unwrap_or_default());
    let (begin, before) = (Instant::now(), figure(WRITES)?);
    wait::until_true("it has published often", || Ok(figure(PUBLISHES)? > 3000.0))?;
    let (written, seconds) = (figure(WRITES)? - before, begin.elapsed().as_secs_f64());
    ensure!(written >= 1.0 && written <= seconds + 2.0, "{written} writes in {seconds} s");
    ensure!(figure("flanneld_ready")? > 0.0, "what waits for its turn is nothing wrong");
    let first = data(&cluster, 0)?["Sequence"].as_u64();
    wait::until_true("what is newer is written", || Ok(data(&cluster, 0)?["Sequence"].as_u64() > first))?;
    Ok(())
}

#[test]
fn what_is_published_while_etcd_is_away_is_there_when_it_is_back() -> Result<()> {
    let mut cluster = prepare_with(ClusterOptions { etcd: true, ..ClusterOptions::default() })?;
    launch(&mut cluster, &["rack=7", "at=tunnel,every=1000,moves=5"])?;
    wait_way(&cluster, 0, 1, false)?;
    cluster.etcd()?.pause(0)?;
    wait::until_true("it has moved five times", || Ok(value(&cluster, 1, MOVES)? == Some(5.0)))?;
    cluster.etcd()?.resume(0)?;
    wait::until_equal("the last is written", || {
        let data = data(&cluster, 1)?;
        Ok((data["Moves"] != 5 || data["At"] != "link").then(|| data.to_string()))
    })?;
    wait_way(&cluster, 0, 1, false)?;
    // Nothing older comes after it.
    std::thread::sleep(Duration::from_secs(3));
    ensure!(data(&cluster, 1)?["Moves"] == 5, "{}", data(&cluster, 1)?);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
