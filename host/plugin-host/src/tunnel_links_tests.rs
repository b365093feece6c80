//! What `tunnel-links` takes and refuses, and what is declared with the routes over its devices.

use std::sync::Arc;
use std::time::Instant;

use flannel_base::Family;
use flannel_model::entry::{Device, DeviceSpec, Entry, LinkAddress};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::ledger::PeerId;
use flannel_model::tunnel_link::{Payload, TunnelKind, TunnelLink, UdpEncapsulation, UdpKind, Way};
use tempfile::TempDir;
use wasmtime::component::Resource;

use crate::bindings::flannel::backend::links::{Error, HostLink as _, IpFamily};
use crate::bindings::flannel::backend::policy_routing::{self, Host as _};
use crate::bindings::flannel::backend::routes;
use crate::bindings::flannel::backend::tunnel_links::{self as wit, Host as _};
use crate::bindings::flannel::backend::types::{IpAddress, IpPrefix};
use crate::call::{Call, Function};
use crate::capability::{HostState, LinkHandle};
use crate::limits::Limits;
use crate::log_rate::LogRate;
use crate::series::PluginSeries;
use crate::state::DirState;
use crate::tests::environment;
use crate::watchdog::Watchdog;
use crate::{convert, engine};

const PEER: u64 = 7;
const NAME: &str = "flannel.tl";

/// The host's side of an instance, on a node of both families.
struct Bench {
    state: HostState,
    _directory: TempDir,
    _watchdog: Watchdog,
}

type Answer = wasmtime::Result<Result<Resource<LinkHandle>, Error>>;

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let watchdog = Watchdog::start(engine::native().expect("engine")).expect("watchdog");
        let mut environment = environment(r#"{"Type":"test"}"#);
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
        Self { state, _directory: directory, _watchdog: watchdog }
    }

    /// Declares a device; the error's text if that is refused.
    fn declare(
        &mut self,
        ensure: impl FnOnce(&mut HostState) -> Answer,
    ) -> Result<(Resource<LinkHandle>, TunnelLink), String> {
        self.state.call = Call::new(Function::Register);
        let outcome = ensure(&mut self.state).expect("no trap");
        assert_eq!(outcome.is_err(), self.state.call.refused.is_some(), "what is refused dooms the call");
        let link = outcome.map_err(|error| format!("{error:?}"))?;
        match self.state.devices.get(NAME) {
            Some(DeviceSpec::TunnelLink(device)) => Ok((link, device.clone())),
            other => panic!("{other:?}"),
        }
    }

    fn gre(
        &mut self,
        change: impl FnOnce(&mut wit::Gre),
    ) -> Result<(Resource<LinkHandle>, TunnelLink), String> {
        let mut device = wit::Gre {
            name: NAME.to_owned(),
            outer: IpFamily::Ipv4,
            key: None,
            external: false,
            udp: None,
            mtu: 1400,
        };
        change(&mut device);
        self.declare(|state| state.ensure_gre(device))
    }

    fn ip(
        &mut self,
        change: impl FnOnce(&mut wit::IpTunnel),
    ) -> Result<(Resource<LinkHandle>, TunnelLink), String> {
        let mut device = wit::IpTunnel {
            name: NAME.to_owned(),
            outer: IpFamily::Ipv4,
            carries: wit::Payload::Ipv4,
            external: false,
            udp: None,
            mtu: 1400,
        };
        change(&mut device);
        self.declare(|state| state.ensure_ip_tunnel(device))
    }

    fn vlan(&mut self, id: u16, mtu: u32) -> Result<(Resource<LinkHandle>, TunnelLink), String> {
        let protocol = wit::VlanProtocol::Ieee8021q;
        let device = wit::Vlan { name: NAME.to_owned(), id, protocol, mtu };
        self.declare(|state| state.ensure_vlan(device))
    }

    fn begin(&mut self) {
        let subnets = Subnets {
            v4: Some("10.5.3.0/24".parse().expect("a subnet")),
            v6: Some("fc00:5:0:3::/64".parse().expect("a subnet")),
        };
        self.state.call = Call::new(Function::Apply);
        let lease = Lease { subnets, attributes: Attributes::default(), expires: None };
        self.state.call.peers.push(PeerId(PEER), Arc::new(lease));
    }

    fn route(&mut self, link: &Resource<LinkHandle>, destination: &str, via: &str) -> Result<(), String> {
        let device = Resource::new_borrow(link.rep());
        let route = routes::Route { destination: prefix(destination), via: address(via), onlink: true };
        let outcome = routes::Host::put(&mut self.state, PEER, route, device).expect("no trap");
        outcome.map_err(|error| format!("{error:?}"))
    }

    /// What is declared for the peer.
    fn entries(&mut self) -> Vec<Entry> {
        self.state.call.peers.get_mut(PeerId(PEER)).expect("the peer").entries.clone()
    }
}

fn address(text: &str) -> IpAddress {
    convert::address_out(text.parse().expect("an address"))
}

fn prefix(text: &str) -> IpPrefix {
    convert::prefix_out(text.parse().expect("a prefix"))
}

fn is_refused<T>(outcome: Result<T, String>, said: &str) {
    match outcome {
        Err(error) => assert!(error.contains(said), "{said}: {error}"),
        Ok(_) => panic!("taken, and not refused with {said}"),
    }
}

#[test]
fn devices_are_what_was_asked_for() {
    let mut bench = Bench::new();
    let local = bench.state.environment.node.ipv4.expect("an address");
    let hop = |udp| Way::NextHop { local, udp };
    let (_, device) = bench.gre(|gre| gre.key = Some(u32::MAX)).expect("taken");
    assert_eq!(device.kind, TunnelKind::Gre { way: hop(None), key: Some(u32::MAX) });
    let udp = UdpEncapsulation { kind: UdpKind::Gue, port: 1024 };
    let (_, device) = bench.gre(|gre| gre.udp = Some(wit::UdpEncapsulation::Gue(1024))).expect("taken");
    assert_eq!(device.kind, TunnelKind::Gre { way: hop(Some(udp)), key: None });
    let (_, device) = bench
        .gre(|gre| {
            gre.outer = IpFamily::Ipv6;
            gre.external = true;
        })
        .expect("taken");
    assert_eq!(device.kind, TunnelKind::Gre { way: Way::Route { family: Family::Ipv6 }, key: None });
    let (_, device) = bench.ip(|ip| ip.carries = wit::Payload::Both).expect("taken");
    assert_eq!(device.kind, TunnelKind::IpTunnel { way: hop(None), carries: Payload::Both });
    let (link, device) = bench.vlan(4094, 1280).expect("taken");
    assert!(matches!(device.kind, TunnelKind::Vlan { id: 4094, .. }), "{device:?}");
    let link = Resource::new_borrow(link.rep());
    assert!(bench.state.mac(link).expect("no trap").is_none(), "it has the external interface's");
    let geneve = |port| wit::Geneve { name: NAME.to_owned(), port, mtu: 1400 };
    let (link, device) = bench.declare(|state| state.ensure_geneve(geneve(None))).expect("taken");
    assert_eq!(device.port(), Some(6081));
    let link = Resource::new_borrow(link.rep());
    assert!(bench.state.mac(link).expect("no trap").is_some());
    let gretap = wit::Gretap { name: NAME.to_owned(), outer: IpFamily::Ipv6, mtu: 1400 };
    let (_, device) = bench.declare(|state| state.ensure_gretap(gretap)).expect("taken");
    assert!(matches!(device.kind, TunnelKind::Gretap { family: Family::Ipv6, .. }), "{device:?}");
}

#[test]
fn what_no_device_can_be_is_refused_with_what_would_be_right() {
    use wit::UdpEncapsulation::{Fou, Gue};
    let mut bench = Bench::new();
    is_refused(bench.gre(|gre| gre.name = "gre0".to_owned()), "begins with flannel");
    is_refused(bench.gre(|gre| gre.mtu = 1279), "not between 1280 and 65535");
    is_refused(bench.gre(|gre| gre.mtu = 65536), "not between 1280 and 65535");
    is_refused(bench.gre(|gre| gre.outer = IpFamily::Ipv6), "over IPv6 a device is external");
    is_refused(bench.gre(|gre| (gre.external, gre.key) = (true, Some(0))), "its routes have");
    is_refused(
        bench.gre(|gre| (gre.external, gre.udp) = (true, Some(Fou(5555)))),
        "not for one that is external",
    );
    is_refused(bench.gre(|gre| gre.udp = Some(Fou(1023))), "UDP port 1023 is one of the system's services");
    is_refused(bench.gre(|gre| gre.udp = Some(Gue(0))), "UDP port 0 is one of the system's services");
    is_refused(
        bench.ip(|ip| (ip.carries, ip.udp) = (wit::Payload::Both, Some(Fou(5555)))),
        "GUE carries both",
    );
    for carries in [wit::Payload::Ipv6, wit::Payload::Both] {
        is_refused(
            bench.ip(|ip| (ip.carries, ip.external) = (carries, true)),
            "no device that carries IPv6 in IPv4 is external",
        );
    }
    is_refused(bench.ip(|ip| ip.outer = IpFamily::Ipv6), "over IPv6 a device is external");
    is_refused(bench.ip(|ip| ip.mtu = 67), "not between 68 and 65535");
    is_refused(bench.ip(|ip| (ip.carries, ip.mtu) = (wit::Payload::Ipv6, 1279)), "not between 1280");
    let geneve = wit::Geneve { name: NAME.to_owned(), port: Some(80), mtu: 1400 };
    is_refused(bench.declare(|state| state.ensure_geneve(geneve)), "UDP port 80");
    is_refused(bench.vlan(0, 1400), "VLAN 0 is not between 1 and 4094");
    is_refused(bench.vlan(4095, 1400), "VLAN 4095 is not between 1 and 4094");
    let carried = bench.state.environment.node.mtu;
    is_refused(bench.vlan(5, carried + 1), "more than the external interface carries");
    bench.state.environment.node.ipv4 = None;
    is_refused(bench.gre(|_| {}), "no address of the family Ipv4");
    bench.state.environment.node.ipv6 = None;
    let gretap = wit::Gretap { name: NAME.to_owned(), outer: IpFamily::Ipv6, mtu: 1400 };
    is_refused(bench.declare(|state| state.ensure_gretap(gretap)), "no address of the family Ipv6");
}

#[test]
fn devices_are_declared_in_register_alone_and_so_many_at_most() {
    let mut bench = Bench::new();
    let limit = bench.state.limits.devices;
    for n in 0..limit {
        bench.gre(|gre| gre.key = Some(1)).expect("the first one, again");
        let device = wit::Vlan {
            name: format!("flannel.v{n}"),
            id: 5,
            protocol: wit::VlanProtocol::Ieee8021ad,
            mtu: 1400,
        };
        let outcome = bench.state.ensure_vlan(device).expect("no trap");
        assert_eq!(outcome.is_ok(), n + 1 < limit, "{n}");
    }
    bench.begin();
    let device =
        wit::Vlan { name: NAME.to_owned(), id: 5, protocol: wit::VlanProtocol::Ieee8021q, mtu: 1400 };
    let outcome = bench.state.ensure_vlan(device).expect("no trap").map_err(|error| format!("{error:?}"));
    is_refused(outcome, "in register only");
}

#[test]
fn a_gre_device_is_told_where_next_hops_are_once_for_each() {
    let mut bench = Bench::new();
    let (link, _) = bench.gre(|_| {}).expect("taken");
    bench.begin();
    bench.route(&link, "10.5.3.0/25", "192.168.0.3").expect("a route");
    bench.route(&link, "10.5.3.128/25", "192.168.0.3").expect("a route");
    bench.route(&link, "fc00:5:0:3::/64", "::192.168.0.3").expect("a route");
    let neighbour = |via: &str| Entry::Neighbour {
        address: via.parse().expect("an address"),
        link_address: LinkAddress::Ipv4([192, 168, 0, 3].into()),
        device: Device::Own(NAME.into()),
    };
    let entries = bench.entries();
    let neighbours: Vec<&Entry> =
        entries.iter().filter(|entry| matches!(entry, Entry::Neighbour { .. })).collect();
    assert_eq!(neighbours, [&neighbour("192.168.0.3"), &neighbour("::192.168.0.3")]);
    assert_eq!((entries.len(), bench.state.call.entries), (5, 5), "all of them count");
    // So with routes that have attributes.
    bench.begin();
    let route = policy_routing::Route {
        table: None,
        destination: prefix("10.5.3.0/24"),
        metric: 200,
        source: None,
        mtu: None,
        advmss: None,
    };
    let hop = policy_routing::NextHop {
        device: Resource::new_borrow(link.rep()),
        via: Some(address("192.168.0.3")),
        onlink: true,
        weight: 1,
        encapsulation: None,
    };
    let put = |bench: &mut Bench, hop| {
        let outcome = bench.state.put_route(PEER, route, vec![hop]).expect("no trap");
        outcome.map_err(|error| format!("{error:?}"))
    };
    put(&mut bench, hop).expect("a route");
    assert_eq!(bench.entries()[0], neighbour("192.168.0.3"));
    // Other kinds of devices look at the next hop themselves.
    let (link, _) = bench.ip(|ip| ip.carries = wit::Payload::Both).expect("taken");
    bench.begin();
    bench.route(&link, "fc00:5:0:3::/64", "::192.168.0.3").expect("a route");
    assert_eq!(bench.entries().len(), 1);
}

#[test]
fn next_hops_by_which_no_node_is_found_are_refused() {
    let mut bench = Bench::new();
    for make in [
        |bench: &mut Bench| bench.gre(|_| {}),
        |bench: &mut Bench| bench.ip(|ip| ip.carries = wit::Payload::Ipv6),
    ] {
        let (link, _) = make(&mut bench).expect("taken");
        bench.begin();
        is_refused(bench.route(&link, "fc00:5:0:3::/64", "fd77::3"), "in the form ::192.0.2.1");
        is_refused(bench.route(&link, "fc00:5:0:3::/64", "::ffff:192.168.0.3"), "in the form ::192.0.2.1");
    }
    let (link, _) = bench.gre(|gre| gre.external = true).expect("taken");
    bench.begin();
    is_refused(bench.route(&link, "10.5.3.0/24", "192.168.0.3"), "its routes say where packets go");
    // A VLAN is a link as any other.
    let (link, _) = bench.vlan(5, 1400).expect("taken");
    bench.begin();
    bench.route(&link, "fc00:5:0:3::/64", "fc00:5:0:3::").expect("a route");
}

#[test]
fn only_devices_with_ethernet_frames_have_ethernet_neighbours() {
    let mut bench = Bench::new();
    let mac = (2, 0, 0, 0, 0, 1);
    let put = |bench: &mut Bench, link: &Resource<LinkHandle>| {
        bench.begin();
        let device = Resource::new_borrow(link.rep());
        let outcome = crate::bindings::flannel::backend::neighbours::Host::put(
            &mut bench.state,
            PEER,
            address("10.5.3.0"),
            mac,
            device,
        );
        outcome.expect("no trap").map_err(|error| format!("{error:?}"))
    };
    let (link, _) = bench.gre(|_| {}).expect("taken");
    is_refused(put(&mut bench, &link), "has no Ethernet addresses");
    let (link, _) = bench.vlan(5, 1400).expect("taken");
    put(&mut bench, &link).expect("a neighbour");
}
