//! All that a node has of flannel's, in the kernel and in words, without what differs from run to run.

use anyhow::Result;
use serde_json::{Value, json};

use super::rules;
use super::scene::Scene;

/// Lines, each with a word for where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(Vec<String>);

impl Snapshot {
    /// Takes one of a node.
    pub fn take(scene: &Scene, index: usize) -> Result<Self> {
        let node = scene.cluster.node(index);
        let mut lines = Vec::new();
        let mut add = |what: &str, text: &str| {
            let nonempty = text.lines().map(str::trim_end).filter(|line| !line.trim().is_empty());
            lines.extend(nonempty.map(|line| format!("{what}: {line}")));
        };
        // In the order of their numbers, which mean nothing.
        let mut state = scene.cluster.state(index)?;
        state.links.sort_unstable();
        add("kernel", &state.to_string());
        for family in ["-4", "-6"] {
            add("rule", &node.ip(&format!("{family} rule show"))?);
            let nexthops = node.ip(&format!("{family} nexthop show"))?;
            let mut nexthops: Vec<&str> = nexthops.lines().map(without_id).collect();
            nexthops.sort_unstable();
            add("nexthop", &nexthops.join("\n"));
        }
        if let Some(firewall) = scene.setting.firewall {
            add("firewall", &rules::normal(&firewall.rules(node)?).join("\n"));
        }
        // Not every machine has the program that lists them.
        let sources = crate::firewall::tunnel_sources(node).unwrap_or_default();
        add("tunnels", &rules::normal(&sources).join("\n"));
        // That it cannot be read is a difference, too.
        let file = std::fs::read_to_string(node.subnet_file()).unwrap_or_else(|error| error.to_string());
        add("subnet.env", &file);
        for part in essence(&scene.cluster.status(index)?) {
            add("status", &part);
        }
        Ok(Self(lines))
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

    #[test]
    fn numbers_that_mean_nothing_are_left_out() {
        assert_eq!(without_id("id 7 via 10.5.3.0 dev flannel.1"), "via 10.5.3.0 dev flannel.1");
        let peer = json!({"id": 3, "subnets": ["10.5.1.0/24"], "traffic": {"rx_packets": 1}});
        assert_eq!(of_peer(&peer), r#"{"subnets":["10.5.1.0/24"]}"#);
    }

    #[test]
    fn a_difference_shows_both_sides_and_the_order() {
        let of = |lines: &[&str]| Snapshot(lines.iter().map(|line| (*line).to_owned()).collect());
        assert_eq!(of(&["a", "b"]).difference(&of(&["a", "b"])), None);
        assert_eq!(of(&["a", "b"]).difference(&of(&["b", "c"])).as_deref(), Some("- a\n+ c"));
        assert!(of(&["a", "b"]).difference(&of(&["b", "a"])).is_some_and(|said| said.contains("order")));
    }
}
