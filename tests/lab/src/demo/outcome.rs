//! What the demo found: what `--json` prints.

use serde::Serialize;
use serde_json::{Map, Value};

/// Everything.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a member of the JSON object")]
pub struct Outcome {
    /// Whether every step held.
    pub ok: bool,
    /// The backend.
    pub backend: &'static str,
    /// Why this machine cannot have it; none: it can.
    pub unsupported: Option<String>,
    /// How many nodes there were at first.
    pub nodes: usize,
    /// Whether the cluster had both families.
    pub ipv6: bool,
    /// Whether leases were in etcd.
    pub etcd: bool,
    /// Whether nodes were real ones of Kubernetes.
    pub kubernetes: bool,
    /// Size of the plugin's file.
    pub component_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// The steps, in order.
    pub steps: Vec<StepOutcome>,
}

/// A step.
#[derive(Clone, Debug, Serialize)]
pub struct StepOutcome {
    /// What was done.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// How long it took, with all preparation.
    pub seconds: f64,
    /// What was measured; units are in the names.
    pub figures: Map<String, Value>,
    /// In words; where it did not hold, why.
    pub detail: String,
}
