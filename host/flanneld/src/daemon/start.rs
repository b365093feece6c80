//! The way from the command line to a node that has its lease, its devices and its subnet file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_cloud::CloudOptions;
use flannel_datapath::Datapath;
use flannel_firewall::Firewall;
use flannel_lease_store::etcd::{EtcdOptions, EtcdSecurity, EtcdStore};
use flannel_lease_store::file::FileStore;
use flannel_lease_store::{LeaseStore, StoreError};
use flannel_model::lease::{Attributes, Lease};
use flannel_model::network_config::NetworkConfig;
use flannel_plugin_host::{
    Artifact, BuiltIn, DirState, Environment, Grants, Limits, NodeFacts, PluginReference, Policy, Registered,
    withhold,
};
use tracing::{info, warn};

use crate::cli::{Options, Store};
use crate::node::external::{External, Stack, Wishes, choose};
use crate::node::inventory::Inventory;

use super::DaemonError;
use super::clouds::CloudDesk;
use super::links::Links;
use super::observer::Observer;
use super::own_lease::{self, Wanted};
use super::peers::Peers;
use super::policy::PolicyRunner;
use super::serve::Daemon;

/// How often a store that does not answer, or has no config yet, is asked again; as upstream.
const RETRY: Duration = Duration::from_secs(1);
/// How often the log repeats that we are waiting.
const REMIND: Duration = Duration::from_mins(1);

/// What is known before the plugin starts.
pub(super) struct Node {
    /// The command line.
    pub options: Arc<Options>,
    /// The network config.
    pub config: NetworkConfig,
    /// The external interface.
    pub external: External,
    /// The lease store.
    pub store: Arc<dyn LeaseStore>,
    /// What plugins may do.
    pub grants: Arc<Grants>,
}

/// Refuses what cannot be done, and says what is of no effect.
pub(super) fn check(options: &Options) -> Result<(), DaemonError> {
    if options.kube_subnet_mgr {
        return Err(DaemonError::NoKubernetes);
    }
    if options.watch_plugin && matches!(options.plugin, Some(PluginReference::Registry(_))) {
        return Err(DaemonError::NothingToWatch);
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

/// Opens the lease store; an etcd that is away is no error yet.
pub(super) fn store(options: &Options) -> Result<Arc<dyn LeaseStore>, DaemonError> {
    Ok(match &options.store {
        Store::File(directory) => Arc::new(FileStore::open(directory)?),
        Store::Etcd => {
            let place = EtcdOptions {
                endpoints: options.etcd_endpoints.clone(),
                prefix: options.etcd_prefix.clone(),
            };
            let security = EtcdSecurity {
                keyfile: options.etcd_keyfile.clone(),
                certfile: options.etcd_certfile.clone(),
                cafile: options.etcd_cafile.clone(),
                username: options.etcd_username.clone(),
                password: options.etcd_password.clone(),
            };
            Arc::new(EtcdStore::connect_securely(place, &security)?)
        }
    })
}

/// Reads the network config, and waits for it as long as it is not there or the store is away: nodes may boot before
/// their store. A config that is there and wrong ends the start.
pub(super) async fn network_config(store: &dyn LeaseStore) -> Result<NetworkConfig, DaemonError> {
    let mut patience = Patience::default();
    loop {
        match store.network_config().await {
            Ok(text) => {
                return NetworkConfig::parse(&text)
                    .map_err(|error| DaemonError::Config { place: store.config_place(), error });
            }
            Err(error) => patience.wait("cannot read the network config", &error).await,
        }
    }
}

/// Chooses the external interface.
pub(super) async fn external(options: &Options, config: &NetworkConfig) -> Result<External, DaemonError> {
    let wishes = Wishes {
        iface: options.iface.clone(),
        iface_regex: options.iface_regex.clone(),
        can_reach: options.iface_can_reach,
        public_ip: options.public_ip,
        public_ipv6: options.public_ipv6,
    };
    let inventory = Inventory::take(wishes.can_reach).await?;
    let stack = Stack { ipv4: config.enable_ipv4, ipv6: config.enable_ipv6 };
    Ok(choose(&wishes, stack, &inventory)?)
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

/// Loads the plugin: the one that the operator named, or the built-in one for the backend type.
pub(super) async fn artifact(
    options: &Options,
    config: &NetworkConfig,
    built_in: &'static [BuiltIn],
) -> Result<Artifact, DaemonError> {
    let started = Instant::now();
    let artifact = if let Some(reference) = &options.plugin {
        flannel_plugin_host::load(reference, &options.cache_dir).await?
    } else {
        let backend = config.backend_type.clone();
        tokio::task::spawn_blocking(move || Artifact::built_in(&backend, built_in))
            .await
            .map_err(|_| DaemonError::PolicyThread)??
    };
    let took_us = flannel_base::micros(started.elapsed());
    info!(source = %artifact.source(), digest = artifact.digest(), bytes = artifact.size(), took_us, "plugin loaded");
    Ok(artifact)
}

/// What the node has from before its external interface changed; nothing at the start.
#[derive(Default)]
pub(super) struct Kept {
    /// The lease.
    pub own: Option<Lease>,
    /// The firewall's rules.
    pub firewall: Option<Firewall>,
}

/// Starts the policy and the datapath, takes the lease, and writes the subnet file.
pub(super) async fn daemon(
    node: Node,
    artifact: Artifact,
    kept: Kept,
    observer: &mut Observer,
) -> Result<Daemon<'_>, DaemonError> {
    let before = match &kept.own {
        Some(lease) => Some(lease.clone()),
        // All leases are read for it, which is spared where the record says enough.
        None if Links::state_is_enough(&node.options.state_dir)? => None,
        None => observer.meanwhile(lease_from_before(&node)).await,
    };
    let links =
        Links::new(&node.options.state_dir, &node.external.name, before.as_ref().map(|l| &l.attributes))?;
    let (config, secrets) = withhold(&node.config.backend_type, node.config.backend.get())
        .map_err(|reason| DaemonError::Secret { place: node.store.config_place(), reason })?;
    let clouds = CloudOptions::of_this_node(&node.options.cloud_endpoint, secrets.access_key.clone());
    let clouds = CloudDesk::open(clouds);
    let environment = Environment {
        node: facts(&node),
        backend_type: node.config.backend_type.clone(),
        config,
        secrets,
        offloads: node.options.tunnel_offloads,
        grants: Arc::clone(&node.grants),
        links: Arc::new(links),
        clouds: clouds.clerk(),
    };
    let (datapath, events) =
        Datapath::start(&node.external.name, networks(&node.config), observer.tunnels.clone())?;
    let state = Arc::new(DirState::open(&node.options.state_dir));
    let digest = artifact.digest().to_owned();
    let (policy, registered) =
        tokio::task::spawn_blocking(move || Policy::start(&artifact, environment, Limits::default(), state))
            .await
            .map_err(|_| DaemonError::PolicyThread)??;
    observer.registered(&registered);
    observer.new_datapath();
    let mtu = registered.mtu;
    let attributes = attributes(&node.external, &registered);
    // The lease tells the others where to send: it is written only when the device with its MAC address is there.
    let report = datapath.commit(registered.transaction).await?;
    if let Some(reason) = report.device_failure {
        return Err(DaemonError::Device(reason));
    }
    let wanted = Wanted {
        config: node.config,
        attributes,
        mtu,
        subnet_file: node.options.subnet_file.clone(),
        ip_masq: node.options.ip_masq,
    };
    let own = observer.meanwhile(own_lease::acquire(&*node.store, &wanted, kept.own)).await?;
    let mut daemon = Daemon {
        observer,
        firewall: kept.firewall,
        external: node.external,
        margin: Duration::from_mins(node.options.subnet_lease_renew_margin.unsigned_abs()),
        options: node.options,
        store: node.store,
        policy: PolicyRunner::new(policy),
        _clouds: clouds,
        datapath,
        events,
        wanted,
        own,
        peers: Peers::default(),
        trouble: super::serve::Trouble::default(),
        digest,
        rehearsal: None,
        postponed: Vec::new(),
        look_again: false,
    };
    daemon.take_up_lease().await?;
    Ok(daemon)
}

/// This node's lease, if the store has one from an earlier run. Only a hint: the store is asked again later.
async fn lease_from_before(node: &Node) -> Option<Lease> {
    let snapshot = node.store.leases().await.ok()?;
    let ours = |lease: &Lease| match node.external.public_ipv4 {
        Some(address) => lease.attributes.public_ip == Some(address),
        None => lease.attributes.public_ipv6 == node.external.public_ipv6,
    };
    snapshot.leases.into_iter().find(ours)
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

fn networks(config: &NetworkConfig) -> Vec<ipnet::IpNet> {
    let v4 = config.network.filter(|_| config.enable_ipv4).map(ipnet::IpNet::V4);
    let v6 = config.ipv6_network.filter(|_| config.enable_ipv6).map(ipnet::IpNet::V6);
    v4.into_iter().chain(v6).collect()
}

/// What the node publishes in its lease.
pub(super) fn attributes(external: &External, registered: &Registered) -> Attributes {
    Attributes {
        public_ip: external.public_ipv4,
        public_ipv6: external.public_ipv6,
        backend_type: registered.backend_type.clone(),
        backend_data: registered.backend_data.clone(),
        backend_v6_data: registered.backend_v6_data.clone(),
    }
}

/// Waits between attempts, and says so at first and then once a minute.
#[derive(Default)]
pub(super) struct Patience {
    said: Option<(Instant, String)>,
}

impl Patience {
    /// Waits for the next attempt.
    pub(super) async fn wait(&mut self, what: &str, error: &StoreError) {
        let text = error.to_string();
        if self.said.as_ref().is_none_or(|(when, before)| *before != text || when.elapsed() >= REMIND) {
            warn!("{what}: {text}; trying again every second");
            self.said = Some((Instant::now(), text));
        }
        tokio::time::sleep(RETRY).await;
    }
}
