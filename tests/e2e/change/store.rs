//! The store in a change: away, asked as little as can be, and of either kind.

use std::time::Duration;

use anyhow::{Result, ensure};
use flannel_lab::change::{self, Moment};
use flannel_lab::{Cluster, ClusterOptions};

use super::{HOST_GW, VXLAN, nothing_is_lost, strict, three};

/// How long it is away.
const AWAY: Duration = Duration::from_secs(3);

fn with_etcd(backend: &str) -> Result<Cluster> {
    strict().start(&ClusterOptions { etcd: true, ..three(backend)? })
}

/// etcd is killed when a node has come so far, and started again.
fn away_at(moment: Moment, from: &str, to: &str) -> Result<()> {
    let mut cluster = with_etcd(from)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        change::put(cluster, to)?;
        moment.wait(cluster, 0)?;
        cluster.etcd()?.kill(0);
        std::thread::sleep(AWAY);
        traffic.goes_on()?;
        cluster.etcd()?.restart(0)?;
        change::wait_at_rest(cluster, to)
    })?;
    change::is_as_if_started_so(&cluster, &strict())
}

#[test]
fn the_store_may_be_away_when_the_change_has_just_been_written() -> Result<()> {
    away_at(Moment::Written, VXLAN, HOST_GW)
}

#[test]
fn the_store_may_be_away_while_nodes_publish() -> Result<()> {
    away_at(Moment::Published, HOST_GW, VXLAN)
}

#[test]
fn the_store_may_be_away_while_peers_move() -> Result<()> {
    away_at(Moment::Moving, VXLAN, HOST_GW)
}

#[test]
fn the_store_may_be_away_when_the_new_backend_is_the_main_one() -> Result<()> {
    away_at(Moment::Main, HOST_GW, VXLAN)
}

#[test]
fn the_store_may_be_away_while_the_former_backend_is_given_up() -> Result<()> {
    away_at(Moment::Retiring, VXLAN, HOST_GW)
}

#[test]
fn the_store_may_be_away_when_a_node_has_said_that_the_former_backend_goes() -> Result<()> {
    away_at(Moment::Told, VXLAN, HOST_GW)
}

#[test]
fn the_store_may_be_away_and_a_daemon_killed_at_once() -> Result<()> {
    let mut cluster = with_etcd(VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        change::put(cluster, HOST_GW)?;
        Moment::Moving.wait(cluster, 0)?;
        cluster.etcd()?.kill(0);
        cluster.take_daemon(0)?.kill9();
        std::thread::sleep(AWAY / 3);
        traffic.goes_on()?;
        cluster.launch(0)?;
        std::thread::sleep(AWAY / 3);
        cluster.etcd()?.restart(0)?;
        cluster.daemon(0)?.wait_ready()?;
        change::wait_at_rest(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &strict())
}

#[test]
fn a_change_costs_the_store_at_most_four_writes_of_each_node() -> Result<()> {
    let mut cluster = with_etcd(VXLAN)?;
    let before = cluster.etcd()?.revision()?;
    change::to(&mut cluster, HOST_GW)?;
    let writes = cluster.etcd()?.revision()? - before;
    // The network config itself is one.
    ensure!(writes <= 1 + 3 * 4, "{writes} writes: {}", change::describe(&cluster));
    Ok(())
}
