//! Objects as kubelets and the API server make them, shortened.

use serde_json::{Value, json};

/// A node with CIDRs and annotations, and much that nobody asks for.
pub fn node(name: &str, pod_cidrs: &[&str], annotations: &[(&str, &str)]) -> Value {
    let mut node = json!({
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name},
            "managedFields": [{"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:metadata": {"f:annotations": {}}}}],
        },
        "spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
            "images": [{"names": ["registry.example/pause:3.10"], "sizeBytes": 1}],
        },
    });
    // Without any there is no map of them, as when a node is created.
    for (key, value) in annotations {
        node["metadata"]["annotations"][*key] = json!(value);
    }
    if let Some(first) = pod_cidrs.first() {
        node["spec"]["podCIDR"] = json!(first);
        node["spec"]["podCIDRs"] = json!(pod_cidrs);
    }
    node
}

pub(crate) fn pod(namespace: &str, name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "kube-flannel"}]},
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

/// The metadata form of an object.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// A status, as a body or as the object of an event.
pub(crate) fn status(code: u16, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": "Fault", "code": code,
    })
}
