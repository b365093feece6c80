//! The last question: is what the nodes have after all of that what daemons make that find nothing?

use anyhow::{Context, Result};

use super::check;
use super::scene::Scene;
use crate::{Firewall, Node, wait};

/// Takes what each node has, makes all nodes anew with the same leases, and compares.
pub fn compare(scene: &mut Scene) -> Result<()> {
    let nodes = 0..scene.setting.nodes;
    let before = nodes.clone().map(|index| scene.snapshot(index)).collect::<Result<Vec<_>>>()?;
    for index in nodes.clone() {
        scene.cluster.take_daemon(index)?.kill9();
        flush(scene, index)?;
    }
    for index in nodes.clone() {
        scene.cluster.launch(index)?;
    }
    for index in nodes {
        scene.cluster.daemon(index)?.wait_ready()?;
        wait::until_equal(&format!("node{} has what a fresh start makes", index + 1), || {
            // Before all peers are there, some of it cannot be read.
            let fresh = scene.snapshot(index).with_context(|| format!("node{}", index + 1));
            Ok(fresh
                .map_or_else(|error| Some(format!("{error:#}")), |fresh| fresh.difference(&before[index])))
        })
        .context("`-` is made by a fresh start and was missing, `+` was there and is not made")?;
    }
    check::settled(scene)?;
    check::quiet(scene)
}

/// A reboot: the kernel and `/run` are empty, and the state directory stays.
pub fn flush(scene: &Scene, index: usize) -> Result<()> {
    let node = scene.cluster.node(index);
    let links = node.namespace().ip_json("link show")?;
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    for device in names.filter(|name| name.starts_with("flannel")) {
        node.ip(&format!("link delete {device}"))?;
    }
    flush_ways_beside(node)?;
    for route in scene.cluster.state(index)?.routes {
        let subnet = route.split(' ').next().unwrap_or_default();
        node.ip(&format!("route delete {subnet}"))?;
    }
    node.ip("nexthop flush")?;
    if let Some(firewall) = scene.setting.firewall {
        flush_rules(firewall, node)?;
    }
    std::fs::remove_file(node.subnet_file()).context("the subnet file")
}

/// What a change of the backend has for the time that it takes: rules with their tables, addresses of the loopback interface, and loose filters.
fn flush_ways_beside(node: &Node) -> Result<()> {
    for family in ["-4", "-6"] {
        for rule in node.ip(&format!("{family} rule show"))?.lines() {
            let (preference, rest) = rule.split_once(':').unwrap_or_default();
            if ["0", "32766", "32767"].contains(&preference) {
                continue;
            }
            node.ip(&format!("{family} rule delete preference {preference}"))?;
            if let Some(table) = rest.split_whitespace().skip_while(|word| *word != "lookup").nth(1) {
                node.ip(&format!("{family} route flush table {table}"))?;
            }
        }
        node.ip(&format!("{family} address flush dev lo scope global"))?;
    }
    node.namespace().sysctls(&[("ipv4/conf/eth0/rp_filter", "0")])
}

fn flush_rules(firewall: Firewall, node: &Node) -> Result<()> {
    if firewall == Firewall::Nftables {
        return firewall.flush(node);
    }
    for tool in ["iptables", "ip6tables"] {
        for table in ["nat", "filter"] {
            node.namespace().tool(tool, &format!("-t {table} -F"))?;
            node.namespace().tool(tool, &format!("-t {table} -X"))?;
        }
    }
    Ok(())
}
