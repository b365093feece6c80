//! A watch: JSON objects, one a line, as they come.

use std::time::Duration;

use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use crate::error::KubeError;
use crate::node::{Node, NodeSeed, Pieces};
use crate::request::{Answer, Purpose};
use crate::status::Status;

/// Bytes of the longest line: more than twice what etcd takes for an object.
const LONGEST_LINE: usize = 4 << 20;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// `ADDED` or `MODIFIED`: the node as it is now.
    Applied(Node),
    /// `DELETED`: the node as it last was. Its version is that of the deletion.
    Deleted(Node),
    /// `BOOKMARK`: everything up to this version has been told.
    Bookmark {
        /// The version.
        resource_version: String,
        /// Whether it is the end of a list that was asked for as a stream.
        is_end_of_list: bool,
    },
}

impl WatchEvent {
    /// The version that it leads to.
    pub fn resource_version(&self) -> &str {
        match self {
            Self::Applied(node) | Self::Deleted(node) => &node.resource_version,
            Self::Bookmark { resource_version, .. } => resource_version,
        }
    }
}

/// A running watch. Ends when it is dropped.
pub struct NodeWatch {
    answer: Answer,
    prefix: String,
    patience: Duration,
    lines: Lines,
}

impl NodeWatch {
    pub(crate) fn new(answer: Answer, prefix: String, patience: Duration) -> Self {
        Self { answer, prefix, patience, lines: Lines::default() }
    }

    /// For the next frames.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The next event; `None` when the server has ended the watch, as it does after some minutes. An error ends it, too: those that the
    /// server sends as events are the same as the statuses of their codes.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, KubeError> {
        loop {
            while let Some(line) = self.lines.next()? {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                if let Some(event) = parse(&line, &self.prefix)? {
                    return Ok(Some(event));
                }
            }
            match self.answer.piece(self.patience).await? {
                Some(piece) => self.lines.push(&piece),
                None if self.lines.is_empty() => return Ok(None),
                None => return Err(malformed("a watch ends in the middle of an event")),
            }
        }
    }
}

/// Splits what comes into lines.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where there is no end of it.
    searched: usize,
}

impl Lines {
    fn push(&mut self, piece: &Bytes) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, KubeError> {
        let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let end = found.map_or(self.buffer.len(), |at| self.searched + at);
        if end - self.start > LONGEST_LINE {
            return Err(malformed("an event has more than 4 MiB"));
        }
        self.searched = end;
        if found.is_none() {
            return Ok(None);
        }
        let line = self.buffer[self.start..end].to_vec();
        self.start = end + 1;
        self.searched = self.start;
        Ok(Some(line))
    }

    fn is_empty(&self) -> bool {
        self.buffer[self.start..].iter().all(u8::is_ascii_whitespace)
    }
}

#[derive(Deserialize)]
struct Frame<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// The event of a line; `None` for one of a type that is not known here.
fn parse(line: &[u8], prefix: &str) -> Result<Option<WatchEvent>, KubeError> {
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(|error| broken(&error))?;
    if frame.r#type == "ERROR" {
        let status: Status = serde_json::from_str(frame.object.get()).map_err(|error| broken(&error))?;
        return Err(status.into_error(Purpose { verb: "watch", resource: "nodes" }, None));
    }
    let mut json = serde_json::Deserializer::from_str(frame.object.get());
    let pieces = NodeSeed { prefix }.deserialize(&mut json).map_err(|error| broken(&error))?;
    let Pieces { node, is_end_of_list } = pieces;
    let is_bookmark = frame.r#type == "BOOKMARK";
    if node.resource_version.is_empty() || (node.name.is_empty() && !is_bookmark) {
        return Err(malformed("an event has no name or no version"));
    }
    Ok(match frame.r#type.as_str() {
        "ADDED" | "MODIFIED" => Some(WatchEvent::Applied(node)),
        "DELETED" => Some(WatchEvent::Deleted(node)),
        "BOOKMARK" => Some(WatchEvent::Bookmark { resource_version: node.resource_version, is_end_of_list }),
        _ => None,
    })
}

fn broken(error: &serde_json::Error) -> KubeError {
    malformed(&format!("an event: {error}"))
}

fn malformed(reason: &str) -> KubeError {
    KubeError::Malformed { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(&Bytes::copy_from_slice(piece.as_bytes()));
            while let Some(line) = lines.next().expect("short lines") {
                found.push(String::from_utf8(line).expect("text"));
            }
        }
        found
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&["one\ntw", "o", "\nthree\n", "\n", "fo"]), ["one", "two", "three", ""]);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut lines = Lines::default();
        lines.push(&Bytes::from(vec![b'x'; LONGEST_LINE]));
        assert_eq!(lines.next(), Ok(None));
        lines.push(&Bytes::from_static(b"x"));
        assert!(matches!(lines.next(), Err(KubeError::Malformed { .. })));
    }

    #[test]
    fn the_type_may_stand_behind_the_object() {
        let line = br#"{"object":{"metadata":{"name":"a","resourceVersion":"7"}},"type":"DELETED"}"#;
        let event = parse(line, "x/").expect("an event");
        assert!(matches!(event, Some(WatchEvent::Deleted(node)) if node.name == "a"));
    }

    #[test]
    fn an_event_of_an_unknown_type_is_passed_over() {
        let line = br#"{"type":"NEWS","object":{"metadata":{"name":"a","resourceVersion":"7"}}}"#;
        assert_eq!(parse(line, "x/"), Ok(None));
    }
}
