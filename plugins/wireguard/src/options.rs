//! The options of the network config's `Backend` object. `PSK` is among them too, but the host keeps it to itself.

use flannel_backend::{Config, Node, log};

/// What WireGuard adds at most: the outer IPv6 header 40, UDP 8, and 32 of its own. Upstream takes it for both families.
const OVERHEAD: u32 = 40 + 8 + 32;
/// Pods need an MTU of at least 68 for IPv4 (RFC 791) and 1280 for IPv6 (RFC 8200).
const LEAST_MTU_V4: u32 = 68 + OVERHEAD;
const LEAST_MTU_V6: u32 = 1280 + OVERHEAD;

/// How many devices there are, and over which family tunnels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A device for each family, over that family.
    Separate,
    /// One device for both, over whichever family seems to reach the peer.
    Auto,
    /// One device for both, over IPv4.
    Ipv4,
    /// One device for both, over IPv6.
    Ipv6,
}

/// Options with upstream's names and defaults.
pub struct Options {
    /// `ListenPort`, default 51820.
    pub port: u16,
    /// `ListenPortV6`, default 51821.
    pub port_v6: u16,
    /// The device's MTU: `MTU`, default the external interface's, less what the tunnel takes.
    pub mtu: u32,
    /// `PersistentKeepaliveInterval` in seconds, default 0: off.
    pub keepalive: u16,
    /// `Mode`, default `separate`.
    pub mode: Mode,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config, node: &Node) -> Result<Self, String> {
        let options = Self {
            port: short(config, "ListenPort", 1)?.unwrap_or(51820),
            port_v6: short(config, "ListenPortV6", 1)?.unwrap_or(51821),
            mtu: mtu(config, node)?,
            keepalive: short(config, "PersistentKeepaliveInterval", 0)?.unwrap_or(0),
            mode: mode(config)?,
        };
        let dual = node.ipv4_network.is_some() && node.ipv6_network.is_some();
        if options.mode == Mode::Separate && dual && options.port == options.port_v6 {
            return Err(format!(
                "ListenPortV6: {}: the same as ListenPort, and two devices cannot share a port",
                options.port
            ));
        }
        Ok(options)
    }
}

fn short(config: &Config, name: &str, least: u32) -> Result<Option<u16>, String> {
    Ok(config.number(name, least..=65535)?.and_then(|number| u16::try_from(number).ok()))
}

fn mode(config: &Config) -> Result<Mode, String> {
    Ok(match config.text("Mode")?.unwrap_or_default() {
        "" | "separate" => Mode::Separate,
        "auto" => Mode::Auto,
        "ipv4" => Mode::Ipv4,
        "ipv6" => Mode::Ipv6,
        other => return Err(format!("Mode: {other:?} is none of separate, auto, ipv4, ipv6")),
    })
}

fn mtu(config: &Config, node: &Node) -> Result<u32, String> {
    let external = &node.external;
    let least = if node.ipv6_network.is_some() { LEAST_MTU_V6 } else { LEAST_MTU_V4 };
    let wanted = config.number("MTU", 0..=65535)?.filter(|&mtu| mtu != 0);
    let mtu = wanted.unwrap_or(external.mtu);
    if mtu.min(external.mtu) < least {
        let whose = if mtu < least && wanted.is_some() {
            "MTU".into()
        } else {
            format!("the MTU of {}", external.name)
        };
        return Err(format!("{whose}: {} leaves pods too little; at least {least}", mtu.min(external.mtu)));
    }
    if mtu > external.mtu {
        let (wanted, there) = (mtu.to_string(), external.mtu.to_string());
        log::warn(
            "MTU is more than the external interface carries: using the interface's",
            &[("wanted", &wanted), ("interface", &external.name), ("mtu", &there)],
        );
    }
    Ok(mtu.min(external.mtu) - OVERHEAD)
}
