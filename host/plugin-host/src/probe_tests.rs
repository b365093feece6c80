//! What a plugin may have probed, and what becomes of that when peers come and go.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flannel_model::entry::{Device, Entry};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::PeerId;
use tempfile::TempDir;
use wasmtime::component::Resource;

use super::*;
use crate::bindings::flannel::backend::links::{self, Host as _};
use crate::bindings::flannel::backend::probe::{self as wit, Host as _};
use crate::bindings::flannel::backend::types::IpFamily;
use crate::call::{Call, Function};
use crate::capability::{HostState, LinkHandle};
use crate::convert;
use crate::log_rate::LogRate;
use crate::probing::Probing;
use crate::series::PluginSeries;
use crate::tests::{environment, start_in};
use crate::watchdog::Watchdog;

const PEER: u64 = 3;

/// What is known of addresses, and whether anything can be probed.
#[derive(Default)]
struct FakeProbes {
    known: Mutex<HashMap<IpAddr, ProbeReport>>,
    unavailable: Mutex<Option<bool>>,
}

impl Probes for FakeProbes {
    fn unavailable(&self, ipv4: bool) -> Option<String> {
        let unavailable = *self.unavailable.lock().expect("unlocked");
        (unavailable == Some(ipv4)).then(|| "no CAP_NET_RAW".to_owned())
    }

    fn reports(&self, targets: &mut dyn Iterator<Item = &ProbeKey>) -> Vec<Option<ProbeReport>> {
        let known = self.known.lock().expect("unlocked");
        targets.map(|key| known.get(&key.address).copied()).collect()
    }
}

impl FakeProbes {
    fn know(&self, address: &str, report: ProbeReport) {
        self.known.lock().expect("unlocked").insert(address.parse().expect("an address"), report);
    }
}

fn lease() -> Lease {
    let subnets = Subnets {
        v4: Some("10.5.3.0/24".parse().expect("a subnet")),
        v6: Some("fc00:5:0:3::/64".parse().expect("a subnet")),
    };
    let attributes = Attributes {
        public_ip: Some([192, 168, 0, 3].into()),
        public_ipv6: Some("fd77::3".parse().expect("an address")),
        ..Attributes::default()
    };
    Lease { subnets, attributes, expires: None }
}

/// A plugin in a call about one peer, without the plugin.
struct Bench {
    state: HostState,
    probes: Arc<FakeProbes>,
    _directory: TempDir,
    _watchdog: Watchdog,
}

fn target(address: &str) -> wit::Target {
    wit::Target {
        peer: PEER,
        address: convert::address_out(address.parse().expect("an address")),
        over: None,
        size: None,
        interval: 1000,
        lost_after: 3,
        back_after: 2,
    }
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let watchdog = Watchdog::start(engine::native().expect("engine")).expect("watchdog");
        let mut environment = environment(r#"{"Type":"test"}"#);
        let probes = Arc::new(FakeProbes::default());
        environment.probes = Arc::clone(&probes) as Arc<dyn Probes>;
        let state = HostState::new(
            "test".to_owned(),
            Limits::default(),
            environment,
            Arc::new(DirState::open(directory.path())),
            watchdog.pauser(),
            LogRate::new(Instant::now()),
            PluginSeries::default(),
        );
        let mut bench = Self { state, probes, _directory: directory, _watchdog: watchdog };
        bench.state.own = Some(Subnets { v4: Some("10.5.72.0/24".parse().expect("a subnet")), v6: None });
        bench.begin(Function::Apply);
        bench
    }

    fn begin(&mut self, function: Function) {
        self.state.call = Call::new(function);
        if function == Function::Apply {
            self.state.call.peers.push(PeerId(PEER), Arc::new(lease()));
        }
    }

    fn own_device(&mut self) -> Resource<LinkHandle> {
        self.begin(Function::Register);
        let (name, family) = ("flannel.1".to_owned(), IpFamily::Ipv4);
        let device =
            links::Vxlan { name, vni: 1, port: None, family, learning: false, gbp: false, mtu: 1400 };
        let device = self.state.ensure_vxlan(device).expect("no trap").expect("a device");
        self.begin(Function::Apply);
        device
    }

    fn watch(&mut self, targets: Vec<wit::Target>) -> Result<(), String> {
        self.state.watch(targets).expect("no trap").map_err(|error| format!("{error:?}"))
    }

    fn refuses(&mut self, target: wit::Target, words: &str) {
        let before = self.state.call.wishes.probes.clone();
        let refused = self.watch(vec![target]).expect_err("it is refused");
        assert!(refused.contains(words), "{refused}");
        assert_eq!(self.state.call.wishes.probes, before, "nothing has changed");
        assert!(self.state.call.refused.take().is_some(), "the call is doomed");
    }

    /// What the call has declared.
    fn declared(&self) -> Vec<ProbeTarget> {
        self.state.call.wishes.probes.as_ref().expect("declared").to_vec()
    }
}

#[test]
fn targets_are_addresses_that_the_peer_has_published_and_those_in_its_subnet() {
    let mut bench = Bench::new();
    let device = bench.own_device();
    let external = bench.state.external().expect("no trap");
    let over = wit::Target { over: Some(external), size: Some(1500), ..target("192.168.0.3") };
    let inner = wit::Target { over: Some(device), ..target("10.5.3.0") };
    let all = vec![target("192.168.0.3"), over, target("fd77::3"), inner, target("fc00:5:0:3::7")];
    bench.watch(all).expect("they may be probed");
    let declared = bench.declared();
    let said: Vec<String> = declared
        .iter()
        .map(|target| {
            let ProbeKey { peer, address, over, size } = &target.key;
            format!("{} {address} {over:?} {size} {:?}", peer.0, target.source)
        })
        .collect();
    assert_eq!(
        said,
        [
            "3 192.168.0.3 None 44 None",
            "3 192.168.0.3 Some(\"eth0\") 1500 None",
            "3 fd77::3 None 64 None",
            "3 10.5.3.0 Some(\"flannel.1\") 44 Some(10.5.72.0)",
            "3 fc00:5:0:3::7 None 64 None",
        ]
    );
    assert_eq!(declared[0].interval, Duration::from_secs(1));
    assert_eq!((declared[0].lost_after, declared[0].back_after), (3, 2));
    bench.refuses(
        target("192.168.0.4"),
        "is not an address that the peer has published, and not in its subnet, 10.5.3.0/24",
    );
    bench.refuses(target("10.5.72.1"), "Denied");
    bench.refuses(target("10.5.4.1"), "Denied");
    bench.refuses(target("fd77::4"), "Denied");
    bench.refuses(target("224.0.0.1"), "is no host's address");
    bench.refuses(target("127.0.0.1"), "InvalidArgument");
}

#[test]
fn numbers_have_their_bounds_and_no_target_is_there_twice() {
    let mut bench = Bench::new();
    let public = || target("192.168.0.3");
    let v6 = || target("fd77::3");
    bench.refuses(wit::Target { interval: 999, ..public() }, "999 ms is not between 1000 and 3600000");
    bench.refuses(wit::Target { interval: 3_600_001, ..public() }, "is not between");
    bench.refuses(
        wit::Target { lost_after: 0, ..public() },
        "lost-after is 0, which is not between 1 and 100",
    );
    bench.refuses(wit::Target { lost_after: 101, ..public() }, "lost-after is 101");
    bench.refuses(wit::Target { back_after: 0, ..public() }, "back-after is 0");
    bench.refuses(wit::Target { size: Some(43), ..public() }, "43 bytes is not between 44 and 9216");
    bench.refuses(wit::Target { size: Some(63), ..v6() }, "63 bytes is not between 64 and 9216");
    bench.refuses(wit::Target { size: Some(9217), ..public() }, "9217 bytes");
    bench.refuses(wit::Target { size: Some(u32::MAX), ..public() }, "4294967295 bytes");
    // The smallest is the smallest, said or not.
    let twice = bench.watch(vec![public(), wit::Target { size: Some(44), interval: 5000, ..public() }]);
    assert!(twice.expect_err("refused").contains("peer #3, 192.168.0.3 with 44 bytes is there twice"));
    bench.begin(Function::Apply);
    let largest = wit::Target { size: Some(9216), interval: 3_600_000, lost_after: 100, ..public() };
    bench.watch(vec![public(), largest, wit::Target { size: Some(64), ..v6() }]).expect("within bounds");
    let many =
        |count: u32| (0..count).map(|n| wit::Target { peer: 100 + u64::from(n), ..public() }).collect();
    bench.watch(many(32_768)).expect("so many may be");
    let refused = bench.watch(many(32_769)).expect_err("one more may not");
    assert!(refused.contains("LimitExceeded(\"32769 targets; at most 32768\")"), "{refused}");
}

#[test]
fn nothing_is_probed_before_there_are_peers_and_after_the_end() {
    let mut bench = Bench::new();
    for (function, words) in [(Function::Register, "in register"), (Function::Retire, "in retire")] {
        bench.begin(function);
        bench.refuses(target("192.168.0.3"), words);
        let report = bench.state.report(target("192.168.0.3")).expect("no trap");
        assert!(matches!(report, Err(wit::Error::Denied(_))), "{report:?}");
        assert!(matches!(bench.state.reports().expect("no trap"), Err(wit::Error::Denied(_))));
    }
    bench.begin(Function::Describe);
    bench.state.watch(Vec::new()).expect_err("a trap");
    bench.state.reports().expect_err("a trap");
    for function in [Function::LeaseAcquired, Function::Tick] {
        bench.begin(function);
        bench.watch(Vec::new()).expect("nothing may be declared");
        // Nobody knows that peer.
        bench.watch(vec![target("192.168.0.4")]).expect("it is ignored");
        assert!(matches!(bench.state.report(target("192.168.0.4")), Ok(Ok(None))));
        assert!(bench.state.call.refused.is_none());
    }
}

#[test]
fn what_cannot_be_probed_dooms_no_call() {
    let mut bench = Bench::new();
    *bench.probes.unavailable.lock().expect("unlocked") = Some(false);
    bench.watch(vec![target("192.168.0.3")]).expect("IPv4 can be");
    let refused = bench.watch(vec![target("192.168.0.3"), target("fd77::3")]).expect_err("IPv6 cannot");
    assert!(refused.contains("Unavailable(\"no CAP_NET_RAW\")"), "{refused}");
    assert!(bench.state.call.refused.is_none());
    assert_eq!(bench.declared().len(), 1, "what was declared before stays");
    bench.watch(Vec::new()).expect("nothing can always be");
}

#[test]
fn reports_come_in_the_order_of_the_targets_and_only_of_peers_that_are_there() {
    let mut bench = Bench::new();
    let report = ProbeReport {
        condition: ProbeCondition::Lost,
        sent: 9,
        answered: 4,
        lost_in_a_row: 5,
        window: 9,
        window_lost: 5,
        round_trip: Some(RoundTrip { least: 1, mean: 2, last: 3 }),
        since_answer: Some(Duration::from_millis(2500)),
        interval: Duration::from_secs(2),
    };
    bench.probes.know("fd77::3", report);
    let stranger = wit::Target { peer: 8, ..target("fd77::3") };
    bench.watch(vec![target("192.168.0.3"), target("fd77::3"), stranger]).expect("declared");
    let reports = bench.state.reports().expect("no trap").expect("reports");
    assert!(matches!(reports[..], [None, Some(_), None]), "{reports:?}");
    let one = bench.state.report(target("fd77::3")).expect("no trap").expect("a report").expect("known");
    assert_eq!((one.condition, one.sent, one.answered), (wit::Condition::Lost, 9, 4));
    assert_eq!((one.lost_in_a_row, one.window, one.window_lost), (5, 9, 5));
    assert_eq!(one.round_trip.map(|times| (times.least, times.mean, times.last)), Some((1, 2, 3)));
    assert_eq!((one.since_answer, one.interval), (Some(2500), 2000));
    let wrong = bench.state.report(wit::Target { size: Some(1), ..target("fd77::3") }).expect("no trap");
    assert!(matches!(wrong, Err(wit::Error::InvalidArgument(_))), "{wrong:?}");
}

fn put(lease: &Lease) -> PeerChange {
    PeerChange::Put(PeerId(PEER), Arc::new(lease.clone()))
}

#[test]
fn a_peer_that_goes_takes_its_targets_along_and_brings_them_back() {
    let probing = Probing::default();
    let key = |address: &str| ProbeKey {
        peer: PeerId(PEER),
        address: address.parse().expect("an address"),
        over: None,
        size: 64,
    };
    let declared: Vec<ProbeTarget> = ["192.168.0.3", "10.5.3.0"]
        .into_iter()
        .map(|address| ProbeTarget {
            key: key(address),
            source: None,
            interval: Duration::from_secs(1),
            lost_after: 1,
            back_after: 1,
        })
        .collect();
    probing.told(&[put(&lease())]);
    probing.declare(declared.clone().into());
    assert_eq!(probing.take(), Some(declared.clone()));
    // The same again is no news.
    probing.told(&[put(&lease())]);
    probing.declare(declared.clone().into());
    assert_eq!(probing.take(), None);
    // Another public address: the former one is nobody's, whether the policy has taken that or not.
    let mut elsewhere = lease();
    elsewhere.attributes.public_ip = Some([192, 168, 0, 33].into());
    probing.put_off(&[put(&elsewhere)]);
    assert_eq!(probing.take(), Some(Vec::new()));
    probing.told(&[put(&elsewhere)]);
    assert_eq!(probing.take(), Some(declared[1..].to_vec()));
    probing.told(&[put(&lease())]);
    assert_eq!(probing.take(), Some(declared.clone()));
    // A call that fails about the same lease costs nothing.
    probing.put_off(&[put(&lease())]);
    assert_eq!(probing.take(), None);
    // A fresh instance has declared nothing, and until it does all goes on.
    probing.begin_instance();
    assert!(probing.declared().is_empty() && probing.take().is_none());
    probing.take_along(&[PeerChange::Removed(PeerId(9)), PeerChange::Removed(PeerId(PEER))]);
    assert_eq!(probing.take(), Some(Vec::new()));
}

#[test]
fn a_component_goes_by_what_its_probes_say() {
    let probes = Arc::new(FakeProbes::default());
    let mut environment = environment(r#"{"Type":"failover"}"#);
    environment.probes = Arc::clone(&probes) as Arc<dyn Probes>;
    let mut bench = start_in("failover", environment, Limits::default()).expect("starts");
    let policy = &mut bench.policy;
    let lease = Lease {
        attributes: Attributes {
            backend_type: "failover".to_owned(),
            backend_data: serde_json::value::RawValue::from_string(
                r#"{"VtepMAC":"02:00:00:00:00:03"}"#.to_owned(),
            )
            .ok(),
            public_ipv6: None,
            ..lease().attributes
        },
        subnets: Subnets { v6: None, ..lease().subnets },
        ..lease()
    };
    let by_tunnel = |outcome: ApplyOutcome| {
        let entries = outcome.transaction.peers[&PeerId(PEER)].clone().unwrap_or_default();
        entries.iter().any(|entry| matches!(entry, Entry::Route { device: Device::Own(_), .. }))
    };
    let applied = policy.apply(&[put(&lease)]);
    assert!(applied.failures.is_empty(), "{:?}", applied.failures);
    assert!(applied.rejected.is_empty(), "{:?}", applied.rejected);
    assert!(!by_tunnel(applied));
    let targets = policy.take_probes().expect("it has something probed");
    assert_eq!(targets.len(), 1, "{targets:?}");
    assert_eq!(targets[0].key.over.as_deref(), Some("eth0"));
    policy.tick().expect("ticks");
    assert!(policy.take_refreshes().is_empty() && policy.take_probes().is_none());
    probes.know("192.168.0.3", ProbeReport { condition: ProbeCondition::Lost, ..ProbeReport::default() });
    policy.tick().expect("ticks");
    assert!(policy.take_refreshes().contains(&PeerId(PEER)));
    assert!(by_tunnel(policy.apply(&[put(&lease)])));
    policy.apply(&[PeerChange::Removed(PeerId(PEER))]);
    assert_eq!(policy.take_probes(), Some(Vec::new()));
}
