//! All tests, and the lints.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::cargo::{cargo, run, target};
use crate::{
    alone, bindings, build, clouds, control_plane, deny, failures, image, kernels, kubernetes_node,
    kubernetes_tools, languages, package, reference, setup, unit, upstream,
};

/// What tests are told of this machine.
pub struct Environment {
    etcd: OsString,
    upstream: Option<(&'static str, PathBuf)>,
}

impl Environment {
    /// Builds and finds everything that tests need.
    pub fn prepare() -> Result<Self> {
        timed("what is needed", setup::everything)?;
        std::thread::scope(|scope| {
            // Downloads, and the links of Go's build, do not keep all processors at work.
            let beside = scope.spawn(|| {
                timed("clouds", clouds::install)?;
                timed("the Kubernetes control plane", control_plane::install)?;
                timed("kubectl and helm", kubernetes_tools::install)
            });
            let built = timed("the daemon and its plugins", build::all)
                .and_then(|()| timed("other languages", languages::build));
            if let (Err(error), false) = (&built, beside.is_finished()) {
                eprintln!("xtask: {error:#}; what is made beside it is waited for");
            }
            built.and(beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        // What takes ten minutes and more to build is tested where it has been built.
        timed("nodes of Kubernetes", kubernetes_node::install)?;
        timed("the container image", image::install)?;
        Ok(Self { etcd: setup::etcd()?.join("etcd").into(), upstream: upstream::variable()? })
    }

    /// The variables that tests know.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = vec![
            ("FLANNELD_BIN".into(), build::daemon().into()),
            ("FLANNELD_TEST_ETCD".into(), self.etcd.clone()),
            ("FLANNELD_TEST_COMPONENTS".into(), target().join("components").into()),
            ("FLANNELD_TEST_CLOUDS".into(), clouds::place().into()),
            ("FLANNELD_TEST_CONTROL_PLANE".into(), control_plane::place().into()),
            ("FLANNELD_TEST_KUBERNETES_TOOLS".into(), kubernetes_tools::place().into()),
            ("FLANNELD_TEST_KUBERNETES_NODE".into(), kubernetes_node::place().into()),
            ("FLANNELD_TEST_CNI_PLUGIN".into(), kubernetes_node::cni_plugin().into()),
            ("FLANNELD_TEST_IMAGE".into(), image::test_image().into()),
            ("FLANNELD_TEST_DOCKER".into(), image::test_docker().into()),
        ];
        variables.extend(self.upstream.iter().map(|(name, program)| (name.into(), program.into())));
        variables
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
    command.arg("--workspace").env("FLANNELD_TEST_SKIPS", &skips);
    if !arguments.iter().any(|argument| argument == "--no-fail-fast") {
        // One test that fails says nothing of the programs after its own.
        command.arg("--no-fail-fast");
    }
    command.args(arguments);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        // Tests of the lab wait most of the time: for a lease, a probe, an interval.
        let threads = std::thread::available_parallelism().map_or(3, |processors| 3 * processors.get());
        command.env("RUST_TEST_THREADS", threads.to_string());
    }
    // By itself, to tell the time of the two apart.
    timed("building the tests", || {
        run(environment.cargo_test().args(["--workspace", "--no-run", "--quiet"]))
    })?;
    let failures = timed("tests on this kernel", || failures::run(&mut command))?;
    let unsteady = match failures.as_slice() {
        [] => None,
        some => Some(timed("tests that failed, alone", || alone::judge(&environment, some, &skips))?),
    };
    let proved = if other_kernels {
        timed("tests on other kernels", || kernels::prove(&environment, arguments.is_empty()))
    } else {
        Ok(())
    };
    if let Some(unsteady) = unsteady {
        eprintln!("{unsteady}");
    }
    proved
}

/// Does a part, and says how long it took.
fn timed<T>(what: &str, part: impl FnOnce() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    let outcome = part();
    eprintln!("xtask: {what}: {} s", begin.elapsed().as_secs());
    outcome
}

/// Formatting and lints; no warning is let through.
pub fn lint() -> Result<()> {
    setup::system_packages()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    timed("the documentation of the contract", reference::check)?;
    timed("bindings in other languages", bindings::check)?;
    timed("lints", clippy)?;
    timed("documentation", rustdoc)?;
    timed("the packages for authors", package::check)?;
    timed("the unit of systemd", unit::check)?;
    timed("dependencies", deny::check)
}

fn rustdoc() -> Result<()> {
    let mut command = cargo(&["doc", "--release", "--quiet", "--workspace", "--no-deps"]);
    run(command.env("RUSTDOCFLAGS", "--deny warnings"))
}

fn clippy() -> Result<()> {
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
