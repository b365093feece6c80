//! Threads that run others' code, or read others' bytes.

use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::thread::{Builder, JoinHandle};

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};
use seccompiler::BpfProgram;
use tracing::{info, warn};

use super::filter::{self, Profile};

thread_local! {
    static CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// Takes all capabilities from this thread, and all system calls but those that it is for. It never gets them back, and neither do threads
/// that it starts. Calls that are refused fail with EPERM. Where the kernel has no such filters, that is said once, and the rest holds.
pub fn confine(profile: Profile) {
    static SAID: OnceLock<()> = OnceLock::new();
    CONFINED.set(true);
    if is_inherited() {
        return;
    }
    let none = CapabilitySet::empty();
    if let Err(error) =
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
    {
        SAID.get_or_init(|| warn!(%error, "threads that run plugins keep their capabilities"));
    }
    if let Err(reason) = install(profile) {
        SAID.get_or_init(|| {
            info!(reason, "threads that run plugins go without a filter for system calls here");
        });
    }
}

/// Whether a confined thread has started this one, which has nothing to give up then: as a runtime starts threads for what blocks. Anybody may
/// ask what he may do, but for those behind our filter.
fn is_inherited() -> bool {
    capabilities(None).is_err_and(|error| error == Errno::PERM)
}

fn install(profile: Profile) -> Result<(), String> {
    type Programs = Result<[BpfProgram; 2], String>;
    static PLUGIN: OnceLock<Programs> = OnceLock::new();
    static NETWORK: OnceLock<Programs> = OnceLock::new();
    let made = match profile {
        Profile::Plugin => &PLUGIN,
        Profile::Network => &NETWORK,
    };
    let make = || filter::programs(profile).map_err(|error| error.to_string());
    let [clone3, allowed] = made.get_or_init(make).as_ref().map_err(Clone::clone)?;
    // Without it the kernel takes filters of root only; the process has it already, unless it is a test.
    let _ = set_no_new_privs(true);
    filter::install(clone3, false).map_err(|error| error.to_string())?;
    // Kernels before 4.14 do not know the flag.
    filter::install(allowed, true)
        .or_else(|_| filter::install(allowed, false))
        .map_err(|error| error.to_string())
}

/// Starts a thread that is confined before it does its work.
pub fn spawn_confined<T: Send + 'static>(
    name: &str,
    profile: Profile,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    start_helper()?;
    Builder::new().name(name.to_owned()).spawn(move || {
        confine(profile);
        work()
    })
}

/// Does something that a confined thread could not do: on a thread that has what the process has, while this one waits. Anywhere else it is
/// simply done. It is for what the host itself does with its own files, never for what others' code decides alone.
pub fn with_privileges<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match HELPER.get() {
        Some(helper) if CONFINED.get() => helper.install(work),
        _ => work(),
    }
}

/// One thread that is not confined. Of rayon's, which lends it what the waiting thread has; it is there already below wasmtime.
static HELPER: OnceLock<ThreadPool> = OnceLock::new();

/// Starts the thread that [`with_privileges`] needs; to be called before threads are confined in another way than by [`spawn_confined`].
pub fn start_helper() -> io::Result<()> {
    // A thread that is confined could only start another confined one.
    if HELPER.get().is_none() && !CONFINED.get() {
        let name = |_| "privileged".to_owned();
        let pool = ThreadPoolBuilder::new().num_threads(1).thread_name(name).build();
        let _ = HELPER.set(pool.map_err(io::Error::other)?);
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
