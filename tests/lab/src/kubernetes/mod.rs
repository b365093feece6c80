//! Real nodes of Kubernetes: a kubelet, containerd and kube-proxy on each node of a lab, with the lab's control plane and a scheduler.
//!
//! A node is a machine of its own (network, mounts, processes, control groups) without being one: nothing of it is seen outside, several
//! clusters may run at once, and all of it vanishes with this process, however that ends, but for empty control groups.
//!
//! | module | job |
//! |---|---|
//! | [`machine`], `node.sh` | what a node runs in, and how things are started there |
//! | `cgroups` | its control groups |
//! | `programs` | what there is to run |
//! | [`mod@image`] | images, made here |
//! | `containerd`, `kubelet` | what runs on each node |
//! | [`kubectl`] | files applied, objects shown |
//! | [`pods`] | pods waited for, and entered |
//! | [`deploy`] | our manifest, as users apply it |
//! | [`servers`] | what clusters are tried with |

mod cgroups;
mod containerd;
pub mod deploy;
pub mod image;
pub mod kubectl;
mod kubelet;
pub mod machine;
pub mod pods;
mod programs;
pub mod servers;

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::control_plane::nodes::pod_cidrs;
use crate::control_plane::{Client, ControlPlane, Identity, Mode};
use crate::{Lab, Underlay, wait};
use machine::{Machine, Service};
use programs::Programs;
pub use programs::missing;

/// Where a node has its configuration of networks, inside.
const NETWORK: &str = "/etc/cni/net.d/10-lab.conflist";

/// A running cluster. All of it ends when this is dropped.
#[derive(Debug)]
pub struct KubernetesCluster {
    // In this order: what asks the API server, the nodes, the API server, and where they all are.
    services: Vec<Service>,
    machines: Vec<Machine>,
    plane: ControlPlane,
    lab: Lab,
    programs: Programs,
}

impl KubernetesCluster {
    /// Starts one of so many nodes, `node1` to `node9`, and waits until all have registered and have podCIDRs. They are not ready before they
    /// have a network: see [`Self::write_network`].
    pub fn start(nodes: usize) -> Result<Self> {
        let programs = Programs::find()?;
        let lab = Lab::new(nodes, Underlay::default())?;
        let plane = ControlPlane::start_for_kubelets(&lab, Mode::Single)?;
        let mut cluster = Self { services: Vec::new(), machines: Vec::new(), plane, lab, programs };
        cluster.start_scheduler()?;
        let archive = image::write_busybox(&cluster.programs.busybox, cluster.lab.directory())?;
        for index in 0..nodes {
            cluster.start_node(index, &archive)?;
        }
        for index in 0..nodes {
            let name = cluster.lab.node(index).name().to_owned();
            cluster.wait_node(&name, "it has registered, and has podCIDRs", |node| {
                !pod_cidrs(node).is_empty()
            })?;
        }
        Ok(cluster)
    }

    fn start_scheduler(&mut self) -> Result<()> {
        let directory = self.plane.directory();
        let kubeconfig = directory.join("scheduler.kubeconfig");
        let token = Identity::Scheduler.token();
        let text = self.plane.kubeconfig(self.plane.address(), token.as_deref()).to_string();
        std::fs::write(&kubeconfig, text).with_context(|| kubeconfig.display().to_string())?;
        let mut command = self.lab.switch().namespace().command(&self.programs.kubernetes);
        command.arg("scheduler").arg("--kubeconfig").arg(&kubeconfig);
        command.args(["--leader-elect=false", "--secure-port=0"]).stdin(Stdio::null());
        self.services.push(Service::start("scheduler", command, directory)?);
        Ok(())
    }

    fn start_node(&mut self, index: usize, archive: &Path) -> Result<()> {
        let (node, programs) = (self.lab.node(index), &self.programs);
        let machine = Machine::start(node, programs.path()?)?;
        for plugin in ["bridge", "host-local", "loopback", "portmap"] {
            let link = machine.path("/opt/cni/bin").join(plugin);
            if !link.exists() {
                std::os::unix::fs::symlink(programs.cni.join(plugin), link).context("a CNI plugin")?;
            }
        }
        let mut services = vec![containerd::start(&machine, programs)?];
        containerd::import(&machine, programs, archive)?;
        services.push(kubelet::start(&machine, programs, &self.plane, node.address().into())?);
        services.push(kubelet::start_proxy(&machine, programs, &self.plane)?);
        self.services.extend(services);
        self.machines.push(machine);
        Ok(())
    }

    /// The lab that it is in.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its control plane.
    pub fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Asks the API server as the administrator.
    pub fn admin(&self) -> Client {
        self.plane.admin()
    }

    /// A node as a machine, the first being 0.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn machine(&self, index: usize) -> &Machine {
        &self.machines[index]
    }

    /// Gives all nodes the images of an archive, as `docker save` or an OCI layout has them.
    pub fn import(&self, archive: &Path) -> Result<()> {
        self.machines.iter().try_for_each(|machine| containerd::import(machine, &self.programs, archive))
    }

    /// Gives each node a network of its own, by the CNI project's plugins alone: pods get addresses of the node's podCIDR, and reach
    /// those of their node.
    pub fn write_network(&self) -> Result<()> {
        for machine in &self.machines {
            let cidrs = self.admin().wait_pod_cidrs(machine.name())?;
            let ranges: Vec<Value> = cidrs.iter().map(|cidr| json!([{ "subnet": cidr }])).collect();
            let network = json!({
                "cniVersion": "1.0.0",
                "name": "lab",
                "plugins": [
                    {
                        "type": "bridge",
                        "bridge": "cni0",
                        "isDefaultGateway": true,
                        "ipam": { "type": "host-local", "ranges": ranges },
                    },
                    { "type": "portmap", "capabilities": { "portMappings": true } },
                ],
            });
            machine.write(NETWORK, &network.to_string())?;
        }
        Ok(())
    }

    /// Waits until all nodes are ready, and pods may be put on them.
    pub fn wait_ready(&mut self) -> Result<()> {
        let names: Vec<String> = self.machines.iter().map(|machine| machine.name().to_owned()).collect();
        for name in names {
            self.wait_node(&name, "it is ready, and has no taint", |node| {
                let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
                let is_ready = conditions
                    .filter(|condition| condition["type"] == "Ready")
                    .any(|condition| condition["status"] == "True");
                is_ready && node["spec"]["taints"].as_array().is_none_or(Vec::is_empty)
            })?;
        }
        Ok(())
    }

    fn wait_node(&mut self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        let path = format!("/api/v1/nodes/{name}");
        let mut last = String::new();
        let waited = wait::until_true(&format!("{name}: {what}"), || {
            self.services.iter_mut().try_for_each(Service::has_not_ended)?;
            let answer = self.plane.admin().get(&path)?;
            last.clone_from(&answer.body);
            Ok(answer.status == 200 && is_so(&answer.json()?))
        });
        waited.map(drop).with_context(|| format!("{last}\n{}", self.story()))
    }

    /// What has been said last by all, for people.
    pub fn story(&self) -> String {
        let services = self.services.iter().map(Service::story).collect::<String>();
        self.plane.story() + &services
    }
}
