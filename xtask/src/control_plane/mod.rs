//! The Kubernetes control plane that tests run: etcd, kube-apiserver and kube-controller-manager in one program, of `tests/control-plane/`.

use std::path::PathBuf;

use anyhow::Result;

use crate::go::Program;

/// What Kubernetes' programs say that they are: they have nothing to take that from but the command line that links them.
pub const VERSION: &[(&str, &str)] = &[
    ("k8s.io/component-base/version.gitVersion", "v1.36.3"),
    ("k8s.io/component-base/version.gitMajor", "1"),
    ("k8s.io/component-base/version.gitMinor", "36"),
    ("k8s.io/component-base/version.gitTreeState", "clean"),
];

const PROGRAM: Program = Program {
    name: "control-plane",
    what: "a Kubernetes control plane",
    time: "ten minutes",
    packages: ".",
    sources: &["go.mod", "go.sum", "main.go"],
    variables: VERSION,
    with_c: false,
};

/// Where the tests look for it: a link to the program.
pub fn place() -> PathBuf {
    PROGRAM.place()
}

/// Makes sure that it is there.
pub fn need() -> Result<()> {
    PROGRAM.built().map(drop)
}

/// Makes sure that it is there, and prints where.
pub fn print() -> Result<()> {
    println!("{}", PROGRAM.built()?.display());
    Ok(())
}

/// Makes sure that it is there, or that the tests know why it is not.
pub fn install() -> Result<()> {
    PROGRAM.install()
}
