//! Who may send into tunnels. Everything is on one host: its addresses are the nodes and the strangers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use flannel_base::Family;
use rustix::net::{AddressFamily, SendFlags, SocketType};

use super::lab::{run, run_with, unshare};
use crate::{Owner, Tunnel, TunnelSources};

const PORT: u16 = 8472;
/// So long is waited for what must not come.
const SILENCE: Duration = Duration::from_millis(100);

/// The host, a node, and a stranger.
const IPV4: [&str; 3] = ["192.168.77.1", "192.168.77.2", "192.168.77.3"];
const IPV6: [&str; 3] = ["fd77::1", "fd77::2", "fd77::3"];

/// Runs a test in a namespace of its own, with all addresses.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        unshare();
        for address in IPV4 {
            run("ip", &format!("address add {address}/32 dev lo"));
        }
        for address in IPV6 {
            run("ip", &format!("address add {address}/128 dev lo nodad"));
        }
        test();
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("address")
}

fn vxlan(family: Family, vni: u32) -> Tunnel {
    Tunnel::Vxlan { family, port: PORT, vni }
}

/// The filter, with both families' nodes and VNI 1, in place.
fn filter(tunnels: impl IntoIterator<Item = Tunnel>) -> TunnelSources {
    let sources = TunnelSources::start(&Owner::default()).expect("a thread");
    sources.set_tunnels(tunnels.into_iter().collect());
    sources.set_peers([(1, vec![address(IPV4[1])]), (2, vec![address(IPV6[1])])]);
    wait("the filter is in place", || sources.status().in_place);
    sources
}

fn wait(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never happened: {what}");
}

/// A VXLAN header (RFC 7348) with something behind it.
fn frame(vni: u32) -> Vec<u8> {
    let mut frame = vec![8, 0, 0, 0];
    frame.extend((vni << 8).to_be_bytes());
    frame.extend(b"an Ethernet frame");
    frame
}

fn receiver(host: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address(host), port)).expect("a socket");
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
    socket
}

/// Whether what one address sends arrives.
fn arrives(receiver: &UdpSocket, from: &str, payload: &[u8]) -> bool {
    let sender = UdpSocket::bind((address(from), 0)).expect("a socket");
    sender.send_to(payload, receiver.local_addr().expect("an address")).expect("to send");
    let mut buffer = [0; 2048];
    receiver.recv_from(&mut buffer).is_ok_and(|(length, _)| buffer[..length] == *payload)
}

#[test]
fn only_nodes_reach_a_vxlan_device() {
    in_namespace(|| {
        for (family, [host, node, stranger]) in [(Family::Ipv4, IPV4), (Family::Ipv6, IPV6)] {
            let receiver = receiver(host, PORT);
            assert!(arrives(&receiver, stranger, &frame(1)), "{family}: without a filter");
            let sources = filter([vxlan(family, 1)]);
            assert!(arrives(&receiver, node, &frame(1)), "{family}: from a node");
            assert!(!arrives(&receiver, stranger, &frame(1)), "{family}: from a stranger");
            assert!(!arrives(&receiver, stranger, &frame(1)[..4]), "{family}: too short to say");
            wait("two are counted", || sources.status().dropped == 2);
            // Of nobody's concern: another network on this port, another port.
            assert!(arrives(&receiver, stranger, &frame(2)), "{family}: for another network");
            let elsewhere = UdpSocket::bind((address(host), PORT + 1)).expect("a socket");
            elsewhere.set_read_timeout(Some(SILENCE)).expect("a timeout");
            assert!(arrives(&elsewhere, stranger, &frame(1)), "{family}: to another port");
            drop(sources);
            wait("the filter goes", || arrives(&receiver, stranger, &frame(1)));
        }
    });
}

#[test]
fn nodes_come_and_go_without_a_gap() {
    in_namespace(|| {
        let [host, node, stranger] = IPV4;
        let receiver = receiver(host, PORT);
        let sources = filter([vxlan(Family::Ipv4, 1)]);
        sources.change_peers([(3, vec![address(stranger)])]);
        wait("who has a lease is no stranger", || arrives(&receiver, stranger, &frame(1)));
        // One lease of two with the address goes, and the node's lease is another one.
        sources.change_peers([(4, vec![address(stranger)]), (3, Vec::new())]);
        sources.change_peers([(5, vec![address(node)]), (1, Vec::new())]);
        for _ in 0..20 {
            assert!(arrives(&receiver, stranger, &frame(1)) && arrives(&receiver, node, &frame(1)));
        }
        sources.change_peers([(4, Vec::new())]);
        wait("who has none any more is one", || !arrives(&receiver, stranger, &frame(1)));
        sources.set_peers([(7, vec![address(stranger)])]);
        wait("all others", || {
            !arrives(&receiver, node, &frame(1)) && arrives(&receiver, stranger, &frame(1))
        });
    });
}

#[test]
fn tunnels_come_and_go() {
    in_namespace(|| {
        let [host, node, stranger] = IPV4;
        let receiver = receiver(host, PORT);
        let sources = filter([vxlan(Family::Ipv4, 1)]);
        sources.set_tunnels([vxlan(Family::Ipv4, 2), vxlan(Family::Ipv4, 3)].into());
        wait("another network", || !arrives(&receiver, stranger, &frame(2)));
        assert!(!arrives(&receiver, stranger, &frame(3)), "two of them");
        assert!(arrives(&receiver, stranger, &frame(1)), "ours no longer");
        assert!(arrives(&receiver, node, &frame(3)));
        sources.set_tunnels(BTreeSet::new());
        wait("no tunnel", || arrives(&receiver, stranger, &frame(3)));
    });
}

#[test]
fn ten_thousand_nodes_of_each_family_are_let_in() {
    in_namespace(|| {
        let sources = filter([vxlan(Family::Ipv4, 1), vxlan(Family::Ipv6, 1)]);
        let both = |number: u32| {
            let ipv6 = Ipv6Addr::from(0xfd99_u128 << 112 | u128::from(number));
            vec![IpAddr::from((0x0a63_0000 + number).to_be_bytes()), ipv6.into()]
        };
        sources.change_peers((0..10_000).map(|number| (100 + u64::from(number), both(number))));
        wait("all are there", || sources.status().addresses == 20_002);
        let listed = run("nft", "list set ip flannel-tunnels nodes");
        assert_eq!(listed.matches("10.99.").count(), 10_000);
        // A filter that is made for many from the beginning.
        let others = TunnelSources::start(&Owner::of("other")).expect("a thread");
        others.set_peers((0..10_000).map(|number| (100 + u64::from(number), both(number))));
        others.set_tunnels([vxlan(Family::Ipv6, 9)].into());
        wait("the other is there", || others.status().in_place);
        let listed = run("nft", "list set ip6 flannel-tunnels-other nodes");
        assert_eq!(listed.matches("fd99").count(), 10_000);
    });
}

#[test]
fn nobody_else_flushes_it() {
    in_namespace(|| {
        let [host, _, stranger] = IPV4;
        let receiver = receiver(host, PORT);
        let _sources = filter([vxlan(Family::Ipv4, 1)]);
        run("nft", "flush ruleset");
        assert!(run_with("nft", "delete table ip flannel-tunnels", "").is_err());
        assert!(!arrives(&receiver, stranger, &frame(1)));
    });
}

/// Sends a packet whose header we have made ourselves.
fn send_raw(packet: &[u8], to: &str) {
    let raw = rustix::net::ipproto::RAW;
    let family = if to.contains(':') { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket(family, SocketType::RAW, Some(raw)).expect("a raw socket");
    let to = SocketAddr::new(address(to), 0);
    rustix::net::sendto(&socket, packet, SendFlags::empty(), &to).expect("to send");
}

/// A UDP datagram in two IPv6 fragments, the first of which ends behind the UDP header.
fn fragments(from: &str, to: &str, payload: &[u8]) -> [Vec<u8>; 2] {
    let [from, to] = [from, to].map(|text| text.parse::<Ipv6Addr>().expect("address").octets());
    let length = u16::try_from(8 + payload.len()).expect("a small one");
    let mut udp = [4242_u16, PORT, length, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    let mut sum: u32 = u32::from(length) + 17;
    for bytes in [&from[..], &to[..], &udp[..]] {
        sum += bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum::<u32>();
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(sum).expect("folded");
    udp[6..8].copy_from_slice(&checksum.to_be_bytes());
    let fragment = |offset: u16, more: u16, data: &[u8]| {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(8 + data.len()).expect("a small one").to_be_bytes());
        packet.extend([44, 64]);
        packet.extend(from);
        packet.extend(to);
        packet.extend([17, 0]);
        packet.extend((offset | more).to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        packet.extend(data);
        packet
    };
    [fragment(0, 1, &udp[..8]), fragment(8, 0, &udp[8..])]
}

#[test]
fn a_strangers_datagram_in_fragments_is_one_datagram() {
    in_namespace(|| {
        let [host, node, stranger] = IPV6;
        let receiver = receiver(host, PORT);
        let _sources = filter([vxlan(Family::Ipv6, 1)]);
        let arrives = |from| {
            for fragment in fragments(from, host, &frame(1)) {
                send_raw(&fragment, host);
            }
            let mut buffer = [0; 2048];
            receiver.recv_from(&mut buffer).is_ok_and(|(length, _)| buffer[..length] == frame(1))
        };
        assert!(arrives(node), "a node's");
        assert!(!arrives(stranger), "a stranger's");
    });
}

/// An IPv4 header (RFC 791) before something; the kernel fills in what is zero.
fn ipv4_packet(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(20 + payload.len()).expect("a small one").to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    for text in [from, to] {
        packet.extend(text.parse::<std::net::Ipv4Addr>().expect("address").octets());
    }
    packet.extend(payload);
    packet
}

#[test]
fn only_nodes_reach_pods_by_ipip_and_other_tunnels_are_left_alone() {
    in_namespace(|| {
        let [host, node, stranger] = IPV4;
        let ipip = rustix::net::ipproto::IPIP;
        let receiver =
            rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipip)).expect("a raw socket");
        let receiver: UdpSocket = receiver.into();
        receiver.set_read_timeout(Some(SILENCE)).expect("a timeout");
        let _sources = filter([Tunnel::Ipip { inner: "10.5.0.0/16".parse().expect("network") }]);
        let arrives = |from, inner| {
            let packet = ipv4_packet(from, host, 4, &ipv4_packet("10.5.9.9", inner, 17, b"payload!"));
            send_raw(&packet, host);
            receiver.recv_from(&mut [0; 2048]).is_ok()
        };
        assert!(arrives(node, "10.5.1.2"), "a node's");
        assert!(!arrives(stranger, "10.5.1.2"), "a stranger's");
        assert!(arrives(stranger, "10.9.1.2"), "a stranger's for another network");
    });
}

/// Receives packets of a protocol.
fn raw_receiver(number: u8) -> UdpSocket {
    let protocol = std::num::NonZeroU32::new(number.into()).map(rustix::net::Protocol::from_raw);
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, protocol).expect("a raw socket");
    let socket: UdpSocket = socket.into();
    socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
    socket
}

#[test]
fn only_nodes_reach_pods_by_gre_and_other_tunnels_are_left_alone() {
    in_namespace(|| {
        let [host, node, stranger] = IPV4;
        let receiver = raw_receiver(47);
        let network = |text: &str| Some(text.parse().expect("network"));
        let of = |inner| Tunnel::Gre { family: Family::Ipv4, inner };
        let (v4, v6) = (of(network("10.5.0.0/16")), of(network("fc00:5::/48")));
        let sources = filter([v4, v6]);
        let arrives = |from, gre: &[u8]| {
            send_raw(&ipv4_packet(from, host, 47, gre), host);
            receiver.recv_from(&mut [0; 2048]).is_ok()
        };
        let inner_v4 = |to| ipv4_packet("10.5.9.9", to, 17, b"payload!");
        let inner_v6 = |to: &str| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, 59, 64];
            packet.extend([0; 16]);
            packet.extend(to.parse::<Ipv6Addr>().expect("address").octets());
            packet
        };
        // No flags, a key, a sequence number, both, and with a checksum.
        for (flags, more) in [(0, 0), (0x20, 4), (0x10, 4), (0x30, 8), (0xb0, 12)] {
            let gre = |ethertype: [u8; 2], inner: Vec<u8>| {
                [vec![flags, 0], ethertype.to_vec(), vec![7; more], inner].concat()
            };
            let (v4, v6) = ([8, 0], [0x86, 0xdd]);
            for (packet, other) in [
                (gre(v4, inner_v4("10.5.1.2")), gre(v4, inner_v4("10.9.1.2"))),
                (gre(v6, inner_v6("fc00:5:0:1::2")), gre(v6, inner_v6("fc00:9::2"))),
            ] {
                assert!(arrives(node, &packet), "{flags:#x}: a node's");
                assert!(!arrives(stranger, &packet), "{flags:#x}: a stranger's");
                assert!(!arrives(stranger, &packet[..6]), "{flags:#x}: too short to say");
                assert!(arrives(stranger, &other), "{flags:#x}: a stranger's for another network");
            }
            let ethernet = gre([0x65, 0x58], vec![0; 60]);
            assert!(
                arrives(stranger, &ethernet),
                "{flags:#x}: a stranger's frame, for which there is no device"
            );
            sources.set_tunnels([of(network("10.5.0.0/16")), of(None)].into());
            wait("there is another device", || !arrives(stranger, &ethernet));
            assert!(arrives(node, &ethernet), "{flags:#x}: a node's frame");
            assert!(
                arrives(stranger, &gre(v6, inner_v6("fc00:5:0:1::2"))),
                "{flags:#x}: a cluster without IPv6"
            );
            sources.set_tunnels([of(network("10.5.0.0/16")), of(network("fc00:5::/48"))].into());
            wait("it goes again", || arrives(stranger, &ethernet));
        }
    });
}

#[test]
fn only_nodes_reach_pods_by_ipv6_in_ipv4_and_whatever_comes_in_udp() {
    in_namespace(|| {
        let [host, node, stranger] = IPV4;
        let (raw, udp) = (raw_receiver(41), receiver(host, PORT));
        let inner = "fc00:5::/48".parse().expect("network");
        let _sources = filter([
            Tunnel::IpInIp { family: Family::Ipv4, inner },
            Tunnel::Udp { family: Family::Ipv4, port: PORT },
        ]);
        let arrives_in = |from, to: &str| {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, 59, 64];
            packet.extend([0; 16]);
            packet.extend(to.parse::<Ipv6Addr>().expect("address").octets());
            send_raw(&ipv4_packet(from, host, 41, &packet), host);
            raw.recv_from(&mut [0; 2048]).is_ok()
        };
        assert!(arrives_in(node, "fc00:5:0:1::2"), "a node's");
        assert!(!arrives_in(stranger, "fc00:5:0:1::2"), "a stranger's");
        assert!(arrives_in(stranger, "fc00:9::2"), "a stranger's for another network");
        assert!(arrives(&udp, node, b"anything") && !arrives(&udp, stranger, b"anything"));
    });
}
