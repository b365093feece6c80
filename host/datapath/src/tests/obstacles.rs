//! What stands in the way of a device is told without touching it.

use flannel_model::entry::{Ipip, TunnelDevice, Wireguard};
use flannel_model::offloads::Offloads;
use flannel_model::tunnel_link::{TunnelKind, TunnelLink, VlanProtocol};
use flannel_model::wireguard::{Keys, SecretKey};

use super::*;
use crate::Probe;

fn obstacles(wanted: &DeviceSpec, own_ports: &[u16]) -> Vec<String> {
    let networks = [prefix("10.5.0.0/16")];
    let probe = Probe::open().expect("a socket");
    let mut obstacles = probe.obstacles(wanted, &networks, own_ports, "eth0").expect("answers");
    // What this machine's kernel has is no matter here.
    obstacles.retain(|obstacle| !obstacle.contains("it lacks the module"));
    obstacles
}

fn is_one(obstacles: &[String], words: &[&str]) {
    let [obstacle] = obstacles else { panic!("one obstacle: {obstacles:?}") };
    assert!(words.iter().all(|word| obstacle.contains(word)), "{words:?} in {obstacle:?}");
    assert_eq!(obstacle.lines().count(), 1);
}

fn tunnel(port: u16) -> DeviceSpec {
    DeviceSpec::Tunnel(TunnelDevice {
        name: "flannel0".into(),
        port,
        mtu: 1472,
        ipv4: Some([192, 168, 0, 100].into()),
        ipv6: None,
        offloads: Offloads::NONE,
    })
}

fn wireguard(port: u16) -> DeviceSpec {
    let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse::<SecretKey>();
    let keys = Keys::of(key.expect("a key"));
    DeviceSpec::Wireguard(Wireguard { name: "flannel-wg".into(), port, mtu: 1420, keys })
}

#[test]
fn nothing_is_in_the_way_of_what_is_not_there_nor_of_what_is_ours() {
    in_namespace(|node| {
        let ours = DeviceSpec::Vxlan(vxlan());
        let ipip = Ipip { name: "flannel.ipip".into(), local: [192, 168, 0, 100].into(), mtu: 1480 };
        for wanted in [&ours, &DeviceSpec::Ipip(ipip), &wireguard(51820), &tunnel(8285)] {
            assert_eq!(obstacles(wanted, &[]), [""; 0], "{wanted:?}");
        }
        node.commit(base());
        assert_eq!(obstacles(&ours, &[]), [""; 0], "it is there");
        let beside = |vni| DeviceSpec::Vxlan(Vxlan { name: "flannel.2".into(), vni, ..vxlan() });
        assert_eq!(obstacles(&beside(2), &[]), [""; 0], "they share a port");
        is_one(&obstacles(&beside(1), &[]), &["flannel.1 has VNI 1 on UDP port 8472", "another VNI"]);
    });
}

#[test]
fn a_device_of_another_kind_is_named_and_stays() {
    bare_namespace(|| {
        ip("link add flannel.1 type bridge");
        let before = ip("-details link show flannel.1");
        is_one(&obstacles(&DeviceSpec::Vxlan(vxlan()), &[]), &["bridge", "not flanneld's"]);
        assert_eq!(ip("-details link show flannel.1"), before);
    });
}

#[test]
fn a_port_that_a_program_has_is_named() {
    bare_namespace(|| {
        let _v4 = std::net::UdpSocket::bind("192.168.0.100:8472").expect("bound");
        let _both = std::net::UdpSocket::bind("[::]:8285").expect("bound");
        let _v6 = std::net::UdpSocket::bind("[fd77::100]:51820").expect("bound");
        is_one(
            &obstacles(&DeviceSpec::Vxlan(vxlan()), &[]),
            &["a program has UDP port 8472", "another Port"],
        );
        is_one(&obstacles(&tunnel(8285), &[]), &["UDP port 8285", "another Port"]);
        assert_eq!(obstacles(&tunnel(8285), &[8285]), [""; 0], "it is the daemon's");
        is_one(&obstacles(&wireguard(51820), &[]), &["UDP port 51820", "another ListenPort"]);
        assert_eq!(obstacles(&tunnel(51820), &[]), [""; 0], "of the other family");
        let over_v6 = Vxlan { port: 51820, local: address("fd77::100"), ..vxlan() };
        is_one(&obstacles(&DeviceSpec::Vxlan(over_v6), &[]), &["a program has UDP port 51820"]);
    });
}

#[test]
fn a_port_with_other_extensions_is_not_shared() {
    bare_namespace(|| {
        ip("link add vx type vxlan id 7 dev eth0 dstport 8472 gbp");
        ip("link set vx up");
        is_one(&obstacles(&DeviceSpec::Vxlan(vxlan()), &[]), &["vx has UDP port 8472", "GBP"]);
        let with = Vxlan { gbp: true, ..vxlan() };
        assert_eq!(obstacles(&DeviceSpec::Vxlan(with), &[]), [""; 0]);
    });
}

/// Whether this kernel has VLANs. Who skips does so on the test's own thread, whose name is the test's.
fn has_vlans() -> bool {
    let (said, heard) = std::sync::mpsc::channel();
    bare_namespace(move || {
        let added =
            Command::new("ip").args("link add link far name probe type vlan id 7".split(' ')).output();
        let has = added.expect("iproute2 is installed").status.success();
        said.send(has).expect("somebody listens");
    });
    heard.recv().expect("an answer")
}

#[test]
fn a_vlan_of_the_same_id_is_named_if_it_is_on_the_external_interface() {
    if !has_vlans() {
        flannel_test_support::skip("this kernel has no VLANs (module 8021q)");
        return;
    }
    bare_namespace(|| {
        ip("link add link far name others type vlan id 7");
        let vlan = |protocol| {
            let kind = TunnelKind::Vlan { id: 7, protocol };
            DeviceSpec::TunnelLink(TunnelLink { name: "flannel-vlan".into(), mtu: 1500, kind })
        };
        assert_eq!(obstacles(&vlan(VlanProtocol::Ieee8021Q), &[]), [""; 0], "on another interface");
        ip("link add link eth0 name theirs type vlan id 7");
        let said = obstacles(&vlan(VlanProtocol::Ieee8021Q), &[]);
        is_one(&said, &["theirs is VLAN 7 of this interface already", "another id"]);
        assert_eq!(obstacles(&vlan(VlanProtocol::Ieee8021Ad), &[]), [""; 0], "of another protocol");
    });
}
