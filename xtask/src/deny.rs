//! What the workspace may depend on (`deny.toml`), by cargo-deny.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{root, run, succeeds};
use crate::tools::{self, Tool};

/// A version that reads `deny.toml` as it is written.
const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };

/// Licences, sources and bans, and advisories where their database can be had. Skipped aloud where there is no cargo-deny.
pub fn check() -> Result<()> {
    let Some(program) = tools::find(&CARGO_DENY) else {
        eprintln!(
            "lint: dependencies are not checked: cargo-deny {} can be neither found nor built here",
            CARGO_DENY.version
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
