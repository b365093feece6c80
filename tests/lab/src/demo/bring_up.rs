//! From nothing to a cluster with pods.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::DemoOptions;
use super::narrator::Step;
use super::table::lay_out;
use crate::ping_probe::millis;
use crate::state::KernelState;
use crate::{Backend, Cluster, ClusterOptions, state};

/// Makes the network between the nodes, and the lease store.
pub fn network(step: &mut Step, options: &DemoOptions) -> Result<Cluster> {
    let begin = Instant::now();
    let mut cluster = Cluster::prepare(&ClusterOptions {
        nodes: options.nodes,
        // Nodes that will be in a cloud are there from the beginning.
        backend: options.backends().find(|backend| backend.is_cloud()).unwrap_or(options.backend),
        config: options.backend.config(options.ipv6),
        kubernetes: false,
        etcd: options.etcd,
        plugin: options.plugin.clone(),
        allow: None,
        binary: options.binary.clone(),
    })?;
    cluster.set_backend(options.backend);
    if options.change.is_some() {
        // Another backend takes another plugin.
        cluster.set_options(cluster.options().clone().built_in());
    }
    let store = if options.etcd { "etcd" } else { "a directory for the leases" };
    step.figure("made_ms", millis(begin.elapsed()));
    step.detail(format!("a switch, {} nodes, {store}", options.nodes));
    Ok(cluster)
}

/// Starts the daemons at the same moment, and waits until they know each other.
pub fn daemons(step: &mut Step, cluster: &mut Cluster) -> Result<()> {
    let count = cluster.lab().nodes().len();
    let begin = Instant::now();
    for index in 0..count {
        cluster.launch(index)?;
    }
    step.progress(&format!("{count} daemons started"));
    let mut ready = Vec::new();
    for index in 0..count {
        let after = cluster.daemon(index)?.wait_ready()?.after;
        let resident = cluster.daemon(index)?.memory()?.resident;
        let name = cluster.node(index).name().to_owned();
        step.progress(&format!(
            "{name} ready after {:.0} ms, {} MiB resident",
            millis(after),
            resident / 1024
        ));
        ready.push(json!({"node": name, "ready_ms": millis(after), "resident_kib": resident}));
    }
    cluster.wait_converged()?;
    step.figure("daemons", ready);
    step.figure("converged_ms", millis(begin.elapsed()));
    step.detail(format!("all know each other {:.0} ms after the start", millis(begin.elapsed())));
    Ok(())
}

/// Shows what each node got.
pub fn nodes(step: &mut Step, cluster: &Cluster) -> Result<()> {
    if cluster.backend() == Backend::Vxlan { vteps(step, cluster) } else { subnets(step, cluster) }
}

/// Subnets and MTUs, as each node's subnet file has them, and how many peers its daemon knows.
fn subnets(step: &mut Step, cluster: &Cluster) -> Result<()> {
    let headings = ["node", "underlay", "subnet", "MTU", "peers"];
    let mut rows = vec![headings.map(ToOwned::to_owned).to_vec()];
    let (mut figures, mut given) = (Vec::new(), BTreeSet::new());
    let count = cluster.lab().nodes().len();
    for (index, node) in cluster.lab().nodes().iter().enumerate() {
        let mtu = node.subnet_env()?.context("a subnet file")?.mtu;
        let peers = cluster.status(index)?["peers"].as_array().map_or(0, Vec::len);
        ensure!(peers == count - 1, "{} knows {peers} peers of {}", node.name(), count - 1);
        let subnets = cluster.subnets(index)?;
        for subnet in &subnets {
            ensure!(given.insert(subnet.clone()), "{subnet} is given to two nodes");
        }
        let underlay = node.address().to_string();
        let row = [node.name(), &underlay, &subnets.join(", "), &mtu.to_string(), &peers.to_string()];
        rows.push(row.map(ToOwned::to_owned).to_vec());
        figures.push(json!({
            "node": node.name(), "underlay": underlay, "subnets": subnets, "pod_mtu": mtu, "peers": peers,
        }));
    }
    step.figure("nodes", figures);
    step.detail("each has a subnet of its own, and knows all others");
    step.show(lay_out(&rows));
    Ok(())
}

/// The same with each node's end of the tunnel, and what its kernel has for the others.
fn vteps(step: &mut Step, cluster: &Cluster) -> Result<()> {
    let headings = ["node", "underlay", "subnet", "VTEP MAC", "MTU", "peers"];
    let mut rows = vec![headings.map(ToOwned::to_owned).to_vec()];
    let mut figures = Vec::new();
    let mut subnets = BTreeSet::new();
    let count = cluster.lab().nodes().len();
    for (index, node) in cluster.lab().nodes().iter().enumerate() {
        let pod_mtu = node.subnet_env()?.context("a subnet file")?.mtu;
        let peers = cluster.state(index)?.peers();
        let vteps = cluster.lease(index)?.vteps()?;
        ensure!(
            peers == (count - 1) * vteps.len(),
            "{} has {peers} routes to {} peers",
            node.name(),
            count - 1
        );
        for (line, vtep) in vteps.iter().enumerate() {
            let there = state::mac_of(node, vtep.device)?;
            let mtu = state::mtu_of(node.namespace(), vtep.device)?;
            ensure!(
                there == vtep.mac,
                "{} published {}, and its {} has {there}",
                node.name(),
                vtep.mac,
                vtep.device
            );
            ensure!(subnets.insert(vtep.subnet.clone()), "{} is given to two nodes", vtep.subnet);
            let name = if line == 0 { node.name() } else { "" };
            let peers = if line == 0 { (count - 1).to_string() } else { String::new() };
            rows.push(vec![
                name.to_owned(),
                vtep.public_ip.clone(),
                vtep.subnet.clone(),
                vtep.mac.clone(),
                mtu.to_string(),
                peers,
            ]);
            figures.push(json!({
                "node": node.name(), "underlay": vtep.public_ip, "subnet": vtep.subnet, "device": vtep.device,
                "mac": vtep.mac, "mtu": mtu, "pod_mtu": pod_mtu, "peers": count - 1,
            }));
        }
    }
    step.figure("nodes", figures);
    step.detail("each has a subnet of its own, and entries for all others");
    step.show(lay_out(&rows));
    Ok(())
}

/// Gives each node a pod.
pub fn pods(step: &mut Step, cluster: &mut Cluster) -> Result<()> {
    cluster.wire_pods()?;
    let addresses: Vec<String> =
        cluster.pods().flat_map(crate::Pod::addresses).map(|a| a.to_string()).collect();
    step.detail(format!("one on each node: {}", addresses.join(", ")));
    step.figure("addresses", addresses);
    Ok(())
}

/// Shows that the kernels have no entry of ours: the backend leaves that to others.
pub fn nothing(step: &mut Step, cluster: &Cluster) -> Result<()> {
    for (index, node) in cluster.lab().nodes().iter().enumerate() {
        let state = cluster.state(index)?;
        ensure!(state == KernelState::default(), "{} has\n{state}", node.name());
    }
    step.detail(format!("{} gives out subnets, and leaves the rest to others", cluster.backend()));
    Ok(())
}

/// What the daemons need at the end.
pub fn memory(step: &mut Step, cluster: &mut Cluster) -> Result<()> {
    let mut figures = Vec::new();
    let mut most = 0;
    for index in 0..cluster.lab().nodes().len() {
        // The node that left has none.
        let Ok(daemon) = cluster.daemon(index) else { continue };
        let memory = daemon.memory()?;
        most = most.max(memory.resident);
        figures.push(json!({
            "node": cluster.node(index).name(), "resident_kib": memory.resident, "peak_kib": memory.peak,
        }));
    }
    step.figure("daemons", figures);
    step.detail(format!("at most {:.1} MiB resident for a daemon", mebibytes(most)));
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "for people, to one place")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
