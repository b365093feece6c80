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

    /// Deletes a pod at once: no kubelet is there to end it.
    pub fn delete_pod(&self, name: &str) -> Result<()> {
        self.delete(&format!("{}/{name}?gracePeriodSeconds=0", pods()))?.object().map(drop)
    }

    /// A token of upstream's service account that is bound to a pod, as its kubelet asks for one; for so many seconds, 600 or more.
    pub fn token(&self, pod: &str, seconds: u32) -> Result<String> {
        let uid = self.get(&format!("{}/{pod}", pods()))?.object()?["metadata"]["uid"].clone();
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": seconds,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid },
            },
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{SERVICE_ACCOUNT}/token");
        let answer = self.post(&path, &request)?.object()?;
        let token = answer["status"]["token"].as_str();
        Ok(token.with_context(|| format!("a token for {pod}"))?.to_owned())
    }
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

/// What a token says, which nobody checks here.
pub fn claims(token: &str) -> Result<Value> {
    let middle = token.split('.').nth(1).context("a token has three parts")?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle)?).context("a token's claims")
}
