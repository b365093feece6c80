//! From one process to the next: what waits in the kernel meanwhile is not lost.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use flannel_model::offloads::Offloads;

use super::super::{Inherited, Tunnel, TunnelSpec};
use super::lab::{self, Node, pair, tunnels};

/// Sockets with the nodes' inner addresses.
fn sockets(a: &Node, b: &Node) -> [UdpSocket; 2] {
    [a, b].map(|node| {
        let address = node.inner().0;
        let socket = node.run(move || UdpSocket::bind((address, 5201)).expect("a socket"));
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        socket
    })
}

fn send(from: &UdpSocket, to: &UdpSocket, packets: u8) {
    let to = to.local_addr().expect("an address");
    for number in 0..packets {
        from.send_to(&[number], to).expect("sent");
    }
}

/// All of them come, in any order: the queues of a device know no common one.
fn all_come(at: &UdpSocket, packets: u8) {
    let mut missing: Vec<u8> = (0..packets).collect();
    let mut buffer = [0; 10];
    while !missing.is_empty() {
        let length = lab::undisturbed(|| at.recv(&mut buffer))
            .unwrap_or_else(|error| panic!("{error}; missing: {missing:?}"));
        assert_eq!(length, 1);
        missing.retain(|number| *number != buffer[0]);
    }
}

fn duplicates(tunnel: &Tunnel) -> Vec<OwnedFd> {
    let duplicate =
        |descriptor: std::os::fd::BorrowedFd<'_>| descriptor.try_clone_to_owned().expect("a duplicate");
    tunnel.descriptors().into_iter().map(duplicate).collect()
}

#[test]
fn packets_wait_until_all_peers_are_known() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (near, far) = (a.open(a.spec(Offloads::ALL)), b.open(b.spec(Offloads::ALL)));
    near.set_peers(&b.peers());
    let [one, other] = sockets(&a, &b);
    send(&one, &other, 50);
    far.set_peers(&a.peers());
    all_come(&other, 50);
}

#[test]
fn who_goes_on_with_queues_and_sockets_that_were_kept_loses_no_packet() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    for (before, after) in
        [(Offloads::ALL, Offloads::ALL), (Offloads::ALL, Offloads::NONE), (Offloads::NONE, Offloads::ALL)]
    {
        let mut spec = a.spec(before);
        spec.persist = true;
        let first = a.open(spec.clone());
        let far = b.open(b.spec(Offloads::ALL));
        first.set_peers(&b.peers());
        far.set_peers(&a.peers());
        let [one, other] = sockets(&a, &b);
        let kept = duplicates(&first);
        assert_eq!(kept.len(), 6, "two queues, and two sockets of each family");
        drop(first);
        // Both ways, while nobody is there.
        send(&one, &other, 50);
        send(&other, &one, 50);
        let last = TunnelSpec { offloads: after, persist: false, ..spec };
        let second = a.run(move || {
            let inherited = Inherited::sort(kept, &last).expect("all that is needed");
            Tunnel::inherit(&last, inherited).expect("a tunnel")
        });
        second.set_peers(&b.peers());
        all_come(&other, 50);
        all_come(&one, 50);
        send(&one, &other, 50);
        all_come(&other, 50);
    }
}

#[test]
fn datagrams_that_waited_merged_are_told_apart_by_who_goes_on_without_merging() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let spec = TunnelSpec { persist: true, queues: Some(1), ..a.spec(Offloads::ALL) };
    let first = a.open(spec.clone());
    let far = b.open(b.spec(Offloads::ALL));
    let [one, other] = sockets(&a, &b);
    let kept = duplicates(&first);
    drop(first);
    // They wait for the peers to be known, and then go out together.
    send(&other, &one, 50);
    far.set_peers(&a.peers());
    lab::eventually("all datagrams have gone out", || far.counters().total.tx_packets == 50);
    let last = TunnelSpec { offloads: Offloads::NONE, persist: false, ..spec };
    let second = a.run(move || {
        let inherited = Inherited::sort(kept, &last).expect("all that is needed");
        Tunnel::inherit(&last, inherited).expect("a tunnel")
    });
    second.set_peers(&b.peers());
    all_come(&one, 50);
    send(&other, &one, 50);
    all_come(&one, 50);
}

#[test]
fn descriptors_that_are_not_exactly_what_is_needed_are_refused() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, _far) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    let spec = a.spec(Offloads::ALL);
    let kept = || duplicates(&tunnel);
    let fits = |descriptors: Vec<OwnedFd>, spec: &TunnelSpec| Inherited::sort(descriptors, spec).is_some();
    assert!(fits(kept(), &spec));
    let mut one_less = kept();
    one_less.pop();
    assert!(!fits(one_less, &spec));
    let mut one_more = kept();
    one_more.push(std::fs::File::open("/dev/null").expect("a file").into());
    assert!(!fits(one_more, &spec));
    assert!(!fits(kept(), &TunnelSpec { queues: Some(1), ..spec.clone() }));
    assert!(!fits(kept(), &TunnelSpec { ipv6: None, ..spec.clone() }));
    assert!(!fits(kept(), &TunnelSpec { name: "flannel1".into(), ..spec.clone() }));
    let other_port = spec.ipv4.map(|address| std::net::SocketAddrV4::new(*address.ip(), 8286));
    assert!(!fits(kept(), &TunnelSpec { ipv4: other_port, ..spec.clone() }));
    a.ip("link delete flannel0");
    assert!(!fits(kept(), &spec), "the device is gone");
}
