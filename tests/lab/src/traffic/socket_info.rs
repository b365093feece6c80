//! What the kernel knows of a socket, and no library asks for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `SK_MEMINFO_DROPS`: where the number of dropped packets is in the answer to `SO_MEMINFO`.
const DROPS: usize = 8;

/// How many packets a socket had no room for.
pub fn dropped(socket: impl AsFd) -> io::Result<u64> {
    let mut memory = [0u32; DROPS + 1];
    ask(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut memory)?;
    Ok(memory[DROPS].into())
}

/// How many segments of a TCP connection were sent again.
pub fn retransmits(socket: impl AsFd) -> io::Result<u64> {
    // SAFETY: all zeroes is a valid tcp_info, which has numbers only.
    let mut info: [libc::tcp_info; 1] = unsafe { std::mem::zeroed() };
    ask(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info)?;
    Ok(info[0].tcpi_total_retrans.into())
}

fn ask<T: Copy>(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    answer: &mut [T],
) -> io::Result<()> {
    let mut length = libc::socklen_t::try_from(size_of_val(answer)).unwrap_or_default();
    let to = answer.as_mut_ptr().cast();
    // SAFETY: the descriptor is open; the kernel writes at most `length` bytes, which `answer` has, and any bytes are good numbers.
    let outcome = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, to, &raw mut length) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
