//! A peer as upstream's proxy is: no offload anywhere, one packet a datagram, and merciless about what it gets.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::lab::Node;
use super::model::check;

/// The proxy at work.
pub(super) struct Proxy {
    stop: Arc<AtomicBool>,
    /// Datagrams received.
    pub received: Arc<AtomicU64>,
    /// What was wrong with some.
    pub complaints: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts it on a node; datagrams go to `peer`.
    pub(super) fn start(node: &Node, peer: SocketAddr) -> Self {
        let outer = node.outer().0;
        let (tun, socket) =
            node.run(move || (plain_tun(), UdpSocket::bind((outer, 8285)).expect("the port")));
        node.lead("plain0");
        let (stop, received, complaints) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (s, r, c) = (Arc::clone(&stop), Arc::clone(&received), Arc::clone(&complaints));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            socket.set_nonblocking(true).expect("set");
            // While it empties the TUN device, more acknowledgements come than the usual buffer holds: TCP does without
            // some, but the datagram behind them would be lost as well.
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20).expect("set");
            while !s.load(Relaxed) {
                let mut waits = [PollFd::new(&tun, PollFlags::IN), PollFd::new(&socket, PollFlags::IN)];
                let polled = poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
                assert!(matches!(polled, Ok(_) | Err(rustix::io::Errno::INTR)), "{polled:?}");
                while let Ok(length) = (&tun).read(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], peer);
                }
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    r.fetch_add(1, Relaxed);
                    let packet = &buffer[..length];
                    if let Err(complaint) = check(packet) {
                        c.lock().expect("no panic").push(complaint);
                    }
                    if from != peer {
                        c.lock().expect("no panic").push(format!("it comes from {from}"));
                    }
                    let _ = (&tun).write(packet);
                }
            }
        });
        Self { stop, received, complaints, thread: Some(thread) }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn plain_tun() -> File {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .expect("/dev/net/tun");
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"plain0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_TUN | libc::IFF_NO_PI).expect("fits");
    // SAFETY: TUNSETIFF reads and writes an ifreq.
    assert_eq!(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) }, 0);
    file
}
