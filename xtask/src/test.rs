//! All tests, and the lints.

use anyhow::Result;

use crate::cargo::{cargo, run, target};
use crate::{build, clouds, languages, reference, setup};

/// Builds everything and runs all tests. In the release profile, whose libraries are there already: building wasmtime a
/// second time would take longer than the tests.
pub fn all(arguments: &[String]) -> Result<()> {
    setup::everything()?;
    build::all()?;
    languages::build()?;
    clouds::install()?;
    let mut command = cargo(&["test", "--release", "--workspace"]);
    command
        .args(arguments)
        .env("FLANNELD_BIN", build::daemon())
        .env("FLANNELD_TEST_ETCD", setup::etcd()?.join("etcd"))
        .env("FLANNELD_TEST_COMPONENTS", target().join("components"))
        .env("FLANNELD_TEST_CLOUDS", clouds::place());
    run(&mut command)
}

/// Formatting and lints; no warning is let through.
pub fn lint() -> Result<()> {
    setup::system_packages()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    reference::check()?;
    run(&mut cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--",
        "--deny",
        "warnings",
    ]))
}
