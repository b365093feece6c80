//! The options of the network config's `Backend` object.

use flannel_backend::{Config, Node, log};

/// The kernel's limit for a device's name (`IFNAMSIZ` less the final zero).
const LONGEST_NAME: usize = 15;
/// Pods need an MTU of at least 68 for IPv4 (RFC 791) and 1280 for IPv6 (RFC 8200), and the tunnel takes 50 or 70 of it.
const LEAST_MTU_V4: u32 = 68 + 50;
const LEAST_MTU_V6: u32 = 1280 + 70;

/// Options with upstream's names and defaults.
pub struct Options {
    /// `VNI`, default 1.
    pub vni: u32,
    /// `Port`, default 0: the kernel's own default.
    pub port: Option<u16>,
    /// `GBP`, default false.
    pub gbp: bool,
    /// `Learning`, default false.
    pub learning: bool,
    /// `DirectRouting`, default false.
    pub direct_routing: bool,
    /// `MTU`, default and at most the external interface's.
    pub mtu: u32,
}

impl Options {
    /// Reads and checks all of them.
    pub fn read(config: &Config, node: &Node) -> Result<Self, String> {
        let options = Self {
            vni: config.number("VNI", 0..=0xff_ffff)?.unwrap_or(1),
            port: config
                .number("Port", 0..=65535)?
                .and_then(|port| u16::try_from(port).ok())
                .filter(|&port| port != 0),
            gbp: config.boolean("GBP")?.unwrap_or(false),
            learning: config.boolean("Learning")?.unwrap_or(false),
            direct_routing: config.boolean("DirectRouting")?.unwrap_or(false),
            mtu: mtu(config, node)?,
        };
        let name = if node.ipv6_network.is_some() { options.device_v6() } else { options.device_v4() };
        if name.len() > LONGEST_NAME {
            return Err(format!(
                "VNI: {}: the device would be called {name}, and the kernel allows {LONGEST_NAME} characters; take a smaller VNI",
                options.vni
            ));
        }
        Ok(options)
    }

    /// Name of the IPv4 device.
    pub fn device_v4(&self) -> String {
        format!("flannel.{}", self.vni)
    }

    /// Name of the IPv6 device.
    pub fn device_v6(&self) -> String {
        format!("flannel-v6.{}", self.vni)
    }
}

/// The outer packet's size. More than the external interface carries would only get lost.
fn mtu(config: &Config, node: &Node) -> Result<u32, String> {
    let external = &node.external;
    let least = if node.ipv6_network.is_some() { LEAST_MTU_V6 } else { LEAST_MTU_V4 };
    let mtu = match config.number("MTU", 0..=65535)?.filter(|&mtu| mtu != 0) {
        Some(mtu) if mtu < least => {
            return Err(format!("MTU: {mtu} leaves pods too little; at least {least}"));
        }
        Some(mtu) => mtu,
        None => external.mtu,
    };
    if mtu > external.mtu {
        let (wanted, there) = (mtu.to_string(), external.mtu.to_string());
        log::warn(
            "MTU is more than the external interface carries: using the interface's",
            &[("wanted", &wanted), ("interface", &external.name), ("mtu", &there)],
        );
    }
    if external.mtu < least {
        return Err(format!(
            "{} has an MTU of {}, and vxlan needs at least {least}",
            external.name, external.mtu
        ));
    }
    Ok(mtu.min(external.mtu))
}
