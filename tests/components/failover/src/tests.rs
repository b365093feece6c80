//! By which way whom.

use flannel_backend::testing::{Bench, Host, Probed, samples, with};

use super::*;

const MAC: &str = r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:03"}"#;

fn bench(options: &[(&str, &str)]) -> Bench<Failover> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let host = Host { options, ..Host::default() };
    let bench = Bench::register_on(host, &samples::node(true, true), "{}").expect("registers");
    flannel_backend::testing::taken();
    bench
}

fn peer() -> Lease {
    Lease {
        backend_data: Some(MAC.to_owned()),
        backend_v6_data: Some(MAC.to_owned()),
        ..samples::peer("failover")
    }
}

fn target(address: &str) -> Probed {
    let over = Some("eth0".to_owned());
    Probed { peer: PeerId(1), address: address.parse().expect("an address"), over, size: None }
}

/// A target is in this condition.
fn is(address: &str, condition: Condition) {
    with(|host| host.reports.insert(target(address), Figures { condition, ..Figures::default() }));
}

fn routes(bench: &mut Bench<Failover>) -> Vec<String> {
    let mut declared = bench.put(1, &peer()).expect("declares");
    bench.policy.applied().expect("goes on");
    declared.retain(|line| line.starts_with("route"));
    declared
}

#[test]
fn a_peer_is_reached_by_the_tunnel_as_long_as_its_plain_way_is_lost_each_family_for_itself() {
    let mut bench = bench(&[]);
    let plain =
        ["route 10.5.3.0/24 via 192.168.0.101 dev eth0", "route fc00:5:0:3::/64 via fd77::101 dev eth0"];
    assert_eq!(routes(&mut bench), plain);
    assert_eq!(with(|host| host.probed.clone()), [target("fd77::101"), target("192.168.0.101")]);
    bench.tick().expect("ticks");
    assert_eq!(with(|host| std::mem::take(&mut host.refreshed)), []);
    is("192.168.0.101", Condition::Lost);
    is("fd77::101", Condition::Answered);
    assert_eq!(bench.tick().expect("ticks"), Some(TICK));
    assert_eq!(with(|host| std::mem::take(&mut host.refreshed)), [PeerId(1)]);
    assert_eq!(routes(&mut bench), ["route 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink", plain[1]]);
    bench.tick().expect("ticks");
    assert_eq!(with(|host| std::mem::take(&mut host.refreshed)), [], "it is so already");
    is("192.168.0.101", Condition::Answered);
    bench.tick().expect("ticks");
    assert_eq!(with(|host| std::mem::take(&mut host.refreshed)), [PeerId(1)]);
    assert_eq!(routes(&mut bench), plain);
}

#[test]
fn who_was_reached_by_the_tunnel_stays_so_after_a_restart_until_the_plain_way_answers() {
    let mut first = bench(&[]);
    is("192.168.0.101", Condition::Lost);
    routes(&mut first);
    let state = with(|host| host.state.clone());
    assert_eq!(state[BY_TUNNEL], b"192.168.0.101");
    let mut second =
        Bench::<Failover>::register_on(Host { state, ..Host::default() }, &samples::node(true, true), "{}")
            .expect("registers");
    assert!(routes(&mut second)[0].ends_with("dev flannel.1 onlink"));
    is("192.168.0.101", Condition::Answered);
    assert!(routes(&mut second)[0].ends_with("dev eth0"));
    assert_eq!(with(|host| host.state[BY_TUNNEL].clone()), b"");
}

#[test]
fn where_nothing_can_be_probed_ways_stay_as_they_are_and_the_operator_is_told_once() {
    let mut bench = bench(&[]);
    with(|host| host.no_probes = Some("no CAP_NET_RAW".to_owned()));
    let plain = routes(&mut bench);
    bench.tick().expect("ticks");
    assert_eq!(routes(&mut bench), plain);
    assert_eq!(with(|host| host.log.len()), 1);
    bench.policy.removed(PeerId(1));
    with(|host| host.no_probes = None);
    bench.tick().expect("ticks");
    assert_eq!(with(|host| host.probed.len()), 0, "who is gone is not probed");
}

#[test]
fn options_that_are_no_numbers_are_refused() {
    let options = BTreeMap::from([("size".to_owned(), "big".to_owned())]);
    let host = Host { options, ..Host::default() };
    let refused = Bench::<Failover>::register_on(host, &samples::node(true, false), "{}").err();
    assert_eq!(refused.as_deref(), Some("the option size: \"big\" is no number"));
}
