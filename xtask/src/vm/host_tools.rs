//! The programs that make a guest.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::setup;

/// Where virtiofsd is in Debian 12, in newer ones, and in Ubuntu; it is in nobody's path.
const VIRTIOFSD: [&str; 3] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"];

const QEMU: &str = "qemu-system-x86_64";

/// Where they are.
pub struct HostTools {
    /// The machine.
    pub qemu: PathBuf,
    /// The daemon that shares a directory.
    pub virtiofsd: PathBuf,
    /// A busybox without shared libraries, for a guest that has no root yet.
    pub busybox: PathBuf,
}

/// Finds them, or installs what is missing.
pub fn find() -> Result<HostTools> {
    let program = |name: &str| setup::program(name);
    let virtiofsd = || VIRTIOFSD.into_iter().map(PathBuf::from).find(|path| path.is_file());
    let mut missing = Vec::new();
    if program(QEMU).is_none() {
        missing.push("qemu-system-x86");
    }
    if program("depmod").is_none() || program("modprobe").is_none() {
        missing.push("kmod");
    }
    if !missing.is_empty() {
        setup::apt_install(&missing)?;
    }
    if virtiofsd().is_none() {
        // A package of its own, but for Debian 12, where it comes with QEMU.
        setup::apt_install(&["virtiofsd"])?;
    }
    Ok(HostTools {
        qemu: program(QEMU).context("no qemu-system-x86_64: install qemu-system-x86")?,
        virtiofsd: virtiofsd().context("no virtiofsd: install the package of that name")?,
        busybox: busybox()?,
    })
}

/// Debian's static one: what is in the path may need libraries.
pub fn busybox() -> Result<PathBuf> {
    let places = ["bin/busybox", "usr/bin/busybox"];
    let at = |root: &Path| places.iter().map(|place| root.join(place)).find(|file| file.is_file());
    let root = setup::unpacked("busybox", &["busybox-static"], |root| at(root).is_some())
        .context("a guest, or an image, of nothing else takes busybox: the package busybox-static")?;
    at(&root).context("busybox-static has no busybox")
}
