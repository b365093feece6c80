//! The clouds' own Python libraries, pinned in `tests/python/clouds/requirements.txt`, below `target/tools/clouds/`: the tests ask them
//! whether the clouds of the lab are right, and moto is one of these clouds.
//!
//! Where they cannot be had, one line says so, and a file beside the missing directory says it to the tests.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{root, run, target};
use crate::{pinned, setup};

/// Where they are.
pub fn place() -> PathBuf {
    target().join("tools/clouds")
}

/// Makes sure that they are there.
pub fn install() -> Result<()> {
    pinned::install(&place(), "tests/python/clouds/requirements.txt", "tests of clouds", fetch)
}

fn fetch() -> Result<()> {
    setup::python()?;
    std::fs::create_dir_all(target().join("tools"))?;
    run(Command::new("python3").args(["-m", "venv"]).arg(place()))?;
    let mut pip = Command::new(place().join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    run(pip.arg(root().join("tests/python/clouds/requirements.txt")))
        .context("tests of clouds need these libraries from PyPI")
}
