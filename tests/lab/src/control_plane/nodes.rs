//! Node objects, as an administrator makes, marks and reads them.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::client::{Client, Patch};
use crate::wait;

const NODES: &str = "/api/v1/nodes";

impl Client {
    /// Makes a node. Without podCIDRs, the controller gives it some. As long as there is a node with podCIDRs that are not of the cluster's
    /// networks, controllers that are started end at once, and say so in their log.
    pub fn create_node(&self, name: &str, pod_cidrs: &[&str], annotations: &[(&str, &str)]) -> Result<Value> {
        let annotations: Map<String, Value> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let spec = if pod_cidrs.is_empty() { json!({}) } else { json!({ "podCIDRs": pod_cidrs }) };
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "annotations": annotations },
            "spec": spec,
        });
        self.post(NODES, &node)?.object().with_context(|| format!("a node {name}"))
    }

    /// A node as it is now.
    pub fn node(&self, name: &str) -> Result<Value> {
        self.get(&format!("{NODES}/{name}"))?.object()
    }

    /// Deletes a node.
    pub fn delete_node(&self, name: &str) -> Result<()> {
        self.delete(&format!("{NODES}/{name}"))?.object().map(drop)
    }

    /// Sets annotations of a node, or removes them: those without a value. Answers the node.
    pub fn annotate_node(&self, name: &str, annotations: &[(&str, Option<&str>)]) -> Result<Value> {
        let annotations: Map<String, Value> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let patch = json!({ "metadata": { "annotations": annotations } });
        self.patch(&format!("{NODES}/{name}"), Patch::Merge, &patch)?.object()
    }

    /// Waits until something is so of a node. Answers the node.
    pub fn wait_node(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let waited = wait::until(&format!("{name}: {what}"), || {
            last = self.node(name)?;
            Ok(is_so(&last).then(|| last.clone()))
        });
        waited.map(|(node, _)| node).with_context(|| format!("{last:#}"))
    }

    /// Waits until a node has podCIDRs. Answers these.
    pub fn wait_pod_cidrs(&self, name: &str) -> Result<Vec<String>> {
        let node =
            self.wait_node(name, "the controller gives it podCIDRs", |node| !pod_cidrs(node).is_empty())?;
        Ok(pod_cidrs(&node))
    }
}

/// The podCIDRs of a node; none: nobody has given it some yet.
pub fn pod_cidrs(node: &Value) -> Vec<String> {
    let all = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
    all.filter_map(|cidr| cidr.as_str().map(str::to_owned)).collect()
}

/// The version that an object, or a list, is of.
pub fn version(object: &Value) -> Result<String> {
    let version = object["metadata"]["resourceVersion"].as_str();
    Ok(version.with_context(|| format!("no resource version: {object}"))?.to_owned())
}
