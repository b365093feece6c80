//! A DaemonSet's containers, as far as they matter to the program in them.

use anyhow::{Context, Result};
use serde_json::Value;

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Its image.
    pub image: String,
    /// `command` and `args`, which replace the image's own; empty: the image's own count.
    pub command: Vec<String>,
    /// Variables with their values; those that Kubernetes fills in have none.
    pub variables: Vec<(String, Option<String>)>,
    /// Those that Kubernetes fills in, with the field of the pod that they have.
    pub fields: Vec<(String, String)>,
    /// Where volumes are, with their names.
    pub mounts: Vec<(String, String)>,
    /// Whether it may do everything.
    pub privileged: bool,
    /// Capabilities that are added.
    pub added: Vec<String>,
    /// Capabilities that are dropped.
    pub dropped: Vec<String>,
}

impl Container {
    fn read(container: &Value) -> Result<Self> {
        let name = text(&container["name"]).context("a container without a name")?;
        let security = &container["securityContext"];
        let variables = list(&container["env"]).map(|variable| {
            let value =
                variable.get("valueFrom").is_none().then(|| text(&variable["value"]).unwrap_or_default());
            Some((text(&variable["name"])?, value))
        });
        let fields = list(&container["env"]).filter_map(|variable| {
            let field = text(&variable["valueFrom"]["fieldRef"]["fieldPath"])?;
            Some((text(&variable["name"])?, field))
        });
        let mounts = list(&container["volumeMounts"])
            .map(|mount| Some((text(&mount["mountPath"])?, text(&mount["name"])?)));
        Ok(Self {
            image: text(&container["image"]).with_context(|| format!("{name} has no image"))?,
            command: ["command", "args"].iter().flat_map(|part| texts(&container[part])).collect(),
            variables: variables.collect::<Option<_>>().with_context(|| format!("{name}: variables"))?,
            fields: fields.collect(),
            mounts: mounts.collect::<Option<_>>().with_context(|| format!("{name}: mounts"))?,
            privileged: security["privileged"] == true,
            added: texts(&security["capabilities"]["add"]),
            dropped: texts(&security["capabilities"]["drop"]),
            name,
        })
    }

    /// Whether something is mounted where this path is, or above it.
    pub fn mounts(&self, path: &str) -> bool {
        let covers = |place: &str| {
            path.strip_prefix(place.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts.iter().any(|(place, _)| covers(place))
    }
}

/// The containers of a DaemonSet that run before the others, in order.
pub fn init_containers(daemon_set: &Value) -> Result<Vec<Container>> {
    list(&pod(daemon_set)["initContainers"]).map(Container::read).collect()
}

/// The containers of a DaemonSet.
pub fn containers(daemon_set: &Value) -> Result<Vec<Container>> {
    list(&pod(daemon_set)["containers"]).map(Container::read).collect()
}

/// One of them.
pub fn container(daemon_set: &Value, name: &str) -> Result<Container> {
    let found = containers(daemon_set)?.into_iter().find(|container| container.name == name);
    found.with_context(|| format!("no container {name}"))
}

/// A DaemonSet's pod.
pub fn pod(daemon_set: &Value) -> &Value {
    &daemon_set["spec"]["template"]["spec"]
}

/// Names of volumes that the pod has.
pub fn volumes(daemon_set: &Value) -> Vec<String> {
    list(&pod(daemon_set)["volumes"]).filter_map(|volume| text(&volume["name"])).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    list(value).filter_map(text).collect()
}
