//! Who has asked the API server for what, as it writes down itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Lab;
use crate::control_plane::manifest::{NAMESPACE, SERVICE_ACCOUNT};

/// The file with all requests of flannel's service account.
#[derive(Clone, Debug)]
pub struct Audit(PathBuf);

impl Audit {
    /// For an API server in a lab, and its flags for that.
    pub fn prepare(lab: &Lab) -> Result<(Self, [String; 2])> {
        let (policy, log) = (lab.directory().join("audit-policy.json"), lab.directory().join("audit.log"));
        let all = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["ResponseStarted", "ResponseComplete"],
            "rules": [
                { "level": "Metadata", "users": [format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}")] },
                { "level": "None" },
            ],
        });
        std::fs::write(&policy, all.to_string()).with_context(|| policy.display().to_string())?;
        let flag = |name: &str, file: &Path| format!("--audit-{name}={}", file.display());
        let flags = [flag("policy-file", &policy), flag("log-path", &log)];
        Ok((Self(log), flags))
    }

    /// The requests so far, by kind.
    pub fn requests(&self) -> Result<BTreeMap<&'static str, u32>> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| self.0.display().to_string()),
        };
        let mut counts = BTreeMap::new();
        // The last line may not be whole yet.
        for event in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            *counts.entry(kind(&event)).or_default() += 1;
        }
        Ok(counts)
    }
}

fn kind(event: &Value) -> &'static str {
    let uri = event["requestURI"].as_str().unwrap_or_default();
    match event["verb"].as_str().unwrap_or_default() {
        "watch" if uri.contains("fieldSelector") => "watch of the own node",
        "watch" if uri.contains("sendInitialEvents=true") => "list of all nodes as a stream",
        "watch" => "watch of all nodes",
        "list" => "list",
        "get" => "get",
        "patch" => "patch",
        _ => "other",
    }
}
