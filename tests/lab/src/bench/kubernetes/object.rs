//! A node's object of a usual size, some 12 KiB, with a lease in its annotations.

use serde_json::{Map, Value, json};

use super::super::scale::Invented;
use crate::kube_store::PREFIX;

/// Subnets below 10.6.0.0 are of the lab's nodes.
const FIRST: u32 = 6 << 8;
/// As many as kubelets list at most.
const IMAGES: u64 = 50;

/// A node that there is not.
#[derive(Clone, Debug)]
pub struct Object {
    name: String,
    lease: Invented,
}

impl Object {
    /// The one with a number from 0 on, in its first version or a later one.
    pub fn new(number: u32, version: u16) -> Self {
        Self { name: format!("worker-{number:05}"), lease: Invented::new(FIRST + number, version) }
    }

    /// Its path at the API server.
    pub fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.name)
    }

    fn annotations(&self) -> Map<String, Value> {
        let data = format!(r#"{{"VNI":1,"VtepMAC":"{}"}}"#, self.lease.mac());
        let all = [
            ("kube-subnet-manager", "true".to_owned()),
            ("backend-type", "vxlan".to_owned()),
            ("backend-data", data),
            ("public-ip", self.lease.public()),
        ];
        all.into_iter().map(|(key, value)| (format!("{PREFIX}/{key}"), value.into())).collect()
    }

    /// What says that its daemon has another device.
    pub fn change(&self) -> Value {
        json!({ "metadata": { "annotations": self.annotations() } })
    }

    /// All of it.
    pub fn whole(&self) -> Value {
        let (name, public) = (&self.name, self.lease.public());
        let mut annotations = self.annotations();
        annotations.insert("node.alpha.kubernetes.io/ttl".into(), "300".into());
        annotations.insert("volumes.kubernetes.io/controller-managed-attach-detach".into(), "true".into());
        let csi = format!(r#"{{"csi.example.com":"{name}"}}"#);
        annotations.insert("csi.volume.kubernetes.io/nodeid".into(), csi.into());
        let subnet = format!("{}/24", self.lease.subnet());
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "annotations": annotations, "labels": {
                "beta.kubernetes.io/arch": "amd64",
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "m5.2xlarge",
                "topology.kubernetes.io/region": "eu-central-1",
                "topology.kubernetes.io/zone": "eu-central-1a",
            } },
            "spec": { "podCIDR": subnet, "podCIDRs": [subnet], "providerID": format!("example:///eu-central-1a/{name}") },
            "status": {
                "addresses": [{ "type": "InternalIP", "address": public }, { "type": "Hostname", "address": name }],
                "allocatable": resources(), "capacity": resources(),
                "conditions": conditions(0),
                "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
                "images": (0..IMAGES).map(image).collect::<Vec<_>>(),
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "osImage": "Debian GNU/Linux 13 (trixie)",
                    "bootID": "7f3d7a53-7c04-4c0c-a9b5-6ac1b2f7ab5c", "systemUUID": "ec2f1a0e-5d5b-4ad6-8f0b-3f7b7d7f9d6d",
                    "machineID": "ec2f1a0e5d5b4ad68f0b3f7b7d7f9d6d", "kernelVersion": "6.12.0-1-cloud-amd64",
                    "containerRuntimeVersion": "containerd://2.1.4", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "",
                },
            },
        })
    }
}

/// What a node's kubelet says every five minutes, for the first time, the second, and so on.
pub fn heartbeat(round: u32) -> Value {
    json!({ "status": { "conditions": conditions(round) } })
}

fn resources() -> Value {
    json!({ "cpu": "8", "ephemeral-storage": "81106868Ki", "hugepages-2Mi": "0", "memory": "32386452Ki", "pods": "110" })
}

fn image(number: u64) -> Value {
    let repository = format!("registry.example.com/platform/team-{}/service-{number:02}", number % 7);
    // As long as a digest, and no other image's.
    let digest =
        format!("{:064x}", u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c2d_71b8_e55d));
    json!({
        "names": [format!("{repository}@sha256:{digest}"), format!("{repository}:v1.{number}.0")],
        "sizeBytes": 40_000_000 + number * 1_234_567,
    })
}

fn conditions(round: u32) -> Value {
    let now = format!("2026-01-{:02}T{:02}:{:02}:00Z", 1 + round / 1440 % 31, round / 60 % 24, round % 60);
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    json!([
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available"
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ])
}
