//! Others' manifests that run flannel: upstream's and distributions', reduced to what the image meets in them. They lie in
//! `tests/e2e/kubernetes/shapes/`, a ConfigMap and a DaemonSet each, and can be applied once their namespace and service account are there.
//!
//! Who puts this project's image in the place of flannel's, and changes nothing else (`kubectl set image`), has to have a network.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::objects::Objects;
use crate::workload;
use crate::workspace;

/// What flannel's own images are called in the shapes; other images stay.
const IMAGES: [&str; 2] = ["localhost/flannel:upstream", "localhost/flannel-cni-plugin:upstream"];

/// A manifest: its name, its file, and the network config that it has, if another than the file's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is called, for people.
    pub name: &'static str,
    /// Its file's name, without `.yaml`.
    pub file: &'static str,
    /// The network config; none: the file's.
    pub network_config: Option<&'static str>,
}

const fn of(file: &'static str) -> Source {
    Source { name: file, file, network_config: None }
}

const fn chart(name: &'static str, network_config: &'static str) -> Source {
    Source { name, file: "helm", network_config: Some(network_config) }
}

/// All of them. What upstream's chart writes with other values than its own is in here.
pub const ALL: &[Source] = &[
    of("release"),
    of("documentation"),
    of("helm"),
    chart(
        "helm, vxlan with all values",
        r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","Port":4789,"VNI":4096,"GBP":true,"DirectRouting":true,"MTU":1400,"MacPrefix":"0E-2A"}}"#,
    ),
    chart(
        "helm, dual stack",
        r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}"#,
    ),
    chart(
        "helm, IPv6",
        r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00:10:244::/48","Backend":{"Type":"vxlan"}}"#,
    ),
    chart("helm, host-gw", r#"{"Network":"10.244.0.0/16","Backend":{"Type":"host-gw"}}"#),
    chart(
        "helm, wireguard",
        r#"{"Network":"10.244.0.0/16","Backend":{"Type":"wireguard","ListenPort":51820,"ListenPortV6":51821,"MTU":1420,"Mode":"separate","PersistentKeepaliveInterval":25}}"#,
    ),
    chart("helm, udp", r#"{"Network":"10.244.0.0/16","Backend":{"Type":"udp","Port":8285}}"#),
    chart("helm, ipip", r#"{"Network":"10.244.0.0/16","Backend":{"Type":"ipip"}}"#),
    chart("helm, alloc", r#"{"Network":"10.244.0.0/16","Backend":{"Type":"alloc"}}"#),
    of("talos"),
    of("rke2-flannel"),
    of("canal"),
    of("minikube"),
];

/// A manifest as objects.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Where it is from.
    pub source: Source,
    /// The ConfigMap and the DaemonSet.
    pub objects: Objects,
}

impl Source {
    /// Reads the file.
    pub fn load(self) -> Result<Shape> {
        let file = workspace().join("tests/e2e/kubernetes/shapes").join(self.file).with_extension("yaml");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let mut objects = Objects::parse(&text).with_context(|| file.display().to_string())?;
        if let Some(config) = self.network_config {
            let map =
                objects.0.iter_mut().find(|object| object["kind"] == "ConfigMap").context("no ConfigMap")?;
            map["data"]["net-conf.json"] = config.into();
        }
        if self.network_config.is_some_and(|config| config.contains(r#""Type":"udp""#)) {
            // As upstream's own tests have it, and whoever wants to have this backend.
            objects.containers_mut()?.for_each(|container| {
                if container["name"] == "kube-flannel" {
                    container["securityContext"] = serde_json::json!({ "privileged": true });
                }
            });
        }
        Ok(Shape { source: self, objects })
    }
}

impl Shape {
    /// The DaemonSet.
    pub fn daemon_set(&self) -> Result<&Value> {
        self.objects.only("DaemonSet")
    }

    /// The text of the network config.
    pub fn network_config(&self) -> Result<&str> {
        self.objects.only("ConfigMap")?["data"]["net-conf.json"].as_str().context("no network config")
    }

    /// The text of the CNI configuration; none: somebody else writes one.
    pub fn cni_config(&self) -> Result<Option<&str>> {
        Ok(self.objects.only("ConfigMap")?["data"]["cni-conf.json"].as_str())
    }

    /// Flannel's containers, in the order in which they run, and not those of others.
    pub fn flannels(&self) -> Result<Vec<workload::Container>> {
        let daemon_set = self.daemon_set()?;
        let mut all = workload::init_containers(daemon_set)?;
        all.extend(workload::containers(daemon_set)?);
        all.retain(|container| IMAGES.contains(&container.image.as_str()));
        Ok(all)
    }

    /// What `kubectl set image` makes of it: this image in the place of flannel's own, in all their containers.
    pub fn with_image(mut self, image: &str) -> Result<Self> {
        self.objects.containers_mut()?.for_each(|container| {
            if IMAGES.iter().any(|upstream| container["image"] == *upstream) {
                container["image"] = image.into();
            }
        });
        Ok(self)
    }
}

impl Objects {
    fn containers_mut(&mut self) -> Result<impl Iterator<Item = &mut Value>> {
        let daemon_set =
            self.0.iter_mut().find(|object| object["kind"] == "DaemonSet").context("no DaemonSet")?;
        let pod = daemon_set["spec"]["template"]["spec"].as_object_mut().context("no pod")?;
        let lists =
            pod.iter_mut().filter(|(name, _)| matches!(name.as_str(), "initContainers" | "containers"));
        Ok(lists.filter_map(|(_, list)| list.as_array_mut()).flatten())
    }
}
