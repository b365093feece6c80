//! An image with flanneld, the CNI plugin, and this machine's firewall programs, laid out as manifests expect it. It is for the lab: the one
//! for others is made of Debian's packages alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::layout::Image;
use super::root::Root;
use crate::artifacts;

/// All that iptables is, under one of its names or another.
const IPTABLES: &str = "xtables-nft-multi";
const IPTABLES_NAMES: [&str; 6] =
    ["iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"];

/// Writes an archive of it under a name, below a directory. Answers where it is.
pub fn write(name: &str, directory: &Path) -> Result<PathBuf> {
    let root = Root::new(&directory.join("flannel"))?;
    root.copy_with_libraries(&artifacts::flanneld()?, "opt/bin/flanneld")?;
    root.copy_with_libraries(&artifacts::cni_plugin()?, "flannel")?;
    // flanneld is these, too, by the names that it is called by.
    for applet in ["opt/bin/install-conf", "bin/cp"] {
        root.link("/opt/bin/flanneld", applet)?;
    }
    for program in ["nft", IPTABLES] {
        let file = artifacts::administration(program)?;
        root.copy_with_libraries(&file, &format!("usr/sbin/{program}"))?;
    }
    for name in IPTABLES_NAMES {
        root.link(IPTABLES, &format!("usr/sbin/{name}"))?;
    }
    let extensions = artifacts::xtables()?;
    for entry in std::fs::read_dir(&extensions).with_context(|| extensions.display().to_string())? {
        let file = entry?.path();
        root.copy(&file, file.display().to_string().trim_start_matches('/'))?;
    }
    let archive = directory.join("flannel.tar");
    let image = Image { names: &[name], path: "/opt/bin:/usr/sbin:/bin", command: &["/opt/bin/flanneld"] };
    image.write(root.path(), &directory.join("flannel.image"), &archive)?;
    Ok(archive)
}
