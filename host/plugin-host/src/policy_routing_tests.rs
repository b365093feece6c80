//! What of routes with attributes and rules a plugin may declare, and what it is told of all else.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Instant;

use flannel_model::entry::{Device, Entry};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::PeerId;
use flannel_model::policy_routing::{Encapsulation, Hop, PacketMark, Rule};
use tempfile::TempDir;
use wasmtime::component::Resource;

use super::*;
use crate::bindings::flannel::backend::links::{self, Host as _, HostLink as _};
use crate::bindings::flannel::backend::policy_routing::{self as wit, Host as _};
use crate::bindings::flannel::backend::routes::{self, Host as _};
use crate::bindings::flannel::backend::types::{IpAddress, IpFamily, IpPrefix};
use crate::call::{Call, Function};
use crate::capability::{HostState, LinkHandle};
use crate::log_rate::LogRate;
use crate::nodes::NodeAddresses;
use crate::series::PluginSeries;
use crate::tests::environment;
use crate::watchdog::Watchdog;

const PEER: u64 = 3;

/// A host with an uplink, `eth1`.
struct Uplinks;

impl LinkFacts for Uplinks {
    fn mac(&self, _: &str, _: u32, _: Family) -> flannel_model::entry::Mac {
        flannel_model::entry::Mac([2, 0, 0, 0, 0, 1])
    }

    fn is_on_link(&self, _: std::net::IpAddr) -> Result<bool, String> {
        Ok(true)
    }

    fn default_vxlan_port(&self) -> u16 {
        8472
    }

    fn wireguard_keys(&self) -> Result<flannel_model::wireguard::Keys, String> {
        Err("there are none".to_owned())
    }

    fn ipsec_key(&self) -> Result<flannel_model::wireguard::PublicKey, String> {
        Err("no keys in this test".to_owned())
    }

    fn uplinks(&self) -> Result<Vec<Uplink>, String> {
        let addresses = vec!["172.16.0.100/24".parse().expect("an address")];
        Ok(vec![Uplink { name: "eth1".to_owned(), mtu: 1400, addresses }])
    }
}

/// A plugin in a call about one peer, without the plugin.
struct Bench {
    state: HostState,
    _directory: TempDir,
    _watchdog: Watchdog,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let watchdog = Watchdog::start(engine::native().expect("engine")).expect("watchdog");
        let mut environment = environment(r#"{"Type":"test"}"#);
        environment.links = Arc::new(Uplinks);
        environment.node.ipv6 = Some("fd77::100".parse().expect("an address"));
        environment.node.ipv6_network = Some("fc00:5::/48".parse().expect("a network"));
        let state = HostState::new(
            "test".to_owned(),
            Limits::default(),
            environment,
            Arc::new(DirState::open(directory.path())),
            watchdog.pauser(),
            LogRate::new(Instant::now()),
            PluginSeries::default(),
        );
        let mut bench = Self { state, _directory: directory, _watchdog: watchdog };
        bench.begin();
        bench
    }

    fn begin(&mut self) {
        let subnets = Subnets {
            v4: Some("10.5.3.0/24".parse().expect("a subnet")),
            v6: Some("fc00:5:0:3::/64".parse().expect("a subnet")),
        };
        self.state.call = Call::new(Function::Apply);
        let attributes = Attributes { public_ipv6: Some(v6("fd77::3")), ..Attributes::default() };
        let lease = Lease { subnets, attributes, expires: None };
        self.state.call.nodes = Arc::new(NodeAddresses::of(["fd77::3", "fd77::4", "fd77::5"].map(v6)));
        self.state.call.peers.push(PeerId(PEER), Arc::new(lease));
    }

    fn external(&mut self) -> Resource<LinkHandle> {
        self.state.external().expect("no trap")
    }

    fn own(&mut self) -> Resource<LinkHandle> {
        self.state.call = Call::new(Function::Register);
        let (name, family) = ("flannel.1".to_owned(), IpFamily::Ipv4);
        let device =
            links::Vxlan { name, vni: 1, port: None, family, learning: false, gbp: false, mtu: 1400 };
        self.state.ensure_vxlan(device).expect("no trap").expect("a device")
    }

    fn uplink(&mut self, name: &str) -> Result<Resource<LinkHandle>, String> {
        self.state.open_uplink(name.to_owned()).expect("no trap").map_err(|error| format!("{error:?}"))
    }

    /// A next hop over the external interface.
    fn near(&mut self, via: &str) -> wit::NextHop {
        let via = Some(address(via));
        wit::NextHop { device: self.external(), via, onlink: false, weight: 1, encapsulation: None }
    }

    /// A next hop over the external interface with this around packets, and without a gateway.
    fn around(&mut self, encapsulation: wit::Encapsulation) -> wit::NextHop {
        let encapsulation = Some(encapsulation);
        wit::NextHop { device: self.external(), via: None, onlink: false, weight: 1, encapsulation }
    }

    fn put(&mut self, route: wit::Route, hops: Vec<wit::NextHop>) -> Result<(), String> {
        self.begin();
        self.put_more(route, hops)
    }

    fn put_more(&mut self, route: wit::Route, hops: Vec<wit::NextHop>) -> Result<(), String> {
        let outcome =
            self.state.put_route(PEER, route, hops).expect("no trap").map_err(|error| format!("{error:?}"));
        assert_eq!(outcome.is_err(), self.state.call.refused.is_some(), "what is refused dooms the call");
        outcome
    }

    fn set_rules(&mut self, rules: Vec<wit::Rule>) -> Result<Vec<Rule>, String> {
        self.begin();
        self.state.set_rules(rules).expect("no trap").map_err(|error| format!("{error:?}"))?;
        Ok(self.state.call.transaction.rules.take().expect("declared").into_iter().collect())
    }
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn segments(nodes: &[&str]) -> wit::Encapsulation {
    let segment = |node: &&str| match address(node) {
        IpAddress::Ipv6(segment) => segment,
        IpAddress::Ipv4(_) => panic!("{node} is of IPv4"),
    };
    wit::Encapsulation::Segments(nodes.iter().map(segment).collect())
}

fn address(text: &str) -> IpAddress {
    convert::address_out(text.parse().expect("an address"))
}

fn prefix(text: &str) -> IpPrefix {
    convert::prefix_out(text.parse().expect("a prefix"))
}

fn route(destination: &str) -> wit::Route {
    let (table, source, mtu, advmss) = (None, None, None, None);
    wit::Route { destination: prefix(destination), table, metric: 200, source, mtu, advmss }
}

fn rule() -> wit::Rule {
    let source = Some(prefix("10.5.72.0/25"));
    wit::Rule { priority: 1, source, destination: None, mark: None, input: None, table: 2 }
}

/// The outcome is a refusal with these words in it.
fn is_refused<T: std::fmt::Debug>(outcome: Result<T, String>, words: &str) {
    let error = outcome.expect_err(words);
    assert!(error.contains(words), "{words:?} is not in {error}");
}

#[test]
fn what_is_declared_has_all_that_was_said() {
    let mut bench = Bench::new();
    let far = bench.uplink("eth1").expect("an uplink");
    assert_eq!(bench.state.mtu(Resource::new_borrow(far.rep())).expect("no trap"), 1400);
    let far = wit::NextHop { device: far, onlink: true, weight: 256, ..bench.near("172.16.0.3") };
    let near = bench.near("192.168.0.3");
    let source = Some(address("172.16.0.100"));
    let whole = wit::Route {
        table: Some(15),
        metric: 1,
        source,
        mtu: Some(65_520),
        advmss: Some(1),
        ..route("10.5.3.128/25")
    };
    bench.put(whole, vec![near, far]).expect("right");
    let entries = &bench.state.call.peers.get_mut(PeerId(PEER)).expect("the peer").entries;
    let [Entry::PolicyRoute(route)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((route.table, route.metric, route.mtu, route.advmss), (Some(15), 1, Some(65_520), Some(1)));
    assert_eq!(route.source, Some([172, 16, 0, 100].into()));
    let hop = |device, via: [u8; 4], onlink, weight| {
        let via = Some(via.into());
        Hop { device, via, onlink, weight, encapsulation: None }
    };
    let hops = [
        hop(Device::External, [192, 168, 0, 3], false, 1),
        hop(Device::Uplink(Arc::new("eth1".to_owned())), [172, 16, 0, 3], true, 256),
    ];
    assert_eq!(*route.hops, hops);
    let mark = Some(wit::Mark { value: 0x10, mask: 0xf0 });
    let inputs = [bench.external(), bench.uplink("eth1").expect("an uplink"), bench.own()];
    for (input, is) in inputs.into_iter().zip([
        Device::External,
        Device::Uplink(Arc::new("eth1".to_owned())),
        Device::Own("flannel.1".into()),
    ]) {
        let rules = bench.set_rules(vec![wit::Rule { mark, input: Some(input), ..rule() }]).expect("right");
        let mark = Some(PacketMark { value: 0x10, mask: 0xf0 });
        let source = Some("10.5.72.0/25".parse().expect("a prefix"));
        let (destination, input) = (None, Some(is));
        assert_eq!(rules, [Rule { priority: 1, source, destination, mark, input, table: 2 }]);
    }
}

#[test]
fn a_route_beyond_what_is_the_plugins_is_refused_and_the_error_says_what_would_be_right() {
    let mut bench = Bench::new();
    let in_main = "in the main table metrics are 101 to 4294967293, and not 1024";
    let cases: Vec<(wit::Route, &str)> = vec![
        (route("10.5.4.0/24"), "Denied(\"the route's destination 10.5.4.0/24 is not in the peer's subnet"),
        (route("0.0.0.0/0"), "is not in the peer's subnet"),
        (wit::Route { metric: 0, ..route("10.5.3.0/24") }, in_main),
        (wit::Route { metric: 100, ..route("10.5.3.0/24") }, in_main),
        (wit::Route { metric: 1024, ..route("10.5.3.0/24") }, in_main),
        (wit::Route { metric: u32::MAX - 1, ..route("10.5.3.0/24") }, in_main),
        (
            wit::Route { table: Some(0), metric: 0, ..route("10.5.3.0/24") },
            "in a table of the plugin's own metrics are 1 to 4294967293",
        ),
        (
            wit::Route { table: Some(16), ..route("10.5.3.0/24") },
            "table 16: a plugin's own tables are 0 to 15",
        ),
        (
            wit::Route { source: Some(address("192.168.0.3")), ..route("10.5.3.0/24") },
            "the source 192.168.0.3 is no address of the external interface, of an uplink, or of a device",
        ),
        (
            wit::Route { source: Some(address("fd77::100")), ..route("10.5.3.0/24") },
            "the source fd77::100 is of the other family",
        ),
        (wit::Route { mtu: Some(67), ..route("10.5.3.0/24") }, "an MTU of 67 is not between 68 and 65520"),
        (wit::Route { mtu: Some(65_521), ..route("10.5.3.0/24") }, "an MTU of 65521 is not between"),
        (wit::Route { advmss: Some(0), ..route("10.5.3.0/24") }, "an advmss of 0 is not between 1 and 65495"),
    ];
    for (route, words) in cases {
        let hop = bench.near("192.168.0.3");
        is_refused(bench.put(route, vec![hop]), words);
    }
    let hop = bench.near("fd77::3");
    is_refused(
        bench.put(wit::Route { mtu: Some(1279), ..route("fc00:5:0:3::/64") }, vec![hop]),
        "an MTU of 1279 is not between 1280 and 65520",
    );
    let hop = bench.near("192.168.0.3");
    bench.put(route("10.5.3.0/24"), vec![hop]).expect("the first");
    let hop = bench.near("192.168.0.4");
    is_refused(
        bench.put_more(route("10.5.3.0/24"), vec![hop]),
        "route 10.5.3.0/24 metric 200 was declared already",
    );
    let hop = bench.near("192.168.0.3");
    let stranger = bench.state.put_route(PEER + 1, route("10.5.3.0/24"), vec![hop]).expect("no trap");
    is_refused(
        stranger.map_err(|error| format!("{error:?}")),
        "peer #4 is not among the changes of this call",
    );
}

#[test]
fn a_next_hop_that_cannot_be_one_is_refused() {
    let mut bench = Bench::new();
    is_refused(bench.put(route("10.5.3.0/24"), Vec::new()), "it has no next hop");
    let many: Vec<_> = (0..17).map(|n| bench.near(&format!("192.168.0.{}", n + 1))).collect();
    is_refused(bench.put(route("10.5.3.0/24"), many), "17 next hops; at most 16");
    for wrong in ["fd77::3", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        let hop = bench.near(wrong);
        is_refused(bench.put(route("10.5.3.0/24"), vec![hop]), &format!("{wrong} cannot be a next hop"));
    }
    let twice = vec![bench.near("192.168.0.3"), bench.near("192.168.0.3")];
    is_refused(
        bench.put(route("10.5.3.0/24"), twice),
        "192.168.0.3 over the external interface is there twice",
    );
    for weight in [0, 257] {
        let heavy = wit::NextHop { weight, ..bench.near("192.168.0.4") };
        let hops = vec![bench.near("192.168.0.3"), heavy];
        is_refused(
            bench.put(route("10.5.3.0/24"), hops),
            &format!("a weight of {weight} is not between 1 and 256"),
        );
    }
    let without = |device| wit::NextHop { device, via: None, onlink: false, weight: 0, encapsulation: None };
    let hops = vec![without(bench.external())];
    is_refused(bench.put(route("10.5.3.0/24"), hops), "over the external interface it needs a next hop");
    let hops = vec![without(bench.uplink("eth1").expect("an uplink"))];
    is_refused(bench.put(route("10.5.3.0/24"), hops), "over eth1 it needs a next hop");
    let hops = vec![wit::NextHop { onlink: true, ..without(bench.own()) }];
    is_refused(bench.put(route("10.5.3.0/24"), hops), "onlink is said of a gateway");
    let hops = vec![bench.near("192.168.0.3"), without(bench.own())];
    is_refused(bench.put(route("10.5.3.0/24"), hops), "each of several next hops has a gateway");
    let hops = vec![without(bench.own())];
    bench.put(route("10.5.3.0/24"), hops).expect("the device knows");
}

#[test]
fn what_is_around_packets_leads_through_nodes_of_the_cluster_to_the_peer() {
    let mut bench = Bench::new();
    let declared = |bench: &mut Bench| {
        let entries = &bench.state.call.peers.get_mut(PeerId(PEER)).expect("the peer").entries;
        let [Entry::PolicyRoute(route)] = &entries[..] else { panic!("{entries:?}") };
        route.hops.iter().map(|hop| hop.encapsulation.as_deref().cloned()).collect::<Vec<_>>()
    };
    let through = |nodes: &[&str]| Some(Encapsulation::Segments(nodes.iter().copied().map(v6).collect()));
    // Both families, without gateways; of several of IPv6 each has one.
    for subnet in ["10.5.3.0/24", "fc00:5:0:3::/64"] {
        let hop = bench.around(segments(&["fd77::4", "fd77::3"]));
        bench.put(route(subnet), vec![hop]).expect("right");
        assert_eq!(declared(&mut bench), [through(&["fd77::4", "fd77::3"])]);
        let hops = || vec![segments(&["fd77::4", "fd77::3"]), segments(&["fd77::3"])];
        let several: Vec<_> = hops().into_iter().map(|hop| bench.around(hop)).collect();
        if subnet.contains(':') {
            is_refused(bench.put(route(subnet), several), "each of several next hops has a gateway");
            let near = hops().into_iter().map(|hop| {
                let encapsulation = Some(hop);
                wit::NextHop { encapsulation, ..bench.near("fd77::3") }
            });
            let several = near.collect();
            bench.put(route(subnet), several).expect("right");
        } else {
            bench.put(route(subnet), several).expect("right");
        }
        assert_eq!(declared(&mut bench), [through(&["fd77::4", "fd77::3"]), through(&["fd77::3"])]);
    }
    let uplink = wit::NextHop {
        device: bench.uplink("eth1").expect("an uplink"),
        ..bench.around(segments(&["fd77::3"]))
    };
    bench.put(route("10.5.3.0/24"), vec![uplink]).expect("right");
    let labels = |labels: &[u32]| wit::Encapsulation::Labels(labels.to_vec());
    let labelled = wit::NextHop { encapsulation: Some(labels(&[16, 0xf_ffff])), ..bench.near("192.168.0.3") };
    bench.put(route("10.5.3.0/24"), vec![labelled]).expect("right");
    assert_eq!(declared(&mut bench), [Some(Encapsulation::Labels([16, 0xf_ffff].into()))]);
}

#[test]
fn what_is_around_packets_and_leads_elsewhere_is_refused() {
    let mut bench = Bench::new();
    let many = vec!["fd77::4"; 16].into_iter().chain(["fd77::3"]).collect::<Vec<_>>();
    let tunnel = |destination: &str| {
        let destination = address(destination);
        wit::Encapsulation::Tunnel(wit::TunnelEncapsulation { destination, id: None, ttl: None, dscp: 0 })
    };
    for (encapsulation, words) in [
        (segments(&[]), "there is no segment; the last one is the peer's"),
        (segments(&many), "17 segments of a next hop; at most 16"),
        (
            segments(&["fd77::4"]),
            "the last segment fd77::4 is not an IPv6 address that the peer has published",
        ),
        (
            segments(&["fd77::4", "fd77::66", "fd77::3"]),
            "the segment fd77::66 is not a public address of a node of this cluster",
        ),
        (segments(&["ff02::1", "fd77::3"]), "the segment ff02::1 is not a public address of a node"),
        (wit::Encapsulation::Labels(vec![16]), "labels are for a gateway, and there is none"),
        (tunnel("fd77::3"), "the external interface is no device in external mode"),
    ] {
        let hop = bench.around(encapsulation);
        is_refused(bench.put(route("10.5.3.0/24"), vec![hop]), words);
    }
    for (labels, words) in [
        (vec![], "there is no label"),
        (vec![16; 9], "9 labels of a next hop; at most 8"),
        (vec![100, 15], "the label 15 is not between 16 and 1048575"),
        (vec![1 << 20], "the label 1048576 is not between 16 and 1048575"),
    ] {
        let encapsulation = Some(wit::Encapsulation::Labels(labels));
        let hop = wit::NextHop { encapsulation, ..bench.near("192.168.0.3") };
        is_refused(bench.put(route("10.5.3.0/24"), vec![hop]), words);
    }
    let onlink = wit::NextHop { onlink: true, ..bench.around(segments(&["fd77::3"])) };
    is_refused(bench.put(route("10.5.3.0/24"), vec![onlink]), "onlink is said of a gateway");
    let twice = vec![bench.around(segments(&["fd77::3"])), bench.around(segments(&["fd77::3"]))];
    is_refused(
        bench.put(route("10.5.3.0/24"), twice),
        "over the external interface encap seg6 mode encap segs fd77::3 is there twice",
    );
    for (encapsulation, words) in [
        (segments(&["fd77::3"]), "segments over flannel.1: they are for the external interface and uplinks"),
        (tunnel("fd77::3"), "flannel.1 is no device in external mode: it knows by itself where packets go"),
    ] {
        let hop = wit::NextHop { device: bench.own(), ..bench.around(encapsulation) };
        is_refused(bench.put(route("10.5.3.0/24"), vec![hop]), words);
    }
}

#[test]
fn a_rule_beyond_the_clusters_networks_or_the_plugins_tables_is_refused() {
    let mut bench = Bench::new();
    let mark = |value, mask| Some(wit::Mark { value, mask });
    let nowhere = || wit::Rule { source: None, ..rule() };
    let from_outside = wit::Rule { input: Some(bench.external()), ..nowhere() };
    for (rule, words) in [
        (nowhere(), "it is about all packets"),
        (from_outside, "it is about all packets"),
        (wit::Rule { mark: mark(1, 1), ..nowhere() }, "it is about all packets"),
        (wit::Rule { source: Some(prefix("0.0.0.0/0")), ..rule() }, "0.0.0.0/0 is not in a cluster network"),
        (
            wit::Rule { destination: Some(prefix("192.168.0.0/24")), ..rule() },
            "192.168.0.0/24 is not in a cluster",
        ),
        (wit::Rule { destination: Some(prefix("fc00:5::/64")), ..rule() }, "are not of one family"),
        (wit::Rule { priority: 1000, ..rule() }, "the priority is 0 to 999"),
        (wit::Rule { table: 16, ..rule() }, "table 16: a plugin's own tables are 0 to 15"),
        (wit::Rule { mark: mark(0, 0), ..rule() }, "the mask of its mark is 0"),
        (wit::Rule { mark: mark(3, 1), ..rule() }, "0x3 has bits beyond the mask 0x1"),
    ] {
        is_refused(bench.set_rules(vec![rule]), words);
    }
    let many = (0..65).map(|priority| wit::Rule { priority, ..rule() }).collect();
    is_refused(bench.set_rules(many), "65 rules; at most 64");
}

#[test]
fn an_uplink_is_for_routes_of_this_interface_and_no_other_interface_is_one() {
    let mut bench = Bench::new();
    is_refused(
        bench.uplink("eth7").map(drop),
        "\\\"eth7\\\" is no uplink; the operator names them with --uplink; there are: eth1",
    );
    let eth1 = bench.uplink("eth1").expect("an uplink");
    let borrowed = || Resource::new_borrow(eth1.rep());
    let addresses = bench.state.set_addresses(borrowed(), Vec::new()).expect("no trap");
    is_refused(
        addresses.map_err(|error| format!("{error:?}")),
        "the external interface's addresses are the operator's, and so are uplinks'",
    );
    let networks = bench.state.set_networks(borrowed(), Vec::new()).expect("no trap");
    is_refused(networks.map_err(|error| format!("{error:?}")), "need a next hop");
    let plain =
        routes::Route { destination: prefix("10.5.3.0/24"), via: address("172.16.0.3"), onlink: false };
    let plain = bench.state.put(PEER, plain, borrowed()).expect("no trap");
    is_refused(plain.map_err(|error| format!("{error:?}")), "are those of policy-routing");
}
