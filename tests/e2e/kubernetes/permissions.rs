//! What upstream's role permits, and what nobody permits it; and what a node's kubelet may. No other test on the shared control plane makes
//! nodes of these names.

use anyhow::{Context, Result};
use flannel_lab::control_plane::Identity;
use flannel_lab::control_plane::client::{Client, Patch};
use flannel_lab::control_plane::nodes::pod_cidrs;
use flannel_lab::http::Answer;
use serde_json::{Value, json};

use super::Cluster;

/// One question.
enum Ask {
    Get(&'static str),
    Post(&'static str),
    Put(&'static str),
    Delete(&'static str),
    Patch(&'static str),
    /// The same to the status, with what daemons write there.
    PatchStatus(&'static str, Value),
}

use Ask::{Delete, Get, PatchStatus, Post, Put};

impl Ask {
    fn by(&self, client: &Client) -> Result<Answer> {
        let nothing = json!({});
        match self {
            Get(path) => client.get(path),
            Post(path) => client.post(path, &json!({ "metadata": { "name": "of-nobody" } })),
            Put(path) => client.put(path, &nothing),
            Delete(path) => client.delete(path),
            Ask::Patch(path) => client.patch(path, Patch::StrategicMerge, &nothing),
            PatchStatus(path, body) => client.patch(path, Patch::StrategicMerge, body),
        }
    }

    fn shown(&self) -> String {
        match self {
            Get(path) => format!("GET {path}"),
            Post(path) => format!("POST {path}"),
            Put(path) => format!("PUT {path}"),
            Delete(path) => format!("DELETE {path}"),
            Ask::Patch(path) => format!("PATCH {path}"),
            PatchStatus(path, body) => format!("PATCH {path} {body}"),
        }
    }
}

/// What upstream's service account may, by its role or as everybody.
fn allowed() -> Vec<Ask> {
    let condition = json!({ "type": "NetworkUnavailable", "status": "False" });
    let mut all: Vec<Ask> = [
        "/api/v1/namespaces/kube-flannel/pods/of-permissions",
        "/api/v1/nodes",
        "/api/v1/nodes?resourceVersion=0&limit=500",
        "/api/v1/nodes?fieldSelector=metadata.name%3Dnode1",
        "/api/v1/nodes?watch=true&timeoutSeconds=1",
        "/api/v1/nodes?watch=true&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        "/api/v1/nodes/node1",
        "/api/v1/nodes/node2",
        "/version",
        "/readyz",
        "/api",
        "/openapi/v3",
    ]
    .map(Get)
    .into();
    // Of any node, and not only annotations and conditions.
    for (path, body) in [
        ("/api/v1/nodes/node1/status", json!({ "metadata": { "annotations": { "a": "b" } } })),
        ("/api/v1/nodes/node2/status", json!({ "metadata": { "annotations": { "a": "b" } } })),
        ("/api/v1/nodes/node2/status", json!({ "metadata": { "labels": { "a": "b" } } })),
        ("/api/v1/nodes/node2/status", json!({ "metadata": { "finalizers": ["lab.test/held"] } })),
        (
            "/api/v1/nodes/node2/status",
            json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["lab.test/held"] } }),
        ),
        ("/api/v1/nodes/node2/status", json!({ "status": { "conditions": [condition] } })),
        (
            "/api/v1/nodes/node2/status",
            json!({ "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] } }),
        ),
    ] {
        all.push(PatchStatus(path, body));
    }
    all
}

/// What it may not.
fn refused() -> Vec<Ask> {
    vec![
        Get("/api/v1/pods"),
        Get("/api/v1/namespaces/kube-flannel/pods"),
        Get("/api/v1/pods?watch=true&timeoutSeconds=1"),
        Get("/api/v1/nodes/node1/status"),
        Put("/api/v1/nodes/node1/status"),
        Put("/api/v1/nodes/node1"),
        Ask::Patch("/api/v1/nodes/node1"),
        Post("/api/v1/nodes"),
        Delete("/api/v1/nodes/node1"),
        Get("/api/v1/namespaces/kube-flannel/configmaps"),
        Get("/api/v1/namespaces/kube-flannel/configmaps/kube-flannel-cfg"),
        Get("/apis/coordination.k8s.io/v1/namespaces/kube-flannel/leases"),
        Post("/api/v1/namespaces/kube-flannel/events"),
    ]
}

/// All questions of somebody are answered with this status.
fn are_answered(client: &Client, questions: &[Ask], status: u16) -> Result<()> {
    for question in questions {
        let answer = question.by(client).with_context(|| question.shown())?;
        assert_eq!(answer.status, status, "{}: {}", question.shown(), answer.body);
        if status == 403 {
            let refusal = answer.json()?;
            assert_eq!((&refusal["kind"], &refusal["reason"]), (&json!("Status"), &json!("Forbidden")));
        }
    }
    Ok(())
}

#[test]
fn upstreams_role_permits_reading_nodes_and_pods_by_name_and_writing_any_nodes_status() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("node1", &[], &[])?;
    admin.create_node("node2", &[], &[])?;
    admin.create_pod("of-permissions", "node1")?;
    are_answered(&cluster.plane.client(Identity::Flannel("node1")), &allowed(), 200)?;
    admin.delete_pod("of-permissions")?;
    admin.delete_node("node1")?;
    admin.delete_node("node2")
}

#[test]
fn upstreams_role_permits_nothing_else() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    are_answered(&cluster.plane.client(Identity::Flannel("node1")), &refused(), 403)
}

#[test]
fn a_refusal_says_who_may_not_do_what() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let answer = cluster.plane.client(Identity::Flannel("node1")).delete("/api/v1/nodes/node1")?;
    let refusal = answer.json()?;
    let expected = "nodes \"node1\" is forbidden: User \"system:serviceaccount:kube-flannel:flannel\" cannot delete resource \
                    \"nodes\" in API group \"\" at the cluster scope";
    assert_eq!(refusal["message"], expected);
    Ok(())
}

#[test]
fn a_spec_that_is_written_with_the_status_is_left_as_it_was() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("with-a-spec", &[], &[])?;
    let cidrs = admin.wait_pod_cidrs("with-a-spec")?;
    let body =
        json!({ "spec": { "podCIDR": "10.9.0.0/24", "podCIDRs": ["10.9.0.0/24"], "unschedulable": true } });
    let flannel = cluster.plane.client(Identity::Flannel("node1"));
    let path = "/api/v1/nodes/with-a-spec/status";
    let node = flannel.patch(path, Patch::StrategicMerge, &body)?.object()?;
    assert_eq!(pod_cidrs(&node), cidrs);
    assert_eq!(node["spec"]["unschedulable"], Value::Null);
    admin.delete_node("with-a-spec")
}

#[test]
fn a_kubelet_may_read_and_write_its_own_node_only() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("node3", &[], &[])?;
    admin.create_node("node4", &[], &[])?;
    let kubelet = cluster.plane.client(Identity::Kubelet("node3"));
    let mark = || json!({ "metadata": { "annotations": { "a": "b" } } });
    let own = [
        Get("/api/v1/nodes/node3"),
        Get("/api/v1/nodes?fieldSelector=metadata.name%3Dnode3"),
        Get("/api/v1/nodes?fieldSelector=metadata.name%3Dnode3&watch=true&timeoutSeconds=1"),
        PatchStatus("/api/v1/nodes/node3/status", mark()),
    ];
    are_answered(&kubelet, &own, 200)?;
    let others = [
        Get("/api/v1/nodes/node4"),
        Get("/api/v1/nodes"),
        Get("/api/v1/nodes?watch=true&timeoutSeconds=1"),
        PatchStatus("/api/v1/nodes/node4/status", mark()),
    ];
    are_answered(&kubelet, &others, 403)?;
    admin.delete_node("node3")?;
    admin.delete_node("node4")
}

#[test]
fn who_has_no_token_is_refused_and_who_has_a_wrong_one_is_not_known() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    are_answered(&cluster.plane.client(Identity::Anonymous), &[Get("/api/v1/nodes")], 403)?;
    are_answered(&cluster.plane.client(Identity::Nobody), &[Get("/api/v1/nodes")], 403)?;
    are_answered(&cluster.plane.client(Identity::Nobody), &[Get("/api")], 200)?;
    let wrong = cluster.plane.client_with(Some("wrong".to_owned()));
    let answer = wrong.get("/api/v1/nodes")?;
    assert_eq!((answer.status, &answer.json()?["reason"]), (401, &json!("Unauthorized")));
    Ok(())
}
