//! The parts of a control plane, a process each.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::log::Log;
use crate::{Namespace, child_reaper};

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where all objects are kept.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager, with the controller of podCIDRs alone.
    Controllers,
}

impl Part {
    /// In the order in which they need each other.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::Controllers];

    /// As the program calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::Controllers => "controllers",
        }
    }

    /// The file with what it says.
    pub(super) fn log(self, directory: &Path) -> PathBuf {
        directory.join(self.name()).with_extension("log")
    }
}

/// A part's process, if it runs. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    part: Part,
    program: PathBuf,
    namespace: Namespace,
    log: PathBuf,
    /// None: killed, or not started yet.
    child: Option<Child>,
}

impl Process {
    pub fn new(part: Part, program: &Path, namespace: &Namespace, directory: &Path) -> Self {
        Self {
            part,
            program: program.to_owned(),
            namespace: namespace.clone(),
            log: part.log(directory),
            child: None,
        }
    }

    /// Starts it, if it does not run.
    pub fn launch(&mut self, arguments: &[String]) -> Result<()> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| self.log.display().to_string())?;
        let mut command: Command = self.namespace.command(&self.program);
        command.arg(self.part.name()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(child_reaper::spawn(command)?);
        Ok(())
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child_reaper::end(&mut child);
        }
    }

    pub fn has_not_ended(&mut self) -> Result<()> {
        match self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            Some(status) => bail!("{} ended ({status})", self.part.name()),
            None => Ok(()),
        }
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it has said last, for people.
    pub fn story(&self) -> String {
        format!("{}:\n{}\n", self.part.name(), Log::whole(&self.log).tail())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
