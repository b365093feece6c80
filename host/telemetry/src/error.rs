//! What can go wrong in telling about the daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why nobody can be told, for the operator: one line.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The address of the health endpoints cannot be had.
    #[error("health endpoints: cannot listen on {address} (--healthz-ip, --healthz-port): {reason}")]
    Listen {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// What is in the way.
        reason: String,
    },
    /// Another daemon has the control socket.
    #[error("another flanneld is running{}: it has the control socket {}", shown(*pid), path.display())]
    AnotherRuns {
        /// The control socket.
        path: PathBuf,
        /// The other's process, where it can be known.
        pid: Option<u32>,
    },
    /// The control socket cannot be made.
    #[error("control socket {} (--control-socket): {reason}", path.display())]
    Socket {
        /// The control socket.
        path: PathBuf,
        /// What is in the way.
        reason: String,
    },
    /// Nobody listens on the control socket.
    #[error("no flanneld is running here: nobody listens on {} (--control-socket)", path.display())]
    NoDaemon {
        /// The control socket.
        path: PathBuf,
    },
    /// The control socket is somebody else's, most often root's.
    #[error("no permission to use {}: flanneld answers its own user only, most often root", path.display())]
    NoPermission {
        /// The control socket.
        path: PathBuf,
    },
    /// The daemon goes on with the plugin that it had.
    #[error("the plugin is not swapped, the one before goes on: {reason}")]
    NotSwapped {
        /// Why, in the daemon's words.
        reason: String,
    },
    /// The daemon did not answer, or not what we understand.
    #[error("flanneld on {} gave no answer: {reason}", path.display())]
    NoAnswer {
        /// The control socket.
        path: PathBuf,
        /// What came instead.
        reason: String,
    },
}

fn shown(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}
