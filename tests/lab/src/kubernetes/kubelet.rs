//! The kubelet and kube-proxy of a node.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::containerd::SOCKET;
use super::machine::{Machine, Service};
use super::programs::Programs;
use crate::control_plane::{ControlPlane, Identity};

const CONFIG: &str = "/etc/kubelet.json";
const KUBECONFIG: &str = "/etc/kubelet.kubeconfig";
const PROXY_CONFIG: &str = "/etc/kube-proxy.json";
const PROXY_KUBECONFIG: &str = "/etc/kube-proxy.kubeconfig";

/// Starts the kubelet, which makes the node object.
pub(super) fn start(
    machine: &Machine,
    programs: &Programs,
    plane: &ControlPlane,
    address: IpAddr,
) -> Result<Service> {
    machine.write(CONFIG, &config().to_string())?;
    let token = Identity::Kubelet(machine.name()).token();
    machine.write(KUBECONFIG, &plane.kubeconfig(plane.address(), token.as_deref()).to_string())?;
    let mut command = machine.command(&programs.kubernetes);
    command.args(["kubelet", "--config", CONFIG, "--kubeconfig", KUBECONFIG]);
    command.args(["--hostname-override", machine.name(), "--node-ip", &address.to_string()]);
    machine.spawn("kubelet", command)
}

/// Starts kube-proxy.
pub(super) fn start_proxy(machine: &Machine, programs: &Programs, plane: &ControlPlane) -> Result<Service> {
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": machine.name(),
        "clientConnection": { "kubeconfig": PROXY_KUBECONFIG },
        "detectLocalMode": "NodeCIDR",
        // The machine's limits of connections are left as they are.
        "conntrack": {
            "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s",
        },
        // A Service is to be had soon after it is made.
        "nftables": { "minSyncPeriod": "100ms" },
    });
    machine.write(PROXY_CONFIG, &config.to_string())?;
    let token = Identity::Proxy.token();
    machine.write(PROXY_KUBECONFIG, &plane.kubeconfig(plane.address(), token.as_deref()).to_string())?;
    let mut command = machine.command(&programs.kubernetes);
    command.args(["proxy", "--config", PROXY_CONFIG]);
    machine.spawn("proxy", command).context("kube-proxy")
}

fn config() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        // No groups for classes of pods, and no limit for them all: the machine's processes are the lab's concern.
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
        // The API server asks it for logs, and for commands in containers, as nobody in particular.
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "resolvConf": "",
        // Images are imported; there is no registry to ask.
        "imageMinimumGCAge": "24h",
        // Configurations of networks, and pods' ends, are seen sooner.
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "10s",
    })
}
