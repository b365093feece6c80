//! Reads a list of nodes while it comes: of the whole answer a few nodes at a time are in memory.

use std::fmt;
use std::io::{Error, Read};
use std::time::Duration;

use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc;

use crate::error::KubeError;
use crate::node::{Node, NodeSeed};
use crate::request::Answer;

/// Pieces of the body, of some 8 KiB to 400 KiB each, that may be ahead of what is read of them.
const AHEAD: usize = 4;

/// What is known of a list, or of a page of one, when it has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListEnd {
    /// The version that all of it has.
    pub resource_version: String,
    /// What the next page is asked for with; empty on the last one.
    pub more: String,
}

/// Reads the body of an answer to its end, and passes the nodes on, in the server's order.
pub(crate) async fn read(
    mut answer: Answer,
    prefix: String,
    patience: Duration,
    nodes: mpsc::Sender<Node>,
) -> Result<ListEnd, KubeError> {
    let (pieces, body) = mpsc::channel(AHEAD);
    let parsed = tokio::task::spawn_blocking(move || {
        let body = PieceReader { pieces: body, now: Bytes::new() };
        let mut json = serde_json::Deserializer::from_reader(body);
        let list = ListSeed { prefix: &prefix, nodes: &nodes }.deserialize(&mut json)?;
        json.end().map(|()| list)
    });
    let outcome = loop {
        match answer.piece(patience).await {
            Ok(Some(piece)) => {
                // It wants no more if it has stumbled, and says why below.
                if pieces.send(Ok(piece)).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => {
                drop(pieces.send(Err(Error::other("the answer breaks off"))).await);
                break Err(error);
            }
        }
    };
    drop(pieces);
    let parsed = parsed.await;
    outcome?;
    let malformed = |reason: String| KubeError::Malformed { reason };
    let parsed = parsed.map_err(|_| malformed("it could not be read".to_owned()))?;
    parsed.map_err(|error| malformed(format!("a list of nodes: {error}")))
}

/// Reads what comes by a channel.
struct PieceReader {
    pieces: mpsc::Receiver<Result<Bytes, Error>>,
    now: Bytes,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.now.len());
        buffer[..length].copy_from_slice(&self.now.split_to(length));
        Ok(length)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ListField {
    Kind,
    Metadata,
    Items,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

struct ListSeed<'a> {
    prefix: &'a str,
    nodes: &'a mpsc::Sender<Node>,
}

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = ListEnd;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ListEnd, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = ListEnd;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of nodes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListEnd, A::Error> {
        let mut list = ListEnd::default();
        while let Some(field) = map.next_key()? {
            match field {
                ListField::Metadata => {
                    let metadata: ListMetadata = map.next_value()?;
                    list.resource_version = metadata.resource_version.unwrap_or_default();
                    list.more = metadata.r#continue.unwrap_or_default();
                }
                ListField::Items => {
                    map.next_value_seed(ItemsSeed { prefix: self.prefix, nodes: self.nodes })?;
                }
                ListField::Kind => {
                    let kind: String = map.next_value()?;
                    if !kind.ends_with("List") {
                        return Err(serde::de::Error::custom("it is something else"));
                    }
                }
                ListField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // An empty list that is none would remove all peers.
        if list.resource_version.is_empty() {
            return Err(serde::de::Error::custom("it has no version"));
        }
        Ok(list)
    }
}

struct ItemsSeed<'a> {
    prefix: &'a str,
    nodes: &'a mpsc::Sender<Node>,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nodes")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(pieces) = items.next_element_seed(NodeSeed { prefix: self.prefix })? {
            if pieces.node.name.is_empty() {
                return Err(serde::de::Error::custom("a node has no name"));
            }
            // This is a thread that may wait.
            let passed = self.nodes.blocking_send(pieces.node);
            passed.map_err(|_| serde::de::Error::custom("nobody wants the nodes any more"))?;
        }
        Ok(())
    }
}
