//! The socket for requests: dumps, single requests, and batches.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable,
    NetlinkHeader, Parseable,
};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE, NETLINK_XFRM};
use netlink_sys::{Socket, SocketAddr};

use super::NetlinkError;
use super::message::{Message, Payload};

/// Bytes of a batch: below the default send buffer (212,992) with room for the kernel's own bookkeeping.
const BATCH_BYTES: usize = 64 * 1024;
/// Messages in a batch. Each may fail and then costs an answer in the receive buffer.
const BATCH_MESSAGES: u32 = 512;
/// What is asked for as receive buffer, in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A dump that changed underneath is asked again this often before it is taken as it is: the notifications tell the rest.
const DUMP_TRIES: usize = 5;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Set in an acknowledgement that does not carry the request's body.
const NLM_F_CAPPED: u16 = 0x100;
/// Set in an acknowledgement that carries attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// A blocking socket for requests. Not shared between threads.
pub(crate) struct RequestSocket {
    socket: Socket,
    generic: bool,
    port: u32,
    /// What modifying requests say of who sends them. XFRM's notifications repeat that; others' have the port itself.
    signature: u32,
    sequence: u32,
    buffer: Vec<u8>,
    sent: u64,
}

impl RequestSocket {
    /// Opens a socket for the routing family, in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Self::open_for(NETLINK_ROUTE)
    }

    /// Opens a socket for generic netlink, where all messages are [`Payload::Generic`].
    pub(crate) fn open_generic() -> Result<Self, NetlinkError> {
        Self::open_for(NETLINK_GENERIC)
    }

    /// Opens a socket for IPsec's policies and states, where all messages are [`Payload::Generic`].
    pub(crate) fn open_xfrm() -> Result<Self, NetlinkError> {
        Self::open_for(NETLINK_XFRM)
    }

    fn open_for(protocol: isize) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        let mut address = SocketAddr::new(0, 0);
        socket.get_address(&mut address)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        grow_receive_buffer(&socket, RECEIVE_BUFFER);
        // Explanations in acknowledgements, and no copy of the request: both only make answers better or smaller.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // Without this (before kernel 4.20) dumps are not filtered: larger, and right all the same.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            socket,
            generic: protocol != NETLINK_ROUTE,
            port: address.port_number(),
            signature: if protocol == NETLINK_XFRM { address.port_number() } else { 0 },
            sequence: 0,
            buffer: Vec::with_capacity(BATCH_BYTES),
            sent: 0,
        })
    }

    /// The socket's netlink port: the sender in the notifications of what it changed.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// How many modifying messages were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Asks for everything that matches.
    pub(crate) fn dump(&mut self, payload: &Payload) -> Result<Vec<Payload>, NetlinkError> {
        let mut last = Vec::new();
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            let consistent = self.dump_once(payload.clone(), |one| found.push(one))?;
            last = found;
            if consistent {
                break;
            }
        }
        Ok(last)
    }

    /// The same, one by one: of many, not all are in memory at once. What changes meanwhile may come twice.
    pub(crate) fn dump_each(
        &mut self,
        payload: &Payload,
        mut take: impl FnMut(Payload),
    ) -> Result<(), NetlinkError> {
        for _ in 0..DUMP_TRIES {
            if self.dump_once(payload.clone(), &mut take)? {
                break;
            }
        }
        Ok(())
    }

    /// Answers whether nothing changed underneath.
    fn dump_once(&mut self, payload: Payload, mut take: impl FnMut(Payload)) -> Result<bool, NetlinkError> {
        let sequence = self.next_sequence();
        self.buffer.clear();
        Message::plain(payload).append(sequence, NLM_F_REQUEST | NLM_F_DUMP, 0, &mut self.buffer);
        self.send()?;
        let generic = self.generic;
        let (mut consistent, mut refused) = (true, None);
        self.receive_until(|header, body| {
            if header.sequence_number != sequence {
                return Ok(false);
            }
            consistent &= header.flags & NLM_F_DUMP_INTR == 0;
            match header.message_type {
                NLMSG_DONE | NLMSG_ERROR => {
                    refused = refusal(header, body);
                    Ok(true)
                }
                _ => {
                    take(if generic { raw(header, body) } else { decode(header, body)? });
                    Ok(false)
                }
            }
        })?;
        match refused {
            Some(error) if error.is(libc::EINTR) => Ok(false),
            Some(error) => Err(error),
            None => Ok(consistent),
        }
    }

    /// Asks for one object. `None`: there is none.
    pub(crate) fn get(&mut self, payload: Payload) -> Result<Option<Payload>, NetlinkError> {
        let sequence = self.next_sequence();
        self.buffer.clear();
        Message::plain(payload).append(sequence, NLM_F_REQUEST, self.signature, &mut self.buffer);
        self.send()?;
        let generic = self.generic;
        let (mut found, mut refused) = (None, None);
        self.receive_until(|header, body| {
            if header.sequence_number != sequence {
                return Ok(false);
            }
            if header.message_type == NLMSG_ERROR {
                refused = refusal(header, body);
            } else {
                found = Some(if generic { raw(header, body) } else { decode(header, body)? });
            }
            Ok(true)
        })?;
        match refused {
            Some(error) if error.is(libc::ENODEV) || error.is(libc::ENOENT) => Ok(None),
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    /// Sends one modifying request and waits for the acknowledgement.
    pub(crate) fn execute(&mut self, message: Message) -> Result<(), NetlinkError> {
        self.batch(vec![message]).pop().unwrap_or(Ok(()))
    }

    /// Sends modifying requests in order, many in a system call, and answers with one result for each, in order. A
    /// failure does not keep the later ones from being tried.
    pub(crate) fn batch(&mut self, messages: Vec<Message>) -> Vec<Result<(), NetlinkError>> {
        let mut results = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let (first, mut count, mut last) = (self.sequence.wrapping_add(1), 0_u32, 0);
            self.buffer.clear();
            while self.buffer.len() < BATCH_BYTES && count < BATCH_MESSAGES {
                let Some(message) = messages.next() else { break };
                let sequence = self.next_sequence();
                last = self.buffer.len();
                message.append(sequence, NLM_F_REQUEST, self.signature, &mut self.buffer);
                count += 1;
            }
            // The kernel works through a batch in order and reports every failure, so one acknowledgement, for the
            // last message, tells that all others went well. The flags are the header's third field.
            let flags = &mut self.buffer[last + 6..last + 8];
            let asked = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
            flags.copy_from_slice(&asked.to_ne_bytes());
            self.sent += u64::from(count);
            let part = self.exchange(first, count);
            results.extend(part);
        }
        results
    }

    fn exchange(&mut self, first: u32, count: u32) -> Vec<Result<(), NetlinkError>> {
        let mut results = vec![Ok(()); count as usize];
        let outcome = self.send().and_then(|()| {
            self.receive_until(|header, body| {
                let position = header.sequence_number.wrapping_sub(first);
                if header.message_type != NLMSG_ERROR || position >= count {
                    return Ok(false);
                }
                if let Some(error) = refusal(header, body) {
                    results[position as usize] = Err(error);
                }
                Ok(position + 1 == count)
            })
        });
        if let Err(error) = outcome {
            // Which of them the kernel has dealt with is not known: the caller has to look.
            results = vec![Err(error); count as usize];
        }
        results
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self) -> Result<(), NetlinkError> {
        loop {
            match self.socket.send(&self.buffer, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Hands every message that comes in to `take`, until it answers `true`.
    fn receive_until(
        &mut self,
        mut take: impl FnMut(&NetlinkHeader, &[u8]) -> Result<bool, NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            let mut done = false;
            for_each_message(&buffer, |header, body| {
                done |= take(header, body)?;
                Ok(())
            })?;
            if done {
                return Ok(());
            }
        }
    }
}

/// Calls `take` for every message in a datagram.
pub(super) fn for_each_message(
    mut datagram: &[u8],
    mut take: impl FnMut(&NetlinkHeader, &[u8]) -> Result<(), NetlinkError>,
) -> Result<(), NetlinkError> {
    while !datagram.is_empty() {
        let malformed = |error: netlink_packet_core::DecodeError| NetlinkError::Malformed(error.to_string());
        let message = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
        let header = NetlinkHeader::parse(&message).map_err(malformed)?;
        take(&header, message.payload())?;
        let length = (header.length as usize).next_multiple_of(4).min(datagram.len());
        datagram = &datagram[length..];
    }
    Ok(())
}

/// The typed body of a message.
pub(super) fn decode(header: &NetlinkHeader, body: &[u8]) -> Result<Payload, NetlinkError> {
    Payload::deserialize(header, body).map_err(|error| NetlinkError::Malformed(error.to_string()))
}

/// The body of a generic netlink message as it is.
fn raw(header: &NetlinkHeader, body: &[u8]) -> Payload {
    Payload::Generic(header.message_type, body.to_vec())
}

/// The refusal in an error message or at the end of a dump; none in an acknowledgement.
fn refusal(header: &NetlinkHeader, body: &[u8]) -> Option<NetlinkError> {
    let code = i32::from_ne_bytes(*body.first_chunk()?);
    if code == 0 {
        return None;
    }
    let text = explanation(header, body).unwrap_or_default();
    Some(NetlinkError::Refused { errno: code.wrapping_neg(), text })
}

/// The extended acknowledgement's text (`NLMSGERR_ATTR_MSG` of `linux/netlink.h`).
fn explanation(header: &NetlinkHeader, body: &[u8]) -> Option<String> {
    if header.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = if header.flags & NLM_F_CAPPED != 0 || header.message_type == NLMSG_DONE {
        if header.message_type == NLMSG_DONE { 0 } else { 16 }
    } else {
        u32::from_ne_bytes(*body.get(4..)?.first_chunk()?) as usize
    };
    let mut rest = body.get((4 + echoed).next_multiple_of(4)..)?;
    while let Some(&[a, b, c, d]) = rest.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) & 0x3fff == NLMSGERR_ATTR_MSG {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).trim_end_matches('.').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Asks for a receive buffer beyond the system's limit, or up to it where that is not allowed.
pub(super) fn grow_receive_buffer(socket: &Socket, bytes: usize) {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, which outlives this function's use of it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(descriptor, bytes).is_err() {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(descriptor, bytes);
    }
}
