//! The only place where the rooms meet: starts everything in order, and then carries changes from the lease store through
//! the policy into the datapath.

mod error;
mod links;
pub mod log;
mod options;
mod own_lease;
mod peers;
mod policy;
mod serve;
mod start;

pub use error::DaemonError;
pub use options::{Cli, Command, LogFormat, Options, PluginCommand, Store};

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

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
    let store = start::store(&options)?;
    let config = start::network_config(&*store).await?;
    let external = start::external(&options, &config).await?;
    let artifact = start::artifact(&options, &config, built_in).await?;
    let node = start::Node { options, config, external, store };
    start::daemon(node, artifact).await?.serve().await
}
