//! What others do to the cluster: nodes are made, and their kubelets say that they live.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::object::{Object, heartbeat};
use crate::control_plane::Client;
use crate::control_plane::client::Patch;

/// How many connections make nodes.
const CONNECTIONS: u32 = 8;

/// Makes the nodes from one number up to another.
pub fn create(admin: &Client, from: u32, to: u32) -> Result<()> {
    let create = |first: u32| -> Result<()> {
        let mut connection = admin.keep()?;
        (from + first..to)
            .step_by(CONNECTIONS as usize)
            .try_for_each(|number| connection.post("/api/v1/nodes", &Object::new(number, 0).whole()))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS).map(|first| scope.spawn(move || create(first))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread that makes nodes panicked"))?
        })
    })
    .context("cannot make the nodes")
}

/// So many heartbeats a second, each another node's in turn, for a time. Their times begin with a minute of this number: what a node has
/// said already is no change. Answers how many there were.
pub fn heartbeats(admin: &Client, nodes: u32, per_second: u32, time: Duration, minute: u32) -> Result<u32> {
    let mut connection = admin.keep()?;
    let begin = Instant::now();
    let mut sent = 0;
    loop {
        let due = Duration::from_secs(sent.into()) / per_second;
        if due >= time {
            return Ok(sent);
        }
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let node = Object::new(sent % nodes, 0);
        let path = format!("{}/status", node.path());
        connection.patch(&path, Patch::StrategicMerge, &heartbeat(minute + sent / nodes))?;
        sent += 1;
    }
}
