//! Another backend for a cluster that lives: an operator writes another `Backend` section into the network config, nodes move peer by peer,
//! and no packet is lost.

mod comparison;
mod matrix;

use std::time::Duration;

use anyhow::Result;
use flannel_lab::{Cluster, ClusterOptions, Traffic, change};

const VXLAN: &str = r#"{"Type":"vxlan"}"#;
const HOST_GW: &str = r#"{"Type":"host-gw"}"#;
const UDP: &str = r#"{"Type":"udp"}"#;

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
