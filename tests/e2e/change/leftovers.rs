//! All daemons were stopped, and are started with another backend: what is left over of the former one goes once the new one is in place.

use anyhow::Result;
use flannel_lab::change;

use super::{HOST_GW, UDP, VXLAN, can_have, start, strict};

/// What the nodes still know of the former backend when they are started again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leases {
    /// Their leases say it.
    Stay,
    /// The store was emptied.
    Gone,
}

/// With what `damage` does to a node while no daemon runs.
fn started_otherwise(from: &str, to: &str, leases: Leases, damage: &[&str]) -> Result<()> {
    if !can_have(&[from, to])? {
        return Ok(());
    }
    let ground = strict();
    let mut cluster = start(&ground, from)?;
    for index in 0..3 {
        let daemon = cluster.take_daemon(index)?;
        if index == 0 {
            daemon.kill9();
        } else {
            daemon.terminate()?;
        }
    }
    change::put(&cluster, to)?;
    if leases == Leases::Gone {
        for lease in cluster.store().leases()? {
            cluster.store().remove(&lease)?;
        }
    }
    for index in 0..3 {
        damage.iter().try_for_each(|command| cluster.node(index).ip(command).map(drop))?;
    }
    cluster.start_all()?;
    change::wait_at_rest(&mut cluster, to)?;
    cluster.wait_converged()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn of_vxlan_nothing_is_left_over_after_a_start_with_host_gw() -> Result<()> {
    started_otherwise(VXLAN, HOST_GW, Leases::Stay, &[])
}

#[test]
fn of_host_gw_nothing_is_left_over_after_a_start_with_vxlan() -> Result<()> {
    started_otherwise(HOST_GW, VXLAN, Leases::Stay, &[])
}

#[test]
fn of_udp_nothing_is_left_over_after_a_start_with_vxlan() -> Result<()> {
    started_otherwise(UDP, VXLAN, Leases::Stay, &[])
}

#[test]
fn of_vxlan_nothing_is_left_over_after_a_start_with_udp() -> Result<()> {
    started_otherwise(VXLAN, UDP, Leases::Stay, &[])
}

#[test]
fn of_another_vni_nothing_is_left_over() -> Result<()> {
    started_otherwise(VXLAN, r#"{"Type":"vxlan","VNI":2}"#, Leases::Stay, &[])
}

#[test]
fn of_vxlan_nothing_is_left_over_where_the_leases_are_gone_too() -> Result<()> {
    started_otherwise(VXLAN, HOST_GW, Leases::Gone, &[])
}

#[test]
fn of_another_vni_nothing_is_left_over_where_the_leases_are_gone_too() -> Result<()> {
    started_otherwise(VXLAN, r#"{"Type":"vxlan","VNI":2}"#, Leases::Gone, &[])
}

#[test]
fn of_a_device_that_upstream_has_made_nothing_is_left_over() -> Result<()> {
    // Upstream's devices have no mark.
    started_otherwise(VXLAN, HOST_GW, Leases::Gone, &["link set flannel.1 alias /"])
}
