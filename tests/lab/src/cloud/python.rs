//! The clouds' own Python libraries, which are there to prove the clouds of this lab right: `cargo xtask clouds` installs them.

use std::path::PathBuf;

use anyhow::Result;

use crate::artifacts;

/// The interpreter that has them. None, with the reason on standard output: they cannot be had on this machine.
pub fn interpreter() -> Result<Option<PathBuf>> {
    if let Some(reason) = missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    Ok(Some(artifacts::clouds().join("bin/python")))
}

/// Why they cannot be had on this machine; none: they are there.
pub fn missing() -> Result<Option<String>> {
    let tools = artifacts::clouds();
    if let Ok(reason) = std::fs::read_to_string(tools.with_extension("skipped")) {
        return Ok(Some(reason));
    }
    let python = tools.join("bin/python");
    anyhow::ensure!(python.is_file(), "{} is not there: `cargo xtask clouds` makes it", python.display());
    Ok(None)
}
