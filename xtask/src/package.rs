//! The crate for authors of plugins, as it would be published.

use anyhow::Result;

use crate::cargo::{cargo, run};

/// Whether crates.io would take it, and whether it builds with nothing but what is in it: the contract is a link to that of the repository.
pub fn check() -> Result<()> {
    run(&mut cargo(&[
        "publish",
        "--dry-run",
        "--allow-dirty",
        "--quiet",
        "--package",
        "flannel-backend",
        "--target",
        "wasm32-unknown-unknown",
    ]))
}
