//! Two nodes in network namespaces of their own, joined by a veth pair. A namespace lives as long as its thread (and
//! descriptors opened in it), so that nothing remains after a failure either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use flannel_model::offloads::Offloads;
use rustix::net::{AddressFamily, SocketType, ipproto};

use super::super::{Addresses, Tunnel, TunnelPeer, TunnelSpec};

/// Inner MTU.
pub(super) const MTU: u32 = 1400;

type Job = Box<dyn FnOnce() + Send>;

/// A namespace and the thread in it.
pub(super) struct Node {
    pub number: u8,
    jobs: Sender<Job>,
    thread: i32,
}

/// Whether namespaces and TUN devices can be made here; says so if not.
pub(super) fn is_available() -> bool {
    let missing = if !std::path::Path::new("/dev/net/tun").exists() {
        "there is no /dev/net/tun"
    } else if !rustix::process::geteuid().is_root() {
        "the tests do not run as root"
    } else {
        return true;
    };
    flannel_test_support::skip(missing);
    false
}

impl Node {
    fn new(number: u8) -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            // SAFETY: only this thread's network namespace changes; it opens all descriptors after that.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .expect("a network namespace");
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("told");
            work(&inbox);
        });
        let node = Self { number, jobs, thread: told.recv().expect("the namespace") };
        node.ip("link set lo up");
        node
    }

    /// Does something in the namespace. A panic there is a panic here.
    pub(super) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = std::panic::AssertUnwindSafe(job);
        self.jobs
            .send(Box::new(move || {
                let _ = tell.send(std::panic::catch_unwind(|| {
                    let job = job;
                    (job.0)()
                }));
            }))
            .expect("the node's thread");
        match told.recv().expect("an outcome") {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    pub(super) fn ip(&self, arguments: &str) {
        assert!(self.try_ip(arguments).is_ok(), "ip {arguments}");
    }

    /// The output of `ip`.
    pub(super) fn try_ip(&self, arguments: &str) -> Result<String, String> {
        let words = arguments.split(' ').map(str::to_owned).collect::<Vec<_>>();
        self.run(move || {
            let output = Command::new("ip").args(words).output().expect("the program ip");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() {
                Ok(text)
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into())
            }
        })
    }

    /// Its outer addresses.
    pub(super) fn outer(&self) -> (Ipv4Addr, Ipv6Addr) {
        (
            Ipv4Addr::new(192, 168, 99, self.number),
            Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, self.number.into()),
        )
    }

    /// Its inner addresses.
    pub(super) fn inner(&self) -> (Ipv4Addr, Ipv6Addr) {
        (Ipv4Addr::new(10, 5, self.number, 1), Ipv6Addr::new(0xfd05, self.number.into(), 0, 0, 0, 0, 0, 1))
    }

    pub(super) fn spec(&self, offloads: Offloads) -> TunnelSpec {
        let ((v4, v6), (inner_v4, inner_v6)) = (self.outer(), self.inner());
        TunnelSpec {
            name: "flannel0".into(),
            ipv4: Some(SocketAddrV4::new(v4, 8285)),
            ipv6: Some(SocketAddrV6::new(v6, 8285, 0, 0)),
            addresses: Addresses { v4: Some(inner_v4), v6: Some(inner_v6) },
            mtu: MTU,
            queues: Some(2),
            offloads,
            persist: false,
        }
    }

    /// As a peer of the other node: IPv4 in IPv4, IPv6 in IPv6.
    pub(super) fn peers(&self) -> Vec<TunnelPeer> {
        let n = self.number;
        let (v4, v6) = self.outer();
        let peer = |id, net: String, endpoint| TunnelPeer {
            id,
            subnets: vec![net.parse().expect("a net")],
            endpoint,
        };
        vec![
            peer(u64::from(n) * 10 + 4, format!("10.5.{n}.0/24"), IpAddr::V4(v4)),
            peer(u64::from(n) * 10 + 6, format!("fd05:{n}::/64"), IpAddr::V6(v6)),
        ]
    }

    /// Waits until a device is gone. Programs that other tests are just starting hold copies of all descriptors until they run.
    pub(super) fn until_gone(&self, device: &str) {
        eventually("the device is gone", || self.try_ip(&format!("link show {device}")).is_err());
    }

    /// Opens a tunnel of its own here, and leads the cluster network into it.
    pub(super) fn open(&self, spec: TunnelSpec) -> Tunnel {
        self.until_gone(&spec.name);
        let tunnel = self.run(move || Tunnel::open(&spec)).expect("a tunnel");
        self.lead(tunnel.name());
        tunnel
    }

    pub(super) fn lead(&self, device: &str) {
        let (v4, v6) = self.inner();
        self.ip(&format!("address add {v4}/32 dev {device}"));
        self.ip(&format!("-6 address add {v6}/128 dev {device} nodad"));
        self.ip(&format!("link set {device} mtu {MTU} up"));
        self.ip(&format!("route add 10.5.0.0/16 dev {device} src {v4}"));
        self.ip(&format!("-6 route add fd05::/16 dev {device} src {v6}"));
    }

    /// A socket that gets all ICMP messages (ICMPv6 ones without the IP header).
    pub(super) fn icmp(&self, v4: bool) -> OwnedFd {
        self.run(move || {
            let (family, protocol) = if v4 {
                (AddressFamily::INET, ipproto::ICMP)
            } else {
                (AddressFamily::INET6, ipproto::ICMPV6)
            };
            let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).expect("a raw socket");
            let wait = Some(Duration::from_secs(2));
            rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, wait)
                .expect("a timeout");
            socket
        })
    }
}

fn work(inbox: &Receiver<Job>) {
    while let Ok(job) = inbox.recv() {
        job();
    }
}

/// Receives, whatever signals come for other tests of this process: with a time limit the kernel does not go on by itself (signal(7)).
pub(super) fn undisturbed<T>(mut receive: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match receive() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The next ICMP message for which `wanted` holds, from its type on (without the IP header).
pub(super) fn next_icmp(socket: &OwnedFd, v4: bool, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let end = Instant::now() + Duration::from_secs(2);
    let mut buffer = [0; 2048];
    while Instant::now() < end {
        let receive = || Ok(rustix::net::recv(socket, &mut buffer, rustix::net::RecvFlags::empty())?);
        let (length, _) = undisturbed(receive).ok()?;
        let message = &buffer[if v4 { 20 } else { 0 }..length];
        if wanted(message) {
            return Some(message.to_vec());
        }
    }
    None
}

/// Two nodes that reach each other by IPv4 and IPv6.
pub(super) fn pair() -> (Node, Node) {
    let (a, b) = (Node::new(1), Node::new(2));
    a.ip(&format!("link add eth0 type veth peer name eth0 netns {}", b.thread));
    for node in [&a, &b] {
        let (v4, v6) = node.outer();
        node.ip(&format!("address add {v4}/24 dev eth0"));
        node.ip(&format!("-6 address add {v6}/64 dev eth0 nodad"));
        node.ip("link set eth0 up");
    }
    (a, b)
}

/// Two nodes with tunnels that know each other.
pub(super) fn tunnels(a: &Node, b: &Node, offloads: (Offloads, Offloads)) -> (Tunnel, Tunnel) {
    let (at_a, at_b) = (a.open(a.spec(offloads.0)), b.open(b.spec(offloads.1)));
    at_a.set_peers(&b.peers());
    at_b.set_peers(&a.peers());
    (at_a, at_b)
}

/// Waits until something holds.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
