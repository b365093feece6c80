//! Receives batches of datagrams, each buffer holding one or, with `UDP_GRO`, many of equal size.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::bytes::low32;
use super::endpoint::address_of;

/// Bytes of a buffer: the largest that UDP can carry, single or coalesced.
pub(crate) const BUFFER: usize = 65_536;

/// A control buffer: larger than `CMSG_SPACE(int)` and aligned for a header.
type Control = [u64; 8];

/// What one buffer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Who sent it.
    pub sender: IpAddr,
    /// Bytes in the buffer.
    pub length: usize,
    /// Bytes of each datagram but the last; at least 1.
    pub size: usize,
    /// The rest did not fit.
    pub truncated: bool,
}

/// The kernel's structures and the buffers, allocated once.
pub(crate) struct Receiver {
    /// The buffers, one after another.
    pub memory: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    pieces: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
}

impl Receiver {
    /// One with so many buffers.
    pub(crate) fn new(buffers: usize) -> Self {
        // SAFETY: all zeroes is a valid value of these structures of the kernel.
        let (name, header): (libc::sockaddr_storage, libc::mmsghdr) = unsafe { std::mem::zeroed() };
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self {
            // Zeroed memory comes from the kernel page by page when it is first used: what is not, costs nothing.
            memory: vec![0; buffers * BUFFER].into(),
            names: vec![name; buffers].into(),
            controls: vec![[0; 8]; buffers].into(),
            pieces: vec![piece; buffers].into(),
            headers: vec![header; buffers].into(),
        }
    }

    /// Receives what there is, without waiting; the number of buffers filled.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, std::io::Error> {
        // Set anew each time: the kernel writes lengths, and pointers into our boxes must be fresh after other uses.
        let buffers = self.memory.chunks_exact_mut(BUFFER);
        for (piece, buffer) in self.pieces.iter_mut().zip(buffers) {
            *piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: BUFFER };
        }
        let parts = self.pieces.iter_mut().zip(self.names.iter_mut()).zip(self.controls.iter_mut());
        for (header, ((piece, name), control)) in self.headers.iter_mut().zip(parts) {
            let h = &mut header.msg_hdr;
            h.msg_name = std::ptr::from_mut(name).cast();
            h.msg_namelen = low32(size_of::<libc::sockaddr_storage>());
            h.msg_iov = piece;
            h.msg_iovlen = 1;
            h.msg_control = control.as_mut_ptr().cast();
            h.msg_controllen = size_of::<Control>() as _;
        }
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(1);
        let headers = self.headers.as_mut_ptr();
        // SAFETY: all pointers are to boxes of ours, of the lengths given, which stay where they are during the call.
        let received = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        usize::try_from(received).map_err(|_| std::io::Error::last_os_error())
    }

    /// What buffer `index` holds, after [`Self::receive`] has filled it. None if its sender is of no known family.
    pub(crate) fn received(&self, index: usize) -> Option<Received> {
        let header = &self.headers[index];
        let length = header.msg_len as usize;
        Some(Received {
            sender: address_of(&self.names[index])?,
            length,
            size: coalesced(&header.msg_hdr).filter(|&size| size > 0).unwrap_or(length.max(1)),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        })
    }
}

/// The size of the datagrams that the kernel has coalesced, if it has.
fn coalesced(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: recvmmsg has filled in `header`, whose control buffer is live and aligned for a cmsghdr.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !at.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR yield pointers to whole headers inside the buffer, or null.
        let (level, kind) = unsafe { ((*at).cmsg_level, (*at).cmsg_type) };
        if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
            // SAFETY: the data of this message is an int (udp(7)).
            let size = unsafe { libc::CMSG_DATA(at).cast::<libc::c_int>().read_unaligned() };
            return usize::try_from(size).ok();
        }
        // SAFETY: as above.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    None
}
