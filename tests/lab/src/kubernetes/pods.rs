//! Pods that kubelets run: waited for, and entered.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::KubernetesCluster;
use super::machine::Machine;
use crate::{Namespace, Pod, state, wait};

/// A pod that is ready.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// The number of its node, the first being 0.
    pub node: usize,
    /// Its address.
    pub address: IpAddr,
}

impl KubernetesCluster {
    /// Waits until there are so many pods with a label, such as `app=probe`, in a namespace, and all are ready. They come in the order of their
    /// nodes.
    pub fn wait_pods(&self, namespace: &str, label: &str, count: usize) -> Result<Vec<Running>> {
        let selector: String = form_urlencoded::byte_serialize(label.as_bytes()).collect();
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
        let waited = wait::until(&format!("{count} pods with {label} are ready"), || {
            let list = self.admin().get(&path)?.object()?;
            let pods = list["items"].as_array().context("a list of pods")?;
            let ready: Vec<&Value> = pods.iter().filter(|pod| is_ready(pod)).collect();
            if pods.len() != count || ready.len() != count {
                return Ok(None);
            }
            ready.into_iter().map(|pod| self.running(pod)).collect::<Result<Vec<_>>>().map(Some)
        });
        let (mut pods, _) = waited.with_context(|| self.pods_story(namespace))?;
        pods.sort_by_key(|pod| pod.node);
        Ok(pods)
    }

    fn running(&self, pod: &Value) -> Result<Running> {
        let text = |value: &Value| value.as_str().with_context(|| pod.to_string()).map(str::to_owned);
        let node = text(&pod["spec"]["nodeName"])?;
        let node = self.lab().nodes().iter().position(|known| known.name() == node).context("a node")?;
        let address = text(&pod["status"]["podIP"])?.parse().context("a pod's address")?;
        Ok(Running { name: text(&pod["metadata"]["name"])?, node, address })
    }

    /// What a pod's network is for those who enter it.
    pub fn enter(&self, pod: &Running) -> Result<Pod> {
        let namespace = network(self.machine(pod.node), pod)?;
        let mtu = state::mtu_of(&namespace, "eth0")?;
        Ok(Pod::wired(namespace, [pod.address], self.lab().node(pod.node).namespace(), mtu))
    }

    /// What there is to say of pods that are not as they should be, for people.
    fn pods_story(&self, namespace: &str) -> String {
        let asked = ["get pods --output wide", "get events --sort-by=.lastTimestamp"];
        let answers = asked.map(|what| {
            self.kubectl(&format!("--namespace {namespace} {what}"))
                .unwrap_or_else(|error| format!("{error:#}"))
        });
        format!("{}\n{}", answers.join("\n"), self.story())
    }
}

/// The network namespace of a node's that has the pod's address.
fn network(machine: &Machine, pod: &Running) -> Result<Namespace> {
    let place = machine.path("/run/netns");
    for entry in std::fs::read_dir(&place).with_context(|| place.display().to_string())? {
        // One that goes meanwhile is another pod's.
        let Ok(namespace) = Namespace::open(&pod.name, &entry?.path()) else { continue };
        let links = namespace.ip_json("address show")?;
        let addresses = links.as_array().into_iter().flatten().flat_map(|link| {
            link["addr_info"].as_array().into_iter().flatten().map(|address| &address["local"])
        });
        let wanted = pod.address.to_string();
        if addresses.into_iter().any(|address| *address == wanted.as_str()) {
            return Ok(namespace);
        }
    }
    bail!("{} has no network namespace with {}", machine.name(), pod.address)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| condition["type"] == "Ready").any(|condition| condition["status"] == "True")
}
