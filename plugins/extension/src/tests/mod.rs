//! Leases in, commands out.

mod node;

use std::collections::BTreeMap;
use std::time::Duration;

use flannel_backend::commands::{Error, Outcome};
use flannel_backend::log::Level;
use flannel_backend::testing::{Bench, samples, with};
use flannel_backend::{PeerId, Policy as _};

use super::*;
use node::{ALL, Shared, at, host, own, peer, restarted, said, start_on, started, with_data};

const ADD: &str = r"SubnetAdd SUBNET=10.5.3.0/24 PUBLIC_IP=192.168.0.101 <\n>";
const REMOVE: &str = r"SubnetRemove SUBNET=10.5.3.0/24 PUBLIC_IP=192.168.0.101 <\n>";

fn shell() -> Shared {
    Shared::default()
}

fn ran(shell: &Shared) -> Vec<String> {
    shell.borrow_mut().taken()
}

fn fails(shell: &Shared, name: &'static str) {
    shell.borrow_mut().ends.insert(name, Ok(said(7, "no luck")));
}

fn warnings() -> Vec<String> {
    let lines = with(|host| std::mem::take(&mut host.log));
    lines.into_iter().filter(|(level, _)| *level == Level::Warn).map(|(_, line)| line).collect()
}

/// The peers that the host has been asked for.
fn refreshed() -> Vec<PeerId> {
    with(|host| std::mem::take(&mut host.refreshed))
}

#[test]
fn what_the_command_before_the_start_says_is_published_and_the_one_after_it_is_told_of_the_node() {
    let shell = shell();
    let node = samples::node(true, true);
    let mut bench =
        Bench::<ExtensionPolicy>::register_on(host(&shell, BTreeMap::new()), &node, ALL).expect("registered");
    bench.lease_acquired(&samples::own()).expect("taken");
    let published = &bench.registration;
    assert_eq!((published.backend_type.as_str(), published.mtu), ("extension", 1500));
    assert_eq!(published.backend_data.as_deref(), Some(r#""9e:01 <&>""#));
    assert_eq!(published.backend_v6_data, None);
    let post = r"PostStartup NETWORK=10.5.0.0/16 IPV6NETWORK=fc00:5::/48 PUBLIC_IP=192.168.0.100 PUBLIC_IPV6=fd77::100 SUBNET=10.5.72.0/24 IPV6SUBNET=fc00:5:0:72::/64 <\n>";
    assert_eq!(ran(&shell), [r"PreStartup <\n>", post]);
    // The same lease again is no other start.
    bench.lease_acquired(&samples::own()).expect("taken");
    assert_eq!(ran(&shell), [""; 0]);
    bench.lease_acquired(&own()).expect("taken");
    assert_eq!(ran(&shell).len(), 1);
}

#[test]
fn without_commands_there_is_nothing_to_publish_and_nothing_to_do() {
    let shell = shell();
    for config in [r#"{"Type":"extension"}"#, r#"{"PreStartupCommand":null,"SubnetAddCommand":""}"#] {
        let mut bench = started(&shell, config);
        assert_eq!(bench.registration.backend_data, None);
        assert_eq!(bench.put(1, &peer()).expect("served"), [""; 0]);
        bench.policy.removed(PeerId(1));
        assert_eq!(bench.retire(), Ok(None));
        assert_eq!(ran(&shell), [""; 0]);
    }
}

#[test]
fn a_start_whose_commands_fail_is_none() {
    let shell = shell();
    let start = |config: &str| {
        let bench = Bench::<ExtensionPolicy>::register_on(
            host(&shell, BTreeMap::new()),
            &samples::node(true, false),
            config,
        );
        bench.and_then(|mut bench| bench.lease_acquired(&own()))
    };
    for (name, end, words) in [
        (
            "PreStartup",
            Ok(said(7, "a\n\nb\n")),
            "PreStartupCommand has failed with exit status 7, and said: a; b",
        ),
        ("PreStartup", Ok(said(1, "")), "and said: nothing"),
        ("PreStartup", Ok(Outcome { truncated: true, ..said(0, "x") }), "more than 64 KiB"),
        (
            "PreStartup",
            Ok(said(0, &"\u{1}".repeat(60_000))),
            "360002 bytes, which are published: at most 65536",
        ),
        ("PreStartup", Err(Error::Unavailable("no sh".to_owned())), "no sh"),
        ("PostStartup", Ok(said(7, "no")), "PostStartupCommand has failed"),
    ] {
        shell.borrow_mut().ends = BTreeMap::from([(name, end)]);
        let error = start(ALL).expect_err("refused");
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
    let error = start(r#"{"SubnetAddCommand":["ip"]}"#).expect_err("refused");
    assert_eq!(error, r#"SubnetAddCommand: ["ip"] is not a text in quotes"#);
}

#[test]
fn a_peer_is_added_once_with_its_data_as_input() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    ran(&shell);
    for _ in 0..2 {
        bench.put(1, &with_data(r#""$(touch /tmp/x) '\"\n `id`""#)).expect("served");
    }
    let input = r#"$(touch /tmp/x) \'\"\n `id`\n"#;
    assert_eq!(ran(&shell), [format!("SubnetAdd SUBNET=10.5.3.0/24 PUBLIC_IP=192.168.0.101 <{input}>")]);
    bench.policy.removed(PeerId(1));
    assert_eq!(ran(&shell), [format!("SubnetRemove SUBNET=10.5.3.0/24 PUBLIC_IP=192.168.0.101 <{input}>")]);
    bench.policy.removed(PeerId(1));
    assert_eq!((ran(&shell), warnings()), (vec![], vec![]));
}

#[test]
fn both_families_are_in_the_environment() {
    let shell = shell();
    let mut bench = start_on(&shell, &samples::node(true, true), ALL, BTreeMap::new());
    ran(&shell);
    bench.put(1, &samples::peer("extension")).expect("served");
    let both = r"SubnetAdd SUBNET=10.5.3.0/24 IPV6SUBNET=fc00:5:0:3::/64 PUBLIC_IP=192.168.0.101 PUBLIC_IPV6=fd77::101 <\n>";
    assert_eq!(ran(&shell), [both]);
    let v6 = Lease { ipv4_subnet: None, public_ipv4: None, ..samples::peer("extension") };
    bench.put(2, &v6).expect("served");
    assert_eq!(ran(&shell), [r"SubnetAdd IPV6SUBNET=fc00:5:0:3::/64 PUBLIC_IPV6=fd77::101 <\n>"]);
}

#[test]
fn peers_of_other_backends_and_with_data_of_others_are_not_served() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    ran(&shell);
    let other = Lease { backend_type: "vxlan".to_owned(), ..peer() };
    bench.put(1, &other).expect("ignored");
    for data in [r#"{"VNI":1}"#, "7", "[]", "\"", ""] {
        assert_eq!(bench.put(1, &with_data(data)).expect_err("rejected"), "BackendData is no text in quotes");
    }
    assert_eq!(ran(&shell), [""; 0]);
    bench.put(1, &with_data("null")).expect("no data");
    assert_eq!(ran(&shell), [ADD]);
    // One that is no peer of ours any more is removed as it was.
    bench.put(1, &other).expect("ignored");
    assert_eq!(ran(&shell), [REMOVE]);
}

#[test]
fn a_peer_that_changes_is_removed_as_it_was_and_added_as_it_is() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    bench.put(1, &peer()).expect("served");
    ran(&shell);
    bench.put(1, &at(7)).expect("served");
    assert_eq!(ran(&shell), [REMOVE, r"SubnetAdd SUBNET=10.5.3.0/24 PUBLIC_IP=192.168.0.7 <\n>"]);
    bench.put(1, &with_data(r#""x""#)).expect("served");
    assert_eq!(ran(&shell).len(), 2);
    fails(&shell, "SubnetRemove");
    bench.put(1, &peer()).expect_err("what could not be removed is in the way");
    assert_eq!(warnings().len(), 1);
}

#[test]
fn one_that_fails_is_rejected_and_tried_again_each_time_after_a_removal() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    // Somebody else's.
    shell.borrow_mut().routes.insert("10.5.3.0/24".to_owned(), "10.0.0.9".to_owned());
    ran(&shell);
    let words = "SubnetAddCommand has failed with exit status 2, and said: RTNETLINK answers: File exists; second line";
    assert_eq!(bench.put(1, &peer()).expect_err("rejected"), words);
    assert_eq!(ran(&shell), [ADD]);
    let waits: Vec<u64> = (0..8)
        .map(|_| {
            let wait = bench.tick().expect("well").expect("again").as_secs();
            assert_eq!(refreshed(), [PeerId(1)]);
            assert_eq!(bench.put(1, &peer()).expect_err("rejected"), words);
            assert_eq!(ran(&shell), [REMOVE, ADD]);
            wait
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    shell.borrow_mut().routes.clear();
    bench.put(1, &peer()).expect("served");
    assert_eq!(bench.tick(), Ok(Some(INTERVAL)));
    assert_eq!(refreshed(), []);
    assert_eq!(warnings(), [""; 0], "a rejection is told by the host");
}

#[test]
fn after_a_restart_what_is_there_stays_and_what_is_in_the_way_is_removed_first() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    bench.put(1, &peer()).expect("served");
    // The kernel has it: `ip route add` fails, and the peer was added by the run before.
    let mut bench = restarted(&shell, ALL);
    bench.put(9, &peer()).expect("served");
    assert_eq!(ran(&shell), [ADD, REMOVE, ADD]);
    // The machine was rebooted.
    let mut bench = restarted(&shell, ALL);
    shell.borrow_mut().routes.clear();
    bench.put(5, &peer()).expect("served");
    assert_eq!(ran(&shell), [ADD]);
    // The peer has another address by now.
    let mut bench = restarted(&shell, ALL);
    bench.put(5, &at(7)).expect("served");
    assert_eq!(ran(&shell), [REMOVE, r"SubnetAdd SUBNET=10.5.3.0/24 PUBLIC_IP=192.168.0.7 <\n>"]);
    assert_eq!(warnings(), [""; 0]);
}

#[test]
fn peers_that_have_gone_while_the_daemon_was_away_are_removed_when_none_of_them_can_turn_up_any_more() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    bench.put(1, &peer()).expect("served");
    let mut bench = restarted(&shell, ALL);
    let later = |time: Duration| with(|host| host.now += time);
    bench.tick().expect("well");
    later(GRACE.saturating_sub(Duration::from_millis(1)));
    bench.tick().expect("well");
    assert_eq!(ran(&shell), [""; 0]);
    later(Duration::from_millis(1));
    bench.tick().expect("well");
    assert_eq!(ran(&shell), [REMOVE]);
    // For good.
    restarted(&shell, ALL).retire().expect("well");
    assert_eq!(ran(&shell), [""; 0]);
}

#[test]
fn at_its_end_it_removes_all_that_it_has_added_some_at_a_time() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    for number in 0..40 {
        let subnet = Ipv4Net::new_assert([10, 5, number, 0].into(), 24);
        bench.put(number.into(), &Lease { ipv4_subnet: Some(subnet), ..peer() }).expect("served");
    }
    ran(&shell);
    assert_eq!(bench.retire(), Ok(Some(Duration::from_millis(100))));
    assert_eq!(ran(&shell).len(), REMOVALS);
    while bench.retire().expect("well").is_some() {}
    assert_eq!(ran(&shell).len(), 40 - REMOVALS);
    assert!(shell.borrow().routes.is_empty());
    assert!(with(|host| host.state.is_empty()));
}

#[test]
fn what_it_remembers_has_room_in_the_store_however_much_there_is() {
    let shell = shell();
    let mut bench = started(&shell, ALL);
    for number in 0..12_000_u32 {
        let address = u32::from(std::net::Ipv4Addr::new(10, 128, 0, 0)) + number * 256;
        let subnet = Ipv4Net::new_assert(address.into(), 24);
        let data = format!("\"{}\"", "x".repeat(if number % 100 == 0 { 60_000 } else { 100 }));
        let lease = Lease { ipv4_subnet: Some(subnet), backend_data: Some(data), ..peer() };
        // Written for each; the last of them are enough.
        if number >= 11_900 {
            bench.put(number.into(), &lease).expect("served");
        } else {
            bench.policy.ledger.hold(&Peer::key_of(&lease), Peer::of(&lease).expect("right"));
        }
    }
    with(|host| {
        assert!(host.state.len() <= 64 && host.state.values().all(|value| value.len() <= 16 << 10));
    });
    assert_eq!(warnings().len(), 1);
    let bench = restarted(&shell, ALL);
    assert!(bench.policy.ledger.former().len() > 50);
}

#[test]
fn a_store_that_makes_no_sense_is_an_empty_one() {
    let shell = shell();
    let state = ["", "7", "{}", r#"{"10.5.3.0/24":7}"#, r#"{"10.5.3.0/24":["x","","",""]}"#];
    let pages = state.iter().enumerate().map(|(at, text)| (format!("peers-{at}"), text.as_bytes().to_vec()));
    let mut bench = start_on(&shell, &samples::node(true, false), ALL, pages.collect());
    assert_eq!(bench.policy.ledger.former(), [""; 0]);
    bench.put(1, &peer()).expect("served");
}
