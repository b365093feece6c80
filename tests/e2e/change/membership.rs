//! Nodes that come and go in the middle of a change.

use std::net::UdpSocket;

use anyhow::{Context, Result};
use flannel_lab::change::{self, Filter};
use flannel_lab::{Echo, Place, Traffic, wait};

use super::filtered::can_filter;
use super::{HOST_GW, IPSEC, VXLAN, can_have, nothing_is_lost, peer, start, strict, wait_reached_by};

/// A node joins while a pair cannot move, so that the middle lasts.
fn joins(from: &str, to: &str) -> Result<()> {
    if !can_filter()? || !can_have(&[from, to])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    let new = change::type_of(to)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        let filter = Filter::between(cluster, 0, 1, to)?;
        change::put(cluster, to)?;
        wait_reached_by(cluster, 0, 2, &new)?;
        let newcomer = cluster.add_node(Place::Near)?;
        ground.prepare_node(cluster, newcomer)?;
        cluster.launch(newcomer)?.wait_ready()?;
        cluster.wire_pod(newcomer)?;
        for other in 0..newcomer {
            wait::until_true("both know each other", || {
                Ok(!peer(cluster, newcomer, other)?.is_null() && !peer(cluster, other, newcomer)?.is_null())
            })?;
            // With small packets: pods have the MTU of the backend that their node had when they were made.
            wait::until_true("the newcomer reaches all, and is reached", || {
                let pods = [cluster.pod(newcomer)?, cluster.pod(other)?];
                Ok(pods[0].ping(&Echo::to(pods[1].ipv4()?)).is_ok()
                    && pods[1].ping(&Echo::to(pods[0].ipv4()?)).is_ok())
            })?;
        }
        let traffic = Traffic::among(cluster.pods())?;
        wait_reached_by(cluster, 0, newcomer, &new)?;
        filter.open(cluster)?;
        change::wait_at_rest(cluster, to)?;
        let report = traffic.stop()?;
        println!("with the newcomer: {report}");
        change::lost_nothing(cluster, &report)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_node_that_joins_on_the_way_to_host_gw_is_reached_and_moves_with_the_others() -> Result<()> {
    joins(VXLAN, HOST_GW)
}

#[test]
fn a_node_that_joins_on_the_way_to_vxlan_is_reached_and_moves_with_the_others() -> Result<()> {
    joins(HOST_GW, VXLAN)
}

#[test]
fn a_node_that_joins_on_the_way_to_ipsec_is_reached_and_moves_with_the_others() -> Result<()> {
    joins(VXLAN, IPSEC)
}

#[test]
fn a_node_that_joins_reaches_those_that_cannot_have_the_new_backend_by_the_former_one() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, HOST_GW)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        // On the last node somebody else has the port of the new backend.
        let taken = cluster.node(2).namespace().run(|| UdpSocket::bind("0.0.0.0:8472"))?;
        let taken = taken.context("the port")?;
        change::put(cluster, VXLAN)?;
        wait_reached_by(cluster, 0, 1, "vxlan")?;
        let newcomer = cluster.add_node(Place::Near)?;
        ground.prepare_node(cluster, newcomer)?;
        cluster.launch(newcomer)?.wait_ready()?;
        cluster.wire_pod(newcomer)?;
        let traffic = Traffic::among(cluster.pods())?;
        wait_reached_by(cluster, newcomer, 2, "host-gw")?;
        drop(taken);
        change::wait_at_rest(cluster, VXLAN)?;
        let report = traffic.stop()?;
        println!("with the newcomer: {report}");
        change::lost_nothing(cluster, &report)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_node_that_leaves_holds_nobody_up_any_more() -> Result<()> {
    if !can_filter()? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    let traffic = Traffic::start([(cluster.pod(0)?, cluster.pod(1)?), (cluster.pod(1)?, cluster.pod(0)?)])?;
    let _filter = Filter::between(&cluster, 0, 2, HOST_GW)?;
    change::put(&cluster, HOST_GW)?;
    wait_reached_by(&cluster, 0, 1, "host-gw")?;
    wait_reached_by(&cluster, 0, 2, "vxlan")?;
    cluster.leave(2)?;
    change::wait_at_rest(&mut cluster, HOST_GW)?;
    let report = traffic.stop()?;
    println!("{report}");
    change::lost_nothing(&cluster, &report)?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_node_whose_daemon_is_away_holds_up_the_end_and_is_named_and_loses_nothing() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        cluster.take_daemon(2)?.kill9();
        change::put(cluster, HOST_GW)?;
        wait_reached_by(cluster, 0, 1, "host-gw")?;
        let subnet = cluster.subnets(2)?.remove(0);
        super::wait_said(cluster, 0, |status| status["change"]["waits_for"].clone(), &[&subnet])?;
        super::stays(cluster, |cluster| Ok(peer(cluster, 0, 2)?["generation"] == "vxlan"))?;
        cluster.launch(2)?.wait_ready()?;
        change::wait_at_rest(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

/// A node gets another address in the middle of a change.
fn takes_another_address(from: &str, to: &str) -> Result<()> {
    if !can_filter()? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    let new = change::type_of(to)?;
    let between = [(cluster.pod(0)?, cluster.pod(1)?), (cluster.pod(1)?, cluster.pod(0)?)];
    // What is on its way to the address of before is lost, and nothing between the others.
    let traffic = Traffic::start(between)?;
    let filter = Filter::between(&cluster, 0, 1, to)?;
    change::put(&cluster, to)?;
    wait_reached_by(&cluster, 0, 2, &new)?;
    let node = cluster.node(2);
    node.ip("address del 192.168.77.13/24 dev eth0")?;
    node.ip("address add 192.168.77.77/24 dev eth0")?;
    node.ip("route replace default via 192.168.77.1")?;
    wait::until_true("its lease has the new address, and both backends", || {
        let lease = cluster.lease(2)?.value;
        Ok(lease.contains("192.168.77.77") && lease.contains(change::GENERATIONS))
    })?;
    for other in 0..2 {
        wait_reached_by(&cluster, other, 2, &new)?;
        wait_reached_by(&cluster, 2, other, &new)?;
        wait::until_true("its pod is reached", || Ok(cluster.pod(other)?.reaches(cluster.pod(2)?).is_ok()))?;
    }
    filter.open(&cluster)?;
    change::wait_at_rest(&mut cluster, to)?;
    for other in 0..2 {
        cluster.pod(other)?.reaches(cluster.pod(2)?)?;
    }
    let report = traffic.stop()?;
    println!("{report}");
    change::lost_nothing(&cluster, &report)
}

#[test]
fn a_node_may_take_another_address_on_the_way_to_host_gw() -> Result<()> {
    takes_another_address(VXLAN, HOST_GW)
}

#[test]
fn a_node_may_take_another_address_on_the_way_to_vxlan() -> Result<()> {
    takes_another_address(HOST_GW, VXLAN)
}
