//! Daemons come and go; the packets do not notice.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::cluster::DUAL_STACK;
use flannel_lab::netlink_monitor::Watcher;
use flannel_lab::{Backend, Cluster, ClusterOptions, Pings};

/// Long enough for many packets, and for whatever comes a little later.
const WHILE: Duration = Duration::from_secs(1);

fn cluster() -> Result<Cluster> {
    Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })
}

/// A ping of each family from the first node's pod to the second's.
fn pings(cluster: &Cluster) -> Result<Pings> {
    Pings::start(cluster.pod(0)?, cluster.pod(1)?)
}

#[test]
fn daemons_that_are_killed_and_come_back_lose_no_packet() -> Result<()> {
    let mut cluster = cluster()?;
    let pings = pings(&cluster)?;
    for index in 0..2 {
        cluster.take_daemon(index)?.kill9();
    }
    std::thread::sleep(WHILE);
    cluster.start_all()?;
    std::thread::sleep(WHILE);
    pings.lost_nothing()
}

#[test]
fn restarting_all_daemons_with_nothing_changed_sends_no_modifying_netlink_message() -> Result<()> {
    let mut cluster = cluster()?;
    let pings = pings(&cluster)?;
    let before = [cluster.state(0)?, cluster.state(1)?];
    let watchers = [Watcher::start(cluster.node(0))?, Watcher::start(cluster.node(1))?];
    for index in 0..2 {
        cluster.take_daemon(index)?.kill9();
    }
    let ready = cluster.start_all()?;
    std::thread::sleep(WHILE);
    for (index, ready) in ready.iter().enumerate() {
        assert_eq!(ready.line.number("netlink_messages"), Some(0), "{}", ready.line.raw());
        let changes = watchers[index].ours()?;
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert!(told.is_empty(), "node {index}:\n{}", told.join("\n"));
        assert_eq!(before[index].difference(&cluster.state(index)?), None);
    }
    pings.lost_nothing()
}

#[test]
fn sigterm_ends_the_daemon_with_status_0_and_leaves_forwarding_in_place() -> Result<()> {
    let mut cluster = cluster()?;
    let pings = pings(&cluster)?;
    let (state, lease) = (cluster.state(0)?, cluster.lease(0)?);
    let status = cluster.take_daemon(0)?.terminate()?;
    assert!(status.success(), "{status}");
    std::thread::sleep(WHILE);
    assert_eq!(state.difference(&cluster.state(0)?), None);
    assert_eq!(cluster.lease(0)?, lease);
    cluster.node(0).subnet_env()?.context("the subnet file stays")?;
    pings.lost_nothing()
}

#[test]
fn a_node_that_was_away_catches_up_with_what_changed_meanwhile() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions { nodes: 3, ..ClusterOptions::default() })?;
    cluster.take_daemon(0)?.kill9();
    let gone = cluster.leave(2)?;
    cluster.launch(0)?.wait_ready()?;
    cluster.wait_converged()?;
    let state = cluster.state(0)?;
    for vtep in gone.vteps()? {
        assert!(!state.mentions(&vtep.address) && !state.mentions(&vtep.mac), "{state}");
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_start_tells_the_policy_of_each_peer_once() -> Result<()> {
    for backend in [Backend::Vxlan, Backend::HostGw] {
        let mut cluster = Cluster::start(&ClusterOptions::of(backend, true))?;
        cluster.kill_and_restart(0)?;
        // Longer than changes of the surroundings are waited for.
        std::thread::sleep(Duration::from_secs(2));
        let lines = cluster.daemon(0)?.log().lines();
        let applied = lines.iter().filter(|line| line.message() == "leases applied").count();
        assert_eq!(applied, 1, "{}", backend.name());
    }
    Ok(())
}
