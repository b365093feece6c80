//! The wasmtime engine: the same for compiling ahead of time and for running.

use wasmtime::{Config, Engine};

/// Bytes of stack that a plugin's calls may use; the threads that call have 2 MiB.
const STACK: usize = 512 << 10;

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true).epoch_interruption(true).max_wasm_stack(STACK);
    config
}

/// An engine for this machine. Each plugin has its own, so that its time-outs touch nothing else.
pub(crate) fn native() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// An engine whose code runs on every machine of this architecture, not only on those with this one's extensions.
pub(crate) fn portable() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.target(&format!("{}-unknown-linux-gnu", std::env::consts::ARCH))?;
    Engine::new(&config)
}
