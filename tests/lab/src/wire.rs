//! What passes in a network namespace, packet by packet: for tests of what others could read.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Namespace;

/// `ETH_P_ALL`: of every kind.
const ALL: u16 = 0x0003;
/// Numbers of protocols (IANA).
pub const UDP: u8 = 17;
/// ESP's.
pub const ESP: u8 = 50;

/// A packet as it was on the wire, from its IP header on.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// What came behind the IP header, by its number.
    pub protocol: u8,
    /// The whole of it.
    pub bytes: Vec<u8>,
}

impl Packet {
    fn read(frame: &[u8]) -> Option<Self> {
        let (header, bytes) = (frame.get(..14)?, frame.get(14..)?);
        let address = |at: usize, length: usize| -> Option<IpAddr> {
            let octets = bytes.get(at..at + length)?;
            match length {
                4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
                _ => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
            }
        };
        let (source, destination, protocol) = match header[12..] {
            [0x08, 0x00] => (address(12, 4)?, address(16, 4)?, *bytes.get(9)?),
            [0x86, 0xdd] => (address(8, 16)?, address(24, 16)?, *bytes.get(6)?),
            _ => return None,
        };
        Some(Self { source, destination, protocol, bytes: bytes.to_vec() })
    }

    /// The SPI and the sequence number of ESP.
    pub fn esp(&self) -> Option<(u32, u32)> {
        let header = if self.source.is_ipv4() { 20 } else { 40 };
        let udp = if self.protocol == UDP { 8 } else { 0 };
        let word = |at: usize| {
            let octets = self.bytes.get(header + udp + at..header + udp + at + 4)?;
            octets.try_into().ok().map(u32::from_be_bytes)
        };
        Some((word(0)?, word(4)?))
    }
}

/// Listens in a namespace until it is dropped.
pub struct Frames {
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Frames {
    /// Listens to all that passes on any interface of the namespace. On a switch each frame comes more than once.
    pub fn listen(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.run(|| -> std::io::Result<Socket> {
            let protocol = i32::from(ALL.to_be());
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(protocol)))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            socket.set_recv_buffer_size(8 << 20)?;
            Ok(socket)
        });
        let socket = socket?.context("cannot listen")?;
        let (heard, stop) = (Arc::<Mutex<Vec<Vec<u8>>>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while !until.load(Ordering::Relaxed) {
                match std::io::Read::read(&mut &socket, &mut buffer) {
                    Ok(length) => {
                        let frame = buffer[..length].to_vec();
                        into.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
        Ok(Self { heard, stop, thread: Some(thread) })
    }

    /// What has passed since the last question, from the Ethernet header on.
    pub fn take(&self) -> Vec<Vec<u8>> {
        // What is on its way into the list comes with it.
        std::thread::sleep(Duration::from_millis(100));
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Listens in a namespace to packets, until it is dropped.
pub struct Wire(Frames);

impl Wire {
    /// Listens to all of IPv4 and IPv6 that passes on any interface of the namespace. On a switch each packet comes more than once.
    pub fn listen(namespace: &Namespace) -> Result<Self> {
        Frames::listen(namespace).map(Self)
    }

    /// What has passed since the last question.
    pub fn take(&self) -> Vec<Packet> {
        self.0.take().iter().filter_map(|frame| Packet::read(frame)).collect()
    }
}
