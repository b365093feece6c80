//! Keeps somebody informed of all nodes, for ever: a list, then what changes, and a list again when that is lost. What fails is tried
//! again, and nothing is told twice.

mod annotation;
mod completion;
mod live;
mod memory;
mod pace;
mod state;
mod sync;

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::api::{KubeApi, WatchForm};
use crate::error::KubeError;
use crate::node::Node;
use crate::random::up_to;

use completion::Completion;
pub use memory::CidrsAnnotation;
use memory::Memory;
pub use pace::Pace;
pub use state::{Phase, ReflectorState, Strategy};
use sync::Refusals;

/// What is told of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few wait at a time, and most of them are nodes")]
pub enum NodeEvent {
    /// All nodes are told from here on, up to [`Synced`](Self::Synced). Until then what was told before goes on to count; a list that breaks
    /// off is begun again by this event.
    Syncing,
    /// Those told since [`Syncing`](Self::Syncing) are all nodes that there are: whatever is not among them is gone.
    Synced,
    /// A node as it is now, new or changed. One of another UID takes the place of the one of this name.
    Applied(Node),
    /// A node that is gone.
    Deleted {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// The server is there, and everything has been told.
    Bookmark,
}

/// What is to be told, and how it is asked for.
#[derive(Clone, Debug)]
pub struct ReflectorOptions {
    /// The node of this name alone; otherwise all of them.
    pub only: Option<String>,
    /// How much is watched. In the metadata form CIDRs come from lists, from an annotation or are asked for, and neither addresses nor
    /// conditions are told.
    pub form: WatchForm,
    /// The annotation that repeats a node's CIDRs, separated by commas, so that nobody has to wait for them. What it says is unverified
    /// until the object was read, which is done later.
    pub cidrs_annotation: Option<CidrsAnnotation>,
    /// Waits.
    pub pace: Pace,
}

impl ReflectorOptions {
    /// For all nodes, in the metadata form.
    pub fn peers(cidrs_annotation: Option<CidrsAnnotation>) -> Self {
        Self { only: None, form: WatchForm::Metadata, cidrs_annotation, pace: Pace::default() }
    }

    /// For one node, with all that is known of it. That may be asked with a kubelet's credentials, too.
    pub fn own_node(name: &str) -> Self {
        Self {
            only: Some(name.to_owned()),
            form: WatchForm::Full,
            cidrs_annotation: None,
            pace: Pace::default(),
        }
    }
}

/// Somebody who is told no longer listens.
struct NobodyListens;

/// Asks the API server for nodes, and tells somebody.
pub struct Reflector {
    api: KubeApi,
    options: ReflectorOptions,
    memory: Memory,
    completion: Completion,
    refusals: Refusals,
    /// Since when the server is known not to have the metadata form.
    no_metadata_since: Option<Instant>,
    /// Everything up to this has been seen; empty before the first list.
    version: String,
    /// How often in a row nothing has come between two lists.
    fruitless: u32,
    state: watch::Sender<ReflectorState>,
}

impl Reflector {
    /// Asks nobody yet. The receiver always has the present state.
    pub fn new(api: KubeApi, options: ReflectorOptions) -> (Self, watch::Receiver<ReflectorState>) {
        let (state, seen) = watch::channel(ReflectorState::default());
        let reflector = Self {
            completion: Completion::new(api.clone(), options.pace),
            memory: Memory::new(options.form, options.cidrs_annotation.clone()),
            refusals: Refusals::default(),
            no_metadata_since: None,
            version: String::new(),
            fruitless: 0,
            api,
            options,
            state,
        };
        (reflector, seen)
    }

    /// Goes on until nobody listens.
    pub async fn run(mut self, events: mpsc::Sender<NodeEvent>) {
        while self.cycle(&events).await.is_ok() {}
    }

    /// Reads all nodes, and tells what changes until they have to be read again.
    async fn cycle(&mut self, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        if let Some(failures) = self.fruitless.checked_sub(1) {
            self.rest(up_to(self.options.pace.backoff.after(failures)), events).await?;
        }
        self.sync(events).await?;
        let before = self.state.borrow().events;
        self.live(events).await?;
        self.fruitless = if self.state.borrow().events == before { self.fruitless + 1 } else { 0 };
        Ok(())
    }

    /// Waits before the next attempt.
    async fn pause(
        &self,
        error: &KubeError,
        failures: u32,
        events: &mpsc::Sender<NodeEvent>,
    ) -> Result<(), NobodyListens> {
        let wait = self.options.pace.after(error, failures);
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(%error, wait_ms = milliseconds, "nodes are asked for again");
        self.state.send_modify(|state| state.failed(error));
        self.rest(wait, events).await
    }

    async fn rest(&self, wait: Duration, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        tokio::select! {
            () = tokio::time::sleep(wait) => Ok(()),
            () = events.closed() => Err(NobodyListens),
        }
    }

    async fn tell(&self, event: NodeEvent, events: &mpsc::Sender<NodeEvent>) -> Result<(), NobodyListens> {
        if !matches!(event, NodeEvent::Bookmark) {
            self.state.send_modify(|state| state.told += 1);
        }
        events.send(event).await.map_err(|_| NobodyListens)
    }
}

/// Versions are numbers that grow, officially since Kubernetes 1.35, and in fact ever since.
fn number(version: &str) -> u64 {
    version.parse().unwrap_or(0)
}
