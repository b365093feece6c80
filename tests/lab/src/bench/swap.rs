//! A swap of the plugin with many leases, from the command to its answer.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::scale::Feed;
use crate::artifacts::{component, plugin};
use crate::crowd::CONFIG;
use crate::{Cluster, ClusterOptions};

/// Swaps of each kind.
const SWAPS: usize = 20;

/// What came of it. Times in milliseconds, in the daemon, from the request to the end; medians, and the longest.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Swap {
    /// How many leases.
    pub leases: u32,
    /// Between two builds of the same policy.
    pub same_ms: (f64, f64),
    /// Netlink messages of the last of these.
    pub same_messages: u64,
    /// Between tunnelled and direct routes: all entries change.
    pub other_ms: (f64, f64),
    /// Netlink messages of the last of these.
    pub other_messages: u64,
}

/// Measures. The first swap to each build, which compiles it, does not count.
pub fn swap(leases: u32) -> Result<Swap> {
    let options = ClusterOptions {
        nodes: 1,
        config: CONFIG.to_owned(),
        plugin: Some(plugin("vxlan")?),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(&options)?;
    // Its first start makes the store's directories.
    cluster.launch(0)?.wait_ready()?;
    cluster.take_daemon(0)?.kill9();
    Feed::open(cluster.store(), cluster.lab())?.put_all(leases)?;
    cluster.launch(0)?.wait_ready()?;
    // The peers are to be on the link, for direct routes to them to be possible.
    let here = cluster.node(0);
    here.ip("route add 172.16.0.0/12 dev eth0")?;
    let [first, same, other] = [plugin("vxlan")?, component("vxlan-next")?, component("vxlan-direct")?];
    for warm in [&same, &other, &first] {
        cluster.swap(0, warm)?;
    }
    let measure = |second| -> Result<((f64, f64), u64)> {
        let (mut times, mut messages) = (Vec::new(), 0);
        for round in 0..SWAPS {
            let swapped = cluster.swap(0, if round % 2 == 0 { second } else { &first })?;
            let us = u32::try_from(swapped["took_us"].as_u64().context("took_us")?)?;
            times.push(f64::from(us) / 1000.0);
            messages = swapped["messages"].as_u64().context("messages")?;
        }
        times.sort_by(f64::total_cmp);
        Ok(((times[SWAPS / 2], times[SWAPS - 1]), messages))
    };
    let (same_ms, same_messages) = measure(&same)?;
    let (other_ms, other_messages) = measure(&other)?;
    ensure!(other_messages > u64::from(leases), "only {other_messages} messages for another policy");
    Ok(Swap { leases, same_ms, same_messages, other_ms, other_messages })
}
