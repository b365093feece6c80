//! Tunnels and VLANs that the kernel has besides VXLAN, IPIP, WireGuard and XFRM interfaces.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use flannel_base::Family;

use crate::entry::{ExternalMode, Mac};

/// The port that Geneve has been assigned (RFC 8926).
pub const GENEVE_PORT: u16 = 6081;

/// A device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelLink {
    /// The device's name, 1 to 15 bytes.
    pub name: Arc<str>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// What it is.
    pub kind: TunnelKind,
}

/// What a device is, with all that only a new one can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// IP in GRE (RFC 2784).
    Gre {
        /// How packets find their node.
        way: Way,
        /// What all packets carry (RFC 2890).
        key: Option<u32>,
    },
    /// Ethernet in GRE. Routes say where packets go.
    Gretap {
        /// The family of the outer packets.
        family: Family,
        /// The device's own Ethernet address.
        mac: Mac,
    },
    /// Geneve (RFC 8926). Routes say where packets go.
    Geneve {
        /// The UDP port.
        port: u16,
        /// The device's own Ethernet address.
        mac: Mac,
    },
    /// IP in IP.
    IpTunnel {
        /// How packets find their node.
        way: Way,
        /// What is carried.
        carries: Payload,
    },
    /// A VLAN on the external interface.
    Vlan {
        /// Its identifier, 1 to 4094.
        id: u16,
        /// Which Ethertype its frames have.
        protocol: VlanProtocol,
    },
}

/// How packets find the node that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the next hop of their route, over IPv4.
    NextHop {
        /// Source of the tunnel's packets: an address of the external interface.
        local: Ipv4Addr,
        /// The tunnel's packets go in UDP.
        udp: Option<UdpEncapsulation>,
    },
    /// By their route, which says where they go (`external` in ip-link(8)).
    Route {
        /// The family of the outer packets.
        family: Family,
    },
}

impl Way {
    /// The family of the outer packets.
    pub fn family(&self) -> Family {
        match self {
            Self::NextHop { .. } => Family::Ipv4,
            Self::Route { family } => *family,
        }
    }

    /// How the tunnel's packets go in UDP.
    pub fn udp(&self) -> Option<UdpEncapsulation> {
        match self {
            Self::NextHop { udp, .. } => *udp,
            Self::Route { .. } => None,
        }
    }
}

/// Packets of a tunnel in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpEncapsulation {
    /// How.
    pub kind: UdpKind,
    /// The UDP port, ours and the peers'.
    pub port: u16,
}

impl fmt::Display for UdpEncapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.port)
    }
}

/// What is between the UDP header and the tunnel's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpKind {
    /// Nothing: foo over UDP.
    Fou,
    /// A header of Generic UDP Encapsulation.
    Gue,
}

impl fmt::Display for UdpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fou => "fou",
            Self::Gue => "gue",
        })
    }
}

/// What IP in IP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// IPv4 packets.
    Ipv4,
    /// IPv6 packets.
    Ipv6,
    /// Both.
    Both,
}

impl Payload {
    /// Whether it has a family.
    pub fn has(self, family: Family) -> bool {
        match self {
            Self::Ipv4 => family == Family::Ipv4,
            Self::Ipv6 => family == Family::Ipv6,
            Self::Both => true,
        }
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Both => "both",
        })
    }
}

/// What tells frames of a VLAN from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VlanProtocol {
    /// IEEE 802.1Q.
    Ieee8021Q,
    /// IEEE 802.1ad.
    Ieee8021Ad,
}

impl VlanProtocol {
    /// Its Ethertype.
    pub fn ethertype(self) -> u16 {
        match self {
            Self::Ieee8021Q => 0x8100,
            Self::Ieee8021Ad => 0x88a8,
        }
    }
}

impl fmt::Display for VlanProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ieee8021Q => "802.1Q",
            Self::Ieee8021Ad => "802.1ad",
        })
    }
}

impl TunnelLink {
    /// As ip-link(8) calls its kind.
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            TunnelKind::Gre { way, .. } => of_family(way.family(), ["gre", "ip6gre"]),
            TunnelKind::Gretap { family, .. } => of_family(*family, ["gretap", "ip6gretap"]),
            TunnelKind::Geneve { .. } => "geneve",
            TunnelKind::IpTunnel { way, carries } => match (way.family(), carries) {
                (Family::Ipv6, _) => "ip6tnl",
                (Family::Ipv4, Payload::Ipv4) => "ipip",
                (Family::Ipv4, _) => "sit",
            },
            TunnelKind::Vlan { .. } => "vlan",
        }
    }

    /// The device's own Ethernet address, where it has one that we choose.
    pub fn mac(&self) -> Option<Mac> {
        match self.kind {
            TunnelKind::Gretap { mac, .. } | TunnelKind::Geneve { mac, .. } => Some(mac),
            TunnelKind::Gre { .. } | TunnelKind::IpTunnel { .. } | TunnelKind::Vlan { .. } => None,
        }
    }

    /// How packets find their node, where the device can be told.
    pub fn way(&self) -> Option<&Way> {
        match &self.kind {
            TunnelKind::Gre { way, .. } | TunnelKind::IpTunnel { way, .. } => Some(way),
            TunnelKind::Gretap { .. } | TunnelKind::Geneve { .. } | TunnelKind::Vlan { .. } => None,
        }
    }

    /// Whether routes say where packets go.
    pub fn is_external(&self) -> bool {
        self.external_mode().is_some()
    }

    /// What its packets are, where routes say where these go.
    pub fn external_mode(&self) -> Option<ExternalMode> {
        let (family, id_bits) = match &self.kind {
            TunnelKind::Gre { way: Way::Route { family }, .. } | TunnelKind::Gretap { family, .. } => {
                (Some(*family), 32)
            }
            TunnelKind::Geneve { .. } => (None, 24),
            TunnelKind::IpTunnel { way: Way::Route { family }, .. } => (Some(*family), 0),
            TunnelKind::Gre { .. } | TunnelKind::IpTunnel { .. } | TunnelKind::Vlan { .. } => return None,
        };
        Some(ExternalMode { family, id_bits })
    }

    /// How the tunnel's packets go in UDP.
    pub fn udp(&self) -> Option<UdpEncapsulation> {
        self.way().and_then(Way::udp)
    }

    /// The UDP port that it needs for itself.
    pub fn port(&self) -> Option<u16> {
        match self.kind {
            TunnelKind::Geneve { port, .. } => Some(port),
            _ => self.udp().map(|udp| udp.port),
        }
    }

    /// The Internet protocol number of the tunnel's packets, which FOU says by the port; none where they have none, or several.
    pub fn protocol(&self) -> Option<u8> {
        match &self.kind {
            TunnelKind::Gre { .. } | TunnelKind::Gretap { .. } => Some(47),
            TunnelKind::IpTunnel { carries: Payload::Ipv4, .. } => Some(4),
            TunnelKind::IpTunnel { carries: Payload::Ipv6, .. } => Some(41),
            TunnelKind::IpTunnel { carries: Payload::Both, .. }
            | TunnelKind::Geneve { .. }
            | TunnelKind::Vlan { .. } => None,
        }
    }

    /// Where the device's neighbour is that is the next hop of a route, if the kernel has to be told that: a GRE device takes the address of its
    /// node from the neighbour's link layer address.
    pub fn neighbour(&self, via: IpAddr) -> Option<Ipv4Addr> {
        match &self.kind {
            TunnelKind::Gre { way: Way::NextHop { .. }, .. } => match via {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(v6) => compatible(v6),
            },
            _ => None,
        }
    }

    /// What is particular to it, in words for those who look: names and values.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let mut options = Vec::new();
        match &self.kind {
            TunnelKind::Gre { key, .. } => options.extend(key.map(|key| ("key", key.to_string()))),
            TunnelKind::Gretap { .. } => {}
            TunnelKind::Geneve { port, .. } => options.push(("port", port.to_string())),
            TunnelKind::IpTunnel { carries, .. } => options.push(("carries", carries.to_string())),
            TunnelKind::Vlan { id, protocol } => {
                options.extend([("id", id.to_string()), ("protocol", protocol.to_string())]);
            }
        }
        if let Some(Way::NextHop { local, .. }) = self.way() {
            options.push(("local", local.to_string()));
        }
        options.extend(self.udp().map(|udp| ("udp", udp.to_string())));
        options.extend(self.mac().map(|mac| ("mac", mac.to_string())));
        if self.is_external() {
            options.push(("external", "true".to_owned()));
        }
        options
    }
}

fn of_family(family: Family, [v4, v6]: [&'static str; 2]) -> &'static str {
    match family {
        Family::Ipv4 => v4,
        Family::Ipv6 => v6,
    }
}

/// The IPv4 address in an IPv6 address of the form `::192.0.2.1`: how a next hop for IPv6 packets names a node of an IPv4 underlay.
pub fn compatible(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let number = u32::try_from(u128::from(address)).ok()?;
    // `::` and `::1` are no such addresses.
    (number > 1).then(|| number.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gre(way: Way) -> TunnelLink {
        TunnelLink { name: "flannel.gre".into(), mtu: 1472, kind: TunnelKind::Gre { way, key: Some(7) } }
    }

    #[test]
    fn a_gre_device_needs_to_be_told_where_next_hops_are() {
        let local = Ipv4Addr::new(192, 168, 0, 1);
        let peer = Ipv4Addr::new(192, 168, 0, 2);
        let device = gre(Way::NextHop { local, udp: None });
        assert_eq!(device.neighbour(peer.into()), Some(peer));
        assert_eq!(device.neighbour("::192.168.0.2".parse().expect("address")), Some(peer));
        for other in ["fd77::2", "::1", "::", "::ffff:192.168.0.2"] {
            assert_eq!(device.neighbour(other.parse().expect("address")), None, "{other}");
        }
        assert_eq!(gre(Way::Route { family: Family::Ipv4 }).neighbour(peer.into()), None);
    }

    #[test]
    fn kinds_are_called_as_the_kernel_calls_them() {
        let of = |way: Way, carries| TunnelLink {
            name: "flannel.x".into(),
            mtu: 1480,
            kind: TunnelKind::IpTunnel { way, carries },
        };
        let local = Ipv4Addr::new(192, 168, 0, 1);
        let hop = || Way::NextHop { local, udp: None };
        let route = |family| Way::Route { family };
        for (device, kind) in [
            (of(hop(), Payload::Ipv4), "ipip"),
            (of(hop(), Payload::Ipv6), "sit"),
            (of(hop(), Payload::Both), "sit"),
            (of(route(Family::Ipv4), Payload::Ipv4), "ipip"),
            (of(route(Family::Ipv6), Payload::Both), "ip6tnl"),
            (gre(hop()), "gre"),
            (gre(route(Family::Ipv6)), "ip6gre"),
        ] {
            assert_eq!(device.kind_name(), kind);
        }
    }
}
