//! One message: what the `netlink-packet-route` crate knows, and the nexthop objects that it does not.

use netlink_packet_core::{
    DecodeError, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;

use super::nexthop::{NexthopMessage, RTM_DELNEXTHOP, RTM_GETNEXTHOP, RTM_NEWNEXTHOP};

/// The body of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Links, addresses, neighbours, FDB entries, routes.
    Route(RouteNetlinkMessage),
    /// `RTM_NEWNEXTHOP`.
    NewNexthop(NexthopMessage),
    /// `RTM_DELNEXTHOP`.
    DelNexthop(NexthopMessage),
    /// `RTM_GETNEXTHOP`.
    GetNexthop(NexthopMessage),
    /// A generic netlink message: the family's number, and what comes behind the netlink header.
    Generic(u16, Vec<u8>),
    /// Something that we do not use, or that cannot be decoded: its message type.
    Other(u16),
}

/// A request that is yet to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The body.
    pub payload: Payload,
    /// `NLM_F_*` flags besides `NLM_F_REQUEST` and `NLM_F_ACK`, which the socket sets.
    pub flags: u16,
}

/// Create it, or replace what is there under the same key.
pub(crate) fn create_or_replace(payload: Payload) -> Message {
    Message { payload, flags: NLM_F_CREATE | NLM_F_REPLACE }
}

/// Create it, unless something is there under the same key: then the answer is `EEXIST`.
pub(crate) fn create(payload: Payload) -> Message {
    Message { payload, flags: NLM_F_CREATE | NLM_F_EXCL }
}

impl Message {
    /// A request without further flags.
    pub(crate) fn plain(payload: Payload) -> Self {
        Self { payload, flags: 0 }
    }

    /// Appends the message in wire format, padded, to a buffer. `port`: whom it says that it is from.
    pub(super) fn append(self, sequence: u32, flags: u16, port: u32, buffer: &mut Vec<u8>) {
        let mut header = NetlinkHeader::default();
        header.flags = self.flags | flags;
        header.sequence_number = sequence;
        header.port_number = port;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self.payload));
        message.finalize();
        let start = buffer.len();
        let length = message.buffer_len();
        buffer.resize(start + length.next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..start + length]);
    }
}

impl NetlinkSerializable for Payload {
    fn message_type(&self) -> u16 {
        match self {
            Self::Route(message) => message.message_type(),
            Self::NewNexthop(_) => RTM_NEWNEXTHOP,
            Self::DelNexthop(_) => RTM_DELNEXTHOP,
            Self::GetNexthop(_) => RTM_GETNEXTHOP,
            Self::Generic(kind, _) | Self::Other(kind) => *kind,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Route(message) => message.buffer_len(),
            Self::NewNexthop(message) | Self::DelNexthop(message) | Self::GetNexthop(message) => {
                message.encode().len()
            }
            Self::Generic(_, body) => body.len(),
            Self::Other(_) => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        match self {
            Self::Route(message) => message.serialize(buffer),
            Self::NewNexthop(message) | Self::DelNexthop(message) | Self::GetNexthop(message) => {
                buffer.copy_from_slice(&message.encode());
            }
            Self::Generic(_, body) => buffer.copy_from_slice(body),
            Self::Other(_) => {}
        }
    }
}

impl NetlinkDeserializable for Payload {
    type Error = DecodeError;

    /// Never fails for a message type that the reconciler does not need: those become `Other`.
    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(match header.message_type {
            RTM_NEWNEXTHOP => Self::NewNexthop(NexthopMessage::decode(payload)?),
            RTM_DELNEXTHOP => Self::DelNexthop(NexthopMessage::decode(payload)?),
            kind => match RouteNetlinkMessage::deserialize(header, payload) {
                Ok(message) => Self::Route(message),
                Err(_) => Self::Other(kind),
            },
        })
    }
}
