//! Another backend for a cluster that lives: an operator writes another `Backend` section into the network config, nodes move peer by peer,
//! and no packet is lost.

mod comparison;
mod filtered;
mod interrupted;
mod leftovers;
mod liars;
mod matrix;
mod membership;
mod pace;
mod refused;
mod reverted;
mod secrets;
mod store;
mod upstream;

use std::time::Duration;

use anyhow::{Result, ensure};
use flannel_lab::change::{self, Ground};
use flannel_lab::{Cluster, ClusterOptions, Traffic, wait};
use serde_json::Value;

const VXLAN: &str = r#"{"Type":"vxlan"}"#;
const HOST_GW: &str = r#"{"Type":"host-gw"}"#;
const UDP: &str = r#"{"Type":"udp"}"#;
const IPSEC: &str = r#"{"Type":"ipsec","PSK":"a-preshared-key-of-the-lab-that-has-ninety-six-characters-and-some-more-so-that-it-is-long-enough-for-all"}"#;

/// How long traffic flows before and after.
const WHILE: Duration = Duration::from_millis(500);

/// Which families a cluster has.
#[derive(Clone, Copy, Debug)]
enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// A network config with a `Backend` section.
    fn config(self, backend: &str) -> String {
        let v6 = r#""EnableIPv6":true,"IPv6Network":"fc00:5::/48""#;
        let networks = match self {
            Self::V4 => r#""Network":"10.5.0.0/16""#.to_owned(),
            Self::V6 => format!(r#""EnableIPv4":false,{v6}"#),
            Self::Both => format!(r#""Network":"10.5.0.0/16",{v6}"#),
        };
        format!(r#"{{{networks},"Backend":{backend}}}"#)
    }
}

/// Whether this machine can have all of these backends; if not, says so.
fn can_have(backends: &[&str]) -> Result<bool> {
    for backend in backends {
        if let Some(reason) = change::missing(backend)? {
            flannel_test_support::skip(&reason);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Traffic flows from each pod to each other while something is done, and nothing of it is lost.
fn nothing_is_lost<T>(
    cluster: &mut Cluster,
    work: impl FnOnce(&mut Cluster, &Traffic) -> Result<T>,
) -> Result<T> {
    let traffic = Traffic::among(cluster.pods())?;
    std::thread::sleep(WHILE);
    let outcome = work(cluster, &traffic)?;
    traffic.goes_on()?;
    std::thread::sleep(WHILE);
    let report = traffic.stop()?;
    println!("{report}");
    change::lost_nothing(cluster, &report)?;
    Ok(outcome)
}

/// Three nodes with IPv4 and a backend.
fn three(backend: &str) -> Result<ClusterOptions> {
    Ok(ClusterOptions {
        nodes: 3,
        backend: change::type_of(backend)?.parse().map_err(anyhow::Error::msg)?,
        config: Families::V4.config(backend),
        ..ClusterOptions::default()
    })
}

/// Three nodes on this ground, with a backend.
fn start(ground: &Ground, backend: &str) -> Result<Cluster> {
    ground.start(&three(backend)?)
}

/// Where senders are checked strictly, which is the harder ground.
fn strict() -> Ground {
    Ground { strict: true, ..Ground::default() }
}

/// What a node says of a peer.
fn peer(cluster: &Cluster, node: usize, peer: usize) -> Result<Value> {
    let (status, subnets) = (cluster.status(node)?, cluster.subnets(peer)?);
    let peers = status["peers"].as_array().map_or(&[][..], Vec::as_slice);
    Ok(peers.iter().find(|peer| peer["subnets"][0] == subnets[0]).cloned().unwrap_or_default())
}

/// Waits until a node reaches a peer by a backend of this type, in its own words, during a change.
fn wait_reached_by(cluster: &Cluster, node: usize, other: usize, backend_type: &str) -> Result<()> {
    let what = format!("node{} reaches node{} by {backend_type}", node + 1, other + 1);
    let reached = wait::until_equal(&what, || {
        let peer = peer(cluster, node, other)?;
        Ok((peer["generation"] != backend_type).then(|| peer.to_string()))
    });
    reached.map(drop).map_err(|error| error.context(change::describe(cluster)))
}

/// Waits until a node says of a peer that something is wrong with it by a backend.
fn wait_named(cluster: &Cluster, node: usize, other: usize, backend_type: &str) -> Result<()> {
    let what = format!("node{} names node{} with {backend_type}", node + 1, other + 1);
    let named = wait::until_equal(&what, || {
        let problems = peer(cluster, node, other)?["problems"].to_string();
        Ok((!problems.contains(backend_type)).then_some(problems))
    });
    named.map(drop).map_err(|error| error.context(change::describe(cluster)))
}

/// Waits until something in a node's status has all of these words in it.
fn wait_said(cluster: &Cluster, node: usize, of: impl Fn(&Value) -> Value, words: &[&str]) -> Result<()> {
    let said = wait::until_equal(&format!("node{} says {words:?}", node + 1), || {
        let said = of(&cluster.status(node)?).to_string();
        Ok((!words.iter().all(|word| said.contains(word))).then_some(said))
    });
    said.map(drop).map_err(|error| error.context(change::describe(cluster)))
}

/// For a while it stays as it is: whoever would change something has had the time to.
fn stays(cluster: &Cluster, mut holds: impl FnMut(&Cluster) -> Result<bool>) -> Result<()> {
    let begin = std::time::Instant::now();
    while begin.elapsed() < LONG_ENOUGH {
        ensure!(holds(cluster)?, "it did not stay so: {}", change::describe(cluster));
        std::thread::sleep(WHILE);
    }
    Ok(())
}

/// Longer than a node waits before it gives up a backend that nobody needs.
const LONG_ENOUGH: Duration = Duration::from_secs(7);
