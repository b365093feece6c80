//! What the demo is asked for.

use std::path::PathBuf;

use crate::Backend;

/// The demo's options.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch on the command line")]
pub struct DemoOptions {
    /// How many nodes there are at first.
    pub nodes: usize,
    /// The backend.
    pub backend: Backend,
    /// Leases in a real etcd instead of in a directory.
    pub etcd: bool,
    /// Real nodes of Kubernetes, with our manifest.
    pub kubernetes: bool,
    /// Both families instead of IPv4 only.
    pub ipv6: bool,
    /// Swap the plugin while packets flow, too.
    pub swap: bool,
    /// Change the backend to this one while packets flow.
    pub change: Option<Backend>,
    /// Leave all running at the end, until Ctrl-C.
    pub keep: bool,
    /// One JSON object on standard output, and nothing else there.
    pub json: bool,
    /// The plugin; none: the backend's that was built.
    pub plugin: Option<PathBuf>,
    /// The daemon; none: the one that was built.
    pub binary: Option<PathBuf>,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            backend: Backend::Vxlan,
            etcd: false,
            kubernetes: false,
            ipv6: false,
            swap: false,
            change: None,
            keep: false,
            json: false,
            plugin: None,
            binary: None,
        }
    }
}
