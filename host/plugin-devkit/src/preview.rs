//! What a plugin would have on a node that there is: for `flanneld config check`. Nothing is changed anywhere.

use std::sync::Arc;

use flannel_model::canonical::canonical;
use flannel_model::entry::DeviceSpec;
use flannel_model::lease::Subnets;
use flannel_model::network_config::fields;
use flannel_plugin_host::{Artifact, NodeFacts, NodeInfo, Registration, Uplink, extract_secrets};

use super::node::SampleNode;
use super::session::Session;

/// What no option of a backend is.
const NO_VALUE: &str = r#"{"no":"value"}"#;

/// What a plugin would have on a node. Ethernet addresses and keys in it are made up.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Bytes of the largest IP packet of a pod.
    pub mtu: u32,
    /// The devices, by name.
    pub devices: Vec<DeviceSpec>,
    /// Options of the backend that the plugin does not read, for all that can be seen: whatever is there makes no difference.
    pub unread: Vec<String>,
}

/// Registers a plugin for a node, and hands its subnets over if they are known. `backend` is the network config's `Backend` object. The
/// error, for an operator, is why it does not start.
pub fn preview(
    artifact: &Artifact,
    (facts, about, uplinks): (&NodeFacts, &Arc<NodeInfo>, Vec<Uplink>),
    subnets: Option<Subnets>,
    backend: &str,
) -> Result<Preview, String> {
    let backend = canonical(backend);
    let node = SampleNode::with(facts.clone(), subnets.unwrap_or(Subnets { v4: None, v6: None }));
    let mut node = node.told(about);
    node.uplinks = uplinks;
    let start =
        |backend: &str| Session::register(artifact, &node, backend).map_err(|error| error.to_string());
    let mut session = start(&backend)?;
    if subnets.is_some() {
        let lease = node.lease(&session.registered);
        session.lease_acquired(&lease).map_err(|error| error.to_string())?;
    }
    let registered = &session.registered;
    let makes_no_difference = |name: &String| {
        start(&with_no_value(&backend, name)).is_ok_and(|other| is_the_same(registered, &other.registered))
    };
    let unread = plugins_options(&backend)?.into_iter().filter(makes_no_difference).collect();
    let devices = session.declared.devices.values().cloned().collect();
    Ok(Preview { mtu: registered.mtu, devices, unread })
}

/// The options that the plugin gets to see: not its type, which is for the host to look at, nor secrets, which the host keeps.
fn plugins_options(backend: &str) -> Result<Vec<String>, String> {
    let all = fields(backend).map_err(|error| error.to_string())?;
    let backend_type = all.iter().find(|(name, _)| name == "Type");
    let backend_type = backend_type.and_then(|(_, value)| serde_json::from_str::<String>(value.get()).ok());
    let (shown, _) = extract_secrets(&backend_type.unwrap_or_default(), backend)?;
    let shown = fields(&canonical(&shown)).map_err(|error| error.to_string())?;
    let is_shown =
        |name: &str, value: &str| shown.iter().any(|(its, seen)| its == name && seen.get() == value);
    let all = all.into_iter().filter(|(name, value)| name != "Type" && is_shown(name, value.get()));
    Ok(all.map(|(name, _)| name).collect())
}

fn with_no_value(backend: &str, name: &str) -> String {
    let others = fields(backend).unwrap_or_default().into_iter().map(|(its, value)| {
        let value = if its == name { NO_VALUE } else { value.get() };
        format!("{}:{value}", serde_json::Value::from(its))
    });
    format!("{{{}}}", others.collect::<Vec<_>>().join(","))
}

fn is_the_same(one: &Registration, other: &Registration) -> bool {
    let published = |registration: &Registration| {
        let data = [&registration.backend_data, &registration.backend_v6_data];
        data.map(|data| data.as_ref().map(|data| data.get().to_owned()))
    };
    one.mtu == other.mtu
        && published(one) == published(other)
        && one.transaction.devices == other.transaction.devices
}
