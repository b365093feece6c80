//! Our manifest in a cluster, as users apply it, with an image of this build under the name that the manifest has.

use anyhow::{Context, Result};

use super::KubernetesCluster;
use super::image;
use super::pods::Running;
use crate::artifacts;

/// Where the manifest has flanneld.
pub const NAMESPACE: &str = "kube-flannel";
/// The image that it names.
const IMAGE: &str = "registry.example.com/flanneld:0.1.0";
/// The label of flanneld's pods.
const LABEL: &str = "app=flannel";

/// Why it cannot be; none: it can.
pub fn missing() -> Result<Option<String>> {
    if !artifacts::manifest().is_file() {
        return Ok(Some(format!("{} is not there", artifacts::manifest().display())));
    }
    super::missing()
}

impl KubernetesCluster {
    /// Applies it, and waits until flanneld is ready on each node. Nodes are soon after: [`Self::wait_ready`].
    pub fn deploy(&self) -> Result<Vec<Running>> {
        self.import(&image::flannel::write(IMAGE, self.lab().directory())?)?;
        let manifest = artifacts::manifest();
        self.kubectl(&format!("apply --filename {}", manifest.display()))?;
        self.wait_daemons()
    }

    /// Waits until flanneld is ready on each node.
    pub fn wait_daemons(&self) -> Result<Vec<Running>> {
        let nodes = self.lab().nodes().len();
        self.wait_pods(NAMESPACE, LABEL, nodes).with_context(|| {
            let asked = format!("--namespace {NAMESPACE} logs --selector {LABEL} --all-containers --tail 20");
            self.kubectl(&asked).unwrap_or_else(|error| format!("{error:#}"))
        })
    }
}
