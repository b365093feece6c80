//! All that the daemon asks the API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::Method;
use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use tokio::sync::mpsc;

use crate::connection::{ClusterAccess, Connection, Place};
use crate::error::KubeError;
use crate::list::{self, ListEnd};
use crate::node::{Node, NodeSeed};
use crate::query::Query;
use crate::random::random_between;
use crate::request::{Ask, Patience, Purpose, Sender};
use crate::watch::NodeWatch;

const JSON: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// As upstream's daemon has it, recorded.
const MERGE: &str = "application/strategic-merge-patch+json";

/// Nodes on a page of a list.
const PAGE: &str = "500";
/// Seconds that a watch may last: as long as Go's client lets it, spread so that not all nodes come again at once.
const WATCH_SECONDS: (u64, u64) = (300, 600);

/// How much of nodes a watch brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchForm {
    /// `metadata` alone, a third of the bytes.
    Metadata,
    /// Everything.
    Full,
}

/// Which state of the nodes a list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListVersion<'a> {
    /// From the server's cache, not older than this version; `"0"`: of any age. All in one answer.
    NotOlderThan(&'a str),
    /// The newest, asked of etcd where the server is old: in pages. The text is `more` of the page before, or empty.
    Newest(&'a str),
}

/// The API server, as the daemon needs it. Repeats nothing but what was refused for its credentials, once.
#[derive(Clone)]
pub struct KubeApi {
    sender: Arc<Sender>,
    prefix: Arc<str>,
}

impl KubeApi {
    /// Asks nobody yet. `prefix`: with what the keys of the annotations begin that are looked at.
    pub fn new(access: ClusterAccess, prefix: &str) -> Self {
        Self::with_patience(access, prefix, Patience::default())
    }

    /// With other times.
    pub fn with_patience(access: ClusterAccess, prefix: &str, patience: Patience) -> Self {
        let connection = Connection::new(access);
        let sender = Sender { connection, patience, read: Arc::new(AtomicU64::new(0)) };
        Self { sender: Arc::new(sender), prefix: prefix.into() }
    }

    /// Where the API server is and whose credentials are used; an error if that cannot be found out.
    pub async fn place(&self) -> Result<Arc<Place>, KubeError> {
        Ok(self.sender.connection.client().await?.1)
    }

    pub(crate) fn patience(&self) -> Patience {
        self.sender.patience
    }

    /// Bytes of answers read so far, without their heads.
    pub fn bytes_read(&self) -> u64 {
        self.sender.read.load(Ordering::Relaxed)
    }

    /// The node that a pod is on; `None` while it is on none.
    pub async fn pod_node_name(&self, namespace: &str, pod: &str) -> Result<Option<String>, KubeError> {
        #[derive(Deserialize)]
        struct Pod {
            spec: PodSpec,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct PodSpec {
            node_name: Option<String>,
        }
        let path = Query::new(&["api", "v1", "namespaces", namespace, "pods", pod]);
        let body = self.sender.whole(&get(path, Purpose { verb: "get", resource: "pods" })).await?;
        let pod: Pod = serde_json::from_slice(&body).map_err(|error| malformed("a pod", &error))?;
        Ok(pod.spec.node_name.filter(|name| !name.is_empty()))
    }

    /// A node, as new as it gets.
    pub async fn node(&self, name: &str) -> Result<Node, KubeError> {
        let path = Query::new(&["api", "v1", "nodes", name]);
        let body = self.sender.whole(&get(path, Purpose { verb: "get", resource: "nodes" })).await?;
        self.read_node(&body)
    }

    /// The nodes, or a page of them, one after the other; what was passed on is of no use without a good end. `only`: the one of this name.
    pub async fn nodes(
        &self,
        version: ListVersion<'_>,
        only: Option<&str>,
        nodes: mpsc::Sender<Node>,
    ) -> Result<ListEnd, KubeError> {
        let path = selected(only);
        let path = match version {
            ListVersion::NotOlderThan("0" | "") => path.with("resourceVersion", "0"),
            ListVersion::NotOlderThan(version) => {
                path.with("resourceVersion", version).with("resourceVersionMatch", "NotOlderThan")
            }
            ListVersion::Newest("") => path.with("limit", PAGE),
            ListVersion::Newest(more) => path.with("limit", PAGE).with("continue", more),
        };
        let answer = self.sender.send(&get(path, Purpose { verb: "list", resource: "nodes" })).await?;
        list::read(answer, self.prefix.to_string(), self.sender.patience.piece, nodes).await
    }

    /// The first of the nodes, as the server sorts them: at most `limit`.
    pub async fn some_nodes(&self, limit: usize) -> Result<Vec<Node>, KubeError> {
        let path = selected(None).with("limit", &limit.to_string());
        let answer = self.sender.send(&get(path, Purpose { verb: "list", resource: "nodes" })).await?;
        // Room for all that was asked for; of what a server sends beyond that nobody takes note.
        let (nodes, mut read) = mpsc::channel(limit.max(1));
        let reading = list::read(answer, self.prefix.to_string(), self.sender.patience.piece, nodes);
        let taking = async {
            let mut taken = Vec::new();
            while let Some(node) = read.recv().await {
                if taken.len() < limit {
                    taken.push(node);
                }
            }
            taken
        };
        let (end, taken) = tokio::join!(reading, taking);
        end.map(|_| taken)
    }

    /// What changes after a version. `only`: of the node of this name.
    pub async fn watch_nodes(
        &self,
        from: &str,
        form: WatchForm,
        only: Option<&str>,
    ) -> Result<NodeWatch, KubeError> {
        let path = selected(only).with("resourceVersion", from);
        self.watch(path, form).await
    }

    /// All nodes as events, with [`is_end_of_list`](crate::WatchEvent::Bookmark) after the last one, not older than a version (`"0"`: of
    /// any age); then what changes. 422 where the server does not know that.
    pub async fn stream_nodes(
        &self,
        not_older_than: &str,
        only: Option<&str>,
    ) -> Result<NodeWatch, KubeError> {
        let path = selected(only)
            .with("resourceVersion", not_older_than)
            .with("resourceVersionMatch", "NotOlderThan")
            .with("sendInitialEvents", "true");
        let mut watch = self.watch(path, WatchForm::Full).await?;
        watch.set_patience(self.sender.patience.piece);
        Ok(watch)
    }

    async fn watch(&self, path: Query, form: WatchForm) -> Result<NodeWatch, KubeError> {
        let seconds = random_between(WATCH_SECONDS.0, WATCH_SECONDS.1).to_string();
        let path =
            path.with("allowWatchBookmarks", "true").with("timeoutSeconds", &seconds).with("watch", "true");
        let accept = if form == WatchForm::Metadata { METADATA } else { JSON };
        let ask = Ask { accept, ..get(path, Purpose { verb: "watch", resource: "nodes" }) };
        let answer = self.sender.send(&ask).await?;
        Ok(NodeWatch::new(answer, self.prefix.to_string(), self.sender.patience.watch))
    }

    /// Changes metadata and status of a node by a strategic merge patch, which is sent as it is. Answers the node as it is then.
    pub async fn patch_node_status(
        &self,
        name: &str,
        patch: impl Into<Bytes> + Send,
    ) -> Result<Node, KubeError> {
        let ask = Ask {
            method: Method::PATCH,
            body: Some((MERGE, patch.into())),
            ..get(
                Query::new(&["api", "v1", "nodes", name, "status"]),
                Purpose { verb: "patch", resource: "nodes/status" },
            )
        };
        let body = self.sender.whole(&ask).await?;
        self.read_node(&body)
    }

    fn read_node(&self, body: &[u8]) -> Result<Node, KubeError> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let seed = NodeSeed { prefix: &self.prefix };
        let read = seed.deserialize(&mut json).and_then(|pieces| json.end().map(|()| pieces.node));
        let node = read.map_err(|error| malformed("a node", &error))?;
        if node.name.is_empty() {
            return Err(KubeError::Malformed { reason: "a node without a name".to_owned() });
        }
        Ok(node)
    }
}

fn selected(only: Option<&str>) -> Query {
    let path = Query::new(&["api", "v1", "nodes"]);
    match only {
        Some(name) => path.with("fieldSelector", &format!("metadata.name={name}")),
        None => path,
    }
}

fn get(path: Query, purpose: Purpose) -> Ask {
    Ask { method: Method::GET, path: path.into_text(), accept: JSON, body: None, purpose }
}

fn malformed(what: &str, error: &serde_json::Error) -> KubeError {
    KubeError::Malformed { reason: format!("{what}: {error}") }
}
