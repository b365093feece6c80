//! Asks for nodes whose CIDRs are not known from metadata, or only by what their annotations say: one by one, a few at a time, and not at the
//! moment that all daemons do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::api::KubeApi;
use crate::error::KubeError;
use crate::node::Node;
use crate::random::up_to;

use super::{Pace, number};

/// Nodes that are asked for at the same time.
const AT_ONCE: usize = 4;

/// Before each check one waits from nothing to this for each node that there is: all daemons of a cluster together make some 200 a second.
const REST_PER_NODE: Duration = Duration::from_millis(10);

/// The nodes that are asked for.
pub(super) struct Completion {
    api: KubeApi,
    pace: Pace,
    permits: Arc<Semaphore>,
    /// Who checks: one after the other.
    checks: Arc<Semaphore>,
    wanted: HashMap<String, Wanted>,
    /// How often each was asked for without an answer, or without CIDRs in it.
    attempts: HashMap<String, u32>,
    running: JoinSet<Answer>,
}

struct Wanted {
    /// What was last told of it.
    metadata: Node,
    when: When,
    asking: AbortHandle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// It is not told before.
    Soon,
    /// It is told already: what it says of itself is compared. At most so long after the check before it.
    Later(Duration),
}

/// A name, and what has come of asking.
pub(super) type Answer = (String, Result<Node, KubeError>);

impl Completion {
    pub(super) fn new(api: KubeApi, pace: Pace) -> Self {
        Self {
            api,
            pace,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            checks: Arc::new(Semaphore::new(1)),
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
        match self.wanted.get_mut(&metadata.name) {
            Some(wanted) if wanted.when == When::Soon => wanted.metadata = metadata,
            _ => self.ask(metadata, When::Soon),
        }
    }

    /// Asks for a node some time, unless that is being done. `nodes`: how many there are.
    pub(super) fn check(&mut self, metadata: Node, nodes: usize) {
        if let Some(wanted) = self.wanted.get_mut(&metadata.name) {
            wanted.metadata = metadata;
        } else {
            let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
            self.ask(metadata, When::Later(REST_PER_NODE.saturating_mul(nodes)));
        }
    }

    /// A check cannot wait any longer.
    pub(super) fn hasten(&mut self, name: &str) {
        if let Some(wanted) = self.wanted.get(name).filter(|wanted| wanted.when != When::Soon) {
            self.ask(wanted.metadata.clone(), When::Soon);
        }
    }

    /// Nobody has to be asked for that any more.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(wanted) = self.wanted.remove(name) {
            wanted.asking.abort();
        }
        self.attempts.remove(name);
    }

    /// Asks, in place of whoever is going to.
    fn ask(&mut self, metadata: Node, when: When) {
        let name = metadata.name.clone();
        let attempts = self.attempts.get(&name).copied().unwrap_or(0);
        let before = attempts.checked_sub(1).map(|failures| self.pace.backoff.after(failures));
        let (spread, rest) = match when {
            When::Soon => (self.pace.spread, None),
            When::Later(rest) => (self.pace.check, Some(rest)),
        };
        let wait = before.unwrap_or_default() + up_to(spread);
        let (api, permits, checks) = (self.api.clone(), Arc::clone(&self.permits), Arc::clone(&self.checks));
        let asking = self.running.spawn(async move {
            tokio::time::sleep(wait).await;
            // Neither is ever closed.
            let mut _turn = None;
            if let Some(rest) = rest {
                _turn = Some(checks.acquire().await);
                tokio::time::sleep(up_to(rest)).await;
            }
            let _permit = permits.acquire().await;
            // Thousands may wait here: only who asks takes the room for it.
            let answer = Box::pin(api.node(&name)).await;
            (name, answer)
        });
        let name = metadata.name.clone();
        if let Some(former) = self.wanted.insert(name, Wanted { metadata, when, asking }) {
            former.asking.abort();
        }
    }

    /// The next answer. Does not end while there is none. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Answer {
        loop {
            match self.running.join_next().await {
                Some(Ok(answer)) => return answer,
                Some(Err(error)) if error.is_cancelled() => {}
                Some(Err(error)) => tracing::debug!(%error, "a node was not asked for to the end"),
                None => std::future::pending().await,
            }
        }
    }

    /// The node as it is, of an answer and of what was told meanwhile; `None` if there is nothing to say, or not yet.
    pub(super) fn conclude(&mut self, (name, answer): Answer) -> Option<Node> {
        let Wanted { metadata, when, asking } = self.wanted.remove(&name)?;
        // The answer may be of one before.
        asking.abort();
        let read = match answer {
            Ok(read) => read,
            // Also if there is none: it is the watch that tells a node's end, and a server may know less than the one that is watched.
            Err(error) => {
                tracing::debug!(node = name, %error, "a node cannot be read");
                self.again(metadata, when);
                return None;
            }
        };
        let is_older = number(&read.resource_version) < number(&metadata.resource_version);
        if is_older && read.uid != metadata.uid {
            self.again(metadata, when);
            return None;
        }
        let node = if is_older {
            Node { pod_cidrs: read.pod_cidrs, cidrs_unverified: false, ..metadata }
        } else {
            read
        };
        if node.has_pod_cidrs() {
            self.attempts.remove(&name);
        } else if is_older {
            // They may have come with what was told meanwhile.
            self.again(node, when);
            return None;
        } else {
            // There will be news when it gets them.
            *self.attempts.entry(name).or_default() += 1;
        }
        Some(node)
    }

    fn again(&mut self, metadata: Node, when: When) {
        *self.attempts.entry(metadata.name.clone()).or_default() += 1;
        self.ask(metadata, when);
    }
}
