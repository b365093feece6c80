//! Reads a node from JSON: what is not looked at is skipped, and nothing of it is kept.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Condition, LONGEST_ANNOTATION, Node, NodeProblem};

/// What marks the bookmark after the last node of a streamed list.
const END_OF_LIST: &str = "k8s.io/initial-events-end";

/// Reads a node, with the annotations whose key begins with the prefix.
#[derive(Clone, Copy)]
pub(crate) struct NodeSeed<'a> {
    pub(crate) prefix: &'a str,
}

/// A node, and what else an object of a watch may say.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    pub(crate) node: Node,
    pub(crate) is_end_of_list: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum NodeField {
    Metadata,
    Spec,
    Status,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum MetadataField {
    Name,
    Uid,
    ResourceVersion,
    CreationTimestamp,
    DeletionTimestamp,
    Annotations,
    Labels,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct NodeStatus {
    conditions: Option<Vec<RawCondition>>,
    addresses: Option<Vec<Address>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition {
    r#type: String,
    status: Option<String>,
    reason: Option<String>,
    last_transition_time: Option<String>,
}

#[derive(Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Pieces;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pieces, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Pieces;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pieces, A::Error> {
        let mut pieces = Pieces::default();
        while let Some(field) = map.next_key()? {
            match field {
                NodeField::Metadata => {
                    map.next_value_seed(MetadataSeed { prefix: self.prefix, pieces: &mut pieces })?;
                }
                NodeField::Spec => {
                    if let Some(spec) = map.next_value::<Option<Spec>>()? {
                        let single = spec.pod_cidr.filter(|cidr| !cidr.is_empty());
                        let several = spec.pod_cidrs.filter(|cidrs| !cidrs.is_empty());
                        pieces.node.pod_cidrs = several.unwrap_or_else(|| single.into_iter().collect());
                    }
                }
                NodeField::Status => {
                    if let Some(status) = map.next_value::<Option<NodeStatus>>()? {
                        keep_status(&mut pieces.node, status);
                    }
                }
                NodeField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(pieces)
    }
}

fn keep_status(node: &mut Node, status: NodeStatus) {
    let mut conditions = status.conditions.unwrap_or_default().into_iter();
    let found = conditions.find(|condition| condition.r#type == "NetworkUnavailable");
    node.network_unavailable = found.map(|found| Condition {
        status: found.status.unwrap_or_default(),
        reason: found.reason.unwrap_or_default(),
        last_transition_time: found.last_transition_time.unwrap_or_default(),
    });
    let addresses = status.addresses.unwrap_or_default().into_iter();
    node.addresses = addresses.map(|entry| (entry.r#type, entry.address)).collect();
}

struct MetadataSeed<'a> {
    prefix: &'a str,
    pieces: &'a mut Pieces,
}

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata of a node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let text = |value: Option<String>| value.unwrap_or_default();
        while let Some(field) = map.next_key()? {
            let node = &mut self.pieces.node;
            match field {
                MetadataField::Name => node.name = text(map.next_value()?),
                MetadataField::Uid => node.uid = text(map.next_value()?),
                MetadataField::ResourceVersion => node.resource_version = text(map.next_value()?),
                MetadataField::CreationTimestamp => node.created = text(map.next_value()?),
                MetadataField::DeletionTimestamp => {
                    node.deleting = map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                MetadataField::Annotations => {
                    map.next_value_seed(AnnotationsSeed { prefix: self.prefix, pieces: self.pieces })?;
                }
                MetadataField::Labels => {
                    node.labels = map.next_value::<Option<BTreeMap<String, String>>>()?.unwrap_or_default();
                }
                MetadataField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct AnnotationsSeed<'a> {
    prefix: &'a str,
    pieces: &'a mut Pieces,
}

impl<'de> DeserializeSeed<'de> for AnnotationsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnnotationsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text(|key: &str| Key::of(key, self.prefix)))? {
            match key {
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
                Key::EndOfList => {
                    self.pieces.is_end_of_list = map.next_value_seed(Text(|value: &str| value == "true"))?;
                }
                Key::Kept(key) => {
                    let short = |value: &str| {
                        if value.len() > LONGEST_ANNOTATION { Err(value.len()) } else { Ok(value.to_owned()) }
                    };
                    let node = &mut self.pieces.node;
                    match map.next_value_seed(Text(short))? {
                        Ok(value) => drop(node.annotations.insert(key, value)),
                        Err(bytes) => node.problems.push(NodeProblem::AnnotationTooLong { key, bytes }),
                    }
                }
            }
        }
        Ok(())
    }
}

enum Key {
    Kept(String),
    EndOfList,
    Other,
}

impl Key {
    fn of(key: &str, prefix: &str) -> Self {
        match key {
            END_OF_LIST => Self::EndOfList,
            key if key.starts_with(prefix) => Self::Kept(key.to_owned()),
            _ => Self::Other,
        }
    }
}

/// A text, of which no more is kept than what the function makes of it.
struct Text<F>(F);

impl<'de, F: FnOnce(&str) -> T, T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<F: FnOnce(&str) -> T, T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}
