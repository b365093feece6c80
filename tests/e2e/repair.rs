//! What somebody deletes behind the daemon's back comes back, and packets with it.

use anyhow::Result;
use flannel_lab::cluster::DUAL_STACK;
use flannel_lab::repair::Damage;
use flannel_lab::vtep::Vtep;
use flannel_lab::{Cluster, ClusterOptions};

/// Does the damage to both families of the first node, one after the other.
fn is_mended(damage: impl Fn(Vtep) -> Damage) -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    let peers = cluster.lease(1)?.vteps()?;
    assert_eq!(peers.len(), 2);
    for peer in peers {
        damage(peer).mended_after(cluster.node(0))?;
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_deleted_device_comes_back_with_all_that_was_on_it() -> Result<()> {
    is_mended(|peer| Damage::Device(peer.device.to_owned()))
}

#[test]
fn a_deleted_route_comes_back() -> Result<()> {
    is_mended(|peer| Damage::Route(peer.subnet.clone()))
}

#[test]
fn a_deleted_neighbour_comes_back() -> Result<()> {
    is_mended(Damage::Neighbour)
}

#[test]
fn a_deleted_forwarding_database_entry_comes_back() -> Result<()> {
    is_mended(Damage::Fdb)
}
