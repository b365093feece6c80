//! What can exist in the kernel on behalf of a peer, and the devices that it hangs on. Plain data: desired by the
//! ledger, read back by the reconciler.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use flannel_base::Family;
use ipnet::IpNet;

use crate::ipsec::{Ipsec, IpsecPeer};
use crate::offloads::Offloads;
use crate::policy_routing::{self, Encapsulation, PolicyRoute, RoutePlace, Rule};
use crate::tunnel_link::TunnelLink;
use crate::wireguard::{Keys, PublicKey, WireguardPeer};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Reads six hexadecimal octets in the forms that Go reads, and that upstream's nodes take of a lease: `9e:01:c5:3f:00:0b`,
    /// `9e-01-c5-3f-00-0b` or `9e01.c53f.000b`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no Ethernet address; one looks like 9e:01:c5:3f:00:0b");
        let (separator, digits) = match text.as_bytes() {
            [_, _, b':', ..] => (':', 2),
            [_, _, b'-', ..] => ('-', 2),
            [_, _, _, _, b'.', ..] => ('.', 4),
            _ => return Err(wrong()),
        };
        let is_part = |part: &str| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        if text.len() != 12 + 12 / digits - 1 || !text.split(separator).all(is_part) {
            return Err(wrong());
        }
        let number = u64::from_str_radix(&text.replace(separator, ""), 16).map_err(|_| wrong())?;
        let [_, _, octets @ ..] = number.to_be_bytes();
        Ok(Self(octets))
    }
}

/// Where a neighbour is on a device's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkAddress {
    /// Of a device with Ethernet frames.
    Ethernet(Mac),
    /// Of a GRE device: the node that the tunnel's packets go to.
    Ipv4(Ipv4Addr),
}

impl LinkAddress {
    /// Its bytes, as a device has it.
    pub fn octets(self) -> Vec<u8> {
        match self {
            Self::Ethernet(mac) => mac.0.to_vec(),
            Self::Ipv4(address) => address.octets().to_vec(),
        }
    }

    /// Reads them.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let mac = || octets.try_into().ok().map(|mac| Self::Ethernet(Mac(mac)));
        mac().or_else(|| <[u8; 4]>::try_from(octets).ok().map(|octets| Self::Ipv4(octets.into())))
    }
}

impl From<Mac> for LinkAddress {
    fn from(mac: Mac) -> Self {
        Self::Ethernet(mac)
    }
}

impl fmt::Display for LinkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ethernet(mac) => fmt::Display::fmt(mac, f),
            Self::Ipv4(address) => fmt::Display::fmt(address, f),
        }
    }
}

/// A device that entries refer to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Device {
    /// The external interface, whichever it is at the moment.
    External,
    /// A device of ours, by its name.
    Own(Arc<str>),
    /// An interface of the operator's that plugins may use beside the external one, by its name. (One word, so that the whole has two: there
    /// are tens of thousands.)
    Uplink(Arc<String>),
}

impl Device {
    pub(crate) fn rename(&mut self, name: impl FnOnce(&Arc<str>) -> Option<Arc<str>>) {
        if let Self::Own(own) = self
            && let Some(other) = name(own)
        {
            *own = other;
        }
    }
}

/// Whether a name is one that flannel, ours or upstream's, gives its devices with one of its own backends: `flannel.1` (with any
/// VNI), `flannel-v6.1`, `flannel0`, `flannel-wg`, `flannel-wg-v6`, `flannel.ipip`; and ours alone: `flannel-ipsec`.
#[must_use]
pub fn is_flannel_device_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = name.strip_prefix("flannel") else { return false };
    let numbered = rest.strip_prefix("-v6.").or_else(|| rest.strip_prefix('.')).unwrap_or(rest);
    is_number(numbered) || ["-wg", "-wg-v6", ".ipip", "-ipsec"].contains(&rest)
}

/// The kernel's default VXLAN port (`udp_port` of the vxlan module), which is not the assigned one, 4789.
pub const DEFAULT_VXLAN_PORT: u16 = 8472;

/// A device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceSpec {
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// An IPIP device.
    Ipip(Ipip),
    /// A WireGuard device.
    Wireguard(Wireguard),
    /// A TUN device, whose packets this process carries.
    Tunnel(TunnelDevice),
    /// An XFRM interface.
    Ipsec(Ipsec),
    /// Another tunnel of the kernel's, or a VLAN.
    TunnelLink(TunnelLink),
}

impl DeviceSpec {
    /// The device's name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Vxlan(Vxlan { name, .. })
            | Self::Ipip(Ipip { name, .. })
            | Self::Wireguard(Wireguard { name, .. })
            | Self::Tunnel(TunnelDevice { name, .. })
            | Self::TunnelLink(TunnelLink { name, .. })
            | Self::Ipsec(Ipsec { name, .. }) => name,
        }
    }

    /// The same with another name.
    #[must_use]
    pub fn with_name(mut self, other: Arc<str>) -> Self {
        match &mut self {
            Self::Vxlan(Vxlan { name, .. })
            | Self::Ipip(Ipip { name, .. })
            | Self::Wireguard(Wireguard { name, .. })
            | Self::Tunnel(TunnelDevice { name, .. })
            | Self::TunnelLink(TunnelLink { name, .. })
            | Self::Ipsec(Ipsec { name, .. }) => *name = other,
        }
        self
    }

    /// The same with another MTU.
    #[must_use]
    pub fn with_mtu(mut self, bytes: u32) -> Self {
        match &mut self {
            Self::Vxlan(Vxlan { mtu, .. })
            | Self::Ipip(Ipip { mtu, .. })
            | Self::Wireguard(Wireguard { mtu, .. })
            | Self::Tunnel(TunnelDevice { mtu, .. })
            | Self::TunnelLink(TunnelLink { mtu, .. })
            | Self::Ipsec(Ipsec { mtu, .. }) => *mtu = bytes,
        }
        self
    }

    /// Whether one device can be both: all that only a new device can have is the same.
    pub fn is_same_device(&self, other: &Self) -> bool {
        let alike = |one: &Self| match one.clone().with_mtu(0) {
            Self::Vxlan(vxlan) => Self::Vxlan(Vxlan { learning: false, ..vxlan }),
            Self::Ipsec(ipsec) => Self::Ipsec(Ipsec { rekey: None, ..ipsec }),
            other => other,
        };
        alike(self) == alike(other)
    }

    /// In which packets it sends what it is given, where the packets' routes say to whom (external, or collect metadata, mode); `None`: it
    /// is not in that mode, or knows by itself.
    pub fn external_mode(&self) -> Option<ExternalMode> {
        match self {
            Self::TunnelLink(link) => link.external_mode(),
            Self::Vxlan(_) | Self::Ipip(_) | Self::Wireguard(_) | Self::Tunnel(_) | Self::Ipsec(_) => None,
        }
    }

    /// Bytes of the largest IP packet.
    pub fn mtu(&self) -> u32 {
        match self {
            Self::Vxlan(Vxlan { mtu, .. })
            | Self::Ipip(Ipip { mtu, .. })
            | Self::Wireguard(Wireguard { mtu, .. })
            | Self::Tunnel(TunnelDevice { mtu, .. })
            | Self::TunnelLink(TunnelLink { mtu, .. })
            | Self::Ipsec(Ipsec { mtu, .. }) => *mtu,
        }
    }

    /// The Ethernet address, for devices that have one.
    pub fn mac(&self) -> Option<Mac> {
        match self {
            Self::Vxlan(vxlan) => Some(vxlan.mac),
            Self::TunnelLink(link) => link.mac(),
            Self::Ipip(_) | Self::Wireguard(_) | Self::Tunnel(_) | Self::Ipsec(_) => None,
        }
    }
}

/// What the packets of a device in external mode are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalMode {
    /// The family that they are of; none: either.
    pub family: Option<Family>,
    /// How many bits their number (GRE's key, the VNI) has; 0: there is none.
    pub id_bits: u32,
}

/// A VXLAN device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The device's name, 1 to 15 bytes.
    pub name: Arc<str>,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP port of the tunnel.
    pub port: u16,
    /// Source of the tunnel's packets: an address of the external interface.
    pub local: IpAddr,
    /// Whether the kernel learns FDB entries from packets.
    pub learning: bool,
    /// Whether the group based policy extension is on.
    pub gbp: bool,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// The device's own Ethernet address.
    pub mac: Mac,
}

/// An IPIP device of ours (RFC 2003): IPv4 packets in IPv4 packets to any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipip {
    /// The device's name, 1 to 15 bytes.
    pub name: Arc<str>,
    /// Source of the tunnel's packets: an address of the external interface.
    pub local: Ipv4Addr,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
}

/// A WireGuard device of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wireguard {
    /// The device's name, 1 to 15 bytes.
    pub name: Arc<str>,
    /// UDP port that it listens on.
    pub port: u16,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Whom it is.
    pub keys: Keys,
}

/// A TUN device of ours, and the UDP sockets on the other side of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelDevice {
    /// The device's name, 1 to 15 bytes.
    pub name: Arc<str>,
    /// UDP port, ours and the peers'.
    pub port: u16,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Where IPv4 datagrams come from: the external interface's address.
    pub ipv4: Option<Ipv4Addr>,
    /// Where IPv6 datagrams come from.
    pub ipv6: Option<Ipv6Addr>,
    /// What may be used to make it fast.
    pub offloads: Offloads,
}

/// The metric of our blackhole routes: worse than every route that somebody would set, so that the route to the pods comes first,
/// whenever it comes.
pub const BLACKHOLE_METRIC: u32 = u32::MAX - 1;

/// What identifies an entry in the kernel: there is at most one for each key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A route of the main table.
    Route(IpNet),
    /// A route of the table that a change of the backend tries its new ways by.
    TrialRoute(IpNet),
    /// A blackhole route of the main table, with [`BLACKHOLE_METRIC`].
    Blackhole(IpNet),
    /// A neighbour entry.
    Neighbour(Device, IpAddr),
    /// A forwarding database entry.
    Fdb(Device, Mac),
    /// A peer of a WireGuard device.
    WireguardPeer(Device, Arc<PublicKey>),
    /// A subnet behind a tunnel of this process.
    TunnelPeer(Device, IpNet),
    /// A subnet behind an XFRM interface.
    IpsecPeer(Device, IpNet),
    /// A route with attributes.
    PolicyRoute(RoutePlace),
    /// A rule that leads to a table of the plugin's own.
    Rule(Arc<Rule>),
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A route.
    Route,
    /// A route of the table of a change of the backend.
    TrialRoute,
    /// A blackhole route.
    Blackhole,
    /// A neighbour entry.
    Neighbour,
    /// A forwarding database entry.
    Fdb,
    /// A peer of a WireGuard device.
    WireguardPeer,
    /// A subnet behind a tunnel of this process.
    TunnelPeer,
    /// A subnet behind an XFRM interface.
    IpsecPeer,
    /// A route with attributes.
    PolicyRoute,
    /// A rule.
    Rule,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Route,
        Self::TrialRoute,
        Self::Blackhole,
        Self::Neighbour,
        Self::Fdb,
        Self::WireguardPeer,
        Self::TunnelPeer,
        Self::IpsecPeer,
        Self::PolicyRoute,
        Self::Rule,
    ];

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::TrialRoute => "trial_route",
            Self::Blackhole => "blackhole",
            Self::Neighbour => "neighbour",
            Self::Fdb => "fdb",
            Self::WireguardPeer => "wireguard_peer",
            Self::TunnelPeer => "tunnel_peer",
            Self::IpsecPeer => "ipsec_peer",
            Self::PolicyRoute => "policy_route",
            Self::Rule => "rule",
        }
    }
}

impl Key {
    /// What the entry is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Route(_) => Kind::Route,
            Self::TrialRoute(_) => Kind::TrialRoute,
            Self::Blackhole(_) => Kind::Blackhole,
            Self::Neighbour(..) => Kind::Neighbour,
            Self::Fdb(..) => Kind::Fdb,
            Self::WireguardPeer(..) => Kind::WireguardPeer,
            Self::TunnelPeer(..) => Kind::TunnelPeer,
            Self::IpsecPeer(..) => Kind::IpsecPeer,
            Self::PolicyRoute(_) => Kind::PolicyRoute,
            Self::Rule(_) => Kind::Rule,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::External => f.write_str("the external interface"),
            Self::Own(name) => f.write_str(name),
            Self::Uplink(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(destination) => write!(f, "route {destination}"),
            Self::TrialRoute(destination) => write!(f, "route {destination} on trial"),
            Self::Blackhole(destination) => write!(f, "blackhole route {destination}"),
            Self::Neighbour(device, address) => write!(f, "neighbour {address} on {device}"),
            Self::Fdb(device, mac) => write!(f, "FDB entry {mac} on {device}"),
            Self::WireguardPeer(device, key) => write!(f, "peer {key} of {device}"),
            Self::TunnelPeer(device, subnet) | Self::IpsecPeer(device, subnet) => {
                write!(f, "{subnet} behind {device}")
            }
            Self::PolicyRoute(place) => write!(f, "route {place}"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
        }
    }
}

/// One entry in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Packets for `destination` go to the next hop `via` on `device`.
    Route {
        /// The peer's subnet, or part of it; the cluster's network where the device knows all peers.
        destination: IpNet,
        /// The next hop, of the same family; none: the device itself knows where it is.
        via: Option<IpAddr>,
        /// The next hop is on the device's link even though no address of this node says so.
        onlink: bool,
        /// Where packets leave.
        device: Device,
    },
    /// The same in the table that a change of the backend tries its new ways by, where nothing but marked packets looks.
    TrialRoute {
        /// As of a route.
        destination: IpNet,
        /// As of a route.
        via: Option<IpAddr>,
        /// As of a route.
        onlink: bool,
        /// As of a route.
        device: Device,
        /// As of a next hop of a route with attributes.
        encapsulation: Option<Arc<Encapsulation>>,
    },
    /// Packets for `destination` that no better route takes end here, instead of leaving by the default route and coming back.
    Blackhole {
        /// The node's own subnet.
        destination: IpNet,
    },
    /// `address` is found at `link_address` on `device`.
    Neighbour {
        /// The neighbour's address.
        address: IpAddr,
        /// Where the neighbour is.
        link_address: LinkAddress,
        /// A device of ours.
        device: Device,
    },
    /// Frames for `mac` go through the tunnel `device` to `destination`.
    Fdb {
        /// The peer's VTEP.
        mac: Mac,
        /// The peer's public address.
        destination: IpAddr,
        /// A VXLAN device of ours.
        device: Device,
    },
    /// A WireGuard device knows a peer.
    WireguardPeer {
        /// The peer.
        peer: Arc<WireguardPeer>,
        /// A WireGuard device of ours.
        device: Device,
    },
    /// A tunnel of this process sends packets for a subnet to a node, and takes such from there.
    TunnelPeer {
        /// The peer's subnet.
        destination: IpNet,
        /// The peer's public address.
        endpoint: IpAddr,
        /// A tunnel's device.
        device: Device,
    },
    /// Packets for a peer's subnet leave in ESP, and such come in from there.
    IpsecPeer {
        /// The peer.
        peer: Arc<IpsecPeer>,
        /// An XFRM interface of ours.
        device: Device,
    },
    /// A route with attributes, which may have several next hops.
    PolicyRoute(Arc<PolicyRoute>),
    /// Packets go by a table of the plugin's own.
    Rule(Arc<Rule>),
}

impl Entry {
    /// What identifies this entry in the kernel.
    pub fn key(&self) -> Key {
        match self {
            Self::Route { destination, .. } => Key::Route(*destination),
            Self::TrialRoute { destination, .. } => Key::TrialRoute(*destination),
            Self::Blackhole { destination } => Key::Blackhole(*destination),
            Self::Neighbour { address, device, .. } => Key::Neighbour(device.clone(), *address),
            Self::Fdb { mac, device, .. } => Key::Fdb(device.clone(), *mac),
            Self::WireguardPeer { peer, device } => Key::WireguardPeer(device.clone(), Arc::new(peer.key)),
            Self::TunnelPeer { destination, device, .. } => Key::TunnelPeer(device.clone(), *destination),
            Self::IpsecPeer { peer, device } => Key::IpsecPeer(device.clone(), peer.subnet),
            Self::PolicyRoute(route) => Key::PolicyRoute(route.place()),
            Self::Rule(rule) => Key::Rule(Arc::clone(rule)),
        }
    }

    /// Whether this is what identifies it: as by [`Self::key`], for which there is nothing to be made.
    pub fn has_key(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Route { destination, .. }, Key::Route(wanted))
            | (Self::TrialRoute { destination, .. }, Key::TrialRoute(wanted))
            | (Self::Blackhole { destination }, Key::Blackhole(wanted)) => destination == wanted,
            (Self::Neighbour { address, device, .. }, Key::Neighbour(on, wanted)) => {
                address == wanted && device == on
            }
            (Self::Fdb { mac, device, .. }, Key::Fdb(on, wanted)) => mac == wanted && device == on,
            (Self::WireguardPeer { peer, device }, Key::WireguardPeer(on, wanted)) => {
                peer.key == **wanted && device == on
            }
            (Self::TunnelPeer { destination, device, .. }, Key::TunnelPeer(on, wanted)) => {
                destination == wanted && device == on
            }
            (Self::IpsecPeer { peer, device }, Key::IpsecPeer(on, wanted)) => {
                peer.subnet == *wanted && device == on
            }
            (Self::PolicyRoute(route), Key::PolicyRoute(wanted)) => route.place() == *wanted,
            (Self::Rule(rule), Key::Rule(wanted)) => rule == wanted,
            _ => false,
        }
    }

    /// The same on a device that has another name.
    #[must_use]
    pub fn renamed(mut self, name: impl Fn(&Arc<str>) -> Option<Arc<str>>) -> Self {
        match &mut self {
            Self::Blackhole { .. } => {}
            Self::Rule(rule) => *rule = Arc::new(Rule::clone(rule).renamed(name)),
            Self::PolicyRoute(route) => *route = policy_routing::renamed(route, name),
            Self::Route { device, .. }
            | Self::TrialRoute { device, .. }
            | Self::Neighbour { device, .. }
            | Self::Fdb { device, .. }
            | Self::WireguardPeer { device, .. }
            | Self::TunnelPeer { device, .. }
            | Self::IpsecPeer { device, .. } => device.rename(name),
        }
        self
    }

    /// The device that it needs; `None` if it needs none, or may do with one of several.
    pub fn device(&self) -> Option<&Device> {
        match self {
            Self::Blackhole { .. } | Self::PolicyRoute(_) | Self::Rule(_) => None,
            Self::Route { device, .. }
            | Self::TrialRoute { device, .. }
            | Self::Neighbour { device, .. }
            | Self::Fdb { device, .. }
            | Self::WireguardPeer { device, .. }
            | Self::TunnelPeer { device, .. }
            | Self::IpsecPeer { device, .. } => Some(device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read_in_gos_forms() {
        let mac = Mac([0x9e, 0x01, 0xc5, 0x3f, 0x00, 0x0b]);
        for text in ["9e:01:c5:3f:00:0b", "9E:01:C5:3f:00:0B", "9e-01-c5-3f-00-0b", "9e01.c53f.000b"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        for text in [
            "",
            "9e01c53f000b",
            "9e:01:c5:3f:00",
            "9e:01:c5:3f:00:0b:00:00",
            "9e:01:c5:3f:00:0b:",
            "9e:01-c5:3f:00:0b",
            "9e:1:c5:3f:000:0b",
            "9e:01:c5:3f:00:+b",
            "9e01.c53f.000",
            "9e01.c53f-000b",
            "9e01:c53f:000b",
            "9g:01:c5:3f:00:0b",
            "\u{e9}:01:c5:3f:00:0b",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn devices_of_flannels_own_backends_are_known_by_their_names() {
        for name in [
            "flannel.1",
            "flannel.4096",
            "flannel-v6.1",
            "flannel0",
            "flannel-wg",
            "flannel-wg-v6",
            "flannel.ipip",
            "flannel-ipsec",
        ] {
            assert!(is_flannel_device_name(name), "{name}");
        }
        for name in [
            "flannel",
            "flannel.",
            "flannel-br",
            "flannel.1a",
            "flannel-v6.",
            "flannel-wg0",
            "cni0",
            "xflannel0",
        ] {
            assert!(!is_flannel_device_name(name), "{name}");
        }
    }
}
