//! A policy that has its peers probed, and takes another way to those that are lost (`tests/components/failover`).

mod backend_change;
mod confined;
mod ways;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::{Cluster, ClusterOptions, Node, http, wait};
use serde_json::Value;

const PORT: u16 = 8471;
const ALLOW: &str = "links,routes,neighbours,fdb,node-info,state,probe";
const IPV4: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"failover"}}"#;
/// A network config for both families.
const BOTH: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{"Type":"failover"}}"#;

/// So many nodes with the policy and these options of it; none of their daemons runs yet.
fn prepare(nodes: usize, config: &str, options: &str) -> Result<Cluster> {
    prepare_with(ClusterOptions { nodes, config: config.to_owned(), ..ClusterOptions::default() }, options)
}

fn prepare_with(cluster: ClusterOptions, options: &str) -> Result<Cluster> {
    let (plugin, allow) = (Some(component("failover")?), Some(ALLOW.to_owned()));
    let mut cluster = Cluster::prepare(&ClusterOptions { plugin, allow, ..cluster })?;
    cluster.add_arguments(&[&format!("--healthz-port={PORT}")]);
    if !options.is_empty() {
        cluster.add_arguments(&[&format!("--plugin-option={options}")]);
    }
    Ok(cluster)
}

/// The same, with pods, and all that is probed answers.
fn start(nodes: usize, config: &str, options: &str) -> Result<Cluster> {
    let mut cluster = prepare(nodes, config, options)?;
    cluster.bring_up()?;
    (0..nodes).try_for_each(|node| wait_probes(&cluster, node, "all answer", all_answer))?;
    Ok(cluster)
}

/// What a node's daemon says of its probes.
fn probes(cluster: &Cluster, node: usize) -> Result<Value> {
    Ok(cluster.status(node)?["probes"].clone())
}

fn wait_probes(cluster: &Cluster, node: usize, what: &str, fits: impl Fn(&Value) -> bool) -> Result<()> {
    wait::until_equal(&format!("node {node}: {what}"), || {
        let probes = probes(cluster, node)?;
        Ok((!fits(&probes)).then(|| probes.to_string()))
    })
    .map(drop)
}

fn all_answer(probes: &Value) -> bool {
    probes["answered"].as_u64() > Some(0) && probes["lost"] == 0 && probes["untested"] == 0
}

/// How many targets are lost.
fn lost(probes: &Value) -> Option<u64> {
    probes["lost"].as_u64()
}

/// Which of the families are blocked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

const BOTH_FAMILIES: &[Family] = &[Family::V4, Family::V6];

/// A carrier between two nodes that takes tunnels, and drops what pods and probes send besides: at both ends, by nftables. Until it is opened, or
/// as long as the lab.
struct Blocked([(usize, String); 2]);

impl Blocked {
    /// Blocks it in these families.
    fn between(cluster: &Cluster, one: usize, other: usize, families: &[Family]) -> Result<Self> {
        Self::with(cluster, one, other, |node, subnets| {
            let of_family = |v6: bool| subnets.iter().find(|subnet| subnet.contains(':') == v6);
            let mut rules = Vec::new();
            if families.contains(&Family::V4) {
                rules.push(format!("ip saddr {} meta l4proto icmp", node.address()));
                rules.push(format!("ip saddr {}", of_family(false).context("no subnet")?));
            }
            if families.contains(&Family::V6) {
                let address = node.address_v6().context("no address")?;
                // Neighbours go on finding each other.
                rules.push(format!("ip6 saddr {address} icmpv6 type {{ echo-request, echo-reply }}"));
                rules.push(format!("ip6 saddr {}", of_family(true).context("no subnet")?));
            }
            Ok(rules)
        })
    }

    /// Blocks what these rules of nft's say, which are about what comes from a node with these subnets.
    fn with(
        cluster: &Cluster,
        one: usize,
        other: usize,
        rules: impl Fn(&Node, &[String]) -> Result<Vec<String>>,
    ) -> Result<Self> {
        let end = |here: usize, there: usize| -> Result<(usize, String)> {
            let (space, table) = (cluster.node(here).namespace(), format!("inet carrier{there}"));
            space.tool("nft", &format!("add table {table}"))?;
            let hook = "{ type filter hook prerouting priority -300 ; }";
            space.tool("nft", &format!("add chain {table} c {hook}"))?;
            for rule in rules(cluster.node(there), &cluster.subnets(there)?)? {
                space.tool("nft", &format!("add rule {table} c iifname eth0 {rule} counter drop"))?;
            }
            Ok((here, table))
        };
        Ok(Self([end(one, other)?, end(other, one)?]))
    }

    /// Lets packets pass again.
    fn open(self, cluster: &Cluster) -> Result<()> {
        self.0.iter().try_for_each(|(node, table)| {
            cluster.node(*node).namespace().tool("nft", &format!("delete table {table}")).map(drop)
        })
    }
}

/// By which device a node sends what comes from its pods, to a pod.
fn way(cluster: &Cluster, node: usize, from: IpAddr, to: IpAddr) -> Result<String> {
    let route = cluster.node(node).namespace().ip_json(&format!("route get {to} from {from} iif cni0"))?;
    let device = route[0]["dev"].as_str();
    Ok(device.with_context(|| format!("no way to {to}: {route}"))?.to_owned())
}

/// Waits until what one node's pod sends to another's leaves by these devices: one for each family that there is.
fn wait_ways(cluster: &Cluster, from: usize, to: usize, devices: &[&str]) -> Result<()> {
    let (here, there) = (cluster.pod(from)?.addresses(), cluster.pod(to)?.addresses());
    ensure!(here.len() == devices.len(), "{here:?}");
    wait::until_equal(&format!("from node {from} to node {to} by {devices:?}"), || {
        for ((here, there), device) in here.iter().zip(&there).zip(devices) {
            let is = way(cluster, from, *here, *there)?;
            if is != *device {
                return Ok(Some(format!("to {there} by {is}; {}", probes(cluster, from)?)));
            }
        }
        Ok(None)
    })
    .map(drop)
}

const PLAIN: &[&str] = &["eth0", "eth0"];
const TUNNEL: &[&str] = &["flannel.1", "flannel-v6.1"];

/// The value of a metric of a node's; none: there is none.
fn metric(cluster: &Cluster, node: usize, name: &str) -> Result<Option<f64>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let body = http::get(cluster.node(node).namespace(), address, "/metrics")?.body;
    let line = body.lines().filter_map(|line| line.rsplit_once(' ')).find(|(series, _)| *series == name);
    line.map(|(_, value)| value.parse().context("no number")).transpose()
}
