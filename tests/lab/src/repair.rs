//! Damage behind a daemon's back, and how long it takes until the kernel has again what it had.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::netlink_monitor::Watcher;
use crate::primed_command::Prepared;
use crate::state::KernelState;
use crate::vtep::Vtep;
use crate::{Node, wait};

/// What to delete.
#[derive(Clone, Debug)]
pub enum Damage {
    /// A device, with all that is on it.
    Device(String),
    /// The route to a subnet or a network.
    Route(String),
    /// A peer's neighbour entry.
    Neighbour(Vtep),
    /// A peer's forwarding database entry.
    Fdb(Vtep),
}

impl Damage {
    /// All that can be done to what a node has for a peer of vxlan.
    pub fn all(peer: &Vtep) -> [Self; 4] {
        let device = Self::Device(peer.device.to_owned());
        [device, Self::Route(peer.subnet.clone()), Self::Neighbour(peer.clone()), Self::Fdb(peer.clone())]
    }

    /// What it is, for a heading.
    pub fn describe(&self) -> String {
        match self {
            Self::Device(name) => format!("{name} deleted"),
            Self::Route(subnet) => format!("route {subnet} deleted"),
            Self::Neighbour(peer) => format!("neighbour {} deleted", peer.address),
            Self::Fdb(peer) => format!("FDB entry {} deleted", peer.mac),
        }
    }

    /// The tool that does it, and its command.
    fn command(&self) -> (&'static str, String) {
        match self {
            Self::Device(name) => ("ip", format!("link delete {name}")),
            Self::Route(subnet) => ("ip", format!("route delete {subnet}")),
            Self::Neighbour(peer) => ("ip", format!("neigh delete {} dev {}", peer.address, peer.device)),
            Self::Fdb(peer) => {
                ("bridge", format!("fdb delete {} dev {} dst {} self", peer.mac, peer.device, peer.public_ip))
            }
        }
    }

    /// Does it, and waits until the kernel has again exactly what it had. Answers how long that took: from the moment before the
    /// deletion until the last of what was missing is heard of.
    pub fn mended_after(&self, node: &Node) -> Result<Duration> {
        let before = KernelState::read(node)?;
        let watcher = Watcher::start(node)?;
        let (tool, command) = self.command();
        let deleted = Prepared::start(node.namespace(), tool)?.run(&command)?;
        wait::until_equal(&format!("{}: {}, and mended", node.name(), self.describe()), || {
            Ok(before.difference(&KernelState::read(node)?))
        })?;
        // The listener may be a little behind what was just read.
        let (back, _) = wait::until("the damage and its repair are heard of", || {
            let changes = watcher.ours()?;
            let gone = changes.iter().position(|change| change.gone);
            let back = changes.iter().rposition(|change| !change.gone);
            Ok(gone.zip(back).filter(|(gone, back)| gone < back).map(|(_, back)| changes[back].at))
        })
        .with_context(|| self.describe())?;
        Ok(back.saturating_duration_since(deleted))
    }
}
