//! `flanneld plugin dev --cluster`: what was built runs on two nodes of its own, packets pass while it is swapped, and nothing is left.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flannel_lab::{artifacts, wait};

use super::authors::Developing;

/// A project whose build copies the component that a file names.
struct Project {
    place: tempfile::TempDir,
}

impl Project {
    fn new() -> Result<Self> {
        let project = Self { place: tempfile::tempdir()? };
        std::fs::create_dir(project.directory())?;
        let build = project.directory().join("build.sh");
        std::fs::write(&build, "#!/bin/sh -e\ncp \"$(cat which)\" plugin.wasm\ntouch which\n")?;
        std::fs::set_permissions(&build, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(project)
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("project")
    }

    fn builds(&self, component: &Path) -> Result<()> {
        Ok(std::fs::write(self.directory().join("which"), component.to_str().context("a path in UTF-8")?)?)
    }

    fn develop(&self, more: &[&str]) -> Result<Developing> {
        Developing::start_with(&self.directory(), self.place.path(), more)
    }
}

/// The daemons that have begun with files in a directory, by their numbers.
fn daemons(place: &Path) -> Result<Vec<String>> {
    let store = format!("--store=file:{}/store", place.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        // One that is ending has none.
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if arguments.split(|byte| *byte == 0).any(|word| word == store.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// The directory that the daemons' files are in: the only one that is a child's of that process.
fn place(process: u32) -> Result<PathBuf> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let arguments = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let store = arguments.split('\0').find_map(|word| word.strip_prefix("--store=file:"));
        if let Some(store) = store
            && status.lines().any(|line| line == format!("PPid:\t{process}"))
        {
            return Ok(Path::new(store).parent().context("a directory")?.to_owned());
        }
    }
    anyhow::bail!("{process} has no daemon")
}

/// Neither daemons nor files are left, and the namespaces have nobody who would hold them.
fn wait_until_nothing_is_left(place: &Path) -> Result<()> {
    wait::until_true("nothing is left", || Ok(daemons(place)?.is_empty() && !place.exists()))?;
    Ok(())
}

/// What is built is swapped in, and no packet is lost.
fn is_swapped(project: &Project, families: &str) -> Result<Developing> {
    project.builds(&artifacts::plugin("vxlan")?)?;
    let mut dev = project.develop(&[families])?;
    let process = dev.id();
    let said = dev.until_it_waits()?;
    let begins = format!("two nodes, in the network namespaces /proc/{process}/fd/");
    ensure!(said.starts_with(&begins), "{said}");
    ensure!(said.contains("\nok       cluster: 2 nodes ready after "), "{said}");

    // Another component of the same policy: with a custom section of a name and nothing else at its end.
    let mut other = std::fs::read(artifacts::plugin("vxlan")?)?;
    other.extend_from_slice(b"\0\x02\x01x");
    let place = project.place.path().join("other.wasm");
    std::fs::write(&place, other)?;
    project.builds(&place)?;
    let said = dev.until_it_waits()?;
    ensure!(said.contains("\nok       swapped on both nodes in "), "{said}");
    ensure!(
        said.contains("\nok       ping: packets pass; of ") && said.ends_with(" meanwhile 0 were lost\n"),
        "{said}"
    );
    Ok(dev)
}

#[test]
fn what_is_built_is_swapped_into_a_cluster_that_vanishes_with_the_command() -> Result<()> {
    let project = Project::new()?;
    let mut dev = is_swapped(&project, "--cluster")?;
    let process = dev.id();
    let place = place(process)?;
    // What does not pass the checks is not swapped in, and what is for another backend begins with it anew.
    project.builds(&artifacts::component("mute")?)?;
    let said = dev.until_it_waits()?;
    ensure!(said.contains("FAILED   ") && !said.contains("ping"), "{said}");
    project.builds(&artifacts::plugin("alloc")?)?;
    let said = dev.until_it_waits()?;
    ensure!(said.ends_with("FAILED   ping: no packet from pod to pod was answered within 5 s\n"), "{said}");
    project.builds(&artifacts::plugin("host-gw")?)?;
    let said = dev.until_it_waits()?;
    ensure!(said.contains("\nok       cluster: 2 nodes ready after "), "{said}");

    // As Ctrl-C does it, which whoever runs the tests may ignore.
    let id = rustix::process::Pid::from_raw(process.try_into()?).context("a process")?;
    rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
    ensure!(dev.wait()?.signal() == Some(15), "another end");
    wait_until_nothing_is_left(&place)
}

#[test]
fn in_both_families_what_is_built_is_swapped_into_a_cluster() -> Result<()> {
    is_swapped(&Project::new()?, "--cluster=dual").map(drop)
}

#[test]
fn not_even_a_kill_leaves_anything_of_the_cluster() -> Result<()> {
    let project = Project::new()?;
    project.builds(&artifacts::plugin("host-gw")?)?;
    let mut dev = project.develop(&["--cluster"])?;
    let said = dev.until_it_waits()?;
    ensure!(said.contains("\nok       cluster: "), "{said}");
    let place = place(dev.id())?;
    ensure!(daemons(&place)?.len() == 2, "two daemons");
    drop(dev);
    wait_until_nothing_is_left(&place)
}

#[test]
fn a_plugin_that_refuses_to_start_on_the_nodes_is_tried_again_after_the_next_change() -> Result<()> {
    let project = Project::new()?;
    // What it needs, the checks have of their own, and nodes do not: WireGuard's device, say, or the endpoint of an API.
    project.builds(&artifacts::plugin("hetzner")?)?;
    let mut dev = project.develop(&["--cluster", "--backend", r#"{"NetworkID":1}"#])?;
    let said = dev.until_it_waits()?;
    let line = said.lines().last().context("a line")?;
    ensure!(line.starts_with("FAILED   node 1: the daemon does not start: "), "{said}");
    project.builds(&artifacts::plugin("host-gw")?)?;
    let said = dev.until_it_waits()?;
    ensure!(said.contains("\nok       cluster: 2 nodes ready after "), "{said}");
    Ok(())
}

/// The one line that is said where there can be no cluster.
fn refusal(change: impl FnOnce(&mut Command)) -> Result<String> {
    let project = Project::new()?;
    project.builds(&artifacts::plugin("host-gw")?)?;
    let program = project.place.path().join("flanneld");
    std::fs::copy(artifacts::flanneld()?, &program)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(project.place.path(), mode)?;
    let mut dev = Command::new(&program);
    dev.args(["plugin", "dev", "--cluster"]).arg(project.directory());
    dev.env("FLANNELD_CACHE_DIR", project.place.path().join("cache"));
    change(&mut dev);
    let output = dev.output().context("cannot run flanneld")?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success() && said.lines().count() == 1, "{said}");
    ensure!(output.stdout.is_empty(), "nothing is begun: {}", String::from_utf8_lossy(&output.stdout));
    Ok(said)
}

#[test]
fn without_root_or_iproute2_a_line_says_what_a_cluster_takes() -> Result<()> {
    const TAKES: &str = "; --cluster takes root (CAP_SYS_ADMIN and CAP_NET_ADMIN), and iproute2's ip\n";
    let said = refusal(|dev| {
        dev.uid(65_534).gid(65_534);
    })?;
    ensure!(
        said.starts_with("flanneld: cannot make a network namespace: ") && said.ends_with(TAKES),
        "{said}"
    );
    let programs = tempfile::tempdir()?;
    std::os::unix::fs::symlink("/bin/sh", programs.path().join("sh"))?;
    let said = refusal(|dev| {
        dev.env("PATH", programs.path());
    })?;
    ensure!(said.starts_with("flanneld: cannot run ip: ") && said.ends_with(TAKES), "{said}");
    Ok(())
}
