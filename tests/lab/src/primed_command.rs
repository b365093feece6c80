//! A tool of iproute2 that has started already and waits for its command, so that the command's time can be told from the tool's.

use std::io::Write;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{Namespace, wait};

/// `ip` or `bridge`, waiting.
pub struct Prepared {
    tool: &'static str,
    child: Child,
    input: ChildStdin,
}

impl Prepared {
    /// Starts the tool in a namespace, and waits until it waits.
    pub fn start(namespace: &Namespace, tool: &'static str) -> Result<Self> {
        let mut child = namespace
            .command(tool)
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {tool} (iproute2 must be installed)"))?;
        let input = child.stdin.take().context("a pipe")?;
        let file = format!("/proc/{}/stat", child.id());
        let asleep = format!("({tool}) S ");
        wait::until_true(&format!("{tool} waits for its command"), || {
            Ok(std::fs::read_to_string(&file).with_context(|| file.clone())?.contains(&asleep))
        })?;
        Ok(Self { tool, child, input })
    }

    /// Gives the command. Answers when that was.
    pub fn run(mut self, command: &str) -> Result<Instant> {
        let line = format!("{command}\n");
        let given = Instant::now();
        self.input.write_all(line.as_bytes()).with_context(|| format!("{} {command}", self.tool))?;
        drop(self.input);
        let output =
            self.child.wait_with_output().with_context(|| format!("cannot wait for {}", self.tool))?;
        if !output.status.success() {
            bail!("{} {command}: {}", self.tool, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(given)
    }
}
