//! The policy against a little cloud, without a host.

mod cloud;

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use flannel_backend::cloud::{Instance, NetworkInterface, Response};
use flannel_backend::testing::{Bench, Host, samples, with};

use super::{INTERVAL, TencentVpcPolicy};
use cloud::{Cloud, Fault, Shared};

const OWN: &str = "10.5.72.0/24";
/// Another address of this instance's.
const ALIAS: &str = "192.0.2.200";

/// The address of the node's external interface.
fn me() -> String {
    samples::node(true, false).external.ipv4.expect("an address").to_string()
}

fn host(cloud: &Shared) -> Host {
    let addresses: Vec<IpAddr> =
        [ALIAS.to_owned(), me()].iter().map(|text| text.parse().expect("an address")).collect();
    let interface = NetworkInterface {
        addresses,
        subnet: "subnet-1".to_owned(),
        network: "vpc-1".to_owned(),
        ..NetworkInterface::default()
    };
    let instance = Instance { id: "ins-me".to_owned(), interfaces: vec![interface], ..Instance::default() };
    let asked = Rc::clone(cloud);
    Host {
        instance: Ok(instance),
        cloud: Some(Box::new(move |request| asked.borrow_mut().answer(request))),
        ..Host::default()
    }
}

fn cloud() -> Shared {
    Rc::new(RefCell::new(Cloud { quota: 50, ..Cloud::default() }))
}

fn with_config(cloud: &Shared, config: &str) -> Bench<TencentVpcPolicy> {
    let mut bench = Bench::register_on(host(cloud), &samples::node(true, false), config).expect("registers");
    let own = flannel_backend::Lease { ipv6_subnet: None, ..samples::own() };
    assert_eq!(bench.lease_acquired(&own).expect("leased"), [""; 0]);
    bench
}

fn bench(cloud: &Shared) -> Bench<TencentVpcPolicy> {
    with_config(cloud, "{}")
}

/// Ticks until there is nothing to do for a while.
fn settle(bench: &mut Bench<TencentVpcPolicy>, cloud: &Shared) {
    for _ in 0..20 {
        if bench.tick().expect("goes well") == Some(INTERVAL) {
            return;
        }
    }
    panic!("it goes on for ever: {:?}", cloud.borrow().calls);
}

fn rows(cloud: &Shared) -> Vec<(String, String)> {
    let rows = cloud.borrow().rows.clone().into_iter();
    let mut rows: Vec<_> = rows.map(|row| (row.destination, row.hop)).collect();
    rows.sort();
    rows
}

fn row(destination: &str, hop: &str) -> (String, String) {
    (destination.to_owned(), hop.to_owned())
}

#[test]
fn nothing_is_published_and_no_cloud_asked_before_the_first_tick() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("", 1500));
    assert_eq!((&published.backend_data, &published.backend_v6_data), (&None, &None));
    for backend in ["", "vxlan"] {
        assert_eq!(bench.put(1, &samples::peer(backend)).expect("no rejection"), [""; 0]);
    }
    assert_eq!(cloud.borrow().calls, [""; 0]);
}

#[test]
fn a_cluster_with_ipv6_is_refused() {
    let refused = Bench::<TencentVpcPolicy>::register(&samples::node(true, true), "{}");
    assert!(refused.err().expect("refused").contains("IPv4 alone"));
}

#[test]
fn the_route_is_made_once_in_the_vpcs_main_table_and_then_left_alone() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, &me())]);
    assert_eq!(cloud.borrow().rows[0].table, "rtb-main");
    assert_eq!(cloud.borrow().changes(), ["CreateRoutes"]);
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    assert_eq!(cloud.borrow().changes(), ["CreateRoutes"]);
}

#[test]
fn the_table_of_the_instances_subnet_comes_before_the_main_one() {
    let cloud = cloud();
    cloud.borrow_mut().custom_table = true;
    settle(&mut bench(&cloud), &cloud);
    assert_eq!(cloud.borrow().rows[0].table, "rtb-custom");
}

#[test]
fn tables_of_the_option_are_taken_and_one_that_is_not_there_is_named() {
    let first = cloud();
    settle(&mut with_config(&first, r#"{"RouteTableID":["rtb-custom","rtb-main"]}"#), &first);
    assert_eq!(rows(&first), [row(OWN, &me()), row(OWN, &me())]);
    let second = cloud();
    let error = with_config(&second, r#"{"RouteTableID":"rtb-nowhere"}"#).tick().expect_err("not there");
    assert!(error.contains("no route table rtb-nowhere; there are: rtb-other, rtb-main"), "{error}");
    for wrong in [r#""vtb-1""#, "7", "[]", r#"["rtb-a",1]"#, r#""rtb-a b""#] {
        let config = format!(r#"{{"RouteTableID":{wrong}}}"#);
        let refused = Bench::<TencentVpcPolicy>::register(&samples::node(true, false), &config);
        assert!(refused.err().expect("refused").starts_with("RouteTableID: "));
    }
}

#[test]
fn a_route_that_somebody_removes_comes_back() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    settle(&mut bench, &cloud);
    cloud.borrow_mut().rows.clear();
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, &me())]);
}

#[test]
fn a_route_that_is_disabled_or_leads_to_another_machine_or_address_is_made_anew() {
    for hop in [me(), ALIAS.to_owned(), "192.0.2.250".to_owned()] {
        let cloud = cloud();
        cloud.borrow_mut().add(OWN, "NORMAL_CVM", &hop);
        cloud.borrow_mut().rows[0].enabled = hop != me();
        settle(&mut bench(&cloud), &cloud);
        assert_eq!(rows(&cloud), [row(OWN, &me())]);
        assert_eq!(cloud.borrow().changes(), ["DeleteRoutes", "CreateRoutes"]);
    }
}

#[test]
fn own_stale_routes_go_and_nothing_outside_of_the_cluster_network_is_touched() {
    let (cloud, me) = (cloud(), me());
    let others = [
        ("0.0.0.0/0", "NORMAL_CVM", me.as_str()),
        ("10.6.0.0/24", "NORMAL_CVM", &me),
        ("10.5.0.0/16", "PEERCONNECTION", "pcx-1"),
        ("10.5.3.0/24", "NORMAL_CVM", "192.0.2.250"),
        ("192.168.0.0/24", "LOCAL", "local"),
    ];
    for (destination, kind, hop) in others {
        cloud.borrow_mut().add(destination, kind, hop);
    }
    cloud.borrow_mut().add("10.5.9.0/24", "NORMAL_CVM", &me);
    cloud.borrow_mut().add("10.5.10.0/24", "NORMAL_CVM", ALIAS);
    // Another table is none of this node's business.
    cloud.borrow_mut().add_to("rtb-other", "10.5.11.0/24", "NORMAL_CVM", &me);
    let mut bench = bench(&cloud);
    settle(&mut bench, &cloud);
    let mut expected: Vec<_> = others.map(|(destination, _, hop)| row(destination, hop)).into();
    expected.push(row("10.5.11.0/24", &me));
    expected.sort();
    let at =
        expected.iter().position(|(destination, _)| destination.as_str() > OWN).unwrap_or(expected.len());
    let mut with_own = expected.clone();
    with_own.insert(at, row(OWN, &me));
    assert_eq!(rows(&cloud), with_own);
    // At the end its own goes, and nothing else.
    let mut calls = 0;
    while bench.retire().expect("goes well").is_some() {
        calls += 1;
        assert!(calls < 20, "it goes on for ever: {:?}", cloud.borrow().calls);
    }
    assert_eq!(rows(&cloud), expected);
}

#[test]
fn a_route_of_somebody_elses_for_this_subnet_is_named_and_stays() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "NAT", "nat-1");
    let error = bench(&cloud).tick().expect_err("refused");
    for part in [OWN, "rtb-main", "NAT nat-1", "remove it"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(cloud.borrow().changes(), [""; 0]);
}

#[test]
fn a_stale_route_that_cannot_be_removed_keeps_nobody_from_the_own_one() {
    let cloud = cloud();
    cloud.borrow_mut().add("10.5.9.0/24", "NORMAL_CVM", &me());
    let mut bench = bench(&cloud);
    cloud.borrow_mut().faults.insert("DeleteRoutes", vec![Fault::Refused("UnauthorizedOperation"); 9].into());
    assert!(bench.tick().is_ok());
    assert!(rows(&cloud).contains(&row(OWN, &me())));
    let error = bench.tick().expect_err("the stale one");
    assert!(error.contains("grant vpc:DeleteRoutes"), "{error}");
}

#[test]
fn an_answer_that_is_lost_makes_nothing_twice() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    cloud.borrow_mut().faults.insert("CreateRoutes", [Fault::Lost].into());
    let error = bench.tick().expect_err("nobody knows");
    assert!(error.contains("CreateRoutes") && error.contains("breaks off"), "{error}");
    // Reads do not show it yet: it is asked for again, and refused.
    cloud.borrow_mut().seen = Some(Vec::new());
    assert!(bench.tick().expect("waits") < Some(INTERVAL));
    cloud.borrow_mut().seen = None;
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, &me())]);
}

#[test]
fn a_removed_route_that_reads_still_show_is_no_error() {
    let cloud = cloud();
    cloud.borrow_mut().add(OWN, "NORMAL_CVM", "192.0.2.250");
    let seen = cloud.borrow().rows.clone();
    let mut bench = bench(&cloud);
    bench.tick().expect("removes");
    cloud.borrow_mut().seen = Some(seen);
    bench.tick().expect("waits");
    cloud.borrow_mut().seen = None;
    settle(&mut bench, &cloud);
    assert_eq!(rows(&cloud), [row(OWN, &me())]);
}

#[test]
fn a_cloud_that_is_busy_is_asked_again_and_in_the_end_named() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    cloud.borrow_mut().faults.insert("CreateRoutes", vec![Fault::Refused("ResourceInUse"); 40].into());
    let ticks: Vec<_> = (0..35).map(|_| bench.tick()).collect();
    assert!(ticks[..20].iter().all(Result::is_ok), "{ticks:?}");
    let error = ticks[34].clone().expect_err("long enough");
    assert!(error.contains("CreateRoutes") && error.contains("ResourceInUse"), "{error}");
    cloud.borrow_mut().faults.clear();
    settle(&mut bench, &cloud);
}

#[test]
fn a_full_table_is_named_with_its_routes() {
    let cloud = cloud();
    cloud.borrow_mut().quota = 3;
    for number in 1..=3 {
        cloud.borrow_mut().add(&format!("10.7.{number}.0/24"), "NORMAL_CVM", "192.0.2.250");
    }
    let mut bench = bench(&cloud);
    let error = bench.tick().expect_err("full");
    for part in ["rtb-main is full", "custom routes: 3", "LimitExceeded"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
    cloud.borrow_mut().quota = 4;
    settle(&mut bench, &cloud);
}

#[test]
fn what_is_wrong_with_keys_and_permissions_is_one_clear_line() {
    for (code, said) in [
        ("UnauthorizedOperation", "grant vpc:DescribeRouteTables "),
        ("UnauthorizedOperation.CamNoAuth", "flanneld plugin inspect"),
        ("AuthFailure.UnauthorizedOperation", "grant vpc:DescribeRouteTables "),
        ("AuthFailure.SignatureFailure", "right would be a SecretId and its SecretKey as AccessKeyID"),
        ("AuthFailure.SecretIdNotFound", "does not take the credentials"),
        ("AuthFailure.SignatureExpire", "is the clock of this node right?"),
        ("InternalError", "answers InternalError: No way. (request R-1)"),
    ] {
        let cloud = cloud();
        let mut bench = bench(&cloud);
        cloud.borrow_mut().faults.insert("DescribeRouteTables", [Fault::Refused(code)].into());
        let error = bench.tick().expect_err("told");
        assert!(error.contains(said) && error.contains(code) && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn answers_without_sense_in_them_are_told() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    for (status, body) in [
        (200, ""),
        (200, "[]"),
        (200, "{}"),
        (200, r#"{"Response":{"RouteTableSet":7}}"#),
        (200, r#"{"Response":{"RouteTableSet":[{}]}}"#),
        (200, r#"{"Response":{"RouteTableSet":[]}}"#),
        (502, "<html>"),
    ] {
        with(|host| {
            let answer = Response { status, body: body.to_owned(), ..Response::default() };
            host.cloud = Some(Box::new(move |_| Ok(answer.clone())));
        });
        let error = bench.tick().expect_err("no sense in it");
        let said = ["not what Tencent Cloud documents", "answers 502", "no main route table"];
        assert!(said.iter().any(|text| error.contains(text)), "{error}");
    }
}

#[test]
fn a_machine_that_is_in_no_vpc_or_has_another_address_is_told_so() {
    let cloud = cloud();
    let mut bench = bench(&cloud);
    with(|host| host.instance.as_mut().expect("an instance").interfaces[0].network.clear());
    assert!(bench.tick().expect_err("nowhere").contains("is this instance in one?"));
    with(|host| host.instance.as_mut().expect("an instance").interfaces[0].addresses.truncate(1));
    let error = bench.tick().expect_err("another address");
    assert!(error.contains(&me()) && error.contains(ALIAS) && error.contains("--iface"), "{error}");
}
