//! Upstream's own daemon, running on a node beside nodes with ours.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::log::Log;
use crate::{Node, Store, child_reaper, wait};

/// The variable that names its program.
pub const VARIABLE: &str = "FLANNELD_REFERENCE";

/// Where a node's WireGuard key is, for either daemon: below the directory that both run in.
pub const KEY_FILE: (&str, &str) = ("WIREGUARD_KEY_FILE", "run/wgkey");

/// The file in a node's directory with what it says.
pub const LOG: &str = "reference.log";

/// What it says when the subnet file is written.
const UP: &str = "] Running backend.";

/// Its program; none: nobody has said where it is.
pub fn program() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Upstream's daemon on a node. It is killed when this is dropped.
#[derive(Debug)]
pub struct Reference {
    node: String,
    log: Log,
    child: Child,
}

impl Reference {
    /// Starts it with upstream's flags alone. Its files are where ours has them.
    pub fn start(program: &Path, node: &Node, store: &Store) -> Result<Self> {
        let directory = node.directory();
        let run = directory.join("run");
        std::fs::create_dir_all(&run).with_context(|| run.display().to_string())?;
        let file = directory.join(LOG);
        let log = Log::from_now(&file);
        let output = File::options().create(true).append(true).open(&file);
        let output = output.with_context(|| file.display().to_string())?;

        let mut command = node.namespace().command(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"FLANNELD_") {
                command.env_remove(name);
            }
        }
        command.args(store.upstream_flags()?).arg("--iface=eth0");
        command.arg("--subnet-file").arg(node.subnet_file());
        command.env(KEY_FILE.0, KEY_FILE.1).current_dir(directory);
        if let Store::Kube(_) = store {
            command.env("NODE_NAME", node.name());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        Ok(Self { node: node.name().to_owned(), log, child: child_reaper::spawn(command)? })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is up. It may not know its peers yet.
    pub fn wait_ready(&mut self) -> Result<()> {
        let what = format!("{}: upstream's daemon is up", self.node);
        let up = wait::until_true(&what, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{}: upstream's daemon ended ({status})", self.node);
            }
            Ok(self.log.lines().iter().any(|line| line.raw().ends_with(UP)))
        });
        up.map(drop).with_context(|| format!("{}: it said last:\n{}", self.node, self.log.tail()))
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot send SIGTERM")?;
        let what = format!("{}: upstream's daemon ends", self.node);
        let (status, _) = wait::until(&what, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "{}: SIGTERM ended upstream's daemon with {status}", self.node);
        Ok(())
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}
