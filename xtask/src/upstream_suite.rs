//! Upstream's own functional suite against our image: two nodes as containers of a Docker daemon, etcd and Kubernetes beside them
//! (`tests/upstream-suite/run`). It is not among the tests: the image alone takes longer to build than all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo::{output, root, run, target};
use crate::go::Go;
use crate::{control_plane, image, kubernetes_tools, setup, upstream, vm};

/// What `cargo xtask upstream-suite` takes.
#[derive(clap::Args)]
pub struct Options {
    /// An image of another flanneld, as `docker load` takes it; without it ours is built
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Arguments for the suite, such as `--ginkgo.focus vxlan`
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// What Go says of a module.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "Dir")]
    directory: PathBuf,
}

/// Runs it.
pub fn run_it(options: &Options) -> Result<()> {
    let archive = match &options.image {
        Some(file) => file.canonicalize().with_context(|| file.display().to_string())?,
        None => image::native()?,
    };
    image::docker()?;
    control_plane::need()?;
    kubernetes_tools::install()?;
    let etcd = setup::etcd()?;
    let source = source()?;
    let suite = compile(&source)?;
    let mut command = Command::new(root().join("tests/upstream-suite/run"));
    command
        .env("PROGRAMS", image::test_docker())
        .env("ARCHIVE", archive)
        .env("SOURCE", &source)
        .env("SUITE", suite)
        .env("BUSYBOX", vm::busybox()?)
        .env("ETCD", etcd)
        .env("CONTROL_PLANE", control_plane::place())
        .env("KUBECTL", kubernetes_tools::place().join("bin/kubectl"));
    run(command.args(&options.arguments))
}

/// Where Go has upstream's module, fetched from its proxy if it is not there.
fn source() -> Result<PathBuf> {
    let module = format!("github.com/flannel-io/flannel@{}", upstream::VERSION);
    let said = output(Go::choose().command()?.args(["mod", "download", "-json", &module]))?;
    let module: Module = serde_json::from_str(&said).context("what go mod download says")?;
    Ok(module.directory)
}

/// Not with `-trimpath`: the suite looks for files beside its sources.
fn compile(source: &Path) -> Result<PathBuf> {
    let suite = target().join("tools/upstream-suite");
    let mut go = Go::choose().command()?;
    go.args(["test", "-c", "-mod=readonly", "-tags", "functional", "-o"]).arg(&suite).arg("./functional");
    run(go.current_dir(source))?;
    Ok(suite)
}
