//! Upstream's own flanneld, which tests and benchmarks have beside ours: of `tests/upstream/`, from Go's module proxy.

use std::path::PathBuf;

use anyhow::Result;

use crate::go::Program;

/// The variable that tests and benchmarks look for it in.
const VARIABLE: &str = "FLANNELD_REFERENCE";

/// The release.
pub const VERSION: &str = "v0.28.10";

const PROGRAM: Program = Program {
    name: "upstream",
    what: "upstream's flanneld",
    time: "four minutes",
    packages: "tool",
    sources: &["go.mod", "go.sum", "tencent-vpc/go.mod", "tencent-vpc/v20170312/vpc.go"],
    variables: &[("github.com/flannel-io/flannel/pkg/version.Version", VERSION)],
    // Its backend udp is written in C.
    with_c: true,
};

/// Makes sure that it is there, and prints where.
pub fn print() -> Result<()> {
    println!("{}", PROGRAM.built()?.join("flannel").display());
    Ok(())
}

/// The variable, where it is not set, and this machine has the program: its first build takes longer than the tests that need it are worth
/// to most.
pub fn variable() -> Result<Option<(&'static str, PathBuf)>> {
    if std::env::var_os(VARIABLE).is_some() || !PROGRAM.is_built()? {
        return Ok(None);
    }
    Ok(Some((VARIABLE, PROGRAM.built()?.join("flannel"))))
}
