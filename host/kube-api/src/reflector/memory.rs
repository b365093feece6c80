//! What is remembered of each node: what the metadata form does not say, and whether anything that matters has changed.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::num::NonZeroU64;

use crate::api::WatchForm;
use crate::node::Node;

use super::{annotation, number};

/// Nodes as they were told.
pub(super) struct Memory {
    nodes: HashMap<Box<str>, Known>,
    /// Those of a list that has no end yet.
    listed: HashMap<Box<str>, Known>,
    form: WatchForm,
    cidrs_annotation: Option<String>,
    hasher: RandomState,
}

/// Small: there may be tens of thousands.
struct Known {
    /// The UID's digest; none: it has none.
    uid: Option<NonZeroU64>,
    version: u64,
    /// With commas between them.
    pod_cidrs: Box<str>,
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
        let (nodes, listed) = (HashMap::new(), HashMap::new());
        Self { nodes, listed, form, cidrs_annotation, hasher: RandomState::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A list of all nodes begins. One that has begun before is void.
    pub(super) fn begin_list(&mut self) {
        self.listed = HashMap::with_capacity(self.nodes.len());
    }

    /// A node of it; answers it as it is to be told.
    pub(super) fn list(&mut self, node: Node) -> Node {
        let node = self.shape(node);
        self.listed.insert(node.name.as_str().into(), self.known(&node));
        node
    }

    /// A node that has gone meanwhile; whether it was listed.
    pub(super) fn unlist(&mut self, name: &str) -> bool {
        self.listed.remove(name).is_some()
    }

    /// How many nodes are listed.
    pub(super) fn listed(&self) -> usize {
        self.listed.len()
    }

    /// There are those that are listed, and no others.
    pub(super) fn end_list(&mut self) {
        self.nodes = std::mem::take(&mut self.listed);
    }

    /// A node of which everything is known.
    pub(super) fn apply(&mut self, node: Node) -> Verdict {
        let node = self.shape(node);
        let known = self.nodes.get(&*node.name);
        if known.is_some_and(|known| known.version > number(&node.resource_version)) {
            return Verdict::Nothing;
        }
        let before = known.map(|known| known.digest);
        let known = self.known(&node);
        let is_same = before == Some(known.digest);
        self.nodes.insert(node.name.as_str().into(), known);
        if is_same { Verdict::Nothing } else { Verdict::Tell(node) }
    }

    /// A node of which the metadata are known.
    pub(super) fn apply_metadata(&mut self, mut node: Node) -> Verdict {
        let known = self.nodes.get(&*node.name);
        if known.is_some_and(|known| known.version > number(&node.resource_version)) {
            return Verdict::Nothing;
        }
        // CIDRs stay for as long as the UID does.
        let same = known.filter(|known| known.uid.is_some() && known.uid == self.uid(&node));
        if let Some(known) = same.filter(|known| !known.pod_cidrs.is_empty()) {
            node.pod_cidrs = known.pod_cidrs.split(',').map(ToOwned::to_owned).collect();
        } else {
            let said = self.cidrs_annotation.as_ref().and_then(|key| node.annotations.get(key));
            let Some(cidrs) = said.and_then(|text| annotation::cidrs(text)) else {
                return Verdict::Incomplete(node);
            };
            node.pod_cidrs = cidrs;
        }
        self.apply(node)
    }

    /// A node that is gone; whether that is to be told. Not if another one has taken its place meanwhile.
    pub(super) fn delete(&mut self, node: &Node) -> bool {
        let Some(known) = self.nodes.get(&*node.name) else { return false };
        if known.uid != self.uid(node) && known.version > number(&node.resource_version) {
            return false;
        }
        self.nodes.remove(&*node.name).is_some()
    }

    /// What is watched as metadata is told without the rest, even if it was read.
    fn shape(&self, mut node: Node) -> Node {
        if self.form == WatchForm::Metadata {
            node.network_unavailable = None;
            node.addresses = Vec::new();
        }
        node
    }

    fn known(&self, node: &Node) -> Known {
        let mut hasher = self.hasher.build_hasher();
        // All but the version.
        let Node { name, uid, created, deleting, annotations, pod_cidrs, .. } = node;
        (name, uid, created, deleting, annotations, pod_cidrs).hash(&mut hasher);
        (&node.network_unavailable, &node.addresses, &node.problems).hash(&mut hasher);
        Known {
            uid: self.uid(node),
            version: number(&node.resource_version),
            pod_cidrs: pod_cidrs.join(",").into(),
            digest: hasher.finish(),
        }
    }

    fn uid(&self, node: &Node) -> Option<NonZeroU64> {
        NonZeroU64::new(self.hasher.hash_one(&node.uid)).filter(|_| !node.uid.is_empty())
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
            pod_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
            addresses: vec![("InternalIP".to_owned(), "192.0.2.1".to_owned())],
            ..Node::default()
        }
    }

    /// A whole list with one node, as it is told.
    fn list(memory: &mut Memory, node: Node) -> Node {
        memory.begin_list();
        let told = memory.list(node);
        memory.end_list();
        told
    }

    #[test]
    fn a_list_counts_from_its_end_on() {
        let mut memory = memory(WatchForm::Full);
        list(&mut memory, node("a", 1, &["10.0.1.0/24"]));
        memory.begin_list();
        memory.list(node("b", 2, &["10.0.2.0/24"]));
        assert_eq!((memory.len(), memory.listed()), (1, 1));
        assert_eq!(memory.apply(node("a", 1, &["10.0.1.0/24"])), Verdict::Nothing);
        // What has broken off is void.
        memory.begin_list();
        memory.end_list();
        assert_eq!(memory.len(), 0);
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
        list(&mut memory, node("a", 1, &["10.0.1.0/24"]));
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
        assert_eq!(told.pod_cidrs, ["10.0.1.0/24", "fd00::/64"]);
    }

    #[test]
    fn a_node_without_cidrs_stays_incomplete() {
        let mut memory = memory(WatchForm::Metadata);
        list(&mut memory, node("a", 1, &[]));
        assert!(matches!(memory.apply_metadata(node("a", 2, &[])), Verdict::Incomplete(_)));
    }

    #[test]
    fn what_is_watched_as_metadata_is_told_as_metadata() {
        let mut memory = memory(WatchForm::Metadata);
        let told = list(&mut memory, node("a", 1, &["10.0.1.0/24"]));
        assert!(told.addresses.is_empty());
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
