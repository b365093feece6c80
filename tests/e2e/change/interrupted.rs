//! Daemons that are killed in the middle: the change goes on where it was, and nothing is lost meanwhile.

use std::time::Duration;

use anyhow::Result;
use flannel_lab::change::{self, Moment};

use super::{HOST_GW, UDP, VXLAN, can_have, nothing_is_lost, start, strict};

/// How long there is no daemon.
const AWAY: Duration = Duration::from_millis(800);

/// A node's daemon is killed when it has come so far, and started again.
fn killed_at(moment: Moment, from: &str, to: &str) -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        change::put(cluster, to)?;
        moment.wait(cluster, 0)?;
        cluster.take_daemon(0)?.kill9();
        std::thread::sleep(AWAY);
        traffic.goes_on()?;
        cluster.launch(0)?.wait_ready()?;
        change::wait_at_rest(cluster, to)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_daemon_may_be_killed_when_the_change_has_just_been_written() -> Result<()> {
    killed_at(Moment::Written, VXLAN, HOST_GW)
}

#[test]
fn a_daemon_may_be_killed_when_it_has_published_the_new_backend() -> Result<()> {
    killed_at(Moment::Published, HOST_GW, VXLAN)
}

#[test]
fn a_daemon_may_be_killed_while_its_peers_move() -> Result<()> {
    killed_at(Moment::Moving, VXLAN, HOST_GW)
}

#[test]
fn a_daemon_may_be_killed_when_the_new_backend_is_its_main_one() -> Result<()> {
    killed_at(Moment::Main, HOST_GW, VXLAN)
}

#[test]
fn a_daemon_may_be_killed_while_it_gives_up_the_former_backend() -> Result<()> {
    killed_at(Moment::Retiring, VXLAN, HOST_GW)
}

#[test]
fn a_daemon_may_be_killed_when_it_has_said_that_the_former_backend_goes() -> Result<()> {
    killed_at(Moment::Told, HOST_GW, VXLAN)
}

#[test]
fn a_daemon_may_be_killed_when_it_has_said_that_the_former_of_two_devices_of_one_name_goes() -> Result<()> {
    killed_at(Moment::Told, r#"{"Type":"vxlan","Port":8472}"#, r#"{"Type":"vxlan","Port":8473}"#)
}

#[test]
fn a_daemon_may_be_killed_while_one_of_two_devices_of_one_name_is_the_new_one() -> Result<()> {
    killed_at(Moment::Main, r#"{"Type":"vxlan","Port":8472}"#, r#"{"Type":"vxlan","Port":8473}"#)
}

#[test]
fn a_daemon_that_was_away_when_the_change_began_and_moved_on_joins_it() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        cluster.take_daemon(0)?.kill9();
        change::put(cluster, HOST_GW)?;
        super::wait_reached_by(cluster, 1, 2, "host-gw")?;
        traffic.goes_on()?;
        cluster.launch(0)?.wait_ready()?;
        change::wait_at_rest(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn all_daemons_may_be_killed_in_the_middle_at_once() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        change::put(cluster, HOST_GW)?;
        Moment::Published.wait(cluster, 1)?;
        for index in 0..3 {
            cluster.take_daemon(index)?.kill9();
        }
        std::thread::sleep(AWAY);
        traffic.goes_on()?;
        cluster.start_all()?;
        change::wait_at_rest(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_daemon_may_be_killed_over_and_over() -> Result<()> {
    let ground = strict();
    let mut cluster = start(&ground, HOST_GW)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::put(cluster, VXLAN)?;
        for round in 0..8 {
            std::thread::sleep(Duration::from_millis(100 * round));
            cluster.take_daemon(1)?.kill9();
            cluster.launch(1)?;
        }
        change::wait_at_rest(cluster, VXLAN)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_daemon_that_carries_packets_may_be_killed_and_costs_what_was_on_its_way_alone() -> Result<()> {
    if !can_have(&[UDP])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, UDP)?;
    let traffic = flannel_lab::Traffic::among(cluster.pods())?;
    change::put(&cluster, VXLAN)?;
    Moment::Published.wait(&cluster, 0)?;
    let killed = traffic.elapsed();
    cluster.take_daemon(0)?.kill9();
    cluster.launch(0)?.wait_ready()?;
    traffic.goes_on()?;
    let back = traffic.elapsed();
    change::wait_at_rest(&mut cluster, VXLAN)?;
    let report = traffic.stop()?;
    println!("{report}");
    let node = cluster.pod(0)?.namespace().name();
    for flow in report.flows.iter().filter(|flow| !flow.is_clean()) {
        let meanwhile = flow.missing.iter().all(|gap| gap.before >= killed && gap.after <= back);
        assert!(meanwhile && (flow.way.from == node || flow.way.to == node), "{report}");
    }
    assert!(report.streams.iter().all(flannel_lab::traffic::StreamReport::is_clean), "{report}");
    change::is_as_if_started_so(&cluster, &ground)
}
