//! A socket for nf_tables. The tables that it makes are its own, and go with it.

use std::io;
use std::os::fd::AsRawFd;

use flannel_base::Family;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::message::{self, Messages};

const NLMSG_ERROR: u16 = 2;
const BUFFER: usize = 64 * 1024;
/// A transaction has to fit into the send buffer as a whole.
const SEND_BUFFER: libc::c_int = 1 << 20;
/// How long the kernel may take to answer: it answers before `send` comes back.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 10, tv_usec: 0 };

/// Not shared between threads.
pub(super) struct TableSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl TableSocket {
    /// Opens it in the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        set_option(&socket, libc::SO_SNDBUFFORCE, &SEND_BUFFER)?;
        set_option(&socket, libc::SO_RCVTIMEO, &PATIENCE)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Does something to a table, as a whole or not at all.
    pub(super) fn transact(
        &mut self,
        family: Family,
        table: &str,
        what: impl FnOnce(&mut Messages<'_>),
    ) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut messages = Messages::begin(first, family, table);
        what(&mut messages);
        let (bytes, acknowledged) = messages.end();
        // With the number of the message that ends it.
        self.sequence = acknowledged.wrapping_add(1);
        self.socket.send(&bytes, 0)?;
        self.answer(first, acknowledged).map(drop)
    }

    /// Makes a table that lets everything through.
    pub(super) fn make_table(&mut self, family: Family, table: &str) -> io::Result<()> {
        self.transact(family, table, |messages| {
            messages.table();
        })
    }

    /// Packets that a table's counter has counted.
    pub(super) fn count(&mut self, family: Family, table: &str) -> io::Result<u64> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.socket.send(&Messages::count(sequence, family, table), 0)?;
        let body = self.answer(sequence, sequence)?;
        message::counted(&body).ok_or_else(|| io::Error::other("a counter that cannot be read"))
    }

    /// Waits for what answers messages from `first` to `last`: the first refusal, an acknowledgement of the last, or what was asked for.
    fn answer(&mut self, first: u32, last: u32) -> io::Result<Vec<u8>> {
        let count = last.wrapping_sub(first);
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let mut rest = &self.buffer[..];
            while let Some((header, _)) = rest.split_first_chunk::<16>() {
                let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
                let body = rest.get(16..length).unwrap_or_default();
                rest = rest.get(length.max(16).next_multiple_of(4)..).unwrap_or_default();
                // Others answer what has been given up.
                if sequence.wrapping_sub(first) > count {
                    continue;
                }
                if kind != NLMSG_ERROR {
                    return Ok(body.to_vec());
                }
                let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(code.wrapping_neg()));
                }
                if sequence == last {
                    return Ok(Vec::new());
                }
            }
        }
    }
}

fn set_option<T>(socket: &Socket, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the pointer is to a value of that length, which the kernel only reads.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
