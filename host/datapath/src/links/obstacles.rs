//! What stands in the way of a device that is not there yet, found out without touching anything.

use std::net::IpAddr;
use std::path::Path;

use flannel_model::entry::DeviceSpec;
use netlink_packet_route::link::{InfoData, InfoVxlan};

use super::{Observed, Owner, all, explained, find, kind, vxlan};
use crate::netlink::{NetlinkError, RequestSocket};

/// Says what would keep a device from being made, a line for each reason. `own_ports`: UDP ports that are this daemon's already. `external`: the
/// name of the interface that it would be on.
pub(crate) fn obstacles(
    socket: &mut RequestSocket,
    owner: &Owner,
    wanted: &DeviceSpec,
    own_ports: &[u16],
    external: &str,
) -> Result<Vec<String>, NetlinkError> {
    let found = find(socket, wanted.name())?;
    let mut obstacles = Vec::new();
    match owner.check(socket, &found, wanted, None) {
        Err(NetlinkError::NotOurs(reason)) => obstacles.push(reason),
        other => other?,
    }
    if kernel_lacks(wanted) == Some(true) {
        let unsupported = NetlinkError::Refused { errno: libc::EOPNOTSUPP, text: String::new() };
        obstacles.push(explained(unsupported, wanted).to_string());
    }
    let there = all(socket)?;
    let (in_the_way, has_port) = match wanted {
        DeviceSpec::TunnelLink(link) => super::fou::obstacle(link)?,
        _ => (None, false),
    };
    obstacles.extend(in_the_way);
    let is_taken = !has_port
        && port(wanted).is_some_and(|(port, v4, v6)| !own_ports.contains(&port) && in_use(port, v4, v6));
    obstacles.extend(occupied(wanted, &found, &there, is_taken, external));
    Ok(obstacles)
}

/// Who has what a device needs for itself. `is_taken`: somebody has its UDP port. `external`: the interface that it would be on.
fn occupied(
    wanted: &DeviceSpec,
    found: &Observed,
    there: &[Observed],
    is_taken: bool,
    external: &str,
) -> Option<String> {
    match wanted {
        DeviceSpec::Vxlan(device) => {
            let on_port = |one: &&Observed| one.has_vxlan(&InfoVxlan::Port(device.port));
            // Devices on one port share it, with different VNIs and the same extensions.
            let in_the_way = |one: &&Observed| {
                one.name != *device.name
                    && (one.has_vxlan(&InfoVxlan::Id(device.vni))
                        || one.has_vxlan(&InfoVxlan::Gbp) != device.gbp)
            };
            let is_shared = there.iter().any(|one| on_port(&one));
            let others: Vec<&Observed> = there.iter().filter(on_port).filter(in_the_way).collect();
            (!others.is_empty() || is_taken && !is_shared).then(|| vxlan::occupied(device, &others))
        }
        DeviceSpec::Wireguard(device) => {
            // One that is there already has it, for all that can be seen.
            let has_it = found.kind == Some(kind(wanted).0);
            (is_taken && !has_it).then(|| super::port_of_another(device.port, "ListenPort"))
        }
        DeviceSpec::Ipsec(_) => {
            let has_it = found.kind == Some(kind(wanted).0);
            let port = port(wanted).map(|(port, ..)| port).filter(|_| is_taken && !has_it)?;
            Some(super::port_of_another(port, "UDPEncap"))
        }
        DeviceSpec::TunnelLink(link) => {
            let has_it = found.kind == Some(kind(wanted).0);
            let port = link.port().filter(|_| is_taken && !has_it);
            let parent = there.iter().find(|one| one.name == external).and_then(|one| one.link.as_ref());
            super::tunnel_link::occupied(link, there, parent.map(|parent| parent.index))
                .or_else(|| Some(super::port_of_another(port?, "port of the plugin's, on all nodes")))
        }
        DeviceSpec::Tunnel(device) => is_taken.then(|| super::port_of_another(device.port, "Port")),
        DeviceSpec::Ipip(_) => None,
    }
}

impl Observed {
    /// Whether it is a VXLAN device that is set up so.
    fn has_vxlan(&self, option: &InfoVxlan) -> bool {
        matches!(&self.data, Some(InfoData::Vxlan(options)) if options.contains(option))
    }
}

/// The UDP port that a device needs, and over which families.
fn port(wanted: &DeviceSpec) -> Option<(u16, bool, bool)> {
    match wanted {
        DeviceSpec::Vxlan(device) => Some((device.port, device.local.is_ipv4(), device.local.is_ipv6())),
        DeviceSpec::Wireguard(device) => Some((device.port, true, true)),
        DeviceSpec::Tunnel(device) => Some((device.port, device.ipv4.is_some(), device.ipv6.is_some())),
        DeviceSpec::Ipsec(device) => {
            device.udp_port.map(|port| (port, device.ipv4.is_some(), device.ipv6.is_some()))
        }
        // Geneve has it in both families.
        DeviceSpec::TunnelLink(link) => link.port().map(|port| (port, true, link.udp().is_none())),
        DeviceSpec::Ipip(_) => None,
    }
}

/// Whether somebody has a UDP port in one of these families. A socket of IPv6 that is bound to no address has it in both, for all that can
/// be seen.
fn in_use(port: u16, v4: bool, v6: bool) -> bool {
    let bound = |file: &str| -> Vec<IpAddr> {
        let text = std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)).unwrap_or_default();
        text.lines()
            .filter_map(local_address)
            .filter(|(_, its)| *its == port)
            .map(|(address, _)| address)
            .collect()
    };
    let of_v6 = bound("udp6");
    v4 && !bound("udp").is_empty()
        || if v6 { !of_v6.is_empty() } else { of_v6.iter().any(IpAddr::is_unspecified) }
}

/// The local address and port in a line of `/proc/net/udp`: `1: 0100007F:2118 …`, words of the host's byte order in hexadecimal digits.
fn local_address(line: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = line.split_whitespace().nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    match address.len() {
        8 => Some((word(0)?.into(), port)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            Some((octets.into(), port))
        }
        _ => None,
    }
}

/// Whether the kernel has no devices of a kind: they are neither built in nor a module that is there. None: that cannot be seen.
fn kernel_lacks(wanted: &DeviceSpec) -> Option<bool> {
    let module = super::module(wanted).0;
    if Path::new("/sys/module").join(module).exists() {
        return Some(false);
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let directory = Path::new("/lib/modules").join(release.trim());
    let listed = |file: &str| {
        let text = std::fs::read_to_string(directory.join(file)).ok()?;
        // Such as `kernel/drivers/net/vxlan/vxlan.ko.xz: …`.
        let path = format!("/{module}.ko");
        Some(text.lines().filter_map(|line| line.split(':').next()).any(|name| name.contains(&path)))
    };
    Some(!listed("modules.builtin")? && !listed("modules.dep")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_the_kernel_writes_them() {
        let v4 = " 9597: 0100007F:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4262787 2";
        let v6 = "  1: 00000000000000000000000001000000:2119 00000000000000000000000000000000:0000 07";
        let of = |line| local_address(line).map(|(address, port)| format!("{address} {port}"));
        if cfg!(target_endian = "little") {
            assert_eq!(of(v4).as_deref(), Some("127.0.0.1 8472"));
            assert_eq!(of(v6).as_deref(), Some("::1 8473"));
        }
        for line in
            ["", "  sl  local_address rem_address   st", " 1: 0100:2118", " 1: 0100007F", " 1: 010000zF:2118"]
        {
            assert_eq!(of(line), None, "{line}");
        }
    }
}
