//! A cluster of two nodes with a pod each, connected in one of the ways that are compared.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use crate::store::StoredLease;
use crate::{Backend, Cluster, ClusterOptions, Pod, child_reaper, wait};

/// How packets get from node to node.
#[derive(Clone, Debug)]
pub enum Way {
    /// Routed, without any tunnel.
    Bare,
    /// The kernel's VXLAN.
    Vxlan,
    /// The daemon's tunnel with these offloads.
    Udp(&'static str),
    /// The same, with all offloads, among so many peers.
    Many(u32),
    /// Another program with upstream's flags and the backend udp.
    Reference(PathBuf),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare => f.write_str("bare link"),
            Self::Vxlan => f.write_str("kernel VXLAN"),
            Self::Udp("none") => f.write_str("udp, no offload"),
            Self::Udp("tso,gso,gro") => f.write_str("udp"),
            Self::Udp(offloads) => write!(f, "udp, {offloads} alone"),
            Self::Many(peers) => write!(f, "udp, {peers} peers"),
            Self::Reference(_) => f.write_str("reference"),
        }
    }
}

/// Subnets of the other peers come first, the nodes' own are behind them.
const MANY: &str =
    r#"{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMin":"10.255.0.0","Backend":{"Type":"udp"}}"#;

/// The cluster.
pub struct Rig {
    cluster: Cluster,
    others: Vec<Child>,
    processes: Vec<u32>,
}

impl Rig {
    /// Starts it.
    pub fn build(way: &Way) -> Result<Self> {
        let backend = match way {
            Way::Bare => Backend::HostGw,
            Way::Vxlan => Backend::Vxlan,
            Way::Udp(_) | Way::Many(_) | Way::Reference(_) => Backend::Udp,
        };
        let mut options = ClusterOptions::of(backend, false);
        if let Way::Many(_) = way {
            MANY.clone_into(&mut options.config);
        }
        options.etcd = matches!(way, Way::Reference(_));
        let mut rig =
            Self { cluster: Cluster::prepare(&options)?, others: Vec::new(), processes: Vec::new() };
        match way {
            Way::Bare | Way::Vxlan => {}
            Way::Udp(offloads) => rig.cluster.add_arguments(&[&format!("--tunnel-offloads={offloads}")]),
            Way::Many(peers) => rig.add_peers(*peers)?,
            Way::Reference(program) => {
                rig.start_others(program)?;
                rig.cluster.wire_pods()?;
                wait::until_true("the pods reach each other", || {
                    let [one, other] = rig.pods()?;
                    Ok(one.reaches(other).is_ok())
                })?;
                return Ok(rig);
            }
        }
        rig.cluster.bring_up()?;
        for index in 0..2 {
            let pid = rig.cluster.daemon(index)?.pid();
            rig.processes.push(pid);
        }
        Ok(rig)
    }

    /// Leases of nodes that do not exist.
    fn add_peers(&self, peers: u32) -> Result<()> {
        for number in 0..peers {
            let subnet = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + (number << 8));
            let public = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(172, 16, 0, 1)) + number);
            let value = format!(r#"{{"PublicIP":"{public}","PublicIPv6":null}}"#);
            self.cluster.store().put(&StoredLease { key: format!("{subnet}-24"), value })?;
        }
        Ok(())
    }

    /// Only upstream's flags; where ours keeps its files is said in variables that upstream does not know.
    fn start_others(&mut self, program: &Path) -> Result<()> {
        for index in 0..2 {
            let node = self.cluster.node(index);
            let directory = node.directory();
            let mut command = node.namespace().command(program);
            command.args(self.cluster.store().upstream_flags()?);
            command.arg(format!("--subnet-file={}", node.subnet_file().display()));
            command.env("FLANNELD_STATE_DIR", directory.join("state"));
            command.env("FLANNELD_CACHE_DIR", directory.join("cache"));
            command.env("FLANNELD_CONTROL_SOCKET", node.control_socket());
            std::fs::create_dir_all(directory.join("run"))
                .with_context(|| directory.display().to_string())?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = child_reaper::spawn(command)?;
            self.processes.push(child.id());
            self.others.push(child);
        }
        for index in 0..2 {
            let node = self.cluster.node(index);
            wait::until_true(&format!("{}: a subnet file", node.name()), || {
                Ok(node.subnet_env()?.is_some())
            })?;
        }
        Ok(())
    }

    /// The two pods.
    pub fn pods(&self) -> Result<[&Pod; 2]> {
        Ok([self.cluster.pod(0)?, self.cluster.pod(1)?])
    }

    /// The daemons.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().copied()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.others.iter_mut().for_each(child_reaper::end);
    }
}
