//! A node, reduced to what the daemon looks at.

mod seed;

use std::collections::BTreeMap;

pub(crate) use seed::{NodeSeed, Pieces};

/// Bytes of an annotation's value that are kept: the server takes 256 KiB of annotations for an object, and flannel's are far shorter.
pub const LONGEST_ANNOTATION: usize = 64 << 10;

/// What is looked at of a node. In the metadata form nothing but metadata is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: another one when a node of this name was deleted and made again.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.creationTimestamp`, RFC 3339 as the server sent it.
    pub created: String,
    /// Whether there is a `metadata.deletionTimestamp`: it goes once its finalizers are gone.
    pub deleting: bool,
    /// Those whose key begins with the prefix that was asked for.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.labels`. Told where the object is watched in full.
    pub labels: BTreeMap<String, String>,
    /// `spec.podCIDRs`, or `spec.podCIDR` alone if that is empty. Once set, they stay until the UID changes.
    pub pod_cidrs: Vec<String>,
    /// Whether both of these are what an annotation says, and the object has not been read yet: whoever may write to the node may have
    /// written that.
    pub cidrs_unverified: bool,
    /// The condition of type `NetworkUnavailable`.
    pub network_unavailable: Option<Condition>,
    /// `status.addresses`: type and address.
    pub addresses: Vec<(String, String)>,
    /// What is missing above since it was of no use.
    pub problems: Vec<NodeProblem>,
}

/// A condition of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    pub reason: String,
    /// RFC 3339 as the server sent it; empty if it has none.
    pub last_transition_time: String,
}

/// What was left out of a node.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq, Hash)]
pub enum NodeProblem {
    /// An annotation's value is too long.
    #[error("the annotation {key} has {bytes} bytes, more than {LONGEST_ANNOTATION}")]
    AnnotationTooLong {
        /// The annotation's key.
        key: String,
        /// Bytes of its value.
        bytes: usize,
    },
}

impl Node {
    /// Whether it is known which CIDRs its pods have.
    pub fn has_pod_cidrs(&self) -> bool {
        !self.pod_cidrs.is_empty()
    }
}

#[cfg(test)]
mod tests;
