//! Nexthop objects (`linux/nexthop.h`, kernel 5.3 and later): a gateway on a device, with a number that routes refer to.

use std::net::IpAddr;

use netlink_packet_core::DecodeError;

pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
pub(super) const RTM_GETNEXTHOP: u16 = 106;

const HEADER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// `RTNH_F_ONLINK` of `linux/rtnetlink.h`.
const ONLINK: u32 = 4;

/// A nexthop object with one gateway. Groups, blackholes and the like decode to one without a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NexthopMessage {
    /// `AF_INET`, `AF_INET6`, or `AF_UNSPEC` (0) in requests that name it by number only.
    pub family: u8,
    /// Who made it: `RTPROT_*` of `linux/rtnetlink.h`.
    pub protocol: u8,
    /// The gateway is on the link even though no address says so.
    pub onlink: bool,
    /// The object's number; 0: none.
    pub id: u32,
    /// Index of the device; 0: none.
    pub oif: u32,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

impl NexthopMessage {
    /// In wire format.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        bytes.extend([self.family, 0, self.protocol, 0]);
        bytes.extend((if self.onlink { ONLINK } else { 0 }).to_ne_bytes());
        let mut attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        };
        if self.id != 0 {
            attribute(NHA_ID, &self.id.to_ne_bytes());
        }
        if self.oif != 0 {
            attribute(NHA_OIF, &self.oif.to_ne_bytes());
        }
        match self.gateway {
            Some(IpAddr::V4(gateway)) => attribute(NHA_GATEWAY, &gateway.octets()),
            Some(IpAddr::V6(gateway)) => attribute(NHA_GATEWAY, &gateway.octets()),
            None => {}
        }
        bytes
    }

    /// From wire format; attributes that we do not use are passed over.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from("nexthop message is cut short");
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or_else(short)?;
        let flags = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let mut message =
            Self { family: header[0], protocol: header[2], onlink: flags & ONLINK != 0, ..Self::default() };
        let mut rest = &bytes[HEADER..];
        while let Some(&[a, b, c, d]) = rest.first_chunk() {
            let length = usize::from(u16::from_ne_bytes([a, b]));
            let value = rest.get(4..length).ok_or_else(short)?;
            match (u16::from_ne_bytes([c, d]) & 0x3fff, value.len()) {
                (NHA_ID, 4) => message.id = number(value),
                (NHA_OIF, 4) => message.oif = number(value),
                (NHA_GATEWAY, 4) => message.gateway = <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
                (NHA_GATEWAY, 16) => message.gateway = <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(message)
    }
}

fn number(value: &[u8]) -> u32 {
    <[u8; 4]>::try_from(value).map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nexthop_survives_encoding() {
        for gateway in ["10.5.3.0", "fc00:5::1"] {
            let message = NexthopMessage {
                family: 2,
                protocol: 3,
                onlink: true,
                id: 7,
                oif: 9,
                gateway: Some(gateway.parse().expect("address")),
            };
            assert_eq!(NexthopMessage::decode(&message.encode()).expect("decodes"), message);
        }
    }

    #[test]
    fn cut_and_garbled_nexthops_are_refused_without_a_panic() {
        let whole = NexthopMessage { id: 7, oif: 9, ..NexthopMessage::default() }.encode();
        for end in 0..whole.len() {
            let _ = NexthopMessage::decode(&whole[..end]);
        }
        assert!(NexthopMessage::decode(&whole[..HEADER + 6]).is_err());
        assert!(NexthopMessage::decode(&[0; HEADER - 1]).is_err());
        assert!(
            NexthopMessage::decode(&[0; HEADER + 8]).is_err(),
            "an attribute of length 0 would never end"
        );
    }
}
