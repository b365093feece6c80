//! Asks for nodes whose CIDRs are not known from metadata: one by one, a few at a time, and not at the moment that all daemons do.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::KubeApi;
use crate::error::KubeError;
use crate::node::Node;
use crate::random::up_to;

use super::{Pace, number};

/// Nodes that are asked for at the same time.
const AT_ONCE: usize = 4;

/// The nodes that are asked for.
pub(super) struct Completion {
    api: KubeApi,
    pace: Pace,
    permits: Arc<Semaphore>,
    /// What was last told of each in metadata.
    wanted: HashMap<String, Node>,
    /// How often each was asked for without an answer, or without CIDRs in it.
    attempts: HashMap<String, u32>,
    running: JoinSet<Answer>,
}

/// A name, and what has come of asking.
pub(super) type Answer = (String, Result<Node, KubeError>);

impl Completion {
    pub(super) fn new(api: KubeApi, pace: Pace) -> Self {
        Self {
            api,
            pace,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            wanted: HashMap::new(),
            attempts: HashMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Everything is known anew.
    pub(super) fn clear(&mut self) {
        self.wanted.clear();
        self.attempts.clear();
        self.running = JoinSet::new();
    }

    /// Asks for a node, unless that is being done.
    pub(super) fn want(&mut self, metadata: Node) {
        let name = metadata.name.clone();
        if self.wanted.insert(name.clone(), metadata).is_none() {
            self.ask(name);
        }
    }

    /// Nobody has to be asked for that any more.
    pub(super) fn forget(&mut self, name: &str) {
        self.wanted.remove(name);
        self.attempts.remove(name);
    }

    fn ask(&mut self, name: String) {
        let attempts = self.attempts.get(&name).copied().unwrap_or(0);
        let before = attempts.checked_sub(1).map(|failures| self.pace.backoff.after(failures));
        let wait = before.unwrap_or_default() + up_to(self.pace.spread);
        let (api, permits) = (self.api.clone(), Arc::clone(&self.permits));
        self.running.spawn(async move {
            tokio::time::sleep(wait).await;
            // Never closed.
            let _permit = permits.acquire().await;
            let answer = api.node(&name).await;
            (name, answer)
        });
    }

    /// The next answer. Does not end while there is none. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Answer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                Some(Err(error)) => tracing::debug!(%error, "a node was not asked for to the end"),
                None => std::future::pending().await,
            }
        }
    }

    /// The node as it is, of an answer and of what was told meanwhile; `None` if there is nothing to say, or not yet.
    pub(super) fn conclude(&mut self, (name, answer): Answer) -> Option<Node> {
        let metadata = self.wanted.remove(&name)?;
        let read = match answer {
            Ok(read) => read,
            // Also if there is none: it is the watch that tells a node's end, and a server may know less than the one that is watched.
            Err(error) => {
                tracing::debug!(node = name, %error, "a node cannot be read");
                self.again(name, metadata);
                return None;
            }
        };
        let is_older = number(&read.resource_version) < number(&metadata.resource_version);
        if is_older && read.uid != metadata.uid {
            self.again(name, metadata);
            return None;
        }
        let node = if is_older { Node { pod_cidrs: read.pod_cidrs, ..metadata } } else { read };
        if node.has_pod_cidrs() {
            self.attempts.remove(&name);
        } else if is_older {
            // They may have come with what was told meanwhile.
            self.again(name, node);
            return None;
        } else {
            // There will be news when it gets them.
            *self.attempts.entry(name).or_default() += 1;
        }
        Some(node)
    }

    fn again(&mut self, name: String, metadata: Node) {
        *self.attempts.entry(name.clone()).or_default() += 1;
        self.wanted.insert(name.clone(), metadata);
        self.ask(name);
    }
}
