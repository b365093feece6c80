//! What the API server pays for many watches of all nodes: none, such as upstream's daemons have, and such as ours have.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;

use super::super::scale::cpu_ms;
use super::{KubernetesOptions, load};
use crate::Cluster;
use crate::control_plane::client::Watch;

/// How many there are.
const WATCHES: usize = 100;
/// What ours ask for.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The minutes that heartbeats begin with: later than all before, each kind's later than those of the one before.
const LATER: [u32; 4] = [1440, 2880, 4320, 5760];
/// What was before is over for the server after so many seconds of heartbeats.
const WARM: Duration = Duration::from_secs(10);

/// The API server's CPU time with heartbeats, in milliseconds a second.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Server {
    /// How many watches there were.
    pub watches: usize,
    /// With nobody who watches.
    pub alone: f64,
    /// With watches of whole nodes.
    pub whole: f64,
    /// With watches of their metadata.
    pub metadata: f64,
}

impl Server {
    /// Measures. No daemon runs meanwhile.
    pub fn measure(cluster: &Cluster, options: &KubernetesOptions) -> Result<Self> {
        let admin = cluster.store().as_kube()?.admin();
        load::heartbeats(&admin, options.nodes, options.heartbeats, WARM, LATER[0])?;
        Ok(Self {
            watches: WATCHES,
            alone: cpu(cluster, options, None, LATER[1])?,
            whole: cpu(cluster, options, Some("application/json"), LATER[2])?,
            metadata: cpu(cluster, options, Some(METADATA), LATER[3])?,
        })
    }
}

fn cpu(cluster: &Cluster, options: &KubernetesOptions, accept: Option<&str>, minute: u32) -> Result<f64> {
    let store = cluster.store().as_kube()?;
    let pid = store.plane.api_server_pid().context("the API server does not run")?;
    let admin = store.admin();
    let list = admin.get("/api/v1/nodes?limit=1")?.object()?;
    let version = list["metadata"]["resourceVersion"].as_str().context("the list's version")?.to_owned();
    let path = format!("/api/v1/nodes?watch=1&resourceVersion={version}");
    let watches = (0..accept.map_or(0, |_| WATCHES))
        .map(|_| admin.accepting(accept.unwrap_or_default()).watch(&path))
        .collect::<Result<Vec<_>>>()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = watches.into_iter().map(|watch| scope.spawn(|| read(watch, &over))).collect();
        let (before, begin) = (cpu_ms(pid)?, Instant::now());
        load::heartbeats(&admin, options.nodes, options.heartbeats, options.time, minute)?;
        let cost = Duration::from_millis(cpu_ms(pid)? - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        over.store(true, Ordering::Relaxed);
        // Something for those who still wait.
        load::heartbeats(&admin, options.nodes, options.heartbeats, Duration::from_secs(1), minute + 1)?;
        for reader in readers {
            let bytes = reader.join().map_err(|_| anyhow!("a thread that watches panicked"))??;
            ensure!(bytes > 0, "a watch has told nothing");
        }
        Ok(cost * 1e3)
    })
}

/// Answers how many bytes there were.
fn read(mut watch: Watch, over: &AtomicBool) -> Result<usize> {
    let mut all = 0;
    while !over.load(Ordering::Relaxed) {
        let bytes = watch.pass_over()?;
        ensure!(bytes > 0, "the API server has ended a watch");
        all += bytes;
    }
    Ok(all)
}
