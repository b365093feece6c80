//! Pod objects, which nobody runs, and the tokens that are bound to them.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::client::Client;
use super::manifest::{NAMESPACE, SERVICE_ACCOUNT};

impl Client {
    /// Makes a pod of upstream's daemon on a node: of its service account, in its namespace. It stays pending.
    pub fn create_pod(&self, name: &str, node: &str) -> Result<Value> {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name },
            "spec": {
                "serviceAccountName": SERVICE_ACCOUNT,
                "nodeName": node,
                "hostNetwork": true,
                "containers": [{ "name": "kube-flannel", "image": "flannel" }],
            },
        });
        self.post(&pods(), &pod)?.object().with_context(|| format!("a pod {name}"))
    }

    /// Makes a pod as the controller of a DaemonSet makes it: of its template, in its namespace, for a node. It stays pending.
    pub fn create_pod_of(&self, daemon_set: &Value, name: &str, node: &str) -> Result<Value> {
        let mut pod = daemon_set["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["spec"]["nodeName"] = json!(node);
        let namespace = daemon_set["metadata"]["namespace"].as_str().context("no namespace")?;
        self.post(&pods_in(namespace), &pod)?.object().with_context(|| format!("a pod {name}"))
    }

    /// Deletes a pod at once: no kubelet is there to end it.
    pub fn delete_pod(&self, name: &str) -> Result<()> {
        self.delete(&format!("{}/{name}?gracePeriodSeconds=0", pods()))?.object().map(drop)
    }

    /// A token of upstream's service account that is bound to a pod, as its kubelet asks for one; for so many seconds, 600 or more.
    pub fn token(&self, pod: &str, seconds: u32) -> Result<String> {
        let pod = self.get(&format!("{}/{pod}", pods()))?.object()?;
        self.token_of(&pod, seconds)
    }

    /// The same of any pod's service account.
    pub fn token_of(&self, pod: &Value, seconds: u32) -> Result<String> {
        let (metadata, account) = (&pod["metadata"], &pod["spec"]["serviceAccountName"]);
        let text =
            |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no pod: {pod}"));
        let (namespace, account) = (text(&metadata["namespace"])?, text(account)?);
        let (name, uid) = (&metadata["name"], &metadata["uid"]);
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": seconds,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid },
            },
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.post(&path, &request)?.object()?;
        let token = answer["status"]["token"].as_str();
        Ok(token.with_context(|| format!("a token for {name}"))?.to_owned())
    }
}

fn pods() -> String {
    pods_in(NAMESPACE)
}

fn pods_in(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// What a token says, which nobody checks here.
pub fn claims(token: &str) -> Result<Value> {
    let middle = token.split('.').nth(1).context("a token has three parts")?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle)?).context("a token's claims")
}
