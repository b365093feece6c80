//! How it goes, for those who show it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::api::WatchForm;
use crate::error::KubeError;

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// All nodes are read, for the first time or again.
    #[default]
    Syncing,
    /// Changes are told as they come.
    Live,
    /// Something has failed, and is tried again after a while.
    Waiting,
}

/// How all nodes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// As a stream of events, since Kubernetes 1.32: cheapest for the server.
    Stream,
    /// As one list from the server's cache.
    Cache,
    /// As a list in pages, which old servers read from etcd.
    Pages,
}

impl Strategy {
    /// In the order in which they are tried.
    pub(super) const ALL: [Self; 3] = [Self::Stream, Self::Cache, Self::Pages];

    /// For people, and for the label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Cache => "cache",
            Self::Pages => "pages",
        }
    }
}

/// How it goes.
#[derive(Clone, Debug, Default)]
pub struct ReflectorState {
    /// What is being done.
    pub phase: Phase,
    /// How all nodes are or were last read.
    pub strategy: Option<Strategy>,
    /// What is watched now, or was last.
    pub form: Option<WatchForm>,
    /// Everything up to this version has been told; empty before the first list.
    pub version: String,
    /// When the server last said something of use.
    pub last_contact: Option<Instant>,
    /// What went wrong last, until something of use comes.
    pub last_error: Option<KubeError>,
    /// How often all nodes were read.
    pub syncs: u64,
    /// How long that took the last time.
    pub sync_took: Option<Duration>,
    /// Events that have come, bookmarks included.
    pub events: u64,
    /// Events that were told, without bookmarks: most change nothing that matters.
    pub told: u64,
    /// Nodes that had to be asked for one by one.
    pub asked: u64,
    /// Watches that have ended, by reason: `end` as they should, else an error's label.
    pub ends: BTreeMap<&'static str, u64>,
}

impl ReflectorState {
    pub(super) fn failed(&mut self, error: &KubeError) {
        self.phase = Phase::Waiting;
        self.last_error = Some(error.clone());
    }

    pub(super) fn heard(&mut self) {
        self.last_contact = Some(Instant::now());
        self.last_error = None;
    }
}
