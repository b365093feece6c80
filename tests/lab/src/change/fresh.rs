//! Is what nodes have after a change what they have that were started so from the beginning?

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Ground, describe, running};
use crate::snapshot::Snapshot;
use crate::store::StoredLease;
use crate::{Cluster, ClusterOptions, wait};

/// Longer than anything takes that goes by itself.
const SETTLING: Duration = Duration::from_secs(15);
/// How long is waited until both are looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// Starts another cluster with the network config and the subnets that this one has now, and compares: devices, addresses, routes of all
/// tables, rules, nexthop objects, sysctls, firewall rules, subnet files, leases, and what the daemons say. What goes by itself is waited
/// for.
pub fn is_as_if_started_so(cluster: &Cluster, ground: &Ground) -> Result<()> {
    let fresh = started_so(cluster, ground)?;
    let begin = Instant::now();
    while let Some(difference) = difference(cluster, &fresh, ground)? {
        ensure!(begin.elapsed() < wait::scaled(SETTLING), "{difference}\n{}", describe(cluster));
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// What differs, without waiting; none: nothing.
pub fn difference_to_one_started_so(cluster: &Cluster, ground: &Ground) -> Result<Option<String>> {
    difference(cluster, &started_so(cluster, ground)?, ground)
}

fn started_so(cluster: &Cluster, ground: &Ground) -> Result<Cluster> {
    let (nodes, config) = (cluster.lab().nodes().len(), cluster.store().config()?);
    let options = ClusterOptions { nodes, backend: cluster.backend(), config, ..ClusterOptions::default() };
    let mut fresh = ground.prepare(&options)?;
    // Each node takes the subnet that it has in the other cluster.
    cluster.store().leases()?.iter().try_for_each(|lease| fresh.store().put(lease))?;
    let nodes = running(cluster);
    for index in &nodes {
        fresh.launch(*index)?;
    }
    for index in &nodes {
        fresh.daemon(*index)?.wait_ready()?;
    }
    fresh.wait_converged()?;
    for index in nodes {
        fresh.wire_pod(index)?;
    }
    Ok(fresh)
}

fn difference(cluster: &Cluster, fresh: &Cluster, ground: &Ground) -> Result<Option<String>> {
    let (ours, theirs) = (Names::of(cluster)?, Names::of(fresh)?);
    let (is, should) = (ours.leases(cluster)?, theirs.leases(fresh)?);
    if is != should {
        return Ok(Some(format!("leases: {is:#?}\nand, started so: {should:#?}")));
    }
    for index in running(cluster) {
        let is = Snapshot::take(cluster, index, ground.firewall)?.renamed(&ours.0);
        let should = Snapshot::take(fresh, index, ground.firewall)?.renamed(&theirs.0);
        if let Some(difference) = should.difference(&is) {
            let explained =
                "`-` is there where it was started so, and is missing; `+` is there, and should not be";
            return Ok(Some(format!("{}, {explained}:\n{difference}", cluster.node(index).name())));
        }
    }
    Ok(None)
}

/// What each node has by chance: Ethernet addresses and keys, with words in their place.
struct Names(Vec<(String, String)>);

impl Names {
    fn of(cluster: &Cluster) -> Result<Self> {
        let mut names = Vec::new();
        for lease in cluster.store().leases()? {
            let value: Value = serde_json::from_str(&lease.value).with_context(|| lease.key.clone())?;
            for data in ["BackendData", "BackendV6Data"] {
                for chance in ["VtepMAC", "PublicKey"] {
                    let name = value[data][chance].as_str().filter(|name| !name.is_empty());
                    names.extend(
                        name.map(|name| (name.to_owned(), format!("({chance} in {data} of {})", lease.key))),
                    );
                }
            }
        }
        Ok(Self(names))
    }

    fn leases(&self, cluster: &Cluster) -> Result<Vec<StoredLease>> {
        let renamed = |lease: StoredLease| {
            let value = self.0.iter().fold(lease.value, |value, (name, other)| value.replace(name, other));
            StoredLease { value, ..lease }
        };
        Ok(cluster.store().leases()?.into_iter().map(renamed).collect())
    }
}
