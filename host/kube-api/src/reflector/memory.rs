//! What is remembered of each node: what the metadata form does not say, and whether anything that matters has changed.
//!
//! A node's annotation repeats its CIDRs, and is told at once. Whoever may write to the node may have written it, too: it counts until the
//! object was read, takes nothing that another node has, and is never believed again of a node whose annotation was wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::num::NonZeroU64;

use ipnet::IpNet;
use tracing::warn;

use crate::api::WatchForm;
use crate::node::Node;

use super::{annotation, number};

/// The annotation that repeats a node's CIDRs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CidrsAnnotation {
    /// Its key, which must begin with the API's prefix.
    pub key: String,
    /// Where it is told before anybody has read the node's object; of a family that is not among these: anywhere.
    pub within: Vec<IpNet>,
}

/// Nodes as they were told.
pub(super) struct Memory {
    /// Each in a place of its own: a table of tens of thousands is half empty just after it has grown.
    nodes: HashMap<Box<str>, Box<Known>>,
    /// Those of a list that has no end yet.
    listed: HashMap<Box<str>, Box<Known>>,
    form: WatchForm,
    annotation: Option<CidrsAnnotation>,
    /// Nodes that are known by their annotation alone, and whose CIDRs others have, too.
    disputed: Vec<String>,
    hasher: RandomState,
}

/// Small: there may be tens of thousands.
struct Known {
    /// The UID's digest; none: it has none.
    uid: Option<NonZeroU64>,
    version: u64,
    /// With commas between them.
    pod_cidrs: Box<str>,
    /// Those of them that are networks.
    networks: Box<[IpNet]>,
    source: Source,
    /// Of all that was told but for the version.
    digest: u64,
}

/// From where a node's CIDRs are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The object was read.
    Object,
    /// It was read, and the annotation had said something else.
    ObjectAgainstAnnotation,
    /// Only the annotation says so.
    Annotation,
}

/// What is to be done about a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// To be told. If its CIDRs are unverified the object is to be read, some time.
    Tell(Node),
    /// Nothing that matters has changed, or it is older than what was told.
    Nothing,
    /// The same, and its CIDRs are unverified still.
    Unverified(Node),
    /// Its CIDRs are not known.
    Incomplete(Node),
}

impl Memory {
    pub(super) fn new(form: WatchForm, annotation: Option<CidrsAnnotation>) -> Self {
        let (nodes, listed, disputed) = (HashMap::new(), HashMap::new(), Vec::new());
        Self { nodes, listed, form, annotation, disputed, hasher: RandomState::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes that are known by their annotation alone, and of which that should be known better soon. Each is answered once.
    pub(super) fn take_disputed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.disputed)
    }

    /// A list of all nodes begins. One that has begun before is void.
    pub(super) fn begin_list(&mut self) {
        self.listed = HashMap::with_capacity(self.nodes.len());
    }

    /// A node of it; answers it as it is to be told.
    pub(super) fn list(&mut self, node: Node) -> Node {
        let node = self.shape(node);
        let source = self.verified(&node, self.nodes.get(&*node.name).map(|known| &**known));
        self.listed.insert(node.name.as_str().into(), Box::new(self.known(&node, source)));
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
        let source = self.verified(&node, known.map(|known| &**known));
        if known.is_none_or(|known| *known.pod_cidrs != *node.pod_cidrs.join(",")) {
            self.dispute(&node.name, &networks(&node));
        }
        if self.keep(&node, source) { Verdict::Tell(node) } else { Verdict::Nothing }
    }

    /// A node of which the metadata are known.
    pub(super) fn apply_metadata(&mut self, node: Node) -> Verdict {
        let mut node = self.shape(node);
        let known = self.nodes.get(&*node.name);
        if known.is_some_and(|known| known.version > number(&node.resource_version)) {
            return Verdict::Nothing;
        }
        // CIDRs stay for as long as the UID does.
        let same = known.filter(|known| known.uid.is_some() && known.uid == self.uid(&node));
        let source = same.map_or(Source::Annotation, |known| known.source);
        if let Some(known) = same.filter(|known| !known.pod_cidrs.is_empty()) {
            node.pod_cidrs = known.pod_cidrs.split(',').map(ToOwned::to_owned).collect();
            node.cidrs_unverified = source == Source::Annotation;
        } else {
            let said = self.said(&node).filter(|_| source != Source::ObjectAgainstAnnotation);
            let Some(said) = said.filter(|said| !self.dispute(&node.name, said)) else {
                return Verdict::Incomplete(node);
            };
            node.pod_cidrs = said.iter().map(IpNet::to_string).collect();
            node.cidrs_unverified = true;
        }
        let source = if node.cidrs_unverified { Source::Annotation } else { source };
        match self.keep(&node, source) {
            true => Verdict::Tell(node),
            false if node.cidrs_unverified => Verdict::Unverified(node),
            false => Verdict::Nothing,
        }
    }

    /// What a node's annotation says, if it is where it may be.
    fn said(&self, node: &Node) -> Option<Vec<IpNet>> {
        let CidrsAnnotation { key, within } = self.annotation.as_ref()?;
        let said = annotation::cidrs(node.annotations.get(key)?)?;
        let is_within = |net: &IpNet| {
            let is_same = |outer: &&IpNet| outer.addr().is_ipv4() == net.addr().is_ipv4();
            let mut same = within.iter().filter(is_same).peekable();
            same.peek().is_none() || same.any(|outer| outer.contains(net))
        };
        said.iter().all(is_within).then_some(said)
    }

    /// Whether another node has any of these. Those of them that are known by their annotation alone have to be looked at then.
    fn dispute(&mut self, name: &str, networks: &[IpNet]) -> bool {
        let overlap = |known: &Known| {
            let pairs =
                known.networks.iter().flat_map(|theirs| networks.iter().map(move |net| (theirs, net)));
            pairs.into_iter().any(|(theirs, net)| theirs.contains(net) || net.contains(theirs))
        };
        let rivals = self.nodes.iter().filter(|(other, known)| &***other != name && overlap(known));
        let mut is_disputed = false;
        for (other, known) in rivals {
            is_disputed = true;
            if known.source == Source::Annotation {
                self.disputed.push(other.to_string());
            }
        }
        is_disputed
    }

    /// A node's object was read: what that says of its annotation.
    fn verified(&self, node: &Node, known: Option<&Known>) -> Source {
        let Some(known) = known.filter(|known| known.uid == self.uid(node)) else { return Source::Object };
        let there = networks(node);
        // Its daemon may have said less: of the families that it has.
        if known.source != Source::Annotation || known.networks.iter().all(|said| there.contains(said)) {
            return if known.source == Source::Annotation { Source::Object } else { known.source };
        }
        let key = self.annotation.as_ref().map_or("", |annotation| &annotation.key);
        let (said, there) = (Shown(&known.networks), Shown(&there));
        warn!(
            "node {}: its annotation {key} said {said}, and its object says {there}: that counts, and the annotation is not believed any more; whoever may write to this node has written it",
            node.name
        );
        Source::ObjectAgainstAnnotation
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
            node.labels = BTreeMap::new();
        }
        node
    }

    /// Remembers a node; whether anything but the version has changed.
    fn keep(&mut self, node: &Node, source: Source) -> bool {
        let known = Box::new(self.known(node, source));
        let digest = known.digest;
        let before = self.nodes.insert(node.name.as_str().into(), known);
        before.is_none_or(|before| before.digest != digest)
    }

    fn known(&self, node: &Node, source: Source) -> Known {
        let mut hasher = self.hasher.build_hasher();
        // All but the version.
        let Node { name, uid, created, deleting, annotations, pod_cidrs, .. } = node;
        (name, uid, created, deleting, annotations, pod_cidrs).hash(&mut hasher);
        (node.cidrs_unverified, &node.network_unavailable, &node.addresses).hash(&mut hasher);
        (&node.labels, &node.problems).hash(&mut hasher);
        Known {
            uid: self.uid(node),
            version: number(&node.resource_version),
            pod_cidrs: pod_cidrs.join(",").into(),
            networks: networks(node).into(),
            source,
            digest: hasher.finish(),
        }
    }

    fn uid(&self, node: &Node) -> Option<NonZeroU64> {
        NonZeroU64::new(self.hasher.hash_one(&node.uid)).filter(|_| !node.uid.is_empty())
    }
}

/// The networks among a node's CIDRs, without host bits.
fn networks(node: &Node) -> Vec<IpNet> {
    let networks = node.pod_cidrs.iter().filter_map(|text| annotation::network(text));
    networks.map(|net| net.trunc()).collect()
}

/// Networks, for people.
struct Shown<'a>(&'a [IpNet]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, net) in self.0.iter().enumerate() {
            write!(f, "{}{net}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "p/pod-cidrs";

    fn memory(form: WatchForm) -> Memory {
        let within = ["10.0.0.0/16", "fd00::/16"].map(|net| net.parse().expect("a network")).to_vec();
        Memory::new(form, Some(CidrsAnnotation { key: KEY.to_owned(), within }))
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
        let other = Node { addresses: Vec::new(), ..node("b", 3, &[]) };
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

    /// A node of which metadata are told, with an annotation.
    fn saying(name: &str, version: u64, cidrs: &str) -> Node {
        let annotations = [(KEY.to_owned(), cidrs.to_owned())].into();
        let node = Node { name: name.to_owned(), annotations, ..node(name, version, &[]) };
        Node { addresses: Vec::new(), ..node }
    }

    /// What an object says.
    fn having(node: &Node, version: u64, cidrs: &[&str]) -> Node {
        Node {
            name: node.name.clone(),
            annotations: node.annotations.clone(),
            ..self::node(&node.uid, version, cidrs)
        }
    }

    #[test]
    fn what_an_annotation_says_is_unverified_until_the_object_was_read() {
        let mut memory = memory(WatchForm::Metadata);
        let new = saying("a", 1, "10.0.1.0/24");
        let Verdict::Tell(told) = memory.apply_metadata(new.clone()) else { panic!("not told") };
        assert!(told.cidrs_unverified);
        let again = Node { resource_version: "2".to_owned(), ..new.clone() };
        assert!(matches!(memory.apply_metadata(again), Verdict::Unverified(_)));
        let Verdict::Tell(told) = memory.apply(having(&new, 3, &["10.0.1.0/24"])) else { panic!("not told") };
        assert!(!told.cidrs_unverified);
        assert_eq!(memory.apply_metadata(Node { resource_version: "4".to_owned(), ..new }), Verdict::Nothing);
    }

    #[test]
    fn of_a_node_whose_annotation_was_wrong_it_is_never_believed_again() {
        for is in [&[][..], &["10.0.2.0/24"]] {
            for by_list in [false, true] {
                let mut memory = memory(WatchForm::Metadata);
                let liar = saying("a", 1, "10.0.1.0/24");
                assert!(matches!(memory.apply_metadata(liar.clone()), Verdict::Tell(_)));
                let read = having(&liar, 2, is);
                let told = if by_list {
                    list(&mut memory, read)
                } else {
                    let Verdict::Tell(told) = memory.apply(read) else { panic!("not told") };
                    told
                };
                assert_eq!(
                    (&*told.pod_cidrs, told.cidrs_unverified),
                    (&*is.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), false)
                );
                list(&mut memory, told);
                let other = saying("a", 3, "10.0.3.0/24");
                match memory.apply_metadata(other) {
                    Verdict::Tell(told) => assert_eq!(told.pod_cidrs, is),
                    Verdict::Incomplete(_) => assert!(is.is_empty()),
                    verdict => panic!("{verdict:?}"),
                }
                let other = Node { uid: "another".to_owned(), ..saying("a", 4, "10.0.3.0/24") };
                assert!(
                    matches!(memory.apply_metadata(other), Verdict::Tell(_)),
                    "of another node by that name"
                );
            }
        }
    }

    #[test]
    fn an_annotation_that_leaves_out_a_family_is_no_lie() {
        let mut memory = memory(WatchForm::Metadata);
        let new = saying("a", 1, "10.0.1.0/24");
        memory.apply_metadata(new.clone());
        memory.apply(having(&new, 2, &["fd00::/64", "10.0.1.7/24"]));
        assert!(memory.nodes["a"].source == Source::Object);
    }

    #[test]
    fn what_another_node_has_or_is_out_of_place_is_not_told_before_the_object_was_read() {
        let mut memory = memory(WatchForm::Metadata);
        list(&mut memory, node("x", 1, &["10.0.1.0/24", "fd00::/64"]));
        for cidrs in [
            "10.0.1.0/24",
            "10.0.1.128/25",
            "10.0.0.0/16",
            "10.0.9.0/24,fd00::/64",
            "10.1.0.0/24",
            "0.0.0.0/0",
        ] {
            assert!(
                matches!(memory.apply_metadata(saying("a", 2, cidrs)), Verdict::Incomplete(_)),
                "{cidrs}"
            );
        }
        assert_eq!(memory.take_disputed(), [""; 0], "its object was read");
    }

    #[test]
    fn of_two_who_say_the_same_both_are_looked_at() {
        let mut memory = memory(WatchForm::Metadata);
        assert!(matches!(memory.apply_metadata(saying("a", 1, "10.0.1.0/24")), Verdict::Tell(_)));
        assert!(matches!(memory.apply_metadata(saying("b", 2, "10.0.1.0/24")), Verdict::Incomplete(_)));
        assert_eq!(memory.take_disputed(), ["a"]);
        assert!(memory.take_disputed().is_empty(), "once");
        memory.apply(having(&saying("b", 2, "10.0.1.0/24"), 3, &["10.0.1.0/24"]));
        assert_eq!(memory.take_disputed(), ["a"]);
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
