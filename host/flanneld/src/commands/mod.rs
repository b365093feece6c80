//! The commands that need more than a line.

mod check;
pub(crate) mod output;
pub(crate) mod plugin;

use std::path::Path;

use flannel_telemetry::ObserveError;
use flanneld::cli;

/// The error of who asks at a socket; where nobody answers, with the sockets of daemons that there are beside it.
pub(crate) fn or_another(error: ObserveError, socket: &Path) -> anyhow::Error {
    let others = cli::sockets_beside(socket);
    if others.is_empty() || !matches!(error, ObserveError::NoDaemon { .. }) {
        return error.into();
    }
    let others: Vec<String> = others.iter().map(|other| other.display().to_string()).collect();
    anyhow::anyhow!("{error}; name another one with --control-socket: there are {}", others.join(", "))
}

/// Runs something for a command, which does nothing beside it.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
