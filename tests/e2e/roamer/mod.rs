//! A plugin that counts what it does, and whose nodes are now here and now there (`tests/components/roamer`).

mod metrics;
mod published;
mod refreshed;

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use flannel_lab::artifacts::component;
use flannel_lab::{Cluster, ClusterOptions, http};

const PORT: u16 = 8471;
const ALLOW: &str = "links,routes,neighbours,fdb,node-info,own-lease,state";

/// So many nodes with the plugin, and its options, the same for all.
fn prepare(nodes: usize, options: &str) -> Result<Cluster> {
    let mut cluster = prepare_with(ClusterOptions { nodes, ..ClusterOptions::default() })?;
    cluster.add_arguments(&[&format!("--plugin-option={options}")]);
    Ok(cluster)
}

fn prepare_with(cluster: ClusterOptions) -> Result<Cluster> {
    let (plugin, allow) = (Some(component("roamer")?), Some(ALLOW.to_owned()));
    let mut cluster = Cluster::prepare(&ClusterOptions { plugin, allow, ..cluster })?;
    cluster.add_arguments(&[&format!("--healthz-port={PORT}")]);
    Ok(cluster)
}

/// Starts as many nodes as there are options, each with its own, and wires their pods.
fn launch(cluster: &mut Cluster, options: &[&str]) -> Result<()> {
    let base = cluster.options().clone();
    for (index, options) in options.iter().enumerate() {
        cluster.set_options(base.clone().arg(format!("--plugin-option={options}")));
        cluster.launch(index)?.wait_ready()?;
        cluster.wire_pod(index)?;
    }
    Ok(())
}

/// A node's metrics.
fn all_metrics(cluster: &Cluster, node: usize) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    Ok(http::get(cluster.node(node).namespace(), address, "/metrics")?.body)
}

/// The lines of a node's metrics that begin so, each with its value.
fn series(cluster: &Cluster, node: usize, begin: &str) -> Result<Vec<(String, f64)>> {
    let body = all_metrics(cluster, node)?;
    let lines = body.lines().filter(|line| line.starts_with(begin));
    let parsed = |line: &str| {
        let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        Ok((series.to_owned(), value.parse()?))
    };
    lines.map(parsed).collect()
}

/// The value of one of them; none: there is none.
fn value(cluster: &Cluster, node: usize, name: &str) -> Result<Option<f64>> {
    let all = series(cluster, node, name)?;
    Ok(all.into_iter().find(|(its, _)| its == name).map(|(_, value)| value))
}
