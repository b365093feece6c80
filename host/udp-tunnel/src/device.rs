//! The TUN device's queues: made or attached to, and told what may pass. Addresses, MTU, routes and "up" are not set here.

use std::ffi::{CString, c_int, c_uint};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::error::TunnelError;
use super::vnet::{self, Vnet};

/// One queue of the device.
pub(crate) struct Queue(File);

/// The device with all its queues.
pub(crate) struct Device {
    /// Its name, where the pattern has been filled in.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// One for each thread.
    pub queues: Vec<Queue>,
    /// Whether super-packets of TCP pass.
    pub tso: bool,
    /// Whether super-packets of UDP pass (Linux 6.2).
    pub uso: bool,
}

impl Device {
    /// Attaches queues to the device of that name, which is made if there is none, until there are as many as `queues`.
    pub(crate) fn open(
        name: &str,
        queues: usize,
        inherited: Vec<Queue>,
        tso: bool,
        persist: bool,
    ) -> Result<Self, TunnelError> {
        let mut device = Self { name: name.to_owned(), index: 0, queues: inherited, tso: false, uso: false };
        for _ in device.queues.len()..queues {
            let (queue, actual) = Queue::attach(&device.name)?;
            device.name = actual;
            device.queues.push(queue);
        }
        let Some(first) = device.queues.first() else { return Ok(device) };
        let failed = |what, source| TunnelError::Device { name: device.name.clone(), what, source };
        // A device that was attached to may have been left persistent, or with offloads.
        first
            .ioctl(libc::TUNSETPERSIST, c_uint::from(persist))
            .map_err(|e| failed("to choose whether it outlives the process", e))?;
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let udp = tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6;
        device.uso = tso && first.ioctl(libc::TUNSETOFFLOAD, udp).is_ok();
        device.tso = device.uso || tso && first.ioctl(libc::TUNSETOFFLOAD, tcp).is_ok();
        if !device.tso {
            first.ioctl(libc::TUNSETOFFLOAD, 0).map_err(|e| failed("to turn its offloads off", e))?;
        }
        let c_name = CString::new(device.name.as_str())
            .map_err(|_| TunnelError::BadName { name: device.name.clone() })?;
        // SAFETY: the pointer is to a string that ends with a zero.
        device.index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if device.index == 0 {
            return Err(failed("to find its index", io::Error::last_os_error()));
        }
        // Without it the tunnel carries packets as well, as long as its threads are never late.
        let _ = lengthen_queues(&c_name, queues);
        Ok(device)
    }
}

/// What the driver gives a queue (`TUN_READQ_SIZE` in the kernel's `drivers/net/tun.c`), in packets.
const DEFAULT_LENGTH: c_int = 500;
/// What all queues have room for together: half a second of 8,000 packets/s, for threads that a busy machine does not run at once. A packet
/// may be one of 64 KiB, so that many queues do not get more than the driver gives them.
const TOGETHER: usize = 4_000;

/// Gives the queues of a device more room, unless somebody has chosen how much.
fn lengthen_queues(name: &CString, queues: usize) -> io::Result<()> {
    let wanted = c_int::try_from(TOGETHER / queues.max(1)).unwrap_or_default();
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes().iter().take(libc::IFNAMSIZ - 1)) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: SIOCGIFTXQLEN reads the name of an ifreq, which lives for the call, and writes its length.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFTXQLEN as libc::Ioctl, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an int and a `ifr_qlen` are the same member of the union, which SIOCGIFTXQLEN has filled in.
    if unsafe { request.ifr_ifru.ifru_metric } != DEFAULT_LENGTH || wanted <= DEFAULT_LENGTH {
        return Ok(());
    }
    request.ifr_ifru.ifru_metric = wanted;
    // SAFETY: SIOCSIFTXQLEN reads an ifreq, which lives for the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFTXQLEN as libc::Ioctl, &raw const request) } != 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Multi-queue even with one queue, so that a persistent device can be attached to after the number has changed.
const FLAGS: c_int = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

impl Queue {
    /// A queue that is attached already; none if it is not one of the device, or not of our sort.
    pub(crate) fn inherit(descriptor: OwnedFd, name: &str) -> Option<Self> {
        let queue = Self(descriptor.into());
        // SAFETY: all zeroes is a valid ifreq.
        let mut found: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF, which other files do not know, writes an ifreq, which lives for the call.
        if unsafe { libc::ioctl(queue.0.as_raw_fd(), libc::TUNGETIFF, &raw mut found) } != 0 {
            return None;
        }
        // SAFETY: TUNGETIFF has filled in this member of the union, and all bytes are valid values of it.
        let flags = c_int::from(unsafe { found.ifr_ifru.ifru_flags });
        (name_of(&found).as_deref() == Some(name) && flags & FLAGS == FLAGS && queue.header_length().is_ok())
            .then_some(queue)
    }

    fn attach(name: &str) -> Result<(Self, String), TunnelError> {
        let bad = || TunnelError::BadName { name: name.to_owned() };
        if name.is_empty()
            || name.len() >= libc::IFNAMSIZ
            || name.contains(|c: char| c == '/' || c == '\0' || c.is_whitespace())
        {
            return Err(bad());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(TunnelError::NoTun)?;
        // SAFETY: all zeroes is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(FLAGS).map_err(|_| bad())?;
        // SAFETY: TUNSETIFF reads and writes an ifreq, which lives for the call.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } != 0 {
            let source = io::Error::last_os_error();
            let name = name.to_owned();
            return Err(match source.raw_os_error() {
                Some(libc::EPERM) => TunnelError::NotPermitted { name },
                Some(libc::EINVAL) => TunnelError::OtherDevice { name },
                Some(libc::EBUSY | libc::E2BIG) => TunnelError::Busy { name },
                _ => TunnelError::Device { name, what: "to attach to it", source },
            });
        }
        let queue = Self(file);
        queue.header_length().map_err(|source| TunnelError::Device {
            name: name.to_owned(),
            what: "to set the length of its virtio header",
            source,
        })?;
        Ok((queue, name_of(&request).ok_or_else(bad)?))
    }

    fn ioctl(&self, request: libc::Ioctl, argument: c_uint) -> io::Result<()> {
        // SAFETY: the requests used here take their argument by value and touch no memory of ours.
        let outcome = unsafe { libc::ioctl(self.0.as_raw_fd(), request, libc::c_ulong::from(argument)) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// A persistent device may come from a program that chose another length.
    fn header_length(&self) -> io::Result<()> {
        let length = c_int::try_from(vnet::LENGTH).unwrap_or_default();
        // SAFETY: TUNSETVNETHDRSZ reads an int, which lives for the call.
        let outcome = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const length) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Reads a virtio header and a packet; none if there is no packet now.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> rustix::io::Result<Option<usize>> {
        match rustix::io::read(&self.0, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an ordinary packet, about whose checksum nothing is claimed.
    pub(crate) fn write(&self, packet: &[u8]) -> rustix::io::Result<()> {
        let header = Vnet::default().bytes();
        self.write_pieces(&[io::IoSlice::new(&header), io::IoSlice::new(packet)])
    }

    /// Writes a virtio header and a packet, in pieces.
    pub(crate) fn write_pieces(&self, pieces: &[io::IoSlice<'_>]) -> rustix::io::Result<()> {
        rustix::io::writev(&self.0, pieces).map(drop)
    }
}

fn name_of(request: &libc::ifreq) -> Option<String> {
    let bytes = request.ifr_name.iter().map(|c| c.to_ne_bytes()[0]).take_while(|&c| c != 0).collect();
    String::from_utf8(bytes).ok()
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
