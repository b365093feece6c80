//! Reads all nodes: in the cheapest way that the server knows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::api::ListVersion;
use crate::error::KubeError;
use crate::list::NodeList;
use crate::node::Node;
use crate::watch::WatchEvent;

use super::{NobodyListens, NodeEvent, Phase, Reflector, Strategy, number};

/// Nodes of which nobody believes at once that they are all gone.
const FEW: usize = 3;
/// How often a list in pages begins anew when the server has forgotten its version meanwhile.
const PAGED_ATTEMPTS: u32 = 3;
/// After so many failures of the server in a row, another way is tried.
const SERVER_FAILURES: u32 = 2;

/// What the server does not know, and since when that is known.
#[derive(Default)]
pub(super) struct Refusals(Vec<(Strategy, Instant)>);

impl Refusals {
    fn has(&mut self, strategy: Strategy, for_long: Duration) -> bool {
        self.0.retain(|(_, since)| since.elapsed() < for_long);
        self.0.iter().any(|(refused, _)| *refused == strategy)
    }
}

/// Why a strategy has not led to all nodes.
enum Failure {
    /// The server does not know it, and will not for a while.
    Unknown(KubeError),
    /// It does not work now.
    NotThisTime(KubeError),
    /// Nothing would work now.
    Nothing(KubeError),
}

impl Reflector {
    /// Reads all nodes and tells them, however long that takes.
    pub(super) async fn sync(&mut self, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        let mut failures = 0;
        let mut is_checked = false;
        let list = loop {
            self.state.send_modify(|state| state.phase = Phase::Syncing);
            let begun = Instant::now();
            let read = tokio::select! {
                read = self.read_all(failures) => read,
                () = events.closed() => return Err(NobodyListens),
            };
            match read {
                Ok(list) if list.nodes.is_empty() && self.memory.len() > FEW && !is_checked => {
                    tracing::warn!("the API server says that there are no nodes any more: it is asked again");
                    is_checked = true;
                    self.rest(self.options.pace.empty, events).await?;
                }
                Ok(list) => {
                    self.state.send_modify(|state| state.sync_took = Some(begun.elapsed()));
                    break list;
                }
                Err(error) => {
                    self.pause(&error, failures, events).await?;
                    failures += 1;
                }
            }
        };
        self.completion.clear();
        self.version = list.resource_version;
        let nodes = self.memory.replace(list.nodes);
        self.state.send_modify(|state| {
            state.syncs += 1;
            state.version.clone_from(&self.version);
            state.heard();
        });
        self.tell(NodeEvent::Synced(nodes), events).await
    }

    async fn read_all(&mut self, failures: u32) -> Result<NodeList, KubeError> {
        let mut last = None;
        for strategy in Strategy::ALL {
            if self.refusals.has(strategy, self.options.pace.unknown) {
                continue;
            }
            self.state.send_modify(|state| state.strategy = Some(strategy));
            let read = match strategy {
                Strategy::Stream => self.read_stream(failures).await,
                Strategy::Cache => self.read_cache(failures).await,
                Strategy::Pages => self.read_pages().await,
            };
            match read {
                Ok(list) => match self.check_age(&list, strategy) {
                    Ok(()) => return Ok(list),
                    Err(error) => last = Some(error),
                },
                Err(Failure::Unknown(error)) => {
                    tracing::debug!(strategy = strategy.label(), %error, "the API server does not know this");
                    self.refusals.0.push((strategy, Instant::now()));
                    last = Some(error);
                }
                Err(Failure::NotThisTime(error)) => {
                    tracing::debug!(strategy = strategy.label(), %error, "nodes cannot be read this way now");
                    last = Some(error);
                }
                Err(Failure::Nothing(error)) => return Err(error),
            }
        }
        // The last strategy is never given up for long.
        Err(last.unwrap_or_else(|| KubeError::Malformed { reason: "no way to read nodes".to_owned() }))
    }

    /// Versions do not go back, but for what etcd itself says: somebody has restored a backup then.
    fn check_age(&self, list: &NodeList, strategy: Strategy) -> Result<(), KubeError> {
        let (now, before) = (&list.resource_version, &self.version);
        if number(now) >= number(before) {
            return Ok(());
        }
        if strategy == Strategy::Pages {
            tracing::warn!(now, before, "the cluster's version went back: was a backup restored?");
            return Ok(());
        }
        Err(KubeError::Malformed { reason: format!("version {now} after version {before}") })
    }

    fn seen(&self) -> &str {
        if self.version.is_empty() { "0" } else { &self.version }
    }

    async fn read_stream(&self, failures: u32) -> Result<NodeList, Failure> {
        let only = self.options.only.as_deref();
        let stream = self.api.stream_nodes(self.seen(), only).await;
        let mut stream = stream.map_err(|error| classify(error, failures))?;
        let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
        let markless = || KubeError::Malformed { reason: "a streamed list without an end".to_owned() };
        loop {
            // What began well and breaks off may do so again.
            let event = stream.next().await.map_err(|error| match classify(error, failures) {
                Failure::Nothing(error @ KubeError::Unreachable { .. }) => Failure::NotThisTime(error),
                failure => failure,
            })?;
            match event {
                // All of them are there at once: what nobody is told of is not kept until the end.
                Some(WatchEvent::Applied(node)) => {
                    drop(nodes.insert(node.name.clone(), self.memory.shape(node)));
                }
                Some(WatchEvent::Deleted(node)) => drop(nodes.remove(&node.name)),
                Some(WatchEvent::Bookmark { resource_version, is_end_of_list: true }) => {
                    let nodes = nodes.into_values().collect();
                    return Ok(NodeList { nodes, resource_version, more: String::new() });
                }
                // Whoever sends these first has not understood what was asked for.
                Some(WatchEvent::Bookmark { .. }) => return Err(Failure::Unknown(markless())),
                None => return Err(Failure::NotThisTime(markless())),
            }
            self.state.send_modify(|state| state.last_contact = Some(Instant::now()));
        }
    }

    async fn read_cache(&self, failures: u32) -> Result<NodeList, Failure> {
        let version = ListVersion::NotOlderThan(self.seen());
        let list = self.api.nodes(version, self.options.only.as_deref()).await;
        match list {
            // Servers ignore the limit here, proxies may not.
            Ok(list) if !list.more.is_empty() => {
                Err(Failure::NotThisTime(KubeError::Malformed { reason: "part of a list".to_owned() }))
            }
            Ok(list) => Ok(list),
            Err(error) => Err(classify(error, failures)),
        }
    }

    async fn read_pages(&self) -> Result<NodeList, Failure> {
        let only = self.options.only.as_deref();
        let mut attempts = 1;
        let mut list = NodeList::default();
        loop {
            match self.api.nodes(ListVersion::Newest(&list.more), only).await {
                Ok(page) => {
                    list.nodes.extend(page.nodes);
                    list.resource_version = page.resource_version;
                    list.more = page.more;
                    if list.more.is_empty() {
                        return Ok(list);
                    }
                }
                Err(KubeError::Gone { .. }) if attempts < PAGED_ATTEMPTS => {
                    attempts += 1;
                    list = NodeList::default();
                }
                Err(error) => return Err(Failure::Nothing(error)),
            }
        }
    }
}

fn classify(error: KubeError, failures: u32) -> Failure {
    match &error {
        KubeError::Invalid { .. } | KubeError::NotAcceptable { .. } | KubeError::Unexpected { .. } => {
            Failure::Unknown(error)
        }
        // An etcd before 3.4.31 or 3.5.13, found out in the middle.
        KubeError::Server { message, .. } if message.contains("RequestWatchProgress") => {
            Failure::Unknown(error)
        }
        // Does not have the version yet; or is out of order in what this way takes.
        KubeError::Server { status, .. } if *status == 504 || failures >= SERVER_FAILURES => {
            Failure::NotThisTime(error)
        }
        KubeError::Gone { .. }
        | KubeError::Malformed { .. }
        | KubeError::NotFound { .. }
        | KubeError::Conflict { .. } => Failure::NotThisTime(error),
        KubeError::Server { .. }
        | KubeError::Unauthorized { .. }
        | KubeError::Forbidden { .. }
        | KubeError::TooManyRequests { .. }
        | KubeError::Unreachable { .. }
        | KubeError::Connection(_) => Failure::Nothing(error),
    }
}
