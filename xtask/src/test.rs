//! All tests, and the lints.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::cargo::{cargo, run, target};
use crate::{build, clouds, kernels, languages, reference, setup};

/// What tests are told of this machine.
pub struct Environment {
    etcd: OsString,
}

impl Environment {
    /// Builds and finds everything that tests need.
    pub fn prepare() -> Result<Self> {
        setup::everything()?;
        build::all()?;
        languages::build()?;
        clouds::install()?;
        Ok(Self { etcd: setup::etcd()?.join("etcd").into() })
    }

    /// The variables that tests know.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("FLANNELD_BIN".into(), build::daemon().into()),
            ("FLANNELD_TEST_ETCD".into(), self.etcd.clone()),
            ("FLANNELD_TEST_COMPONENTS".into(), target().join("components").into()),
            ("FLANNELD_TEST_CLOUDS".into(), clouds::place().into()),
        ]
    }

    /// `cargo test`, without its arguments. In the release profile, whose libraries are there already: building wasmtime a second time
    /// would take longer than the tests.
    pub fn cargo_test(&self) -> Command {
        let mut command = cargo(&["test", "--release"]);
        command.envs(self.variables());
        command
    }
}

/// Builds everything and runs all tests, here, and what has skipped here on other kernels unless that is not wanted.
pub fn all(arguments: &[String], other_kernels: bool) -> Result<()> {
    let environment = Environment::prepare()?;
    let skips = kernels::skips_file();
    std::fs::write(&skips, [])?;
    let mut command = environment.cargo_test();
    command.arg("--workspace").args(arguments).env("FLANNELD_TEST_SKIPS", &skips);
    run(&mut command)?;
    if other_kernels { kernels::prove(&environment, arguments.is_empty()) } else { Ok(()) }
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
