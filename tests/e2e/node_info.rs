//! What plugins are told of the node besides its addresses: a policy that looks where nodes are, written in Rust, Go and Python, which is the
//! same in all of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::control_plane::client::{Client, Patch};
use flannel_lab::ping_probe::Mark;
use flannel_lab::{Cluster, ClusterOptions, DaemonOptions, Echo, Prober, control_plane, wait};
use serde_json::json;

use super::built::Built;

const LABEL: &str = "topology.kubernetes.io/zone";
const ALLOW: &str = "links,routes,neighbours,fdb,node-info";

/// The components of the policy.
const RUST: &str = "zoned";
const GO: &str = "zoned-go";
const PYTHON: &str = "zoned-python";

/// A cluster that one of them serves; none: its toolchain is missing.
fn prepare(component: &str, options: ClusterOptions) -> Result<Option<Cluster>> {
    let Some(built) = Built::find(component)? else { return Ok(None) };
    let plugin = Some(built.component.clone());
    let allow = options.allow.or_else(|| Some(ALLOW.to_owned()));
    let mut cluster = Cluster::prepare(&ClusterOptions { plugin, allow, ..options })?;
    cluster.set_options(cluster.options().clone().cache(&built.cache));
    Ok(Some(cluster))
}

fn nodes(nodes: usize) -> ClusterOptions {
    ClusterOptions { nodes, ..ClusterOptions::default() }
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

fn by_their_operators_words_nodes_of_one_zone_reach_each_other_by_routes(component: &str) -> Result<()> {
    let Some(mut cluster) = prepare(component, nodes(3))? else { return Ok(()) };
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

#[test]
fn by_their_operators_words_nodes_of_one_zone_reach_each_other_by_routes_and_others_by_vxlan() -> Result<()> {
    by_their_operators_words_nodes_of_one_zone_reach_each_other_by_routes(RUST)
}

#[test]
fn by_a_policy_in_go_nodes_of_one_zone_reach_each_other_by_routes_and_others_by_vxlan() -> Result<()> {
    by_their_operators_words_nodes_of_one_zone_reach_each_other_by_routes(GO)
}

#[test]
fn by_a_policy_in_python_nodes_of_one_zone_reach_each_other_by_routes_and_others_by_vxlan() -> Result<()> {
    by_their_operators_words_nodes_of_one_zone_reach_each_other_by_routes(PYTHON)
}

/// What a daemon says that ends at its start.
fn failed(cluster: &mut Cluster) -> Result<String> {
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    ensure!(!status.success(), "{status}: {said}");
    Ok(said)
}

fn the_start_says_what_would_be_right(component: &str) -> Result<()> {
    let Some(mut cluster) = prepare(component, nodes(1))? else { return Ok(()) };
    let name = cluster.node(0).namespace().run(|| std::fs::read_to_string("/proc/sys/kernel/hostname"))??;
    let said = failed(&mut cluster)?;
    let words = format!("node {} has no label {LABEL}, and there is no --plugin-option zone=", name.trim());
    ensure!(said.contains(&words), "{said}");
    let allow = Some("links,routes,neighbours,fdb".to_owned());
    let Some(mut cluster) = prepare(component, ClusterOptions { allow, ..nodes(1) })? else { return Ok(()) };
    let said = failed(&mut cluster)?;
    ensure!(said.contains("it asks for node-info, which it is not granted"), "{said}");
    Ok(())
}

#[test]
fn without_the_grant_and_without_a_zone_the_start_says_what_would_be_right() -> Result<()> {
    the_start_says_what_would_be_right(RUST)
}

#[test]
fn without_the_grant_and_without_a_zone_the_start_of_a_policy_in_go_says_what_would_be_right() -> Result<()> {
    the_start_says_what_would_be_right(GO)
}

#[test]
fn without_the_grant_and_without_a_zone_the_start_of_a_policy_in_python_says_what_would_be_right()
-> Result<()> {
    the_start_says_what_would_be_right(PYTHON)
}

fn label(admin: &Client, node: &str, zone: Option<&str>) -> Result<()> {
    let patch = json!({ "metadata": { "labels": { LABEL: zone } } });
    admin.patch(&format!("/api/v1/nodes/{node}"), Patch::Merge, &patch)?.object()?;
    Ok(())
}

/// Two nodes of two zones in Kubernetes; none: there is no control plane here.
fn zones(component: &str) -> Result<Option<(Cluster, DaemonOptions)>> {
    if let Some(reason) = control_plane::missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let options = ClusterOptions { kubernetes: true, ..nodes(2) };
    let Some(mut cluster) = prepare(component, options)? else { return Ok(None) };
    let admin = cluster.store().as_kube()?.admin();
    for (index, zone) in ["a", "b"].into_iter().enumerate() {
        label(&admin, cluster.node(index).name(), Some(zone))?;
    }
    cluster.bring_up()?;
    let options = cluster.options().clone();
    Ok(Some((cluster, options)))
}

fn moves_to_its_zone(component: &str) -> Result<()> {
    let Some((cluster, _)) = zones(component)? else { return Ok(()) };
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
fn a_node_whose_label_changes_moves_to_its_zone_and_loses_nothing() -> Result<()> {
    moves_to_its_zone(RUST)
}

#[test]
fn by_a_policy_in_go_a_node_whose_label_changes_moves_to_its_zone_and_loses_nothing() -> Result<()> {
    moves_to_its_zone(GO)
}

#[test]
fn by_a_policy_in_python_a_node_whose_label_changes_moves_to_its_zone_and_loses_nothing() -> Result<()> {
    moves_to_its_zone(PYTHON)
}

fn goes_on_as_it_was(component: &str) -> Result<()> {
    let Some((mut cluster, _)) = zones(component)? else { return Ok(()) };
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

#[test]
fn a_node_that_loses_its_label_goes_on_as_it_was_until_it_has_another_one() -> Result<()> {
    goes_on_as_it_was(RUST)
}

#[test]
fn by_a_policy_in_go_a_node_that_loses_its_label_goes_on_as_it_was_until_it_has_another_one() -> Result<()> {
    goes_on_as_it_was(GO)
}

#[test]
fn by_a_policy_in_python_a_node_that_loses_its_label_goes_on_as_it_was_until_it_has_another_one() -> Result<()>
{
    goes_on_as_it_was(PYTHON)
}

/// What it declares for leases of its zone, of others', of strangers and of liars.
fn declared(component: &str, leases: &std::path::Path) -> Result<Option<String>> {
    let Some(built) = Built::find(component)? else { return Ok(None) };
    let mut run = built.plugin("run")?;
    let output = run.args(["--plugin-option", "zone=a", "--leases"]).arg(leases).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(said))
}

#[test]
fn the_policy_declares_the_same_in_each_language() -> Result<()> {
    let leases = tempfile::NamedTempFile::new()?;
    let data = |zone: &str| json!({ "VNI": 1, "VtepMAC": "9e:00:00:00:00:03", "Zone": zone });
    let lease = |third: u8, backend: &str, data: serde_json::Value| json!({ "Subnet": format!("10.5.{third}.0/24"), "PublicIP": format!("192.168.0.{third}"), "BackendType": backend, "BackendData": data });
    let all = json!([
        lease(3, "vxlan", data("a")),
        lease(4, "vxlan", data("b")),
        lease(5, "vxlan", json!({ "VtepMAC": "9E-00-00-00-00-05", "zone": "c" })),
        lease(6, "vxlan", json!({ "VtepMAC": "9e00.0000.0006" })),
        lease(7, "vxlan", json!({ "VtepMAC": "9e00", "Zone": "b" })),
        lease(8, "vxlan", json!({ "VtepMAC": "9e00", "Zone": 8 })),
        lease(9, "host-gw", json!(null)),
        lease(10, "vxlan", json!([])),
    ]);
    std::fs::write(&leases, all.to_string())?;
    let rust = declared(RUST, leases.path())?.context("Rust's toolchain")?;
    for said in [
        "10.5.3.0/24   192.168.0.3   route      eth0",
        "fdb        flannel.1  9e:00:00:00:00:03  is at 192.168.0.4",
        "rejected: \"9e00\" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b",
        "rejected: Zone: 8 is not a text in quotes",
    ] {
        ensure!(rust.contains(said), "{said}: {rust}");
    }
    for other in [GO, PYTHON] {
        if let Some(said) = declared(other, leases.path())? {
            assert_eq!(said.replace(other, RUST), rust, "{other}");
        }
    }
    Ok(())
}

/// That in Rust is a test of the checks themselves.
fn conforms(component: &str) -> Result<()> {
    let Some(built) = Built::find(component)? else { return Ok(()) };
    let output = built.plugin("check")?.args(["--plugin-option", "zone=a"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && !said.contains("WARNING"), "{said}");
    Ok(())
}

#[test]
fn the_policy_in_go_conforms() -> Result<()> {
    conforms(GO)
}

#[test]
fn the_policy_in_python_conforms() -> Result<()> {
    conforms(PYTHON)
}
