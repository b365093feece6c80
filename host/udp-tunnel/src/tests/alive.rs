//! How a tunnel begins and ends.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use flannel_model::offloads::Offloads;

use super::super::{Tunnel, TunnelError};
use super::lab::{self, eventually, pair, tunnels};
use super::transfer::tcp;

#[test]
fn a_persistent_device_keeps_its_routes_and_is_found_again() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let far = b.open(b.spec(Offloads::ALL));
    far.set_peers(&a.peers());
    let mut spec = a.spec(Offloads::ALL);
    spec.persist = true;
    let tunnel = a.open(spec.clone());
    let index = tunnel.index();
    drop(tunnel);
    let routes = a.try_ip("route show dev flannel0").expect("the device is still there");
    assert!(routes.contains("10.5.0.0/16"), "{routes:?}");
    // Another number of queues, other offloads: it is the same device all the same.
    spec.queues = Some(1);
    spec.offloads = Offloads::NONE;
    let (again, spec) = a.run(move || (Tunnel::open(&spec).expect("attached"), spec));
    assert_eq!(again.index(), index);
    again.set_peers(&b.peers());
    tcp(&a, &b, b.inner().0.into(), 1_000_001);
    drop(again);
    let again =
        a.run(move || Tunnel::open(&super::super::TunnelSpec { persist: false, ..spec }).expect("attached"));
    drop(again);
    a.until_gone("flannel0");
}

#[test]
fn a_pattern_takes_the_first_free_name() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    a.ip("link add flannel0 type veth");
    let spec = super::super::TunnelSpec { name: "flannel%d".into(), ..a.spec(Offloads::ALL) };
    let tunnel = a.run(move || Tunnel::open(&spec).expect("a tunnel"));
    assert_eq!(tunnel.name(), "flannel1");
    assert!(
        a.try_ip("link show flannel1").expect("it is there").starts_with(&format!("{}:", tunnel.index()))
    );
    drop(b);
}

#[test]
fn what_is_in_the_way_is_named() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let spec = a.spec(Offloads::ALL);
    let open = |change: &dyn Fn(&mut super::super::TunnelSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        let error = a.run(move || Tunnel::open(&spec).err()).expect("an error");
        println!("{error}");
        error
    };
    let address = a.outer().0;
    let taken = a.run(move || UdpSocket::bind((address, 8285)).expect("the port"));
    let error = open(&|_| ());
    assert!(matches!(error, TunnelError::PortInUse { .. }) && error.to_string().contains("8285"));
    drop(taken);
    let other = b.outer().0;
    assert!(matches!(
        open(&|s| s.ipv4 = Some((other, 8285)).map(|(a, p)| std::net::SocketAddrV4::new(a, p))),
        TunnelError::NoSuchAddress { .. }
    ));
    a.ip("tuntap add mode tun name other0");
    a.ip("link add pair0 type veth peer name pair1");
    for name in ["other0", "pair0"] {
        assert!(matches!(open(&|s| s.name = name.into()), TunnelError::OtherDevice { .. }));
    }
    for name in ["", "a name", "name/", "a-name-too-long-for-it"] {
        assert!(matches!(open(&|s| s.name = name.into()), TunnelError::BadName { .. }));
    }
    assert!(matches!(open(&|s| (s.ipv4, s.ipv6) = (None, None)), TunnelError::NoAddress));
    let held = spec.clone();
    let first = a.run(move || Tunnel::open(&held).expect("a tunnel"));
    assert!(
        matches!(open(&|s| s.name = "flannel7".into()), TunnelError::PortInUse { .. }),
        "by a second tunnel too"
    );
    drop(first);
}

#[test]
fn a_tunnel_stops_under_load_and_leaves_nothing() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, _far) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    let (near, far) = (a.inner().0, b.inner().0);
    let socket = a.run(move || UdpSocket::bind((near, 0)).expect("a socket"));
    let flood = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_millis(600);
        while Instant::now() < end {
            let _ = socket.send_to(&[0; 64], (far, 9));
        }
    });
    std::thread::sleep(Duration::from_millis(200));
    drop(tunnel);
    a.until_gone("flannel0");
    flood.join().expect("the flood");
}

#[test]
fn a_deleted_device_is_noticed() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let (tunnel, _far) = tunnels(&a, &b, (Offloads::ALL, Offloads::ALL));
    assert!(!tunnel.is_lost());
    a.ip("link delete flannel0");
    eventually("the loss is noticed", || tunnel.is_lost());
    drop(tunnel);
}

#[test]
fn queues_have_more_room_than_the_drivers_own_unless_somebody_has_chosen_how_much() {
    if !lab::is_available() {
        return;
    }
    let (a, b) = pair();
    let room = || {
        let told = a.try_ip("link show flannel0").expect("the device is there");
        let behind = told.split(" qlen ").nth(1).expect("a length");
        behind.split_whitespace().next().and_then(|length| length.parse::<u32>().ok())
    };
    let spec = super::super::TunnelSpec { persist: true, queues: Some(2), ..a.spec(Offloads::ALL) };
    drop(a.open(spec.clone()));
    assert_eq!(room(), Some(2_000));
    a.ip("link set flannel0 txqueuelen 700");
    let again =
        a.run(move || Tunnel::open(&super::super::TunnelSpec { persist: false, ..spec }).expect("attached"));
    assert_eq!(room(), Some(700));
    drop(again);
    a.until_gone("flannel0");
    drop(b);
}
