//! The old text is put back in the middle: one backend again, and nothing left over.

use anyhow::Result;
use flannel_lab::change::{self, Moment};

use super::{HOST_GW, IPSEC, UDP, VXLAN, can_have, nothing_is_lost, start, strict};

fn reverted_at(moment: Moment, from: &str, to: &str) -> Result<()> {
    if !can_have(&[from, to])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::put(cluster, to)?;
        moment.wait(cluster, 0)?;
        change::to(cluster, from)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_change_may_be_reverted_when_it_has_just_been_written() -> Result<()> {
    reverted_at(Moment::Written, VXLAN, HOST_GW)
}

#[test]
fn a_change_may_be_reverted_when_nodes_have_published_the_new_backend() -> Result<()> {
    reverted_at(Moment::Published, HOST_GW, VXLAN)
}

#[test]
fn a_change_may_be_reverted_while_peers_move() -> Result<()> {
    reverted_at(Moment::Moving, VXLAN, HOST_GW)
}

#[test]
fn a_change_may_be_reverted_when_the_new_backend_is_the_main_one() -> Result<()> {
    reverted_at(Moment::Main, HOST_GW, VXLAN)
}

#[test]
fn a_change_may_be_reverted_while_the_former_backend_is_given_up() -> Result<()> {
    reverted_at(Moment::Retiring, VXLAN, HOST_GW)
}

#[test]
fn a_change_may_be_reverted_when_nodes_have_said_that_the_former_backend_goes() -> Result<()> {
    reverted_at(Moment::Told, HOST_GW, VXLAN)
}

#[test]
fn a_change_of_the_port_may_be_reverted_when_nodes_have_said_that_the_former_one_goes() -> Result<()> {
    reverted_at(Moment::Told, r#"{"Type":"vxlan","Port":8473}"#, r#"{"Type":"vxlan"}"#)
}

#[test]
fn a_change_to_a_tunnel_of_the_daemon_may_be_reverted() -> Result<()> {
    reverted_at(Moment::Main, VXLAN, UDP)
}

#[test]
fn a_change_to_ipsec_may_be_reverted() -> Result<()> {
    reverted_at(Moment::Main, VXLAN, IPSEC)
}

#[test]
fn a_change_of_the_port_may_be_reverted_when_devices_have_one_name() -> Result<()> {
    reverted_at(Moment::Main, r#"{"Type":"vxlan"}"#, r#"{"Type":"vxlan","Port":8473}"#)
}

#[test]
fn a_change_may_be_turned_into_one_to_a_third_backend() -> Result<()> {
    if !can_have(&[UDP])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, _| {
        change::put(cluster, UDP)?;
        Moment::Moving.wait(cluster, 0)?;
        change::to(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}
