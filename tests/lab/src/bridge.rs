//! The switch that all nodes are plugged into, and the router that is the nodes' default gateway, in one box.

use anyhow::Result;

use crate::Namespace;
use crate::node::Place;
use crate::veth::Bridge;

/// The bridge, in the switch's namespace; all nodes are on it.
pub const BRIDGE: &str = "lan";
/// Its own address. One that was not chosen is that of one of the ports, and becomes another one when a node is added: packets to the router
/// went nowhere until the nodes had asked again.
const ADDRESS: &str = "02:00:00:00:77:01";

/// The switch: a bridge in a network namespace of its own.
#[derive(Debug)]
pub struct Switch {
    namespace: Namespace,
    mtu: u32,
}

impl Switch {
    /// Makes one; `mtu` is that of all its ports.
    pub fn new(mtu: u32) -> Result<Self> {
        let namespace = Namespace::new("the switch")?;
        namespace.sysctls(&[
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            // Addresses are usable at once, and nobody is told of a shorter way than through the router.
            ("ipv6/conf/default/accept_dad", "0"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/send_redirects", "0"),
        ])?;
        let mut commands =
            vec![format!("link add name {BRIDGE} address {ADDRESS} mtu {mtu} type bridge mcast_snooping 0")];
        for place in [Place::Near, Place::Far] {
            commands.push(format!("address add {}/24 dev {BRIDGE}", place.gateway()));
            commands.push(format!("address add {}/64 dev {BRIDGE} nodad", place.gateway_v6()));
        }
        namespace.ip_batch(commands)?;
        Ok(Self { namespace, mtu })
    }

    /// Where it is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Plugs a namespace in: it gets an interface `eth0`, which is up, and the switch a port of the given name.
    pub fn plug(&self, into: &Namespace, port: &str) -> Result<()> {
        Bridge { namespace: &self.namespace, name: BRIDGE, mtu: self.mtu }.plug(port, into)
    }

    /// Pulls or plugs a cable: takes a port down or up.
    pub fn set_port(&self, port: &str, up: bool) -> Result<()> {
        self.namespace.ip(&format!("link set {port} {}", if up { "up" } else { "down" }))?;
        Ok(())
    }
}
