//! What others do to devices, and to the external interface: all of it is put right, with everything that hangs on it.

use std::time::{Duration, Instant};

use flannel_model::entry::Device;
use flannel_model::ledger::Transaction;

use super::{Entry, address, becomes, in_namespace, ip, peer, prefix, put, run, state};

/// Does something to a node with two peers, and waits until all is as it was.
fn is_put_right(damage: &'static [&'static str]) {
    in_namespace(move |node| {
        node.with_peers();
        let before = state();
        for command in damage {
            ip(command);
        }
        becomes(&before);
        assert!(ip("-details link show flannel.1").contains("vxlan id 1 "), "{damage:?}");
        assert_eq!(
            ip("-brief link show type vxlan").lines().count(),
            1,
            "{damage:?}: no second device is left"
        );
    });
}

#[test]
fn a_device_that_is_deleted_comes_back_with_all_that_was_on_it() {
    is_put_right(&["link delete flannel.1"]);
}

#[test]
fn a_device_that_is_set_down_is_up_again_with_its_routes() {
    is_put_right(&["link set flannel.1 down"]);
}

#[test]
fn a_device_that_is_renamed_gets_its_name_back() {
    is_put_right(&["link set flannel.1 down", "link set flannel.1 name mine"]);
}

#[test]
fn a_device_with_another_mac_gets_its_own_back() {
    is_put_right(&["link set flannel.1 address 02:00:00:00:00:99"]);
}

#[test]
fn a_device_with_another_mtu_gets_its_own_back() {
    in_namespace(|node| {
        node.with_peers();
        ip("link set flannel.1 mtu 1300");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ip("link show flannel.1").contains("mtu 1450") {
            assert!(Instant::now() < deadline, "{}", ip("link show flannel.1"));
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_device_of_another_vni_under_the_name_is_replaced() {
    is_put_right(&[
        "link delete flannel.1",
        "link add flannel.1 type vxlan id 7 dev eth0 local 192.168.0.100 dstport 8472",
    ]);
}

/// What is said of a device that cannot be made.
fn refusal(node: &super::Node) -> String {
    node.commit(super::base()).device_failure.expect("the device cannot be made")
}

#[test]
fn a_vni_that_another_device_has_is_refused_with_the_devices_name() {
    in_namespace(|node| {
        ip("link add other type vxlan id 1 dev eth0 local 192.168.0.100 dstport 8472");
        let said = refusal(node);
        assert!(said.contains("the VXLAN device other has VNI 1 on UDP port 8472"), "{said}");
    });
}

#[test]
fn a_port_that_another_device_has_with_other_options_is_refused_with_the_devices_name() {
    in_namespace(|node| {
        ip("link add other type vxlan id 7 dev eth0 local 192.168.0.100 dstport 8472 gbp");
        ip("link set other up");
        let said = refusal(node);
        assert!(said.contains("the VXLAN device other has UDP port 8472"), "{said}");
    });
}

#[test]
fn a_port_that_a_program_has_is_refused_with_the_way_to_find_it() {
    in_namespace(|node| {
        let _socket = std::net::UdpSocket::bind(("0.0.0.0", 8472)).expect("a socket");
        let said = refusal(node);
        assert!(said.contains("a program has UDP port 8472") && said.contains("ss -anup"), "{said}");
    });
}

#[test]
fn a_device_that_lost_its_address_gets_it_back() {
    is_put_right(&["address delete 10.5.72.0/32 dev flannel.1"]);
}

/// What is reached over a device is said by routes, which are checked.
#[test]
fn addresses_of_a_device_bring_no_routes_to_their_networks() {
    in_namespace(|node| {
        node.with_peers();
        let before = [ip("route show"), ip("-6 route show dev flannel.1")];
        let wide =
            ["10.5.72.1/1", "10.5.72.2/16", "fc00:5:0:72::1/64"].map(|text| text.parse().expect("address"));
        let addresses = [("flannel.1".into(), wide.into())].into();
        node.commit(Transaction { addresses, ..Transaction::default() });
        let there = ip("address show dev flannel.1");
        assert!(
            ["10.5.72.1/1 ", "10.5.72.2/16 ", "fc00:5:0:72::1/64 "].iter().all(|one| there.contains(one)),
            "{there}"
        );
        assert_eq!([ip("route show"), ip("-6 route show dev flannel.1")], before);
    });
}

#[test]
fn nexthop_objects_that_are_flushed_come_back_with_their_routes() {
    is_put_right(&["nexthop flush"]);
}

#[test]
fn a_route_that_somebody_puts_in_place_of_ours_is_replaced() {
    is_put_right(&["route replace 10.5.3.0/24 via 192.168.0.55"]);
}

#[test]
fn what_somebody_puts_on_our_device_goes_at_once() {
    in_namespace(|node| {
        node.with_peers();
        let before = state();
        ip("neigh replace 10.5.99.0 lladdr 02:00:00:00:00:55 dev flannel.1 nud permanent");
        run("bridge", "fdb append 02:00:00:00:00:66 dev flannel.1 dst 192.168.0.66 self permanent");
        ip("route add 10.5.99.0/24 via 10.5.99.0 dev flannel.1 onlink");
        becomes(&before);
    });
}

#[test]
fn an_external_interface_that_goes_down_and_up_has_its_routes_again() {
    in_namespace(|node| {
        node.with_peers();
        let subnet = prefix("10.5.9.0/24");
        let via = Some(address("192.168.0.9"));
        let direct = Entry::Route { destination: subnet, via, onlink: false, device: Device::External };
        let report = node.commit(put(9, vec![direct]));
        assert!(report.failures.is_empty(), "{report:?}");
        let before = state();
        ip("link set eth0 down");
        ip("link set eth0 up");
        ip("-6 address replace fd77::100/64 dev eth0 nodad");
        becomes(&before);
        ip("address delete 192.168.0.100/24 dev eth0");
        ip("address add 192.168.0.100/24 dev eth0");
        becomes(&before);
    });
}

#[test]
fn an_external_interface_that_is_replaced_is_taken_up() {
    in_namespace(|node| {
        node.with_peers();
        let before = state();
        ip("link delete eth0");
        ip("link add eth0 type veth peer name far");
        ip("link set far up");
        ip("link set eth0 up");
        ip("address add 192.168.0.100/24 dev eth0");
        ip("-6 address add fd77::100/64 dev eth0 nodad");
        becomes(&before);
        assert!(ip("-details link show flannel.1").contains("dev eth0"));
        assert!(node.commit(put(3, peer(3))).failures.is_empty());
    });
}
