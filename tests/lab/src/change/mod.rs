//! Another backend for a living cluster: what an operator does for that, and what he waits for.
//!
//! The operator writes another `Backend` section into the network config, and touches no node.

mod describe;
mod drops;
mod filter;
mod fresh;
mod ground;
mod moment;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

pub use describe::describe;
pub use filter::Filter;
pub use fresh::{difference_to_one_started_so, is_as_if_started_so};
pub use ground::Ground;
pub use moment::Moment;

use crate::traffic::Report;
use crate::{Backend, Cluster, wait};

/// Changes the backend, and waits until all nodes are at rest with it. Answers how long that took.
pub fn to(cluster: &mut Cluster, backend: &str) -> Result<Duration> {
    put(cluster, backend)?;
    wait_at_rest(cluster, backend)
}

/// Writes another `Backend` section into the network config, and leaves the rest of it.
pub fn put(cluster: &Cluster, backend: &str) -> Result<()> {
    cluster.store().put_config(&with_backend(&cluster.store().config()?, backend)?)
}

/// A network config with another `Backend` section.
pub fn with_backend(config: &str, backend: &str) -> Result<String> {
    let mut config: Map<String, Value> = serde_json::from_str(config).context("the network config")?;
    config.insert("Backend".to_owned(), serde_json::from_str(backend).context("a Backend section")?);
    Ok(Value::Object(config).to_string())
}

/// Waits until all nodes whose daemons run are at rest with a backend. Answers how long that took; an error tells how things stand.
pub fn wait_at_rest(cluster: &mut Cluster, backend: &str) -> Result<Duration> {
    let wanted = canonical(backend)?;
    let what = format!("all nodes are at rest with {wanted}");
    let waited = wait::until_equal(&what, || {
        for index in running(cluster) {
            // A daemon that has just started does not answer yet.
            let unrest = cluster
                .status(index)
                .map_or_else(|error| Some(format!("{error:#}")), |status| unrest(&status, &wanted));
            if let Some(unrest) = unrest {
                return Ok(Some(format!("{}: {unrest}", cluster.node(index).name())));
            }
        }
        let leases = cluster.store().leases()?;
        let changing = leases.iter().find(|lease| lease.value.contains(GENERATIONS));
        Ok(changing.map(|lease| format!("{} still speaks of several: {}", lease.key, lease.value)))
    });
    let took = waited.with_context(|| describe(cluster))?;
    if let Ok(backend) = type_of(backend)?.parse() {
        cluster.set_backend(backend);
    }
    Ok(took)
}

/// What a lease says of more than one generation of the backend only.
pub const GENERATIONS: &str = "\"Generations\"";

/// The nodes whose daemons run.
pub fn running(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.lab().nodes().len()).filter(|index| cluster.has_daemon(*index)).collect()
}

/// What keeps a node from being at rest with a backend, in its daemon's own words; none: nothing.
fn unrest(status: &Value, wanted: &str) -> Option<String> {
    let parts = [
        (status["change"].is_null(), "change"),
        (status["config"]["backend"] == wanted, "config"),
        (status["config"]["refused"].is_null(), "config"),
        (status["ready"]["ready"] == true, "ready"),
    ];
    parts.into_iter().find(|(well, _)| !well).map(|(_, part)| format!("{part}: {}", status[part]))
}

/// A `Backend` section as daemons tell it: with its keys in order, without blanks, and with nothing that is secret.
pub fn canonical(backend: &str) -> Result<String> {
    let mut section: Map<String, Value> = serde_json::from_str(backend).context("a Backend section")?;
    let secret = |name: &str| {
        ["PSK", "AccessKeyID", "AccessKeySecret"].iter().any(|secret| secret.eq_ignore_ascii_case(name))
    };
    for (_, value) in section.iter_mut().filter(|(name, _)| secret(name)) {
        *value = "(held by the host)".into();
    }
    Ok(Value::Object(section).to_string())
}

/// The type of a `Backend` section.
pub fn type_of(backend: &str) -> Result<String> {
    let section: Value = serde_json::from_str(backend).context("a Backend section")?;
    Ok(section["Type"].as_str().context("a Type")?.to_owned())
}

/// Why this machine cannot have the backend of a section; none: it can, or nobody knows it.
pub fn missing(backend: &str) -> Result<Option<String>> {
    type_of(backend)?.parse::<Backend>().map_or(Ok(None), Backend::missing)
}

/// Each packet came, and each byte; an error tells what was lost, and how things stand.
pub fn lost_nothing(cluster: &Cluster, report: &Report) -> Result<()> {
    ensure!(report.is_clean(), "{report}\n{}", describe(cluster));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_backend_section_becomes_another_one() {
        let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}}"#;
        let changed = with_backend(config, r#"{"Type":"udp"}"#).expect("JSON");
        assert_eq!(changed, r#"{"Backend":{"Type":"udp"},"Network":"10.5.0.0/16"}"#);
    }

    #[test]
    fn a_section_is_told_with_its_keys_in_order() {
        assert_eq!(
            canonical(r#"{ "Type": "vxlan", "Port": 1 }"#).expect("JSON"),
            r#"{"Port":1,"Type":"vxlan"}"#
        );
        assert_eq!(
            canonical(r#"{"Type":"ipsec","PSK":"a key"}"#).expect("JSON"),
            r#"{"PSK":"(held by the host)","Type":"ipsec"}"#
        );
    }

    #[test]
    fn a_node_is_at_rest_without_a_change_and_with_the_backend_that_is_wanted() {
        let well = json!({"ready": {"ready": true}, "config": {"backend": "{}"}});
        assert_eq!(unrest(&well, "{}"), None);
        assert!(unrest(&well, r#"{"Type":"udp"}"#).is_some_and(|said| said.starts_with("config")));
        let mut changing = well;
        changing["change"] = json!({"phase": "moving"});
        assert!(unrest(&changing, "{}").is_some_and(|said| said.contains("moving")));
    }
}
