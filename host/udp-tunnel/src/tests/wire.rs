//! What is on the wire, as a peer without offloads sees it, and who is let in.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering::Relaxed;

use flannel_model::offloads::Offloads;

use super::super::Reason;
use super::lab::{self, eventually, pair};
use super::model::{Made, Random};
use super::proxy::Proxy;
use super::transfer::{tcp, udp};

#[test]
fn a_peer_like_upstreams_gets_one_right_packet_in_each_datagram() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let proxy = Proxy::start(&b, SocketAddr::from((a.outer().0, 8285)));
    for offloads in [Offloads::ALL, Offloads::NONE, Offloads { gso: false, ..Offloads::ALL }] {
        let tunnel = a.open(a.spec(offloads));
        tunnel.set_peers(&b.peers());
        tcp(&a, &b, b.inner().0.into(), 5_000_001);
        tcp(&b, &a, a.inner().0.into(), 3_000_001);
        udp(&a, &b, b.inner().0.into(), lab::MTU as usize - 28);
        assert_eq!(*proxy.complaints.lock().expect("no panic"), Vec::<String>::new(), "{offloads:?}");
    }
    assert!(proxy.received.load(Relaxed) > 10_000);
}

#[test]
fn a_packet_is_sent_byte_for_byte_with_one_hop_less() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let tunnel = a.open(a.spec(Offloads::ALL));
    tunnel.set_peers(&b.peers());
    let outer = b.outer().0;
    let socket = b.run(move || UdpSocket::bind((outer, 8285)).expect("the port"));
    socket.set_read_timeout(Some(std::time::Duration::from_secs(2))).expect("a timeout");
    let (near, far) = (a.inner().0, b.inner().0);
    a.run(move || {
        let socket = UdpSocket::bind((near, 12_345)).expect("a socket");
        socket.set_ttl(64).expect("a TTL");
        socket.send_to(b"hello", (far, 5201)).expect("sent");
    });
    let mut buffer = [0; 100];
    let (length, from) = lab::undisturbed(|| socket.recv_from(&mut buffer)).expect("a datagram");
    assert_eq!(from, SocketAddr::from((a.outer().0, 8285)));
    // The identification is the kernel's to choose.
    let id = u16::from_be_bytes([buffer[4], buffer[5]]);
    let expected = Made { ttl: 63, id, ..Made::udp(b"hello".to_vec()) }.bytes();
    assert_eq!(buffer[..length], expected);
}

#[test]
fn strangers_and_foreign_sources_are_dropped_and_counted() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let tunnel = a.open(a.spec(Offloads::ALL));
    tunnel.set_peers(&b.peers());
    b.ip("address add 192.168.99.77/24 dev eth0");
    let target = SocketAddr::from((a.outer().0, 8285));
    let inner = a.inner().0;
    let receiver = a.run(move || UdpSocket::bind((inner, 5201)).expect("a socket"));
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(2))).expect("a timeout");
    // From 10.5.2.1 to 10.5.1.1: the model's addresses, swapped.
    let packet = |source: [u8; 4], word: &[u8]| {
        let mut packet = Made::udp(word.to_vec()).bytes();
        packet[12..16].copy_from_slice(&source);
        packet[16..20].copy_from_slice(&[10, 5, 1, 1]);
        packet[26..28].fill(0);
        super::super::packet::seal_v4(&mut packet[..20]);
        packet
    };
    let good = packet([10, 5, 2, 1], b"good");
    let foreign = packet([10, 5, 3, 1], b"bad");
    let stranger = IpAddr::from([192, 168, 99, 77]);
    let known = IpAddr::V4(b.outer().0);
    let mut trailing = good.clone();
    trailing.extend_from_slice(b"more than the packet");
    b.run(move || {
        let send = |from: IpAddr, packet: &[u8]| {
            // The sender's port does not matter.
            UdpSocket::bind((from, 0)).expect("a socket").send_to(packet, target).expect("sent");
        };
        send(stranger, &good);
        send(known, &foreign);
        send(known, &good[..10]);
        send(known, &good[..25]);
        send(known, &[0x55; 30]);
        send(known, &[0x41; 30]);
        send(known, &[]);
        send(known, &trailing);
    });
    let mut buffer = [0; 100];
    let length = lab::undisturbed(|| receiver.recv(&mut buffer)).expect("the good one");
    assert_eq!(&buffer[..length], b"good");
    eventually("all drops are counted", || {
        let counters = tunnel.counters();
        let expected = [
            (Reason::UnknownSender, 1),
            (Reason::ForeignSource, 1),
            (Reason::Short, 2),
            (Reason::Truncated, 1),
            (Reason::Version, 1),
            (Reason::Header, 1),
        ];
        expected.iter().all(|&(reason, count)| counters.dropped(reason) == count)
    });
    assert_eq!(tunnel.counters().total.rx_packets, 1);
}

#[test]
fn random_datagrams_do_no_harm() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, _far) = lab::tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    let target = SocketAddr::from((a.outer().0, 8285));
    let outer = b.outer().0;
    let sent = b.run(move || {
        let socket = UdpSocket::bind((outer, 0)).expect("a socket");
        let mut random = Random(13);
        let mut seed = Made::tcp(1, vec![1; 700]).bytes();
        // From this peer to the tunnel's host: the checksums are the same with the addresses swapped.
        seed[12..20].copy_from_slice(&[10, 5, 2, 1, 10, 5, 1, 1]);
        (0..20_000)
            .filter(|round| {
                let mut data = if round % 2 == 0 { seed.clone() } else { random.bytes(1 + round % 1400) };
                data[0] = [data[0], 0x45, 0x60, 0x4f][random.below(4)];
                let at = random.below(data.len().min(60));
                data[at] ^= random.bytes(1)[0];
                socket.send_to(&data, target).is_ok()
            })
            .count()
    });
    tcp(&a, &b, b.inner().0.into(), 1_000_001);
    let dropped = tunnel.counters().drops.iter().map(|(_, n)| n).sum::<u64>();
    let passed = tunnel.counters().total.rx_packets;
    println!("{sent} sent, {dropped} dropped by the tunnel, {passed} given to the kernel");
    assert!(dropped > 1000 && passed > 1000);
}
