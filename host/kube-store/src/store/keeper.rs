//! Keeps what this node's object says as it should be, whoever changes it: annotations that are lost, an operator's other address, an object that
//! was made anew. What is wanted is compared with what is there, whatever has happened in between.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flannel_base::{Backoff, LogThrottle, Timestamp};
use flannel_kube_api::{KubeError, Node, NodeEvent};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tracing::{info, warn};

use super::fight::Fight;
use super::figures::Counters;
use super::{KubeOptions, Published};
use crate::cidrs::Cidrs;
use crate::condition::{self, Verdict};
use crate::own::{Overwrites, Own, Wanted};

/// Waits before something is written that could not be.
pub(super) const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };
/// Changes come in bursts: this long is waited for more.
const CALM: Duration = Duration::from_millis(200);
/// How often a node that somebody else changes meanwhile is looked at again.
const ATTEMPTS: u32 = 3;
/// How often trouble that lasts is said again.
const REMIND: Duration = Duration::from_mins(1);

/// Writes what is not there yet.
pub(super) async fn write(
    options: &KubeOptions,
    name: &str,
    mut node: Node,
    published: &Published,
) -> Result<Node, KubeError> {
    for attempt in 1.. {
        let Some(patch) = wanted(options, &node, published).patch(&node) else { break };
        match options.api.patch_node_status(name, patch).await {
            Ok(now) => node = now,
            Err(KubeError::Conflict { .. } | KubeError::NotFound { .. }) if attempt < ATTEMPTS => {
                node = options.api.node(name).await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        if attempt >= ATTEMPTS {
            break;
        }
    }
    Ok(node)
}

fn wanted(options: &KubeOptions, node: &Node, published: &Published) -> Wanted {
    let Published { attributes, families, subnets } = published;
    let own = Own { attributes, families: *families, subnets: Some(*subnets) };
    Wanted::new(&options.keys, &own, &Overwrites::read(node, &options.keys))
}

/// Until nobody publishes any more.
pub(super) async fn run(
    options: Arc<KubeOptions>,
    name: Arc<str>,
    mut events: Receiver<NodeEvent>,
    known: watch::Sender<Option<Node>>,
    mut published: watch::Receiver<Option<Published>>,
    mut ready: watch::Receiver<bool>,
    counters: Arc<Counters>,
) {
    let mut keeper = Keeper {
        options,
        name,
        condition_written: false,
        failures: 0,
        fight: Fight::default(),
        fights: LogThrottle::new(Some(REMIND)),
        throttle: LogThrottle::new(Some(REMIND)),
        wrong: LogThrottle::new(None),
        counters,
    };
    let mut due: Option<tokio::time::Instant> = None;
    // The node as a list has it that has no end yet.
    let (mut is_listing, mut listed) = (false, None);
    loop {
        let at = due;
        let wait = async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.recv() => match event {
                Some(NodeEvent::Syncing) => {
                    (is_listing, listed) = (true, None);
                    continue;
                }
                Some(NodeEvent::Synced) => {
                    is_listing = false;
                    known.send_replace(listed.take());
                }
                Some(NodeEvent::Applied(node)) if is_listing => {
                    listed = Some(node);
                    continue;
                }
                Some(NodeEvent::Deleted { .. }) if is_listing => {
                    listed = None;
                    continue;
                }
                Some(NodeEvent::Applied(node)) => drop(known.send_replace(Some(node))),
                Some(NodeEvent::Deleted { .. }) => {
                    warn!(node = &*keeper.name, "this node's object is gone: peers take it for gone, too; waiting for it to come back");
                    known.send_replace(None);
                }
                Some(NodeEvent::Bookmark) => continue,
                None => return,
            },
            changed = published.changed() => if changed.is_err() { return },
            changed = ready.changed() => if changed.is_err() { return },
            () = wait => {
                let heard = known.borrow().clone();
                let publishes = published.borrow_and_update().clone();
                let is_ready = *ready.borrow_and_update();
                // Where nothing may be watched nobody tells of a change.
                due = heard.is_none().then(|| tokio::time::Instant::now() + RETRY.max);
                if let Err(error) = keeper.keep(heard, publishes.as_ref(), is_ready).await {
                    let wait = RETRY.after(keeper.failures).max(error.retry_after().unwrap_or_default());
                    keeper.failures = keeper.failures.saturating_add(1);
                    if keeper.throttle.says(&error.to_string(), Instant::now()) {
                        warn!(node = &*keeper.name, %error, "what this node's object should say cannot be written; trying again");
                    }
                    due = Some(tokio::time::Instant::now() + wait);
                } else {
                    keeper.failures = 0;
                    keeper.throttle.reset();
                }
                continue;
            }
        }
        let calm = tokio::time::Instant::now() + CALM;
        let soon = keeper.fight.rests_until().map_or(calm, |rest| calm.max(rest.into()));
        due = Some(due.map_or(soon, |due| due.min(soon)));
    }
}

struct Keeper {
    options: Arc<KubeOptions>,
    name: Arc<str>,
    /// The condition was written since the start.
    condition_written: bool,
    failures: u32,
    fight: Fight,
    fights: LogThrottle,
    throttle: LogThrottle,
    wrong: LogThrottle,
    counters: Arc<Counters>,
}

impl Keeper {
    /// `heard`: the node's object, if it was told of.
    async fn keep(
        &mut self,
        heard: Option<Node>,
        published: Option<&Published>,
        is_ready: bool,
    ) -> Result<(), KubeError> {
        let mut node = match heard {
            Some(node) => node,
            None if published.is_none() => return Ok(()),
            None => match self.options.api.node(&self.name).await {
                Ok(node) => node,
                // That is said already.
                Err(KubeError::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            },
        };
        // An object that was made again may have other subnets, or none yet: what is published is not of that one.
        if published
            .is_some_and(|published| Cidrs::assigned(&node).of(published.families) != published.subnets)
        {
            return Ok(());
        }
        let overwrites = Overwrites::read(&node, &self.options.keys);
        for wrong in &overwrites.wrong {
            if self.wrong.says(&wrong.to_string(), Instant::now()) {
                warn!("{wrong}; it is taken for absent");
            }
        }
        if let Some(published) = published
            && wanted(&self.options, &node, published).patch(&node).is_some()
        {
            node = write(&self.options, &self.name, node, published).await?;
            self.repaired();
        }
        if is_ready && self.options.sets_condition {
            self.keep_condition(&node).await?;
        }
        Ok(())
    }

    fn repaired(&mut self) {
        self.counters.repairs.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if let Some(times) = self.fight.put_back(now) {
            if self.fights.says(&self.name, now) {
                warn!(
                    node = &*self.name,
                    times,
                    "somebody changes this node's annotations again and again, and they are put back, less and less often: is there a second daemon for it, or a controller that strips annotations?"
                );
            }
        } else {
            info!(node = &*self.name, "this node's annotations are as they should be again");
        }
    }

    async fn keep_condition(&mut self, node: &Node) -> Result<(), KubeError> {
        if condition::verdict(node, self.condition_written) == Verdict::Write {
            let patch = condition::patch(node, Timestamp::now());
            self.options.api.patch_node_status(&self.name, patch).await?;
            self.condition_written = true;
        }
        Ok(())
    }
}
