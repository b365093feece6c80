//! What a reflector tells, folded into what there is.

use std::collections::BTreeMap;
use std::time::Duration;

use flannel_base::Backoff;
use flannel_fake_kube::FakeKube;
use flannel_kube_api::{
    CidrsAnnotation, KubeApi, Node, NodeEvent, Pace, Reflector, ReflectorOptions, ReflectorState,
};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::{PREFIX, client};

/// Nothing takes longer, on whatever machine.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that a test can wait for.
pub const HASTY: Pace = Pace {
    backoff: Backoff { min: Duration::from_millis(5), max: Duration::from_millis(40) },
    forbidden: Duration::from_millis(20),
    empty: Duration::from_millis(50),
    unknown: Duration::from_hours(1),
    spread: Duration::from_millis(5),
    check: Duration::from_millis(20),
};

/// What has been told at once.
#[derive(Debug)]
pub enum Heard {
    /// All nodes, and how many they are.
    All(usize),
    /// A node that is new or has changed, and its CIDRs.
    One(String, Vec<String>),
    /// A node that is gone.
    Gone(String),
}

/// A running reflector, and what it has told.
pub struct Told {
    /// All nodes.
    pub view: BTreeMap<String, Node>,
    /// All that was told.
    pub events: Vec<Heard>,
    /// The nodes of a list that has no end yet.
    listed: Option<BTreeMap<String, Node>>,
    pub state: watch::Receiver<ReflectorState>,
    receiver: mpsc::Receiver<NodeEvent>,
    running: JoinHandle<()>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Told {
    pub fn of(server: &FakeKube, options: ReflectorOptions) -> Self {
        Self::by(client(server), options)
    }

    pub fn by(client: KubeApi, options: ReflectorOptions) -> Self {
        Self::at(client, ReflectorOptions { pace: HASTY, ..options })
    }

    fn at(client: KubeApi, options: ReflectorOptions) -> Self {
        let (reflector, state) = Reflector::new(client, options);
        let (sender, receiver) = mpsc::channel(4);
        let running = tokio::spawn(reflector.run(sender));
        Self { view: BTreeMap::new(), events: Vec::new(), listed: None, state, receiver, running }
    }

    pub fn peers(server: &FakeKube) -> Self {
        Self::peers_at(server, HASTY)
    }

    /// With other waits.
    pub fn peers_at(server: &FakeKube, pace: Pace) -> Self {
        let within = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network")).to_vec();
        let annotation = CidrsAnnotation { key: format!("{PREFIX}pod-cidrs"), within };
        Self::at(client(server), ReflectorOptions { pace, ..ReflectorOptions::peers(Some(annotation)) })
    }

    /// Follows it until this is so.
    pub async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LONGEST;
        while !is_so(self) {
            let Ok(event) = timeout_at(end, self.receiver.recv()).await else {
                panic!("not so: {what}; {:#?}, {:?}", self.view, *self.state.borrow());
            };
            self.fold(event.expect("it goes on"));
        }
    }

    /// Follows it until it knows what the server has.
    pub async fn until_as(&mut self, server: &FakeKube) {
        let expected = all(server);
        self.until("as the server", |told| told.all() == expected).await;
    }

    /// Takes what has been told, and waits for nothing.
    pub fn take_what_is_there(&mut self) {
        while let Ok(event) = self.receiver.try_recv() {
            self.fold(event);
        }
    }

    /// Follows it until the server's version, and so everything before it, has been told.
    pub async fn until_version_of(&mut self, server: &FakeKube) {
        let end = Instant::now() + LONGEST;
        let version = server.version().to_string();
        let before = self.state.borrow().events;
        let is_told = |state: &ReflectorState| state.version == version && state.events > before;
        while !is_told(&self.state.borrow()) {
            assert!(Instant::now() < end, "{:?}", *self.state.borrow());
            // The watch may not have begun when there was one before.
            server.send_bookmarks();
            if let Ok(event) = timeout(Duration::from_millis(20), self.receiver.recv()).await {
                self.fold(event.expect("it goes on"));
            }
        }
        self.take_what_is_there();
    }

    pub fn all(&self) -> Vec<Summary> {
        let cidrs = |node: &Node| node.pod_cidrs.clone();
        let rows = self.view.values();
        rows.map(|node| (node.name.clone(), node.uid.clone(), cidrs(node), node.annotations.clone()))
            .collect()
    }

    /// Stops listening; whether it ends then.
    pub async fn ends(mut self) -> bool {
        self.receiver.close();
        timeout(LONGEST, &mut self.running).await.is_ok()
    }

    fn fold(&mut self, event: NodeEvent) {
        let is_listing = self.listed.is_some();
        let nodes = self.listed.as_mut().unwrap_or(&mut self.view);
        let heard = match event {
            NodeEvent::Syncing => {
                self.listed = Some(BTreeMap::new());
                return;
            }
            NodeEvent::Synced => {
                self.view = self.listed.take().expect("it has begun");
                Heard::All(self.view.len())
            }
            NodeEvent::Applied(node) => {
                let heard = Heard::One(node.name.clone(), node.pod_cidrs.clone());
                nodes.insert(node.name.clone(), node);
                heard
            }
            NodeEvent::Deleted { name, uid } => {
                let gone = nodes.remove(&name).expect("it was there");
                assert_eq!(gone.uid, uid);
                Heard::Gone(name)
            }
            NodeEvent::Bookmark => return,
        };
        if !is_listing || matches!(heard, Heard::All(_)) {
            self.events.push(heard);
        }
    }
}

/// Name, UID, CIDRs and annotations.
pub type Summary = (String, String, Vec<String>, BTreeMap<String, String>);

/// What there is to know.
pub fn all(server: &FakeKube) -> Vec<Summary> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let summary = |node: &Value| {
        let cidrs = node["spec"]["podCIDRs"].as_array().into_iter().flatten().map(text).collect();
        let annotations = node["metadata"]["annotations"].as_object().into_iter().flatten();
        let own = annotations.filter(|(key, _)| key.starts_with(PREFIX));
        let own = own.map(|(key, value)| (key.clone(), text(value))).collect();
        (text(&node["metadata"]["name"]), text(&node["metadata"]["uid"]), cidrs, own)
    };
    server.nodes().iter().map(summary).collect()
}
