//! What cannot be changed so, or not on one node: it is said, and nobody loses anything.

use std::net::UdpSocket;

use anyhow::{Context, Result};
use flannel_lab::artifacts::component;
use flannel_lab::{Cluster, change};

use super::{
    HOST_GW, UDP, VXLAN, can_have, nothing_is_lost, peer, start, stays, strict, three, wait_reached_by,
    wait_said,
};

/// On the last node somebody else has the port of the new backend, for a while.
fn a_port_is_taken(from: &str, to: &str, port: u16) -> Result<()> {
    if !can_have(&[from, to])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    let (former, new) = (change::type_of(from)?, change::type_of(to)?);
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        let taken = cluster.node(2).namespace().run(|| UdpSocket::bind(("0.0.0.0", port)))?;
        let taken = taken.context("the port")?;
        change::put(cluster, to)?;
        wait_reached_by(cluster, 0, 1, &new)?;
        wait_reached_by(cluster, 1, 0, &new)?;
        wait_said(cluster, 2, |status| status["change"]["failure"].clone(), &[&port.to_string()])?;
        stays(cluster, |cluster| {
            Ok(peer(cluster, 0, 2)?["generation"] == former && peer(cluster, 2, 0)?["generation"] != new)
        })?;
        traffic.goes_on()?;
        drop(taken);
        change::wait_at_rest(cluster, to)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_node_where_the_port_of_udp_is_taken_stays_and_says_so_and_moves_when_it_is_free() -> Result<()> {
    a_port_is_taken(VXLAN, UDP, 8285)
}

#[test]
fn a_node_where_the_port_of_vxlan_is_taken_stays_and_says_so_and_moves_when_it_is_free() -> Result<()> {
    a_port_is_taken(HOST_GW, VXLAN, 8472)
}

#[test]
fn a_node_that_may_not_run_the_new_plugin_any_more_stays_and_says_so_and_moves_when_it_may() -> Result<()> {
    let ground = strict();
    let mut cluster = ground.prepare(&three(VXLAN)?)?;
    let grants = cluster.lab().directory().join("grants.toml");
    let granted = "[[grant]]\nname = \"vxlan\"\nallow = [\"links\", \"routes\", \"neighbours\", \"fdb\"]";
    std::fs::write(&grants, granted)?;
    let built_in = cluster.options().clone();
    let foreign = built_in.clone().plugin(component("vxlan-next")?);
    let foreign = foreign.arg(format!("--plugin-grants={}", grants.display()));
    for (index, options) in [built_in.clone(), built_in, foreign].into_iter().enumerate() {
        cluster.set_options(options);
        cluster.launch(index)?;
    }
    (0..3).try_for_each(|index| cluster.daemon(index)?.wait_ready().map(drop))?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::to(cluster, HOST_GW)?;
        std::fs::write(&grants, "")?;
        change::put(cluster, VXLAN)?;
        wait_reached_by(cluster, 0, 1, "vxlan")?;
        wait_said(cluster, 2, |status| status["change"]["failure"].clone(), &["granted"])?;
        stays(cluster, |cluster| Ok(peer(cluster, 0, 2)?["generation"] == "host-gw"))?;
        std::fs::write(&grants, granted)?;
        change::wait_at_rest(cluster, VXLAN).map(drop)
    })
}

/// A network config that no node can take up: all say why, and go on; what was there before is taken up again.
fn is_refused(config: &str, words: &[&str]) -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    let before = cluster.store().config()?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        cluster.store().put_config(config)?;
        for node in 0..3 {
            wait_said(cluster, node, complaint, words)?;
        }
        stays(cluster, |cluster| Ok(peer(cluster, 0, 2)?["backend_type"] == "vxlan"))?;
        cluster.store().put_config(&before)?;
        change::wait_at_rest(cluster, VXLAN)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

/// Why a network config is not taken up, or its backend does not start.
fn complaint(status: &serde_json::Value) -> serde_json::Value {
    serde_json::json!([status["config"]["refused"], status["change"]["failure"]])
}

#[test]
fn a_type_that_there_is_not_is_refused_by_all() -> Result<()> {
    is_refused(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"carrier-pigeon"}}"#, &["carrier-pigeon"])
}

#[test]
fn an_option_that_cannot_be_is_refused_by_all() -> Result<()> {
    is_refused(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":"seven"}}"#, &["VNI"])
}

#[test]
fn another_network_is_refused_and_takes_a_restart() -> Result<()> {
    is_refused(r#"{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}"#, &["Network", "restart"])
}

#[test]
fn another_length_of_subnets_is_refused_and_takes_a_restart() -> Result<()> {
    let config = r#"{"Network":"10.5.0.0/16","SubnetLen":25,"Backend":{"Type":"host-gw"}}"#;
    is_refused(config, &["SubnetLen", "restart"])
}

#[test]
fn what_is_no_network_config_is_refused_by_all() -> Result<()> {
    is_refused(r#"{"Network":"10.5.0.0/16","Backend":"#, &["JSON"])
}

#[test]
fn the_same_in_other_words_is_no_change() -> Result<()> {
    let mut cluster = start(&strict(), r#"{"Type":"vxlan","VNI":1}"#)?;
    let states = |cluster: &Cluster| (0..3).map(|index| cluster.state(index)).collect::<Result<Vec<_>>>();
    let (before, leases) = (states(&cluster)?, cluster.store().leases()?);
    nothing_is_lost(&mut cluster, |cluster, _| {
        cluster.store().put_config(
            "{ \"Backend\": { \"VNI\" : 1,\n \"type\": \"VXLAN\" },\n \"Network\": \"10.5.0.0/16\" }",
        )?;
        stays(cluster, |cluster| Ok(cluster.status(0)?["change"].is_null()))
    })?;
    assert_eq!((states(&cluster)?, cluster.store().leases()?), (before, leases));
    Ok(())
}

#[test]
fn with_a_backend_that_reaches_nobody_the_change_is_done_and_said() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    change::to(&mut cluster, r#"{"Type":"alloc"}"#)?;
    change::is_as_if_started_so(&cluster, &ground)?;
    change::to(&mut cluster, VXLAN)?;
    cluster.wait_converged()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    change::is_as_if_started_so(&cluster, &ground)
}
