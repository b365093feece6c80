//! The external interface and the plugin's own devices.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Family, Mac};

/// A network device that this plugin may use: the external interface, or one that it declared.
#[derive(Debug)]
pub struct Link(
    #[cfg(target_family = "wasm")] crate::bindings::flannel::backend::links::Link,
    #[cfg(not(target_family = "wasm"))] String,
);

/// A VXLAN device (RFC 7348) over the external interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// VXLAN network identifier, 0 to 16777215.
    pub vni: u32,
    /// UDP port of the tunnel; none for the kernel's default, 8472.
    pub port: Option<u16>,
    /// Which of the external interface's addresses the tunnel packets come from.
    pub family: Family,
    /// Whether the kernel learns FDB entries from the packets that come in.
    pub learning: bool,
    /// Whether the group based policy extension is on.
    pub gbp: bool,
    /// Bytes of the largest IP packet, 68 to 65535.
    pub mtu: u32,
}

/// An IPIP device (RFC 2003) over the external interface's IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipip {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// Bytes of the largest IP packet, 68 to 65535.
    pub mtu: u32,
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Error, IpAddr, IpNet, Ipip, Link, Mac, Vxlan};
    use crate::bindings::flannel::backend::links as wit;
    use crate::convert;

    impl Link {
        /// The kernel's name of the device.
        pub fn name(&self) -> String {
            self.0.name()
        }

        /// The device's Ethernet address, which the host chose and keeps; none for devices that have none.
        pub fn mac(&self) -> Option<Mac> {
            self.0.mac().map(convert::mac_from)
        }

        /// Bytes of the largest IP packet that the device carries.
        pub fn mtu(&self) -> u32 {
            self.0.mtu()
        }

        /// Declares the whole set of addresses of the device, each with the prefix length that it shall have there.
        pub fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
            let addresses: Vec<_> = addresses.iter().copied().map(convert::prefix).collect();
            self.0.set_addresses(&addresses).map_err(convert::error)
        }

        /// Declares the whole set of networks that are reached over the device without any next hop, because the device
        /// itself knows where each peer is.
        pub fn set_networks(&self, networks: &[IpNet]) -> Result<(), Error> {
            let networks: Vec<_> = networks.iter().copied().map(convert::prefix).collect();
            self.0.set_networks(&networks).map_err(convert::error)
        }

        pub(crate) fn of(handle: wit::Link) -> Self {
            Self(handle)
        }

        pub(crate) fn handle(&self) -> &wit::Link {
            &self.0
        }
    }

    /// The external interface, for routes that need no tunnel.
    pub fn external() -> Link {
        Link(wit::external())
    }

    /// Declares a VXLAN device; only in `register`.
    pub fn ensure_vxlan(device: &Vxlan) -> Result<Link, Error> {
        let device = wit::Vxlan {
            name: device.name.clone(),
            vni: device.vni,
            port: device.port,
            family: convert::family(device.family),
            learning: device.learning,
            gbp: device.gbp,
            mtu: device.mtu,
        };
        wit::ensure_vxlan(&device).map(Link).map_err(convert::error)
    }

    /// Declares an IPIP device; only in `register`.
    pub fn ensure_ipip(device: &Ipip) -> Result<Link, Error> {
        let device = wit::Ipip { name: device.name.clone(), mtu: device.mtu };
        wit::ensure_ipip(&device).map(Link).map_err(convert::error)
    }

    /// Whether an address is reached over the external interface without any gateway in between.
    pub fn is_on_link(destination: IpAddr) -> Result<bool, Error> {
        wit::is_on_link(convert::address(destination)).map_err(convert::error)
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{Error, IpAddr, IpNet, Ipip, Link, Mac, Vxlan};
    use crate::testing::{Declared, with};

    impl Link {
        /// The kernel's name of the device.
        pub fn name(&self) -> String {
            self.0.clone()
        }

        /// The device's Ethernet address, which the host chose and keeps; none for devices that have none.
        pub fn mac(&self) -> Option<Mac> {
            with(|host| host.macs.get(&self.0).copied())
        }

        /// Bytes of the largest IP packet that the device carries.
        pub fn mtu(&self) -> u32 {
            with(|host| host.mtus.get(&self.0).copied().unwrap_or(1500))
        }

        /// Declares the whole set of addresses of the device, each with the prefix length that it shall have there.
        pub fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
            with(|host| host.declared.push(Declared::Addresses(self.0.clone(), addresses.to_vec())));
            Ok(())
        }

        /// Declares the whole set of networks that are reached over the device without any next hop, because the device
        /// itself knows where each peer is.
        pub fn set_networks(&self, networks: &[IpNet]) -> Result<(), Error> {
            with(|host| host.declared.push(Declared::Networks(self.0.clone(), networks.to_vec())));
            Ok(())
        }

        pub(crate) fn named(name: &str) -> Self {
            Self(name.to_owned())
        }
    }

    /// The external interface, for routes that need no tunnel.
    pub fn external() -> Link {
        Link(with(|host| host.external.clone()))
    }

    /// Declares a VXLAN device; only in `register`.
    pub fn ensure_vxlan(device: &Vxlan) -> Result<Link, Error> {
        with(|host| host.device(device));
        Ok(Link(device.name.clone()))
    }

    /// Declares an IPIP device; only in `register`.
    pub fn ensure_ipip(device: &Ipip) -> Result<Link, Error> {
        with(|host| {
            host.mtus.insert(device.name.clone(), device.mtu);
            host.declared.push(Declared::Ipip(device.clone()));
        });
        Ok(Link(device.name.clone()))
    }

    /// Whether an address is reached over the external interface without any gateway in between.
    pub fn is_on_link(destination: IpAddr) -> Result<bool, Error> {
        with(|host| Ok(host.on_link.contains(&destination)))
    }
}

pub use host::{ensure_ipip, ensure_vxlan, external, is_on_link};
