//! The way from the command line to a node that has its lease, its devices and its subnet file.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flannel_base::LogThrottle;
use flannel_cloud::{CloudOptions, Endpoints};
use flannel_datapath::{Context, Datapath, DeviceClaim, Event as DatapathEvent};
use flannel_kube_store::store::Before;
use flannel_lease_store::file::FileStore;
use flannel_lease_store::{Acquire, LeaseStore, StoreError};
use flannel_model::config_change::{self, Difference};
use flannel_model::entry::Mac;
use flannel_model::lease::{Attributes, Lease};
use flannel_model::lease_key::LeaseKey;
use flannel_model::network_config::NetworkConfig;
use flannel_model::node_identity::NodeIdentity;
use flannel_model::wireguard::{Keys, PublicKey};
use flannel_plugin_host::{
    Artifact, ArtifactError, BuiltIn, DirState, EndpointGrants, Environment, Family, Grants, Limits,
    LinkFacts, Loader, NodeFacts, NodeInfo, PluginReference, Policy, Registration, extract_secrets,
    granted_endpoint,
};
use flannel_telemetry::Step;
use ipnet::IpNet;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::cli::{Options, Store};
use crate::node::backend_record::BackendRecord;
use crate::node::claims::Claims;
use crate::node::external::{External, ExternalError, InterfaceSelector, IpFamilies, Wish, choose, keep};
use crate::node::firewall_owner::{self, Ownership};
use crate::node::inventory::Inventory;
use crate::node::name::host_name;
use crate::node::subnet_file::SubnetFile;
use crate::node::{former_networks, own_addresses, uplinks};

use super::DaemonError;
use super::clouds::CloudClientGuard;
use super::cluster_view::LeaseGate;
use super::commands::{CommandRunner, Permission};
use super::confined;
use super::coordinator::{Beginning, CurrentPlugin, published as generations, shown};
use super::former_backend;
use super::kube_node::KubeNode;
use super::links::Links;
use super::observer::Observer;
use super::outside::{Outside, OutsideStore};
use super::probes::ProbeHub;
use super::rehearsal::Surroundings;
use super::stale_file;
use super::tunnel_sources::Devices;

/// How often a store that does not answer, or has no config yet, is asked again; as upstream.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is looked whether an address can be used by now: the kernel takes a second for it.
const TENTATIVE_RETRY: Duration = Duration::from_millis(100);
/// How often the log repeats that we are waiting.
const REMIND: Duration = Duration::from_mins(1);

/// What is known before the plugin starts.
#[derive(Clone)]
pub(super) struct Node {
    /// The command line.
    pub options: Arc<Options>,
    /// The network config.
    pub config: Arc<NetworkConfig>,
    /// The external interface.
    pub external: External,
    /// The lease store.
    pub store: Arc<dyn LeaseStore>,
    /// Which external interface is looked for.
    pub wish: Arc<Wish>,
    /// What plugins may do.
    pub grants: Arc<Grants>,
    /// How plugins are loaded.
    pub loader: Loader,
    /// The plugin; `None` for the one that is built in.
    pub plugin: Option<PluginReference>,
    /// Those.
    pub built_in: &'static [BuiltIn],
    /// What this node must not be known by, since another one is.
    pub avoid: Vec<LeaseKey>,
    /// What no other daemon of this host has.
    pub claims: Arc<Claims>,
    /// Which commands of the network config are run.
    pub permission: Arc<Permission>,
    /// Where servers are talked to, by threads without privileges.
    pub outside: Handle,
    /// What else plugins are told of this node.
    pub about: Arc<NodeInfo>,
    /// Tells when that has changed; none: it does not.
    pub about_changed: Option<watch::Receiver<()>>,
    /// All probes of the process.
    pub probes: ProbeHub,
    /// What Kubernetes has of this node, if leases are there, from before its daemon did anything.
    pub before: Option<Arc<Before>>,
    /// The cluster's networks, of all families that it has.
    pub networks: Vec<IpNet>,
}

/// Takes what only one daemon of a host can have, and says what this one is called in the firewall.
pub(super) async fn claim(
    options: &Options,
    config: &NetworkConfig,
    claims: &Arc<Claims>,
) -> Result<Ownership, DaemonError> {
    let (claims, networks) = (Arc::clone(claims), networks(config));
    let (state, file) = (options.state_dir.clone(), options.subnet_file.clone());
    let place = match &options.store {
        Store::File(directory) => directory.display().to_string(),
        Store::Etcd => options.etcd_prefix.clone(),
        Store::Kube => format!("kubernetes:{}", options.kube_annotation_prefix),
    };
    let taken = tokio::task::spawn_blocking(move || {
        for network in networks {
            claims.network(network)?;
        }
        claims.place("state directory", &state, None)?;
        claims.place("subnet file", file.parent().unwrap_or(&file), file.file_name())?;
        Ok(firewall_owner::choose(&claims, &state, &place))
    });
    taken.await.unwrap_or_else(|error| Err(DaemonError::Thread(std::io::Error::other(error))))
}

/// Refuses what cannot be done, and says what is of no effect.
pub(super) fn check(options: &Options) -> Result<(), DaemonError> {
    if options.watch_plugin && matches!(options.plugin, Some(PluginReference::Registry(_))) {
        return Err(DaemonError::NothingToWatch);
    }
    if let Some(plugin) = &options.plugin {
        // Both are read for a network config, for which a daemon may wait long.
        plugin.check_there()?;
        let grants = Grants::new(options.plugin_grants.clone(), options.allow.clone(), &[]);
        grants.trusted_keys().map_err(ArtifactError::Keys)?;
    }
    let mut names = BTreeSet::new();
    if let Some((name, _)) = options.plugin_option.iter().find(|(name, _)| !names.insert(name)) {
        return Err(DaemonError::PluginOptionTwice { name: name.clone() });
    }
    let there: Vec<String> = endpoints(options)?.names().map(str::to_owned).collect();
    let allowed = options.allow.iter().filter_map(|grant| granted_endpoint(grant));
    EndpointGrants::Only(allowed.map(str::to_owned).collect()).check(&there).map_err(DaemonError::Allow)?;
    if options.store == Store::Kube
        && let Ok(depth) = std::env::var("EVENT_QUEUE_DEPTH")
        && !depth.is_empty()
        && depth.parse::<i64>().is_err()
    {
        warn!(
            depth,
            "EVENT_QUEUE_DEPTH is no number; it has no effect here: there is no queue that could be too short"
        );
    }
    for (flag, given) in
        [("--vmodule", options.vmodule.is_some()), ("--log_backtrace_at", options.log_backtrace_at.is_some())]
    {
        if given {
            warn!("{flag} is upstream's and has no effect here; --log-level can be set for single modules");
        }
    }
    Ok(())
}

/// The endpoints that plugins may be granted.
fn endpoints(options: &Options) -> Result<Endpoints, DaemonError> {
    let read = options.http_endpoints.as_deref().map(Endpoints::read);
    Ok(read.transpose().map_err(DaemonError::HttpEndpoints)?.unwrap_or_default())
}

/// A store, and what Kubernetes has of this node, if the store is that.
type Opened = (Arc<dyn LeaseStore>, Option<Arc<KubeNode>>);

/// Opens the lease store; one that is away is no error yet. With it what Kubernetes has of this node, if it is that.
pub(super) fn store(options: &Options, outside: &Outside) -> Result<Opened, DaemonError> {
    let runtime = outside.handle();
    Ok(match &options.store {
        Store::File(directory) => (Arc::new(FileStore::open(directory)?), None),
        Store::Etcd => (Arc::new(OutsideStore::new(Arc::new(crate::store::etcd(options)?), runtime)), None),
        Store::Kube => {
            let store = Arc::new(crate::store::kube(options)?);
            let node = KubeNode::new(Arc::clone(&store), runtime.clone());
            (Arc::new(OutsideStore::new(store, runtime)), Some(Arc::new(node)))
        }
    })
}

/// Reads the network config, and waits for it as long as it is not there or the store is away: nodes may boot before
/// their store. A config that is there and wrong ends the start, unless somebody is just writing it.
pub(super) async fn network_config(store: &dyn LeaseStore) -> Result<NetworkConfig, DaemonError> {
    let mut throttle = LogThrottle::new(Some(REMIND));
    let mut wrong = None;
    loop {
        match store.network_config().await {
            Ok(text) => match store.parse_config(&text) {
                Ok(config) => return Ok(config),
                Err(error) if wrong.as_ref() == Some(&text) => {
                    return Err(DaemonError::Config { place: store.config_place(), error });
                }
                Err(_) => {
                    wrong = Some(text);
                    tokio::time::sleep(RETRY).await;
                }
            },
            // No time mends the command line.
            Err(error @ StoreError::Setup { .. }) => return Err(error.into()),
            Err(error) => wait_for_store(&mut throttle, "cannot read the network config", &error).await,
        }
    }
}

/// Chooses the external interface of a node that starts. Waits for an address that cannot be used yet.
pub(super) async fn external(
    options: &Options,
    wish: &Wish,
    store: &dyn LeaseStore,
    before: Option<&Before>,
) -> Result<External, DaemonError> {
    let mut wish = wish.clone();
    wish.known_as = own_addresses::remembered(&options.state_dir);
    if wish.known_as.is_empty() {
        wish.known_as = match before {
            Some(before) => addresses(before.lease.as_ref()),
            None => addresses_of_lease(options, store).await,
        };
    }
    let mut throttle = LogThrottle::new(Some(REMIND));
    loop {
        let inventory = Inventory::take(wish.selector.can_reach).await?;
        match choose(&wish, &inventory) {
            Err(error @ ExternalError::Tentative { .. }) => {
                if throttle.says(&error.to_string(), Instant::now()) {
                    info!("{error}; waiting for it");
                }
                tokio::time::sleep(TENTATIVE_RETRY).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// What Kubernetes has of this node, if leases are there, and which external interface is looked for.
pub(super) async fn surroundings(
    options: &Options,
    config: &NetworkConfig,
    kube: Option<&Arc<KubeNode>>,
    observer: &Arc<Observer>,
) -> Result<(Option<Arc<Before>>, Arc<Wish>), DaemonError> {
    let Some(kube) = kube else { return Ok((None, Arc::new(wish(options, config, None)))) };
    let before = Arc::new(observer.alive_during(kube.before(&observer.store)).await?);
    info!(node = before.name, "node of the Kubernetes cluster");
    stale_file::remove(&options.subnet_file, &before);
    observer.cluster(kube.place(&before).await);
    observer.tells_when_ready(Arc::clone(kube));
    kube.watch_contact(Arc::clone(&observer.store));
    observer.metrics.kubernetes({
        let kube = Arc::clone(kube);
        Box::new(move || kube.figures())
    });
    // Upstream's, by which pods are let in before all peers are known.
    if std::env::var("CONT_WHEN_CACHE_NOT_READY").is_ok_and(|value| value == "true") {
        observer.step(Step::Snapshot, true);
    }
    let wish = wish(options, config, Some(&before));
    Ok((Some(before), Arc::new(wish)))
}

/// The external interface of a node in operation as it is now. `afresh`: an operator wants it chosen as at a start, though under the address
/// that the node is known by, if it is still there.
pub(super) async fn external_now(node: &Node, afresh: bool) -> Result<External, DaemonError> {
    let inventory = Inventory::take(node.wish.selector.can_reach).await?;
    if afresh {
        let known_as = node.external.addresses().collect();
        Ok(choose(&Wish { known_as, ..Wish::clone(&node.wish) }, &inventory)?)
    } else {
        Ok(keep(&node.wish, &node.external, &inventory)?)
    }
}

/// What this daemon looks for, as long as it runs.
pub(super) fn wish(options: &Options, config: &NetworkConfig, before: Option<&Before>) -> Wish {
    // What is said of this node alone comes first, as upstream has it.
    let hints = before.map(|before| &before.hints);
    let selector = InterfaceSelector {
        iface: options.iface.clone(),
        iface_regex: options.iface_regex.clone(),
        can_reach: options.iface_can_reach,
        public_ip: hints.and_then(|hints| hints.public_ip).or(options.public_ip),
        public_ipv6: hints.and_then(|hints| hints.public_ipv6).or(options.public_ipv6),
    };
    Wish {
        selector,
        families: IpFamilies { ipv4: config.enable_ipv4, ipv6: config.enable_ipv6 },
        pods: config.pod_ranges().collect(),
        former: former_networks(options, &networks(config)),
        known_as: Vec::new(),
    }
}

/// The addresses in the lease of the subnet that the subnet file has: of a run before that did not record them, maybe upstream's.
async fn addresses_of_lease(options: &Options, store: &dyn LeaseStore) -> Vec<IpAddr> {
    let Some(subnets) = SubnetFile::read_previous(&options.subnet_file) else { return Vec::new() };
    let Ok(snapshot) = store.leases().await else { return Vec::new() };
    addresses(snapshot.leases.iter().find(|lease| lease.subnets.overlaps(&subnets)))
}

fn addresses(lease: Option<&Lease>) -> Vec<IpAddr> {
    lease.map(|lease| lease.attributes.public_addresses().collect()).unwrap_or_default()
}

/// Says which interface it is.
pub(super) fn announce(external: &External) {
    info!(
        interface = external.name,
        mtu = external.mtu,
        address = external.ipv4.map(tracing::field::display),
        address_v6 = external.ipv6.map(tracing::field::display),
        public = external.public_ipv4.map(tracing::field::display),
        public_v6 = external.public_ipv6.map(tracing::field::display),
        "external interface"
    );
}

/// What is known of the node's backend before anything of it is started.
pub(super) struct Origin {
    /// The network config whose backend is started first.
    pub serving: Arc<NetworkConfig>,
    /// What the node has said of its generations, if that was in the middle of a change.
    pub resumed: Option<Attributes>,
    /// The node's lease from before, if it was read.
    pub before: Option<Lease>,
}

/// Which generation of the backend the node begins with: that of the network config, unless it was in the middle of a change when it ended, or
/// the others are. Then with the one before, by which it is reached, and goes on with the change.
pub(super) async fn origin(node: &Node, held: Option<&Lease>) -> Result<Origin, DaemonError> {
    let target = node.config.backend_key();
    let record = BackendRecord::read(&node.options.state_dir);
    let at_rest = || Origin::at_rest(node, held.cloned());
    let mut others = Vec::new();
    let before = match held {
        Some(lease) => Some(lease.clone()),
        // All leases are read for it, which is spared where the records say enough.
        None if record.is_at_rest_with(target) && Links::state_is_enough(&node.options.state_dir)? => {
            return Ok(at_rest());
        }
        None => {
            let (own, rest) = leases_from_before(node, record.changing).await;
            others = rest;
            own
        }
    };
    let at_rest = Origin::at_rest(node, before.clone());
    let own = before.as_ref().map(|lease| &lease.attributes);
    let said = own.map(|own| former_backend::as_before_its_farewell(own, &record, target));
    let said = said.filter(|said| !said.generations.is_empty());
    let former = match &said {
        Some(said) => {
            said.generations.iter().map(|generation| &generation.backend).find(|it| *it != target).cloned()
        }
        // It was away when the change began, has not said anything yet, or joins. What others say counts where it is this node's own backend,
        // or this node has none yet.
        None => record
            .other_than(target)
            .map(str::to_owned)
            .or_else(|| former_backend::of_most(&others, own, target)),
    };
    let state_dir = &node.options.state_dir;
    let Some(serving) = former.and_then(|backend| former_backend::rebuilt(&backend, &node.config, state_dir))
    else {
        return Ok(at_rest);
    };
    // It cannot be changed while it is in force: this is the restart that it takes.
    if said.is_none() && former_backend::takes_a_restart(&serving, &node.config) {
        return Ok(at_rest);
    }
    let is_own = |own: &Attributes| {
        said.is_some() || [serving.backend_type.as_str(), ""].contains(&own.backend_type.as_str())
    };
    if !own.is_none_or(is_own) {
        return Ok(at_rest);
    }
    info!(
        from = shown::shown(&serving),
        to = shown::shown(&node.config),
        "the backend is being changed: beginning with the one before"
    );
    Ok(Origin { serving: Arc::new(serving), resumed: said, before })
}

impl Origin {
    /// Of a node that begins with what the network config says.
    pub(super) fn at_rest(node: &Node, before: Option<Lease>) -> Self {
        Self { serving: Arc::clone(&node.config), resumed: None, before }
    }
}

/// What becomes of a network config in the store while the node is in operation.
pub(super) fn taken_up(
    text: &str,
    store: &dyn LeaseStore,
    in_force: &NetworkConfig,
) -> Result<Arc<NetworkConfig>, String> {
    let config = store.parse_config(text).map_err(|error| error.to_string())?;
    let fixed = config_change::fixed(in_force, &config);
    if fixed.is_empty() {
        return Ok(Arc::new(config));
    }
    let none = || "none".to_owned();
    let fixed = fixed.into_iter().map(|Difference { field, from, to }| {
        format!("{field} {} instead of {}", to.unwrap_or_else(none), from.unwrap_or_else(none))
    });
    let fixed: Vec<String> = fixed.collect();
    Err(format!(
        "{}: only the Backend can be changed while nodes are in operation; all else takes a restart of each node",
        fixed.join(", ")
    ))
}

/// Loads the plugin for a network config: the one that the operator named, or the built-in one for the backend type. What the operator
/// named is for some backends; as the network config may change, it may be for another one than that, and then the built-in one serves. Answers
/// with it whether it is the one that was named.
pub(super) async fn artifact_for(
    node: &Node,
    config: &NetworkConfig,
) -> Result<(Artifact, bool), DaemonError> {
    let started = Instant::now();
    let built_in = node.built_in;
    let is_there = built_in.iter().any(|plugin| plugin.backend_type == config.backend_type);
    let named = match &node.plugin {
        Some(reference) => Some(node.loader.load(reference).await?),
        None => None,
    };
    let named = match named {
        Some(artifact) if is_there => is_for(node, config, artifact).await?,
        named => named,
    };
    let is_named = named.is_some();
    let artifact = if let Some(artifact) = named {
        artifact
    } else {
        let backend = config.backend_type.clone();
        tokio::task::spawn_blocking(move || Artifact::built_in(&backend, built_in))
            .await
            .map_err(|_| DaemonError::PolicyThread)??
    };
    let took_us = flannel_base::micros(started.elapsed());
    let signers: Vec<String> = artifact.provenance().signers.iter().map(ToString::to_string).collect();
    let signers = (!signers.is_empty()).then(|| signers.join(", "));
    info!(source = %artifact.source(), digest = artifact.digest(), bytes = artifact.size(), signers, took_us, "plugin loaded");
    Ok((artifact, is_named))
}

/// A plugin, if it is for a network config's backend.
async fn is_for(
    node: &Node,
    config: &NetworkConfig,
    artifact: Artifact,
) -> Result<Option<Artifact>, DaemonError> {
    let (environment, clouds) = environment(node, config, Arc::new(NoLinks))?;
    let state = Arc::new(DirState::open(&node.options.state_dir).shadow(None));
    let described = confined::run("description", move || {
        let described = Policy::describe(&artifact, environment, Limits::default(), state);
        described.map(|(description, _)| (artifact, description))
    });
    let described = described.await.map_err(|_| DaemonError::PolicyThread)??;
    drop(clouds);
    let (artifact, description) = described;
    if description.backend_types.contains(&config.backend_type) {
        return Ok(Some(artifact));
    }
    warn!(
        plugin = description.name,
        backend = config.backend_type,
        "the plugin of --plugin is for another backend than the network config's: the built-in one serves that"
    );
    Ok(None)
}

/// What a plugin that only says what it is has no use for.
struct NoLinks;

impl LinkFacts for NoLinks {
    fn mac(&self, _: &str, _: u32, _: Family) -> Mac {
        Mac([0; 6])
    }

    fn is_on_link(&self, _: IpAddr) -> Result<bool, String> {
        Err("there are no links".to_owned())
    }

    fn default_vxlan_port(&self) -> u16 {
        0
    }

    fn wireguard_keys(&self) -> Result<Keys, String> {
        Err("there are no keys".to_owned())
    }

    fn ipsec_key(&self) -> Result<PublicKey, String> {
        Err("there are no keys".to_owned())
    }
}

/// A node that is ready for operation: its policy and its devices are there, and it has its lease.
pub(super) struct Started {
    /// What the coordinator begins with.
    pub beginning: Beginning,
    /// The policy.
    pub policy: Box<Policy>,
    /// What surrounds it, and any that takes its place.
    pub surroundings: Surroundings,
    /// Ends what the policy still waits for.
    pub clouds: CloudClientGuard,
    /// The way to the kernel.
    pub datapath: Datapath,
    /// The devices that the policy has.
    pub devices: Devices,
    /// What the kernel tells.
    pub notifications: UnboundedReceiver<DatapathEvent>,
}

/// Whom devices are asked from: no other daemon of this host may have them.
fn device_claim(node: &Node) -> DeviceClaim {
    let claims = Arc::clone(&node.claims);
    Arc::new(move |device| {
        claims
            .device(device)
            .map_err(|taken| format!("{taken}; each needs one of its own (vxlan: another VNI)"))
    })
}

/// Starts the policy and the datapath, and takes the lease. `held`: the lease that the node has from before the external interface changed.
/// Then the store is not waited for.
pub(super) async fn node(
    node: &Node,
    (artifact, is_named): (Artifact, bool),
    origin: Origin,
    held: Option<&Lease>,
    observer: &Observer,
) -> Result<Started, DaemonError> {
    let Origin { serving, resumed, before } = origin;
    if artifact.runs_commands() {
        // What another node's lease says of the backend before may be anybody's words.
        let place = node.store.config_place();
        node.permission.check(&serving).map_err(|reason| DaemonError::Commands { place, reason })?;
    }
    let uplinks = uplinks::named(&node.options, &node.external.name);
    let links = Links::new(
        &node.options.state_dir,
        (&node.external.name, uplinks.clone()),
        before.as_ref().map(|l| &l.attributes),
        node.avoid.clone(),
        observer.ipsec.clone(),
    )?;
    let (environment, clouds) = environment(node, &serving, Arc::new(links))?;
    let in_force = networks(&node.config);
    let former = node.wish.former.clone();
    // What is left in a network of before is the cluster's, too, and in one of a family that this node does not serve any more.
    let mut all: Vec<IpNet> = node.networks.iter().chain(&former).copied().collect();
    all.extend(in_force.iter().filter(|network| !node.networks.contains(network)));
    let context = Context {
        tunnels: observer.tunnels.clone(),
        ipsec: observer.ipsec.clone(),
        record: Some(node.options.state_dir.join("routes")),
        trial_record: Some(node.options.state_dir.join("backend-change")),
        claim: Some(device_claim(node)),
        in_force,
        uplinks,
    };
    let (datapath, notifications) = Datapath::start(&node.external.name, all, context)?;
    let state = Arc::new(DirState::open(&node.options.state_dir));
    state.adopt_former(node.loader.built_in());
    let surroundings =
        Surroundings { environment, limits: Limits::default(), state, loader: node.loader.clone() };
    let digest = artifact.digest().to_owned();
    node.probes.open_for(&artifact);
    let started = {
        let Surroundings { environment, limits, state, .. } = surroundings.clone();
        confined::run("registration", move || Policy::start(&artifact, environment, limits, state))
    };
    let (policy, registered) =
        observer.alive_during(started).await.map_err(|_| DaemonError::PolicyThread)??;
    observer.registered(&registered);
    observer.new_datapath();
    let plugin = CurrentPlugin {
        reference: node.plugin.clone(),
        is_named,
        digest,
        store: policy.store(),
        runs_commands: policy.runs_commands(),
    };
    let (mtu, registration) = (registered.mtu, published(&node.external, &registered));
    // In the middle of a change the others go on with what this node has said, until it says something else.
    let published = match &resumed {
        Some(before) => generations::resumed(before, serving.backend_key(), &registration),
        None => registration.clone(),
    };
    let devices = registered.transaction.devices.clone();
    // The lease tells the others where to send: it is written only when the device with its MAC address is there.
    let report = datapath.commit(registered.transaction).await?;
    if let Some(reason) = report.device_failure {
        return Err(DaemonError::Device(reason));
    }
    let margin = Duration::from_mins(node.options.subnet_lease_renew_margin.unsigned_abs());
    let own = if let Some(lease) = held {
        lease.clone()
    } else {
        let request = || acquire_request(&node.config, &published, &node.options.subnet_file);
        observer.alive_during(acquire(&*node.store, request)).await?
    };
    own_addresses::remember(&node.options.state_dir, &node.external);
    observer.step(Step::Interface, true);
    observer.step(Step::OwnLeaseAlone, true);
    observer.step(Step::Lease, own.attributes == published);
    let renewal = until_renewal(&own, margin);
    let external = node.external.clone();
    // Where subnets are assigned, who assigns them has the last word.
    let gate = LeaseGate::new(&node.config, former, &external).serving_outside(node.before.is_some());
    let beginning = Beginning {
        own,
        published: registration,
        serving,
        config: Arc::clone(&node.config),
        resumed,
        mtu,
        renewal,
        view: None,
        gate,
        plugin,
        external,
        avoid: node.avoid.clone(),
    };
    Ok(Started {
        beginning,
        policy: Box::new(policy),
        surroundings,
        clouds,
        datapath,
        devices,
        notifications,
    })
}

/// What the node asks the store for, with the subnets of the subnet file as the preferred ones.
pub(super) fn acquire_request(config: &NetworkConfig, published: &Attributes, subnet_file: &Path) -> Acquire {
    Acquire {
        config: config.clone(),
        attributes: published.clone(),
        previous: SubnetFile::read_previous(subnet_file),
    }
}

/// Takes a lease, waiting for a store that is away. Errors are those that waiting does not heal: no subnet is free.
async fn acquire(store: &dyn LeaseStore, request: impl Fn() -> Acquire) -> Result<Lease, DaemonError> {
    let mut throttle = LogThrottle::new(Some(REMIND));
    loop {
        match store.acquire(&request()).await {
            Ok(lease) => {
                info!(subnet = %lease.subnets, reserved = lease.expires.is_none(), "lease acquired");
                return Ok(lease);
            }
            Err(error @ StoreError::Unavailable { .. }) => {
                wait_for_store(&mut throttle, "cannot acquire a lease", &error).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// How long until the lease has to be renewed; `None` if never.
pub(super) fn until_renewal(lease: &Lease, margin: Duration) -> Option<Duration> {
    let due = lease.expires?.checked_sub(margin)?;
    Some(due.duration_since(SystemTime::now()).unwrap_or_default())
}

/// This node's lease, if the store has one from an earlier run, and the others'. Only a hint: the store is asked again later. `needed`: the node
/// was in the middle of a change, and what it said of that is in its lease. Then the store is waited for.
async fn leases_from_before(node: &Node, needed: bool) -> (Option<Lease>, Vec<Lease>) {
    let mut throttle = LogThrottle::new(Some(REMIND));
    let known = node.before.as_ref().and_then(|before| before.lease.clone());
    // A list of all nodes takes its time, and is only needed where a change may be going on.
    let is_at_rest = |lease: &Lease| {
        lease.attributes.generations.is_empty() && lease.attributes.backend_type == node.config.backend_type
    };
    if !needed && known.as_ref().is_some_and(is_at_rest) {
        return (known, Vec::new());
    }
    let snapshot = loop {
        let asked = if needed { node.store.leases().await } else { node.store.some_leases().await };
        match asked {
            Ok(snapshot) => break snapshot,
            Err(error @ StoreError::Unavailable { .. }) if needed => {
                wait_for_store(&mut throttle, "cannot read the leases", &error).await;
            }
            Err(_) => return (known, Vec::new()),
        }
    };
    let us = NodeIdentity::new(node.external.public_ipv4, node.external.public_ipv6);
    let is_ours = |lease: &Lease| match &known {
        Some(known) => lease.subnets.overlaps(&known.subnets),
        None => NodeIdentity::of(&lease.attributes).is_same_node(&us),
    };
    let (mut own, others): (Vec<Lease>, Vec<Lease>) = snapshot.leases.into_iter().partition(is_ours);
    (known.or_else(|| own.pop()), others)
}

/// What surrounds a policy for a network config; and what ends its questions to clouds.
pub(super) fn environment(
    node: &Node,
    config: &NetworkConfig,
    links: Arc<dyn LinkFacts>,
) -> Result<(Environment, CloudClientGuard), DaemonError> {
    let (options, secrets) = extract_secrets(&config.backend_type, config.backend.get())
        .map_err(|reason| DaemonError::Secret { place: node.store.config_place(), reason })?;
    let clouds = CloudOptions::of_this_node(&node.options.cloud_endpoint, secrets.access_key.clone());
    // Read anew: what an operator adds counts for the next backend.
    let clouds = CloudClientGuard::open(clouds, endpoints(&node.options)?);
    let environment = Environment {
        node: facts(node),
        about: Arc::clone(&node.about),
        backend_type: config.backend_type.clone(),
        config: options,
        secrets,
        offloads: node.options.tunnel_offloads,
        grants: Arc::clone(&node.grants),
        links,
        clouds: clouds.client(node.outside.clone()),
        endpoints: clouds.endpoints(node.outside.clone()),
        commands: Arc::new(CommandRunner::new(Arc::clone(&node.permission))),
        probes: Arc::new(node.probes.clone()),
    };
    Ok((environment, clouds))
}

fn facts(node: &Node) -> NodeFacts {
    let external = &node.external;
    NodeFacts {
        interface: external.name.clone(),
        mtu: external.mtu,
        ipv4: external.ipv4,
        ipv6: external.ipv6,
        public_ipv4: external.public_ipv4,
        public_ipv6: external.public_ipv6,
        ipv4_network: node.config.network.filter(|_| node.config.enable_ipv4),
        ipv6_network: node.config.ipv6_network.filter(|_| node.config.enable_ipv6),
    }
}

/// What plugins are told of the node besides its addresses; its labels are heard later.
pub(super) fn about(options: &Options, before: Option<&Before>) -> NodeInfo {
    let name = before.map_or_else(host_name, |before| before.name.clone());
    NodeInfo::new(name, options.plugin_option.iter().cloned().collect())
}

/// Networks that the cluster had before: those that the operator names, that this node has known, and that the subnet file is of.
fn former_networks(options: &Options, in_force: &[IpNet]) -> Vec<IpNet> {
    let mut named = options.former_networks.clone();
    named.extend(SubnetFile::networks(&options.subnet_file));
    former_networks::remember(&options.state_dir, in_force, &named)
}

pub(super) fn networks(config: &NetworkConfig) -> Vec<IpNet> {
    let v4 = config.network.filter(|_| config.enable_ipv4).map(IpNet::V4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6).map(IpNet::V6);
    v4.into_iter().chain(v6).collect()
}

/// What the node publishes in its lease.
pub(super) fn published(external: &External, registered: &Registration) -> Attributes {
    Attributes {
        public_ip: external.public_ipv4,
        public_ipv6: external.public_ipv6,
        backend_type: registered.backend_type.clone(),
        backend_data: registered.backend_data.clone(),
        backend_v6_data: registered.backend_v6_data.clone(),
        generations: Vec::new(),
    }
}

/// Waits for the next attempt.
async fn wait_for_store(throttle: &mut LogThrottle, what: &str, error: &StoreError) {
    let text = error.to_string();
    if throttle.says(&text, Instant::now()) {
        warn!("{what}: {text}; trying again every second");
    }
    tokio::time::sleep(RETRY).await;
}
