//! Node.js for JavaScript components: the machine's, or npm's own package of it where that is too old.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{output, run, target};
use crate::setup;

/// The oldest that componentize-js runs on.
const OLDEST: u32 = 20;
/// npm's package, where the machine's is older.
const PACKAGE: &str = "node@22.22.0";

/// Has the packages that a project's lock file names, installed once for all projects with the same one, in a directory of tools.
pub fn packages(tools: &Path, project: &Path) -> Result<()> {
    prepare()?;
    let modules = tools.join("node_modules");
    let lock = std::fs::read(project.join("package-lock.json"))?;
    let mark = modules.join("installed");
    if !std::fs::read(&mark).is_ok_and(|installed| installed == lock) {
        std::fs::create_dir_all(tools)?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(project.join(file), tools.join(file)).with_context(|| file.to_owned())?;
        }
        let mut npm = npm()?;
        npm.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(tools);
        run(&mut npm).context("JavaScript components need componentize-js from npm's registry")?;
        std::fs::write(mark, lock)?;
    }
    let link = project.join("node_modules");
    if std::fs::read_link(&link).is_ok_and(|to| to == modules) {
        return Ok(());
    }
    // As an earlier build has left it.
    if link.is_symlink() {
        std::fs::remove_file(&link)?;
    } else if link.is_dir() {
        std::fs::remove_dir_all(&link)?;
    }
    std::os::unix::fs::symlink(&modules, &link).with_context(|| link.display().to_string())
}

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

/// npm, which runs what it runs with that Node.js, where both are there.
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
