//! GRE, Geneve, IP in IP and VLAN devices of the plugin's own.
//!
//! A device finds nodes by the next hops of routes, or, if it is `external`, by what its routes say themselves. Next hops are public addresses; of IPv6
//! packets over IPv4 they are [`next_hop_for_ipv6`].

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{Error, Family, Link};

/// Packets of a tunnel in UDP, to the same port at all nodes, 1024 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpEncapsulation {
    /// Foo over UDP: nothing but a UDP header.
    Fou(u16),
    /// Generic UDP Encapsulation.
    Gue(u16),
}

/// IP packets of both families in GRE (RFC 2784).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gre {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// Which of the external interface's addresses the tunnel packets come from. With IPv6 it is `external`.
    pub outer: Family,
    /// The key (RFC 2890) that all packets have. None where it is `external`.
    pub key: Option<u32>,
    /// Whether routes say where packets go.
    pub external: bool,
    /// Over IPv4 only, and not where it is `external`.
    pub udp: Option<UdpEncapsulation>,
    /// Bytes of the largest IP packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
}

/// Ethernet frames in GRE. Routes say where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gretap {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// The family of the tunnel packets.
    pub outer: Family,
    /// Bytes of the largest IP packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
}

/// Ethernet frames in Geneve (RFC 8926), over both families. Routes say where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geneve {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// UDP port of the tunnel, 1024 to 65535; none for the assigned one, 6081.
    pub port: Option<u16>,
    /// Bytes of the largest IP packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
}

/// What an [`IpTunnel`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// IPv4 packets.
    Ipv4,
    /// IPv6 packets.
    Ipv6,
    /// Both.
    Both,
}

/// IP packets in IP packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpTunnel {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// Which of the external interface's addresses the tunnel packets come from. With IPv6 it is `external`.
    pub outer: Family,
    /// What is carried. `external` over IPv4: IPv4.
    pub carries: Payload,
    /// Whether routes say where packets go.
    pub external: bool,
    /// Over IPv4 only, and not where it is `external`. Not FOU with both families.
    pub udp: Option<UdpEncapsulation>,
    /// Bytes of the largest IP packet, 68 to 65535 (1280 and more where IPv6 is carried).
    pub mtu: u32,
}

/// How frames of a VLAN are told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanProtocol {
    /// IEEE 802.1Q.
    Ieee8021Q,
    /// IEEE 802.1ad.
    Ieee8021Ad,
}

/// A VLAN on the external interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Name of the device: at most 15 letters, digits, `.`, `-` and `_`; it begins with `flannel`.
    pub name: String,
    /// VLAN identifier, 1 to 4094.
    pub id: u16,
    /// How its frames are told from others.
    pub protocol: VlanProtocol,
    /// Bytes of the largest IP packet, 68 to what the external interface carries.
    pub mtu: u32,
}

/// The next hop for IPv6 packets to a node over IPv4: `::192.0.2.1`.
#[must_use]
pub fn next_hop_for_ipv6(public: Ipv4Addr) -> Ipv6Addr {
    u128::from(u32::from(public)).into()
}

#[cfg(target_family = "wasm")]
mod host {
    use super::{Error, Geneve, Gre, Gretap, IpTunnel, Link, Payload, UdpEncapsulation, Vlan, VlanProtocol};
    use crate::bindings::flannel::backend::tunnel_links as wit;
    use crate::convert;

    fn udp(udp: Option<UdpEncapsulation>) -> Option<wit::UdpEncapsulation> {
        udp.map(|udp| match udp {
            UdpEncapsulation::Fou(port) => wit::UdpEncapsulation::Fou(port),
            UdpEncapsulation::Gue(port) => wit::UdpEncapsulation::Gue(port),
        })
    }

    /// Declares a GRE device; only in `register`.
    pub fn ensure_gre(device: &Gre) -> Result<Link, Error> {
        let device = wit::Gre {
            name: device.name.clone(),
            outer: convert::family(device.outer),
            key: device.key,
            external: device.external,
            udp: udp(device.udp),
            mtu: device.mtu,
        };
        wit::ensure_gre(&device).map(Link::of).map_err(convert::error)
    }

    /// Declares a device for Ethernet in GRE; only in `register`.
    pub fn ensure_gretap(device: &Gretap) -> Result<Link, Error> {
        let (name, outer, mtu) = (device.name.clone(), convert::family(device.outer), device.mtu);
        wit::ensure_gretap(&wit::Gretap { name, outer, mtu }).map(Link::of).map_err(convert::error)
    }

    /// Declares a Geneve device; only in `register`.
    pub fn ensure_geneve(device: &Geneve) -> Result<Link, Error> {
        let (name, port, mtu) = (device.name.clone(), device.port, device.mtu);
        wit::ensure_geneve(&wit::Geneve { name, port, mtu }).map(Link::of).map_err(convert::error)
    }

    /// Declares a device for IP in IP; only in `register`.
    pub fn ensure_ip_tunnel(device: &IpTunnel) -> Result<Link, Error> {
        let device = wit::IpTunnel {
            name: device.name.clone(),
            outer: convert::family(device.outer),
            carries: match device.carries {
                Payload::Ipv4 => wit::Payload::Ipv4,
                Payload::Ipv6 => wit::Payload::Ipv6,
                Payload::Both => wit::Payload::Both,
            },
            external: device.external,
            udp: udp(device.udp),
            mtu: device.mtu,
        };
        wit::ensure_ip_tunnel(&device).map(Link::of).map_err(convert::error)
    }

    /// Declares a VLAN; only in `register`.
    pub fn ensure_vlan(device: &Vlan) -> Result<Link, Error> {
        let protocol = match device.protocol {
            VlanProtocol::Ieee8021Q => wit::VlanProtocol::Ieee8021q,
            VlanProtocol::Ieee8021Ad => wit::VlanProtocol::Ieee8021ad,
        };
        let (name, id, mtu) = (device.name.clone(), device.id, device.mtu);
        wit::ensure_vlan(&wit::Vlan { name, id, protocol, mtu }).map(Link::of).map_err(convert::error)
    }
}

#[cfg(not(target_family = "wasm"))]
mod host {
    use super::{Error, Geneve, Gre, Gretap, IpTunnel, Link, Vlan};
    use crate::testing::{Declared, declare, with};

    fn declared(name: &str, mtu: u32, has_mac: bool, declared: Declared) -> Result<Link, Error> {
        with(|host| {
            host.mtus.insert(name.to_owned(), mtu);
            if has_mac {
                host.choose_mac(name);
            }
        });
        declare(declared)?;
        Ok(Link::named(name))
    }

    /// Declares a GRE device; only in `register`.
    pub fn ensure_gre(device: &Gre) -> Result<Link, Error> {
        declared(&device.name, device.mtu, false, Declared::Gre(device.clone()))
    }

    /// Declares a device for Ethernet in GRE; only in `register`.
    pub fn ensure_gretap(device: &Gretap) -> Result<Link, Error> {
        declared(&device.name, device.mtu, true, Declared::Gretap(device.clone()))
    }

    /// Declares a Geneve device; only in `register`.
    pub fn ensure_geneve(device: &Geneve) -> Result<Link, Error> {
        declared(&device.name, device.mtu, true, Declared::Geneve(device.clone()))
    }

    /// Declares a device for IP in IP; only in `register`.
    pub fn ensure_ip_tunnel(device: &IpTunnel) -> Result<Link, Error> {
        declared(&device.name, device.mtu, false, Declared::IpTunnel(device.clone()))
    }

    /// Declares a VLAN; only in `register`.
    pub fn ensure_vlan(device: &Vlan) -> Result<Link, Error> {
        declared(&device.name, device.mtu, false, Declared::Vlan(device.clone()))
    }
}

pub use host::{ensure_geneve, ensure_gre, ensure_gretap, ensure_ip_tunnel, ensure_vlan};

#[cfg(not(target_family = "wasm"))]
mod shown {
    use std::fmt;

    use super::{Geneve, Gre, Gretap, IpTunnel, Payload, UdpEncapsulation, Vlan, VlanProtocol};
    use crate::Family;

    fn over(family: Family) -> &'static str {
        match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }

    fn rest(external: bool, udp: Option<UdpEncapsulation>, mtu: u32) -> String {
        let udp = match udp {
            Some(UdpEncapsulation::Fou(port)) => format!(" fou {port}"),
            Some(UdpEncapsulation::Gue(port)) => format!(" gue {port}"),
            None => String::new(),
        };
        format!("{}{udp} mtu {mtu}", if external { " external" } else { "" })
    }

    impl fmt::Display for Gre {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "link {} gre over {}", self.name, over(self.outer))?;
            if let Some(key) = self.key {
                write!(f, " key {key}")?;
            }
            f.write_str(&rest(self.external, self.udp, self.mtu))
        }
    }

    impl fmt::Display for Gretap {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "link {} gretap over {}{}", self.name, over(self.outer), rest(true, None, self.mtu))
        }
    }

    impl fmt::Display for Geneve {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let port = self.port.map_or(String::new(), |port| format!(" port {port}"));
            write!(f, "link {} geneve{port}{}", self.name, rest(true, None, self.mtu))
        }
    }

    impl fmt::Display for IpTunnel {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let carries = match self.carries {
                Payload::Ipv4 => "ipv4",
                Payload::Ipv6 => "ipv6",
                Payload::Both => "both",
            };
            let rest = rest(self.external, self.udp, self.mtu);
            write!(f, "link {} ip carries {carries} over {}{rest}", self.name, over(self.outer))
        }
    }

    impl fmt::Display for Vlan {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let protocol = match self.protocol {
                VlanProtocol::Ieee8021Q => "802.1Q",
                VlanProtocol::Ieee8021Ad => "802.1ad",
            };
            write!(f, "link {} vlan {} {protocol} mtu {}", self.name, self.id, self.mtu)
        }
    }
}
