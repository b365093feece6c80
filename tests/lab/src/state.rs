//! What the kernel of a node has of flannel's: as iproute2 shows it, without what differs from run to run.

use std::fmt;

use anyhow::{Context, Result};

use crate::{Namespace, Node};

/// What the names of all devices begin with.
const DEVICES: &str = "flannel";

/// Lines of iproute2, sorted. Numbers of interfaces and of nexthop objects are left out: they mean nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// `ip -details link`, of the devices.
    pub links: Vec<String>,
    /// `ip address`, of the devices, without link-local ones.
    pub addresses: Vec<String>,
    /// `ip route`, without the default route and those that the kernel makes itself.
    pub routes: Vec<String>,
    /// `ip neigh`, the permanent ones of the devices, with the device.
    pub neighbours: Vec<String>,
    /// `bridge fdb`, of the devices, with the device.
    pub fdb: Vec<String>,
}

impl KernelState {
    /// Reads it. Other processes may change it meanwhile: a device that goes away is no error.
    pub fn read(node: &Node) -> Result<Self> {
        let mut state = Self::default();
        let links = node.ip("-details -oneline link show")?;
        state.links =
            lines(&links, |line| Some(without_number(line)).filter(|line| line.starts_with(DEVICES)));
        for link in &mut state.links {
            // A TUN device says so once it has been without a process; before, it does not know.
            *link = link.replace(" state UNKNOWN ", " state UP ");
        }
        for family in ["-4", "-6"] {
            // Each of several next hops is a line of its own below its route.
            let routes = node.ip(&format!("{family} route show"))?.replace("\n\t", " ");
            state.routes.extend(lines(&routes, route));
            let neighbours = node.ip(&format!("{family} neigh show nud permanent"))?;
            state
                .neighbours
                .extend(lines(&neighbours, |line| of_devices(line).then(|| line.trim().to_owned())));
            let addresses = node.ip(&format!("{family} -oneline address show scope global"))?;
            state.addresses.extend(lines(&addresses, |line| of_devices(line).then(|| without_number(line))));
        }
        state.fdb = lines(&node.bridge("fdb show")?, |line| of_devices(line).then(|| line.trim().to_owned()));
        for part in [&mut state.routes, &mut state.neighbours, &mut state.addresses, &mut state.fdb] {
            part.sort();
        }
        Ok(state)
    }

    /// How many peers' subnets are routed.
    pub fn peers(&self) -> usize {
        self.routes.len()
    }

    /// What is different in another state, one line each; none if nothing is.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (before, after) = (self.to_string(), other.to_string());
        let missing = before
            .lines()
            .filter(|line| !after.lines().any(|other| other == *line))
            .map(|line| format!("- {line}"));
        let added = after
            .lines()
            .filter(|line| !before.lines().any(|other| other == *line))
            .map(|line| format!("+ {line}"));
        let text: Vec<String> = missing.chain(added).collect();
        (!text.is_empty()).then(|| text.join("\n"))
    }

    /// Whether anything of the state has this in it: a subnet, an address, a MAC address.
    pub fn mentions(&self, text: &str) -> bool {
        self.to_string().contains(text)
    }
}

impl fmt::Display for KernelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.links, &self.addresses, &self.routes, &self.neighbours, &self.fdb];
        for line in parts.into_iter().flatten() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// The Ethernet address of one of a node's devices.
pub fn mac_of(node: &Node, device: &str) -> Result<String> {
    let links = node.namespace().ip_json(&format!("link show dev {device}"))?;
    let mac =
        links[0]["address"].as_str().with_context(|| format!("{}: {device} has no address", node.name()))?;
    Ok(mac.to_owned())
}

/// Bytes of the largest packet of one of a node's devices.
pub fn mtu_of(node: &Namespace, device: &str) -> Result<u32> {
    let links = node.ip_json(&format!("link show dev {device}"))?;
    let mtu = links[0]["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok());
    mtu.with_context(|| format!("{}: {device} has no MTU", node.name()))
}

fn lines(text: &str, keep: impl Fn(&str) -> Option<String>) -> Vec<String> {
    text.lines().filter(|line| !line.trim().is_empty()).filter_map(keep).collect()
}

fn of_devices(line: &str) -> bool {
    line.split_whitespace().any(|word| word.starts_with(DEVICES))
}

/// `7: flannel.1: …` without the 7, and with single blanks.
fn without_number(line: &str) -> String {
    let line = line
        .split_once(": ")
        .map_or(line, |(number, rest)| if number.chars().all(|c| c.is_ascii_digit()) { rest } else { line });
    line.replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn route(line: &str) -> Option<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.first() == Some(&"default") || line.contains("proto kernel") {
        return None;
    }
    if let Some(at) = words.iter().position(|word| *word == "nhid") {
        words.drain(at..(at + 2).min(words.len()));
    }
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_by_a_nexthop_object_looks_like_a_plain_one() {
        let plain = "10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink";
        assert_eq!(route("10.5.3.0/24 nhid 7 via 10.5.3.0 dev flannel.1 onlink "), Some(plain.to_owned()));
        assert_eq!(route(plain), Some(plain.to_owned()));
        assert_eq!(route("default via 192.168.77.1 dev eth0"), None);
    }

    #[test]
    fn a_device_made_anew_looks_the_same() {
        assert_eq!(
            without_number("7: flannel.1: <UP> mtu 1450\\    link/ether 9e:01"),
            "flannel.1: <UP> mtu 1450 link/ether 9e:01"
        );
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let state = |fdb: &str| KernelState { fdb: vec![fdb.to_owned()], ..KernelState::default() };
        assert_eq!(state("a").difference(&state("b")).as_deref(), Some("- a\n+ b"));
        assert_eq!(state("a").difference(&state("a")), None);
    }
}
