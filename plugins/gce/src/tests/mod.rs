//! A node's lease in, a route of the cloud out.

mod cloud;
mod faults;

use std::time::Duration;

use cloud::{Cloud, Shared, bench, link, route};
use flannel_backend::serde_json::json;
use flannel_backend::testing::{Bench, samples, with};
use flannel_backend::{Lease, log};

use super::*;

const OWN: &str = "flannel-10-5-72-0-24";

/// Ticks until all is well; answers how many it took.
fn settle(bench: &mut Bench<GcePolicy>) -> usize {
    let waits = std::iter::from_fn(|| Some(bench.tick().expect("a tick").expect("another one")));
    waits.take(20).take_while(|wait| *wait < INTERVAL).count()
}

fn names(cloud: &Shared) -> Vec<String> {
    cloud.borrow().routes.keys().cloned().collect()
}

/// Where a route leads to.
fn hop(cloud: &Shared, name: &str) -> String {
    cloud.borrow().routes[name]["nextHopInstance"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn pods_get_the_interfaces_mtu_and_nothing_is_published() {
    let bench = bench(&Cloud::new());
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("", 1500));
    assert_eq!((&published.backend_data, &published.backend_v6_data), (&None, &None));
}

#[test]
fn a_cluster_with_ipv6_is_refused() {
    for (v4, v6) in [(true, true), (false, true)] {
        let error = Bench::<GcePolicy>::register(&samples::node(v4, v6), "{}").err().expect("refused");
        assert!(error.contains("IPv4 alone") && error.contains("EnableIPv6"), "{error}");
    }
}

#[test]
fn options_that_gce_does_not_have_are_ignored() {
    assert!(Bench::<GcePolicy>::register(&samples::node(true, false), r#"{"Type":"gce","X":[]}"#).is_ok());
}

#[test]
fn peers_are_none_of_its_business() {
    let mut bench = bench(&Cloud::new());
    for other in ["", "gce", "vxlan"] {
        assert_eq!(bench.put(1, &samples::peer(other)).expect("no rejection"), [""; 0]);
    }
}

#[test]
fn the_own_subnet_gets_a_route_to_this_instance() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    assert_eq!(bench.tick(), Ok(Some(SOON)));
    let asked =
        ["GET zones/zone-a/instances/node1", &format!("GET global/routes/{OWN}"), "POST global/routes"];
    assert_eq!(cloud.borrow_mut().taken(), asked);
    settle(&mut bench);
    let made = cloud.borrow().routes[OWN].clone();
    let mut expected = route(72, "node1");
    expected["tags"] = json!([]);
    expected["id"] = made["id"].clone();
    assert_eq!(made, expected);
}

#[test]
fn an_operation_is_asked_for_until_it_is_over() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    cloud.borrow_mut().held = true;
    bench.tick().expect("a tick");
    cloud.borrow_mut().taken();
    for _ in 0..3 {
        assert_eq!(bench.tick(), Ok(Some(SOON)));
    }
    assert_eq!(cloud.borrow_mut().taken(), ["GET global/operations/operation-1"; 3]);
    cloud.borrow_mut().held = false;
    settle(&mut bench);
    assert_eq!(cloud.borrow_mut().mutations(), [""; 0]);
    assert_eq!(names(&cloud), [OWN]);
}

#[test]
fn a_route_that_is_right_is_left_alone() {
    let cloud = Cloud::new();
    let mut right = route(72, "node1");
    // What an operator has set, and links that begin otherwise.
    right["tags"] = json!(["some"]);
    right["priority"] = 10.into();
    right["network"] = "https://compute.googleapis.com/compute/v1/projects/p/global/networks/lab".into();
    cloud.borrow_mut().put(right);
    let mut bench = bench(&cloud);
    for _ in 0..3 {
        assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    }
    assert_eq!(cloud.borrow_mut().mutations(), [""; 0]);
}

#[test]
fn a_route_that_is_deleted_by_hand_comes_back() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    settle(&mut bench);
    with(|host| host.now += SETTLING);
    cloud.borrow_mut().routes.clear();
    settle(&mut bench);
    assert_eq!(names(&cloud), [OWN]);
}

#[test]
fn a_route_that_leads_elsewhere_is_replaced() {
    let by_address = json!({
        "name": OWN, "destRange": "10.5.72.0/24", "network": link("global/networks/lab"), "nextHopIp": "192.168.0.7"
    });
    for wrong in [route(72, "node2"), by_address] {
        let cloud = Cloud::new();
        cloud.borrow_mut().put(wrong);
        let mut bench = bench(&cloud);
        settle(&mut bench);
        assert_eq!(hop(&cloud, OWN), link("zones/zone-a/instances/node1"));
        assert_eq!(cloud.borrow_mut().mutations(), ["DELETE global/routes/1", "POST global/routes"]);
        let warned = with(|host| host.log.iter().any(|(level, _)| *level == log::Level::Warn));
        assert!(warned);
    }
}

#[test]
fn a_route_of_another_network_or_destination_is_never_removed() {
    let mut network = route(72, "node9");
    network["network"] = link("global/networks/other").into();
    let mut destination = route(72, "node1");
    destination["destRange"] = "10.5.72.0/25".into();
    for (foreign, says) in [
        (network, "projects/p/global/networks/other"),
        (destination, "to 10.5.72.0/25 instead of 10.5.72.0/24"),
    ] {
        let cloud = Cloud::new();
        cloud.borrow_mut().put(foreign);
        let error = bench(&cloud).tick().expect_err("told");
        assert!(error.contains(OWN) && error.contains(says), "{error}");
        assert_eq!(cloud.borrow_mut().mutations(), [""; 0]);
    }
}

#[test]
fn stale_routes_to_this_instance_are_removed_and_no_others() {
    let cloud = Cloud::new();
    let mut elsewhere = route(5, "node1");
    elsewhere["network"] = link("global/networks/other").into();
    let mut outside = route(6, "node1");
    (outside["name"], outside["destRange"]) = ("flannel-10-6-6-0-24".into(), "10.6.6.0/24".into());
    let mut odd = route(7, "node1");
    odd["name"] = "flannel-vpn".into();
    let mut stranger = route(8, "node1");
    stranger["name"] = "vpn".into();
    for route in [route(72, "node1"), route(3, "node1"), route(4, "node2"), elsewhere, outside, odd, stranger]
    {
        cloud.borrow_mut().put(route);
    }
    // All of them are seen, however many a page has.
    cloud.borrow_mut().page = 2;
    let mut bench = bench(&cloud);
    settle(&mut bench);
    let left =
        ["flannel-10-5-4-0-24", "flannel-10-5-5-0-24", OWN, "flannel-10-6-6-0-24", "flannel-vpn", "vpn"];
    assert_eq!(names(&cloud), left);
    assert_eq!(cloud.borrow_mut().mutations(), ["DELETE global/routes/2"]);
}

#[test]
fn at_the_end_all_routes_to_this_instance_go_and_no_others() {
    let cloud = Cloud::new();
    let mut stranger = route(8, "node1");
    stranger["name"] = "vpn".into();
    for route in [route(72, "node1"), route(3, "node1"), route(4, "node2"), stranger] {
        cloud.borrow_mut().put(route);
    }
    let mut bench = bench(&cloud);
    settle(&mut bench);
    let mut calls = 0;
    while bench.retire().expect("goes well").is_some() {
        calls += 1;
        assert!(calls < 20, "it goes on for ever");
    }
    assert_eq!(names(&cloud), ["flannel-10-5-4-0-24", "vpn"]);
}

#[test]
fn another_lease_moves_the_route() {
    let cloud = Cloud::new();
    let mut bench = bench(&cloud);
    settle(&mut bench);
    let other = Lease { ipv4_subnet: samples::peer("").ipv4_subnet, ..samples::own() };
    bench.lease_acquired(&other).expect("leased");
    settle(&mut bench);
    assert_eq!(names(&cloud), ["flannel-10-5-3-0-24"]);
}

#[test]
fn the_network_is_that_of_the_interface_with_the_nodes_address() {
    let cloud = Cloud::new();
    cloud.borrow_mut().instance["networkInterfaces"][1]["networkIP"] = "10.1.1.1".into();
    settle(&mut bench(&cloud));
    // None has it: the first counts, as upstream has it.
    assert_eq!(cloud.borrow().routes[OWN]["network"], link("global/networks/other"));
}

#[test]
fn an_instance_that_may_not_forward_is_said_to_and_gets_no_route() {
    let cloud = Cloud::new();
    cloud.borrow_mut().instance["canIpForward"] = false.into();
    let mut bench = bench(&cloud);
    let error = bench.tick().expect_err("told");
    assert!(error.contains("node1") && error.contains("--can-ip-forward"), "{error}");
    assert_eq!(cloud.borrow_mut().mutations(), [""; 0]);
    // It is looked at again.
    cloud.borrow_mut().instance["canIpForward"] = true.into();
    settle(&mut bench);
    assert_eq!(names(&cloud), [OWN]);
}

#[test]
fn a_network_that_another_project_shares_is_refused() {
    let cloud = Cloud::new();
    let shared = "https://www.googleapis.com/compute/v1/projects/host/global/networks/lab";
    cloud.borrow_mut().instance["networkInterfaces"][1]["network"] = shared.into();
    let error = bench(&cloud).tick().expect_err("told");
    assert!(error.contains("projects/host/global/networks/lab, which another project shares"), "{error}");
}

#[test]
fn whoever_comes_next_waits_for_the_operation_instead_of_doing_it_again() {
    let cloud = Cloud::new();
    cloud.borrow_mut().held = true;
    bench(&cloud).tick().expect("a tick");
    // Another plugin, or a daemon that was started anew, with the same store.
    let mut next = bench(&cloud);
    assert_eq!(next.tick(), Ok(Some(SOON)));
    cloud.borrow_mut().held = false;
    settle(&mut next);
    assert_eq!(cloud.borrow_mut().mutations(), ["POST global/routes"]);
    assert_eq!(names(&cloud), [OWN]);
    assert_eq!(with(|host| host.state.len()), 0);
}

#[test]
fn ticks_come_in_the_interval_and_sooner_while_something_is_done() {
    assert!(SOON >= Duration::from_millis(100) && SOON <= Duration::from_secs(5));
    assert_eq!(INTERVAL, Duration::from_mins(1));
}
