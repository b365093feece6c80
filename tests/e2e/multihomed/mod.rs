//! Nodes with two networks between them, and a policy that has routes with metrics, several next hops and rules for that
//! (`tests/components/multihomed`).

mod backend_change;
mod labels;
mod segments;
mod ways;

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::{Cluster, ClusterOptions, Namespace, Pod, wait};

const ALLOW: &str = "links,policy-routing,node-info";
/// A network config for both families.
const BOTH: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{"Type":"multihomed"}}"#;
/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A second network between nodes, on their interfaces `eth1`: 172.16.9.0/24 and fd79::/64.
struct SecondNetwork(Namespace);

impl SecondNetwork {
    /// Plugs all nodes in.
    fn between(cluster: &Cluster) -> Result<Self> {
        let switch = Namespace::new("the second switch")?;
        switch.sysctls(&[("ipv6/conf/default/accept_dad", "0")])?;
        switch.ip_batch(["link add name second type bridge mcast_snooping 0", "link set second up"])?;
        for (index, node) in cluster.lab().nodes().iter().enumerate() {
            let (name, number) = (node.name(), 11 + index);
            switch.ip(&format!(
                "link add name {name} type veth peer name eth1 netns {}",
                node.namespace().path().display()
            ))?;
            switch.ip_batch([format!("link set {name} master second up")])?;
            node.namespace().ip_batch([
                "link set eth1 up".to_owned(),
                format!("address add 172.16.9.{number}/24 dev eth1"),
                format!("address add fd79::{number}/64 dev eth1 nodad"),
            ])?;
        }
        for node in cluster.lab().nodes() {
            wait::until_true("eth1 is up", || {
                Ok(node.namespace().ip_json("link show dev eth1")?[0]["operstate"] == "UP")
            })?;
        }
        Ok(Self(switch))
    }

    /// Pulls or plugs a node's cable.
    fn set_port(&self, node: &str, up: bool) -> Result<()> {
        self.0.ip(&format!("link set {node} {}", if up { "up" } else { "down" })).map(drop)
    }
}

/// So many nodes of both families with this policy; none of their daemons runs yet.
fn prepare(nodes: usize) -> Result<Cluster> {
    let (plugin, allow) = (Some(component("multihomed")?), Some(ALLOW.to_owned()));
    let config = BOTH.to_owned();
    Cluster::prepare(&ClusterOptions { nodes, config, plugin, allow, ..ClusterOptions::default() })
}

/// Two nodes of both families with this policy and these options of it, and pods. None of their daemons runs before the second network is there.
fn start(options: &str) -> Result<(Cluster, SecondNetwork)> {
    let mut cluster = prepare(2)?;
    let second = SecondNetwork::between(&cluster)?;
    cluster.add_arguments(&["--uplink=eth1", &format!("--plugin-option={options}")]);
    cluster.bring_up()?;
    Ok((cluster, second))
}

/// Routes and rules of a node's that have the policy's mark, in a family.
fn policy_state(cluster: &Cluster, node: usize, family: &str) -> Result<String> {
    let node = cluster.node(node);
    let routes = node.ip(&format!("{family} route show table all proto 119"))?;
    let rules = node.ip(&format!("{family} rule show"))?;
    let rules = rules.lines().filter(|line| line.contains("proto 119"));
    let mut lines: Vec<&str> = routes.lines().chain(rules).collect();
    // Next hops stand below their route.
    if !lines.iter().any(|line| line.starts_with('\t')) {
        lines.sort_unstable();
    }
    Ok(lines.join("\n"))
}

/// The same of both families.
fn whole_state(cluster: &Cluster, node: usize) -> Result<String> {
    Ok(format!("{}\n{}", policy_state(cluster, node, "-4")?, policy_state(cluster, node, "-6")?))
}

/// By which device a node sends what comes from its pods, to a pod.
fn way(cluster: &Cluster, node: usize, from: IpAddr, to: IpAddr) -> Result<String> {
    let route = cluster.node(node).namespace().ip_json(&format!("route get {to} from {from} iif cni0"))?;
    let device = route[0]["dev"].as_str();
    Ok(device.with_context(|| format!("no way to {to}: {route}"))?.to_owned())
}

/// Waits until what the first node's pod sends to the second's leaves by this device, in both families.
fn wait_way(cluster: &Cluster, device: &str) -> Result<()> {
    let (from, to) = (cluster.pod(0)?.addresses(), cluster.pod(1)?.addresses());
    wait::until_equal(&format!("packets leave by {device}"), || {
        for (from, to) in from.iter().zip(&to) {
            let is = way(cluster, 0, *from, *to)?;
            if is != device {
                return Ok(Some(format!("to {to} by {is}: {}", whole_state(cluster, 0)?)));
            }
        }
        Ok(None)
    })?;
    Ok(())
}

/// Packets that a node has sent by a device.
fn sent(cluster: &Cluster, node: usize, device: &str) -> Result<u64> {
    let shown = cluster.node(node).namespace().ip_json(&format!("-statistics link show dev {device}"))?;
    shown[0]["stats64"]["tx"]["packets"].as_u64().with_context(|| format!("no count: {shown}"))
}

/// Sends datagrams from an address of one pod to another pod, as many flows as are asked for, of so many each; all of them arrive.
fn send(from: &Pod, source: IpAddr, to: (&Pod, IpAddr), flows: usize, each: usize) -> Result<()> {
    let (pod, address) = to;
    let sink = pod.namespace().run(|| UdpSocket::bind((address, 0)))??;
    sink.set_read_timeout(Some(wait::scaled(PATIENCE)))?;
    let target = sink.local_addr()?;
    let mut buffer = [0; 16];
    for _ in 0..flows {
        let socket = from.namespace().run(|| UdpSocket::bind((source, 0)))??;
        for n in 0..each {
            socket.send_to(&n.to_be_bytes(), target)?;
            let (length, sender) = sink.recv_from(&mut buffer).context("a datagram is lost")?;
            ensure!(length > 0 && sender.ip() == source, "{length} bytes of {sender}");
        }
    }
    Ok(())
}
