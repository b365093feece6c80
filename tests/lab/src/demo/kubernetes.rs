//! `--kubernetes`: real nodes of Kubernetes, our manifest applied to them, and packets between pods that kubelets run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::narrator::{Narrator, Step};
use super::pings::{self, Size};
use super::table::lay_out;
use super::{DemoOptions, Outcome};
use crate::control_plane::nodes::pod_cidrs;
use crate::interrupt::Interrupt;
use crate::kubernetes::deploy::{self, NAMESPACE};
use crate::kubernetes::servers::Reach;
use crate::ping_probe::millis;
use crate::{KubernetesCluster, Pings, Pod, Traffic, state};

/// How long traffic flows.
const WHILE: Duration = Duration::from_secs(2);
/// How the manifest's annotations begin.
const PREFIX: &str = "flannel.alpha.coreos.com/";

/// Shows it. What is measured goes into the outcome.
pub fn run(narrator: &mut Narrator, options: &DemoOptions, outcome: &mut Outcome) -> Result<()> {
    if let Some(reason) = deploy::missing()? {
        narrator.say(&format!("Kubernetes cannot be shown here: {reason}"));
        outcome.unsupported = Some(reason);
        return Ok(());
    }
    let (mut cluster, mut interrupt) = (None, None);
    narrator.step("cluster", |step| {
        let made = start(step, options.nodes)?;
        interrupt = Some(Interrupt::arm(made.lab().directory())?);
        cluster = Some(made);
        Ok(())
    });
    if let Some(cluster) = &mut cluster {
        chapters(narrator, cluster)?;
    }
    Ok(())
}

fn chapters(narrator: &mut Narrator, cluster: &mut KubernetesCluster) -> Result<()> {
    if !narrator.step("manifest", |step| manifest(step, cluster)) {
        return Ok(());
    }
    narrator.step("nodes", |step| nodes(step, cluster));
    let mut pods = Vec::new();
    if !narrator.step("pods", |step| {
        pods = serve(step, cluster)?;
        Ok(())
    }) {
        return Ok(());
    }
    let all: Vec<&Pod> = pods.iter().collect();
    narrator.step("ping", |step| pings::matrix_of(step, &all, Size::Small));
    narrator.step("ping full-size", |step| pings::matrix_of(step, &all, Size::Full));
    narrator.step("UDP and TCP", |step| traffic(step, &pods));
    narrator.step("service", |step| service(step, cluster, &pods));
    let pings = Pings::start(&pods[0], &pods[1])?;
    narrator.step("flanneld's pod deleted", |step| replaced(step, cluster, &pings));
    Ok(())
}

/// Starts control plane and nodes.
fn start(step: &mut Step, nodes: usize) -> Result<KubernetesCluster> {
    let begin = Instant::now();
    step.progress(
        "etcd, API server, controllers, scheduler, and on each node containerd, kubelet and kube-proxy",
    );
    let cluster = KubernetesCluster::start(nodes)?;
    let version = cluster.admin().get("/version")?.object()?["gitVersion"].clone();
    let took = begin.elapsed();
    step.figure("started_ms", millis(took));
    step.figure("version", version.clone());
    step.detail(format!(
        "Kubernetes {}, {nodes} nodes with podCIDRs after {:.1} s; none is ready, without a network",
        version.as_str().unwrap_or_default(),
        took.as_secs_f64()
    ));
    Ok(cluster)
}

/// Applies the manifest, and waits until flanneld and then the nodes are ready.
fn manifest(step: &mut Step, cluster: &mut KubernetesCluster) -> Result<()> {
    let begin = Instant::now();
    cluster.deploy()?;
    let daemons = begin.elapsed();
    step.progress(&format!("flanneld is ready on all nodes after {:.1} s", daemons.as_secs_f64()));
    cluster.wait_ready()?;
    step.figure("daemons_ready_ms", millis(daemons));
    step.figure("nodes_ready_ms", millis(begin.elapsed()));
    step.detail(format!("kubectl apply; all nodes are ready after {:.1} s", begin.elapsed().as_secs_f64()));
    Ok(())
}

/// What flanneld says of each node in its annotations.
fn nodes(step: &mut Step, cluster: &KubernetesCluster) -> Result<()> {
    let headings = ["node", "underlay", "podCIDR", "VTEP MAC", "MTU"];
    let mut rows = vec![headings.map(ToOwned::to_owned).to_vec()];
    let (mut figures, mut given) = (Vec::new(), BTreeSet::new());
    for node in cluster.lab().nodes() {
        let object = cluster.admin().node(node.name())?;
        let annotation = |name: &str| {
            let value = &object["metadata"]["annotations"][format!("{PREFIX}{name}")];
            value.as_str().with_context(|| format!("{} has no annotation {name}", node.name()))
        };
        let data: serde_json::Value = serde_json::from_str(annotation("backend-data")?)?;
        let mac = data["VtepMAC"].as_str().context("a MAC address")?;
        let there = state::mac_of(node, "flannel.1")?;
        ensure!(mac == there, "{} published {mac}, and its flannel.1 has {there}", node.name());
        let (public, cidr) = (annotation("public-ip")?, pod_cidrs(&object).join(", "));
        let mtu = state::mtu_of(node.namespace(), "flannel.1")?;
        ensure!(given.insert(cidr.clone()), "{cidr} is given to two nodes");
        rows.push([node.name(), public, &cidr, mac, &mtu.to_string()].map(ToOwned::to_owned).to_vec());
        figures.push(json!({
            "node": node.name(), "underlay": public, "subnet": cidr, "mac": mac, "mtu": mtu,
        }));
    }
    step.figure("nodes", figures);
    step.detail("each says in its annotations how others reach it");
    step.show(lay_out(&rows));
    Ok(())
}

/// A pod on each node, by a DaemonSet.
fn serve(step: &mut Step, cluster: &KubernetesCluster) -> Result<Vec<Pod>> {
    let begin = Instant::now();
    let running = cluster.serve(Reach::Cluster)?;
    let addresses: Vec<String> = running.iter().map(|pod| pod.address.to_string()).collect();
    step.detail(format!(
        "one on each node after {:.1} s: {}",
        begin.elapsed().as_secs_f64(),
        addresses.join(", ")
    ));
    step.figure("addresses", addresses);
    running.iter().map(|pod| cluster.enter(pod)).collect()
}

/// Datagrams and TCP connections between all pods, counted and compared.
fn traffic(step: &mut Step, pods: &[Pod]) -> Result<()> {
    let traffic = Traffic::among(pods)?;
    std::thread::sleep(WHILE);
    let report = traffic.stop()?;
    step.figure("datagrams", report.sent());
    step.figure("lost", report.lost());
    step.figure("tcp_bytes", report.bytes());
    ensure!(report.is_clean(), "{report}");
    step.detail(report.to_string());
    Ok(())
}

/// The Service leads to all pods, from each.
fn service(step: &mut Step, cluster: &KubernetesCluster, pods: &[Pod]) -> Result<()> {
    let all = cluster.lab().nodes().iter().map(|node| node.name().to_owned()).collect();
    let mut asked = 0;
    for pod in pods {
        asked += cluster.is_served_by(pod.namespace(), &all)?;
    }
    step.figure("asked", asked);
    step.detail(format!("{} leads to the pods of all nodes, by kube-proxy", cluster.service()?));
    Ok(())
}

/// Deletes the pod with flanneld on the first node, while pings run, and waits for the next one.
fn replaced(step: &mut Step, cluster: &KubernetesCluster, pings: &Pings) -> Result<()> {
    let marks = pings.mark();
    let daemons = cluster.wait_daemons()?;
    let first = daemons.first().context("a pod with flanneld")?;
    let begin = Instant::now();
    cluster.kubectl(&format!("--namespace {NAMESPACE} delete pod {}", first.name))?;
    step.progress(&format!("{} is gone after {:.1} s", first.name, begin.elapsed().as_secs_f64()));
    cluster.wait_daemons()?;
    let took = begin.elapsed();
    pings.flow()?;
    let report = pings.since(&marks)?;
    step.figure("ready_again_ms", millis(took));
    step.figure("sent", report.sent);
    step.figure("lost", report.lost);
    ensure!(report.lost == 0, "{} of {} packets were lost", report.lost, report.sent);
    step.detail(format!(
        "0 of {} packets lost; the next one is ready after {:.1} s",
        report.sent,
        took.as_secs_f64()
    ));
    Ok(())
}
