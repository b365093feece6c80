//! What upstream's manifest makes in a cluster, but for the daemons: its namespace, its service account, and what that may do.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::client::Client;
use crate::wait;

/// The namespace.
pub const NAMESPACE: &str = "kube-flannel";
/// The service account, the role, and the binding of both.
pub const SERVICE_ACCOUNT: &str = "flannel";

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

impl Client {
    /// Makes all of it, and waits until it has effect.
    pub fn apply_manifest(&self) -> Result<()> {
        for (path, object) in objects() {
            self.post(&path, &object)?
                .object()
                .with_context(|| format!("{} of the manifest", object["kind"]))?;
        }
        self.wait_permitted(NAMESPACE, SERVICE_ACCOUNT)
    }

    /// Makes another service account that may do the same, as distributions have one, in a namespace that Kubernetes itself makes; and waits
    /// until it may.
    pub fn apply_account(&self, namespace: &str, name: &str) -> Result<()> {
        wait::until_true(&format!("there is a namespace {namespace}"), || {
            Ok(self.get(&format!("/api/v1/namespaces/{namespace}"))?.status == 200)
        })?;
        for (path, object) in [account(namespace, name), binding(namespace, name)] {
            self.post(&path, &object)?
                .object()
                .with_context(|| format!("{} of {namespace}/{name}", object["kind"]))?;
        }
        self.wait_permitted(namespace, name)
    }

    fn wait_permitted(&self, namespace: &str, account: &str) -> Result<()> {
        wait::until_true("the service account may read nodes", || {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": format!("system:serviceaccount:{namespace}:{account}"),
                    "resourceAttributes": { "verb": "get", "resource": "nodes" },
                },
            });
            let answer =
                self.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)?.object()?;
            Ok(answer["status"]["allowed"] == true)
        })?;
        Ok(())
    }
}

/// The objects, each with the path that it is posted to.
fn objects() -> [(String, Value); 4] {
    let metadata = json!({ "name": SERVICE_ACCOUNT });
    let rule = |resources: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resources], "verbs": verbs });
    [
        (
            "/api/v1/namespaces".to_owned(),
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }),
        ),
        account(NAMESPACE, SERVICE_ACCOUNT),
        (
            format!("{RBAC}/clusterroles"),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": metadata,
                "rules": [
                    rule("pods", &["get"]),
                    rule("nodes", &["get", "list", "watch"]),
                    rule("nodes/status", &["patch"]),
                ],
            }),
        ),
        binding(NAMESPACE, SERVICE_ACCOUNT),
    ]
}

fn account(namespace: &str, name: &str) -> (String, Value) {
    (
        format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }),
    )
}

fn binding(namespace: &str, account: &str) -> (String, Value) {
    let own = (namespace, account) == (NAMESPACE, SERVICE_ACCOUNT);
    let name = if own { SERVICE_ACCOUNT.to_owned() } else { format!("{namespace}-{account}") };
    (
        format!("{RBAC}/clusterrolebindings"),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SERVICE_ACCOUNT,
            },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
        }),
    )
}
