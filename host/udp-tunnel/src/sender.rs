//! Sends an [`TxBatch`], and copes with what the kernel says to it.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::bytes::low16;
use super::counters::Reason;
use super::endpoint::SocketName;
use super::path::Path;
use super::peer_table::Peer;
use super::socket::read_errors;
use super::tx_batch::{Message, Piece, TxBatch};

/// How often one message is tried: each report of an earlier error costs one try, and more may come meanwhile.
const TRIES: usize = 3;

/// The control message that asks for segmentation.
#[repr(C)]
#[derive(Clone, Copy)]
struct SegmentSize {
    header: libc::cmsghdr,
    size: u16,
    padding: [u8; 6],
}

/// The kernel's structures, kept from flush to flush so that none are allocated.
pub(crate) struct Sender {
    pieces: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    controls: Vec<SegmentSize>,
}

impl Sender {
    /// One with nothing to do.
    pub(crate) fn new() -> Self {
        Self { pieces: Vec::new(), headers: Vec::new(), controls: Vec::new() }
    }

    /// Sends everything and clears the messages. `refused` is called with the pieces of each datagram that was too large
    /// for the way, once the path MTU has been learnt.
    pub(crate) fn flush(
        &mut self,
        outbox: &mut TxBatch,
        path: Path<'_>,
        mut refused: impl FnMut(&TxBatch, &[Piece], &Peer),
    ) {
        self.prepare(outbox, path);
        let mut start = 0;
        while start < outbox.messages.len() {
            let v4 = outbox.messages[start].v4;
            let same = outbox.messages[start..].iter().take_while(|m| m.v4 == v4).count();
            let run = start..start + same;
            start = run.end;
            if let Some(socket) = path.sockets.of(v4) {
                self.send(run, outbox, socket, path, &mut refused);
            } else {
                let packets = outbox.messages[run].iter().map(|m| m.segments).sum();
                path.tallies.drop(Reason::NoSocket, packets);
            }
        }
        outbox.clear_messages();
    }

    fn prepare(&mut self, outbox: &TxBatch, path: Path<'_>) {
        self.pieces.clear();
        self.pieces.extend(outbox.pieces.iter().map(|&piece| {
            let bytes = outbox.bytes(piece);
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        }));
        self.controls.clear();
        self.controls.extend(outbox.messages.iter().map(|m| segment_size(m.size)));
        self.headers.clear();
        for (message, control) in outbox.messages.iter().zip(&mut self.controls) {
            // SAFETY: all zeroes is a valid mmsghdr.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            let h = &mut header.msg_hdr;
            if let Some(peer) = path.roster.peer(message.peer) {
                h.msg_name = std::ptr::from_ref::<SocketName>(&peer.endpoint.name).cast_mut().cast();
                h.msg_namelen = peer.endpoint.name_length;
            }
            h.msg_iov = self.pieces[message.first..].as_mut_ptr();
            h.msg_iovlen = message.pieces as _;
            if message.segments > 1 {
                h.msg_control = std::ptr::from_mut(control).cast();
                // SAFETY: CMSG_SPACE only computes.
                h.msg_controllen = unsafe { libc::CMSG_SPACE(2) } as _;
            }
            self.headers.push(header);
        }
    }

    fn send(
        &mut self,
        mut run: std::ops::Range<usize>,
        outbox: &mut TxBatch,
        socket: BorrowedFd<'_>,
        path: Path<'_>,
        refused: &mut impl FnMut(&TxBatch, &[Piece], &Peer),
    ) {
        let mut tries = 0;
        while let Some(&message) = outbox.messages[run.clone()].first() {
            let batch = &mut self.headers[run.clone()];
            let length = libc::c_uint::try_from(batch.len()).unwrap_or(1);
            // SAFETY: `prepare` has set all pointers to memory of the outbox, of the roster and of our own, which all
            // live and stay where they are until the call returns; the kernel only reads it, but for `msg_len`.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), batch.as_mut_ptr(), length, 0) };
            if let Ok(sent) = usize::try_from(sent) {
                for message in &outbox.messages[run.start..run.start + sent] {
                    count(message.peer, message.segments, message.bytes, path);
                }
                run.start += sent;
                tries = 0;
                continue;
            }
            tries += 1;
            match std::io::Error::last_os_error().raw_os_error().unwrap_or_default() {
                libc::EINTR => {}
                // EIO: the device cannot checksum. EINVAL: a segment exceeds the path MTU, or another limit.
                error @ (libc::EIO | libc::EINVAL | libc::EMSGSIZE) => {
                    let fine = self.send_singly(&message, outbox, socket, path, refused);
                    if fine && message.segments > 1 && error != libc::EMSGSIZE && outbox.gso {
                        tracing::warn!(
                            error,
                            "the kernel will not segment UDP datagrams here: from now on each is sent alone"
                        );
                        outbox.gso = false;
                    }
                    run.start += 1;
                    tries = 0;
                }
                error if tries < TRIES && is_report(error) => read_errors(socket, path.roster, path.tallies),
                // The socket's patience is at an end; each of the others would cost it again.
                error @ libc::EAGAIN => {
                    let packets = outbox.messages[run.clone()].iter().map(|m| m.segments).sum();
                    path.tallies.drop(why(error), packets);
                    return;
                }
                error => {
                    path.tallies.drop(why(error), message.segments);
                    run.start += 1;
                    tries = 0;
                }
            }
        }
    }

    /// Sends a message's datagrams one by one; whether all went out.
    fn send_singly(
        &mut self,
        message: &Message,
        outbox: &TxBatch,
        socket: BorrowedFd<'_>,
        path: Path<'_>,
        refused: &mut impl FnMut(&TxBatch, &[Piece], &Peer),
    ) -> bool {
        let Some(peer) = path.roster.peer(message.peer) else { return false };
        let mut fine = true;
        let mut first = message.first;
        let pieces = &outbox.pieces[message.first..message.first + message.pieces];
        for datagram in pieces.split_inclusive(|piece| piece.last) {
            let bytes = datagram.iter().map(|piece| piece.length as usize).sum();
            match self.send_one(first, datagram.len(), socket, path, peer) {
                Ok(()) => count(message.peer, 1, bytes, path),
                Err(libc::EMSGSIZE) => {
                    read_errors(socket, path.roster, path.tallies);
                    path.drop(Reason::TooBig);
                    refused(outbox, datagram, peer);
                    fine = false;
                }
                Err(error) => {
                    path.drop(why(error));
                    fine = false;
                }
            }
            first += datagram.len();
        }
        fine
    }

    fn send_one(
        &mut self,
        first: usize,
        pieces: usize,
        socket: BorrowedFd<'_>,
        path: Path<'_>,
        peer: &Peer,
    ) -> Result<(), c_int> {
        // SAFETY: all zeroes is a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_name = std::ptr::from_ref::<SocketName>(&peer.endpoint.name).cast_mut().cast();
        header.msg_namelen = peer.endpoint.name_length;
        header.msg_iov = self.pieces[first..first + pieces].as_mut_ptr();
        header.msg_iovlen = pieces as _;
        let mut error = 0;
        for _ in 0..TRIES {
            // SAFETY: as for sendmmsg.
            if unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) } >= 0 {
                return Ok(());
            }
            error = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
            if is_report(error) {
                read_errors(socket, path.roster, path.tallies);
            } else if error != libc::EINTR {
                break;
            }
        }
        Err(error)
    }
}

fn count(peer: u32, packets: usize, bytes: usize, path: Path<'_>) {
    let (packets, bytes) = (packets as u64, bytes as u64);
    path.tallies.traffic.tx.add(packets, bytes);
    if let Some(peer) = path.roster.peer(peer) {
        peer.traffic.tx.add(packets, bytes);
    }
}

fn why(error: c_int) -> Reason {
    match error {
        libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => Reason::SendBuffer,
        _ => Reason::SendFailed,
    }
}

/// Whether an error may be about a datagram sent before, in which case this one was not tried yet.
fn is_report(error: c_int) -> bool {
    matches!(
        error,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EPROTO
            | libc::EACCES
            | libc::ECONNRESET
            | libc::ETIMEDOUT
    )
}

fn segment_size(size: usize) -> SegmentSize {
    // SAFETY: all zeroes is a valid cmsghdr.
    let mut header: libc::cmsghdr = unsafe { std::mem::zeroed() };
    // SAFETY: CMSG_LEN only computes.
    header.cmsg_len = unsafe { libc::CMSG_LEN(2) } as _;
    header.cmsg_level = libc::SOL_UDP;
    header.cmsg_type = libc::UDP_SEGMENT;
    SegmentSize { header, size: low16(size), padding: [0; 6] }
}
