//! The external interface loses its carrier, or is set down: routes over it are there when it is.

use super::*;

/// Routes to two peers by way of their addresses, one of each family.
fn near() -> Transaction {
    let route = |destination: &str, via: &str| Entry::Route {
        destination: prefix(destination),
        via: Some(address(via)),
        onlink: false,
        device: Device::External,
    };
    put(3, vec![route("10.5.3.0/24", "192.168.0.3"), route("fc00:5:0:3::/64", "fd77::3")])
}

/// Whether both routes are there, be they usable or not.
fn both_are_there() -> bool {
    ip("route show").contains("10.5.3.0/24 ") && ip("-6 route show").contains("fc00:5:0:3::/64 ")
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: {}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn routes_over_the_external_interface_outlast_its_carrier() {
    in_namespace(|node| {
        node.commit(near());
        node.prune_stale();
        let before = node.messages();
        ip("link set far down");
        until("the carrier is lost", || ip("link show eth0").contains("NO-CARRIER"));
        assert!(both_are_there(), "{}", state());
        ip("link set far up");
        until("the carrier is back", || !ip("link show eth0").contains("NO-CARRIER"));
        assert!(both_are_there() && !ip("route show").contains("linkdown"), "{}", state());
        assert_eq!(node.messages(), before, "nothing had to be done");
    });
}

#[test]
fn routes_over_the_external_interface_are_back_when_it_is_set_up_again() {
    in_namespace(|node| {
        node.commit(near());
        node.prune_stale();
        for address_first in [true, false] {
            ip("link set eth0 down");
            until("the kernel has removed them", || !both_are_there());
            // The kernel keeps IPv4 addresses, and no IPv6 ones.
            if address_first {
                ip("-6 address add fd77::100/64 dev eth0 nodad");
            }
            ip("link set eth0 up");
            if !address_first {
                ip("-6 address add fd77::100/64 dev eth0 nodad");
            }
            until("they are back", both_are_there);
        }
    });
}

#[test]
fn a_route_to_a_gateway_that_is_reached_again_is_back_at_once() {
    in_namespace(|node| {
        ip("route add 203.0.113.0/24 dev eth0");
        let route = Entry::Route {
            destination: prefix("10.5.9.0/24"),
            via: Some(address("203.0.113.1")),
            onlink: false,
            device: Device::External,
        };
        node.commit(put(9, vec![route]));
        node.prune_stale();
        ip("route del 203.0.113.0/24 dev eth0");
        ip("route del 10.5.9.0/24");
        // Refused often enough for the next attempt to be half a minute away.
        until("it is refused", || {
            !node.runtime.block_on(node.datapath.report()).expect("report").failures.is_empty()
        });
        std::thread::sleep(Duration::from_secs(2));
        ip("route add 203.0.113.0/24 dev eth0");
        until("it is back", || ip("route show").contains("10.5.9.0/24 "));
    });
}

/// A test with the record that an earlier run has left, of which the routes are there.
fn after_a_run(test: impl FnOnce(Option<PathBuf>) + Send + 'static) {
    bare_namespace(|| {
        let directory = tempfile::tempdir().expect("directory");
        let record = Some(directory.path().join("routes"));
        let before = Node::recording(record.clone());
        before.commit(near());
        before.prune_stale();
        drop(before);
        test(record);
    });
}

#[test]
fn a_route_that_an_earlier_run_made_over_the_external_interface_goes_and_another_of_the_same_kind_stays() {
    after_a_run(|record| {
        ip("route add 10.5.200.0/24 via 192.168.0.200 dev eth0");
        let node = Node::recording(record);
        assert!(both_are_there(), "not before all leases are known");
        node.prune_stale();
        assert!(!ip("route show").contains("10.5.3.0/24 "), "{}", state());
        assert!(!ip("-6 route show").contains("fc00:5:0:3::/64 "), "{}", state());
        assert!(ip("route show").contains("10.5.200.0/24 "), "{}", state());
    });
}

#[test]
fn a_route_of_an_earlier_run_that_somebody_has_replaced_since_is_his() {
    after_a_run(|record| {
        ip("route replace 10.5.3.0/24 via 192.168.0.77 dev eth0");
        Node::recording(record).prune_stale();
        assert!(ip("route show").contains("10.5.3.0/24 via 192.168.0.77"), "{}", state());
    });
}
