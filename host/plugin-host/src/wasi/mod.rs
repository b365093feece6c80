//! WASI, for components that import it because their toolchains always do (Python, JavaScript, C with wasi-libc): an empty world.
//! No files, no sockets, no name look-ups, no environment, no arguments, and nothing on standard input; only clocks, randomness,
//! and output, which goes into the log.

mod console;
mod wait;

pub(crate) use console::Console;

use wasmtime::component::Linker;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::capability::HostState;

/// What the names of WASI's interfaces begin with.
pub(crate) const NAMESPACE: &str = "wasi:";
/// What the versions that are served begin with.
pub(crate) const VERSION: &str = "0.2.";

/// The interfaces that are linked, with their packages.
pub(crate) const INTERFACES: [&str; 27] = [
    "cli/environment",
    "cli/exit",
    "cli/stderr",
    "cli/stdin",
    "cli/stdout",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stderr",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
    "sockets/instance-network",
    "sockets/ip-name-lookup",
    "sockets/network",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
];

/// Bytes of randomness in one answer, which the host allocates.
const MOST_RANDOM: u64 = 1 << 20;

/// Adds the interfaces to the linker.
pub(crate) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    wait::link(linker)
}

fn empty_world(console: &Console) -> WasiCtx {
    // A builder begins with neither files nor environment, arguments and input; that networks are allowed it leaves to us.
    WasiCtx::builder()
        .stdout(console.stdout())
        .stderr(console.stderr())
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(MOST_RANDOM)
        .build()
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let console = &self.console;
        WasiCtxView { ctx: self.wasi.get_or_insert_with(|| empty_world(console)), table: &mut self.table }
    }
}

#[cfg(test)]
mod tests;
