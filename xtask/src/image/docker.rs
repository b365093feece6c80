//! A Docker for tests: the machine's own programs, or Debian's, unpacked and never installed. The tests start a daemon of their own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cargo::target;
use crate::setup;

/// A link to each program that the tests start or that these start, in one directory.
const PROGRAMS: [&str; 5] = ["docker", "dockerd", "containerd", "containerd-shim-runc-v2", "runc"];

/// Where the tests find the programs.
pub fn place() -> PathBuf {
    target().join("tools/docker-programs")
}

/// Makes sure that they are there.
pub fn find() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "a Docker daemon of the tests' own takes root");
    let mut found = PROGRAMS.map(setup::program);
    if found.iter().any(Option::is_none) {
        let packages = ["docker.io", "containerd", "runc", "libdevmapper1.02.1"];
        let root = setup::unpacked("docker", &packages, |root| {
            PROGRAMS.iter().all(|name| inside(root, name).is_some())
        })
        .context("no Docker: install docker.io")?;
        found = PROGRAMS.map(|name| inside(&root, name));
    }
    std::fs::create_dir_all(place())?;
    for (name, file) in PROGRAMS.iter().zip(found) {
        let link = place().join(name);
        let file = file.with_context(|| format!("no {name}: install docker.io"))?;
        if std::fs::read_link(&link).ok().as_ref() != Some(&file) {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&file, &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(())
}

fn inside(root: &Path, name: &str) -> Option<PathBuf> {
    ["usr/sbin", "usr/bin", "sbin"]
        .iter()
        .map(|place| root.join(place).join(name))
        .find(|file| file.is_file())
}
