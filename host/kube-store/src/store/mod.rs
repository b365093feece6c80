//! The lease store of a Kubernetes cluster: nodes have their subnets from Kubernetes, and say in their annotations how they are reached.
//!
//! | Module | Its job |
//! |---|---|
//! | this one | what a lease store does |
//! | `before` | what there is of this node when its daemon starts |
//! | `identity` | which node this is |
//! | `config_file` | the network config, a file that is mounted from a ConfigMap |
//! | `contact` | whether the API server is heard of, in the log and in the status |
//! | `fight` | that who changes this node's annotations again and again is answered less and less often |
//! | `figures` | what it costs |
//! | `hub` | follows all nodes, and tells of their leases |
//! | `keeper` | keeps this node's annotations, and its condition, as they should be |
//! | `reasons` | what goes wrong, in words for an operator |

mod before;
mod config_file;
mod contact;
mod fight;
mod figures;
mod hub;
pub mod identity;
mod keeper;
mod reasons;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use flannel_kube_api::{KubeApi, Node, NodeEvent};
use flannel_lease_store::{Acquire, ConfigWritten, Event, LeaseStore, Renewed, Snapshot, StoreError};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::network_config::{ConfigError, NetworkConfig};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OnceCell, watch};

use crate::cidrs::{CidrError, Cidrs, own_subnets};
use crate::families::Families;
use crate::peers::PeerMap;
use crate::prefix::Keys;
pub use before::Before;
pub use figures::Figures;
use hub::Hub;
use identity::Identity;
use keeper::write;

/// So many nodes say what most of a cluster's do.
const SAMPLE: usize = 100;

/// What a store is made of.
pub struct KubeOptions {
    /// The API server.
    pub api: KubeApi,
    /// How the annotations are called; with the prefix that `api` looks for.
    pub keys: Keys,
    /// Which node this is; none: nobody has said.
    pub identity: Option<Identity>,
    /// The network config: `--net-config-path`.
    pub config_file: PathBuf,
    /// Whether the node's condition `NetworkUnavailable` is set: `--set-node-network-unavailable`.
    pub sets_condition: bool,
}

/// What this node publishes, and for which object of the API server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Published {
    attributes: Attributes,
    families: Families,
    subnets: Subnets,
}

/// The store.
pub struct KubeStore {
    options: Arc<KubeOptions>,
    name: OnceCell<Arc<str>>,
    /// What this node can serve of a cluster with both.
    families: watch::Sender<Families>,
    /// What this node publishes; none: it has no lease yet, or has lost it.
    published: watch::Sender<Option<Published>>,
    /// Whether pods can be started here.
    ready: watch::Sender<bool>,
    /// Why nothing is heard of the nodes; none: something is, or nobody wants to know yet.
    trouble: watch::Sender<Option<String>>,
    /// This node's labels, as they were heard last.
    labels: watch::Sender<BTreeMap<String, String>>,
    counters: Arc<figures::Counters>,
    hub: OnceCell<Hub>,
}

impl KubeStore {
    /// Asks nobody yet.
    pub fn new(options: KubeOptions) -> Self {
        Self {
            options: Arc::new(options),
            name: OnceCell::new(),
            families: watch::Sender::new(Families { ipv4: true, ipv6: true }),
            published: watch::Sender::new(None),
            ready: watch::Sender::new(false),
            trouble: watch::Sender::new(None),
            labels: watch::Sender::new(BTreeMap::new()),
            counters: Arc::default(),
            hub: OnceCell::new(),
        }
    }

    /// This node's name.
    ///
    /// # Errors
    /// While the API server cannot say on which node this pod is.
    pub async fn node_name(&self) -> Result<Arc<str>, StoreError> {
        let name =
            self.name.get_or_try_init(|| identity::find(self.options.identity.as_ref(), &self.options.api));
        name.await.map(Arc::clone)
    }

    /// Which families this node can serve, in a cluster with both. To be said before anything is published, or asked of other nodes.
    pub fn serve(&self, families: Families) {
        self.families.send_replace(families);
    }

    /// What is heard of this node while it publishes; none: nothing, or nothing any more.
    pub fn heard(&self) -> Option<Before> {
        Some(Before::read(&self.hub.get()?.own_node()?, &self.options.keys))
    }

    /// Why nothing is heard of the nodes, as long as that is so.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.subscribe()
    }

    /// This node's labels: of the object that was read or heard of last. None before there was any.
    pub fn labels(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.labels.subscribe()
    }

    /// What it has cost until now; none: nobody has wanted to know of the nodes yet.
    pub fn figures(&self) -> Option<Figures> {
        let hub = self.hub.get()?;
        Some(Figures::new(self.options.api.bytes_read(), &hub.state(), &self.counters))
    }

    /// From now on pods can be started here: the node's condition says so.
    pub fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Where the API server is, and who asks it, for people.
    ///
    /// # Errors
    /// While that cannot be found out.
    pub async fn place(&self) -> Result<String, StoreError> {
        let place = self.options.api.place().await;
        let place = place.map_err(|error| reasons::of("the API server".to_owned(), &error))?;
        Ok(format!("{} ({})", place.address, place.source))
    }

    /// What there is of this node before its daemon has done anything.
    ///
    /// # Errors
    /// While the API server does not answer, or has no such node.
    pub async fn before(&self) -> Result<Before, StoreError> {
        let node = self.own_node().await?;
        hear_labels(&self.labels, &node);
        Ok(Before::read(&node, &self.options.keys))
    }

    async fn own_node(&self) -> Result<Node, StoreError> {
        let name = self.node_name().await?;
        let node = self.options.api.node(&name).await;
        node.map_err(|error| reasons::of_node(&name, &error))
    }

    /// Publishes, and remembers what, so that it is put back when somebody changes it.
    async fn publish(&self, node: Node, published: Published) -> Result<(), StoreError> {
        let name = self.node_name().await?;
        write(&self.options, &name, node, &published)
            .await
            .map_err(|error| reasons::of_node(&name, &error))?;
        self.published.send_replace(Some(published));
        Ok(())
    }

    fn config_error(&self, error: &ConfigError) -> StoreError {
        StoreError::Unavailable { place: self.config_place(), reason: error.to_string() }
    }

    /// What follows the nodes, begun when somebody wants to know of them.
    async fn hub(&self) -> Result<&Hub, StoreError> {
        let begin = || async {
            let text = config_file::read(&self.options.config_file).await?;
            let config = self.parse_config(&text).map_err(|error| self.config_error(&error))?;
            let name = self.node_name().await?;
            let (published, ready) = (self.published.subscribe(), self.ready.subscribe());
            let options = Arc::clone(&self.options);
            let counters = Arc::clone(&self.counters);
            let hub = Hub::start(options, config, &name, published, ready, &self.trouble, counters);
            follow_labels(hub.watch_own_node(), self.labels.clone());
            Ok(hub)
        };
        self.hub.get_or_try_init(begin).await
    }
}

/// Tells of a node's labels, if they are others than before.
fn hear_labels(labels: &watch::Sender<BTreeMap<String, String>>, node: &Node) {
    labels.send_if_modified(|known| {
        let is_other = *known != node.labels;
        if is_other {
            known.clone_from(&node.labels);
        }
        is_other
    });
}

/// The same whenever the node is told of. Ends with the hub.
fn follow_labels(mut node: watch::Receiver<Option<Node>>, labels: watch::Sender<BTreeMap<String, String>>) {
    tokio::spawn(async move {
        while node.changed().await.is_ok() {
            if let Some(node) = &*node.borrow_and_update() {
                hear_labels(&labels, node);
            }
        }
    });
}

#[async_trait]
impl LeaseStore for KubeStore {
    async fn network_config(&self) -> Result<String, StoreError> {
        config_file::read(&self.options.config_file).await
    }

    /// The subnets are chosen by Kubernetes: none has to fit into the network.
    ///
    /// A node that cannot serve both families of a cluster takes it for one of a single family.
    fn parse_config(&self, text: &str) -> Result<NetworkConfig, ConfigError> {
        let config = NetworkConfig::parse_for_assigned_subnets(text)?;
        let served = *self.families.borrow();
        Ok(config.of_families(served.ipv4, served.ipv6))
    }

    fn watch_config(self: Arc<Self>) -> Receiver<String> {
        config_file::watch(self.options.config_file.clone())
    }

    async fn write_network_config(&self, _: &str, _: Option<&str>) -> Result<ConfigWritten, StoreError> {
        Err(StoreError::Refused {
            place: self.config_place(),
            reason: "in Kubernetes the network config is in a ConfigMap that is mounted here: change that, for example by \
                     `kubectl -n kube-flannel edit configmap kube-flannel-cfg`"
                .to_owned(),
        })
    }

    fn config_place(&self) -> String {
        self.options.config_file.display().to_string()
    }

    async fn leases(&self) -> Result<Snapshot, StoreError> {
        let leases = self.hub().await?.leases().await?;
        Ok(Snapshot { leases: leases.iter().map(|lease| Lease::clone(lease)).collect() })
    }

    /// A list of a large cluster takes its time, and who asks for this has not published anything yet.
    async fn some_leases(&self) -> Result<Snapshot, StoreError> {
        let text = config_file::read(&self.options.config_file).await?;
        let config = self.parse_config(&text).map_err(|error| self.config_error(&error))?;
        let name = self.node_name().await?;
        let nodes = self.options.api.some_nodes(SAMPLE).await;
        let nodes = nodes.map_err(|error| reasons::of("nodes".to_owned(), &error))?;
        let mut map = PeerMap::new(self.options.keys.clone(), config, &name);
        map.take(NodeEvent::Syncing);
        for node in nodes {
            map.take(NodeEvent::Applied(node));
        }
        map.take(NodeEvent::Synced);
        Ok(Snapshot { leases: map.leases().iter().map(|lease| Lease::clone(lease)).collect() })
    }

    /// Kubernetes has chosen the subnets, whatever the node would like to have. Nothing is published before they are known to be right.
    async fn acquire(&self, request: &Acquire) -> Result<Lease, StoreError> {
        let node = self.own_node().await?;
        let subnets =
            own_subnets(&node, &request.config).map_err(|error| reasons::of_cidrs(&node.name, &error))?;
        let published = Published {
            attributes: request.attributes.clone(),
            families: Families::of(&request.config),
            subnets,
        };
        self.publish(node, published).await?;
        Ok(Lease { subnets, attributes: request.attributes.clone(), expires: None })
    }

    async fn renew_as(&self, lease: &Lease, attributes: &Attributes) -> Result<Renewed, StoreError> {
        let families = self.published.borrow().as_ref().map(|published| published.families);
        let Some(families) = families else { return Ok(Renewed::Lost) };
        let node = self.own_node().await?;
        let assigned = Cidrs::assigned(&node);
        if assigned.is_empty() {
            return Err(reasons::of_cidrs(&node.name, &CidrError::NotAssigned { node: node.name.clone() }));
        }
        // A node that was deleted and made again.
        if assigned.of(families) != lease.subnets {
            self.published.send_replace(None);
            return Ok(Renewed::Lost);
        }
        let published = Published { attributes: attributes.clone(), families, subnets: lease.subnets };
        self.publish(node, published).await?;
        Ok(Renewed::Until(None))
    }

    fn watch(self: Arc<Self>) -> Receiver<Event> {
        hub::watch(self)
    }
}
