//! The daemon in Kubernetes: a real API server, and nodes whose objects say how they are reached.

mod annotations;
mod credentials;
mod outages;
mod pods;
mod start;

use anyhow::Result;
use flannel_lab::control_plane;
use flannel_lab::control_plane::client::Client;
use flannel_lab::http::{self, Answer};
use flannel_lab::kube_store::{KubeStore, PREFIX};
use flannel_lab::store::Store;
use flannel_lab::{Backend, Cluster, ClusterOptions, wait};
use serde_json::{Map, Value};

/// Where the health endpoints are, on a node.
const HEALTH: &str = "127.0.0.1:8081";

/// Two nodes with objects, and no daemon yet. None, with the reason on standard output: a control plane cannot be had on this machine.
fn two_nodes(backend: Backend, ipv6: bool) -> Result<Option<Cluster>> {
    prepare(&ClusterOptions { nodes: 2, ..ClusterOptions::of(backend, ipv6) })
}

fn prepare(options: &ClusterOptions) -> Result<Option<Cluster>> {
    prepare_with(options, Store::kube)
}

/// The same with a store in which not all is as usual.
fn prepare_with(
    options: &ClusterOptions,
    store: impl FnOnce(&flannel_lab::Lab) -> Result<Store>,
) -> Result<Option<Cluster>> {
    if let Some(reason) = control_plane::missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let mut cluster = Cluster::prepare_with(options, store)?;
    cluster.add_arguments(&["--healthz-port=8081"]);
    Ok(Some(cluster))
}

/// A store whose nodes have no objects yet.
fn without_nodes(lab: &flannel_lab::Lab) -> Result<Store> {
    Ok(Store::Kube(Box::new(KubeStore::without_nodes(lab, &[])?)))
}

fn kube(cluster: &Cluster) -> Result<&KubeStore> {
    cluster.store().as_kube()
}

fn node(cluster: &Cluster, index: usize) -> Result<Value> {
    kube(cluster)?.admin().node(cluster.node(index).name())
}

fn readiness(cluster: &Cluster, index: usize) -> Result<Answer> {
    http::get(cluster.node(index).namespace(), HEALTH.parse()?, "/readyz")
}

/// Waits until a node says that it is not ready, and why.
fn wait_not_ready(cluster: &Cluster, index: usize, words: &[&str]) -> Result<()> {
    wait::until_equal("the node says why it is not ready", || {
        let Ok(answer) = readiness(cluster, index) else { return Ok(Some("no answer".to_owned())) };
        let says = answer.status == 503 && words.iter().all(|word| answer.body.contains(word));
        Ok((!says).then(|| format!("{} {}", answer.status, answer.body)))
    })?;
    let alive = http::get(cluster.node(index).namespace(), HEALTH.parse()?, "/healthz")?;
    assert_eq!(alive.status, 200, "a liveness probe must not end it");
    Ok(())
}

/// Waits until a node's pod reaches another's: what a peer has published is on its way.
fn wait_reaches(cluster: &Cluster, from: usize, to: usize) -> Result<()> {
    let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
    wait::until_true("pods reach each other", || Ok(from.reaches(to).is_ok()))?;
    Ok(())
}

/// A node's condition `NetworkUnavailable`.
pub(super) fn condition(node: &Value) -> Option<&Value> {
    let conditions = node["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == "NetworkUnavailable")
}

/// What flannel says of a node in its annotations: others', the controller manager's say, are not among them.
fn said(node: &Value) -> Map<String, Value> {
    let all = node["metadata"]["annotations"].as_object().into_iter().flatten();
    all.filter(|(key, _)| key.starts_with(PREFIX)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Strips a node of all that flannel says in its annotations, and waits until the same is there again.
fn strip_and_wait(admin: &Client, name: &str) -> Result<()> {
    let before = said(&admin.node(name)?);
    assert!(!before.is_empty(), "nothing to strip");
    let none: Vec<_> = before.keys().map(|key| (key.as_str(), None)).collect();
    let stripped = admin.annotate_node(name, &none)?;
    assert!(said(&stripped).is_empty(), "{stripped}");
    admin.wait_node(name, "its annotations", |node| said(node) == before)?;
    Ok(())
}
