//! The console: boto3 in a process that lives as long as the cloud, with moto in it (`tests/python/clouds/aws.py`).

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Lab, artifacts, child_reaper, cloud::python};

/// What is there from the beginning.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Site {
    /// Where moto listens, at 127.0.0.1 of the switch.
    pub(super) port: u16,
    pub(super) region: String,
    pub(super) zone: String,
    pub(super) account: String,
    pub(super) vpc: String,
    pub(super) subnet: String,
    /// The main route table of the VPC.
    pub(super) table: String,
}

/// The process. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct Console {
    child: Child,
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Console {
    /// Starts it. None: Python's libraries cannot be had on this machine.
    pub(super) fn start(lab: &Lab) -> Result<Option<(Self, Site)>> {
        let Some(interpreter) = python::interpreter()? else { return Ok(None) };
        let log = lab.directory().join("moto.log");
        let mut command = lab.switch().namespace().command(interpreter);
        command.arg(artifacts::workspace().join("tests/python/clouds/aws.py"));
        // Nothing that the machine has for the real cloud is to come in.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.env("HOME", lab.directory()).env("NO_PROXY", "*");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).context("moto's log")?);
        let mut child = child_reaper::spawn(command)?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let console = Self { child, pipes: Mutex::new(Pipes { input, output }) };
        let begun = console.pipes.lock().unwrap_or_else(PoisonError::into_inner).line();
        let site = begun.and_then(|line| serde_json::from_str(&line).context("no JSON"));
        let site = site.with_context(|| std::fs::read_to_string(log).unwrap_or_default())?;
        Ok(Some((console, site)))
    }

    /// A call by boto3's names. Answers what came of it, also if it was refused.
    pub(super) fn call(&self, name: &str, parameters: &Value) -> Result<Value> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.input, "{}", json!([name, parameters]))?;
        let line = pipes.line()?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))
    }

    /// A call that has to go well.
    pub(super) fn answer(&self, name: &str, parameters: &Value) -> Result<Value> {
        let mut came = self.call(name, parameters)?;
        ensure!(came["answer"].is_object(), "{name} {parameters}: {came}");
        Ok(came["answer"].take())
    }
}

impl Pipes {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the process of moto and boto3 has ended");
        Ok(line)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        child_reaper::end(&mut self.child);
    }
}
