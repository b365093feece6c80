//! Zig: the machine's, if it is of the version that the example is written in, or PyPI's copy of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{output, run};
use crate::setup;

/// Zig's language is another one with each version.
const VERSION: &str = "0.15.";
/// PyPI's package, where the machine's is another one, or there is none.
const PACKAGE: &str = "ziglang==0.15.1";

/// Makes sure that there is one.
pub fn prepare(tools: &Path) -> Result<()> {
    let (mark, link) = (tools.join("installed"), tools.join("zig"));
    if fits() || std::fs::read_to_string(&mark).is_ok_and(|installed| installed == PACKAGE) {
        return Ok(());
    }
    setup::python()?;
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(tools))?;
    let mut pip = Command::new(tools.join("bin/pip"));
    run(pip.args(["install", "--quiet", "--disable-pip-version-check", PACKAGE]))
        .context("Zig components need Zig 0.15, or PyPI")?;
    let mut python = Command::new(tools.join("bin/python"));
    let place = output(python.args(["-c", "import ziglang; print(ziglang.__path__[0])"]))?;
    let program = PathBuf::from(place.trim()).join("zig");
    std::os::unix::fs::symlink(&program, &link).with_context(|| link.display().to_string())?;
    std::fs::write(&mark, PACKAGE).with_context(|| mark.display().to_string())
}

/// A `PATH` in which it is found.
pub fn path(tools: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = if fits() { None } else { Some(tools.to_owned()) };
    Ok(std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)))?)
}

fn fits() -> bool {
    output(Command::new("zig").arg("version")).is_ok_and(|version| version.starts_with(VERSION))
}
