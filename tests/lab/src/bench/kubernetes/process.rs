//! What a daemon costs, whoever wrote it.

use anyhow::{Context, Result};

use super::super::scale::cpu_ms;
use crate::Node;

/// Bytes that have come in to a node, with all headers: nobody but the API server sends it any.
pub fn received(node: &Node) -> Result<u64> {
    let text = node.namespace().run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).context("eth0")?;
    Ok(line.split_whitespace().next().context("bytes")?.parse()?)
}

/// The most that was ever resident of a process, in KiB.
pub fn peak_kib(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&file).with_context(|| file.clone())?;
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context(file)?;
    Ok(peak.trim().trim_end_matches(" kB").parse()?)
}

/// CPU time in milliseconds, and bytes received, until now.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub cpu_ms: u64,
    pub bytes: u64,
}

impl Cost {
    /// Of a daemon on a node.
    pub fn now(node: &Node, pid: u32) -> Result<Self> {
        Ok(Self { cpu_ms: cpu_ms(pid)?, bytes: received(node)? })
    }

    /// Since an earlier moment.
    pub fn since(self, before: Self) -> Self {
        Self { cpu_ms: self.cpu_ms - before.cpu_ms, bytes: self.bytes - before.bytes }
    }
}
