//! A cable: from a port of a bridge to an interface `eth0` in another network namespace.

use anyhow::Result;

use crate::{Namespace, wait};

/// One end of cables.
#[derive(Clone, Copy, Debug)]
pub struct Bridge<'a> {
    /// Where the bridge is.
    pub namespace: &'a Namespace,
    /// Its name.
    pub name: &'a str,
    /// Bytes of the largest packet.
    pub mtu: u32,
}

impl Bridge<'_> {
    /// Plugs a namespace in, and waits until packets pass.
    pub fn plug(&self, port: &str, into: &Namespace) -> Result<()> {
        let Self { namespace, name, mtu } = *self;
        namespace.ip(&format!(
            "link add name {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}",
            into.path().display()
        ))?;
        into.ip("link set eth0 up")?;
        // The bridge comes last: without a port that is up it has no carrier, and the kernel may take a second to notice that it
        // has one now, in which it drops all packets.
        namespace.ip_batch([format!("link set {port} master {name} up"), format!("link set {name} up")])?;
        for (namespace, device) in [(into, "eth0"), (namespace, port), (namespace, name)] {
            wait::until_true(&format!("{}: {device} is up", namespace.name()), || {
                Ok(namespace.ip_json(&format!("link show dev {device}"))?[0]["operstate"] == "UP")
            })?;
        }
        Ok(())
    }
}
