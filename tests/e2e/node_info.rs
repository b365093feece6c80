//! What plugins are told of the node besides its addresses: a policy that looks where nodes are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::control_plane::client::{Client, Patch};
use flannel_lab::ping_probe::Mark;
use flannel_lab::{Cluster, ClusterOptions, DaemonOptions, Echo, Prober, control_plane, wait};
use serde_json::json;

const LABEL: &str = "topology.kubernetes.io/zone";
const ALLOW: &str = "links,routes,neighbours,fdb,node-info";

fn options(nodes: usize) -> Result<ClusterOptions> {
    let plugin = Some(component("zoned")?);
    Ok(ClusterOptions { nodes, plugin, allow: Some(ALLOW.to_owned()), ..ClusterOptions::default() })
}

/// Waits until the packets of a node to another one's pods leave by a device: the external interface, or that of VXLAN.
pub(crate) fn wait_way(cluster: &Cluster, from: usize, to: usize, tunnelled: bool) -> Result<()> {
    let subnet = cluster.subnets(to)?.first().context("no subnet")?.clone();
    wait::until_equal(&format!("node {from} reaches {subnet}, tunnelled: {tunnelled}"), || {
        let route = cluster.node(from).ip(&format!("route show {subnet}"))?;
        let is_so = !route.is_empty() && route.contains("flannel.1") == tunnelled;
        Ok((!is_so).then_some(route))
    })?;
    Ok(())
}

#[test]
fn by_their_operators_words_nodes_of_one_zone_reach_each_other_by_routes_and_others_by_vxlan() -> Result<()> {
    let mut cluster = Cluster::prepare(&options(3)?)?;
    let base = cluster.options().clone();
    for (index, zone) in ["a", "a", "b"].into_iter().enumerate() {
        cluster.set_options(base.clone().arg(format!("--plugin-option=zone={zone},rack=7")));
        cluster.launch(index)?.wait_ready()?;
    }
    cluster.wire_pods()?;
    for (from, to, tunnelled) in [(0, 1, false), (1, 0, false), (0, 2, true), (2, 0, true), (2, 1, true)] {
        wait_way(&cluster, from, to, tunnelled)?;
        cluster.pod(from)?.reaches(cluster.pod(to)?)?;
    }
    Ok(())
}

/// What a daemon says that ends at its start.
fn failed(cluster: &mut Cluster) -> Result<String> {
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    ensure!(!status.success(), "{status}: {said}");
    Ok(said)
}

#[test]
fn without_the_grant_and_without_a_zone_the_start_says_what_would_be_right() -> Result<()> {
    let mut cluster = Cluster::prepare(&options(1)?)?;
    let name = cluster.node(0).namespace().run(|| std::fs::read_to_string("/proc/sys/kernel/hostname"))??;
    let said = failed(&mut cluster)?;
    let words = format!("node {} has no label {LABEL}, and there is no --plugin-option zone=", name.trim());
    ensure!(said.contains(&words), "{said}");
    let allow = Some("links,routes,neighbours,fdb".to_owned());
    let mut cluster = Cluster::prepare(&ClusterOptions { allow, ..options(1)? })?;
    let said = failed(&mut cluster)?;
    ensure!(said.contains("it asks for node-info, which it is not granted"), "{said}");
    Ok(())
}

fn label(admin: &Client, node: &str, zone: Option<&str>) -> Result<()> {
    let patch = json!({ "metadata": { "labels": { LABEL: zone } } });
    admin.patch(&format!("/api/v1/nodes/{node}"), Patch::Merge, &patch)?.object()?;
    Ok(())
}

/// Two nodes of two zones in Kubernetes; none: there is no control plane here.
fn zones() -> Result<Option<(Cluster, DaemonOptions)>> {
    if let Some(reason) = control_plane::missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let mut cluster = Cluster::prepare(&ClusterOptions { kubernetes: true, ..options(2)? })?;
    let admin = cluster.store().as_kube()?.admin();
    for (index, zone) in ["a", "b"].into_iter().enumerate() {
        label(&admin, cluster.node(index).name(), Some(zone))?;
    }
    cluster.bring_up()?;
    let options = cluster.options().clone();
    Ok(Some((cluster, options)))
}

#[test]
fn a_node_whose_label_changes_moves_to_its_zone_and_loses_nothing() -> Result<()> {
    let Some((cluster, _)) = zones()? else { return Ok(()) };
    let (admin, name) = (cluster.store().as_kube()?.admin(), cluster.node(1).name().to_owned());
    wait_way(&cluster, 0, 1, true)?;
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    let ping = Prober::start(from.namespace(), Echo::to(to.ipv4()?), Duration::from_millis(1))?;
    for (zone, tunnelled) in [("a", false), ("b", true), ("a", false)] {
        label(&admin, &name, Some(zone))?;
        wait_way(&cluster, 0, 1, tunnelled)?;
        wait_way(&cluster, 1, 0, tunnelled)?;
        let data = cluster.store().as_kube()?.annotation(&name, "backend-data")?;
        ensure!(data.as_ref().is_some_and(|data| data.contains(&format!("\"Zone\":\"{zone}\""))), "{data:?}");
    }
    let report = ping.report(Mark::default());
    ensure!(report.lost == 0 && report.sent > 100, "{report:?}");
    // Not a restart, as after a failure.
    let plugin = cluster.status(1)?["plugin"].clone();
    ensure!(plugin["restarts"] == 0 && plugin["failures"] == 0, "{plugin}");
    Ok(())
}

#[test]
fn a_node_that_loses_its_label_goes_on_as_it_was_until_it_has_another_one() -> Result<()> {
    let Some((mut cluster, _)) = zones()? else { return Ok(()) };
    let (admin, name) = (cluster.store().as_kube()?.admin(), cluster.node(1).name().to_owned());
    label(&admin, &name, None)?;
    cluster.daemon(1)?.wait_log("what the plugin says", |line| {
        line.raw().contains("the plugin does not begin with them") && line.raw().contains(LABEL)
    })?;
    // Peers come and go meanwhile.
    let third = cluster.add_node(flannel_lab::Place::Near)?;
    label(&admin, cluster.node(third).name(), Some("c"))?;
    cluster.launch(third)?.wait_ready()?;
    cluster.wire_pods()?;
    wait_way(&cluster, 1, third, true)?;
    cluster.pod(1)?.reaches(cluster.pod(third)?)?;
    label(&admin, &name, Some("c"))?;
    wait_way(&cluster, 1, third, false)?;
    wait_way(&cluster, third, 1, false)?;
    cluster.pod(third)?.reaches(cluster.pod(1)?)
}
