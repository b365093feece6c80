//! Reads all nodes: in the cheapest way that the server knows.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::api::ListVersion;
use crate::error::KubeError;
use crate::list::ListEnd;
use crate::node::Node;
use crate::watch::WatchEvent;

use super::{NobodyListens, NodeEvent, Phase, Reflector, Strategy, number};

/// Nodes that may be ahead of who is told.
const AHEAD: usize = 16;
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
    /// It is of no use.
    NobodyListens,
}

impl From<NobodyListens> for Failure {
    fn from(_: NobodyListens) -> Self {
        Self::NobodyListens
    }
}

impl Reflector {
    /// Reads all nodes and tells them, however long that takes.
    pub(super) async fn sync(&mut self, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        let mut failures = 0;
        let mut is_checked = false;
        let version = loop {
            self.state.send_modify(|state| state.phase = Phase::Syncing);
            let begun = Instant::now();
            let read = tokio::select! {
                read = self.read_all(failures, events) => read?,
                () = events.closed() => return Err(NobodyListens),
            };
            match read {
                Ok(_) if self.memory.listed() == 0 && self.memory.len() > FEW && !is_checked => {
                    tracing::warn!("the API server says that there are no nodes any more: it is asked again");
                    is_checked = true;
                    self.rest(self.options.pace.empty, events).await?;
                }
                Ok(version) => {
                    self.state.send_modify(|state| state.sync_took = Some(begun.elapsed()));
                    break version;
                }
                Err(error) => {
                    self.pause(&error, failures, events).await?;
                    failures += 1;
                }
            }
        };
        self.completion.clear();
        self.version = version;
        self.memory.end_list();
        self.state.send_modify(|state| {
            state.syncs += 1;
            state.version.clone_from(&self.version);
            state.heard();
        });
        self.tell(NodeEvent::Synced, events).await
    }

    /// Tells all nodes. Answers the version that they have.
    async fn read_all(
        &mut self,
        failures: u32,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<Result<String, KubeError>, NobodyListens> {
        let mut last = None;
        for strategy in Strategy::ALL {
            if self.refusals.has(strategy, self.options.pace.unknown) {
                continue;
            }
            self.state.send_modify(|state| state.strategy = Some(strategy));
            let read = match strategy {
                Strategy::Stream => self.read_stream(failures, events).await,
                Strategy::Cache => self.read_cache(failures, events).await,
                Strategy::Pages => self.read_pages(events).await,
            };
            match read {
                Ok(version) => match self.check_age(&version, strategy) {
                    Ok(()) => return Ok(Ok(version)),
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
                Err(Failure::Nothing(error)) => return Ok(Err(error)),
                Err(Failure::NobodyListens) => return Err(NobodyListens),
            }
        }
        // The last strategy is never given up for long.
        let none = || KubeError::Malformed { reason: "no way to read nodes".to_owned() };
        Ok(Err(last.unwrap_or_else(none)))
    }

    /// Versions do not go back, but for what etcd itself says: somebody has restored a backup then.
    fn check_age(&self, now: &str, strategy: Strategy) -> Result<(), KubeError> {
        let before = &self.version;
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

    /// Nodes are told from here on, whatever was told of a list before.
    async fn begin_list(&mut self, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        self.memory.begin_list();
        events.send(NodeEvent::Syncing).await.map_err(|_| NobodyListens)
    }

    /// Tells a node of the list.
    async fn list(&mut self, node: Node, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        let node = self.memory.list(node);
        self.state.send_modify(|state| state.last_contact = Some(Instant::now()));
        events.send(NodeEvent::Applied(node)).await.map_err(|_| NobodyListens)
    }

    async fn read_stream(
        &mut self,
        failures: u32,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<String, Failure> {
        let only = self.options.only.as_deref();
        let stream = self.api.stream_nodes(self.seen(), only).await;
        let mut stream = stream.map_err(|error| classify(error, failures))?;
        self.begin_list(events).await?;
        let markless = || KubeError::Malformed { reason: "a streamed list without an end".to_owned() };
        loop {
            // What began well and breaks off may do so again.
            let event = stream.next().await.map_err(|error| match classify(error, failures) {
                Failure::Nothing(error @ KubeError::Unreachable { .. }) => Failure::NotThisTime(error),
                failure => failure,
            })?;
            match event {
                Some(WatchEvent::Applied(node)) => self.list(node, events).await?,
                Some(WatchEvent::Deleted(node)) => {
                    if self.memory.unlist(&node.name) {
                        let gone = NodeEvent::Deleted { name: node.name, uid: node.uid };
                        events.send(gone).await.map_err(|_| NobodyListens)?;
                    }
                }
                Some(WatchEvent::Bookmark { resource_version, is_end_of_list: true }) => {
                    return Ok(resource_version);
                }
                // Whoever sends these first has not understood what was asked for.
                Some(WatchEvent::Bookmark { .. }) => return Err(Failure::Unknown(markless())),
                None => return Err(Failure::NotThisTime(markless())),
            }
        }
    }

    async fn read_cache(
        &mut self,
        failures: u32,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<String, Failure> {
        self.begin_list(events).await?;
        let version = self.seen().to_owned();
        match self.read_list(ListVersion::NotOlderThan(&version), events).await? {
            // Servers ignore the limit here, proxies may not.
            Ok(list) if !list.more.is_empty() => {
                Err(Failure::NotThisTime(KubeError::Malformed { reason: "part of a list".to_owned() }))
            }
            Ok(list) => Ok(list.resource_version),
            Err(error) => Err(classify(error, failures)),
        }
    }

    async fn read_pages(&mut self, events: &mpsc::Sender<NodeEvent>) -> Result<String, Failure> {
        let (mut attempts, mut more) = (1, String::new());
        self.begin_list(events).await?;
        loop {
            match self.read_list(ListVersion::Newest(&more), events).await? {
                Ok(page) if page.more.is_empty() => return Ok(page.resource_version),
                Ok(page) => more = page.more,
                Err(KubeError::Gone { .. }) if attempts < PAGED_ATTEMPTS => {
                    attempts += 1;
                    more.clear();
                    self.begin_list(events).await?;
                }
                Err(error) => return Err(Failure::Nothing(error)),
            }
        }
    }

    /// Tells the nodes of a list, or of a page of one, while they come.
    async fn read_list(
        &mut self,
        version: ListVersion<'_>,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<Result<ListEnd, KubeError>, NobodyListens> {
        let (api, only) = (self.api.clone(), self.options.only.clone());
        let (nodes, mut read) = mpsc::channel(AHEAD);
        // Drops the channel with its end, so that nobody reads on for it.
        let telling = async move {
            while let Some(node) = read.recv().await {
                self.list(node, events).await?;
            }
            Ok(())
        };
        let (end, told) = tokio::join!(api.nodes(version, only.as_deref(), nodes), telling);
        told.map(|()| end)
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
