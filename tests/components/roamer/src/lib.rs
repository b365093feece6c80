//! A policy for IPv4 whose nodes are reached now by plain routes, now by VXLAN: each says in its lease where it is to be found, and moves. It
//! counts what it does. Its options are the node's (`--plugin-option`):
//!
//! | option | |
//! |---|---|
//! | `at` | where it is at first: `link`, or `tunnel`, which it is without the option. What it has moved to since is in its `state` |
//! | `every` | milliseconds between two ticks |
//! | `moves` | with each of so many ticks it moves |
//! | `burst` | so many times it publishes in each tick, something else each time |
//! | `publish` | the function in which it publishes besides |
//! | `failover` | from the tick on in which it knows so many peers it takes none to be on the link, whatever they say |
//! | `hot` | it asks for peers again whenever it is told of them |
//! | `crowd` | it asks in each tick for so many peers |
//! | `forget` | it keeps nothing in its `state` |
//! | `garbage` | it publishes what is no JSON |
//! | `trap` | the tick that traps |
//! | `wrong` | it counts what is refused, too |

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use flannel_backend::serde_json::json;
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links, metrics,
    neighbours, node_info, own_lease, peers, routes, state,
};

/// What a VXLAN packet adds.
const OVERHEAD: u32 = 50;
/// Where its state has where it is.
const AT: &str = "at";

/// Where a node is to be found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Link,
    Tunnel,
}

impl At {
    fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Tunnel => "tunnel",
        }
    }

    fn of(name: &str) -> Result<Self, String> {
        let named = [Self::Link, Self::Tunnel].into_iter().find(|at| at.name() == name);
        named.ok_or_else(|| format!("{name:?} is no place: link or tunnel"))
    }

    fn other(self) -> Self {
        if self == Self::Link { Self::Tunnel } else { Self::Link }
    }
}

/// The policy.
pub struct Roamer {
    vtep: Link,
    mac: Mac,
    options: BTreeMap<String, String>,
    at: At,
    moves: u64,
    /// How often it has published.
    sequence: u64,
    ticks: u64,
    /// It takes no peer to be on the link.
    distrusts: bool,
    peers: BTreeSet<PeerId>,
}

impl Roamer {
    fn number(&self, option: &str) -> Result<Option<u64>, String> {
        let number =
            |text: &String| text.parse().map_err(|_| format!("the option {option}: {text:?} is no number"));
        self.options.get(option).map(number).transpose()
    }

    /// What it publishes now.
    fn data(&self) -> String {
        let Self { at, moves, sequence, mac, .. } = self;
        let mac = mac.to_string();
        json!({ "VNI": 1, "VtepMAC": mac, "At": at.name(), "Moves": moves, "Sequence": sequence }).to_string()
    }

    fn publish(&mut self) -> Result<(), String> {
        self.sequence += 1;
        metrics::add("publishes", &[], 1)?;
        let data = if self.options.contains_key("garbage") { "{".to_owned() } else { self.data() };
        Ok(own_lease::publish(Some(&data), None)?)
    }

    fn publish_in(&mut self, function: &str) -> Result<(), String> {
        if self.options.get("publish").is_some_and(|name| name == function) { self.publish() } else { Ok(()) }
    }

    /// It is somewhere else from now on.
    fn roam(&mut self) -> Result<(), String> {
        self.at = self.at.other();
        self.moves += 1;
        metrics::add("moves", &[], 1)?;
        if !self.options.contains_key("forget") {
            state::set(AT, Some(self.at.name().as_bytes()))?;
        }
        self.publish()
    }

    fn put_tunnel(
        &self,
        peer: PeerId,
        subnet: flannel_backend::ipnet::Ipv4Net,
        public: IpAddr,
        mac: Mac,
    ) -> Result<(), String> {
        let gateway = IpAddr::V4(subnet.network());
        routes::put(peer, &Route { destination: subnet.into(), via: gateway, onlink: true }, &self.vtep)?;
        fdb::put(peer, mac, public, &self.vtep)?;
        Ok(neighbours::put(peer, gateway, mac, &self.vtep)?)
    }
}

impl Policy for Roamer {
    const NAME: &'static str = "roamer";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["vxlan"];

    fn register(node: &Node, _: &Config) -> Result<(Self, Registration), String> {
        metrics::set_help("ticks", "How often it was asked to look after itself")?;
        metrics::add("ticks", &[], 0)?;
        let mtu = node.external.mtu - OVERHEAD;
        let vtep = links::ensure_vxlan(&Vxlan {
            name: "flannel.1".to_owned(),
            vni: 1,
            port: None,
            family: Family::V4,
            learning: false,
            gbp: false,
            mtu,
        })?;
        let mac = vtep.mac().ok_or("no MAC")?;
        let options = node_info::options();
        let kept = state::get(AT)?.map(|kept| String::from_utf8_lossy(&kept).into_owned());
        let at = kept.as_ref().or_else(|| options.get(AT)).map_or(Ok(At::Tunnel), |name| At::of(name))?;
        let peers = BTreeSet::new();
        let mut policy =
            Self { vtep, mac, options, at, moves: 0, sequence: 0, ticks: 0, distrusts: false, peers };
        policy.number("every")?;
        policy.publish_in("register")?;
        let registration = Registration {
            backend_type: "vxlan".to_owned(),
            backend_data: Some(policy.data()),
            backend_v6_data: None,
            mtu,
        };
        Ok((policy, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnet = own.ipv4_subnet.ok_or("no IPv4 subnet")?;
        self.publish_in("lease-acquired")?;
        Ok(self.vtep.set_addresses(&[IpAddr::V4(subnet.network()).into()])?)
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        if lease.backend_type != "vxlan" {
            return Ok(());
        }
        metrics::add("leases", &[("backend", "vxlan")], 1)?;
        let (Some(subnet), Some(public)) = (lease.ipv4_subnet, lease.public_ipv4) else { return Ok(()) };
        let data = Config::parse(lease.backend_data.as_deref().ok_or("no data")?)?;
        let mac: Mac = data.text("VtepMAC")?.ok_or("no MAC")?.parse()?;
        self.peers.insert(peer);
        self.publish_in("apply")?;
        if self.options.contains_key("hot") {
            peers::refresh(&[peer])?;
        }
        match At::of(data.text("At")?.unwrap_or("tunnel"))? {
            At::Link if !self.distrusts => {
                let route = Route { destination: subnet.into(), via: public.into(), onlink: false };
                Ok(routes::put(peer, &route, &links::external())?)
            }
            _ => self.put_tunnel(peer, subnet, public.into(), mac),
        }
    }

    fn removed(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        self.ticks += 1;
        metrics::add("ticks", &[], 1)?;
        #[allow(clippy::cast_precision_loss, reason = "no cluster has that many")]
        metrics::set_gauge("peers", &[("told", "yes")], self.peers.len() as f64)?;
        if self.options.contains_key("wrong") {
            // A figure that is refused costs nothing but itself.
            let _ = metrics::set_gauge("no number", &[], f64::NAN);
        }
        if self.number("moves")?.is_some_and(|moves| self.moves < moves) {
            self.roam()?;
        }
        for _ in 0..self.number("burst")?.unwrap_or_default() {
            self.publish()?;
        }
        let enough = self.number("failover")?.is_some_and(|peers| self.peers.len() as u64 >= peers);
        if enough && !self.distrusts {
            self.distrusts = true;
            metrics::add("failovers", &[], 1)?;
            peers::refresh(&self.peers.iter().copied().collect::<Vec<_>>())?;
        }
        if let Some(crowd) = self.number("crowd")? {
            peers::refresh(&(0..crowd).map(PeerId).collect::<Vec<_>>())?;
        }
        assert!(self.number("trap")? != Some(self.ticks), "the tick that traps");
        Ok(self.number("every")?.map(Duration::from_millis))
    }
}

flannel_backend::export!(Roamer);

#[cfg(test)]
mod tests {
    use flannel_backend::testing::{self, Bench, Host, samples};

    use super::*;

    fn bench(options: &[(&str, &str)]) -> Bench<Roamer> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let host = Host { options: options.collect(), ..Host::default() };
        Bench::register_on(host, &samples::node(true, false), "{}").expect("registers")
    }

    fn peer(at: &str) -> Lease {
        let data = json!({ "VtepMAC": "02:00:00:00:00:02", "At": at }).to_string();
        Lease { backend_data: Some(data), ..samples::peer("vxlan") }
    }

    #[test]
    fn what_it_does_is_counted() {
        let mut bench = bench(&[]);
        bench.put(2, &peer("tunnel")).expect("served");
        bench.put(2, &peer("tunnel")).expect("served");
        assert_eq!(bench.tick(), Ok(None));
        testing::with(|host| {
            assert_eq!(host.counters["leases{backend=\"vxlan\"}"], 2);
            assert_eq!(host.counters["ticks"], 1);
            assert_eq!(host.gauges["peers{told=\"yes\"}"].to_bits(), 1_f64.to_bits());
        });
    }

    #[test]
    fn a_peer_is_reached_where_it_says_that_it_is() {
        let mut bench = bench(&[]);
        let device = "link flannel.1 vxlan id 1 V4 nolearning mtu 1450";
        assert_eq!(
            bench.put(2, &peer("link")).expect("served"),
            [device, "route 10.5.3.0/24 via 192.168.0.101 dev eth0"]
        );
        // A route, a neighbour and an FDB entry; the device was declared at first.
        assert_eq!(bench.put(2, &peer("tunnel")).expect("served").len(), 3);
        assert!(bench.put(2, &peer("moon")).is_err());
    }

    #[test]
    fn when_a_way_is_dead_it_asks_for_all_peers_and_takes_the_other_one() {
        let mut bench = bench(&[("failover", "2")]);
        bench.put(2, &peer("link")).expect("served");
        assert_eq!(bench.tick(), Ok(None));
        testing::with(|host| assert_eq!(host.refreshed, []));
        bench.put(3, &peer("link")).expect("served");
        assert_eq!((bench.tick(), bench.tick()), (Ok(None), Ok(None)));
        testing::with(|host| assert_eq!(host.refreshed, [PeerId(2), PeerId(3)]));
        assert_eq!(bench.put(2, &peer("link")).expect("served").len(), 3);
    }

    #[test]
    fn with_each_of_so_many_ticks_it_is_somewhere_else_and_says_so() {
        let mut bench = bench(&[("moves", "3")]);
        (0..5).for_each(|_| assert_eq!(bench.tick(), Ok(None)));
        testing::with(|host| {
            let said = |(data, _): &(Option<String>, _)| {
                data.clone().is_some_and(|data| data.contains("\"At\":\"link\""))
            };
            assert_eq!(host.published.iter().map(said).collect::<Vec<_>>(), [true, false, true]);
            assert_eq!(host.state[AT], b"link");
        });
    }
}
