//! Which podCIDRs nodes get.

use anyhow::{Context, Result};
use flannel_lab::control_plane::nodes::pod_cidrs;
use flannel_lab::control_plane::{Client, Mode};
use ipnet::IpNet;
use serde_json::json;

use super::Cluster;

/// Three nodes get podCIDRs of these networks, in their order, with prefixes of these lengths; all different.
fn are_filled(admin: &Client, expected: &[(&str, u8)]) -> Result<()> {
    let mut all: Vec<IpNet> = Vec::new();
    for name in ["filled1", "filled2", "filled3"] {
        admin.create_node(name, &[], &[])?;
    }
    for name in ["filled1", "filled2", "filled3"] {
        let cidrs = admin.wait_pod_cidrs(name)?;
        assert_eq!(cidrs.len(), expected.len(), "{name}: {cidrs:?}");
        for (cidr, (network, length)) in cidrs.iter().zip(expected) {
            let (cidr, network): (IpNet, IpNet) = (cidr.parse()?, network.parse()?);
            assert!(network.contains(&cidr) && cidr.prefix_len() == *length, "{name}: {cidrs:?}");
            assert!(!all.contains(&cidr), "{name}: {cidr} is another's, too");
            all.push(cidr);
        }
        assert_eq!(admin.node(name)?["spec"]["podCIDR"], cidrs[0], "the old field has the first");
        admin.delete_node(name)?;
    }
    Ok(())
}

#[test]
fn nodes_of_an_ipv4_cluster_get_one_pod_cidr() -> Result<()> {
    let Some(cluster) = Cluster::start(Mode::Single, &[])? else { return Ok(()) };
    are_filled(&cluster.admin(), &[("10.244.0.0/16", 24)])
}

#[test]
fn nodes_of_a_dual_stack_cluster_get_two_pod_cidrs_ipv4_first() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    are_filled(&cluster.admin(), &[("10.244.0.0/16", 24), ("fd00:10:244::/56", 64)])
}

#[test]
fn nodes_of_an_ipv6_cluster_get_one_pod_cidr() -> Result<()> {
    let Some(cluster) = Cluster::start(Mode::Six, &[])? else { return Ok(()) };
    are_filled(&cluster.admin(), &[("fd00:10:244::/56", 64)])
}

#[test]
fn a_node_may_bring_its_own_pod_cidrs_and_never_changes_them() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    let own = ["10.9.1.0/24", "fd00:9:1::/64"];
    let node = admin.create_node("brings", &own, &[])?;
    assert_eq!(pod_cidrs(&node), own);
    assert_eq!(node["spec"]["podCIDR"], own[0]);

    let mut changed = node;
    changed["spec"]["podCIDR"] = json!("10.9.2.0/24");
    changed["spec"]["podCIDRs"] = json!(["10.9.2.0/24"]);
    let answer = admin.put("/api/v1/nodes/brings", &changed)?;
    assert_eq!(answer.status, 422, "{}", answer.body);
    let message = answer.json()?["message"].as_str().context("a message")?.to_owned();
    assert!(message.contains(r#"node updates may not change podCIDR except from "" to valid"#), "{message}");
    admin.delete_node("brings")
}

#[test]
fn three_pod_cidrs_or_two_of_one_family_are_refused() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let three: &[&str] = &["10.9.3.0/24", "fd00:9:3::/64", "10.9.4.0/24"];
    for cidrs in [three, &["10.9.3.0/24", "10.9.4.0/24"], &["10.9.3.0"]] {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": "refused" },
            "spec": { "podCIDRs": cidrs },
        });
        let answer = cluster.admin().post("/api/v1/nodes", &node)?;
        assert_eq!(answer.status, 422, "{cidrs:?}: {}", answer.body);
    }
    Ok(())
}
