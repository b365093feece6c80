//! A plugin that serves its peers like vxlan does, but for one thing, which its options name: `In` is the function of the
//! contract (`register`, `lease-acquired`, `apply`, `tick`), `Do` is what it does there. With `Subnet`, `apply` does it only for the
//! peer with that IPv4 subnet. A peer whose published data names a deed behind its MAC address gets that one. With `"Over":"udp"` it serves its peers like udp does.

use std::net::IpAddr;
use std::time::Duration;

use flannel_backend::ipnet::IpNet;
use flannel_backend::{
    Config, Family, Lease, Link, Mac, Node, PeerId, Policy, Registration, Retire, Route, Vxlan, clock, fdb,
    links, log, neighbours, routes, state, udp_tunnel,
};

struct Hostile {
    link: Link,
    place: String,
    deed: String,
    subnet: Option<String>,
    /// The cluster network, where peers are behind a tunnel of the host.
    tunnelled: Option<IpNet>,
    /// What it publishes, and serves.
    backend_type: String,
    /// How many leases there were.
    leases: u64,
    /// The peer of the last one.
    last: u64,
}

impl Policy for Hostile {
    const NAME: &'static str = "hostile";
    const VERSION: &'static str = "0.0.0";
    /// As vxlan it takes the place of the plugin of that name.
    const BACKEND_TYPES: &'static [&'static str] = &["hostile", "vxlan"];

    fn register(node: &Node, config: &Config) -> Result<(Self, Registration), String> {
        let text = |name| Ok::<_, String>(config.text(name)?.unwrap_or_default().to_owned());
        let starts = state::get("starts")?.map_or(0, |starts| starts.len());
        let is_fickle =
            |deed: &str| config.text("In") == Ok(Some("register")) && config.text("Do") == Ok(Some(deed));
        if is_fickle("other-device") || is_fickle("other-data") {
            state::set("starts", Some(&vec![b'x'; starts + 1]))?;
        }
        let device = Vxlan {
            name: format!("flannel.{}", if is_fickle("other-device") { starts + 1 } else { 1 }),
            vni: 1,
            port: None,
            family: Family::V4,
            learning: false,
            gbp: false,
            mtu: node.external.mtu - 50,
        };
        let tunnelled = node.ipv4_network.map(IpNet::from).filter(|_| config.text("Over") == Ok(Some("udp")));
        let link = if tunnelled.is_some() {
            udp_tunnel::ensure(&udp_tunnel::Device {
                name: "flannel0".to_owned(),
                port: 8285,
                mtu: device.mtu,
            })?
        } else {
            links::ensure_vxlan(&device)?
        };
        let mac = if tunnelled.is_some() { Mac([2, 0, 0, 0, 0, 1]) } else { link.mac().ok_or("no MAC")? };
        let subnet = config.text("Subnet")?.map(str::to_owned);
        let (place, deed, backend_type) = (text("In")?, text("Do")?, text("Type")?);
        let published = backend_type.clone();
        let policy = Self { link, place, deed, subnet, tunnelled, backend_type, leases: 0, last: 0 };
        policy.misbehave("register", None)?;
        let data = if published == "vxlan" {
            format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)
        } else {
            format!("\"{mac}\"")
        };
        let (backend_data, mtu) = match (policy.place.as_str(), policy.deed.as_str()) {
            ("register", "garbage") => ("{".to_owned(), device.mtu),
            ("register", "other-data") => (format!("\"02:00:00:00:00:{starts:02}\""), device.mtu),
            ("register", "mtu") => (data, 7),
            _ => (data, device.mtu),
        };
        let registration = Registration {
            backend_type: published,
            backend_data: Some(backend_data),
            backend_v6_data: None,
            mtu,
        };
        Ok((policy, registration))
    }

    fn lease_acquired(&mut self, own: &Lease) -> Result<(), String> {
        self.misbehave("lease-acquired", None)?;
        let subnet = own.ipv4_subnet.ok_or("no IPv4 subnet")?;
        // As far as the cluster network of the made-up nodes reaches.
        let reaches_far = self.place == "lease-acquired" && self.deed == "reaching-address";
        let address = IpNet::new(subnet.network().into(), if reaches_far { 8 } else { 32 });
        self.link.set_addresses(&[address.map_err(|_| "a prefix")?])?;
        match self.tunnelled {
            Some(network) => Ok(self.link.set_networks(&[network])?),
            None => Ok(()),
        }
    }

    fn put(&mut self, peer: PeerId, lease: &Lease) -> Result<(), String> {
        let (Some(subnet), Some(public), Some(data)) =
            (lease.ipv4_subnet, lease.public_ipv4, &lease.backend_data)
        else {
            return Ok(());
        };
        if lease.backend_type != self.backend_type && !self.does("all") {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.last, peer.0);
        self.leases += 1;
        if self.does("whim") && self.leases.is_multiple_of(3) || self.does("grudge") && peer.0 < before {
            return Ok(());
        }
        if self.does("hoard") && self.leases.is_multiple_of(100) {
            std::mem::forget(links::external());
        }
        assert!(!self.does("tire") || self.leases < 6000, "tired");
        if self.does("leak") {
            std::mem::forget(std::hint::black_box(vec![1_u8; 512]));
        }
        let mac: Mac = if let Ok(published) = Config::parse(data) {
            published.text("VtepMAC")?.ok_or("no MAC")?.parse()?
        } else {
            let text = data.trim_matches('"');
            let (mac, deed) = text.split_once(' ').unwrap_or((text, ""));
            self.commit(deed, Some((peer, subnet.into())))?;
            let mac = mac.parse();
            if self.does("brittle") { mac.expect("everybody publishes what I do") } else { mac? }
        };
        let address = IpAddr::V4(subnet.network());
        if self.tunnelled.is_some() {
            udp_tunnel::put(peer, subnet.into(), public.into(), &self.link)?;
        } else {
            neighbours::put(peer, address, mac, &self.link)?;
            fdb::put(peer, mac, public.into(), &self.link)?;
        }
        if self.subnet.as_ref().is_none_or(|only| *only == subnet.to_string()) {
            self.misbehave("apply", Some((peer, subnet.into())))?;
        }
        if self.tunnelled.is_some() {
            return Ok(());
        }
        Ok(routes::put(peer, &Route { destination: subnet.into(), via: address, onlink: true }, &self.link)?)
    }

    fn tick(&mut self) -> Result<Option<Duration>, String> {
        self.misbehave("tick", None)?;
        let again = self.place == "tick" && matches!(self.deed.as_str(), "log" | "spin" | "remember");
        Ok(Some(if again { Duration::from_millis(100) } else { Duration::from_hours(1) }))
    }
}

impl Retire for Hostile {
    fn retire(&mut self) -> Result<Option<Duration>, String> {
        self.misbehave("retire", None)?;
        Ok(None)
    }
}

/// Works for so long.
fn spin(time: Duration) {
    let end = clock::monotonic() + time;
    while clock::monotonic() < end {
        std::hint::black_box(());
    }
}

impl Hostile {
    /// Whether this is the deed with leases of peers: some are done all along.
    fn does(&self, deed: &str) -> bool {
        self.place == "apply" && self.deed == deed
    }

    fn misbehave(&self, place: &str, peer: Option<(PeerId, IpNet)>) -> Result<(), String> {
        if place == self.place { self.commit(&self.deed, peer) } else { Ok(()) }
    }

    #[allow(clippy::too_many_lines, reason = "a list of deeds")]
    fn commit(&self, deed: &str, peer: Option<(PeerId, IpNet)>) -> Result<(), String> {
        let route = |destination: &str| -> Result<(), String> {
            let (peer, subnet) = peer.ok_or("only in apply")?;
            let destination = destination.parse().map_err(|_| "a prefix")?;
            // The answer is ignored, as a plugin that means harm would.
            let _ =
                routes::put(peer, &Route { destination, via: subnet.network(), onlink: true }, &self.link);
            Ok(())
        };
        match deed {
            "error" => Err("the deed was asked for".to_owned()),
            "panic" => panic!("the deed was asked for"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "call" => loop {
                std::hint::black_box(links::external().mtu());
            },
            "hand-over" => {
                log::info(&"x".repeat(8 << 20), &[]);
                Ok(())
            }
            "spin" => {
                spin(Duration::from_millis(200));
                Ok(())
            }
            "memory" => {
                let mut hoard = Vec::new();
                loop {
                    // Never touched: on a slow machine that would take longer than the call may.
                    hoard.push(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
                }
            }
            "recursion" => Err(deep(1).to_string()),
            "log" => {
                (0..100_000).for_each(|n| log::info("flood", &[("n", &n.to_string())]));
                Ok(())
            }
            "state" => {
                (0..1000).for_each(|n| drop(state::set(&format!("key{n}"), Some(b"value"))));
                Ok(())
            }
            "remember" => {
                let mut visits = state::get("visits")?.unwrap_or_default();
                visits.push(b'x');
                Ok(state::set("visits", Some(&visits))?)
            }
            "handles" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(links::external());
                }
            }
            "flood" => {
                let (peer, subnet) = peer.ok_or("only in apply")?;
                for destination in subnet.subnets(32).map_err(|_| "a subnet")? {
                    let _ = routes::put(
                        peer,
                        &Route { destination, via: subnet.network(), onlink: true },
                        &self.link,
                    );
                }
                Ok(())
            }
            "default-route" => route("0.0.0.0/0"),
            "outside" => route("192.0.2.0/24"),
            "host-bits" => route("10.5.0.7/8"),
            "foreign-peer" => {
                let (peer, subnet) = peer.ok_or("only in apply")?;
                let stranger = PeerId(peer.0 + 1_000_000);
                let _ = routes::put(
                    stranger,
                    &Route { destination: subnet, via: subnet.network(), onlink: true },
                    &self.link,
                );
                Ok(())
            }
            "foreign-destination" => {
                let (peer, _) = peer.ok_or("only in apply")?;
                let _ = fdb::put(peer, Mac([2, 0, 0, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]), &self.link);
                Ok(())
            }
            "late-device" => {
                let _ = links::ensure_vxlan(&vxlan("flannel.8", None));
                Ok(())
            }
            "others-device" => {
                let _ = links::ensure_vxlan(&vxlan("eth0", None));
                Ok(())
            }
            "external-address" => {
                let _ = links::external().set_addresses(&["10.5.1.1/24".parse().map_err(|_| "a prefix")?]);
                Ok(())
            }
            "foreign-device" => {
                let _ = links::ensure_vxlan(&vxlan("flannel-br", None));
                Ok(())
            }
            "system-port" => {
                let _ = links::ensure_vxlan(&vxlan("flannel.8", Some(53)));
                Ok(())
            }
            "system-tunnel-port" => {
                let name = "flannel7".to_owned();
                let _ = udp_tunnel::ensure(&udp_tunnel::Device { name, port: 123, mtu: 1400 });
                Ok(())
            }
            // Where the node's subnet is 10.5.72.0/24.
            "wide-address" => {
                let _ = self.link.set_addresses(&["10.5.72.1/8".parse().map_err(|_| "a prefix")?]);
                Ok(())
            }
            "later-own-network" => {
                let networks = ["10.5.72.0/24", "10.5.74.0/24"].map(str::parse);
                let networks =
                    networks.into_iter().collect::<Result<Vec<IpNet>, _>>().map_err(|_| "a prefix")?;
                let _ = self.link.set_networks(&networks);
                Ok(())
            }
            "fixed-network" => {
                let _ = self.link.set_networks(&["10.254.0.0/25".parse().map_err(|_| "a prefix")?]);
                Ok(())
            }
            "own-network" => {
                let _ = self.link.set_networks(&["10.5.72.128/25".parse().map_err(|_| "a prefix")?]);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A second device.
fn vxlan(name: &str, port: Option<u16>) -> Vxlan {
    let name = name.to_owned();
    Vxlan { name, vni: 8, port, family: Family::V4, learning: false, gbp: false, mtu: 1400 }
}

#[allow(unconditional_recursion, reason = "it is meant to overflow the stack")]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(std::hint::black_box(n + 1))) + 1
}

flannel_backend::export!(Hostile);
flannel_backend::retirement!(Hostile);
