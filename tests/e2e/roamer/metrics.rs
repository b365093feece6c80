//! Figures of a plugin's own, among those of the daemon.

use anyhow::{Result, ensure};
use flannel_lab::artifacts::{component, plugin};
use flannel_lab::{Cluster, wait};

use super::{all_metrics, prepare, series, value};

const ALL: &str = "flanneld_policy_";
const TICKS: &str = r#"flanneld_policy_ticks_total{plugin="roamer"}"#;
const LEASES: &str = r#"flanneld_policy_leases_total{plugin="roamer",backend="vxlan"}"#;

/// Waits until a figure of the first node is more than this, and answers what it is.
fn wait_more(cluster: &Cluster, name: &str, than: f64) -> Result<f64> {
    let more = wait::until(&format!("{name} is more than {than}"), || {
        Ok(value(cluster, 0, name)?.filter(|value| *value > than))
    });
    more.map(|(value, _)| value)
}

#[test]
fn what_a_plugin_counts_is_shown_as_long_as_it_serves() -> Result<()> {
    let mut cluster = prepare(2, "every=100")?;
    cluster.bring_up()?;
    let ticks = wait_more(&cluster, TICKS, 2.0)?;
    wait_more(&cluster, TICKS, ticks)?;
    wait_more(&cluster, LEASES, 0.0)?;
    wait_more(&cluster, r#"flanneld_policy_peers{plugin="roamer",told="yes"}"#, 0.0)?;
    let all = all_metrics(&cluster, 0)?;
    ensure!(
        all.contains("# HELP flanneld_policy_ticks How often it was asked to look after itself\n"),
        "{all}"
    );
    cluster.swap(0, &plugin("vxlan")?)?;
    ensure!(series(&cluster, 0, ALL)?.is_empty(), "{:?}", series(&cluster, 0, ALL)?);
    ensure!(!series(&cluster, 1, ALL)?.is_empty(), "the other node's plugin serves");
    // Another start of it begins anew.
    cluster.swap(0, &component("roamer")?)?;
    wait_more(&cluster, TICKS, 0.0)?;
    // Another backend.
    cluster.store().put_config(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#)?;
    wait::until_true("host-gw serves", || Ok(cluster.status(0)?["plugin"]["name"] == "host-gw"))?;
    wait::until_true("nothing of the former is shown", || Ok(series(&cluster, 0, ALL)?.is_empty()))?;
    Ok(())
}

#[test]
fn a_plugin_that_is_refused_shows_nothing() -> Result<()> {
    let mut cluster = prepare(1, "every=soon")?;
    cluster.set_options(cluster.options().clone().plugin(plugin("vxlan")?));
    cluster.bring_up()?;
    let refused = cluster.swap(0, &component("roamer")?).expect_err("it has no number").to_string();
    ensure!(refused.contains("is no number"), "{refused}");
    ensure!(series(&cluster, 0, ALL)?.is_empty(), "{:?}", series(&cluster, 0, ALL)?);
    Ok(())
}

#[test]
fn counters_do_not_go_back_when_a_plugin_is_started_afresh_and_refused_figures_cost_nothing() -> Result<()> {
    let mut cluster = prepare(2, "every=100,trap=5,wrong=1")?;
    cluster.bring_up()?;
    let mut before = 0.0;
    wait::until_true("it was started afresh twice", || {
        let now = value(&cluster, 0, TICKS)?.unwrap_or_default();
        ensure!(now >= before, "{before} ticks, and then {now}");
        before = now;
        Ok(cluster.status(0)?["plugin"]["restarts"].as_u64() >= Some(2))
    })?;
    ensure!(value(&cluster, 0, TICKS)? > Some(9.0), "{before}");
    cluster.daemon(0)?.wait_log("what is refused", |line| {
        line.raw().contains("metrics.set-gauge") && line.raw().contains("NaN is no value of a gauge")
    })?;
    let said = cluster.daemon(0)?.log().tail();
    ensure!(said.matches("metrics.set-gauge").count() == 1, "{said}");
    cluster.wire_pods()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
