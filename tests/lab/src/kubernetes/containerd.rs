//! containerd on a node: started, and given images.

use std::path::Path;

use anyhow::{Context, Result};

use super::image::SANDBOX;
use super::machine::{Machine, Service};
use super::programs::Programs;
use crate::wait;

/// Where it listens, inside.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";
const CONFIG: &str = "/etc/containerd.toml";
/// The kubelet's, in containerd.
const KUBELETS: &str = "k8s.io";

/// Starts it, and waits until it answers.
pub(super) fn start(machine: &Machine, programs: &Programs) -> Result<Service> {
    machine.write(CONFIG, &config())?;
    let mut command = machine.command(programs.containerd.join("containerd"));
    command.args(["--config", CONFIG]);
    let mut service = machine.spawn("containerd", command)?;
    let ready = wait::until_true("containerd answers", || {
        service.has_not_ended()?;
        if !machine.path(SOCKET).exists() {
            return Ok(false);
        }
        Ok(machine.run(ctr(machine, programs).arg("version")).is_ok())
    });
    ready.with_context(|| service.story())?;
    Ok(service)
}

/// Gives it the images of an archive.
pub(super) fn import(machine: &Machine, programs: &Programs, archive: &Path) -> Result<()> {
    let mut command = ctr(machine, programs);
    command.args(["--namespace", KUBELETS, "images", "import", "--local"]).arg(archive);
    machine.run(&mut command).map(drop).with_context(|| archive.display().to_string())
}

fn ctr(machine: &Machine, programs: &Programs) -> std::process::Command {
    let mut command = machine.command(programs.containerd.join("ctr"));
    command.args(["--address", SOCKET]);
    command
}

/// All below `/run`, which is one file system in memory: layers of images cannot be put on one another elsewhere.
fn config() -> String {
    format!(
        r#"version = 3
root = "/run/node/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{SANDBOX}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
"#
    )
}
