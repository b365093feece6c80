//! The daemon with its built-in plugins.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{cargo, output, run, target};
use crate::plugins::{self, Wanted};

/// Where the daemon is.
pub fn daemon() -> PathBuf {
    target().join("release/flanneld")
}

/// Builds the plugins, the daemon, the plugins' compiled forms with that daemon, and the daemon with those embedded: only its
/// small binary crate a second time, and only if a plugin or the compiler has changed.
pub fn all() -> Result<()> {
    with(Wanted::All)
}

/// The same with these components.
pub fn with(wanted: Wanted) -> Result<()> {
    let components = plugins::build(wanted)?;
    for component in &components {
        // An empty form is as good as none, and lets the build script find the same files in both builds.
        let compiled = component.with_extension("cwasm");
        if !compiled.exists() {
            std::fs::write(&compiled, [])?;
        }
    }
    run(&mut release())?;
    for component in components {
        let made = target().join("compiled.new");
        output(Command::new(daemon()).args(["plugin", "compile"]).arg(&component).arg(&made))?;
        let bytes = std::fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
        std::fs::remove_file(&made)?;
        plugins::write_if_changed(&component.with_extension("cwasm"), &bytes)?;
    }
    run(&mut release())
}

/// With the SDK, whose macros have their libraries with more features than the daemon's own: cargo would compile wasmtime once for the daemon
/// alone, and once more for all packages together, which is what tests are built of.
fn release() -> Command {
    cargo(&["build", "--release", "--package", "flanneld", "--package", "flannel-backend"])
}
