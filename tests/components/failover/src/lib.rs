//! A policy whose peers are reached by plain routes, and by VXLAN as long as the plain way to one of them does not get through: it has the peers'
//! public addresses probed, each family for itself. Its ticks are far apart: that a peer is lost, or back, the host tells it with a tick of its
//! own. Who was reached by VXLAN it keeps in its `state`: after a restart that is so until the plain way has answered. Its options are the node's (`--plugin-option`):
//!
//! | option | |
//! |---|---|
//! | `interval` | milliseconds between two requests to a peer, 1,000 without it |
//! | `size` | bytes of a request; without it the smallest |
//! | `inner` | the way that is in use is probed as well, to the peer's first address |
//! | `trap` | the tick that traps |

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use flannel_backend::ipnet::IpNet;
use flannel_backend::probe::{self, Condition, Figures, Target};
use flannel_backend::serde_json::json;
use flannel_backend::{
    Config, Error, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Route, Vxlan, fdb, links,
    log, metrics, neighbours, node_info, peers, routes, state,
};

/// What a VXLAN packet adds, for each family.
const OVERHEAD: [u32; 2] = [50, 70];
/// Between two ticks that nothing brings about.
const TICK: Duration = Duration::from_mins(5);
/// Where its state has the public addresses of peers that are reached by the tunnel, a line for each.
const BY_TUNNEL: &str = "by-tunnel";
/// Bytes of that, at most.
const MOST_STATE: usize = 16 << 10;

/// What there is of one family.
struct Ways {
    direct: Link,
    tunnel: Link,
    mac: Mac,
}

/// What is known of a peer in one family.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reached {
    public: IpAddr,
    subnet: IpNet,
    /// By the tunnel.
    by_tunnel: bool,
}

/// The policy.
pub struct Failover {
    /// For IPv4 and for IPv6.
    ways: [Option<Ways>; 2],
    options: BTreeMap<String, String>,
    interval: Duration,
    size: Option<u32>,
    peers: BTreeMap<(PeerId, bool), Reached>,
    /// Peers that were reached by the tunnel when that was written down last.
    kept: BTreeSet<IpAddr>,
    /// Nothing can be probed on this node.
    blind: bool,
    ticks: u64,
}

fn ways(node: &Node, ipv4: bool, mtu: u32) -> Result<Option<Ways>, String> {
    let is_there = if ipv4 { node.ipv4_network.is_some() } else { node.ipv6_network.is_some() };
    if !is_there {
        return Ok(None);
    }
    let (name, family) = if ipv4 { ("flannel.1", Family::V4) } else { ("flannel-v6.1", Family::V6) };
    let tunnel = links::ensure_vxlan(&Vxlan {
        name: name.to_owned(),
        vni: 1,
        port: None,
        family,
        learning: false,
        gbp: false,
        mtu,
    })?;
    let mac = tunnel.mac().ok_or("no MAC")?;
    Ok(Some(Ways { direct: links::external(), tunnel, mac }))
}

/// The Ethernet address of a peer's tunnel.
fn vtep(data: Option<&str>) -> Result<Mac, String> {
    let data = Config::parse(data.ok_or("no BackendData")?)?;
    let mac = data.text("VtepMAC")?.ok_or("no VtepMAC")?;
    mac.parse().map_err(|_| format!("VtepMAC: {mac:?} is no Ethernet address"))
}

impl Failover {
    fn of_family(&self, ipv4: bool) -> Option<&Ways> {
        self.ways[usize::from(!ipv4)].as_ref()
    }

    /// The plain way to a peer.
    fn direct(&self, peer: PeerId, public: IpAddr) -> Option<Target<'_>> {
        let ways = self.of_family(public.is_ipv4())?;
        let target = Target::new(peer, public).over(&ways.direct);
        Some(Target { interval: self.interval, size: self.size, lost_after: 2, back_after: 3, ..target })
    }

    fn is_lost(&self, peer: PeerId, public: IpAddr) -> Result<bool, Error> {
        let Some(target) = self.direct(peer, public) else { return Ok(false) };
        Ok(match probe::report(&target)?.unwrap_or_default().condition {
            Condition::Answered => false,
            Condition::Lost => true,
            Condition::Untested => self.kept.contains(&public),
        })
    }

    fn put_family(&mut self, peer: PeerId, subnet: IpNet, public: IpAddr, mac: Mac) -> Result<(), String> {
        let ipv4 = public.is_ipv4();
        let by_tunnel = self.is_lost(peer, public)?;
        let Some(ways) = self.of_family(ipv4) else { return Ok(()) };
        let first = subnet.network();
        // The tunnel is there in any case: only the route is another one.
        fdb::put(peer, mac, public, &ways.tunnel)?;
        neighbours::put(peer, first, mac, &ways.tunnel)?;
        let (route, device) = if by_tunnel {
            (Route { destination: subnet, via: first, onlink: true }, &ways.tunnel)
        } else {
            (Route { destination: subnet, via: public, onlink: false }, &ways.direct)
        };
        routes::put(peer, &route, device)?;
        self.peers.insert((peer, ipv4), Reached { public, subnet, by_tunnel });
        Ok(())
    }

    /// Declares all that is probed.
    fn watch(&mut self) -> Result<(), String> {
        let mut targets = Vec::new();
        for ((peer, _), reached) in &self.peers {
            targets.extend(self.direct(*peer, reached.public));
        }
        if self.options.contains_key("inner") {
            for ((peer, _), reached) in &self.peers {
                targets
                    .push(Target { interval: self.interval, ..Target::new(*peer, reached.subnet.network()) });
            }
        }
        let outcome = probe::watch(&targets);
        let was_blind = self.blind;
        self.blind = match outcome {
            Ok(()) => false,
            Err(Error::Unavailable(reason)) => {
                if !was_blind {
                    log::warn("the ways to peers stay as they are", &[("because", &reason)]);
                }
                true
            }
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    /// Writes down who is reached by the tunnel.
    fn keep(&mut self) -> Result<(), String> {
        let by_tunnel = self.peers.values().filter(|reached| reached.by_tunnel);
        let now: BTreeSet<IpAddr> = by_tunnel.map(|reached| reached.public).collect();
        if now != self.kept {
            let lines: Vec<String> = now.iter().map(IpAddr::to_string).collect();
            let text = lines.join("\n");
            if text.len() <= MOST_STATE {
                state::set(BY_TUNNEL, Some(text.as_bytes()))?;
            }
            self.kept = now;
        }
        Ok(())
    }

    /// Shows what is known, and has those declared anew that are to be reached otherwise.
    fn look(&self) -> Result<(), String> {
        let mut otherwise = Vec::new();
        let by_tunnel = self.peers.values().filter(|reached| reached.by_tunnel).count();
        let reports: Vec<Figures> = probe::reports()?.into_iter().flatten().collect();
        let slowest = reports.iter().filter_map(|report| report.round_trip).map(|times| times.mean).max();
        metrics::set_gauge("by_tunnel", &[], u32::try_from(by_tunnel).unwrap_or(u32::MAX).into())?;
        metrics::set_gauge("round_trip_seconds", &[], slowest.unwrap_or_default().as_secs_f64())?;
        for ((peer, _), reached) in &self.peers {
            if !self.blind && self.is_lost(*peer, reached.public)? != reached.by_tunnel {
                otherwise.push(*peer);
            }
        }
        Ok(peers::refresh(&otherwise)?)
    }
}

impl Policy for Failover {
    const NAME: &'static str = "failover";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const BACKEND_TYPES: &'static [&'static str] = &["failover"];

    fn register(node: &Node, _: &Config) -> Result<(Self, Registration), String> {
        metrics::set_help("by_tunnel", "Peers, in each family, that are reached by the tunnel")?;
        let options = node_info::options();
        let number = |name: &str| {
            let number = |text: &String| {
                text.parse::<u32>().map_err(|_| format!("the option {name}: {text:?} is no number"))
            };
            options.get(name).map(number).transpose()
        };
        let interval = Duration::from_millis(number("interval")?.unwrap_or(1000).into());
        let size = number("size")?;
        let mtu = |ipv4: bool| node.external.mtu - OVERHEAD[usize::from(!ipv4)];
        let ways = [ways(node, true, mtu(true))?, ways(node, false, mtu(false))?];
        let data = |ways: &Option<Ways>| {
            ways.as_ref().map(|ways| json!({ "VNI": 1, "VtepMAC": ways.mac.to_string() }).to_string())
        };
        let least = if node.ipv6_network.is_some() { mtu(false) } else { mtu(true) };
        let registration = Registration {
            backend_type: "failover".to_owned(),
            backend_data: data(&ways[0]),
            backend_v6_data: data(&ways[1]),
            mtu: least,
        };
        let peers = BTreeMap::new();
        let kept = state::get(BY_TUNNEL)?.unwrap_or_default();
        let kept = String::from_utf8_lossy(&kept).lines().filter_map(|line| line.parse().ok()).collect();
        Ok((Self { ways, options, interval, size, peers, kept, blind: false, ticks: 0 }, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        let subnets = [own.ipv4_subnet.map(IpNet::V4), own.ipv6_subnet.map(IpNet::V6)];
        for (ways, subnet) in self.ways.iter().zip(subnets) {
            if let Some((ways, subnet)) = ways.as_ref().zip(subnet) {
                ways.tunnel.set_addresses(&[subnet.network().into()])?;
            }
        }
        Ok(())
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        self.removed(peer);
        if lease.backend_type != "failover" {
            return Ok(());
        }
        if let Some((subnet, public)) = lease.ipv4_subnet.zip(lease.public_ipv4) {
            self.put_family(peer, subnet.into(), public.into(), vtep(lease.backend_data.as_deref())?)?;
        }
        if let Some((subnet, public)) = lease.ipv6_subnet.zip(lease.public_ipv6) {
            self.put_family(peer, subnet.into(), public.into(), vtep(lease.backend_v6_data.as_deref())?)?;
        }
        Ok(())
    }

    fn removed(&mut self, peer: PeerId) {
        self.peers.remove(&(peer, true));
        self.peers.remove(&(peer, false));
    }

    fn applied(&mut self) -> Result<(), String> {
        self.keep()?;
        self.watch()
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        self.ticks += 1;
        metrics::add("ticks", &[], 1)?;
        let trap = self.options.get("trap").is_some_and(|tick| *tick == self.ticks.to_string());
        assert!(!trap, "it traps, as it was told");
        self.watch()?;
        self.look()?;
        Ok(Some(TICK))
    }
}

flannel_backend::export!(Failover);

#[cfg(test)]
mod tests;
