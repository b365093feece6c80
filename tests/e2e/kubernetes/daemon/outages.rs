//! The API server is away, or refuses.

use anyhow::Result;
use flannel_lab::control_plane::Part;
use flannel_lab::control_plane::client::Patch;
use flannel_lab::store::Store;
use flannel_lab::{Backend, Cluster, Place};
use serde_json::json;

use super::{condition, kube, two_nodes, wait_not_ready, wait_reaches};

fn kill_api_server(cluster: &mut Cluster) {
    if let Store::Kube(kube) = cluster.store_mut() {
        kube.plane.kill(Part::ApiServer);
    }
}

fn start_api_server(cluster: &mut Cluster) -> Result<()> {
    match cluster.store_mut() {
        Store::Kube(kube) => kube.plane.start_again(),
        _ => Ok(()),
    }
}

#[test]
fn a_daemon_waits_for_an_api_server_that_comes_later() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    kill_api_server(&mut cluster);
    cluster.launch(0)?;
    cluster.launch(1)?;
    wait_not_ready(&cluster, 0, &["lease store: node node1"])?;
    start_api_server(&mut cluster)?;
    for index in 0..2 {
        cluster.daemon(index)?.wait_ready()?;
    }
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn pods_go_on_while_the_api_server_is_away_and_what_has_changed_is_taken_up_after() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.bring_up()?;
    kill_api_server(&mut cluster);
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    // A restart meanwhile is no reason to be without a network.
    cluster.take_daemon(0)?.terminate()?;
    cluster.launch(0)?;
    wait_not_ready(&cluster, 0, &["node node1"])?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    start_api_server(&mut cluster)?;
    cluster.daemon(0)?.wait_ready()?;
    let third = cluster.add_node(Place::Near)?;
    cluster.launch(third)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    cluster.pod(1)?.reaches(cluster.pod(third)?)
}

#[test]
fn a_permission_that_is_missing_is_named_and_waited_for() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel";
    let admin = kube(&cluster)?.admin();
    let whole = admin.get(role)?.object()?["rules"].clone();
    let reads = json!({ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] });
    admin.patch(role, Patch::Merge, &json!({ "rules": [reads] }))?.object()?;
    cluster.launch(0)?;
    wait_not_ready(&cluster, 0, &["nodes/status", "patch", "ClusterRole"])?;
    admin.patch(role, Patch::Merge, &json!({ "rules": whole }))?.object()?;
    cluster.daemon(0)?.wait_ready()?;
    kube(&cluster)?.admin().wait_node("node1", "the condition", |node| condition(node).is_some())?;
    Ok(())
}

/// All but the list of the nodes.
fn without_list() -> serde_json::Value {
    json!([
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"] },
    ])
}

#[test]
fn an_operator_may_have_pods_begin_before_the_peers_are_known() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel";
    kube(&cluster)?.admin().patch(role, Patch::Merge, &json!({ "rules": without_list() }))?.object()?;
    let options = cluster.options().clone().env("CONT_WHEN_CACHE_NOT_READY", "true");
    cluster.set_options(options);
    cluster.launch(0)?;
    kube(&cluster)?.admin().wait_node("node1", "the condition", |node| condition(node).is_some())?;
    Ok(())
}

#[test]
fn a_list_that_is_refused_keeps_the_node_waiting_until_it_is_not() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/flannel";
    let admin = kube(&cluster)?.admin();
    let whole = admin.get(role)?.object()?["rules"].clone();
    admin.patch(role, Patch::Merge, &json!({ "rules": without_list() }))?.object()?;
    cluster.launch(0)?;
    wait_not_ready(
        &cluster,
        0,
        &["the first snapshot", r#"resources: ["nodes"], verbs: ["list", "watch"]"#],
    )?;
    cluster.daemon(0)?.wait_log("the rule to add", |line| line.raw().contains("ClusterRole"))?;
    admin.patch(role, Patch::Merge, &json!({ "rules": whole }))?.object()?;
    cluster.launch(1)?;
    for index in 0..2 {
        cluster.daemon(index)?.wait_ready()?;
    }
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    wait_reaches(&cluster, 1, 0)?;
    Ok(())
}
