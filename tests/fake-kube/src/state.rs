//! What the server has, and what has happened to it.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use crate::faults::{Fault, Kind};
use crate::merge::merge;

/// Which version of Kubernetes it is: in what matters to lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Does not know lists as streams: 422.
    V1_26,
    /// Knows them, and has them switched off: 422, in other words.
    V1_33,
    /// Has them.
    #[default]
    V1_36,
    /// Has them, and finds out in the middle that its etcd is too old: an ERROR event.
    V1_36OnEtcd3_4,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// By name, in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// The certificate that the client has shown, DER.
    pub certificate: Option<Vec<u8>>,
}

impl Request {
    /// `METHOD URI`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }
}

/// Something that happened to a node.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: &'static str,
    pub(crate) object: Value,
}

pub(crate) struct State {
    pub(crate) nodes: BTreeMap<String, Value>,
    pub(crate) pods: BTreeMap<(String, String), Value>,
    pub(crate) version: u64,
    pub(crate) history: Vec<Change>,
    /// What happened before this version is forgotten.
    pub(crate) oldest: u64,
    /// Lists that are read in pages, by version.
    pub(crate) snapshots: HashMap<u64, Vec<Value>>,
    pub(crate) mode: Mode,
    pub(crate) token: Option<String>,
    pub(crate) largest_page: usize,
    pub(crate) gone_by_status: bool,
    pub(crate) has_no_metadata_form: bool,
    pub(crate) faults: Vec<Fault>,
    pub(crate) requests: Vec<Request>,
    pub(crate) watches: usize,
    pub(crate) ends: usize,
    pub(crate) cuts: usize,
    pub(crate) bookmarks: usize,
    pub(crate) lines: Vec<String>,
    uids: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            version: 100,
            history: Vec::new(),
            oldest: 100,
            snapshots: HashMap::new(),
            mode: Mode::default(),
            token: None,
            largest_page: 500,
            gone_by_status: false,
            has_no_metadata_form: false,
            faults: Vec::new(),
            requests: Vec::new(),
            watches: 0,
            ends: 0,
            cuts: 0,
            bookmarks: 0,
            lines: Vec::new(),
            uids: 0,
        }
    }
}

impl State {
    fn happened(&mut self, kind: &'static str, name: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push(Change { version: self.version, kind, object: object.clone() });
        if kind == "DELETED" {
            self.nodes.remove(name);
        } else {
            self.nodes.insert(name.to_owned(), object);
        }
    }

    pub(crate) fn create(&mut self, mut node: Value) {
        let name = node["metadata"]["name"].as_str().expect("a name").to_owned();
        assert!(!self.nodes.contains_key(&name), "{name} is there already");
        self.uids += 1;
        node["metadata"]["uid"] = json!(format!("uid-{}", self.uids));
        node["metadata"]["creationTimestamp"] = json!("2026-01-02T03:04:05Z");
        self.happened("ADDED", &name, node);
    }

    pub(crate) fn update(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        let Some(before) = self.nodes.get(name) else { return };
        let mut after = before.clone();
        change(&mut after);
        if after != *before {
            self.happened("MODIFIED", name, after);
        }
    }

    pub(crate) fn patch(&mut self, name: &str, patch: &Value) -> Option<Value> {
        self.nodes.get(name)?;
        self.update(name, |node| merge(node, patch));
        self.nodes.get(name).cloned()
    }

    pub(crate) fn delete(&mut self, name: &str) {
        if let Some(node) = self.nodes.get(name).cloned() {
            self.happened("DELETED", name, node);
        }
    }

    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.snapshots.clear();
        self.oldest = self.version;
    }

    /// What goes wrong with this request.
    pub(crate) fn fault(&mut self, line: &str) -> Option<Kind> {
        let concerns = |fault: &&mut Fault| fault.times > 0 && line.contains(&fault.of);
        let fault = self.faults.iter_mut().find(concerns)?;
        fault.times -= 1;
        Some(fault.kind.clone())
    }

    /// The nodes that are asked for.
    pub(crate) fn selected(&self, only: Option<&str>) -> Vec<Value> {
        let is_selected = |name: &str| only.is_none_or(|only| only == name);
        self.nodes.iter().filter(|(name, _)| is_selected(name)).map(|(_, node)| node.clone()).collect()
    }
}
