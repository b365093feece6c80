//! The clouds' own Python libraries, pinned in `tests/python/clouds/requirements.txt`, below `target/tools/clouds/`: the tests ask them
//! whether the clouds of the lab are right, and moto is one of these clouds.
//!
//! Where they cannot be had, one line says so, and a file beside the missing directory says it to the tests.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cargo::{root, target};
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
    std::fs::create_dir_all(target().join("tools"))?;
    setup::environment(&place(), &root().join("tests/python/clouds/requirements.txt"))
        .context("tests of clouds need these libraries from PyPI")
}
