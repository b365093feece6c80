//! A pod: a network namespace behind a node, with an address of the node's subnet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::subnet_env::SubnetEnv;
use crate::veth::Bridge;
use crate::{Echo, Namespace, state};

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    namespace: Namespace,
    address: Option<Ipv4Addr>,
    address_v6: Option<Ipv6Addr>,
    mtu: u32,
    node: Namespace,
}

impl Pod {
    /// Makes pod `number` (the first is 0) on a node's bridge: it has the subnet's address 2 + number.
    pub(crate) fn wire(node: &str, number: u32, bridge: Bridge, subnet: &SubnetEnv) -> Result<Self> {
        let namespace = Namespace::new(format!("pod {number} of {node}"))?;
        // Addresses are usable at once.
        namespace.sysctls(&[("ipv6/conf/default/accept_dad", "0")])?;
        bridge.plug(&format!("pod{number}"), &namespace)?;
        let mut commands = Vec::new();
        let address =
            subnet.subnet.map(|gateway| (gateway, Ipv4Addr::from(u32::from(gateway.addr()) + 1 + number)));
        if let Some((gateway, address)) = address {
            commands.push(format!("address add {address}/{} dev eth0", gateway.prefix_len()));
            commands.push(format!("route add default via {}", gateway.addr()));
        }
        let address_v6 = subnet
            .subnet_v6
            .map(|gateway| (gateway, Ipv6Addr::from(u128::from(gateway.addr()) + 1 + u128::from(number))));
        if let Some((gateway, address)) = address_v6 {
            commands.push(format!("address add {address}/{} dev eth0 nodad", gateway.prefix_len()));
            commands.push(format!("route add default via {} dev eth0", gateway.addr()));
        }
        namespace.ip_batch(commands)?;
        let addresses = [address.map(|a| a.1.into()), address_v6.map(|a| a.1.into())];
        Ok(Self::wired(namespace, addresses.into_iter().flatten(), bridge.namespace, subnet.mtu))
    }

    /// One that somebody else has wired, behind a node.
    pub(crate) fn wired(
        namespace: Namespace,
        addresses: impl IntoIterator<Item = IpAddr>,
        node: &Namespace,
        mtu: u32,
    ) -> Self {
        let mut pod = Self { namespace, address: None, address_v6: None, mtu, node: node.clone() };
        for address in addresses {
            match address {
                IpAddr::V4(address) => pod.address = Some(address),
                IpAddr::V6(address) => pod.address_v6 = Some(address),
            }
        }
        pod
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.address.map(IpAddr::V4).into_iter().chain(self.address_v6.map(IpAddr::V6)).collect()
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Result<IpAddr> {
        Ok(self.address.context("the pod has no IPv4 address")?.into())
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Result<IpAddr> {
        Ok(self.address_v6.context("the pod has no IPv6 address")?.into())
    }

    /// Bytes of its largest packet.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Sends one echo request, and waits for its answer.
    pub fn ping(&self, echo: &Echo) -> Result<Duration> {
        echo.once(&self.namespace)
    }

    /// Bytes of the largest packet that gets to an address in one piece: by the way that the node has to it now.
    pub fn largest(&self, to: IpAddr) -> u32 {
        let ways = self.node.ip_json(&format!("route get {to}")).unwrap_or_default();
        let device = ways[0]["dev"].as_str();
        let on_the_way = device.and_then(|device| state::mtu_of(&self.node, device).ok());
        on_the_way.map_or(self.mtu, |mtu| mtu.min(self.mtu))
    }

    /// Another pod answers at all its addresses, to a small packet, and to the largest one, which nobody may cut into pieces.
    pub fn reaches(&self, other: &Self) -> Result<()> {
        for address in other.addresses() {
            self.ping(&Echo::to(address))?;
            // The other one may have been made when packets had to be smaller.
            let size = self.largest(address).min(other.mtu);
            self.ping(&Echo::to(address).size(size).whole())?;
        }
        Ok(())
    }

    /// A packet to another pod that is a byte larger than the largest does not pass in one piece, and the sender is told so,
    /// without which connections would hang.
    pub fn is_told_what_is_too_large(&self, other: &Self) -> Result<()> {
        for address in other.addresses() {
            Echo::to(address).size(self.largest(address) + 1).whole().is_refused(&self.namespace)?;
        }
        Ok(())
    }
}
