//! `GC`: removes what is left of attachments that a runtime has forgotten.

use std::collections::HashSet;

use serde_json::Value;

use crate::Streams;
use crate::config::{Config, Object};
use crate::container_id::ContainerId;
use crate::delegate::Delegate;
use crate::environment::{CONTAINER_ID, Environment, IFNAME, NETNS};
use crate::error::CniError;
use crate::node_subnet::NodeSubnet;
use crate::render;
use crate::saved::{Saved, SavedConfigs};

use super::del;

/// What all runtimes call a pod's first interface: for what upstream's plugin has saved, which does not say.
const USUAL_IFNAME: &str = "eth0";

/// Undoes each attachment of this network that is kept here and is not among the valid ones, and has the delegate do the same. Goes on
/// whatever fails; the first failure is answered, and those after it as its details.
pub(super) fn run(
    config: &Config,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<(), CniError> {
    let valid: HashSet<(String, String)> = config.valid_attachments()?.into_iter().collect();
    let saved = SavedConfigs(&config.data_dir);
    let kept = Kept::of(config, saved, streams)?;
    let mut failures = Vec::new();
    for (container, rendered, ifname) in &kept.0 {
        if is_valid(&valid, container, ifname.as_deref()) {
            continue;
        }
        let ifname = ifname.as_deref().unwrap_or(USUAL_IFNAME);
        // Its namespace may be gone, and its name another's by now.
        let environment =
            environment.clone().with(CONTAINER_ID, container.as_str()).with(IFNAME, ifname).without(NETNS);
        failures.extend(del::undo(saved, container, rendered, &environment, streams).err());
    }
    failures.extend(forward(config, &kept, environment, streams).err());
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    let all: Vec<String> = std::iter::once(first.details.clone())
        .filter(|details| !details.is_empty())
        .chain(failures.map(|error| error.in_full()))
        .collect();
    Err(first.with_details(all.join("; ")))
}

/// Of one that does not say which interface it is of, the container has to be there.
fn is_valid(valid: &HashSet<(String, String)>, container: &ContainerId, ifname: Option<&str>) -> bool {
    valid
        .iter()
        .any(|(its, interface)| its == container.as_str() && ifname.is_none_or(|ifname| ifname == interface))
}

/// What is kept of this network's attachments: container, rendered configuration, and interface.
struct Kept(Vec<(ContainerId, Object, Option<String>)>);

impl Kept {
    /// Other networks may have the same directory. What cannot be used is said, and stays for `DEL`: it may be theirs.
    fn of(config: &Config, saved: SavedConfigs<'_>, streams: &mut Streams<'_>) -> Result<Self, CniError> {
        let mut kept = Vec::new();
        for container in saved.containers()? {
            match saved.read(&container) {
                Ok(Some(Saved::Config(rendered, ifname))) => {
                    if rendered.get("name").and_then(Value::as_str) == Some(&config.name) {
                        kept.push((container, rendered, ifname));
                    }
                }
                Ok(Some(Saved::Broken(reason))) => streams.remark(reason),
                Ok(None) => {}
                Err(error) => streams.remark(error),
            }
        }
        Ok(Self(kept))
    }
}

/// Hands the request on, with the configuration that an `ADD` would have now, or else with that of one before. Where there is neither, there
/// is nothing that anybody could have left.
fn forward(
    config: &Config,
    kept: &Kept,
    environment: &Environment,
    streams: &mut Streams<'_>,
) -> Result<(), CniError> {
    let rendered = match NodeSubnet::read(&config.subnet_file) {
        Ok(subnet) => Some(render::delegate_config(config, &subnet)?),
        Err(_) => kept.0.first().map(|(_, rendered, _)| rendered.clone()),
    };
    let Some(mut rendered) = rendered else { return Ok(()) };
    if let Some(version) = &config.version {
        rendered.insert("cniVersion".to_owned(), Value::from(version.as_str()));
    }
    rendered.extend(config.attachments().clone());
    let delegate = Delegate::find(render::delegate_type(config)?, environment)?;
    delegate.run_newer("GC", config.version(), &rendered, environment, streams.stderr)
}
