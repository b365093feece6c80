//! `links`: the external interface, and devices of the plugin's own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use flannel_model::entry::{Device, DeviceSpec, Ipip, Vxlan};
use flannel_model::ledger::Transaction;
use ipnet::IpNet;
use wasmtime::component::Resource;

use super::{HostState, LinkHandle};
use crate::bindings::flannel::backend::links::{
    self as wit, Error, IpAddress, IpFamily, IpPrefix, MacAddress,
};
use crate::call::Function;
use crate::convert;
use flannel_base::Family;

/// What the names of devices begin with, so that they can be told from everybody else's.
const NAME_PREFIX: &str = "flannel";
/// `IFNAMSIZ` less the final zero.
const LONGEST_NAME: usize = 15;
/// UDP ports below are those of the system's services (`ip_unprivileged_port_start` is this by default): other hosts, and firewalls, trust
/// what comes from there.
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

impl wit::Host for HostState {
    fn external(&mut self) -> wasmtime::Result<Resource<LinkHandle>> {
        self.enter("links.external")?;
        Ok(self.table.push(LinkHandle { device: Device::External })?)
    }

    fn ensure_vxlan(&mut self, device: wit::Vxlan) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("links.ensure-vxlan")?;
        let device = self.checked_vxlan(device).map(DeviceSpec::Vxlan);
        self.declared("links.ensure-vxlan", device)
    }

    fn ensure_ipip(&mut self, device: wit::Ipip) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        self.enter("links.ensure-ipip")?;
        let device = self.checked_ipip(device).map(DeviceSpec::Ipip);
        self.declared("links.ensure-ipip", device)
    }

    fn is_on_link(&mut self, destination: IpAddress) -> wasmtime::Result<Result<bool, Error>> {
        self.enter("links.is-on-link")?;
        let answer = self.environment.links.is_on_link(convert::address(destination));
        Ok(self.outcome("links.is-on-link", answer.map_err(Error::Unavailable)))
    }
}

impl wit::HostLink for HostState {
    fn name(&mut self, link: Resource<LinkHandle>) -> wasmtime::Result<String> {
        Ok(match self.device(&link)? {
            Device::External => self.environment.node.interface.clone(),
            Device::Own(name) => name.to_string(),
            Device::Uplink(name) => name.to_string(),
        })
    }

    fn mac(&mut self, link: Resource<LinkHandle>) -> wasmtime::Result<Option<MacAddress>> {
        Ok(match self.device(&link)? {
            Device::External | Device::Uplink(_) => None,
            Device::Own(name) => self.devices.get(&name).and_then(DeviceSpec::mac).map(convert::mac_out),
        })
    }

    fn mtu(&mut self, link: Resource<LinkHandle>) -> wasmtime::Result<u32> {
        let external = convert::carried(self.environment.node.mtu);
        Ok(match self.device(&link)? {
            Device::External => external,
            Device::Own(name) => self.devices.get(&name).map_or(external, DeviceSpec::mtu),
            Device::Uplink(name) => self.uplink_mtu(&name),
        })
    }

    fn set_addresses(
        &mut self,
        link: Resource<LinkHandle>,
        addresses: Vec<IpPrefix>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("link.set-addresses")?;
        let device = self.device(&link)?;
        let outcome = self.checked_addresses(device, &addresses);
        Ok(self.outcome("link.set-addresses", outcome))
    }

    fn set_networks(
        &mut self,
        link: Resource<LinkHandle>,
        networks: Vec<IpPrefix>,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.enter("link.set-networks")?;
        let device = self.device(&link)?;
        let outcome = self.checked_networks(device, &networks);
        Ok(self.outcome("link.set-networks", outcome))
    }

    fn drop(&mut self, link: Resource<LinkHandle>) -> wasmtime::Result<()> {
        self.table.delete(link)?;
        Ok(())
    }
}

impl HostState {
    /// Takes a device that was checked into the transaction, and hands a handle out.
    pub(super) fn declared(
        &mut self,
        capability: &str,
        device: Result<DeviceSpec, Error>,
    ) -> wasmtime::Result<Result<Resource<LinkHandle>, Error>> {
        let outcome = match device {
            Ok(device) => {
                let name = Arc::clone(device.name());
                self.devices.insert(Arc::clone(&name), device.clone());
                self.call.transaction.devices.insert(Arc::clone(&name), device);
                Ok(self.table.push(LinkHandle { device: Device::Own(name) })?)
            }
            Err(error) => Err(error),
        };
        Ok(self.outcome(capability, outcome))
    }

    /// What is checked of every device: when it is declared, what it is called, and its MTU.
    pub(super) fn check_device(&self, name: &str, mtu: u32, least_mtu: u32) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::InvalidArgument(text));
        let node = &self.environment.node;
        if self.call.function != Function::Register {
            return Err(Error::Denied(format!("{name}: devices are declared in register only")));
        }
        let proper = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !proper || !name.starts_with(NAME_PREFIX) || name.len() > LONGEST_NAME {
            let shown = convert::shown(name, 64);
            return invalid(format!(
                "{shown}: a device's name has at most {LONGEST_NAME} characters (letters, digits, `.`, `-`, `_`) and begins with {NAME_PREFIX}"
            ));
        }
        if name == node.interface {
            return Err(Error::Denied(format!("{name} is the external interface")));
        }
        if !self.devices.contains_key(name) && self.devices.len() >= self.limits.devices {
            return Err(Error::LimitExceeded(format!(
                "{name}: a plugin has at most {} devices",
                self.limits.devices
            )));
        }
        if !(least_mtu..=65535).contains(&mtu) {
            return invalid(format!("{name}: an MTU of {mtu} is not between {least_mtu} and 65535"));
        }
        Ok(())
    }

    /// What is checked of each UDP port that a plugin wants to be listened on.
    pub(super) fn check_port(name: &str, port: u16) -> Result<(), Error> {
        if port < FIRST_UNPRIVILEGED_PORT {
            return Err(Error::Denied(format!(
                "{name}: UDP port {port} is one of the system's services; a tunnel's is {FIRST_UNPRIVILEGED_PORT} or above"
            )));
        }
        Ok(())
    }

    fn checked_ipip(&self, device: wit::Ipip) -> Result<Ipip, Error> {
        let wit::Ipip { name, mtu } = device;
        self.check_device(&name, mtu, 68)?;
        let Some(local) = self.environment.node.ipv4 else {
            return Err(Error::InvalidArgument(format!(
                "{name}: the external interface has no IPv4 address"
            )));
        };
        Ok(Ipip { name: name.into(), local, mtu })
    }

    fn checked_vxlan(&self, device: wit::Vxlan) -> Result<Vxlan, Error> {
        let invalid = |text: String| Err(Error::InvalidArgument(text));
        let wit::Vxlan { name, vni, port, family, learning, gbp, mtu } = device;
        let node = &self.environment.node;
        let (family, least, local) = match family {
            IpFamily::Ipv4 => (Family::Ipv4, 68, node.ipv4.map(IpAddr::V4)),
            IpFamily::Ipv6 => (Family::Ipv6, 1280, node.ipv6.map(IpAddr::V6)),
        };
        self.check_device(&name, mtu, least)?;
        if vni > 0xff_ffff {
            return invalid(format!("{name}: VNI {vni} is more than 16777215"));
        }
        if port == Some(0) {
            return invalid(format!("{name}: port 0; none means the kernel's default"));
        }
        port.map_or(Ok(()), |port| Self::check_port(&name, port))?;
        let Some(local) = local else {
            return invalid(format!(
                "{name}: the external interface has no address of the family {family:?}"
            ));
        };
        Ok(Vxlan {
            mac: self.environment.links.mac(&name, vni, family),
            name: name.into(),
            vni,
            port: port.unwrap_or_else(|| self.environment.links.default_vxlan_port()),
            local,
            learning,
            gbp,
            mtu,
        })
    }

    fn checked_networks(&mut self, device: Device, networks: &[IpPrefix]) -> Result<(), Error> {
        let Device::Own(name) = device else {
            return Err(Error::Denied("routes over the operator's interfaces need a next hop".to_owned()));
        };
        if networks.len() > self.limits.addresses {
            return Err(Error::LimitExceeded(format!("{name}: at most {} networks", self.limits.addresses)));
        }
        let mut checked = BTreeSet::new();
        for network in networks {
            let network = convert::network(network)?;
            if !self.is_in_cluster(&network) {
                return Err(Error::Denied(format!("{name}: {network} is not in a cluster network")));
            }
            // As specific as the route to the pods, or more, it would take their packets.
            if let Some(own) = self.own.filter(|own| own.contains(&network)) {
                return Err(Error::Denied(format!("{name}: {network} is of this node's own subnet, {own}")));
            }
            checked.insert(network);
        }
        self.networks.insert(Arc::clone(&name), checked.clone());
        self.call.transaction.networks.insert(name, checked);
        Ok(())
    }

    /// Whether a network lies in one of the cluster's.
    pub(super) fn is_in_cluster(&self, network: &IpNet) -> bool {
        let node = &self.environment.node;
        let v4 = node.ipv4_network.map(IpNet::V4);
        v4.into_iter().chain(node.ipv6_network.map(IpNet::V6)).any(|cluster| cluster.contains(network))
    }

    /// Takes what is this node's own subnet by now out of the networks that were declared before, and have not been since.
    pub(crate) fn keep_own_subnet(&mut self, transaction: &mut Transaction) {
        let Some(own) = self.own else { return };
        for (device, networks) in &mut self.networks {
            let before = networks.len();
            networks.retain(|network| !own.contains(network));
            if networks.len() < before && !transaction.networks.contains_key(device) {
                transaction.networks.insert(Arc::clone(device), networks.clone());
            }
        }
    }

    fn checked_addresses(&mut self, device: Device, addresses: &[IpPrefix]) -> Result<(), Error> {
        let Device::Own(name) = device else {
            return Err(Error::Denied(
                "the external interface's addresses are the operator's, and so are uplinks'".to_owned(),
            ));
        };
        if addresses.len() > self.limits.addresses {
            return Err(Error::LimitExceeded(format!("{name}: at most {} addresses", self.limits.addresses)));
        }
        let Some(own) = self.own else {
            return Err(Error::Denied(format!("{name}: the node has no lease yet to take addresses from")));
        };
        let mut checked = BTreeSet::new();
        for address in addresses {
            let address = convert::interface_address(address)?;
            if !own.contains(&address.addr().into()) {
                return Err(Error::Denied(format!("{name}: {address} is not in this node's subnet, {own}")));
            }
            if !self.is_in_cluster(&address.trunc()) {
                return Err(Error::Denied(format!(
                    "{name}: {address} has a prefix length with which it reaches out of the cluster network"
                )));
            }
            checked.insert(address);
        }
        self.addresses.insert(Arc::clone(&name), checked.clone());
        self.call.transaction.addresses.insert(name, checked);
        Ok(())
    }
}
