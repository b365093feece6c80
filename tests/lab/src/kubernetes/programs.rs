//! Where the programs are that a node runs.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::{artifacts, control_plane, privileges};

/// The programs.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// kubelet, kube-proxy, scheduler and kubectl.
    pub kubernetes: PathBuf,
    /// The directory of containerd, its shim and `ctr`.
    pub containerd: PathBuf,
    /// Debian's.
    pub runc: PathBuf,
    /// Without shared libraries.
    pub busybox: PathBuf,
    /// The directory of the CNI project's plugins.
    pub cni: PathBuf,
}

/// Why nodes of Kubernetes cannot be had on this machine; none: they can.
pub fn missing() -> Result<Option<String>> {
    if !privileges::sufficient() || privileges::in_user_namespace() {
        return Ok(Some("containers take root, and no user namespace".to_owned()));
    }
    if let Some(reason) = control_plane::missing()? {
        return Ok(Some(reason));
    }
    let program = artifacts::kubernetes_node();
    if let Ok(reason) = std::fs::read_to_string(program.with_extension("skipped")) {
        return Ok(Some(reason));
    }
    ensure!(program.is_file(), "{} is not there: `cargo xtask kubernetes-node` makes it", program.display());
    Ok(None)
}

impl Programs {
    /// Finds them.
    pub fn find() -> Result<Self> {
        Ok(Self {
            kubernetes: std::fs::canonicalize(artifacts::kubernetes_node())?,
            containerd: std::fs::canonicalize(artifacts::containerd()?)?,
            runc: artifacts::runc()?,
            busybox: artifacts::busybox()?,
            cni: artifacts::cni()?,
        })
    }

    /// The path in which they and what is installed find each other: containerd its shim and runc, kube-proxy `nft`.
    pub fn path(&self) -> Result<OsString> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let runc = self.runc.parent().context("runc's directory")?.to_owned();
        let administrators = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let own = [self.containerd.clone(), runc].into_iter().chain(std::env::split_paths(&path));
        Ok(std::env::join_paths(own.chain(administrators))?)
    }
}
