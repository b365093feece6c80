//! What is remembered of each node: what the metadata form does not say, and whether anything that matters has changed.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use crate::api::WatchForm;
use crate::node::Node;

use super::{annotation, number};

/// Nodes as they were told.
pub(super) struct Memory {
    nodes: HashMap<String, Known>,
    form: WatchForm,
    cidrs_annotation: Option<String>,
    hasher: RandomState,
}

struct Known {
    uid: String,
    version: u64,
    pod_cidr: Option<String>,
    pod_cidrs: Vec<String>,
    /// Of all that was told but for the version.
    digest: u64,
}

/// What is to be done about a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To be told.
    Tell(Node),
    /// Nothing that matters has changed, or it is older than what was told.
    Nothing,
    /// Its CIDRs are not known.
    Incomplete(Node),
}

impl Memory {
    pub(super) fn new(form: WatchForm, cidrs_annotation: Option<String>) -> Self {
        Self { nodes: HashMap::new(), form, cidrs_annotation, hasher: RandomState::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes at once; answers them as they are to be told.
    pub(super) fn replace(&mut self, nodes: Vec<Node>) -> Vec<Node> {
        self.nodes.clear();
        let nodes: Vec<Node> = nodes.into_iter().map(|node| self.shape(node)).collect();
        for node in &nodes {
            self.keep(node);
        }
        nodes
    }

    /// A node of which everything is known.
    pub(super) fn apply(&mut self, node: Node) -> Verdict {
        let node = self.shape(node);
        let known = self.nodes.get(&node.name);
        if known.is_some_and(|known| known.version > number(&node.resource_version)) {
            return Verdict::Nothing;
        }
        let before = known.map(|known| known.digest);
        if before == Some(self.keep(&node)) { Verdict::Nothing } else { Verdict::Tell(node) }
    }

    /// A node of which the metadata are known.
    pub(super) fn apply_metadata(&mut self, mut node: Node) -> Verdict {
        let known = self.nodes.get(&node.name);
        if known.is_some_and(|known| known.version > number(&node.resource_version)) {
            return Verdict::Nothing;
        }
        // CIDRs stay for as long as the UID does.
        let same = known.filter(|known| known.uid == node.uid && !known.uid.is_empty());
        if let Some(known) = same.filter(|known| known.pod_cidr.is_some() || !known.pod_cidrs.is_empty()) {
            node.pod_cidr.clone_from(&known.pod_cidr);
            node.pod_cidrs.clone_from(&known.pod_cidrs);
        } else {
            let said = self.cidrs_annotation.as_ref().and_then(|key| node.annotations.get(key));
            let Some(cidrs) = said.and_then(|text| annotation::cidrs(text)) else {
                return Verdict::Incomplete(node);
            };
            node.pod_cidr = cidrs.first().cloned();
            node.pod_cidrs = cidrs;
        }
        self.apply(node)
    }

    /// A node that is gone; whether that is to be told. Not if another one has taken its place meanwhile.
    pub(super) fn delete(&mut self, node: &Node) -> bool {
        let Some(known) = self.nodes.get(&node.name) else { return false };
        if known.uid != node.uid && known.version > number(&node.resource_version) {
            return false;
        }
        self.nodes.remove(&node.name).is_some()
    }

    /// What is watched as metadata is told without the rest, even if it was read.
    pub(super) fn shape(&self, mut node: Node) -> Node {
        if self.form == WatchForm::Metadata {
            node.network_unavailable = None;
            node.addresses = Vec::new();
        }
        node
    }

    fn keep(&mut self, node: &Node) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        // All but the version.
        let Node { name, uid, created, deleting, annotations, pod_cidr, pod_cidrs, .. } = node;
        (name, uid, created, deleting, annotations, pod_cidr, pod_cidrs).hash(&mut hasher);
        (&node.network_unavailable, &node.addresses, &node.problems).hash(&mut hasher);
        let digest = hasher.finish();
        let known = Known {
            uid: uid.clone(),
            version: number(&node.resource_version),
            pod_cidr: pod_cidr.clone(),
            pod_cidrs: pod_cidrs.clone(),
            digest,
        };
        self.nodes.insert(name.clone(), known);
        digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "p/pod-cidrs";

    fn memory(form: WatchForm) -> Memory {
        Memory::new(form, Some(KEY.to_owned()))
    }

    fn node(uid: &str, version: u64, cidrs: &[&str]) -> Node {
        Node {
            name: "n".to_owned(),
            uid: uid.to_owned(),
            resource_version: version.to_string(),
            pod_cidr: cidrs.first().map(|cidr| (*cidr).to_owned()),
            pod_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            addresses: vec![("InternalIP".to_owned(), "192.0.2.1".to_owned())],
            ..Node::default()
        }
    }

    #[test]
    fn a_node_of_which_nothing_but_the_version_has_changed_is_not_told_again() {
        let mut memory = memory(WatchForm::Full);
        assert!(matches!(memory.apply(node("a", 1, &["10.0.1.0/24"])), Verdict::Tell(_)));
        assert_eq!(memory.apply(node("a", 2, &["10.0.1.0/24"])), Verdict::Nothing);
        let changed = Node { deleting: true, ..node("a", 3, &["10.0.1.0/24"]) };
        assert_eq!(memory.apply(changed.clone()), Verdict::Tell(changed));
    }

    #[test]
    fn metadata_get_the_cidrs_that_are_known_of_the_same_uid() {
        let mut memory = memory(WatchForm::Metadata);
        memory.replace(vec![node("a", 1, &["10.0.1.0/24"])]);
        let deleting = Node { deleting: true, addresses: Vec::new(), ..node("a", 2, &[]) };
        let Verdict::Tell(told) = memory.apply_metadata(deleting) else { panic!("not told") };
        assert_eq!(told.pod_cidrs, ["10.0.1.0/24"]);
        let other = node("b", 3, &[]);
        assert_eq!(memory.apply_metadata(other.clone()), Verdict::Incomplete(other));
    }

    #[test]
    fn an_annotation_tells_the_cidrs_of_a_new_node() {
        let mut memory = memory(WatchForm::Metadata);
        let mut new = node("a", 1, &[]);
        new.annotations.insert(KEY.to_owned(), "10.0.1.0/24,fd00::/64".to_owned());
        let Verdict::Tell(told) = memory.apply_metadata(new) else { panic!("not told") };
        assert_eq!((told.pod_cidr.as_deref(), told.pod_cidrs.len()), (Some("10.0.1.0/24"), 2));
    }

    #[test]
    fn a_node_without_cidrs_stays_incomplete() {
        let mut memory = memory(WatchForm::Metadata);
        memory.replace(vec![node("a", 1, &[])]);
        assert!(matches!(memory.apply_metadata(node("a", 2, &[])), Verdict::Incomplete(_)));
    }

    #[test]
    fn what_is_watched_as_metadata_is_told_as_metadata() {
        let mut memory = memory(WatchForm::Metadata);
        let told = memory.replace(vec![node("a", 1, &["10.0.1.0/24"])]);
        assert!(told[0].addresses.is_empty());
        assert_eq!(memory.apply(node("a", 2, &["10.0.1.0/24"])), Verdict::Nothing);
    }

    #[test]
    fn what_is_older_than_what_was_told_changes_nothing() {
        let mut memory = memory(WatchForm::Full);
        memory.apply(node("b", 9, &["10.0.2.0/24"]));
        assert_eq!(memory.apply(node("a", 5, &["10.0.1.0/24"])), Verdict::Nothing);
        // The end of the one that it has taken the place of.
        assert!(!memory.delete(&node("a", 7, &[])));
        assert!(memory.delete(&node("b", 8, &[])));
        assert!(!memory.delete(&node("b", 8, &[])));
    }
}
