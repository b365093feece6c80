//! The only place where the rooms meet: starts everything in order, and then carries changes from the lease store through
//! the policy into the datapath.

mod carried;
mod clouds;
mod error;
mod firewall;
mod keeper;
mod links;
pub mod log;
mod observed_store;
mod observer;
mod own_lease;
mod peers;
mod plugin_watch;
mod policy;
mod rehearsal;
mod serve;
mod start;
mod swap;

pub use error::DaemonError;

use std::sync::Arc;

use flannel_lease_store::LeaseStore;
use flannel_plugin_host::{BuiltIn, Grants};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::cli::Options;
use observed_store::ObservedStore;
use observer::Observer;

/// Runs the daemon until it is told to stop. What is in the kernel stays there.
pub async fn run(options: Options, built_in: &'static [BuiltIn]) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    // From here on SIGHUP ends nothing; it is heard once the node is in operation.
    let _hangup = signal(SignalKind::hangup()).map_err(DaemonError::Signals)?;
    start::check(&options)?;
    let mut observer = Observer::start(&options)?;
    let outcome = tokio::select! {
        outcome = serve(options, built_in, &mut observer) => outcome,
        _ = terminate.recv() => stopped("SIGTERM"),
        _ = interrupt.recv() => stopped("SIGINT"),
    };
    observer.stop().await;
    outcome
}

#[allow(clippy::unnecessary_wraps, reason = "the outcome of an arm of the select")]
fn stopped(signal: &str) -> Result<(), DaemonError> {
    info!(signal, "stopping; forwarding stays as it is, and the lease runs on");
    Ok(())
}

async fn serve(
    options: Options,
    built_in: &'static [BuiltIn],
    observer: &mut Observer,
) -> Result<(), DaemonError> {
    let mut options = Arc::new(options);
    let store = ObservedStore::new(start::store(&options)?, Arc::clone(&observer.store));
    let store: Arc<dyn LeaseStore> = Arc::new(store);
    let config = observer.meanwhile(start::network_config(&*store)).await?;
    let mut external = start::external(&options, &config).await?;
    let grants = Grants::new(options.plugin_grants.clone(), options.allow.clone(), built_in);
    let grants = Arc::new(grants);
    let (mut own, mut firewall) = (None, None);
    loop {
        start::announce(&external);
        observer.node(&external, &config);
        let artifact = observer.meanwhile(start::artifact(&options, &config, built_in)).await?;
        observer.artifact(&artifact);
        let (config, store) = (config.clone(), Arc::clone(&store));
        let (options_now, grants) = (Arc::clone(&options), Arc::clone(&grants));
        let node = start::Node { options: options_now, config, external, store, grants };
        let kept = start::Kept { own, firewall };
        let moved = start::daemon(node, artifact, kept, observer).await?.serve().await?;
        info!("the external interface has changed: starting over with it; forwarding goes on meanwhile");
        (options, external) = (moved.options, moved.external);
        (own, firewall) = (Some(moved.own), moved.firewall);
    }
}
