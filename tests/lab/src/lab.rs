//! The lab: a switch and the nodes that are plugged into it, with a directory for their files. No daemon runs yet.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::bridge::Switch;
use crate::{Namespace, Node, Place};

/// What the network between the nodes is like.
#[derive(Clone, Copy, Debug)]
pub struct Underlay {
    /// Whether nodes have IPv6 addresses besides their IPv4 ones.
    pub ipv6: bool,
    /// Bytes of the largest packet on the wire.
    pub mtu: u32,
}

impl Default for Underlay {
    fn default() -> Self {
        Self { ipv6: false, mtu: 1500 }
    }
}

/// A lab. When it is dropped, its network is gone and so are its files.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    switch: Switch,
    underlay: Underlay,
    directory: TempDir,
}

impl Lab {
    /// Makes a lab of so many nodes.
    pub fn new(nodes: usize, underlay: Underlay) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("flannel-lab-").tempdir().context("cannot make a directory")?;
        let mut lab = Self { nodes: Vec::new(), switch: Switch::new(underlay.mtu)?, underlay, directory };
        for _ in 0..nodes {
            lab.add_node(Place::Near)?;
        }
        Ok(lab)
    }

    /// Adds a node.
    pub fn add_node(&mut self, place: Place) -> Result<&Node> {
        let at = self.nodes.len();
        let node = Node::new(at + 1, place, &self.switch, self.underlay, self.directory.path())?;
        self.nodes.push(node);
        Ok(&self.nodes[at])
    }

    /// Adds something that is no node, with an IPv4 address in the nodes' network: a server.
    pub fn add_server(&self, name: &str, last_octet: u8) -> Result<Namespace> {
        let namespace = Namespace::new(name)?;
        self.switch.plug(&namespace, name)?;
        namespace.ip_batch([
            format!("address add 192.168.77.{last_octet}/24 dev eth0"),
            format!("route add default via {}", Place::Near.gateway()),
        ])?;
        Ok(namespace)
    }

    /// The nodes, in the order in which they came.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node, the first being 0.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The switch.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Where the lab's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All files that the daemons and the store have written and keep, with what is in them. What goes or is exchanged meanwhile may be missing.
    pub fn files(&self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let (mut found, mut places) = (Vec::new(), vec![self.directory().to_owned()]);
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(&place)? {
                let path = entry?.path();
                if path.is_dir() {
                    places.push(path);
                } else if path.is_file() {
                    match std::fs::read(&path) {
                        Ok(bytes) => found.push((path, bytes)),
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => return Err(error).with_context(|| path.display().to_string()),
                    }
                }
            }
        }
        Ok(found)
    }
}
