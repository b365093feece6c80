//! The only place where the crates meet: starts everything in order, and then carries changes from the lease store through
//! the policy into the datapath.

mod beside;
mod clouds;
mod cluster_view;
mod cni_config;
mod commands;
mod confined;
mod coordinator;
mod error;
mod families;
mod firewall;
mod former_backend;
mod icmp;
mod in_order;
mod kube_node;
mod links;
pub mod log;
mod observed_store;
mod observer;
mod outside;
mod plugin_watch;
mod policy;
mod policy_figures;
pub mod privileges;
mod prober;
mod probes;
mod rehearsal;
mod reload;
mod retirement;
mod serve;
mod service_manager;
mod signals;
mod stale_file;
mod start;
mod subnet_file_watch;
mod tunnel_sources;
mod tunnel_stats;

pub use error::DaemonError;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flannel_base::{Backoff, LogThrottle};
use flannel_lease_store::LeaseStore;
use flannel_model::lease::Lease;
use flannel_plugin_host::{BuiltIn, Grants};
use flannel_telemetry::Step;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cli::Options;
use crate::node::backend_record::BackendRecord;
use crate::node::claims::Claims;
use crate::node::external::External;
use commands::Permission;
use coordinator::{ADDRESS_GRACE, Preserved};
use families::{Cluster, Served};
use firewall::NodeFirewall;
use observed_store::ObservedStore;
use observer::Observer;
use outside::Outside;
use reload::Reloads;
use serve::{Operation, Restart};
use start::Started;

/// Waits before a restart that failed is tried again with the same external interface.
const RESTART_RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) };
/// How often it is looked meanwhile whether the external interface is another one by now.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop. What is in the kernel stays there.
pub async fn run(options: Options, built_in: &'static [BuiltIn]) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    // From here on SIGHUP ends nothing; it is heard once the node is in operation.
    let _hangup = Reloads::listen().map_err(DaemonError::Signals)?;
    signals::survive_strays()?;
    start::check(&options)?;
    let (observer, servers) = Observer::start(&options)?;
    let outcome = tokio::select! {
        outcome = operate(Arc::new(options), built_in, Arc::clone(&observer)) => outcome,
        _ = terminate.recv() => stopped("SIGTERM"),
        _ = interrupt.recv() => stopped("SIGINT"),
    };
    // The datapath ends when nobody can ask it any more.
    observer.operates(None);
    servers.stop().await;
    outcome
}

#[allow(clippy::unnecessary_wraps, reason = "the outcome of an arm of the select")]
fn stopped(signal: &str) -> Result<(), DaemonError> {
    info!(signal, "stopping; forwarding stays as it is, and the lease runs on");
    Ok(())
}

/// What there is of a daemon whatever it serves.
struct Ground {
    options: Arc<Options>,
    built_in: &'static [BuiltIn],
    observer: Arc<Observer>,
    outside: Outside,
    claims: Arc<Claims>,
    permission: Arc<Permission>,
    /// As soon as it is known what it is for.
    firewall: Option<NodeFirewall>,
}

async fn operate(
    options: Arc<Options>,
    built_in: &'static [BuiltIn],
    observer: Arc<Observer>,
) -> Result<(), DaemonError> {
    let outside = Outside::start().map_err(DaemonError::Thread)?;
    let permission = Arc::new(Permission::new(options.allow_commands));
    let claims = Arc::default();
    let mut ground = Ground { options, built_in, observer, outside, claims, permission, firewall: None };
    loop {
        Box::pin(serve_cluster(&mut ground)).await?;
    }
}

/// Serves the cluster, until it can be served in other families than it is.
async fn serve_cluster(ground: &mut Ground) -> Result<(), DaemonError> {
    let (options, observer, built_in) =
        (Arc::clone(&ground.options), Arc::clone(&ground.observer), ground.built_in);
    let (store, kube) = start::store(&options, &ground.outside)?;
    let store: Arc<dyn LeaseStore> = Arc::new(ObservedStore::new(store, Arc::clone(&observer.store)));
    let whole = Arc::new(observer.alive_during(start::network_config(&*store)).await?);
    ground.permission.begin([whole.backend.get(), BackendRecord::read(&options.state_dir).serving.as_str()]);
    let grants = Arc::new(Grants::new(options.plugin_grants.clone(), options.allow.clone(), built_in));
    let loader = options.loader().with_built_in(built_in).with_grants(Arc::clone(&grants));
    let claims = Arc::clone(&ground.claims);
    let ownership = observer.alive_during(start::claim(&options, &whole, &claims)).await?;
    let (mut before, mut wish) = start::surroundings(&options, &whole, kube.as_ref(), &observer).await?;
    let firewall = match &ground.firewall {
        Some(firewall) => firewall.clone(),
        None => ground.firewall.insert(NodeFirewall::new(&options, ownership, &wish.former)?).clone(),
    };
    let cluster = kube.as_ref().map(|kube| Cluster {
        options: &options,
        config: &whole,
        store: &*store,
        kube,
        observer: &observer,
    });
    let (mut config, mut external, mut serving) = (Arc::clone(&whole), None, None);
    if let Some((cluster, known)) = cluster.as_ref().zip(before.clone()) {
        let begun = observer.alive_during(cluster.begin(known, Arc::clone(&wish))).await?;
        cluster.take(&begun.served);
        (before, wish, external) = (Some(begun.before), begun.wish, Some(begun.external));
        config = Arc::new(begun.served.of(&whole));
        serving = Some((cluster, begun.served));
    }
    let mut external = match external {
        Some(external) => external,
        None => observer.alive_during(start::external(&options, &wish, &*store, before.as_deref())).await?,
    };
    let about = Arc::new(start::about(&options, before.as_deref()));
    let about_changed = kube.as_ref().map(|kube| kube.follow_labels(Arc::clone(&about)));
    let (mut throttle, mut failures, mut preserved) = (LogThrottle::new(None), 0, None::<Preserved>);
    loop {
        start::announce(&external);
        observer.node(&external, &whole);
        let node = start::Node {
            options: Arc::clone(&options),
            config: Arc::clone(&config),
            external,
            store: Arc::clone(&store),
            wish: Arc::clone(&wish),
            grants: Arc::clone(&grants),
            loader: loader.clone(),
            built_in,
            avoid: preserved.as_ref().map(|kept| kept.avoid.clone()).unwrap_or_default(),
            claims: Arc::clone(&claims),
            permission: Arc::clone(&ground.permission),
            outside: ground.outside.handle(),
            about: Arc::clone(&about),
            about_changed: about_changed.clone(),
            probes: observer.probes.clone(),
            before: before.clone(),
            networks: start::networks(&whole),
            plugin: preserved
                .as_ref()
                .map_or_else(|| options.plugin.clone(), |kept| kept.plugin.reference.clone()),
        };
        let held = preserved.as_ref().map(|preserved| &preserved.own);
        let begun = tokio::select! {
            begun = begin(&node, held, &observer) => begun,
            // What waits for a store must not go on with an address that is gone by then.
            elsewhere = elsewhere(&node), if preserved.is_none() => {
                info!("the external interface has changed before there was a lease: starting over with it");
                external = elsewhere;
                continue;
            }
            // Or with subnets of other families.
            () = changed(serving.as_ref(), true), if preserved.is_none() => return Ok(()),
        };
        let mut started = match begun {
            Ok(started) => started,
            // What was in operation can be again: an interface comes and goes, and so does what a plugin refuses about it.
            Err(error) if preserved.is_some() => {
                if throttle.says(&error.to_string(), Instant::now()) {
                    error!(
                        "the node cannot go on with its interface as it is now: {error}; trying again when it is another one, and now and then; forwarding stays as it was"
                    );
                }
                observer.step(Step::Lease, false);
                let again = Instant::now() + RESTART_RETRY.after(failures);
                failures = failures.saturating_add(1);
                external = observer.alive_during(other_external(&node, again)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        throttle.reset();
        failures = 0;
        let restarted = preserved.is_some();
        started.beginning.view = preserved.and_then(|preserved| preserved.view);
        let operation = Operation::begin(node, started, restarted, firewall.clone(), Arc::clone(&observer))?;
        let Some(restart) = serve_until_changed(operation, serving.as_ref()).await? else { return Ok(()) };
        info!("starting over with what has changed; forwarding goes on meanwhile");
        config = Arc::clone(&restart.preserved.config);
        (external, preserved) = (restart.external, Some(restart.preserved));
    }
}

/// Serves until there is something to start over with; none: other families.
async fn serve_until_changed(
    operation: Operation,
    serving: Option<&(&Cluster<'_>, Served)>,
) -> Result<Option<Restart>, DaemonError> {
    let start_over = operation.start_over();
    let mut in_operation = pin!(operation.serve());
    tokio::select! {
        restart = &mut in_operation => restart.map(Some),
        () = changed(serving, false) => {
            start_over();
            in_operation.await?;
            Ok(None)
        }
    }
}

/// Waits until other families can be served than are; for ever, where that is nobody's question.
async fn changed(serving: Option<&(&Cluster<'_>, Served)>, asks: bool) {
    match serving {
        Some((cluster, served)) => cluster.changed(served, asks).await,
        None => std::future::pending().await,
    }
}

/// Waits until the external interface is another one than a node's, or until a time, and answers what it is then.
async fn other_external(node: &start::Node, until: Instant) -> External {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = start::external_now(node, false).await.unwrap_or_else(|_| node.external.clone());
        if now != node.external || Instant::now() >= until {
            return now;
        }
    }
}

/// Waits until a node's external interface is another one, and stays so.
async fn elsewhere(node: &start::Node) -> External {
    let mut since = None;
    loop {
        tokio::time::sleep(LOOK).await;
        match start::external_now(node, false).await {
            Ok(now) if !now.is_interchangeable(&node.external) => {
                if since.get_or_insert_with(Instant::now).elapsed() >= ADDRESS_GRACE {
                    return now;
                }
            }
            _ => since = None,
        }
    }
}

/// Loads the plugin, and starts the node with it.
async fn begin(
    node: &start::Node,
    held: Option<&Lease>,
    observer: &Observer,
) -> Result<Started, DaemonError> {
    let origin = observer.alive_during(start::origin(node, held)).await?;
    let (begins_before, before) =
        (origin.serving.backend_key() != node.config.backend_key(), origin.before.clone());
    match begin_with(node, origin, held, observer).await {
        Err(error) if begins_before => {
            warn!(%error, "the backend before cannot be had: beginning with the one that the network config has now");
            begin_with(node, start::Origin::at_rest(node, before), held, observer).await
        }
        outcome => outcome,
    }
}

async fn begin_with(
    node: &start::Node,
    origin: start::Origin,
    held: Option<&Lease>,
    observer: &Observer,
) -> Result<Started, DaemonError> {
    let loaded = observer.alive_during(start::artifact_for(node, &origin.serving)).await?;
    observer.artifact(&loaded.0);
    start::node(node, loaded, origin, held, observer).await
}
