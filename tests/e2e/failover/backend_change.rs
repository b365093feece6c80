//! A cluster changes its backend to a policy that has its peers probed, and back: no packet is lost, and nothing is probed afterwards.

use anyhow::{Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::change::{self, Ground};
use flannel_lab::{Backend, ClusterOptions, Traffic};

use super::{BOTH, all_answer, probes, wait_probes};

const HOST_GW: &str = r#"{"Type":"host-gw"}"#;
const FAILOVER: &str = r#"{"Type":"failover"}"#;

#[test]
fn a_cluster_changes_to_probed_ways_and_back_and_loses_nothing() -> Result<()> {
    let ground = Ground { plugin: Some(component("failover")?), ..Ground::default() };
    let config = change::with_backend(BOTH, HOST_GW)?;
    let mut cluster = ground.prepare(&ClusterOptions {
        nodes: 3,
        backend: Backend::HostGw,
        config,
        ..ClusterOptions::default()
    })?;
    cluster.add_arguments(&["--allow=probe"]);
    cluster.bring_up()?;
    let traffic = Traffic::among(cluster.pods())?;
    change::to(&mut cluster, FAILOVER)?;
    for node in 0..3 {
        wait_probes(&cluster, node, "all answer", |probes| probes["answered"] == 4 && all_answer(probes))?;
    }
    traffic.goes_on()?;
    change::to(&mut cluster, HOST_GW)?;
    for node in 0..3 {
        ensure!(probes(&cluster, node)?.is_null(), "{}", probes(&cluster, node)?);
    }
    traffic.goes_on()?;
    let report = traffic.stop()?;
    println!("{report}");
    change::lost_nothing(&cluster, &report)
}
