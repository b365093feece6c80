//! Which way packets go, and that it is another one as long as the first does not get through.

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::{Cluster, ClusterOptions, Pings, wait};

use super::{
    ALLOW, BOTH, BOTH_FAMILIES, Blocked, Family, IPV4, PLAIN, TUNNEL, all_answer, lost, metric, prepare,
    prepare_with, probes, start, wait_probes, wait_ways,
};

/// Packets of other pairs of pods.
fn others(cluster: &Cluster) -> Result<Pings> {
    let (first, second, third) = (cluster.pod(0)?, cluster.pod(1)?, cluster.pod(2)?);
    Pings::among([(first, third), (third, second)], flannel_lab::ping_probe::INTERVAL)
}

#[test]
fn packets_take_the_tunnel_when_the_plain_way_is_lost_and_come_back_and_other_pairs_notice_nothing()
-> Result<()> {
    let cluster = start(3, BOTH, "inner=yes")?;
    wait_ways(&cluster, 0, 1, PLAIN)?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let others = others(&cluster)?;
    pings.wait_answered()?;
    others.wait_answered()?;
    let blocked = Blocked::between(&cluster, 0, 1, BOTH_FAMILIES)?;
    wait_ways(&cluster, 0, 1, TUNNEL)?;
    wait_ways(&cluster, 1, 0, TUNNEL)?;
    pings.flow()?;
    let mark = pings.mark();
    // The plain way alone is lost: what probes the way in use is answered by the tunnel.
    wait_probes(&cluster, 0, "the plain way to one peer is lost, in two families", |probes| {
        lost(probes) == Some(2) && probes["answered"] == 6
    })?;
    let named = probes(&cluster, 0)?["lost_targets"].to_string();
    let peer = cluster.node(1);
    let address_v6 = peer.address_v6().context("no address")?;
    for address in [peer.address().to_string(), address_v6.to_string()] {
        ensure!(named.contains(&format!("{address} over eth0")), "{named}");
    }
    let targets = |condition: &str| {
        metric(&cluster, 0, &format!("flanneld_probe_targets{{condition=\"{condition}\"}}"))
    };
    // On a busy machine an answer may come late, and its target be lost for a moment.
    wait::until_equal("the figures say so, too", || {
        let (lost, answered) = (targets("lost")?, targets("answered")?);
        Ok(((lost, answered) != (Some(2.0), Some(6.0))).then(|| format!("{lost:?} {answered:?}")))
    })?;
    let (sent, answered) = (
        metric(&cluster, 0, "flanneld_probe_requests_total")?,
        metric(&cluster, 0, "flanneld_probe_answers_total")?,
    );
    ensure!(answered > Some(0.0) && sent > answered, "{sent:?} {answered:?}");
    wait_ways(&cluster, 0, 2, PLAIN)?;
    blocked.open(&cluster)?;
    wait_ways(&cluster, 0, 1, PLAIN)?;
    wait_ways(&cluster, 1, 0, PLAIN)?;
    pings.flow()?;
    wait_probes(&cluster, 0, "all answer", all_answer)?;
    // From the tunnel back it went without a packet lost.
    let back = pings.since(&mark)?;
    ensure!(back.lost == 0, "{back:?}");
    others.lost_nothing()
}

#[test]
fn one_family_may_be_lost_and_the_other_stays_where_it_is() -> Result<()> {
    let cluster = start(2, BOTH, "")?;
    for (family, devices) in [(Family::V4, ["flannel.1", "eth0"]), (Family::V6, ["eth0", "flannel-v6.1"])] {
        let blocked = Blocked::between(&cluster, 0, 1, &[family])?;
        wait_ways(&cluster, 0, 1, &devices)?;
        wait_ways(&cluster, 1, 0, &devices)?;
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
        blocked.open(&cluster)?;
        wait_ways(&cluster, 0, 1, PLAIN)?;
        wait_ways(&cluster, 1, 0, PLAIN)?;
    }
    Ok(())
}

#[test]
fn a_way_that_loses_large_packets_alone_is_seen_with_large_requests() -> Result<()> {
    let cluster = start(2, IPV4, "size=1500")?;
    wait_ways(&cluster, 0, 1, &["eth0"])?;
    let blocked = Blocked::with(&cluster, 0, 1, |node, _| {
        Ok(vec![format!("ip saddr {} meta l4proto icmp meta length gt 1400", node.address())])
    })?;
    wait_ways(&cluster, 0, 1, &["flannel.1"])?;
    blocked.open(&cluster)?;
    wait_ways(&cluster, 0, 1, &["eth0"])?;
    // Small requests see nothing of that.
    let cluster = start(2, IPV4, "")?;
    let _blocked = Blocked::with(&cluster, 0, 1, |node, _| {
        Ok(vec![format!("ip saddr {} meta l4proto icmp meta length gt 1400", node.address())])
    })?;
    let answers = || metric(&cluster, 0, "flanneld_probe_answers_total");
    let before = answers()?;
    wait::until_true("it is probed on", || Ok(answers()? > before.map(|count| count + 5.0)))?;
    ensure!(all_answer(&probes(&cluster, 0)?), "{}", probes(&cluster, 0)?);
    Ok(())
}

#[test]
fn a_restart_while_a_way_is_lost_loses_no_packet_and_the_way_back_is_found() -> Result<()> {
    let mut cluster = start(2, BOTH, "")?;
    let blocked = Blocked::between(&cluster, 0, 1, BOTH_FAMILIES)?;
    wait_ways(&cluster, 0, 1, TUNNEL)?;
    wait_ways(&cluster, 1, 0, TUNNEL)?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    cluster.take_daemon(0)?.kill9();
    let ready = cluster.launch(0)?.wait_ready()?;
    ensure!(ready.line.number("netlink_messages") == Some(0), "{}", ready.line.raw());
    wait_probes(&cluster, 0, "it is lost still", |probes| lost(probes) == Some(2))?;
    wait_ways(&cluster, 0, 1, TUNNEL)?;
    blocked.open(&cluster)?;
    wait_ways(&cluster, 0, 1, PLAIN)?;
    wait_ways(&cluster, 1, 0, PLAIN)?;
    pings.flow()?;
    pings.lost_nothing()
}

#[test]
fn a_plugin_in_its_own_place_goes_on_with_what_is_known() -> Result<()> {
    let cluster = start(2, BOTH, "")?;
    let blocked = Blocked::between(&cluster, 0, 1, BOTH_FAMILIES)?;
    wait_ways(&cluster, 0, 1, TUNNEL)?;
    wait_ways(&cluster, 1, 0, TUNNEL)?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    let swapped = cluster.swap(0, &component("failover")?)?;
    ensure!(swapped["messages"] == 0, "{swapped}");
    let now = probes(&cluster, 0)?;
    ensure!(lost(&now) == Some(2) && now["untested"] == 0, "{now}");
    pings.lost_nothing()?;
    blocked.open(&cluster)?;
    wait_ways(&cluster, 0, 1, PLAIN)?;
    wait_probes(&cluster, 0, "all answer", all_answer)
}

#[test]
fn a_policy_that_traps_in_every_other_tick_finds_what_is_known_and_moves_all_the_same() -> Result<()> {
    let mut cluster = prepare(3, BOTH, "trap=2")?;
    cluster.bring_up()?;
    for node in 0..3 {
        wait_probes(&cluster, node, "all answer", all_answer)?;
    }
    for _ in 0..2 {
        let blocked = Blocked::between(&cluster, 0, 1, BOTH_FAMILIES)?;
        wait_ways(&cluster, 0, 1, TUNNEL)?;
        wait_ways(&cluster, 1, 0, TUNNEL)?;
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
        wait_ways(&cluster, 0, 2, PLAIN)?;
        blocked.open(&cluster)?;
        wait_ways(&cluster, 0, 1, PLAIN)?;
        wait_ways(&cluster, 1, 0, PLAIN)?;
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    }
    let restarts = cluster.status(0)?["plugin"]["restarts"].as_u64();
    ensure!(restarts > Some(0), "it did not trap: {restarts:?}");
    Ok(())
}

#[test]
fn without_the_store_packets_move_and_a_node_that_leaves_is_not_probed_any_more() -> Result<()> {
    let options =
        ClusterOptions { nodes: 3, config: IPV4.to_owned(), etcd: true, ..ClusterOptions::default() };
    let mut cluster = prepare_with(options, "")?;
    cluster.bring_up()?;
    wait_probes(&cluster, 0, "both answer", |probes| probes["answered"] == 2)?;
    cluster.etcd()?.kill(0);
    let blocked = Blocked::between(&cluster, 0, 1, &[Family::V4])?;
    wait_ways(&cluster, 0, 1, &["flannel.1"])?;
    wait_ways(&cluster, 1, 0, &["flannel.1"])?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    blocked.open(&cluster)?;
    wait_ways(&cluster, 0, 1, &["eth0"])?;
    cluster.etcd()?.restart(0)?;
    cluster.leave(1)?;
    wait_probes(&cluster, 0, "one of both is gone", |probes| probes["answered"] == 1 && probes["lost"] == 0)?;
    // One that is lost goes like any other.
    let _blocked = Blocked::between(&cluster, 0, 2, &[Family::V4])?;
    wait_probes(&cluster, 0, "the other one is lost", |probes| lost(probes) == Some(1))?;
    cluster.leave(2)?;
    wait_probes(&cluster, 0, "nobody is probed", serde_json::Value::is_null)
}

#[test]
fn without_the_grant_there_is_no_start() -> Result<()> {
    let plugin = Some(component("failover")?);
    let allow = Some(ALLOW.replace(",probe", ""));
    let config = IPV4.to_owned();
    let mut cluster =
        Cluster::prepare(&ClusterOptions { config, plugin, allow, ..ClusterOptions::default() })?;
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    ensure!(!status.success() && said.contains("it asks for probe, which it is not granted"), "{said}");
    Ok(())
}
