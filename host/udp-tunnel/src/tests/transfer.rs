//! Data through two tunnels, with every combination of offloads.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use flannel_model::offloads::Offloads;

use super::lab::{self, Node, pair, tunnels, undisturbed};
use super::model::Random;
use super::peers::cluster;

/// Sends bytes from one node to an address of the other, and compares what arrives.
pub(super) fn tcp(from: &Node, to: &Node, address: IpAddr, length: usize) {
    let listener = to.run(move || TcpListener::bind((address, 0)).expect("a listener"));
    let target = listener.local_addr().expect("its address");
    let sender = from.run(move || connect(target));
    let sent = Random(11).bytes(length);
    let expected = sent.clone();
    let (mut receiver, _) = listener.accept().expect("a connection");
    receiver.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let writer = std::thread::spawn(move || {
        let mut sender = sender;
        sender.write_all(&sent).expect("sent");
    });
    let mut received = Vec::new();
    receiver.read_to_end(&mut received).expect("received");
    writer.join().expect("the sender");
    assert!(received == expected, "{} of {length} bytes, or other ones, to {address}", received.len());
}

fn connect(target: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&target, Duration::from_secs(5)).expect("a connection")
}

/// Sends datagrams of all sorts of sizes there and back.
pub(super) fn udp(from: &Node, to: &Node, address: IpAddr, largest: usize) {
    let socket = |node: &Node, address: IpAddr| {
        node.run(move || {
            let socket = UdpSocket::bind((address, 0)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket
        })
    };
    let near = socket(from, if address.is_ipv4() { from.inner().0.into() } else { from.inner().1.into() });
    let far = socket(to, address);
    let target = far.local_addr().expect("its address");
    let mut buffer = vec![0; 2048];
    let mut random = Random(12);
    let sizes = [0, 1, 2, 3, 7, 63, 64, 65, 511, 1001, largest - 1, largest];
    for &size in &sizes {
        let data = random.bytes(size);
        near.send_to(&data, target).expect("sent");
        let (length, back) =
            undisturbed(|| far.recv_from(&mut buffer)).unwrap_or_else(|e| panic!("{size} bytes: {e}"));
        assert_eq!(buffer[..length], data);
        far.send_to(&data, back).expect("sent back");
        let length =
            undisturbed(|| near.recv(&mut buffer)).unwrap_or_else(|e| panic!("{size} bytes back: {e}"));
        assert_eq!(buffer[..length], data);
    }
    // A burst: equal sizes may be merged on the way and must come out one by one.
    let burst = (0..50).map(|n| random.bytes(if n % 10 == 9 { 301 } else { 501 })).collect::<Vec<_>>();
    for data in &burst {
        assert_eq!(near.send_to(data, target).expect("sent"), data.len());
    }
    for data in &burst {
        let length = undisturbed(|| far.recv(&mut buffer)).expect("one of the burst");
        assert_eq!(&buffer[..length], data);
    }
}

fn combinations() -> impl Iterator<Item = Offloads> {
    (0..8).map(|bits| Offloads { tso: bits & 1 != 0, gso: bits & 2 != 0, gro: bits & 4 != 0 })
}

fn through_all(near: impl Iterator<Item = Offloads>) {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    for at_a in near {
        for at_b in combinations() {
            let (tunnel_a, tunnel_b) = tunnels(&a, &b, (at_a, at_b));
            assert_eq!((tunnel_a.offloads(), tunnel_b.offloads()), (at_a, at_b), "this kernel has them all");
            tcp(&a, &b, b.inner().0.into(), 3_000_001);
            tcp(&b, &a, a.inner().1.into(), 1_000_001);
            udp(&a, &b, b.inner().0.into(), lab::MTU as usize - 28);
            udp(&a, &b, b.inner().1.into(), lab::MTU as usize - 48);
            let counters = tunnel_b.counters();
            assert!(counters.peers.iter().all(|peer| peer.traffic.rx_packets > 0));
            assert!(counters.total.rx_bytes > 3_000_000 && counters.total.tx_bytes > 1_000_000);
        }
    }
}

#[test]
fn data_arrive_unchanged_without_tso_here() {
    through_all(combinations().filter(|o| !o.tso));
}

#[test]
fn data_arrive_unchanged_with_tso_here() {
    through_all(combinations().filter(|o| o.tso));
}

#[test]
fn ten_thousand_peers_do_not_disturb() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel_a, tunnel_b) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    for (tunnel, other) in [(&tunnel_a, &b), (&tunnel_b, &a)] {
        let mut peers = cluster(10_000);
        peers.extend(other.peers());
        tunnel.set_peers(&peers);
    }
    tcp(&a, &b, b.inner().0.into(), 20_000_000);
    assert_eq!(tunnel_a.counters().peers.len(), 10_002);
}

#[test]
fn peers_may_change_while_data_flow() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel_a, tunnel_b) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let mut peers = cluster(3000);
    let own = b.peers();
    let changer = std::thread::spawn(move || {
        let mut round = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            peers.rotate_left(17);
            let all = own.iter().chain(&peers[..1000]).cloned().collect::<Vec<_>>();
            tunnel_a.set_peers(&all);
            tunnel_a.counters();
            round += 1;
        }
        (round, tunnel_a)
    });
    tcp(&a, &b, b.inner().0.into(), 20_000_000);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let (rounds, tunnel_a) = changer.join().expect("the changer");
    assert!(rounds > 1);
    drop((tunnel_a, tunnel_b));
}
