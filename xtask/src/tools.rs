//! Cargo's own tools that are not in everybody's path: built below `target/`, once.

use std::path::PathBuf;

use crate::cargo::{cargo, installed, run, target};

/// A program of a crate of the same name.
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// The version that is built where there is none.
    pub version: &'static str,
}

/// The one in the path, or one that is built below `target/`; none if it cannot be built here.
pub fn find(tool: &Tool) -> Option<PathBuf> {
    if installed(tool.name) {
        return Some(tool.name.into());
    }
    let place = target().join("tools").join(tool.name);
    let program = place.join("bin").join(tool.name);
    if !program.is_file() {
        let version = format!("{}@{}", tool.name, tool.version);
        // Neither optimised nor for debuggers: they run for seconds, and are compiled for minutes.
        let mut install = cargo(&["install", "--quiet", "--locked", "--debug", &version, "--root"]);
        run(install.arg(&place).env("CARGO_PROFILE_DEV_DEBUG", "0")).ok()?;
    }
    program.is_file().then_some(program)
}
