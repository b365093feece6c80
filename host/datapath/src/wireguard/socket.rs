//! The generic netlink socket: devices read, keys and peers set.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flannel_model::wireguard::{Keys, PublicKey, SecretKey, WireguardPeer};
use ipnet::IpNet;
use netlink_packet_core::{Emitable, ParseableParametrized};
use netlink_packet_generic::GenlHeader;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardMessage, WireguardPeer as PeerMessage, WireguardPeerAttribute, WireguardPeerFlags,
};

use super::{PeerChange, WireguardDevice};
use crate::netlink::{Message, NetlinkError, Payload, RequestSocket};

/// `GENL_ID_CTRL` of `linux/genetlink.h`: the family that knows all others.
const CONTROL: u16 = 0x10;
/// For so long after a handshake a session is good (`REJECT_AFTER_TIME` of the WireGuard paper): the peer is where it was heard.
const ALIVE: Duration = Duration::from_mins(3);
/// Peers in a message: some ten kilobytes.
const PEERS: usize = 64;

/// A socket for WireGuard devices, in the network namespace of the thread that opens it.
pub struct WireguardSocket {
    socket: RequestSocket,
    family: u16,
}

impl WireguardSocket {
    /// Opens it. Fails where the kernel has no WireGuard.
    pub fn open() -> Result<Self, NetlinkError> {
        let mut socket = RequestSocket::open_generic()?;
        let family = generic_family(&mut socket, "wireguard")?.ok_or_else(|| {
            NetlinkError::Unsupported("this kernel has no WireGuard (module `wireguard`)".to_owned())
        })?;
        Ok(Self { socket, family })
    }

    fn message(&self, cmd: WireguardCmd, attributes: Vec<WireguardAttribute>) -> Payload {
        let message = WireguardMessage { cmd, attributes };
        Payload::Generic(self.family, body(GenlHeader { cmd: cmd.into(), version: 1 }, &message))
    }

    /// Reads a device.
    pub fn device(&mut self, index: u32) -> Result<WireguardDevice, NetlinkError> {
        let request = self.message(WireguardCmd::GetDevice, vec![WireguardAttribute::IfIndex(index)]);
        let mut device = WireguardDevice::default();
        // A device with many peers comes in several messages; one peer with many networks, too.
        for part in self.socket.dump(&request)? {
            if let Payload::Generic(_, bytes) = part {
                read(&bytes, &mut device)?;
            }
        }
        Ok(device)
    }

    /// Gives a device a key and a port.
    pub fn identify(&mut self, index: u32, keys: &Keys, port: u16) -> Result<(), NetlinkError> {
        let attributes = vec![
            WireguardAttribute::IfIndex(index),
            WireguardAttribute::PrivateKey(keys.private.bytes()),
            WireguardAttribute::ListenPort(port),
        ];
        let payload = self.message(WireguardCmd::SetDevice, attributes);
        self.socket.execute(Message::plain(payload))
    }

    /// Changes peers, in order; one result for each.
    pub fn change(&mut self, index: u32, changes: &[PeerChange]) -> Vec<Result<(), NetlinkError>> {
        let mut results = Vec::with_capacity(changes.len());
        for some in changes.chunks(PEERS) {
            if self.change_some(index, some).is_ok() {
                results.extend(some.iter().map(|_| Ok(())));
            } else {
                // The kernel does not say at which of them it stopped.
                results.extend(some.iter().map(|one| self.change_some(index, std::slice::from_ref(one))));
            }
        }
        results
    }

    fn change_some(&mut self, index: u32, changes: &[PeerChange]) -> Result<(), NetlinkError> {
        let peers = changes.iter().map(peer_message).collect();
        let attributes = vec![WireguardAttribute::IfIndex(index), WireguardAttribute::Peers(peers)];
        let payload = self.message(WireguardCmd::SetDevice, attributes);
        self.socket.execute(Message::plain(payload))
    }
}

/// The number of a family of generic netlink; none: the kernel does not have it.
pub(crate) fn generic_family(socket: &mut RequestSocket, name: &str) -> Result<Option<u16>, NetlinkError> {
    let question =
        GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())] };
    let request = Payload::Generic(CONTROL, body(GenlHeader { cmd: 3, version: 1 }, &question));
    match socket.get(request)? {
        Some(Payload::Generic(_, body)) => family_of(&body).map(Some),
        _ => Ok(None),
    }
}

fn body(header: GenlHeader, message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; header.buffer_len() + message.buffer_len()];
    header.emit(&mut bytes);
    message.emit(&mut bytes[header.buffer_len()..]);
    bytes
}

fn split(bytes: &[u8]) -> Result<(GenlHeader, &[u8]), NetlinkError> {
    let malformed = || NetlinkError::Malformed("a generic netlink message that is cut short".to_owned());
    let (header, rest) = bytes.split_at_checked(4).ok_or_else(malformed)?;
    Ok((GenlHeader { cmd: header[0], version: header[1] }, rest))
}

fn family_of(bytes: &[u8]) -> Result<u16, NetlinkError> {
    let (header, rest) = split(bytes)?;
    let answer = GenlCtrl::parse_with_param(rest, header).map_err(malformed)?;
    let id = answer.nlas.iter().find_map(|nla| match nla {
        GenlCtrlAttrs::FamilyId(id) => Some(*id),
        _ => None,
    });
    id.ok_or_else(|| NetlinkError::Malformed("a family without a number".to_owned()))
}

fn malformed(error: impl std::fmt::Display) -> NetlinkError {
    NetlinkError::Malformed(error.to_string())
}

/// What changes a peer. Its networks are replaced, not added to.
fn peer_message(change: &PeerChange) -> PeerMessage {
    match change {
        PeerChange::Remove(key) => PeerMessage(vec![
            WireguardPeerAttribute::PublicKey(key.0),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
        ]),
        PeerChange::Put(peer) => {
            // A preshared key of zeros is none.
            let preshared = peer.preshared.as_ref().map_or([0; 32], SecretKey::bytes);
            let mut attributes = vec![
                WireguardPeerAttribute::PublicKey(peer.key.0),
                WireguardPeerAttribute::PresharedKey(preshared),
                WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
                WireguardPeerAttribute::PersistentKeepalive(peer.keepalive),
                WireguardPeerAttribute::AllowedIps(peer.allowed.iter().map(allowed).collect()),
            ];
            attributes.extend(peer.endpoint.map(WireguardPeerAttribute::Endpoint));
            PeerMessage(attributes)
        }
    }
}

fn allowed(network: &IpNet) -> WireguardAllowedIp {
    let family =
        if network.addr().is_ipv4() { WireguardAddressFamily::Ipv4 } else { WireguardAddressFamily::Ipv6 };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(network.addr()),
        WireguardAllowedIpAttr::Cidr(network.prefix_len()),
    ])
}

fn read(bytes: &[u8], device: &mut WireguardDevice) -> Result<(), NetlinkError> {
    let (header, rest) = split(bytes)?;
    let message = WireguardMessage::parse_with_param(rest, header).map_err(malformed)?;
    for attribute in message.attributes {
        match attribute {
            WireguardAttribute::PublicKey(key) => device.public_key = Some(PublicKey(key)),
            WireguardAttribute::ListenPort(port) => device.port = port,
            WireguardAttribute::Peers(peers) => {
                for peer in peers.iter().filter_map(read_peer) {
                    // The rest of a peer whose networks did not fit into the message before.
                    match device.peers.last_mut().filter(|last| last.key == peer.key) {
                        Some(last) => last.allowed.extend(peer.allowed),
                        None => device.peers.push(peer),
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_peer(message: &PeerMessage) -> Option<WireguardPeer> {
    let (mut key, mut heard) = (None, None);
    let mut peer = WireguardPeer {
        key: PublicKey([0; 32]),
        endpoint: None,
        allowed: BTreeSet::new(),
        keepalive: 0,
        preshared: None,
    };
    for attribute in message.iter() {
        match attribute {
            WireguardPeerAttribute::PublicKey(bytes) => key = Some(PublicKey(*bytes)),
            WireguardPeerAttribute::PresharedKey(bytes) => {
                peer.preshared = Some(*bytes).filter(|bytes| *bytes != [0; 32]).map(SecretKey::from_bytes);
            }
            WireguardPeerAttribute::Endpoint(address) => peer.endpoint = Some(*address),
            WireguardPeerAttribute::PersistentKeepalive(seconds) => peer.keepalive = *seconds,
            WireguardPeerAttribute::LastHandshake(time) => {
                heard =
                    u64::try_from(time.seconds).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
            }
            WireguardPeerAttribute::AllowedIps(networks) => {
                peer.allowed.extend(networks.iter().filter_map(read_allowed));
            }
            _ => {}
        }
    }
    let alive = |when: SystemTime| SystemTime::now().duration_since(when).is_ok_and(|since| since < ALIVE);
    if heard.is_some_and(alive) {
        peer.endpoint = None;
    }
    peer.key = key?;
    Some(peer)
}

fn read_allowed(network: &WireguardAllowedIp) -> Option<IpNet> {
    let (mut address, mut length): (Option<IpAddr>, _) = (None, None);
    for attribute in network.iter() {
        match attribute {
            WireguardAllowedIpAttr::IpAddr(is) => address = Some(*is),
            WireguardAllowedIpAttr::Cidr(bits) => length = Some(*bits),
            _ => {}
        }
    }
    IpNet::new(address?, length?).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn peer() -> WireguardPeer {
        WireguardPeer {
            key: PublicKey([7; 32]),
            endpoint: Some("192.168.0.101:51820".parse().expect("endpoint")),
            allowed: ["10.5.3.0/24", "fc00:5:0:3::/64"].map(|net| net.parse().expect("network")).into(),
            keepalive: 25,
            preshared: Some(SecretKey::from_bytes([9; 32])),
        }
    }

    /// A device's message as the kernel would send it.
    fn told(peers: Vec<PeerMessage>) -> WireguardDevice {
        let message = WireguardMessage {
            cmd: WireguardCmd::GetDevice,
            attributes: vec![
                WireguardAttribute::PublicKey([1; 32]),
                WireguardAttribute::ListenPort(51820),
                WireguardAttribute::Peers(peers),
            ],
        };
        let mut device = WireguardDevice::default();
        read(&body(GenlHeader { cmd: 0, version: 1 }, &message), &mut device).expect("a message");
        device
    }

    #[test]
    fn a_peer_that_was_put_is_met_by_what_is_read() {
        let device = told(vec![peer_message(&PeerChange::Put(Arc::new(peer())))]);
        assert_eq!((device.public_key, device.port), (Some(PublicKey([1; 32])), 51820));
        let [found] = &device.peers[..] else { panic!("{device:?}") };
        assert!(peer().is_met_by(found), "{found:?}");
        for wrong in [
            WireguardPeer { keepalive: 0, ..peer() },
            WireguardPeer { allowed: BTreeSet::new(), ..peer() },
            WireguardPeer { preshared: None, ..peer() },
            WireguardPeer { endpoint: None, ..peer() },
        ] {
            assert!(!wrong.is_met_by(found), "{wrong:?}");
        }
    }

    #[test]
    fn a_peer_that_was_heard_of_lately_is_right_where_it_is() {
        let mut message = peer_message(&PeerChange::Put(Arc::new(peer())));
        let elsewhere = "203.0.113.9:4242".parse().expect("endpoint");
        message.0.retain(|attribute| !matches!(attribute, WireguardPeerAttribute::Endpoint(_)));
        message.0.push(WireguardPeerAttribute::Endpoint(elsewhere));
        let silent = told(vec![message.clone()]);
        assert!(!peer().is_met_by(&silent.peers[0]));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let heard = netlink_packet_wireguard::WireguardTimeSpec {
            seconds: i64::try_from(now).expect("seconds"),
            nano_seconds: 0,
        };
        message.0.push(WireguardPeerAttribute::LastHandshake(heard));
        assert!(peer().is_met_by(&told(vec![message]).peers[0]));
    }

    #[test]
    fn a_peer_that_comes_in_parts_is_one() {
        let (mut first, mut second) = (peer(), peer());
        first.allowed = ["10.5.3.0/24".parse().expect("network")].into();
        second.allowed = ["fc00:5:0:3::/64".parse().expect("network")].into();
        let parts = [first, second].map(|part| peer_message(&PeerChange::Put(Arc::new(part))));
        let device = told(parts.into());
        assert_eq!(device.peers.len(), 1);
        assert!(peer().is_met_by(&device.peers[0]));
    }

    #[test]
    fn where_the_kernel_lacks_wireguard_it_is_said() {
        match WireguardSocket::open() {
            Ok(_) => flannel_test_support::skip("this kernel has WireGuard"),
            Err(error) => assert!(error.to_string().contains("`wireguard`"), "{error}"),
        }
    }
}
