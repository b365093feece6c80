//! What it is for: pods reach each other.

use anyhow::Result;
use flannel_lab::Backend;

use super::two_nodes;

fn pods_reach_each_other(backend: Backend, ipv6: bool) -> Result<()> {
    if let Some(reason) = backend.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    let Some(mut cluster) = two_nodes(backend, ipv6)? else { return Ok(()) };
    cluster.bring_up()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    cluster.pod(1)?.reaches(cluster.pod(0)?)?;
    // The subnets are Kubernetes', not ones that the daemon has chosen.
    assert_eq!(cluster.subnets(0)?[0], "10.5.1.0/24");
    assert_eq!(cluster.subnets(1)?[0], "10.5.2.0/24");
    Ok(())
}

#[test]
fn with_vxlan_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other(Backend::Vxlan, false)
}

#[test]
fn with_vxlan_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::Vxlan, true)
}

#[test]
fn with_host_gw_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::HostGw, true)
}

#[test]
fn with_udp_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::Udp, true)
}

#[test]
fn with_wireguard_pods_reach_each_other_over_both_families() -> Result<()> {
    pods_reach_each_other(Backend::Wireguard, true)
}

#[test]
fn with_ipip_pods_reach_each_other() -> Result<()> {
    pods_reach_each_other(Backend::Ipip, false)
}

#[test]
fn a_node_that_joins_is_reached_and_one_whose_object_is_deleted_is_not_any_more() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.bring_up()?;
    let third = cluster.add_node(flannel_lab::Place::Near)?;
    cluster.launch(third)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    cluster.pod(0)?.reaches(cluster.pod(third)?)?;

    drop(cluster.take_daemon(third)?);
    super::kube(&cluster)?.admin().delete_node(cluster.node(third).name())?;
    flannel_lab::wait::until_true("its routes are gone", || {
        Ok(!cluster.node(0).ip("route show")?.contains("10.5.3.0/24"))
    })?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
