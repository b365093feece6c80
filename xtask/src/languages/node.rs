//! Node.js for JavaScript components: the machine's, or npm's own package of it where that is too old.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{output, run, target};
use crate::setup;

/// The oldest that componentize-js runs on.
const OLDEST: u32 = 20;
/// npm's package, where the machine's is older.
const PACKAGE: &str = "node@22.22.0";

/// Makes sure that there is one.
pub fn prepare() -> Result<()> {
    setup::programs(&[("node", "nodejs"), ("npm", "npm")])?;
    if is_new_enough()? || own().join("node").is_file() {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", PACKAGE, "--prefix"]).arg(prefix());
    run(&mut npm).with_context(|| format!("JavaScript components need Node.js {OLDEST} or later"))
}

/// npm, which runs what it runs with that Node.js.
pub fn npm() -> Result<Command> {
    let mut npm = Command::new("npm");
    npm.env("PATH", path()?);
    Ok(npm)
}

/// A `PATH` in which that Node.js is found.
pub fn path() -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = if is_new_enough()? { None } else { Some(own()) };
    Ok(std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?)
}

fn prefix() -> PathBuf {
    target().join("tools/node")
}

fn own() -> PathBuf {
    prefix().join("node_modules/node/bin")
}

fn is_new_enough() -> Result<bool> {
    let version = output(Command::new("node").arg("--version"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    Ok(major.is_some_and(|major| major >= OLDEST))
}
