//! A start, and what it waits for.

use anyhow::{Context, Result};
use flannel_lab::control_plane::Part;
use flannel_lab::control_plane::client::Patch;
use flannel_lab::store::Store;
use flannel_lab::{Backend, ClusterOptions};
use serde_json::json;

use super::{condition, kube, node, prepare_with, two_nodes, wait_not_ready, wait_reaches, without_nodes};

fn one_node() -> ClusterOptions {
    ClusterOptions { nodes: 1, ..ClusterOptions::of(Backend::Vxlan, false) }
}

#[test]
fn a_node_without_a_subnet_waits_for_it_and_says_so() -> Result<()> {
    let Some(mut cluster) = prepare_with(&one_node(), without_nodes)? else { return Ok(()) };
    let name = cluster.node(0).name().to_owned();
    cluster.launch(0)?;
    wait_not_ready(&cluster, 0, &[&name, "not found"])?;

    // The controller would give it one of its own, which has to be ended for that.
    if let Store::Kube(kube) = cluster.store_mut() {
        kube.plane.kill(Part::Controllers);
    }
    kube(&cluster)?.admin().create_node(&name, &[], &[])?;
    wait_not_ready(&cluster, 0, &["podCIDR"])?;
    assert_eq!(kube(&cluster)?.annotation(&name, "kube-subnet-manager")?, None, "nothing is published yet");

    let patch = json!({ "spec": { "podCIDR": "10.5.7.0/24", "podCIDRs": ["10.5.7.0/24"] } });
    let admin = kube(&cluster)?.admin();
    admin.patch(&format!("/api/v1/nodes/{name}"), Patch::Merge, &patch)?.object()?;
    cluster.daemon(0)?.wait_ready()?;
    assert_eq!(cluster.subnets(0)?, ["10.5.7.0/24"]);
    Ok(())
}

#[test]
fn a_subnet_outside_of_the_network_is_named_before_anything_is_published() -> Result<()> {
    let Some(mut cluster) = prepare_with(&one_node(), without_nodes)? else { return Ok(()) };
    let name = cluster.node(0).name().to_owned();
    kube(&cluster)?.admin().create_node(&name, &["10.99.7.0/24"], &[])?;
    cluster.launch(0)?;
    wait_not_ready(&cluster, 0, &["10.99.7.0/24", "10.5.0.0/16"])?;
    assert_eq!(kube(&cluster)?.annotation(&name, "kube-subnet-manager")?, None);
    Ok(())
}

#[test]
fn when_it_is_ready_the_nodes_condition_says_that_the_network_is_there() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.start_all()?;
    for index in 0..2 {
        let name = cluster.node(index).name();
        let node =
            kube(&cluster)?.admin().wait_node(name, "the condition", |node| condition(node).is_some())?;
        let said = condition(&node).context("a condition")?;
        assert_eq!(
            (&said["status"], &said["reason"], &said["message"]),
            (&json!("False"), &json!("FlannelIsUp"), &json!("Flannel is running on this node"))
        );
    }
    Ok(())
}

#[test]
fn without_the_condition_none_is_set() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.add_arguments(&["--set-node-network-unavailable=false"]);
    cluster.start_all()?;
    cluster.wait_converged()?;
    assert!(condition(&node(&cluster, 0)?).is_none());
    Ok(())
}

#[test]
fn a_restart_writes_nothing() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, true)? else { return Ok(()) };
    cluster.bring_up()?;
    let name = cluster.node(0).name().to_owned();
    kube(&cluster)?.admin().wait_node(&name, "the condition", |node| condition(node).is_some())?;
    let before = node(&cluster, 0)?;
    cluster.take_daemon(0)?.terminate()?;
    // A container keeps nothing but the subnet file's directory.
    std::fs::remove_dir_all(cluster.node(0).directory().join("state"))?;
    cluster.launch(0)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    let after = node(&cluster, 0)?;
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    Ok(())
}

#[test]
fn after_a_reboot_without_state_the_vtep_has_the_address_that_peers_know() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, true)? else { return Ok(()) };
    cluster.bring_up()?;
    let name = cluster.node(0).name().to_owned();
    let said = |cluster: &flannel_lab::Cluster| {
        let kube = kube(cluster)?;
        anyhow::Ok((kube.annotation(&name, "backend-data")?, kube.annotation(&name, "backend-v6-data")?))
    };
    let before = said(&cluster)?;
    cluster.take_daemon(0)?.terminate()?;
    cluster.node(0).forget_backend()?;
    std::fs::remove_dir_all(cluster.node(0).directory().join("state"))?;
    std::fs::remove_file(cluster.node(0).subnet_file())?;
    cluster.launch(0)?.wait_ready()?;
    assert_eq!(before, said(&cluster)?);
    wait_reaches(&cluster, 1, 0)?;
    Ok(())
}

#[test]
fn a_subnet_file_of_another_subnet_is_gone_before_the_node_is_ready() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let file = cluster.node(0).subnet_file();
    std::fs::create_dir_all(file.parent().context("a directory")?)?;
    std::fs::write(
        &file,
        "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.99.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n",
    )?;
    let daemon = cluster.launch(0)?;
    daemon.wait_log("that the file is removed", |line| {
        line.message().contains("the subnet file is of a subnet")
    })?;
    cluster.daemon(0)?.wait_ready()?;
    assert_eq!(cluster.subnets(0)?, ["10.5.1.0/24"]);
    Ok(())
}

#[test]
fn an_operators_address_for_the_node_decides_before_the_command_line() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.add_arguments(&["--public-ip=203.0.113.1", "--iface=eth0"]);
    let name = cluster.node(0).name().to_owned();
    let key = "flannel.alpha.coreos.com/node-public-ip";
    kube(&cluster)?.admin().annotate_node(&name, &[(key, Some("203.0.113.9"))])?;
    cluster.launch(0)?.wait_ready()?;
    assert_eq!(kube(&cluster)?.annotation(&name, "public-ip")?.as_deref(), Some("203.0.113.9"));
    Ok(())
}

#[test]
fn an_operators_address_that_no_interface_has_is_named_and_waited_for() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let name = cluster.node(0).name().to_owned();
    let key = "flannel.alpha.coreos.com/node-public-ip";
    let admin = kube(&cluster)?.admin();
    admin.annotate_node(&name, &[(key, Some("203.0.113.9"))])?;
    cluster.launch(0)?;
    wait_not_ready(&cluster, 0, &["203.0.113.9"])?;
    admin.annotate_node(&name, &[(key, None)])?;
    cluster.daemon(0)?.wait_ready()?;
    let own = cluster.node(0).address().to_string();
    assert_eq!(kube(&cluster)?.annotation(&name, "public-ip")?, Some(own));
    Ok(())
}

#[test]
fn who_does_not_say_which_node_it_is_ends_with_what_would_be_right() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let options = cluster.options().clone().env("NODE_NAME", "");
    cluster.set_options(options);
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    assert!(!status.success() && said.contains("POD_NAME") && said.contains("NODE_NAME"), "{said}");
    Ok(())
}

#[test]
fn a_pod_asks_on_which_node_it_is() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    let name = cluster.node(0).name().to_owned();
    kube(&cluster)?.admin().create_pod("kube-flannel-ds-x1", &name)?;
    let options = cluster.options().clone().env("NODE_NAME", "");
    let options = options.env("POD_NAME", "kube-flannel-ds-x1").env("POD_NAMESPACE", "kube-flannel");
    cluster.set_options(options);
    cluster.launch(0)?.wait_ready()?;
    assert_eq!(cluster.subnets(0)?, ["10.5.1.0/24"]);
    Ok(())
}
