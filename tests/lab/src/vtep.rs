//! A node's end of the vxlan tunnel, as its lease tells the others; and the entries that every other node needs for it.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::store::StoredLease;

/// One family of a vxlan node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// The device on every node.
    pub device: &'static str,
    /// The node's subnet.
    pub subnet: String,
    /// The subnet's address, which is the device's address on that node.
    pub address: String,
    /// The device's Ethernet address on that node.
    pub mac: String,
    /// Where the node is in the underlay.
    pub public_ip: String,
}

impl Vtep {
    /// The devices: of IPv4, and of IPv6.
    pub const DEVICES: [&str; 2] = ["flannel.1", "flannel-v6.1"];

    pub(crate) fn of(lease: &StoredLease) -> Result<Vec<Self>> {
        let value: Value =
            serde_json::from_str(&lease.value).with_context(|| format!("the value of {}", lease.key))?;
        lease.subnets().into_iter().map(|subnet| Self::new(&value, subnet)).collect()
    }

    fn new(lease: &Value, subnet: String) -> Result<Self> {
        let v6 = subnet.contains(':');
        let (device, data, public) = if v6 {
            (Self::DEVICES[1], "BackendV6Data", "PublicIPv6")
        } else {
            (Self::DEVICES[0], "BackendData", "PublicIP")
        };
        let text = |value: &Value, what: &str| {
            value.as_str().map(ToOwned::to_owned).with_context(|| format!("{what} in {lease}"))
        };
        let address = subnet.split('/').next().unwrap_or_default().to_owned();
        Ok(Self {
            device,
            mac: text(&lease[data]["VtepMAC"], "VtepMAC")?,
            public_ip: text(&lease[public], public)?,
            address,
            subnet,
        })
    }

    /// The route to it, as `ip route show` has it.
    pub fn route(&self) -> String {
        let Self { subnet, address, device, .. } = self;
        if subnet.contains(':') {
            format!("{subnet} via {address} dev {device} metric 1024 onlink pref medium")
        } else {
            format!("{subnet} via {address} dev {device} onlink")
        }
    }

    /// The neighbour entry for it, as `ip neigh show` has it.
    pub fn neighbour(&self) -> String {
        format!("{} dev {} lladdr {} PERMANENT", self.address, self.device, self.mac)
    }

    /// The forwarding database entry for it, as `bridge fdb show` has it.
    pub fn fdb(&self) -> String {
        format!("{} dev {} dst {} self permanent", self.mac, self.device, self.public_ip)
    }
}
