//! IPsec's policies and states as netlink has them (`linux/xfrm.h`): what is sent, and what of it is read back.

use std::net::IpAddr;

use flannel_base::Secret;
use flannel_model::ipsec::Cipher;
use ipnet::IpNet;
use netlink_packet_core::{Emitable, ParseableParametrized as _};
use netlink_packet_xfrm::constants::{
    UDP_ENCAP_ESPINUDP, XFRM_MODE_TUNNEL, XFRM_POLICY_FWD, XFRM_POLICY_IN, XFRM_POLICY_OUT,
    XFRM_STATE_AF_UNSPEC, XFRM_STATE_ESN,
};
use netlink_packet_xfrm::policy::{DelGetMessage as PolicyId, ModifyMessage as PolicyMessage};
use netlink_packet_xfrm::state::{DelGetMessage as StateId, GetDumpMessage, ModifyMessage as StateMessage};
use netlink_packet_xfrm::{
    Address, AlgAead, EncapTmpl, LifetimeConfig, ReplayEsn, Selector, UserPolicyInfoBuffer, UserSaInfoBuffer,
    UserTemplate, XfrmAttrs, XfrmMessage,
};

use crate::netlink::Payload;

/// `IPPROTO_ESP`.
const ESP: u8 = 50;
/// Bits of the window in which packets may come out of order (RFC 4303, section 3.4.3), in words of 32.
const WINDOW_WORDS: u32 = 32;
/// Bits of the integrity check value: all 16 bytes of it.
const ICV_BITS: u32 = 128;
/// `XFRM_INF` of `linux/xfrm.h`: without a limit.
const UNLIMITED: u64 = u64::MAX;

/// How far a state has counted (RFC 4303, section 2.2.1): 64 bits each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequence {
    /// The last number that was sent.
    pub sent: u64,
    /// The highest that was received.
    pub received: u64,
}

/// A state: one direction between two nodes. It is identified by its destination and SPI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Where packets come from.
    pub source: IpAddr,
    /// Where they go.
    pub destination: IpAddr,
    /// The security parameters index.
    pub spi: u32,
    /// What ties it to its policies: the peer's.
    pub reqid: u32,
    /// What ties it to its device.
    pub if_id: u32,
    /// How far it has counted.
    pub sequence: Sequence,
    /// Packets that it has carried; 0 in what is sent.
    pub packets: u64,
}

/// How a state protects packets.
pub(super) struct Protects<'a> {
    pub cipher: Cipher,
    pub key: &'a Secret<Vec<u8>>,
    pub udp_port: Option<u16>,
}

/// Which way a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Direction {
    /// What leaves.
    Out,
    /// What comes in, for this node itself.
    In,
    /// What comes in, for others.
    Forward,
}

impl Direction {
    pub(super) const ALL: [Self; 3] = [Self::In, Self::Forward, Self::Out];

    fn number(self) -> u8 {
        match self {
            Self::Out => XFRM_POLICY_OUT,
            Self::In => XFRM_POLICY_IN,
            Self::Forward => XFRM_POLICY_FWD,
        }
    }
}

/// A policy: what goes to a peer's subnet, or comes from it, goes by a state between these two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub direction: Direction,
    /// The peer's subnet.
    pub subnet: IpNet,
    /// Where the tunnel begins.
    pub source: IpAddr,
    /// Where it ends.
    pub destination: IpAddr,
    pub reqid: u32,
    pub if_id: u32,
}

/// What ties a peer's policies and states together. Never 0, which ties nothing.
pub(super) fn reqid(subnet: &IpNet) -> u32 {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(subnet.to_string());
    let id = digest.iter().take(4).fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
    (id >> 1).max(1)
}

fn family(address: &IpAddr) -> u16 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u16::try_from(family).unwrap_or_default()
}

fn address(bytes: &Address, family: u16) -> IpAddr {
    if i32::from(family) == libc::AF_INET { bytes.to_ipv4().into() } else { bytes.to_ipv6().into() }
}

fn unlimited() -> LifetimeConfig {
    LifetimeConfig {
        soft_byte_limit: UNLIMITED,
        hard_byte_limit: UNLIMITED,
        soft_packet_limit: UNLIMITED,
        hard_packet_limit: UNLIMITED,
        ..LifetimeConfig::default()
    }
}

fn payload(message: &XfrmMessage) -> Payload {
    let mut body = vec![0; message.buffer_len()];
    message.emit(&mut body);
    Payload::Generic(message.message_type(), body)
}

fn halves(number: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// Asks for all states.
pub(super) fn all_states() -> Payload {
    payload(&XfrmMessage::GetDumpSa(GetDumpMessage::default()))
}

/// Asks for all policies.
pub(super) fn all_policies() -> Payload {
    payload(&XfrmMessage::GetPolicy(PolicyId::default()))
}

/// Makes a state.
pub(super) fn add_state(state: &State, protects: &Protects<'_>) -> Payload {
    let mut message = StateMessage::default();
    let info = &mut message.user_sa_info;
    info.id.daddr = Address::from_ip(&state.destination);
    info.id.spi = state.spi;
    info.id.proto = ESP;
    info.saddr = Address::from_ip(&state.source);
    info.family = family(&state.destination);
    info.mode = XFRM_MODE_TUNNEL;
    info.reqid = state.reqid;
    info.flags = XFRM_STATE_ESN | XFRM_STATE_AF_UNSPEC;
    info.lifetime_cfg = unlimited();
    let key = protects.key.reveal();
    let mut alg_name = [0; 64];
    let name = protects.cipher.kernel_name().as_bytes();
    alg_name[..name.len()].copy_from_slice(name);
    let (oseq_hi, oseq) = halves(state.sequence.sent);
    let (seq_hi, seq) = halves(state.sequence.received);
    // What was received before and is not known one by one counts as received: it is not taken again.
    let seen = if state.sequence.received > 0 { u32::MAX } else { 0 };
    message.nlas = vec![
        XfrmAttrs::EncryptionAlgAead(AlgAead {
            alg_name,
            alg_key_len: u32::try_from(key.len() * 8).unwrap_or_default(),
            alg_icv_len: ICV_BITS,
            alg_key: key.clone(),
        }),
        XfrmAttrs::ReplayStateEsn(ReplayEsn {
            bmp_len: WINDOW_WORDS,
            oseq,
            seq,
            oseq_hi,
            seq_hi,
            replay_window: WINDOW_WORDS * 32,
            bmp: vec![seen; WINDOW_WORDS as usize],
        }),
        XfrmAttrs::IfId(state.if_id),
    ];
    if let Some(port) = protects.udp_port {
        message.nlas.push(XfrmAttrs::EncapsulationTemplate(EncapTmpl {
            encap_type: UDP_ENCAP_ESPINUDP,
            encap_sport: port,
            encap_dport: port,
            encap_oa: Address::default(),
        }));
    }
    payload(&XfrmMessage::AddSa(message))
}

fn state_id(state: &State) -> StateId {
    let mut message = StateId::default();
    message.user_sa_id.daddr = Address::from_ip(&state.destination);
    message.user_sa_id.spi = state.spi;
    message.user_sa_id.family = family(&state.destination);
    message.user_sa_id.proto = ESP;
    message
}

/// Removes a state.
pub(super) fn delete_state(state: &State) -> Payload {
    payload(&XfrmMessage::DeleteSa(state_id(state)))
}

/// Asks for one state.
pub(super) fn get_state(state: &State) -> Payload {
    payload(&XfrmMessage::GetSa(state_id(state)))
}

fn selector(policy: &Policy) -> Selector {
    let mut selector = Selector { family: family(&policy.subnet.addr()), ..Selector::default() };
    let (network, length) = (Address::from_ip(&policy.subnet.network()), policy.subnet.prefix_len());
    if policy.direction == Direction::Out {
        (selector.daddr, selector.prefixlen_d) = (network, length);
    } else {
        (selector.saddr, selector.prefixlen_s) = (network, length);
    }
    selector
}

/// Makes a policy, or changes the one that is there.
pub(super) fn put_policy(policy: &Policy) -> Payload {
    let mut message = PolicyMessage::default();
    message.user_policy_info.selector = selector(policy);
    message.user_policy_info.direction = policy.direction.number();
    message.user_policy_info.lifetime_cfg = unlimited();
    let mut template = UserTemplate::default();
    template.id.daddr = Address::from_ip(&policy.destination);
    template.id.proto = ESP;
    template.saddr = Address::from_ip(&policy.source);
    template.family = family(&policy.destination);
    template.reqid = policy.reqid;
    template.mode = XFRM_MODE_TUNNEL;
    (template.aalgos, template.ealgos, template.calgos) = (u32::MAX, u32::MAX, u32::MAX);
    message.nlas = vec![XfrmAttrs::Template(vec![template]), XfrmAttrs::IfId(policy.if_id)];
    payload(&XfrmMessage::UpdatePolicy(message))
}

/// Removes a policy.
pub(super) fn delete_policy(policy: &Policy) -> Payload {
    let mut message = PolicyId::default();
    message.user_policy_id.selector = selector(policy);
    message.user_policy_id.direction = policy.direction.number();
    message.nlas = vec![XfrmAttrs::IfId(policy.if_id)];
    payload(&XfrmMessage::DeletePolicy(message))
}

fn if_id(attributes: &[XfrmAttrs]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        XfrmAttrs::IfId(id) => Some(*id),
        _ => None,
    })
}

/// A message that is as long as its fixed part, which the parser takes for granted.
fn parse(payload: &Payload, least: usize) -> Option<XfrmMessage> {
    match payload {
        Payload::Generic(kind, body) if body.len() >= least => {
            XfrmMessage::parse_with_param(body, *kind).ok()
        }
        _ => None,
    }
}

/// Reads a state of ESP in tunnel mode that is tied to a device.
pub(super) fn read_state(payload: &Payload) -> Option<State> {
    let XfrmMessage::AddSa(message) = parse(payload, size_of::<UserSaInfoBuffer>())? else { return None };
    let info = &message.user_sa_info;
    let sequence = message.nlas.iter().find_map(|attribute| match attribute {
        XfrmAttrs::ReplayStateEsn(replay) => {
            let whole = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
            Some(Sequence {
                sent: whole(replay.oseq_hi, replay.oseq),
                received: whole(replay.seq_hi, replay.seq),
            })
        }
        _ => None,
    });
    // Without a number it is one that the kernel would like to have.
    let is_ours = info.id.proto == ESP && info.mode == XFRM_MODE_TUNNEL && info.id.spi != 0;
    is_ours.then_some(State {
        source: address(&info.saddr, info.family),
        destination: address(&info.id.daddr, info.family),
        spi: info.id.spi,
        reqid: info.reqid,
        if_id: if_id(&message.nlas)?,
        sequence: sequence.unwrap_or_default(),
        packets: info.lifetime_cur.packets,
    })
}

/// Reads a policy such as ours are.
pub(super) fn read_policy(payload: &Payload) -> Option<Policy> {
    let XfrmMessage::AddPolicy(message) = parse(payload, size_of::<UserPolicyInfoBuffer>())? else {
        return None;
    };
    let info = &message.user_policy_info;
    let direction = Direction::ALL.into_iter().find(|way| way.number() == info.direction)?;
    let (network, length) = match direction {
        Direction::Out => (&info.selector.daddr, info.selector.prefixlen_d),
        _ => (&info.selector.saddr, info.selector.prefixlen_s),
    };
    let subnet = IpNet::new(address(network, info.selector.family), length).ok()?;
    let if_id = if_id(&message.nlas)?;
    let template = message.nlas.iter().find_map(|attribute| match attribute {
        XfrmAttrs::Template(templates) => templates.first().copied(),
        _ => None,
    })?;
    Some(Policy {
        direction,
        subnet,
        source: address(&template.saddr, template.family),
        destination: address(&template.id.daddr, template.family),
        reqid: template.reqid,
        if_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        for (source, destination) in [("192.168.0.1", "192.168.0.2"), ("fd00::1", "fd00::2")] {
            let state = State {
                source: ip(source),
                destination: ip(destination),
                spi: 0x1234_5678,
                reqid: 7,
                if_id: 9,
                sequence: Sequence { sent: (3 << 32) + 5, received: (1 << 32) + 2 },
                packets: 0,
            };
            let key = Secret::new(vec![1; 20]);
            let protects = Protects { cipher: Cipher::Aes128Gcm, key: &key, udp_port: Some(4500) };
            assert_eq!(read_state(&add_state(&state, &protects)), Some(state));
        }
    }

    #[test]
    fn a_policy_is_read_as_it_was_written() {
        for direction in Direction::ALL {
            let policy = Policy {
                direction,
                subnet: "10.5.3.0/24".parse().expect("a network"),
                source: ip("192.168.0.1"),
                destination: ip("192.168.0.2"),
                reqid: 7,
                if_id: 9,
            };
            let Payload::Generic(_, body) = put_policy(&policy) else { panic!("XFRM's own") };
            // What is asked for by one number is told of by another.
            assert_eq!(read_policy(&Payload::Generic(0x13, body)), Some(policy));
        }
    }
}
