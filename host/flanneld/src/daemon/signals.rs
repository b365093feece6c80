//! Signals that mean nothing to the daemon, and whose default action would end it: a stray one must not take a node's network down.
//!
//! Go's runtime, and so upstream, catches the same ones and does nothing (os/signal, "Default behavior of signals in Go programs").

use std::ffi::c_int;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::DaemonError;

/// Those with a name.
const STRAYS: [(c_int, &str); 10] = [
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGPROF, "SIGPROF"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGPWR, "SIGPWR"),
    (libc::SIGSTKFLT, "SIGSTKFLT"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
];

/// From here on none of them ends the process. Handled rather than ignored: programs that are run from here, such as `iptables`, begin with
/// what is usual.
pub(super) fn survive_strays() -> Result<(), DaemonError> {
    for (number, name) in STRAYS {
        survive(number, name.to_owned())?;
    }
    for number in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        survive(number, format!("SIGRTMIN+{}", number - libc::SIGRTMIN()))?;
    }
    Ok(())
}

/// Says of a signal when it comes first that it has no effect; the handler stays.
fn survive(number: c_int, name: String) -> Result<(), DaemonError> {
    let mut stray = signal(SignalKind::from_raw(number)).map_err(DaemonError::Signals)?;
    tokio::spawn(async move {
        if stray.recv().await.is_some() {
            info!(
                signal = name,
                "a signal without effect; SIGTERM ends the daemon, SIGHUP has the plugin looked at again"
            );
        }
    });
    Ok(())
}
