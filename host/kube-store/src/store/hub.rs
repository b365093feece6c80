//! Follows all nodes in one task, whoever wants to know of them: a list of a large cluster is expensive.

use std::sync::Arc;
use std::time::Duration;

use flannel_kube_api::{CidrsAnnotation, Node, NodeEvent, Reflector, ReflectorOptions, ReflectorState};
use flannel_lease_store::{Event, StoreError};
use flannel_model::lease::Lease;
use flannel_model::network_config::NetworkConfig;
use ipnet::IpNet;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{oneshot, watch as state};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::figures::Counters;
use super::{KubeOptions, KubeStore, Published, contact, keeper};
use crate::cidrs::Cidrs;
use crate::own::{Overwrites, Own};
use crate::peers::{News, OwnLease, PeerMap};

/// How many events of nodes wait, and how many events for who follows the leases.
const QUEUE: usize = 16;

/// How long who asks for all leases waits for the first list of nodes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The way to that task.
pub(super) struct Hub {
    questions: Sender<Question>,
    state: state::Receiver<ReflectorState>,
    /// Why nothing is heard of the nodes; none: something is.
    trouble: state::Receiver<Option<String>>,
    /// This node's object; none: it is gone, or not known yet.
    own_node: state::Receiver<Option<Node>>,
    /// They end with this.
    _tasks: JoinSet<()>,
}

enum Question {
    /// All leases, as soon as they are known.
    Leases(oneshot::Sender<Vec<Arc<Lease>>>),
    /// What there is, and all that comes.
    Follow(Sender<Event>),
}

impl Hub {
    pub(super) fn start(
        options: Arc<KubeOptions>,
        config: NetworkConfig,
        name: &Arc<str>,
        published: state::Receiver<Option<Published>>,
        ready: state::Receiver<bool>,
        trouble: &state::Sender<Option<String>>,
        counters: Arc<Counters>,
    ) -> Self {
        let (questions, asked) = channel(QUEUE);
        let (own_events, own_seen) = channel(QUEUE);
        let (events, seen) = channel(QUEUE);
        let (own_node, own_known) = state::channel(None);
        let v4 = config.network.filter(|_| config.enable_ipv4).map(IpNet::V4);
        let v6 = config.ipv6_network.filter(|_| config.enable_ipv6).map(IpNet::V6);
        let within = v4.into_iter().chain(v6).collect();
        let annotation = CidrsAnnotation { key: options.keys.pod_cidrs.clone(), within };
        let peers = ReflectorOptions::peers(Some(annotation));
        let mut tasks = JoinSet::new();
        let (peers, state) = Reflector::new(options.api.clone(), peers);
        tasks.spawn(peers.run(events));
        tasks.spawn(contact::follow("nodes", state.clone(), trouble.clone()));
        let own = ReflectorOptions::own_node(name);
        tasks.spawn(Reflector::new(options.api.clone(), own).0.run(own_events));
        let map = PeerMap::new(options.keys.clone(), config, name);
        let follower = Follower {
            options: Arc::clone(&options),
            map,
            synced: false,
            waiting: Vec::new(),
            listener: None,
            published: published.clone(),
            own_node: own_known.clone(),
        };
        tasks.spawn(follower.run(asked, seen));
        tasks.spawn(keeper::run(options, Arc::clone(name), own_seen, own_node, published, ready, counters));
        Self { questions, state, trouble: trouble.subscribe(), own_node: own_known, _tasks: tasks }
    }

    /// This node's object, if it is known.
    pub(super) fn own_node(&self) -> Option<Node> {
        self.own_node.borrow().clone()
    }

    /// The same, whenever it is another one.
    pub(super) fn watch_own_node(&self) -> state::Receiver<Option<Node>> {
        self.own_node.clone()
    }

    /// How the nodes are followed.
    pub(super) fn state(&self) -> ReflectorState {
        self.state.borrow().clone()
    }

    pub(super) async fn leases(&self) -> Result<Vec<Arc<Lease>>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ended = || StoreError::Unavailable {
            place: "nodes".to_owned(),
            reason: "they are not followed any more".to_owned(),
        };
        self.questions.send(Question::Leases(answer)).await.map_err(|_| ended())?;
        let Ok(leases) = timeout(PATIENCE, answered).await else {
            let trouble = self.trouble.borrow().clone();
            let reason = trouble.unwrap_or_else(|| "it has not told of all nodes yet".to_owned());
            return Err(StoreError::Unavailable { place: "the API server".to_owned(), reason });
        };
        leases.map_err(|_| ended())
    }
}

/// Tells of all leases; as long as somebody listens.
pub(super) fn watch(store: Arc<KubeStore>) -> Receiver<Event> {
    let (sender, receiver) = channel(QUEUE);
    tokio::spawn(async move {
        loop {
            match store.hub().await {
                Ok(hub) => {
                    let _ = hub.questions.send(Question::Follow(sender.clone())).await;
                    // The store, and with it the task, is there as long as that.
                    return sender.closed().await;
                }
                Err(error) => {
                    warn!("nodes cannot be followed yet: {error}; trying again");
                    tokio::select! {
                        () = sender.closed() => return,
                        () = tokio::time::sleep(keeper::RETRY.max) => {}
                    }
                }
            }
        }
    });
    receiver
}

/// What the task has.
struct Follower {
    options: Arc<KubeOptions>,
    map: PeerMap,
    /// All nodes were told once.
    synced: bool,
    waiting: Vec<oneshot::Sender<Vec<Arc<Lease>>>>,
    listener: Option<Sender<Event>>,
    published: state::Receiver<Option<Published>>,
    /// This node's object.
    own_node: state::Receiver<Option<Node>>,
}

impl Follower {
    async fn run(mut self, mut asked: Receiver<Question>, mut events: Receiver<NodeEvent>) {
        self.take_own().await;
        loop {
            let mut published = self.published.clone();
            let mut own_node = self.own_node.clone();
            tokio::select! {
                question = asked.recv() => match question {
                    Some(Question::Leases(answer)) if self.synced => drop(answer.send(self.map.leases())),
                    Some(Question::Leases(answer)) => {
                        // Who has not waited any longer asks again.
                        self.waiting.retain(|waiting| !waiting.is_closed());
                        self.waiting.push(answer);
                    }
                    Some(Question::Follow(listener)) => {
                        if self.synced {
                            let _ = listener.send(Event::Snapshot(self.map.leases())).await;
                        }
                        self.listener = Some(listener);
                    }
                    None => return,
                },
                event = events.recv() => {
                    let Some(event) = event else { return };
                    self.synced |= matches!(event, NodeEvent::Synced);
                    let news = self.map.take(event);
                    self.tell(news).await;
                }
                changed = published.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.published.mark_unchanged();
                    self.take_own().await;
                }
                changed = own_node.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.own_node.mark_unchanged();
                    self.take_own().await;
                }
            }
        }
    }

    /// The node's own lease may be another one.
    async fn take_own(&mut self) {
        // An object that is gone may come back: until then the node goes on with what it has.
        if self.own_node.borrow().is_none() && self.published.borrow().is_some() {
            return;
        }
        let own = self.own_node.borrow().as_ref().zip(self.published.borrow().as_ref()).and_then(
            |(node, published)| {
                let Published { attributes, families, subnets } = published;
                let assigned = Cidrs::assigned(node);
                // A node that was made again has other ones: they have to be acquired.
                if !assigned.is_empty() && assigned.of(*families) != *subnets {
                    return None;
                }
                let own = Own { attributes, families: *families, subnets: Some(*subnets) };
                let addresses = own.addresses(&Overwrites::read(node, &self.options.keys));
                let lease = Lease { subnets: *subnets, attributes: attributes.clone(), expires: None };
                Some(OwnLease { created: node.created.clone(), lease: Arc::new(lease), addresses })
            },
        );
        let news = self.map.set_own(own);
        self.tell(news).await;
    }

    async fn tell(&mut self, news: News) {
        for notice in news.notices {
            warn!("{notice}");
        }
        if !self.synced {
            return;
        }
        for answer in self.waiting.drain(..) {
            let _ = answer.send(self.map.leases());
        }
        if let Some(event) = news.event
            && let Some(listener) = &self.listener
            && listener.send(event).await.is_err()
        {
            self.listener = None;
        }
    }
}
