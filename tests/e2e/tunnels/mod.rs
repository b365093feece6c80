//! Clusters whose nodes reach each other by devices of `tunnel-links`, of each kind (`tests/components/tunnels`).

mod external;
mod next_hop;
mod others;
mod repair;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Namespace, wait};

const ALLOW: &str = "links,routes,neighbours,policy-routing,tunnel-links";
/// The device's name, whatever its kind.
const DEVICE: &str = "flannel.tl";
/// All devices that the kernel makes by itself as soon as it has a kind.
const FALL_BACK: [&str; 7] = ["gre0", "gretap0", "erspan0", "sit0", "tunl0", "ip6tnl0", "ip6gre0"];

/// A `Backend` section with some of the policy's options, such as `"Device":"gre"`.
fn section(options: &str) -> String {
    format!(r#"{{"Type":"tunnels",{options}}}"#)
}

/// A network config for both families.
fn config(section: &str) -> String {
    format!(
        r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{section}}}"#
    )
}

/// Why this kernel cannot have what is made by this command of ip(8); none: it can.
fn missing(command: &str) -> Result<Option<String>> {
    if command.starts_with("fou") {
        // No kernel loads this module by itself. Where there is none, what follows fails.
        let _ = Command::new("modprobe").arg("fou").output();
    }
    let space = Namespace::new("a namespace to try a device in")?;
    space.ip("link add eth0 type veth peer name peer0")?;
    let made = space.ip(command);
    Ok(made.err().map(|error| format!("this kernel cannot have `ip {command}`: {error:#}")))
}

/// Whether this kernel has all that is made so; if not, that is said as the reason of a skip.
fn has(commands: &[&str]) -> Result<bool> {
    for command in commands {
        if let Some(reason) = missing(command)? {
            flannel_test_support::skip(reason);
            return Ok(false);
        }
    }
    Ok(true)
}

/// How clusters with these options are.
fn options(section: &str) -> Result<ClusterOptions> {
    Ok(ClusterOptions {
        config: config(section),
        plugin: Some(component("tunnels")?),
        allow: Some(ALLOW.to_owned()),
        // That a node has routes is waited for here.
        ..ClusterOptions::of(Backend::Alloc, true)
    })
}

/// Two nodes and their pods.
fn start(section: &str) -> Result<Cluster> {
    Cluster::start(&options(section)?)
}

/// Which families a device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    Ipv4,
    Ipv6,
    Both,
}

impl Families {
    fn has(self, address: IpAddr) -> bool {
        match self {
            Self::Both => true,
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
        }
    }
}

/// Waits until each of the two pods gets answers from the other one, in these families, to packets of any size.
fn reach_each_other(cluster: &Cluster, families: Families) -> Result<()> {
    for (from, to) in [(0, 1), (1, 0)] {
        let (from, to) = (cluster.pod(from)?, cluster.pod(to)?);
        for address in to.addresses().into_iter().filter(|address| families.has(*address)) {
            wait::until_equal(&format!("{address} is reached"), || {
                let echo = Echo::to(address).patience(Duration::from_millis(500));
                Ok(from.ping(&echo).err().map(|error| format!("{error:#}")))
            })?;
            let largest = from.largest(address).min(to.mtu());
            from.ping(&Echo::to(address).size(largest).whole())?;
            Echo::to(address).size(largest + 1).whole().is_refused(from.namespace())?;
        }
    }
    Ok(())
}

/// A node's device, as `ip -details link` shows it.
fn shown(cluster: &Cluster, node: usize) -> Result<String> {
    cluster.node(node).ip(&format!("-details link show dev {DEVICE}"))
}

/// The ports at which a node's kernel takes packets out of UDP.
fn fou_ports(cluster: &Cluster, node: usize) -> Result<String> {
    cluster.node(node).ip("fou show")
}

/// The daemon that is started anew finds everything as it should be.
fn a_restart_changes_nothing(cluster: &mut Cluster) -> Result<()> {
    let (state, index) = (cluster.state(0)?, cluster.node(0).ip(&format!("link show dev {DEVICE}"))?);
    let ready = cluster.kill_and_restart(0)?;
    ensure!(ready.line.number("netlink_messages") == Some(0), "{}", ready.line.raw());
    let difference = state.difference(&cluster.state(0)?);
    ensure!(difference.is_none(), "{difference:?}");
    let after = cluster.node(0).ip(&format!("link show dev {DEVICE}"))?;
    ensure!(after == index, "{index} has become {after}");
    Ok(())
}

/// A device that is deleted comes back, with all that was on it.
fn a_deleted_device_comes_back(cluster: &Cluster, families: Families) -> Result<()> {
    let state = cluster.state(0)?;
    cluster.node(0).ip(&format!("link delete {DEVICE}"))?;
    is_as_before(cluster, &state)?;
    reach_each_other(cluster, families)
}

/// Waits until the first node's kernel has again what it has had.
fn is_as_before(cluster: &Cluster, state: &flannel_lab::state::KernelState) -> Result<()> {
    wait::until_equal("all is as before", || Ok(state.difference(&cluster.state(0)?))).map(drop)
}

/// None of the devices that the kernel has made by itself is up, or has an address.
fn fall_back_devices_are_left_alone(cluster: &Cluster) -> Result<()> {
    for name in FALL_BACK {
        let Ok(shown) = cluster.node(0).ip(&format!("-oneline address show dev {name}")) else { continue };
        ensure!(shown.trim().is_empty(), "{shown}");
        let link = cluster.node(0).ip(&format!("-details link show dev {name}"))?;
        ensure!(!link.contains(",UP") && !link.contains("alias"), "{link}");
    }
    Ok(())
}
