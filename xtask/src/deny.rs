//! What the workspace may depend on (`deny.toml`), by cargo-deny.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, installed, root, run, succeeds, target};

/// A version that reads `deny.toml` as it is written.
const VERSION: &str = "0.20.2";

/// Licences, sources and bans, and advisories where their database can be had. Skipped aloud where there is no cargo-deny.
pub fn check() -> Result<()> {
    let Some(program) = find() else {
        eprintln!(
            "lint: dependencies are not checked: cargo-deny {VERSION} can be neither found nor built here"
        );
        return Ok(());
    };
    let deny = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(arguments);
        command
    };
    run(&mut deny(&["check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    if succeeds(&mut deny(&["fetch", "db"])) {
        run(&mut deny(&["check", "--disable-fetch", "advisories"]))?;
    } else {
        eprintln!("lint: advisories are not checked: RustSec's database cannot be fetched here");
    }
    Ok(())
}

/// The one in the path, or one that is built below `target/`, once.
fn find() -> Option<PathBuf> {
    if installed("cargo-deny") {
        return Some("cargo-deny".into());
    }
    let place = target().join("tools/cargo-deny");
    let program = place.join("bin/cargo-deny");
    if !program.is_file() {
        let version = format!("cargo-deny@{VERSION}");
        // Not optimised: it runs for a second, and is compiled for minutes.
        let mut install = cargo(&["install", "--quiet", "--locked", "--debug", &version, "--root"]);
        run(install.arg(&place)).ok()?;
    }
    program.is_file().then_some(program)
}
