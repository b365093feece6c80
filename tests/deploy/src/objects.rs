//! Objects of Kubernetes, as a file with several YAML documents has them.

use anyhow::{Context, Result};
use serde_json::Value;

/// Objects, in the file's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects(pub Vec<Value>);

impl Objects {
    /// Reads YAML. Documents in which nothing is are left out.
    pub fn parse(yaml: &str) -> Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("this is no YAML")?;
        Ok(Self(documents.into_iter().filter(|document| !document.is_null()).collect()))
    }

    /// The only object of a kind and a name.
    pub fn get(&self, kind: &str, name: &str) -> Result<&Value> {
        let mut found =
            self.0.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        let object = found.next().with_context(|| format!("no {kind} {name} in {:?}", self.names()))?;
        anyhow::ensure!(found.next().is_none(), "several {kind} {name}");
        Ok(object)
    }

    /// The only object of a kind.
    pub fn only(&self, kind: &str) -> Result<&Value> {
        let mut found = self.0.iter().filter(|object| object["kind"] == kind);
        let object = found.next().with_context(|| format!("no {kind} in {:?}", self.names()))?;
        anyhow::ensure!(found.next().is_none(), "several of kind {kind}");
        Ok(object)
    }

    /// All objects' kinds and names, such as `DaemonSet/kube-flannel-ds`, sorted.
    pub fn names(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let name =
            |object: &Value| format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]));
        let mut names: Vec<String> = self.0.iter().map(name).collect();
        names.sort();
        names
    }

    /// The text in a ConfigMap under a key.
    pub fn config(&self, name: &str, key: &str) -> Result<&str> {
        let map = self.get("ConfigMap", name)?;
        map["data"][key].as_str().with_context(|| format!("no {key} in the ConfigMap {name}"))
    }
}
