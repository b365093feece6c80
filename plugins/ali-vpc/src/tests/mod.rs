//! The policy against a little cloud, without a host.

mod cloud;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use flannel_backend::cloud::{Instance, NetworkInterface, Response};
use flannel_backend::testing::{Bench, Host, samples, with};

use super::{AliVpcPolicy, INTERVAL};
use cloud::{Cloud, Fault, Shared};

const ME: &str = "i-me";
const OWN: &str = "10.5.72.0/24";

/// A host in the cloud, with what a daemon before has left in the store.
fn host(cloud: &Shared, state: BTreeMap<String, Vec<u8>>) -> Host {
    let interface = NetworkInterface {
        id: "eni-me".to_owned(),
        subnet: "vsw-1".to_owned(),
        network: "vpc-1".to_owned(),
        ..NetworkInterface::default()
    };
    let instance = Instance {
        id: ME.to_owned(),
        region: "cn-beijing".to_owned(),
        interfaces: vec![interface],
        ..Instance::default()
    };
    let asked = Rc::clone(cloud);
    Host {
        instance: Ok(instance),
        cloud: Some(Box::new(move |request| asked.borrow_mut().answer(request))),
        now: Duration::from_hours(500_000),
        state,
        ..Host::default()
    }
}

fn cloud() -> Shared {
    Rc::new(RefCell::new(Cloud { quota: 200, ..Cloud::default() }))
}

fn leased(cloud: &Shared, state: BTreeMap<String, Vec<u8>>, config: &str, v6: bool) -> Bench<AliVpcPolicy> {
    let node = samples::node(true, v6);
    let mut bench = Bench::register_on(host(cloud, state), &node, config).expect("registers");
    let own = samples::own();
    let own = if v6 { own } else { flannel_backend::Lease { ipv6_subnet: None, ..own } };
    assert_eq!(bench.lease_acquired(&own).expect("leased"), [""; 0]);
    bench
}

fn bench(cloud: &Shared) -> Bench<AliVpcPolicy> {
    leased(cloud, BTreeMap::new(), "{}", false)
}

/// Ticks until there is nothing to do for a while; what is under way ends between two ticks.
fn settle(bench: &mut Bench<AliVpcPolicy>, cloud: &Shared) {
    for _ in 0..20 {
        if bench.tick().expect("goes well") == Some(INTERVAL) {
            return;
        }
        cloud.borrow_mut().settle();
    }
    panic!("it goes on for ever: {:?}", cloud.borrow().calls);
}

fn rows(cloud: &Shared) -> Vec<(String, String)> {
    let mut rows: Vec<_> =
        cloud.borrow().rows.iter().map(|row| (row.destination.clone(), row.hop.clone())).collect();
    rows.sort();
    rows
}

fn row(destination: &str, hop: &str) -> (String, String) {
    (destination.to_owned(), hop.to_owned())
}

#[test]
fn nothing_is_published_and_no_cloud_asked_before_the_first_tick() {
    let cloud = cloud();
    let bench = bench(&cloud);
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("", 1500));
    assert_eq!((&published.backend_data, &published.backend_v6_data), (&None, &None));
    assert_eq!(cloud.borrow().calls, [""; 0]);
}

#[test]
fn peers_are_their_own_business() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    for backend in ["", "vxlan"] {
        assert_eq!(bench.put(1, &samples::peer(backend)).expect("no rejection"), [""; 0]);
    }
    assert_eq!(cloud.borrow().calls, [""; 0]);
}

#[test]
fn the_row_is_made_once_and_then_left_alone() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME)]);
    assert_eq!(cloud.borrow().changes(), ["CreateRouteEntry"]);
    cloud.borrow_mut().calls.clear();
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    assert_eq!(cloud.borrow().calls, ["DescribeRouteEntryList"], "one read is all it takes");
    assert!(with(|host| host.state.is_empty()), "nothing is under way");
}

#[test]
fn a_row_that_is_there_at_the_start_is_not_touched() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "Instance", ME, "Available");
    assert_eq!(bench(&cloud).tick(), Ok(Some(INTERVAL)));
    assert_eq!(cloud.borrow().changes(), [""; 0]);
}

#[test]
fn a_row_that_is_pending_is_waited_for() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "Instance", ME, "Pending");
    let mut bench = bench(&cloud);
    let soon = bench.tick().expect("no error").expect("comes again");
    assert!(soon >= Duration::from_secs(1) && soon <= Duration::from_secs(6), "{soon:?}");
    cloud.borrow_mut().settle();
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    assert_eq!(cloud.borrow().changes(), [""; 0]);
}

#[test]
fn a_row_that_somebody_removes_comes_back() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    settle(&mut bench, &cloud);
    cloud.borrow_mut().rows.clear();
    // The cloud would answer a token that it knows without making anything.
    with(|host| host.now += INTERVAL);
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME)]);
}

#[test]
fn an_old_nodes_row_for_this_subnet_is_replaced() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "Instance", "i-old", "Available");
    settle(&mut bench(&cloud), &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME)]);
    assert_eq!(cloud.borrow().changes(), ["DeleteRouteEntry", "CreateRouteEntry"]);
}

#[test]
fn own_stale_rows_go_and_nothing_outside_of_the_cluster_network_is_touched() {
    let cloud = cloud();
    let others = [
        ("0.0.0.0/0", "Instance", ME),
        ("10.6.0.0/24", "Instance", ME),
        ("10.5.0.0/16", "VpcPeer", "pcc-1"),
        ("10.5.3.0/24", "Instance", "i-peer"),
        ("192.168.0.0/24", "local", "vsw-1"),
    ];
    for (destination, kind, hop) in others {
        cloud.borrow_mut().add(destination, kind, hop, "Available");
    }
    for stale in ["10.5.9.0/24", "10.5.10.0/24"] {
        cloud.borrow_mut().add(stale, "Instance", ME, "Available");
    }
    settle(&mut bench(&cloud), &cloud);
    let mut expected: Vec<_> = others.map(|(destination, _, hop)| row(destination, hop)).into();
    expected.push(row(OWN, ME));
    expected.sort();
    assert_eq!(rows(&cloud), expected);
}

#[test]
fn at_the_end_all_rows_to_this_instance_go_and_no_others() {
    let cloud = cloud();
    let others = [("10.6.0.0/24", ME), ("10.5.3.0/24", "i-peer")];
    for (destination, hop) in others {
        cloud.borrow_mut().add(destination, "Instance", hop, "Available");
    }
    let mut bench = bench(&cloud);
    settle(&mut bench, &cloud);
    let mut calls = 0;
    while bench.retire().expect("goes well").is_some() {
        cloud.borrow_mut().settle();
        calls += 1;
        assert!(calls < 20, "it goes on for ever: {:?}", cloud.borrow().calls);
    }
    let mut expected: Vec<_> = others.map(|(destination, hop)| row(destination, hop)).into();
    expected.sort();
    assert_eq!(rows(&cloud), expected);
}

#[test]
fn a_route_of_somebody_elses_for_this_subnet_is_named_and_stays() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "NatGateway", "ngw-1", "Available");
    let error = bench(&cloud).tick().expect_err("refused");
    for part in [OWN, "vtb-system", "rte-1", "NatGateway ngw-1"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(cloud.borrow().changes(), [""; 0]);
}

#[test]
fn the_vswitchs_own_table_comes_before_the_system_table() {
    for (custom_table, wanted) in [(true, "vtb-custom"), (false, "vtb-system")] {
        let cloud = cloud();
        cloud.borrow_mut().custom_table = custom_table;
        cloud.borrow_mut().add(OWN, "NatGateway", "ngw-1", "Available");
        let error = bench(&cloud).tick().expect_err("names the table");
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn tables_of_the_options_are_taken_as_they_are() {
    let cloud = cloud();
    let mut bench =
        leased(&cloud, BTreeMap::new(), r#"{"Type":"ali-vpc","RouteTableID":["vtb-a","vtb-b"]}"#, false);
    cloud.borrow_mut().add(OWN, "Instance", ME, "Available");
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    assert_eq!(cloud.borrow().calls, ["DescribeRouteEntryList", "DescribeRouteEntryList"]);
}

#[test]
fn tables_that_are_none_are_refused_with_their_name() {
    for wrong in [r#""rtb-1""#, "7", "[]", r#"["vtb-a",1]"#, r#""vtb-""#, r#""vtb-a b""#] {
        let config = format!(r#"{{"RouteTableID":{wrong}}}"#);
        let refused = Bench::<AliVpcPolicy>::register(&samples::node(true, false), &config);
        let error = refused.err().expect("refused");
        assert!(error.starts_with("RouteTableID: "), "{error}");
    }
}

#[test]
fn each_family_has_a_row() {
    let cloud = cloud();
    settle(&mut leased(&cloud, BTreeMap::new(), "{}", true), &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME), row("fc00:5:0:72::/64", ME)]);
}

#[test]
fn what_is_wrong_with_one_family_does_not_keep_the_other_from_its_row() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "NatGateway", "ngw-1", "Available");
    let mut bench = leased(&cloud, BTreeMap::new(), "{}", true);
    let mut last = Ok(None);
    for _ in 0..6 {
        last = bench.tick();
        cloud.borrow_mut().settle();
    }
    assert!(last.is_err_and(|error| error.contains(OWN)));
    assert!(rows(&cloud).contains(&row("fc00:5:0:72::/64", ME)));
}

#[test]
fn an_attempt_is_durable_before_the_first_request_and_the_next_plugin_goes_on_with_it() {
    let cloud = cloud();
    let mut first = bench(&cloud);
    assert!(first.tick().expect("no error") < Some(INTERVAL));
    assert_eq!(cloud.borrow().changes(), [""; 0], "the token is not durable yet");
    cloud.borrow_mut().faults.insert("CreateRouteEntry", [Fault::Lost].into());
    let error = first.tick().expect_err("nobody knows");
    assert!(error.contains("CreateRouteEntry") && error.contains("breaks off"), "{error}");
    let state = with(|host| host.state.clone());
    // Reads do not show it yet: the second plugin asks again, with the same token.
    cloud.borrow_mut().seen = Some(Vec::new());
    let mut second = leased(&cloud, state, "{}", false);
    assert!(second.tick().expect("no error") < Some(INTERVAL));
    assert_eq!(cloud.borrow().changes(), ["CreateRouteEntry", "CreateRouteEntry"]);
    assert_eq!((cloud.borrow().tokens.len(), cloud.borrow().rows.len()), (1, 1));
    cloud.borrow_mut().seen = None;
    settle(&mut second, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME)]);
}

#[test]
fn a_state_that_is_no_attempt_is_replaced() {
    let cloud = cloud();
    for kept in ["", "no JSON", "[]", r#"{"row":7,"token":7}"#] {
        let state = [("attempt".to_owned(), kept.as_bytes().to_vec())].into();
        cloud.borrow_mut().rows.clear();
        with(|host| host.now += INTERVAL);
        settle(&mut leased(&cloud, state, "{}", false), &cloud);
        cloud.borrow_mut().tokens.clear();
    }
}

#[test]
fn a_token_that_has_led_nowhere_for_long_is_replaced() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    bench.tick().expect("begins");
    bench.tick().expect("asks");
    // Somebody was faster than the next look: the row is gone, and the cloud knows the token.
    cloud.borrow_mut().rows.clear();
    bench.tick().expect("asks again, in vain");
    assert_eq!(rows(&cloud), []);
    with(|host| host.now += Duration::from_mins(1));
    settle(&mut bench, &cloud);
    assert_eq!((rows(&cloud).len(), cloud.borrow().tokens.len()), (1, 2));
}

#[test]
fn a_cloud_that_is_busy_is_asked_again_and_in_the_end_named() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    let faults = vec![Fault::Refused(400, "TaskConflict"); 40];
    cloud.borrow_mut().faults.insert("CreateRouteEntry", faults.into());
    let ticks: Vec<_> = (0..35).map(|_| bench.tick()).collect();
    assert!(ticks[..20].iter().all(Result::is_ok), "{ticks:?}");
    let error = ticks[34].clone().expect_err("long enough");
    assert!(error.contains("CreateRouteEntry") && error.contains("TaskConflict"), "{error}");
    cloud.borrow_mut().faults.clear();
    for _ in 0..3 {
        let _ = bench.tick();
        cloud.borrow_mut().settle();
    }
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
}

#[test]
fn a_duplicate_that_reads_do_not_show_yet_is_waited_for() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    bench.tick().expect("begins");
    cloud.borrow_mut().add(OWN, "Instance", "i-old", "Available");
    cloud.borrow_mut().seen = Some(Vec::new());
    bench.tick().expect("waits");
    cloud.borrow_mut().seen = None;
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME)]);
}

#[test]
fn a_removed_row_that_reads_still_show_is_no_error() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "Instance", "i-old", "Available");
    let seen = cloud.borrow().rows.clone();
    let mut bench = bench(&cloud);
    bench.tick().expect("removes");
    cloud.borrow_mut().seen = Some(seen);
    cloud.borrow_mut().settle();
    bench.tick().expect("waits");
    cloud.borrow_mut().seen = None;
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, ME)]);
}

#[test]
fn a_full_table_is_named_with_its_entries() {
    let cloud = cloud();
    cloud.borrow_mut().quota = 3;
    for number in 1..=3 {
        cloud.borrow_mut().add(&format!("10.7.{number}.0/24"), "Instance", "i-other", "Available");
    }
    let mut bench = bench(&cloud);
    bench.tick().expect("begins");
    let error = bench.tick().expect_err("full");
    for part in ["vtb-system is full", "custom entries: 3", "vpc_quota_route_entrys_num", "QuotaExceeded"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
    cloud.borrow_mut().quota = 4;
    settle(&mut bench, &cloud);
    assert!(rows(&cloud).contains(&row(OWN, ME)));
}

#[test]
fn a_missing_permission_is_named() {
    for action in ["DescribeRouteTableList", "DescribeRouteEntryList", "CreateRouteEntry"] {
        let cloud = cloud();
        let mut bench = bench(&cloud);
        cloud.borrow_mut().faults.insert(action, vec![Fault::Refused(403, "Forbidden.RAM"); 2].into());
        let error = bench.tick().and_then(|_| bench.tick()).expect_err("denied");
        let said = [format!("grant vpc:{action} "), "flanneld plugin inspect".to_owned()];
        assert!(said.iter().all(|part| error.contains(part)), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn bad_answers_are_told_with_action_status_and_request() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    cloud.borrow_mut().faults.insert("DescribeRouteTableList", [Fault::Refused(500, "InternalError")].into());
    let error = bench.tick().expect_err("told");
    let said = ["DescribeRouteTableList", "500", "InternalError", "No way.", "R-1"];
    assert!(said.iter().all(|part| error.contains(part)), "{error}");
    for body in ["", "<html>", "[]", "{}", r#"{"RouteEntrys":{"RouteEntry":7}}"#] {
        with(|host| {
            let answer = Response { status: 200, body: body.to_owned(), ..Response::default() };
            host.cloud = Some(Box::new(move |_| Ok(answer.clone())));
        });
        let error = bench.tick().expect_err("no sense in it");
        assert!(error.contains("not what Alibaba Cloud documents"), "{error}");
    }
}

#[test]
fn a_machine_that_is_in_no_vpc_is_told_so() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    with(|host| host.instance.as_mut().expect("an instance").interfaces.clear());
    assert!(bench.tick().expect_err("nowhere").contains("is this instance in one?"));
}
