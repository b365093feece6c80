//! What the node's object says, while the daemon runs, whoever changes it.

use anyhow::Result;
use flannel_lab::kube_store::{PREFIX, annotation};
use flannel_lab::{Backend, Cluster, wait};
use serde_json::Value;

use super::{condition, kube, strip_and_wait, two_nodes, wait_reaches};

fn key(suffix: &str) -> String {
    format!("{PREFIX}/{suffix}")
}

fn wait_annotation(cluster: &Cluster, index: usize, suffix: &str, value: Option<&str>) -> Result<Value> {
    let what = format!("{suffix} is {value:?}");
    let name = cluster.node(index).name();
    kube(cluster)?.admin().wait_node(name, &what, |node| annotation(node, suffix) == value)
}

#[test]
fn annotations_that_somebody_strips_come_back() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, true)? else { return Ok(()) };
    cluster.bring_up()?;
    let name = cluster.node(0).name().to_owned();
    let admin = kube(&cluster)?.admin();
    strip_and_wait(&admin, &name)?;
    cluster.pod(1)?.reaches(cluster.pod(0)?)
}

#[test]
fn an_overwrite_is_published_and_taken_back_while_the_daemon_runs() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.bring_up()?;
    let (name, own) = (cluster.node(0).name().to_owned(), cluster.node(0).address().to_string());
    let admin = kube(&cluster)?.admin();
    let overwrite = key("public-ip-overwrite");
    admin.annotate_node(&name, &[(&overwrite, Some("203.0.113.7"))])?;
    wait_annotation(&cluster, 0, "public-ip", Some("203.0.113.7"))?;
    wait::until_true("the peer sends it there", || {
        Ok(cluster.node(1).bridge("fdb show dev flannel.1")?.contains("dst 203.0.113.7"))
    })?;
    admin.annotate_node(&name, &[(&overwrite, None)])?;
    wait_annotation(&cluster, 0, "public-ip", Some(&own))?;
    wait_reaches(&cluster, 1, 0)?;
    Ok(())
}

#[test]
fn a_node_that_is_made_again_with_its_subnet_says_all_again() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.bring_up()?;
    let name = cluster.node(0).name().to_owned();
    let admin = kube(&cluster)?.admin();
    admin.wait_node(&name, "the condition", |node| condition(node).is_some())?;
    admin.delete_node(&name)?;
    admin.create_node(&name, &["10.5.1.0/24"], &[])?;
    wait_annotation(&cluster, 0, "kube-subnet-manager", Some("true"))?;
    admin.wait_node(&name, "the condition", |node| condition(node).is_some())?;
    wait_reaches(&cluster, 1, 0)?;
    Ok(())
}

#[test]
fn a_node_that_is_made_again_with_another_subnet_takes_that_up() -> Result<()> {
    let Some(mut cluster) = two_nodes(Backend::Vxlan, false)? else { return Ok(()) };
    cluster.bring_up()?;
    let name = cluster.node(0).name().to_owned();
    let admin = kube(&cluster)?.admin();
    admin.delete_node(&name)?;
    admin.create_node(&name, &["10.5.77.0/24"], &[])?;
    wait_annotation(&cluster, 0, "kube-subnet-manager", Some("true"))?;
    wait::until_true("the subnet file has the new one", || {
        Ok(cluster.subnets(0).is_ok_and(|subnets| subnets == ["10.5.77.0/24"]))
    })?;
    cluster.replace_pod(0)?;
    wait_reaches(&cluster, 1, 0)?;
    let routes = cluster.node(1).ip("route show")?;
    assert!(!routes.contains("10.5.1.0/24"), "{routes}");
    Ok(())
}
