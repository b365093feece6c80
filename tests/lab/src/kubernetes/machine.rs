//! A node of the lab as a machine of its own: with processes, mounts and control groups that nobody outside sees, and that vanish with its
//! first process. What is written below `/etc`, `/opt`, `/run` and `/var` stays inside, and in memory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cgroups::Cgroups;
use crate::log::Log;
use crate::{Namespace, Node, child_reaper, wait};

/// Makes a machine of new namespaces.
const SCRIPT: &str = include_str!("node.sh");
/// Enters control groups, whose files end with an empty word, and then is the rest of the words.
const ENTER: &str = r#"while [ -n "$1" ]; do echo $$ >"$1" || exit; shift; done; shift; exec "$@""#;

/// A machine. All its processes are killed when this is dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    namespace: Namespace,
    directory: PathBuf,
    path: OsString,
    outermost: Child,
    first: u32,
    cgroups: Cgroups,
}

impl Machine {
    /// Makes one of a node; its programs find others in the path.
    pub fn start(node: &Node, path: OsString) -> Result<Self> {
        let directory = node.directory().to_owned();
        let (script, pid) = (directory.join("node.sh"), directory.join("node.pid"));
        std::fs::write(&script, SCRIPT).with_context(|| script.display().to_string())?;
        let cgroups = Cgroups::new(node.name())?;
        let mut command = node.namespace().command("sh");
        enter(&mut command, &cgroups.roots());
        enter(command.args(["unshare", "--cgroup", "sh"]), &cgroups.leaves());
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh"]);
        command.arg(&script).arg(&pid).stdin(Stdio::null());
        let log = directory.join("machine.log");
        write_to(&mut command, &log)?;
        let mut outermost = child_reaper::spawn(command)?;
        let first = wait::until(&format!("{} is a machine", node.name()), || {
            if let Some(status) = outermost.try_wait()? {
                bail!("it ended ({status})");
            }
            Ok(std::fs::read_to_string(&pid).ok())
        });
        let first = first.with_context(|| format!("{}: {}", node.name(), Log::whole(&log).tail()));
        let first = first.and_then(|(text, _)| text.trim().parse().context("a process"));
        match first {
            Ok(first) => Ok(Self {
                name: node.name().to_owned(),
                namespace: node.namespace().clone(),
                directory,
                path,
                outermost,
                first,
                cgroups,
            }),
            Err(error) => {
                child_reaper::end(&mut outermost);
                Err(error)
            }
        }
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its control groups, in each hierarchy.
    pub fn groups(&self) -> &[PathBuf] {
        self.cgroups.all()
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.namespace.command("sh");
        enter(&mut command, &self.cgroups.leaves());
        command.arg("nsenter").arg("--target").arg(self.first.to_string());
        command.args(["--mount", "--pid", "--cgroup", "--"]).arg(program);
        command.env("PATH", &self.path).stdin(Stdio::null());
        command
    }

    /// Runs a command inside to its end. Answers its output.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        let output = command.output().with_context(|| format!("on {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "on {}: {command:?}: {}", self.name, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts something inside that goes on, with a log of that name. It is killed with the machine.
    pub fn spawn(&self, name: &'static str, mut command: Command) -> Result<Service> {
        let log = self.directory.join(name).with_extension("log");
        write_to(&mut command, &log)?;
        let child = child_reaper::spawn(command)?;
        Ok(Service { title: format!("{name} of {}", self.name), log, child })
    }

    /// Where a path of the inside is for those outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        Path::new("/proc").join(self.first.to_string()).join("root").join(inside.trim_start_matches('/'))
    }

    /// Writes a file inside.
    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        std::fs::write(self.path(inside), text).with_context(|| format!("{inside} on {}", self.name))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        child_reaper::end(&mut self.outermost);
        // The kernel kills what is in it with the first process, which is dead when all are.
        let status = format!("/proc/{}/status", self.first);
        let gone = wait::until_true("a machine is gone", || {
            Ok(std::fs::read_to_string(&status).map_or(true, |status| status.contains("\nState:\tZ")))
        });
        if let Err(error) = gone {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

/// Something that runs, with its log.
#[derive(Debug)]
pub struct Service {
    title: String,
    log: PathBuf,
    child: Child,
}

impl Service {
    /// Starts something that is on no machine.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Result<Self> {
        let log = directory.join(name).with_extension("log");
        write_to(&mut command, &log)?;
        let child = child_reaper::spawn(command)?;
        Ok(Self { title: name.to_owned(), log, child })
    }

    /// An error if it has ended.
    pub fn has_not_ended(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status})", self.title),
            None => Ok(()),
        }
    }

    /// What it has said last, for people.
    pub fn story(&self) -> String {
        format!("{}:\n{}\n", self.title, Log::whole(&self.log).tail())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}

/// Has a shell enter control groups, and then be what the arguments say that follow.
fn enter(shell: &mut Command, groups: &[PathBuf]) {
    shell.args(["-c", ENTER, "sh"]).args(groups).arg("");
}

fn write_to(command: &mut Command, log: &Path) -> Result<()> {
    let open = || File::options().create(true).append(true).open(log);
    let (out, errors) = (open(), open());
    let context = || log.display().to_string();
    command.stdout(out.with_context(context)?).stderr(errors.with_context(context)?);
    Ok(())
}
