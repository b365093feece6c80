//! The only place where the rooms meet: starts everything in order, and then carries changes from the lease store through
//! the policy into the datapath.

mod error;
mod links;
pub mod log;
mod own_lease;
mod peers;
mod policy;
mod serve;
mod start;

pub use error::DaemonError;

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::cli::Options;
use crate::plugin::BuiltIn;

/// Runs the daemon until it is told to stop. What is in the kernel stays there.
pub async fn run(options: Options, built_in: &'static [BuiltIn]) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    tokio::select! {
        outcome = serve(options, built_in) => outcome,
        _ = terminate.recv() => stopped("SIGTERM"),
        _ = interrupt.recv() => stopped("SIGINT"),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the outcome of an arm of the select")]
fn stopped(signal: &str) -> Result<(), DaemonError> {
    info!(signal, "stopping; forwarding stays as it is, and the lease runs on");
    Ok(())
}

async fn serve(options: Options, built_in: &'static [BuiltIn]) -> Result<(), DaemonError> {
    start::check(&options)?;
    let options = Arc::new(options);
    let store = start::store(&options)?;
    let config = start::network_config(&*store).await?;
    let mut external = start::external(&options, &config).await?;
    let mut own = None;
    loop {
        start::announce(&external);
        let artifact = start::artifact(&options, &config, built_in).await?;
        let (options, config, store) = (Arc::clone(&options), config.clone(), Arc::clone(&store));
        let node = start::Node { options, config, external, store };
        let moved = start::daemon(node, artifact, own).await?.serve().await?;
        info!("the external interface has changed: starting over with it; forwarding goes on meanwhile");
        external = moved.external;
        own = Some(moved.own);
    }
}
