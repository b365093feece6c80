//! The unit of systemd, as systemd judges it.

use std::process::Command;

use anyhow::Result;

use crate::cargo::{installed, output, root, run};

/// The highest exposure that it may have, in tenths: below 2.0.
const EXPOSURE: &str = "--threshold=19";

/// What a service of this unit could do to its host is bounded. Skipped aloud where there is no systemd to ask.
pub fn check() -> Result<()> {
    const PROGRAM: &str = "systemd-analyze";
    let help = || output(Command::new(PROGRAM).arg("--help"));
    if !installed(PROGRAM) || !help()?.contains("--offline") {
        eprintln!(
            "lint: deploy/flanneld.service is not judged: {PROGRAM} is missing, or older than systemd 250"
        );
        return Ok(());
    }
    let unit = root().join("deploy/flanneld.service");
    run(Command::new(PROGRAM).args(["security", "--no-pager", "--offline=true", EXPOSURE]).arg(unit))
}
