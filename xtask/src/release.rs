//! The daemon as it goes to others: with what it is made of in the binary (`cargo auditable`) and beside it (CycloneDX).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build::{self, daemon};
use crate::cargo::{cargo, root, run, target};
use crate::tools::{self, Tool};

/// Puts the dependencies' names and versions, compressed, into the section `.dep-v0`, where `cargo audit bin` and scanners of images look.
const CARGO_AUDITABLE: Tool = Tool { name: "cargo-auditable", version: "0.7.7" };
/// Writes them down with sources, licences and who needs whom.
const CARGO_CYCLONEDX: Tool = Tool { name: "cargo-cyclonedx", version: "0.5.9" };
/// The crate of the binary.
const CRATE: &str = "flanneld";
/// The section's name, as it stands among an ELF file's strings.
const SECTION: &[u8] = b".dep-v0";

/// Builds `target/release/flanneld` and `target/release/flanneld.cdx.json`. A tool that cannot be had is an error, and nothing is passed off
/// as a release without it.
pub fn build() -> Result<()> {
    let auditable = needed(&CARGO_AUDITABLE)?;
    let cyclonedx = needed(&CARGO_CYCLONEDX)?;
    build::all()?;
    run(&mut build_with(&auditable))?;
    check_binary(&daemon())?;
    let written = sbom(&cyclonedx)?;
    eprintln!("release: {} and {}", daemon().display(), written.display());
    Ok(())
}

/// The build of the daemon with the list of its dependencies inside.
pub fn auditable_build() -> Result<Command> {
    Ok(build_with(&needed(&CARGO_AUDITABLE)?))
}

fn build_with(auditable: &Path) -> Command {
    let mut command = as_cargo(auditable);
    command.args(["auditable", "build", "--release", "--package", CRATE]);
    command
}

fn needed(tool: &Tool) -> Result<PathBuf> {
    tools::find(tool).with_context(|| {
        format!("no release: {} {} can be neither found nor built here", tool.name, tool.version)
    })
}

/// A subcommand of cargo's by its own name, in cargo's environment.
fn as_cargo(program: &Path) -> Command {
    let settings = cargo(&[]);
    let mut command = Command::new(program);
    for (name, value) in settings.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(root());
    command
}

/// An error if a binary has no such list.
pub fn check_binary(binary: &Path) -> Result<()> {
    let bytes = std::fs::read(binary).with_context(|| binary.display().to_string())?;
    let has_section = bytes.windows(SECTION.len()).any(|part| part == SECTION);
    ensure!(has_section, "{} has no section .dep-v0", binary.display());
    Ok(())
}

/// Writes it for all members of the workspace, beside their manifests, as this tool does; that of the daemon is moved to where the daemon is.
fn sbom(program: &Path) -> Result<PathBuf> {
    const NAME: &str = "flannel-sbom.cdx";
    let mut write = as_cargo(program);
    write.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps"]);
    let outcome = run(write.args(["--override-filename", NAME]));
    let file = format!("{NAME}.json");
    let place = target().join("release").join(format!("{CRATE}.cdx.json"));
    let made = root().join("host").join(CRATE).join(&file);
    let moved = outcome.and_then(|()| {
        std::fs::copy(&made, &place).with_context(|| format!("{} is not there", made.display()))
    });
    for member in members()? {
        // Where it has written none there is none to remove.
        let _ = std::fs::remove_file(member.join(&file));
    }
    let bytes = moved?;
    ensure!(bytes > 0, "{} is empty", place.display());
    Ok(place)
}

/// The directories of all members of the workspace.
fn members() -> Result<Vec<PathBuf>> {
    let listed = crate::cargo::output(&mut cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&listed).context("cargo metadata: no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no packages")?;
    let manifest = |package: &serde_json::Value| Some(PathBuf::from(package["manifest_path"].as_str()?));
    Ok(packages.iter().filter_map(manifest).filter_map(|path| Some(path.parent()?.to_owned())).collect())
}
