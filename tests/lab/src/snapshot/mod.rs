//! All that a node has of flannel's, in the kernel and in words, without what differs from run to run.

mod rules;
mod sysctls;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Cluster, Firewall, Node};

/// Lines, each with a word for where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(Vec<String>);

impl Snapshot {
    /// Takes one of a node, with the rules of the firewall that it has, if any.
    pub fn take(cluster: &Cluster, index: usize, firewall: Option<Firewall>) -> Result<Self> {
        let node = cluster.node(index);
        let mut lines = Vec::new();
        let mut add = |what: &str, text: &str| {
            let nonempty = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
            lines.extend(nonempty.map(|line| format!("{what}: {line}")));
        };
        // In the order of their numbers, which mean nothing.
        let mut state = cluster.state(index)?;
        state.links.sort_unstable();
        add("kernel", &state.to_string());
        add("address", &addresses(node)?.join("\n"));
        for family in ["-4", "-6"] {
            add("route", &routes(&node.ip(&format!("{family} route show table all"))?).join("\n"));
            add("rule", &node.ip(&format!("{family} rule show"))?);
            let nexthops = node.ip(&format!("{family} nexthop show"))?;
            let mut nexthops: Vec<&str> = nexthops.lines().map(without_id).collect();
            nexthops.sort_unstable();
            add("nexthop", &nexthops.join("\n"));
        }
        add("sysctl", &sysctls::read(node.namespace(), |device| !is_the_labs(device))?.join("\n"));
        if let Some(firewall) = firewall {
            add("firewall", &rules::normal(&firewall.rules(node)?).join("\n"));
        }
        // Not every machine has the program that lists them.
        let sources = crate::firewall::tunnel_sources(node).unwrap_or_default();
        add("tunnels", &rules::normal(&sources).join("\n"));
        // That it cannot be read is a difference, too.
        let file = std::fs::read_to_string(node.subnet_file()).unwrap_or_else(|error| error.to_string());
        add("subnet.env", &file);
        for part in essence(&cluster.status(index)?) {
            add("status", &part);
        }
        Ok(Self(lines))
    }

    /// The same with other words in the place of some: for what another cluster has others of.
    #[must_use]
    pub fn renamed(self, names: &[(String, String)]) -> Self {
        let renamed = |line: String| names.iter().fold(line, |line, (name, other)| line.replace(name, other));
        Self(self.0.into_iter().map(renamed).collect())
    }

    /// What is different in another one, one line each; none if nothing is.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let missing = self.0.iter().filter(|line| !other.0.contains(line)).map(|line| format!("- {line}"));
        let added = other.0.iter().filter(|line| !self.0.contains(line)).map(|line| format!("+ {line}"));
        let lines: Vec<String> = missing.chain(added).collect();
        if lines.is_empty() {
            let both = [&self.0, &other.0].map(|lines| lines.join("\n"));
            return Some(format!(
                "the same lines in another order or number:\n{}\n\nand\n\n{}",
                both[0], both[1]
            ));
        }
        Some(lines.join("\n"))
    }
}

/// Whether a device is one that the lab has made for pods, in the place of a container runtime.
fn is_the_labs(device: &str) -> bool {
    device == "cni0" || device.starts_with("pod")
}

/// The addresses of all devices but the lab's, without those that the kernel makes from an Ethernet address.
fn addresses(node: &Node) -> Result<Vec<String>> {
    let devices = node.namespace().ip_json("address show")?;
    let mut lines = Vec::new();
    for device in devices.as_array().into_iter().flatten() {
        let name = device["ifname"].as_str().unwrap_or_default();
        if is_the_labs(name) {
            continue;
        }
        let addresses: Vec<String> =
            device["addr_info"].as_array().into_iter().flatten().filter_map(address).collect();
        lines.push(format!("{name} {}", addresses.join(" ")));
    }
    lines.sort_unstable();
    Ok(lines)
}

fn address(info: &Value) -> Option<String> {
    let global = info["scope"] != "link";
    global.then(|| format!("{}/{}", info["local"].as_str().unwrap_or_default(), info["prefixlen"]))
}

/// Routes of all tables, without numbers of nexthop objects, and without those to addresses that the kernel makes from an Ethernet address.
fn routes(listed: &str) -> Vec<String> {
    let mut lines: Vec<String> = listed
        .lines()
        .filter(|line| !line.contains("fe80::"))
        .map(|line| {
            let mut words: Vec<&str> = line.split_whitespace().collect();
            if let Some(at) = words.iter().position(|word| *word == "nhid") {
                words.drain(at..(at + 2).min(words.len()));
            }
            words.join(" ")
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// What a daemon says of the node and of peers, without numbers, times, and counters.
fn essence(status: &Value) -> Vec<String> {
    let mut peers: Vec<String> = status["peers"].as_array().into_iter().flatten().map(of_peer).collect();
    peers.sort_unstable();
    let lease = json!({"subnets": status["lease"]["subnets"], "mtu": status["lease"]["mtu"]});
    let entries = &status["datapath"]["entries"];
    let own = [&status["ready"], &status["node"], &status["network"], &lease, entries];
    own.into_iter().map(ToString::to_string).chain(peers).collect()
}

fn of_peer(peer: &Value) -> String {
    let mut peer = peer.clone();
    if let Some(fields) = peer.as_object_mut() {
        fields.retain(|name, _| !["id", "traffic", "path_mtu"].contains(&name.as_str()));
    }
    peer.to_string()
}

/// `id 7 via …` without the 7.
fn without_id(line: &str) -> &str {
    let rest = line.strip_prefix("id ").unwrap_or(line);
    rest.split_once(' ').map_or(rest, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Snapshot {
        Snapshot(lines.iter().map(|line| (*line).to_owned()).collect())
    }

    #[test]
    fn numbers_that_mean_nothing_are_left_out() {
        assert_eq!(without_id("id 7 via 10.5.3.0 dev flannel.1"), "via 10.5.3.0 dev flannel.1");
        let peer = json!({"id": 3, "subnets": ["10.5.1.0/24"], "traffic": {"rx_packets": 1}});
        assert_eq!(of_peer(&peer), r#"{"subnets":["10.5.1.0/24"]}"#);
        let listed = "local fe80::1 dev eth0 table local\n10.5.3.0/24 nhid 7 via 10.5.3.0 dev flannel.1 \n";
        assert_eq!(routes(listed), ["10.5.3.0/24 via 10.5.3.0 dev flannel.1"]);
    }

    #[test]
    fn a_difference_shows_both_sides_and_the_order() {
        assert_eq!(of(&["a", "b"]).difference(&of(&["a", "b"])), None);
        assert_eq!(of(&["a", "b"]).difference(&of(&["b", "c"])).as_deref(), Some("- a\n+ c"));
        assert!(of(&["a", "b"]).difference(&of(&["b", "a"])).is_some_and(|said| said.contains("order")));
    }

    #[test]
    fn what_is_called_otherwise_elsewhere_is_the_same_under_another_name() {
        let names = [("9e:01".to_owned(), "MAC of node1".to_owned())];
        assert_eq!(of(&["lladdr 9e:01 x"]).renamed(&names), of(&["lladdr MAC of node1 x"]));
    }
}
