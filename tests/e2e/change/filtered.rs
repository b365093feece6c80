//! Two nodes between which a filter drops the new backend's packets: that pair alone stays, is named, and moves when it can.

use anyhow::Result;
use flannel_lab::Firewall;
use flannel_lab::change::{self, Filter};

use super::{
    HOST_GW, IPSEC, UDP, VXLAN, can_have, nothing_is_lost, peer, start, stays, strict, wait_named,
    wait_reached_by, wait_said,
};

/// Whether this machine can filter.
pub fn can_filter() -> Result<bool> {
    let missing = Firewall::Nftables.missing()?;
    if let Some(reason) = &missing {
        flannel_test_support::skip(reason);
    }
    Ok(missing.is_none())
}

/// The first two nodes do not hear each other by the new backend for a while.
fn a_pair_stays(from: &str, to: &str) -> Result<()> {
    if !can_filter()? || !can_have(&[from, to])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    let (former, new) = (change::type_of(from)?, change::type_of(to)?);
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        let filter = Filter::between(cluster, 0, 1, to)?;
        change::put(cluster, to)?;
        for (node, moved) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
            wait_reached_by(cluster, node, moved, &new)?;
        }
        for (node, other) in [(0, 1), (1, 0)] {
            let subnet = cluster.subnets(other)?.remove(0);
            wait_reached_by(cluster, node, other, &former)?;
            wait_said(cluster, node, |status| status["change"]["waits_for"].clone(), &[&subnet])?;
            wait_named(cluster, node, other, &new)?;
        }
        // Nobody gives up what that pair needs.
        stays(cluster, |cluster| {
            let stay =
                peer(cluster, 0, 1)?["generation"] == former && peer(cluster, 1, 0)?["generation"] == former;
            let moved = peer(cluster, 2, 0)?["generation"] == new;
            Ok(stay && moved)
        })?;
        traffic.goes_on()?;
        filter.open(cluster)?;
        change::wait_at_rest(cluster, to)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_pair_that_does_not_hear_each_other_by_host_gw_stays_on_vxlan_until_it_does() -> Result<()> {
    a_pair_stays(VXLAN, HOST_GW)
}

#[test]
fn a_pair_that_does_not_hear_each_other_by_vxlan_stays_on_host_gw_until_it_does() -> Result<()> {
    a_pair_stays(HOST_GW, VXLAN)
}

#[test]
fn a_pair_that_does_not_hear_each_other_by_udp_stays_on_vxlan_until_it_does() -> Result<()> {
    a_pair_stays(VXLAN, UDP)
}

#[test]
fn a_pair_between_which_nothing_passes_esp_stays_on_vxlan_until_it_does() -> Result<()> {
    a_pair_stays(VXLAN, IPSEC)
}

#[test]
fn a_daemon_that_is_restarted_while_a_pair_stays_loses_nothing_of_it() -> Result<()> {
    if !can_filter()? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        let filter = Filter::between(cluster, 0, 1, HOST_GW)?;
        change::put(cluster, HOST_GW)?;
        wait_reached_by(cluster, 0, 2, "host-gw")?;
        wait_reached_by(cluster, 0, 1, "vxlan")?;
        cluster.kill_and_restart(0)?;
        wait_reached_by(cluster, 0, 2, "host-gw")?;
        wait_reached_by(cluster, 0, 1, "vxlan")?;
        traffic.goes_on()?;
        filter.open(cluster)?;
        change::wait_at_rest(cluster, HOST_GW)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}
