//! Where the things under test are: the daemon, the plugins, etcd.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The top of the source tree.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The daemon: what `FLANNELD_BIN` says, else the release build.
pub fn flanneld() -> Result<PathBuf> {
    let path = std::env::var_os("FLANNELD_BIN")
        .map_or_else(|| workspace().join("target/release/flanneld"), PathBuf::from);
    built(path)
}

/// The CNI plugin `flannel`: what `FLANNELD_TEST_CNI_PLUGIN` says, else the release build.
pub fn cni_plugin() -> Result<PathBuf> {
    let path = std::env::var_os("FLANNELD_TEST_CNI_PLUGIN")
        .map_or_else(|| workspace().join("target/release/flannel"), PathBuf::from);
    if !path.is_file() {
        bail!("{} is not there: `cargo xtask kubernetes-node` builds it", path.display());
    }
    Ok(path)
}

/// The manifest that users apply.
pub fn manifest() -> PathBuf {
    workspace().join("deploy/kubernetes/flannel.yml")
}

/// A plugin by its name, such as `vxlan`.
pub fn plugin(name: &str) -> Result<PathBuf> {
    built(workspace().join("plugins").join(name).with_extension("wasm"))
}

/// The directory with the tests' own components, and the examples in other languages than Rust: what `FLANNELD_TEST_COMPONENTS`
/// says, else where they are built.
pub fn components() -> PathBuf {
    std::env::var_os("FLANNELD_TEST_COMPONENTS")
        .map_or_else(|| workspace().join("target/components"), PathBuf::from)
}

/// One of them by its name, such as `hostile`.
pub fn component(name: &str) -> Result<PathBuf> {
    built(components().join(name).with_extension("wasm"))
}

/// What `FLANNELD_TEST_CLOUDS` says, else where the project's setup puts the clouds' own Python libraries.
pub fn clouds() -> PathBuf {
    std::env::var_os("FLANNELD_TEST_CLOUDS")
        .map_or_else(|| workspace().join("target/tools/clouds"), PathBuf::from)
}

/// etcd: what `FLANNELD_TEST_ETCD` says, else what the project's setup put in place, else the one in the path.
pub fn etcd() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FLANNELD_TEST_ETCD") {
        return Ok(path.into());
    }
    let own = workspace().join("target/tools/etcd/usr/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(own)
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join("etcd"))
        .find(|file| file.is_file());
    match found {
        Some(file) => Ok(file),
        None => bail!(
            "etcd is not installed: run `cargo xtask setup`, or say where it is with FLANNELD_TEST_ETCD"
        ),
    }
}

/// The program that has the parts of a Kubernetes control plane: what `FLANNELD_TEST_CONTROL_PLANE` says, else where `cargo xtask
/// control-plane` leaves a link to it.
pub fn control_plane() -> PathBuf {
    std::env::var_os("FLANNELD_TEST_CONTROL_PLANE")
        .map_or_else(|| workspace().join("target/tools/control-plane"), PathBuf::from)
}

/// The program that has the parts of Kubernetes that a node runs, the scheduler, and kubectl: what `FLANNELD_TEST_KUBERNETES_NODE` says,
/// else where `cargo xtask kubernetes-node` leaves a link to it.
pub fn kubernetes_node() -> PathBuf {
    std::env::var_os("FLANNELD_TEST_KUBERNETES_NODE")
        .map_or_else(|| workspace().join("target/tools/kubernetes-node"), PathBuf::from)
}

/// The directory of containerd and its own programs, beside that.
pub fn containerd() -> Result<PathBuf> {
    let directory = kubernetes_node().with_file_name("containerd");
    if directory.join("containerd").is_file() {
        return Ok(directory);
    }
    bail!("{} is not there: `cargo xtask kubernetes-node` makes it", directory.display());
}

/// runc: the one in the path, else Debian's, unpacked below `target/`.
pub fn runc() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin".into(), "/sbin".into(), workspace().join("target/tools/runc/usr/sbin")];
    let found = std::env::split_paths(&path).chain(usual).map(|dir| dir.join("runc"));
    match found.into_iter().find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("runc is not installed: run `cargo xtask kubernetes-node`"),
    }
}

/// A program for administrators, which are not in everybody's path.
pub fn administration(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    match std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("{name} is not installed: run `cargo xtask setup`"),
    }
}

/// The directory of iptables' extensions.
pub fn xtables() -> Result<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = places.map(|place| place.path().join("xtables"));
    match found.chain(["/usr/lib/xtables".into()]).find(|directory| directory.is_dir()) {
        Some(directory) => Ok(directory),
        None => bail!("iptables is not installed: run `cargo xtask setup`"),
    }
}

/// busybox without shared libraries: Debian's, unpacked below `target/`.
pub fn busybox() -> Result<PathBuf> {
    let root = workspace().join("target/tools/busybox");
    match ["bin/busybox", "usr/bin/busybox"]
        .map(|place| root.join(place))
        .into_iter()
        .find(|file| file.is_file())
    {
        Some(file) => Ok(file),
        None => bail!("there is no static busybox: run `cargo xtask kubernetes-node`"),
    }
}

/// The directory with the CNI project's plugins: what `CNI_PATH` says, else one of the usual places, else what the project's
/// setup put in place.
pub fn cni() -> Result<PathBuf> {
    let said = std::env::var_os("CNI_PATH").unwrap_or_default();
    let usual = [
        PathBuf::from("/usr/lib/cni"),
        PathBuf::from("/opt/cni/bin"),
        workspace().join("target/tools/cni/usr/lib/cni"),
    ];
    let is_one = |dir: &PathBuf| ["bridge", "host-local"].iter().all(|plugin| dir.join(plugin).is_file());
    match std::env::split_paths(&said).chain(usual).find(is_one) {
        Some(directory) => Ok(directory),
        None => bail!("the CNI plugins bridge and host-local are not installed: run `cargo xtask setup`"),
    }
}

/// The library that gives a process another wall clock: Debian's, installed or unpacked below `target/`.
pub fn faketime() -> Result<PathBuf> {
    const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
    let roots = [PathBuf::from("/"), workspace().join("target/tools/faketime")];
    let architectures = |root: PathBuf| {
        let entries = std::fs::read_dir(root.join("usr/lib")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().join(LIBRARY))
    };
    match roots.into_iter().flat_map(architectures).find(|file| file.is_file()) {
        Some(file) => Ok(file),
        None => bail!("libfaketime is not installed: run `cargo xtask setup`"),
    }
}

fn built(path: PathBuf) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("{} is not there; build it first: cargo xtask build", path.display());
    }
    Ok(path)
}
