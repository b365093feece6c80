//! A daemon in a container: what it says, and how it ends.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::log::Log;
use crate::{child_reaper, wait};

/// A daemon. It is killed when this is dropped.
#[derive(Debug)]
pub struct Contained {
    name: String,
    log: Log,
    child: Child,
}

impl Contained {
    /// Starts it, with a file for what it says. The name is for messages.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| log.display().to_string())?;
        let log = Log::from_now(log);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { name: name.to_owned(), log, child: child_reaper::spawn(command)? })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Refuses one that has ended.
    pub fn runs(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        bail!("{}: it ended ({status}), and said last:\n{}", self.name, self.log.tail())
    }

    /// Asks it to end, as the kubelet does, and waits until it has. Answers how it ended.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("SIGTERM")?;
        let ended = wait::until(&format!("{} ends", self.name), || Ok(self.child.try_wait()?));
        ended.map(|(status, _)| status).with_context(|| self.log.tail())
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}
