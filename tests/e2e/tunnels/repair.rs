//! What somebody does to a device, and what is left when its backend goes.

use anyhow::{Result, ensure};
use flannel_lab::change::{self, Ground};
use flannel_lab::{Backend, ClusterOptions, Traffic, artifacts};

use super::{
    ALLOW, DEVICE, Families, config, fou_ports, has, is_as_before, reach_each_other, section, start,
};

const GRE: &str = "link add probe type gre local 192.0.2.1 key 1";
const VXLAN: &str = r#"{"Type":"vxlan"}"#;

#[test]
fn whatever_somebody_changes_of_a_gre_device_is_put_right() -> Result<()> {
    if !has(&[GRE])? {
        return Ok(());
    }
    let cluster = start(&section(r#""Device":"gre","Key":7"#))?;
    reach_each_other(&cluster, Families::Both)?;
    let state = cluster.state(0)?;
    let (own, peer) = (cluster.node(0).address(), cluster.node(1).address());
    for damage in [
        format!("link set {DEVICE} mtu 1300"),
        format!("link set {DEVICE} down"),
        format!("link change {DEVICE} type gre local {own} dev eth0 key 9"),
        format!("neighbour delete {peer} dev {DEVICE}"),
        format!("neighbour replace ::{peer} lladdr 192.168.77.99 dev {DEVICE} nud permanent"),
        format!("address flush dev {DEVICE} scope global"),
        format!("-4 route delete {}", cluster.subnets(1)?[0]),
    ] {
        cluster.node(0).ip(&damage)?;
        is_as_before(&cluster, &state).map_err(|error| error.context(damage))?;
        reach_each_other(&cluster, Families::Both)?;
    }
    // Another name: many kernels rename only what is down.
    cluster.node(0).ip(&format!("link set {DEVICE} down"))?;
    let _ = cluster.node(0).ip(&format!("link set {DEVICE} name other"));
    is_as_before(&cluster, &state)?;
    reach_each_other(&cluster, Families::Both)
}

#[test]
fn a_node_that_leaves_leaves_no_neighbour_at_the_others() -> Result<()> {
    if !has(&[GRE])? {
        return Ok(());
    }
    let mut cluster = start(&section(r#""Device":"gre""#))?;
    reach_each_other(&cluster, Families::Both)?;
    let peer = cluster.node(1).address();
    let permanent = |cluster: &flannel_lab::Cluster| Ok::<_, anyhow::Error>(cluster.state(0)?.neighbours);
    ensure!(permanent(&cluster)?.len() == 2, "{:?}", permanent(&cluster)?);
    cluster.leave(1)?;
    flannel_lab::wait::until_equal("it is forgotten", || {
        let state = cluster.state(0)?;
        Ok(state.mentions(&format!("{peer} ")).then(|| state.to_string()))
    })?;
    ensure!(permanent(&cluster)?.is_empty(), "{:?}", permanent(&cluster)?);
    Ok(())
}

/// Changes a cluster of vxlan to a kind of device, then to another, and back, with traffic.
fn there_and_back(sections: &[&str]) -> Result<()> {
    let ground = Ground { plugin: Some(artifacts::component("tunnels")?), ..Ground::default() };
    let config = config(VXLAN);
    let options = ClusterOptions { backend: Backend::Vxlan, config, ..ClusterOptions::default() };
    let mut cluster = ground.prepare(&options)?;
    cluster.add_arguments(&[&format!("--allow={ALLOW}")]);
    cluster.bring_up()?;
    let traffic = Traffic::among(cluster.pods())?;
    for section in sections {
        change::to(&mut cluster, section)?;
        traffic.goes_on()?;
        for node in 0..2 {
            let state = cluster.state(node)?;
            let devices: Vec<&str> =
                state.links.iter().filter_map(|link| link.split([':', '@']).next()).collect();
            if *section == VXLAN {
                ensure!(devices.iter().all(|device| *device != DEVICE), "node {node}: {state}");
                ensure!(!fou_ports(&cluster, node).unwrap_or_default().contains("5555"), "a port is left");
            } else {
                ensure!(devices == [DEVICE], "node {node} with {section}: {state}");
            }
        }
    }
    change::lost_nothing(&cluster, &traffic.stop()?)
}

#[test]
fn a_cluster_changes_from_vxlan_to_gre_and_back_and_loses_nothing() -> Result<()> {
    if !has(&[GRE])? {
        return Ok(());
    }
    there_and_back(&[&section(r#""Device":"gre""#), VXLAN])
}

#[test]
fn a_cluster_changes_from_vxlan_to_a_vlan_and_back_and_loses_nothing() -> Result<()> {
    if !has(&["link add link eth0 name probe type vlan id 77"])? {
        return Ok(());
    }
    there_and_back(&[&section(r#""Device":"vlan""#), VXLAN])
}

#[test]
fn a_cluster_changes_from_vxlan_to_gue_and_back_and_loses_nothing() -> Result<()> {
    if !has(&["link add probe type sit local 192.0.2.1", "fou add port 5555 gue"])? {
        return Ok(());
    }
    there_and_back(&[&section(r#""Device":"ip","Udp":"gue""#), VXLAN])
}
