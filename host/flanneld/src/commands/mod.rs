//! The commands that need more than a line.

mod check;
mod componentize;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod output;
pub(crate) mod plugin;
mod publish;
mod trial;
mod verify;
mod wit;

use std::path::{Path, PathBuf};

use flannel_telemetry::ObserveError;

/// The error of who asks at a socket; where nobody answers, with the sockets of daemons that there are beside it.
pub(crate) fn or_another(error: ObserveError, socket: &Path) -> anyhow::Error {
    let others = sockets_beside(socket);
    if others.is_empty() || !matches!(error, ObserveError::NoDaemon { .. }) {
        return error.into();
    }
    let others: Vec<String> = others.iter().map(|other| other.display().to_string()).collect();
    anyhow::anyhow!("{error}; name another one with --control-socket: there are {}", others.join(", "))
}

/// All control sockets of daemons beside this one.
fn sockets_beside(socket: &Path) -> Vec<PathBuf> {
    let Some(directory) = socket.parent() else { return Vec::new() };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_socket = |path: &PathBuf| {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        stem.starts_with("flanneld")
            && path.extension().is_some_and(|extension| extension == "sock")
            && path != socket
    };
    let mut sockets: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_socket).collect();
    sockets.sort();
    sockets
}

/// Runs something for a command, which does nothing beside it.
pub(crate) fn wait_for<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}
