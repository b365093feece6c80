//! What the tests' Kubernetes nodes run: kubelet, kube-proxy and the scheduler in one program, with kubectl (`tests/kubernetes-node/`);
//! containerd with its shim and `ctr` (`tests/containerd/`); Debian's runc, the CNI project's plugins, a busybox for images, and our own
//! CNI plugin, which is built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::cargo::{cargo, run, target};
use crate::control_plane::VERSION;
use crate::go::Program;
use crate::{control_plane, setup, vm};

const NODE: Program = Program {
    name: "kubernetes-node",
    what: "nodes of Kubernetes",
    time: "ten minutes",
    packages: ".",
    sources: &["go.mod", "go.sum", "main.go"],
    variables: VERSION,
    with_c: false,
};

const CONTAINERD: Program = Program {
    name: "containerd",
    what: "containerd",
    time: "two minutes",
    packages: "tool",
    sources: &["go.mod", "go.sum"],
    variables: &[],
    with_c: false,
};

/// Where the tests look for kubelet and the others: a link to the program.
pub fn place() -> PathBuf {
    NODE.place()
}

/// Our CNI plugin.
pub fn cni_plugin() -> PathBuf {
    target().join("release/flannel")
}

/// Makes sure that all is there, with a control plane.
pub fn need() -> Result<()> {
    control_plane::need()?;
    built().map(drop)
}

/// Makes sure that all is there, and prints where.
pub fn print() -> Result<()> {
    for program in built()? {
        println!("{}", program.display());
    }
    Ok(())
}

/// Has the tests find all of it, if it was built before on this machine, or know why they do not: the first build takes longer than all tests.
pub fn install() -> Result<()> {
    let there = NODE.is_built()? && CONTAINERD.is_built()?;
    let found = if there {
        built().map(drop)
    } else {
        Err(anyhow!("`cargo xtask kubernetes-node` builds them, once a machine"))
    };
    match found {
        Ok(()) => NODE.is_there(),
        Err(missing) => NODE.is_missing(&missing),
    }
}

fn built() -> Result<[PathBuf; 4]> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "flannel-cni"]))?;
    setup::firewalls()?;
    setup::cni_plugins()?;
    Ok([runc()?, vm::busybox()?, NODE.built()?, CONTAINERD.built()?])
}

/// runc, in the path or below `target/tools/runc/`.
fn runc() -> Result<PathBuf> {
    if let Some(installed) = setup::program("runc") {
        return Ok(installed);
    }
    let place = |root: &Path| root.join("usr/sbin/runc");
    let root = setup::unpacked("runc", &["runc"], |root| place(root).is_file())
        .context("nodes of Kubernetes need runc: install the package of that name")?;
    Ok(place(&root))
}
