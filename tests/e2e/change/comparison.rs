//! The comparison with a cluster that was started so: it finds what is left over, and nothing where nothing is.

use anyhow::Result;
use flannel_lab::Cluster;
use flannel_lab::change::{self, Ground};

use super::{Families, VXLAN, three};

#[test]
fn two_clusters_that_are_started_alike_are_alike() -> Result<()> {
    let ground = Ground { strict: true, ..Ground::default() };
    let options = flannel_lab::ClusterOptions { config: Families::Both.config(VXLAN), ..three(VXLAN)? };
    change::is_as_if_started_so(&ground.start(&options)?, &ground)
}

/// Something is left over on a node; a comparison names it. It is not waited for, since it does not go.
fn is_found(leave: impl FnOnce(&Cluster) -> Result<()>, said: &str) -> Result<()> {
    let ground = Ground::default();
    let cluster = ground.start(&three(VXLAN)?)?;
    leave(&cluster)?;
    let difference = change::difference_to_one_started_so(&cluster, &ground)?.unwrap_or_default();
    assert!(difference.contains(said), "{difference}");
    Ok(())
}

#[test]
fn an_address_that_is_left_over_is_found() -> Result<()> {
    is_found(
        |cluster| cluster.node(1).ip("address add 10.5.77.0/32 dev lo").map(drop),
        "+ address: lo 127.0.0.1/8 10.5.77.0/32",
    )
}

#[test]
fn a_rule_and_a_table_that_are_left_over_are_found() -> Result<()> {
    is_found(
        |cluster| {
            cluster.node(2).ip("rule add fwmark 77 lookup 77")?;
            cluster.node(2).ip("route add 10.5.77.0/24 via 192.168.77.1 table 77").map(drop)
        },
        "+ route: 10.5.77.0/24 via 192.168.77.1 dev eth0 table 77",
    )
}

#[test]
fn a_filter_that_is_left_loose_is_found() -> Result<()> {
    let loose = |cluster: &Cluster| cluster.node(0).namespace().sysctls(&[("ipv4/conf/eth0/rp_filter", "2")]);
    is_found(loose, "+ sysctl: ipv4/conf/eth0/rp_filter 2")
}
