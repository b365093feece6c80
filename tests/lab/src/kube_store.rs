//! The nodes of a real Kubernetes cluster as a lease store: objects without kubelets, and the subnets of a lab, as if node IPAM had assigned them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::control_plane::nodes::pod_cidrs;
use crate::control_plane::{Client, ControlPlane, Identity, Mode};
use crate::store::StoredLease;
use crate::{Lab, Node};

/// The prefix of flannel's annotations.
pub const PREFIX: &str = "flannel.alpha.coreos.com";

/// The store.
#[derive(Debug)]
pub struct KubeStore {
    /// Who serves it.
    pub plane: ControlPlane,
    config: PathBuf,
    kubeconfig: PathBuf,
}

impl KubeStore {
    /// Starts a control plane with upstream's service account, and an object for each node of the lab, which has a subnet already.
    pub fn start(lab: &Lab) -> Result<Self> {
        let store = Self::without_nodes(lab, &[])?;
        lab.nodes().iter().try_for_each(|node| store.join(node))?;
        Ok(store)
    }

    /// The same without the objects, and with more flags for the API server.
    pub fn without_nodes(lab: &Lab, flags: &[&str]) -> Result<Self> {
        let plane = ControlPlane::start_with(lab, Mode::Dual, flags)?;
        plane.admin().apply_manifest()?;
        let directory = lab.directory().join("kubernetes");
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let (config, kubeconfig) = (directory.join("net-conf.json"), directory.join("kubeconfig"));
        let token = Identity::Flannel("node1").token();
        std::fs::write(&kubeconfig, plane.kubeconfig(plane.address(), token.as_deref()).to_string())?;
        Ok(Self { plane, config, kubeconfig })
    }

    /// The administrator.
    pub fn admin(&self) -> Client {
        self.plane.admin()
    }

    /// The file of the network config.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The file with the address of the API server, and upstream's service account.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Makes a node's object. The subnets are of the networks that the lab's configs have.
    pub fn join(&self, node: &Node) -> Result<()> {
        let number = node.name().trim_start_matches(|c: char| !c.is_ascii_digit());
        let cidrs = [format!("10.5.{number}.0/24"), format!("fc00:5:0:{number}::/64")];
        // As the controller manager has it: upstream's daemon ends by a panic where a node has no annotation at all.
        let by_controller = ("node.alpha.kubernetes.io/ttl", "0");
        self.admin().create_node(node.name(), &[&cidrs[0], &cidrs[1]], &[by_controller])?;
        Ok(())
    }

    /// What tells a daemon of it.
    pub fn flags(&self) -> Vec<String> {
        vec![
            "--kube-subnet-mgr".to_owned(),
            format!("--kubeconfig-file={}", self.kubeconfig.display()),
            format!("--net-config-path={}", self.config.display()),
        ]
    }

    /// An annotation of flannel's; none: the node has none.
    pub fn annotation(&self, node: &str, key: &str) -> Result<Option<String>> {
        Ok(annotation(&self.admin().node(node)?, key).map(ToOwned::to_owned))
    }

    /// What flannel's daemons have published, as leases are in etcd.
    pub(crate) fn leases(&self) -> Result<Vec<StoredLease>> {
        let list = self.admin().get("/api/v1/nodes")?.object()?;
        list["items"].as_array().into_iter().flatten().filter_map(|node| lease(node).transpose()).collect()
    }

    /// Makes a node that says so, or has one that has this subnet say so.
    pub(crate) fn put(&self, lease: &StoredLease) -> Result<()> {
        let (said, subnets) = (serde_json::from_str(&lease.value)?, lease.subnets());
        let annotations = annotations(&said);
        let admin = self.admin();
        if let Some(name) = self.node_of(&subnets)? {
            let set: Vec<_> =
                annotations.iter().map(|(key, value)| (key.as_str(), Some(value.as_str()))).collect();
            admin.annotate_node(&name, &set)?;
            return Ok(());
        }
        let set: Vec<_> = annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let subnets: Vec<&str> = subnets.iter().map(String::as_str).collect();
        let name = format!("invented-{}", lease.key.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        admin.create_node(&name, &subnets, &set)?;
        Ok(())
    }

    /// Deletes the node that has it.
    pub(crate) fn remove(&self, lease: &StoredLease) -> Result<()> {
        let name = self.node_of(&lease.subnets())?.with_context(|| format!("no node has {}", lease.key))?;
        self.admin().delete_node(&name)
    }

    fn node_of(&self, subnets: &[String]) -> Result<Option<String>> {
        let list = self.admin().get("/api/v1/nodes")?.object()?;
        let has = |node: &&Value| pod_cidrs(node).iter().any(|cidr| subnets.contains(cidr));
        let node = list["items"].as_array().into_iter().flatten().find(has);
        Ok(node.and_then(|node| Some(node["metadata"]["name"].as_str()?.to_owned())))
    }
}

/// An annotation of flannel's on a node's object.
pub fn annotation<'a>(node: &'a Value, key: &str) -> Option<&'a str> {
    node["metadata"]["annotations"][format!("{PREFIX}/{key}")].as_str()
}

/// What a node says, as a lease in etcd says it.
fn lease(node: &Value) -> Result<Option<StoredLease>> {
    if annotation(node, "kube-subnet-manager") != Some("true") {
        return Ok(None);
    }
    let data = |key| annotation(node, key).filter(|data| !["", "null"].contains(data));
    let address = |key| annotation(node, key).filter(|address| !["", "0.0.0.0"].contains(address));
    let (v4, v6) = (address("public-ip"), address("public-ipv6"));
    let mut value = format!(
        r#"{{"PublicIP":{},"PublicIPv6":{},"BackendType":{}"#,
        json!(v4.unwrap_or("0.0.0.0")),
        json!(v6),
        json!(annotation(node, "backend-type").unwrap_or_default()),
    );
    if let Some(data) = data("backend-data") {
        write!(value, r#","BackendData":{data}"#)?;
    }
    if let Some(data) = data("backend-v6-data").filter(|_| v6.is_some()) {
        write!(value, r#","BackendV6Data":{data}"#)?;
    }
    if let Some(generations) = annotation(node, "generations") {
        write!(value, r#","Generations":{generations}"#)?;
    }
    value.push('}');
    let cidrs = pod_cidrs(node);
    let part = |v6: bool| {
        let cidr = cidrs.iter().find(|cidr| cidr.contains(':') == v6)?;
        Some(cidr.replace('/', "-"))
    };
    let v4 = part(false).filter(|_| v4.is_some());
    let v6_part = part(true).filter(|_| v6.is_some());
    let key = match (v4, v6_part) {
        (Some(v4), Some(v6)) => format!("{v4}&{v6}"),
        (Some(v4), None) => v4,
        (None, Some(v6)) => format!("0.0.0.0-0&{v6}"),
        (None, None) => return Ok(None),
    };
    Ok(Some(StoredLease { key, value }))
}

/// The annotations that say what a lease in etcd says.
fn annotations(said: &Value) -> Vec<(String, String)> {
    let text = |key: &str| said[key].as_str().map(ToOwned::to_owned);
    let data = |key: &str| said.get(key).map(ToString::to_string);
    let all = [
        ("kube-subnet-manager", Some("true".to_owned())),
        ("backend-type", text("BackendType")),
        ("backend-data", data("BackendData")),
        ("public-ip", text("PublicIP")),
        ("public-ipv6", text("PublicIPv6")),
        ("backend-v6-data", data("BackendV6Data")),
    ];
    all.into_iter().filter_map(|(key, value)| Some((format!("{PREFIX}/{key}"), value?))).collect()
}
