//! What the daemon itself says of what manifests give it: the real one, `FLANNELD_BIN` or the release build. It starts nothing here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::workload::Container;
use crate::workspace;

/// The daemon.
pub fn program() -> Result<PathBuf> {
    let program = std::env::var_os("FLANNELD_BIN")
        .map_or_else(|| workspace().join("target/release/flanneld"), PathBuf::from);
    ensure!(program.is_file(), "{} is not there; build it first: cargo xtask build", program.display());
    Ok(program)
}

/// Refuses a container whose command the image cannot run: another program than the image's, flags or variables that the daemon does not
/// know, other arguments of its other programs.
pub fn accepts(container: &Container) -> Result<()> {
    let (name, arguments) = container.command.split_first().context("no command of its own")?;
    match name.as_str() {
        "/opt/bin/flanneld" => is_command_line(arguments, &container.variables),
        "cp" | "/opt/bin/install-conf" => copies(name, arguments, container),
        _ => bail!("{name} is no program of the image"),
    }
    .with_context(|| format!("{}: {:?}", container.name, container.command))
}

fn is_command_line(arguments: &[String], variables: &[(String, Option<String>)]) -> Result<()> {
    let mut daemon = Command::new(program()?);
    // The whole command line is read before the version is printed.
    daemon.args(arguments).arg("--version").env_clear();
    daemon.envs(variables.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
    let output = daemon.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let known = help()?;
    for (name, _) in variables.iter().filter(|(name, _)| name.starts_with("FLANNELD_")) {
        ensure!(known.contains(&format!("[env: {name}")), "{name} is no variable of the daemon's");
    }
    Ok(())
}

fn help() -> Result<String> {
    let output = Command::new(program()?).arg("--help").env_clear().output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Has the program copy a file, with files of a directory's in the place of those that it names.
fn copies(name: &str, arguments: &[String], container: &Container) -> Result<()> {
    let (flags, paths): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    let [source, destination] = paths[..] else { bail!("not two paths") };
    ensure!(source == "/flannel" || container.mounts(source), "{source} is neither in the image nor mounted");
    ensure!(container.mounts(destination), "{destination} is not mounted");
    let directory = tempfile::tempdir()?;
    let place = |path: &str| directory.path().join(path);
    let called = Path::new(name).file_name().context("no name")?;
    std::os::unix::fs::symlink(program()?.canonicalize()?, directory.path().join(called))?;
    std::fs::write(place("source"), "content")?;
    let mut copy = Command::new(directory.path().join(called));
    let output = copy.args(flags).args([place("source"), place("destination")]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(std::fs::read_to_string(place("destination"))? == "content", "it copies something else");
    Ok(())
}

/// Refuses a network config's `Backend` object, JSON, with which the built-in plugin for its type does not start.
pub fn starts_with(backend: &str) -> Result<()> {
    run(&["plugin", "bench", "--count", "1", "--backend", backend])
}

/// Refuses a file for `--plugin-grants` that the daemon cannot read.
pub fn reads_grants(file: &Path) -> Result<()> {
    let file = file.to_str().context("a path in UTF-8")?;
    run(&["plugin", "inspect", "--plugin-grants", file])
}

fn run(arguments: &[&str]) -> Result<()> {
    let output = Command::new(program()?).args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
