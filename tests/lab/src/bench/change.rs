//! A change of the backend, from vxlan to host-gw: how long until the last peer is reached by the new one, and until the former is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::ms;
use crate::change::{self, wait_at_rest};
use crate::crowd::{CONFIG, Crowd, Phase};
use crate::reference::Reference;
use crate::{Cluster, ClusterOptions, Traffic, wait};

/// What the cluster changes to.
const TO: &str = r#"{"Type":"host-gw"}"#;

/// How often daemons are asked how far they are.
const LOOK: Duration = Duration::from_millis(50);

/// What came of it. Times in milliseconds, from the moment when the network config is written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Change {
    /// How many leases.
    pub leases: u32,
    /// How many daemons; the other leases are of nodes that answer, and do nothing else.
    pub daemons: usize,
    /// Until the last daemon reaches its last peer by the new backend.
    pub moved_ms: f64,
    /// Until nothing is there of the former one.
    pub over_ms: f64,
    /// Echo requests of the first daemon.
    pub probes: u64,
    /// CPU time of the first daemon meanwhile.
    pub cpu_ms: u64,
    /// Of 1,000 datagrams a second from each pod to each other, how many were lost; none: there are no pods.
    pub lost: Option<(u64, u64)>,
}

/// A cluster of daemons alone.
pub fn of_daemons(nodes: usize) -> Result<Change> {
    let mut cluster =
        Cluster::start(&ClusterOptions { nodes, config: CONFIG.to_owned(), ..ClusterOptions::default() })?;
    let traffic = Traffic::among(cluster.pods())?;
    let change = measure(&mut cluster, None, u32::try_from(nodes)?)?;
    let report = traffic.stop()?;
    Ok(Change { lost: Some((report.lost(), report.sent())), ..change })
}

/// A cluster of as many of upstream's daemons, which are all restarted at once for the change, as upstream needs it.
pub fn of_reference(program: &Path, nodes: usize) -> Result<Change> {
    // With iptables upstream does not start without the module br_netfilter.
    let config = CONFIG.replacen('{', r#"{"EnableNFTables":true,"#, 1);
    let mut cluster =
        Cluster::prepare(&ClusterOptions { nodes, config, etcd: true, ..ClusterOptions::default() })?;
    let start = |cluster: &Cluster| -> Result<Vec<Reference>> {
        let started =
            cluster.lab().nodes().iter().map(|node| Reference::start(program, node, cluster.store()));
        let mut daemons: Vec<Reference> = started.collect::<Result<_>>()?;
        daemons.iter_mut().try_for_each(Reference::wait_ready)?;
        Ok(daemons)
    };
    let daemons = start(&cluster)?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    let traffic = Traffic::among(cluster.pods())?;
    let begin = Instant::now();
    change::put(&cluster, TO)?;
    daemons.into_iter().try_for_each(Reference::terminate)?;
    let _daemons = start(&cluster)?;
    traffic.goes_on()?;
    let moved = begin.elapsed();
    let report = traffic.stop()?;
    let lost = Some((report.lost(), report.sent()));
    Ok(Change {
        leases: u32::try_from(nodes)?,
        daemons: nodes,
        moved_ms: ms(moved),
        lost,
        ..Change::default()
    })
}

/// One daemon among so many leases.
pub fn of_leases(leases: u32) -> Result<Change> {
    let options = ClusterOptions { nodes: 1, config: CONFIG.to_owned(), ..ClusterOptions::default() };
    let mut cluster = Cluster::prepare(&options)?;
    let crowd = Crowd::join(&cluster, leases - 1)?;
    cluster.start_all()?;
    crowd.answer(&cluster)?;
    crowd.publish(&cluster, Phase::Before)?;
    measure(&mut cluster, Some(&crowd), leases)
}

fn measure(cluster: &mut Cluster, crowd: Option<&Crowd>, leases: u32) -> Result<Change> {
    let daemons = change::running(cluster);
    let others = u64::from(leases) - 1;
    wait_for(cluster, &daemons, "all peers are served", |status| {
        status["peers"].as_array().is_some_and(|peers| peers.len() as u64 == others)
    })?;
    let first = cluster.daemon(0)?.pid();
    let (probes, cpu) = (echo_requests(cluster)?, super::scale::cpu_ms(first)?);
    let begin = Instant::now();
    change::put(cluster, TO)?;
    if let Some(crowd) = crowd {
        crowd.publish(cluster, Phase::Begun)?;
    }
    let to = change::canonical(TO)?;
    wait_for(cluster, &daemons, "all peers have moved", |status| {
        let change = &status["change"];
        change["moved"] == others || (change.is_null() && status["config"]["backend"] == to.as_str())
    })?;
    let moved = begin.elapsed();
    if let Some(crowd) = crowd {
        crowd.publish(cluster, Phase::Moved)?;
        wait_for(cluster, &daemons, "the end begins", |status| status["change"]["phase"] == "retiring")?;
        crowd.publish(cluster, Phase::After)?;
    }
    wait_at_rest(cluster, TO)?;
    let over = begin.elapsed();
    ensure!(cluster.daemon(0)?.pid() == first, "the daemon is another one");
    Ok(Change {
        leases,
        daemons: daemons.len(),
        moved_ms: ms(moved),
        over_ms: ms(over),
        probes: echo_requests(cluster)? - probes,
        cpu_ms: super::scale::cpu_ms(first)? - cpu,
        lost: None,
    })
}

fn wait_for(
    cluster: &Cluster,
    daemons: &[usize],
    what: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> Result<Duration> {
    wait::until_true(what, || {
        for index in daemons {
            if !is_so(&cluster.status(*index)?) {
                // To answer costs a daemon more than to change.
                std::thread::sleep(LOOK);
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Echo requests that the first node has sent, over IPv4.
pub fn echo_requests(cluster: &Cluster) -> Result<u64> {
    let text =
        cluster.node(0).namespace().run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, numbers) = (lines.next().context("names")?, lines.next().context("numbers")?);
    let at = names.split_whitespace().position(|name| name == "OutEchos").context("OutEchos")?;
    Ok(numbers.split_whitespace().nth(at).context("as many numbers")?.parse()?)
}
