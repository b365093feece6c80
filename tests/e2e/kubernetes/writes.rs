//! What becomes of a node that somebody has written to.

use anyhow::Result;
use flannel_lab::control_plane::client::Patch;
use flannel_lab::control_plane::nodes::version;
use serde_json::{Value, json};

use super::Cluster;

const STATUS: &str = "/api/v1/nodes/written/status";

#[test]
fn a_new_node_has_no_annotations_and_the_taint_of_one_that_is_not_ready() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    let node = admin.create_node("new", &["10.9.20.0/24"], &[])?;
    assert_eq!(node["metadata"]["annotations"], Value::Null);
    assert_eq!(
        node["spec"]["taints"],
        json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }])
    );
    assert_eq!(node["status"]["conditions"], Value::Null);
    admin.delete_node("new")
}

#[test]
fn a_patch_of_the_status_that_changes_nothing_makes_no_new_version() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("written", &["10.9.21.0/24"], &[("a", "b")])?;
    let condition = |kind: &str, status: &str| {
        let condition = json!({
            "type": kind, "status": status, "reason": "r", "message": "m",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        json!({ "metadata": { "annotations": { "a": "c" } }, "status": { "conditions": [condition] } })
    };
    let patch = |body: &Value| admin.patch(STATUS, Patch::StrategicMerge, body)?.object();
    let first = patch(&condition("NetworkUnavailable", "True"))?;
    assert_eq!(first["metadata"]["annotations"]["a"], "c");
    for same in [condition("NetworkUnavailable", "True"), json!({})] {
        assert_eq!(version(&patch(&same)?)?, version(&first)?, "{same}");
    }

    patch(&condition("Ready", "True"))?;
    let last = patch(&condition("NetworkUnavailable", "False"))?;
    let conditions = last["status"]["conditions"].as_array().into_iter().flatten();
    let mut conditions: Vec<_> = conditions.map(|one| (one["type"].clone(), one["status"].clone())).collect();
    conditions.sort_by_key(|(kind, _)| kind.to_string());
    let expected = [("NetworkUnavailable", "False"), ("Ready", "True")];
    assert_eq!(conditions, expected.map(|(kind, status)| (json!(kind), json!(status))), "one for each type");
    admin.delete_node("written")
}
