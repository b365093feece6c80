//! Errors told to the senders of packets, and errors that the network tells.

use std::net::{IpAddr, UdpSocket};

use flannel_model::offloads::Offloads;

use super::super::Reason;
use super::lab::{self, Node, eventually, next_icmp, pair, tunnels};
use super::transfer::tcp;

/// Sends a datagram of so many bytes from the inner address.
fn send(node: &Node, to: IpAddr, ttl: u32, length: usize, dont_fragment: bool) {
    let from: IpAddr = if to.is_ipv4() { node.inner().0.into() } else { node.inner().1.into() };
    node.run(move || {
        use std::os::fd::AsRawFd;
        let socket = UdpSocket::bind((from, 0)).expect("a socket");
        let (level, ttl_option) = if to.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_TTL)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)
        };
        let set = |option: libc::c_int, value: u32| {
            // SAFETY: the option reads an int that lives for the call.
            let outcome =
                unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), 4) };
            assert_eq!(outcome, 0);
        };
        set(ttl_option, ttl);
        if to.is_ipv4() {
            // PROBE sets "don't fragment" and looks at no path MTU.
            let policy = if dont_fragment { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_DONT };
            set(libc::IP_MTU_DISCOVER, policy.unsigned_abs());
        }
        socket.send_to(&vec![7; length], (to, 9)).expect("sent");
    });
}

#[test]
fn a_packet_without_hops_is_answered_by_either_end() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel_a, tunnel_b) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    for far in [IpAddr::V4(b.inner().0), IpAddr::V6(b.inner().1)] {
        let v4 = far.is_ipv4();
        let icmp = a.icmp(v4);
        for (ttl, quoted_ttl) in [(1, 1), (2, 1)] {
            send(&a, far, ttl, 10, true);
            let kind = if v4 { 11 } else { 3 };
            let message = next_icmp(&icmp, v4, |m| m[0] == kind).expect("time exceeded");
            assert_eq!(message[8 + if v4 { 8 } else { 7 }], quoted_ttl);
            assert_eq!(message[1], 0, "in transit");
        }
        send(&a, far, 3, 10, true);
        let kind = if v4 { 3 } else { 1 };
        let message =
            next_icmp(&icmp, v4, |m| m[0] == kind).expect("port unreachable, from the far host itself");
        assert_eq!(message[1], if v4 { 3 } else { 4 });
    }
    for tunnel in [&tunnel_a, &tunnel_b] {
        eventually("both are counted", || {
            let counters = tunnel.counters();
            (counters.dropped(Reason::HopsExhausted), counters.answers) == (2, 2)
        });
    }
}

#[test]
fn a_packet_for_nobody_is_answered() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, _far) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    for to in [IpAddr::from([10, 5, 200, 1]), "fd05:200::1".parse().expect("an address")] {
        let v4 = to.is_ipv4();
        let icmp = a.icmp(v4);
        send(&a, to, 64, 10, true);
        let kind = if v4 { 3 } else { 1 };
        assert_eq!(next_icmp(&icmp, v4, |m| m[0] == kind).expect("unreachable")[1], 0);
    }
    eventually("both are counted", || tunnel.counters().dropped(Reason::NoRoute) == 2);
}

#[test]
fn a_narrow_way_is_learnt_and_told_and_fragmented_for() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, far_tunnel) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    a.ip("link set eth0 mtu 1400");
    let icmp = a.icmp(true);
    let far = IpAddr::V4(b.inner().0);
    // The inner packet has 1,390 bytes: the tunnel takes it, the link does not.
    for round in 0..2 {
        send(&a, far, 64, 1362, true);
        let message = next_icmp(&icmp, true, |m| m[..2] == [3, 4]).expect("fragmentation needed");
        assert_eq!(message[6..8], 1372u16.to_be_bytes(), "round {round}");
    }
    let peers = tunnel.counters().peers;
    assert!(peers.iter().any(|p| p.id == 24 && p.path_mtu == Some(1400)), "{peers:?}");

    let inner = b.inner().0;
    let receiver = b.run(move || UdpSocket::bind((inner, 9)).expect("a socket"));
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(2))).expect("a timeout");
    let before = far_tunnel.counters().total.rx_packets;
    send(&a, far, 64, 1361, false);
    assert_eq!(lab::undisturbed(|| receiver.recv(&mut [0; 2000])).expect("put together again"), 1361);
    assert_eq!(far_tunnel.counters().total.rx_packets, before + 2);
    // TCP adapts, and a big sender with it.
    tcp(&a, &b, far, 3_000_001);

    // IPv6: the outer header is larger, the inner packet may never be fragmented.
    let icmp = a.icmp(false);
    send(&a, b.inner().1.into(), 64, 1340, true);
    let message = next_icmp(&icmp, false, |m| m[0] == 2).expect("packet too big");
    assert_eq!(message[4..8], 1352u32.to_be_bytes());
    tcp(&a, &b, b.inner().1.into(), 1_000_001);
}

#[test]
fn what_exceeds_the_tunnels_own_mtu_is_told() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, _far) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    tunnel.set_mtu(1300);
    let icmp = a.icmp(true);
    send(&a, b.inner().0.into(), 64, 1300, true);
    let message = next_icmp(&icmp, true, |m| m[..2] == [3, 4]).expect("fragmentation needed");
    assert_eq!(message[6..8], 1300u16.to_be_bytes());
    eventually("it is counted", || tunnel.counters().dropped(Reason::TooBig) == 1);
    tcp(&a, &b, b.inner().0.into(), 3_000_001);
}

#[test]
fn an_absent_peer_is_counted_and_harms_nobody() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let tunnel = a.open(a.spec(Offloads::ALL));
    tunnel.set_peers(&b.peers());
    eventually("errors are counted for the peer", || {
        send(&a, b.inner().0.into(), 64, 10, true);
        tunnel.counters().peers.iter().any(|p| p.id == 24 && p.errors > 2)
    });
    let far = b.open(b.spec(Offloads::ALL));
    far.set_peers(&a.peers());
    tcp(&a, &b, b.inner().0.into(), 3_000_001);
}
