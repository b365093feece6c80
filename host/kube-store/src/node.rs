//! A node of Kubernetes, as far as this daemon cares for it.

use std::collections::BTreeMap;

/// A node as the API server has it, without what nobody here reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`: one at a time has it.
    pub name: String,
    /// `metadata.uid`: a node that is deleted and made again has another one.
    pub uid: String,
    /// `metadata.resourceVersion` of this reading.
    pub resource_version: String,
    /// `metadata.creationTimestamp`, RFC 3339.
    pub created: String,
    /// Whether it has a `metadata.deletionTimestamp`: it is there until its finalizers are done.
    pub deleting: bool,
    /// `metadata.annotations`, those only whose keys begin with our prefix.
    pub annotations: BTreeMap<String, String>,
    /// `spec.podCIDR`.
    pub pod_cidr: Option<String>,
    /// `spec.podCIDRs`; empty where only metadata was read, too.
    pub pod_cidrs: Vec<String>,
    /// The condition `NetworkUnavailable` in `status.conditions`.
    pub network_unavailable: Option<Condition>,
    /// `status.addresses`: type and address.
    pub addresses: Vec<(String, String)>,
}

/// What a condition says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Since when the status is what it is, RFC 3339.
    pub last_transition_time: String,
}
