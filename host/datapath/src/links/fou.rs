//! UDP ports at which the kernel takes tunnels' packets out of UDP (`ip fou` of ip-fou(8)). Nothing can be written on them: one that is exactly what a
//! device of ours needs, on our address, counts as ours, and goes with the last device that sends to it.

use std::net::Ipv4Addr;

use flannel_model::tunnel_link::{TunnelLink, UdpEncapsulation, UdpKind, Way};
use netlink_packet_core::{DefaultNla, Emitable, NlasIterator};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::InfoKind;
use tracing::info;

use super::tunnel_link;
use super::{Observed, all};
use crate::netlink::{Message, NetlinkError, Payload, RequestSocket};
use crate::wireguard::generic_family;

/// Commands of the family `fou` and numbers of its attributes (`linux/fou.h`).
const ADD: u8 = 1;
const DELETE: u8 = 2;
const GET: u8 = 3;
const PORT: u16 = 1;
const FAMILY: u16 = 2;
const PROTOCOL: u16 = 3;
const KIND: u16 = 4;
const LOCAL: u16 = 6;
const VERSION: u8 = 1;

/// A port that takes packets out of UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FouPort {
    port: u16,
    kind: UdpKind,
    /// The Internet protocol number of what comes out; 0 where the packets say it.
    protocol: u8,
    local: Ipv4Addr,
}

impl FouPort {
    /// What a device needs.
    pub(super) fn of(wanted: &TunnelLink) -> Option<Self> {
        let Some(Way::NextHop { local, udp: Some(UdpEncapsulation { kind, port }) }) = wanted.way() else {
            return None;
        };
        let protocol = match kind {
            UdpKind::Fou => wanted.protocol()?,
            UdpKind::Gue => 0,
        };
        Some(Self { port: *port, kind: *kind, protocol, local: *local })
    }

    /// What a device that is there has needed.
    pub(super) fn behind(found: &Observed) -> Option<Self> {
        let (gre, ip) = ([6, 14, 17], [2, 15, 18]);
        let (numbers, protocol) = match found.kind.as_ref()? {
            InfoKind::GreTun => (gre, 47),
            InfoKind::IpIp => (ip, 4),
            InfoKind::SitTun => (ip, 41),
            _ => return None,
        };
        let options = tunnel_link::options(found);
        let [local, kind, port] = numbers.map(|number| options.get(&number).cloned().unwrap_or_default());
        let kind = match u16::from_ne_bytes(kind.try_into().ok()?) {
            1 => UdpKind::Fou,
            2 => UdpKind::Gue,
            _ => return None,
        };
        let protocol = if kind == UdpKind::Fou { protocol } else { 0 };
        let port = u16::from_be_bytes(port.try_into().ok()?);
        let local = Ipv4Addr::from(<[u8; 4]>::try_from(local).ok()?);
        Some(Self { port, kind, protocol, local })
    }

    /// The attributes that tell it from others.
    fn identity(&self) -> Vec<(u16, Vec<u8>)> {
        vec![
            (PORT, self.port.to_be_bytes().to_vec()),
            (FAMILY, vec![AddressFamily::Inet.into()]),
            (LOCAL, self.local.octets().to_vec()),
        ]
    }

    fn attributes(&self) -> Vec<(u16, Vec<u8>)> {
        let kind = match self.kind {
            UdpKind::Fou => 1,
            UdpKind::Gue => 2,
        };
        let mut attributes = self.identity();
        attributes.push((KIND, vec![kind]));
        if self.protocol > 0 {
            attributes.push((PROTOCOL, vec![self.protocol]));
        }
        attributes
    }
}

/// What is at a port already.
#[derive(Debug, PartialEq, Eq)]
enum There {
    /// What is wanted.
    Same,
    /// Something else, in words.
    Other(String),
    Nothing,
}

/// The kernel's family `fou`.
struct Fou {
    socket: RequestSocket,
    family: u16,
}

impl Fou {
    fn open() -> Result<Self, NetlinkError> {
        let mut socket = RequestSocket::open_generic()?;
        let family = generic_family(&mut socket, "fou")?.ok_or_else(|| {
            NetlinkError::Unsupported(
                "this kernel has no FOU: it lacks the module `fou`, which Linux has since 3.18 and does not load by itself (`modprobe fou`); load it, or do without UDP encapsulation"
                    .to_owned(),
            )
        })?;
        Ok(Self { socket, family })
    }

    fn message(&self, command: u8, attributes: &[(u16, Vec<u8>)]) -> Payload {
        let mut bytes = vec![command, VERSION, 0, 0];
        for (number, value) in attributes {
            let nla = DefaultNla::new(*number, value.clone());
            let begin = bytes.len();
            bytes.resize(begin + nla.buffer_len(), 0);
            nla.emit(&mut bytes[begin..]);
        }
        Payload::Generic(self.family, bytes)
    }

    fn look(&mut self, wanted: &FouPort) -> Result<There, NetlinkError> {
        let request = self.message(GET, &[]);
        let mut there = There::Nothing;
        for part in self.socket.dump(&request)? {
            let Payload::Generic(_, bytes) = part else { continue };
            let Some(body) = bytes.get(4..) else { continue };
            let found: Vec<(u16, Vec<u8>)> = NlasIterator::new(body)
                .filter_map(Result::ok)
                .map(|nla| (nla.kind(), nla.value().to_vec()))
                .collect();
            let has = |(number, value): &(u16, Vec<u8>)| found.contains(&(*number, value.clone()));
            if !has(&(PORT, wanted.port.to_be_bytes().to_vec())) {
                continue;
            }
            if wanted.attributes().iter().all(has) {
                return Ok(There::Same);
            }
            let value =
                |number| found.iter().find(|(its, _)| *its == number).map(|(_, value)| value.as_slice());
            let local = match value(LOCAL) {
                Some(&[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).to_string(),
                _ => "any address".to_owned(),
            };
            let kind = if value(KIND) == Some(&[2]) { "GUE" } else { "FOU" };
            let protocol = value(PROTOCOL).and_then(<[u8]>::first).copied().unwrap_or(0);
            there = There::Other(format!("{kind} of protocol {protocol} at {local}"));
        }
        Ok(there)
    }
}

/// Sees to it that what a device needs is there.
pub(super) fn ensure(wanted: &TunnelLink) -> Result<(), NetlinkError> {
    let Some(port) = FouPort::of(wanted) else { return Ok(()) };
    let mut fou = Fou::open()?;
    match fou.look(&port)? {
        There::Same => return Ok(()),
        There::Other(other) => return Err(in_the_way(&port, &other)),
        There::Nothing => {}
    }
    let request = fou.message(ADD, &port.attributes());
    match fou.socket.execute(Message::plain(request)) {
        Err(error) if error.is(libc::EADDRINUSE) => Err(NetlinkError::Refused {
            errno: libc::EADDRINUSE,
            text: super::port_of_another(port.port, "port of the plugin's, on all nodes"),
        }),
        Err(error) => Err(error),
        Ok(()) => {
            info!(device = %wanted.name, port = port.port, encapsulation = %port.kind, "UDP port of a tunnel opened");
            Ok(())
        }
    }
}

fn in_the_way(port: &FouPort, other: &str) -> NetlinkError {
    NetlinkError::NotOurs(format!(
        "UDP port {} has another encapsulation, which is not ours: {other} (`ip fou show`): remove it, or choose another port on all nodes",
        port.port
    ))
}

/// What stands in the way of a port, if anything does; the second part: it is ours already.
pub(super) fn obstacle(wanted: &TunnelLink) -> Result<(Option<String>, bool), NetlinkError> {
    let Some(port) = FouPort::of(wanted) else { return Ok((None, false)) };
    let mut fou = match Fou::open() {
        Ok(fou) => fou,
        Err(NetlinkError::Unsupported(reason)) => return Ok((Some(reason), false)),
        Err(error) => return Err(error),
    };
    Ok(match fou.look(&port)? {
        There::Same => (None, true),
        There::Other(other) => (Some(in_the_way(&port, &other).to_string()), true),
        There::Nothing => (None, false),
    })
}

/// A device of ours has been removed: its port goes, if no other device sends to it.
pub(super) fn release(socket: &mut RequestSocket, removed: &Observed) -> Result<(), NetlinkError> {
    FouPort::behind(removed).map_or(Ok(()), |port| close(socket, &port))
}

/// The same of a device that is not there, whoever has removed it.
pub(super) fn abandon(socket: &mut RequestSocket, wanted: &TunnelLink) -> Result<(), NetlinkError> {
    FouPort::of(wanted).map_or(Ok(()), |port| close(socket, &port))
}

fn close(socket: &mut RequestSocket, port: &FouPort) -> Result<(), NetlinkError> {
    if all(socket)?.iter().any(|other| FouPort::behind(other).is_some_and(|its| its.port == port.port)) {
        return Ok(());
    }
    let mut fou = match Fou::open() {
        Ok(fou) => fou,
        Err(NetlinkError::Unsupported(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    if fou.look(port)? != There::Same {
        return Ok(());
    }
    let request = fou.message(DELETE, &port.identity());
    fou.socket.execute(Message::plain(request))?;
    info!(port = port.port, "UDP port of a tunnel closed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use flannel_model::tunnel_link::{Payload as Carried, TunnelKind};

    use super::*;

    #[test]
    fn a_port_says_what_comes_out_of_it() {
        let local = Ipv4Addr::new(192, 168, 77, 11);
        let of = |kind, carries| {
            let udp = Some(UdpEncapsulation { kind, port: 5555 });
            let way = Way::NextHop { local, udp };
            let kind = TunnelKind::IpTunnel { way, carries };
            FouPort::of(&TunnelLink { name: "flannel.t".into(), mtu: 1400, kind }).map(|port| port.protocol)
        };
        assert_eq!(of(UdpKind::Fou, Carried::Ipv4), Some(4));
        assert_eq!(of(UdpKind::Fou, Carried::Ipv6), Some(41));
        assert_eq!(of(UdpKind::Fou, Carried::Both), None);
        assert_eq!(of(UdpKind::Gue, Carried::Both), Some(0));
    }
}
