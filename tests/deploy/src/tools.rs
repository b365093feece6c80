//! Where `kubectl` and `helm` are: `cargo xtask test` has both from PyPI, below `target/tools/kubernetes/`.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::workspace;

/// The directory with both: what `FLANNELD_TEST_KUBERNETES_TOOLS` says, else where `cargo xtask kubernetes-tools` leaves them.
pub fn place() -> PathBuf {
    std::env::var_os("FLANNELD_TEST_KUBERNETES_TOOLS")
        .map_or_else(|| workspace().join("target/tools/kubernetes"), PathBuf::from)
}

/// Why they cannot be had on this machine; none: they are there.
pub fn missing() -> Result<Option<String>> {
    if let Ok(reason) = std::fs::read_to_string(place().with_extension("skipped")) {
        return Ok(Some(reason));
    }
    for name in ["kubectl", "helm"] {
        let program = program(name);
        ensure!(
            program.is_file(),
            "{} is not there: `cargo xtask kubernetes-tools` gets it",
            program.display()
        );
    }
    Ok(None)
}

/// One of them, by its name.
pub fn program(name: &str) -> PathBuf {
    place().join("bin").join(name)
}
