//! Two network namespaces with a cable between them. Nothing but this process's descriptors holds them, so they vanish with it, however it ends.
//! Daemons and files do not: a process of its own sees to these, which waits until this one is gone, by Ctrl-C, by a signal that nobody can
//! catch, or because it is done.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, anyhow, bail, ensure};
use flanneld::cli::ClusterFamilies;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// How many there are.
pub(super) const NODES: usize = 2;

/// The interface of each node.
pub(super) const INTERFACE: &str = "eth0";

/// What it takes, for whoever lacks it.
const TAKES: &str = "--cluster takes root (CAP_SYS_ADMIN and CAP_NET_ADMIN), and iproute2's ip";

/// Reads which processes there are, all in a line; when nobody writes any more, ends those of the last line, and removes the directory. It hears no
/// signal that ends those who began it.
const KEEPER: &str = r#"trap '' INT TERM HUP QUIT
while read -r line; do processes=$line; done
for process in $processes; do kill -KILL "$process"; done
rm -rf "$1"
"#;

/// The namespaces, and a directory for all files.
pub(super) struct Network {
    namespaces: Vec<File>,
    place: PathBuf,
    /// None: it is done.
    keeper: Option<Child>,
}

impl Network {
    /// Makes them. The error says what it takes.
    pub(super) fn make(families: ClusterFamilies) -> anyhow::Result<Self> {
        let missing = |error: anyhow::Error| anyhow!("{error:#}; {TAKES}");
        ip(&["-V"]).map_err(missing)?;
        let namespaces: Result<_, _> = (0..NODES).map(|_| namespace()).collect();
        let namespaces = namespaces.map_err(missing)?;
        let place = tempfile::Builder::new().prefix("flanneld-dev-").tempdir();
        let place = place.context("cannot make a directory for the cluster's files")?.keep();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&place);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // What a terminal sends to all of its foreground is not for it.
        std::os::unix::process::CommandExt::process_group(&mut keeper, 0);
        let keeper = keeper.spawn().context("cannot run sh")?;
        let network = Self { namespaces, place, keeper: Some(keeper) };
        network.connect(families).map_err(missing)?;
        Ok(network)
    }

    fn connect(&self, families: ClusterFamilies) -> anyhow::Result<()> {
        let other = self.path(1)?;
        let other = other.to_str().context("a path in UTF-8")?;
        self.ip(0, &["link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", other])?;
        for (node, host) in (0..NODES).zip(1..) {
            self.ip(node, &["address", "add", &format!("192.168.77.{host}/24"), "dev", INTERFACE])?;
            if families == ClusterFamilies::Dual {
                self.ip(node, &["address", "add", &format!("fd77::{host}/64"), "dev", INTERFACE, "nodad"])?;
            }
            self.ip(node, &["link", "set", "lo", "up"])?;
            self.ip(node, &["link", "set", INTERFACE, "up"])?;
        }
        Ok(())
    }

    /// Where a node's namespace is found by other processes.
    pub(super) fn path(&self, node: usize) -> anyhow::Result<PathBuf> {
        let namespace = self.namespaces.get(node).context("a node")?;
        Ok(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()).into())
    }

    /// Where files go; it vanishes with the cluster.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Does something in a node's namespace, on a thread of its own: what is opened and started there stays inside.
    pub(super) fn inside<T: Send>(&self, node: usize, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let namespace = self.namespaces.get(node).context("a node")?;
        let done = std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> io::Result<T> {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow!("a thread has ended"))
        });
        done?.with_context(|| format!("cannot enter the network namespace of node {}", node + 1))
    }

    /// Says which processes have to end with this one.
    pub(super) fn end_with_us(&mut self, processes: impl Iterator<Item = u32>) -> anyhow::Result<()> {
        let line = processes.map(|process| process.to_string()).collect::<Vec<_>>().join(" ");
        let keeper =
            self.keeper.as_mut().and_then(|keeper| keeper.stdin.as_mut()).context("nobody cleans up")?;
        writeln!(keeper, "{line}").context("nobody cleans up")
    }

    /// Gives a node a pod: addresses of the node's subnet. Those that it has are no error.
    pub(super) fn add_pod(&self, node: usize, addresses: &[IpAddr]) -> anyhow::Result<()> {
        for address in addresses {
            // Without duplicate address detection, during which nobody may use an address of IPv6.
            let (length, more): (u8, &[&str]) = if address.is_ipv4() { (32, &[]) } else { (128, &["nodad"]) };
            let whole = format!("{address}/{length}");
            self.ip(node, &[&["address", "replace", &whole, "dev", "lo"], more].concat())?;
        }
        Ok(())
    }

    fn ip(&self, node: usize, arguments: &[&str]) -> anyhow::Result<()> {
        self.inside(node, || ip(arguments))?
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// A network namespace of its own, which nothing but the descriptor holds.
fn namespace() -> anyhow::Result<File> {
    let made = std::thread::spawn(|| -> io::Result<File> {
        // SAFETY: only the network namespace changes, and only this thread's; no memory or descriptor table is unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        File::open("/proc/thread-self/ns/net")
    });
    let made = made.join().map_err(|_| anyhow!("a thread has ended"))?;
    made.context("cannot make a network namespace")
}

/// Runs `ip`. The error is what it says, in one line.
fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = match Command::new("ip").args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => bail!("cannot run ip: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(output.status.success(), "ip {}: {said}", arguments.join(" "));
    Ok(())
}
