//! Starts with odd options and on odd nodes: refused in words if they are refused.

use std::collections::BTreeSet;

use flannel_model::lease::Subnets;
use serde_json::{Map, Value, json};

use super::super::node::SampleNode;
use super::super::session::StartError;
use super::subject::Subject;
use super::{Outcome, Stop};

/// Names of options that backends have; the plugin's own come from the config that it is checked with.
const OPTIONS: [&str; 14] = [
    "VNI",
    "Port",
    "MTU",
    "ListenPort",
    "Mode",
    "DirectRouting",
    "Learning",
    "GBP",
    "PersistentKeepaliveInterval",
    "PreStartupCommand",
    "PostStartupCommand",
    "SubnetAddCommand",
    "SubnetRemoveCommand",
    "NoSuchOption",
];

/// Each option with each kind of value that may be wrong.
pub(super) fn wrong_options(subject: &Subject) -> Outcome {
    let given: Map<String, Value> = serde_json::from_str(&subject.backend).unwrap_or_default();
    // What the type is, is for the host to look at; and so are secrets.
    let hosts = |name: &str| ["type", "psk"].contains(&name.to_ascii_lowercase().as_str());
    let own = given.keys().map(String::as_str).filter(|name| !hosts(name) && !OPTIONS.contains(name));
    let names: Vec<&str> = OPTIONS.into_iter().chain(own).collect();
    let node = subject.node();
    let (mut refused, mut accepted) = (0, 0);
    for name in names {
        for value in wrong_values() {
            let mut options = given.clone();
            options.insert(name.to_owned(), value.clone());
            let said = || shortened(&format!("{name}: {value}"));
            count(subject, &node, &Value::from(options).to_string(), (&mut accepted, &mut refused), said)?;
        }
    }
    Ok(format!("{refused} refused, {accepted} accepted"))
}

fn wrong_values() -> impl Iterator<Item = Value> {
    let numbers = [json!(-1), json!(0), json!(0.5), json!(1e30), json!(65_536), json!(4_294_967_296_u64)];
    let others =
        [json!(null), json!(true), json!(""), json!("x"), json!("\u{0}\u{1f980}"), json!([]), json!({})];
    let long = json!("x".repeat(60 << 10));
    numbers.into_iter().chain(others).chain([long])
}

/// Nodes that the plugin may not be able to work on.
pub(super) fn odd_nodes(subject: &Subject) -> Outcome {
    let (mut refused, mut accepted) = (0, 0);
    let mut node = |said: &str, change: fn(&mut SampleNode)| {
        let mut node = subject.node();
        change(&mut node);
        count(subject, &node, &subject.backend, (&mut accepted, &mut refused), || said.to_owned())
    };
    node("an MTU of 68", |node| node.facts.mtu = 68)?;
    node("an MTU of 576", |node| node.facts.mtu = 576)?;
    node("an MTU of 1280", |node| node.facts.mtu = 1280)?;
    node("an MTU of 65535", |node| node.facts.mtu = 65_535)?;
    node("an MTU of 65536", |node| node.facts.mtu = 65_536)?;
    node("a node behind NAT", |node| {
        node.facts.public_ipv4 = node.facts.ipv4.map(|_| [203, 0, 113, 1].into());
        node.facts.public_ipv6 = node.facts.ipv6.map(|_| [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into());
    })?;
    node("no public address", |node| (node.facts.public_ipv4, node.facts.public_ipv6) = (None, None))?;
    node("an interface without address", |node| (node.facts.ipv4, node.facts.ipv6) = (None, None))?;
    node("peers behind gateways", |node| node.on_link = Some(Vec::new()))?;
    node("a cluster without network", |node| {
        (node.facts.ipv4_network, node.facts.ipv6_network) = (None, None);
    })?;
    Ok(format!("{refused} refused, {accepted} accepted"))
}

fn count(
    subject: &Subject,
    node: &SampleNode,
    backend: &str,
    (accepted, refused): (&mut u32, &mut u32),
    said: impl Fn() -> String,
) -> Result<(), Stop> {
    match subject.start_on(node, backend) {
        Ok(_) => *accepted += 1,
        Err(error) if error.in_words() => *refused += 1,
        Err(error) => return Err(Stop::Failed(format!("{}: {error}", said()))),
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(79).chain(['…']).collect() }
}

/// A node with another lease has the addresses that it would have had with this lease from the beginning.
pub(super) fn leased_again(subject: &Subject) -> Outcome {
    let mut session = subject.start()?;
    let mut node = subject.node();
    node.subnets = Subnets {
        v4: node.subnets.v4.map(|_| ipnet::Ipv4Net::new_assert([10, 254, 0, 0].into(), 24)),
        v6: node
            .subnets
            .v6
            .map(|_| ipnet::Ipv6Net::new_assert([0xfc00, 0, 0, 0xfe00, 0, 0, 0, 0].into(), 64)),
    };
    let lease = node.lease(&session.registered);
    for _ in 0..2 {
        session.lease_acquired(&lease).map_err(|error| error.to_string())?;
    }
    let fresh = subject.start_on(&node, &subject.backend).map_err(|error: StartError| error.to_string())?;
    if session.declared != fresh.declared {
        let (here, there) = (&session.declared.addresses, &fresh.declared.addresses);
        return Err(Stop::Failed(format!("after a change of the lease {here:?}, and at once {there:?}")));
    }
    let addresses: usize = session.declared.addresses.values().map(BTreeSet::len).sum();
    Ok(format!("{addresses} address{}", if addresses == 1 { "" } else { "es" }))
}
