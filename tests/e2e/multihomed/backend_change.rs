//! Another backend for a cluster with these routes, and back, without a packet lost and with nothing left.

use anyhow::{Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::change::{self, Ground};
use flannel_lab::{Backend, ClusterOptions, Traffic};

use super::{BOTH, SecondNetwork, whole_state};

const VXLAN: &str = r#"{"Type":"vxlan"}"#;
const MULTIHOMED: &str = r#"{"Type":"multihomed"}"#;

/// Changes a cluster of vxlan, as this section has it, to the policy with these options, and back.
fn there_and_back(vxlan: &str, options: &str) -> Result<()> {
    let ground = Ground { plugin: Some(component("multihomed")?), ..Ground::default() };
    let config = change::with_backend(BOTH, vxlan)?;
    let mut cluster = ground.prepare(&ClusterOptions {
        nodes: 3,
        backend: Backend::Vxlan,
        config,
        ..ClusterOptions::default()
    })?;
    let _second = SecondNetwork::between(&cluster)?;
    super::segments::take_segments(&cluster)?;
    cluster.add_arguments(&[
        "--uplink=eth1",
        "--allow=policy-routing",
        &format!("--plugin-option={options}"),
    ]);
    cluster.bring_up()?;
    let traffic = Traffic::among(cluster.pods())?;
    for (backend, has_routes) in [(MULTIHOMED, true), (vxlan, false)] {
        change::to(&mut cluster, backend)?;
        traffic.goes_on()?;
        for node in 0..3 {
            let state = whole_state(&cluster, node)?;
            ensure!(state.trim().is_empty() != has_routes, "node {node} with {backend}: {state}");
        }
    }
    let report = traffic.stop()?;
    println!("{report}");
    change::lost_nothing(&cluster, &report)
}

#[test]
fn a_cluster_changes_from_vxlan_to_two_networks_and_back_and_loses_nothing() -> Result<()> {
    there_and_back(VXLAN, "ways=fallback,steer=yes")
}

#[test]
fn a_cluster_changes_from_vxlan_to_shared_flows_and_back_and_loses_nothing() -> Result<()> {
    there_and_back(VXLAN, "ways=ecmp")
}

#[test]
fn a_cluster_changes_from_vxlan_to_segments_through_a_third_node_and_back_and_loses_nothing() -> Result<()> {
    // Pods have an MTU that segments leave room for: nobody would tell them.
    there_and_back(r#"{"Type":"vxlan","MTU":1400}"#, "segments=fd77::13")
}
