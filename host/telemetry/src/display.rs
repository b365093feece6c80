//! [`Status`] for people: what is wrong first, the long table last, nothing wider than a terminal.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use flannel_base::Timestamp;
use flannel_base::text::printable;

use super::status::{
    Change, Datapath, Firewall, Lease, Network, Node, Peer, Plugin, Probes, Problem, Status, Store, Swaps,
    Trouble, Tunnel, TunnelSources,
};

/// Texts are broken here; names and addresses never are.
const WIDTH: usize = 100;
/// Where the texts beside the labels begin.
const INDENT: usize = 12;
/// So many rows of the tables are shown.
const PROBLEMS: usize = 20;
const PEERS: usize = 50;
/// Of the table of peers; the last that is no number.
const COLUMNS: usize = 8;
const REACHED_BY: usize = 3;
/// Enough of a digest to tell plugins apart.
const DIGEST: usize = 12;

impl Display for Status {
    /// Whatever strangers have written, in a lease or by a plugin, a terminal follows none of it.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = fmt::from_fn(|f| self.show(f)).to_string();
        shown.chars().try_for_each(|c| f.write_char(if c == '\n' { c } else { printable(c) }))
    }
}

impl Status {
    /// As it is.
    fn show(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let problems = self.problems();
        headline(f, self, &problems)?;
        show_problems(f, &problems)?;
        writeln!(f)?;
        if let Some(node) = &self.node {
            row(f, "node", &describe_node(node))?;
        }
        if let Some(Network { ipv4, ipv6 }) = &self.network {
            row(f, "network", &list(ipv4.iter().chain(ipv6)))?;
        }
        if let Some(change) = &self.change {
            show_change(f, change, self.time)?;
        }
        row(f, "lease", &self.lease.as_ref().map_or_else(|| "none".to_owned(), |l| self.describe_lease(l)))?;
        row(f, "store", &describe_store(&self.store))?;
        if let Some(plugin) = &self.plugin {
            show_plugin(f, plugin)?;
        }
        if let Some(datapath) = &self.datapath {
            show_datapath(f, datapath)?;
        }
        if let Some(firewall) = &self.firewall {
            row(f, "firewall", &describe_firewall(firewall))?;
            if let Some(sources) = firewall.sources.as_ref().filter(|sources| sources.in_place) {
                row(f, "", &describe_sources(sources))?;
            }
        }
        if let Some(probes) = &self.probes {
            show_probes(f, probes)?;
        }
        show_peers(f, &self.peers)
    }

    fn describe_lease(&self, lease: &Lease) -> String {
        let until = match lease.expires {
            _ if lease.reserved => "reserved, does not end".to_owned(),
            None => "without an end".to_owned(),
            Some(end) => match end.since(self.time) {
                Some(left) => format!("until {end} (in {})", span(left)),
                None => format!("until {end}"),
            },
        };
        format!("{}, MTU {}, {until}", list(&lease.subnets), lease.mtu)
    }
}

fn headline(f: &mut Formatter<'_>, status: &Status, problems: &[Problem]) -> fmt::Result {
    write!(f, "flanneld {}", status.version)?;
    if status.pid != 0 {
        write!(f, ", pid {}", status.pid)?;
    }
    if let Some(up) = status.started.and_then(|started| status.time.since(started)) {
        write!(f, ", up {}", span(up))?;
    }
    write!(f, ": {}", if status.ready.ready { "ready" } else { "not ready" })?;
    match problems.len() {
        0 => writeln!(f),
        1 => writeln!(f, ", 1 problem"),
        count => writeln!(f, ", {count} problems"),
    }
}

fn show_problems(f: &mut Formatter<'_>, problems: &[Problem]) -> fmt::Result {
    if problems.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nproblems")?;
    let shown = &problems[..problems.len().min(PROBLEMS)];
    let width = shown.iter().map(|problem| width(&problem.at)).max().unwrap_or_default();
    for Problem { at, text } in shown {
        wrapped(f, &format!("  {at:width$}  "), text)?;
    }
    more(f, problems.len() - shown.len())
}

fn describe_node(node: &Node) -> String {
    let text = format!("{}, MTU {}, {}", node.interface, node.mtu, list(&node.addresses));
    if node.public_addresses == node.addresses {
        return text;
    }
    format!("{text}, public address {}", list(&node.public_addresses))
}

fn show_change(f: &mut Formatter<'_>, change: &Change, now: Timestamp) -> fmt::Result {
    let for_so_long = change.since.and_then(|since| now.since(since));
    let for_so_long = for_so_long.map(|time| format!(" ({})", span(time))).unwrap_or_default();
    row(f, "change", &format!("{change}{for_so_long}"))?;
    let shown = &change.waits_for[..change.waits_for.len().min(PROBLEMS)];
    shown.iter().try_for_each(|who| row(f, "", &format!("waits for {who}")))?;
    more(f, change.waits_for.len() - shown.len())
}

impl Display for Change {
    /// How far it is, in a line.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { from_type, to_type, phase, moved, peers, .. } = self;
        let other = if from_type == to_type { " with other options" } else { "" };
        let phase = match phase.as_str() {
            "main" => "published as the main one",
            "retiring" => "the former one goes",
            phase => phase,
        };
        write!(f, "to {to_type}{other}: {moved} of {} moved, {phase}", counted(*peers, "peer"))
    }
}

fn describe_store(store: &Store) -> String {
    let text = format!("{} {}", store.kind, store.place);
    match &store.last_error {
        Some(error) if store.ok => format!("{text}; recovered; the last error was: {error}"),
        _ => text,
    }
}

fn show_plugin(f: &mut Formatter<'_>, plugin: &Plugin) -> fmt::Result {
    let Plugin { name, version, source, .. } = plugin;
    let digest: String = plugin.digest.chars().take(DIGEST).collect();
    row(f, "plugin", &format!("{name} {version}, {source}, {}, sha256 {digest}…", bytes(plugin.size)))?;
    if !plugin.signers.is_empty() {
        row(f, "", &format!("signed by {}", plugin.signers.join(", ")))?;
    }
    if let Some(moved) = &plugin.moved {
        row(f, "", &format!("OLDER than before: the tag has {moved}"))?;
    }
    let mut calls: Vec<String> = plugin.calls.iter().map(|(function, n)| format!("{function} {n}")).collect();
    calls.push(format!("{} failed", plugin.failures));
    calls.push(counted(plugin.restarts, "restart"));
    row(f, "calls", &calls.join(", "))?;
    if let Some(error) = &plugin.last_error {
        row(f, "", &format!("last error: {error}"))?;
    }
    if let Some(Trouble { since, reason }) = &plugin.trouble {
        row(f, "", &format!("FAILING since {since}: {reason}"))?;
    }
    if plugin.suspended {
        row(f, "", "suspended: it has failed too often, and is asked only when something has changed")?;
    }
    let Swaps { done, refused, last, refusal } = &plugin.swaps;
    let Some(last) = last else { return Ok(()) };
    row(f, "swaps", &format!("{done} done, {refused} refused, the last at {last}"))?;
    match refusal {
        Some(reason) => row(f, "", &format!("the last was refused: {reason}")),
        None => Ok(()),
    }
}

fn show_datapath(f: &mut Formatter<'_>, datapath: &Datapath) -> fmt::Result {
    let mut label = "devices";
    for device in &datapath.devices {
        let mac = device.mac.as_ref().map(|mac| format!("{mac}, ")).unwrap_or_default();
        let up = if device.up { "up" } else { "down" };
        row(f, label, &format!("{} (index {}), {mac}MTU {}, {up}", device.name, device.index, device.mtu))?;
        label = "";
    }
    if datapath.devices.is_empty() {
        row(f, label, "none")?;
    }
    datapath.tunnels.iter().try_for_each(|tunnel| show_tunnel(f, tunnel))?;
    let entries = &datapath.entries;
    let state = match (entries.waiting, entries.failed) {
        (0, 0) => "all in place".to_owned(),
        (waiting, failed) => format!("of which {waiting} waiting, {failed} refused"),
    };
    row(f, "entries", &format!("{}, {state}", entries.desired))?;
    let objects = if datapath.nexthops { "nexthop objects" } else { "no nexthop objects" };
    let (messages, resyncs) = (counted(datapath.messages, "message"), counted(datapath.resyncs, "resync"));
    row(f, "kernel", &format!("{messages} sent, {resyncs}, {objects}"))
}

fn show_tunnel(f: &mut Formatter<'_>, tunnel: &Tunnel) -> fmt::Result {
    let Tunnel { device, port, traffic, .. } = tunnel;
    row(f, "tunnel", &format!("{device}, UDP port {port}, offloads {}", list(&tunnel.offloads)))?;
    let packets = |count| counted(count, "packet");
    let (received, sent) = (packets(traffic.rx_packets), packets(traffic.tx_packets));
    let (came, went) = (bytes(traffic.rx_bytes), bytes(traffic.tx_bytes));
    row(f, "", &format!("{received} ({came}) received, {sent} ({went}) sent"))?;
    let drops: Vec<String> = tunnel.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if drops.is_empty() { Ok(()) } else { row(f, "", &format!("dropped: {}", drops.join(", "))) }
}

fn describe_firewall(firewall: &Firewall) -> String {
    let place = if firewall.ok { "in place" } else { "not in place" };
    let times = counted(firewall.repairs, "time");
    let repairs = if firewall.repairs == 0 { String::new() } else { format!(", put back {times}") };
    format!("{}, {place}{repairs}", firewall.mode)
}

fn describe_sources(sources: &TunnelSources) -> String {
    let addresses = match sources.addresses {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    let others = counted(sources.dropped, "packet");
    let dropped = if sources.dropped == 0 { String::new() } else { format!("; {others} of others dropped") };
    format!("tunnels are open to {addresses}{dropped}")
}

fn show_probes(f: &mut Formatter<'_>, probes: &Probes) -> fmt::Result {
    let Probes { untested, answered, lost, interval_ms, lost_targets } = probes;
    let mut text = counted(untested + answered + lost, "target");
    for (count, what) in [(answered, "answered"), (lost, "lost"), (untested, "untested")] {
        if *count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    let every = span(Duration::from_millis(*interval_ms));
    row(f, "probes", &format!("{text}, each asked once in {every}"))?;
    lost_targets.iter().try_for_each(|target| row(f, "", &format!("lost: {target}")))?;
    match lost.saturating_sub(lost_targets.len()) {
        0 => Ok(()),
        others => row(f, "", &format!("lost: {others} others")),
    }
}

fn show_peers(f: &mut Formatter<'_>, peers: &[Peer]) -> fmt::Result {
    if peers.is_empty() {
        return row(f, "peers", "none");
    }
    writeln!(f, "\n{}", counted(peers.len(), "peer"))?;
    let mut order: Vec<&Peer> = peers.iter().collect();
    order.sort_by_key(|peer| peer.problems.is_empty());
    order.truncate(PEERS);
    let mut rows = vec![
        ["  subnet", "public", "backend", "reached by", "routes", "neighbours", "fdb", "tunnels"]
            .map(str::to_owned),
    ];
    // Only while the backend is changed.
    if order.iter().all(|peer| peer.generation.is_none()) {
        rows[0][REACHED_BY].clear();
    }
    for peer in &order {
        rows.extend(peer_rows(peer));
    }
    let mut widths = [0; COLUMNS];
    for cells in &rows {
        for (column, cell) in cells.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    for cells in &rows {
        let columns = cells.iter().zip(widths).enumerate().filter(|(_, (_, width))| *width > 0);
        let columns: Vec<String> = columns
            .map(|(column, (cell, width))| {
                // Numbers are on the right.
                if column > REACHED_BY { format!("{cell:>width$}") } else { format!("{cell:width$}") }
            })
            .collect();
        writeln!(f, "{}", columns.join("  ").trim_end())?;
    }
    more(f, peers.len() - order.len())
}

/// A line for each family: two addresses of IPv6 side by side would be all that fits.
fn peer_rows(peer: &Peer) -> impl Iterator<Item = [String; COLUMNS]> {
    let text = |item: Option<&dyn Display>| item.map(ToString::to_string).unwrap_or_default();
    (0..peer.subnets.len().max(peer.public.len()).max(1)).map(move |line| {
        let first = line == 0;
        let number = |count: usize| if first { count.to_string() } else { String::new() };
        let mark = if first && !peer.problems.is_empty() { '!' } else { ' ' };
        [
            format!("{mark} {}", text(peer.subnets.get(line).map(|subnet| subnet as &dyn Display))),
            text(peer.public.get(line).map(|address| address as &dyn Display)),
            if first { peer.backend_type.clone() } else { String::new() },
            if first { peer.generation.clone().unwrap_or_default() } else { String::new() },
            number(peer.routes),
            number(peer.neighbours),
            number(peer.fdb),
            number(peer.tunnels),
        ]
    })
}

fn more(f: &mut Formatter<'_>, count: usize) -> fmt::Result {
    if count == 0 { Ok(()) } else { writeln!(f, "  … and {count} more; --json has all") }
}

fn row(f: &mut Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    wrapped(f, &format!("{label:INDENT$}"), text)
}

/// Breaks a text into lines, all of them beside the head.
fn wrapped(f: &mut Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    let room = WIDTH.saturating_sub(width(head));
    let mut line = String::new();
    let mut head = head.to_owned();
    for word in text.split_whitespace() {
        if !line.is_empty() && width(&line) + 1 + width(word) > room {
            writeln!(f, "{head}{line}")?;
            head = " ".repeat(width(&head));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // What others wrote, a plugin or a peer, must not steer the terminal.
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    writeln!(f, "{}", format!("{head}{line}").trim_end())
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn counted(count: impl Into<Count>, what: &str) -> String {
    match count.into().0 {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

struct Count(u64);

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(count)
    }
}

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(count as u64)
    }
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..0x0010_0000 => format!("{} KiB", count.div_ceil(1024)),
        _ => format!("{}.{} MiB", count >> 20, (count >> 10) % 1024 * 10 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::status::{Config, Device, Entries, Ready, Traffic};
    use super::*;

    fn peer(number: u64) -> Peer {
        Peer {
            id: number,
            subnets: vec![format!("10.5.{number}.0/24").parse().expect("subnet")],
            public: vec![format!("192.168.77.{number}").parse().expect("address")],
            backend_type: "vxlan".to_owned(),
            generation: None,
            routes: 1,
            neighbours: 1,
            fdb: 1,
            tunnels: 0,
            traffic: None,
            path_mtu: None,
            problems: Vec::new(),
        }
    }

    fn well() -> Status {
        Status {
            version: "0.1.0".to_owned(),
            pid: 712,
            started: Some("2026-01-02T00:00:00Z".parse().expect("time")),
            time: "2026-01-02T03:05:00Z".parse().expect("time"),
            ready: Ready { ready: true, ..Ready::default() },
            node: Some(Node {
                interface: "eth0".to_owned(),
                mtu: 1500,
                addresses: vec!["192.168.77.11".parse().expect("address")],
                public_addresses: vec!["192.168.77.11".parse().expect("address")],
            }),
            network: Some(Network { ipv4: Some("10.5.0.0/16".parse().expect("network")), ipv6: None }),
            config: Some(Config { refused: None, backend: r#"{"Type":"vxlan"}"#.to_owned() }),
            change: None,
            lease: Some(Lease {
                subnets: vec!["10.5.65.0/24".parse().expect("subnet")],
                expires: Some("2026-01-03T02:15:07Z".parse().expect("time")),
                reserved: false,
                mtu: 1450,
            }),
            store: Store {
                kind: "etcd".to_owned(),
                place: "http://10.0.0.1:2379".to_owned(),
                ok: true,
                last_error: None,
            },
            plugin: Some(Plugin {
                name: "vxlan".to_owned(),
                version: "0.1.0".to_owned(),
                source: "built in".to_owned(),
                digest: "8f4b2a6c0d9e1f73a5".to_owned(),
                size: 186_000,
                calls: BTreeMap::from([("apply".to_owned(), 12), ("register".to_owned(), 1)]),
                ..Plugin::default()
            }),
            datapath: Some(Datapath {
                devices: vec![Device {
                    name: "flannel.1".to_owned(),
                    index: 7,
                    mac: Some("2a:f4:75:6f:a0:e3".to_owned()),
                    mtu: 1450,
                    up: true,
                }],
                entries: Entries { desired: 6, waiting: 0, failed: 0 },
                resyncs: 1,
                messages: 10,
                nexthops: true,
                tunnels: Vec::new(),
                device_error: None,
            }),
            firewall: Some(Firewall {
                mode: "nftables".to_owned(),
                ok: true,
                sources: Some(TunnelSources { in_place: true, addresses: 2, ..TunnelSources::default() }),
                ..Firewall::default()
            }),
            probes: None,
            peers: vec![peer(27), peer(41)],
        }
    }

    fn is(status: &Status, expected: &str) {
        let shown = status.to_string();
        assert_eq!(shown, expected, "it is:\n{shown}");
    }

    #[test]
    fn probes_are_counted_and_some_of_those_that_are_lost_named() {
        let mut status = well();
        let lost_targets = vec!["192.168.77.27 over eth0, 44 bytes".to_owned()];
        status.probes = Some(Probes { untested: 0, answered: 3, lost: 4, interval_ms: 2500, lost_targets });
        let shown = status.to_string();
        let lines = "probes      7 targets, 3 answered, 4 lost, each asked once in 2 s\n            lost: 192.168.77.27 over eth0, 44 bytes\n            lost: 3 others\n";
        assert!(shown.contains(lines), "{shown}");
        let json = serde_json::to_value(&status).expect("JSON");
        assert_eq!(json["probes"]["lost"], 4);
    }

    #[test]
    fn signers_and_a_tag_that_has_moved_back_are_with_the_plugin() {
        let mut status = well();
        if let Some(plugin) = &mut status.plugin {
            plugin.signers = vec!["acme (key sha256:12)".to_owned(), "other (key sha256:34)".to_owned()];
            plugin.moved = Some("moved from 1.2.0 (sha256:56) back to 1.1.0 (sha256:78)".to_owned());
        }
        let text = status.to_string();
        for line in [
            "            signed by acme (key sha256:12), other (key sha256:34)\n",
            "            OLDER than before: the tag has moved from 1.2.0 (sha256:56) back to 1.1.0 (sha256:78)\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    #[test]
    fn a_terminal_follows_nothing_that_strangers_wrote() {
        let mut status = well();
        let hostile = Peer { backend_type: "x\u{1b}]0;t\u{7}".to_owned(), ..peer(200) };
        status.peers.push(Peer { problems: vec!["\u{202e}no\u{9b}2J".to_owned()], ..hostile });
        let shown = status.to_string();
        assert!(!shown.chars().any(|c| c != '\n' && c != printable(c)), "{shown:?}");
        assert!(shown.contains("x ]0;t"), "{shown}");
    }

    #[test]
    fn all_is_well() {
        is(
            &well(),
            "\
flanneld 0.1.0, pid 712, up 3 h 5 min: ready

node        eth0, MTU 1500, 192.168.77.11
network     10.5.0.0/16
lease       10.5.65.0/24, MTU 1450, until 2026-01-03T02:15:07Z (in 23 h 10 min)
store       etcd http://10.0.0.1:2379
plugin      vxlan 0.1.0, built in, 182 KiB, sha256 8f4b2a6c0d9e…
calls       apply 12, register 1, 0 failed, 0 restarts
devices     flannel.1 (index 7), 2a:f4:75:6f:a0:e3, MTU 1450, up
entries     6, all in place
kernel      10 messages sent, 1 resync, nexthop objects
firewall    nftables, in place
            tunnels are open to 2 addresses

2 peers
  subnet        public         backend  routes  neighbours  fdb  tunnels
  10.5.27.0/24  192.168.77.27  vxlan         1           1    1        0
  10.5.41.0/24  192.168.77.41  vxlan         1           1    1        0
",
        );
    }

    #[test]
    fn a_tunnel_of_the_daemon_itself() {
        let mut status = well();
        let datapath = status.datapath.as_mut().expect("datapath");
        datapath.devices[0].mac = None;
        datapath.devices[0].name = "flannel0".to_owned();
        datapath.tunnels = vec![Tunnel {
            device: "flannel0".to_owned(),
            port: 8285,
            offloads: ["tso", "gso"].map(ToOwned::to_owned).into(),
            traffic: Traffic {
                rx_packets: 1,
                rx_bytes: 84,
                tx_packets: 20_000,
                tx_bytes: 3 << 20,
                errors: 0,
            },
            drops: BTreeMap::from([("no_route".to_owned(), 5), ("unknown_sender".to_owned(), 1)]),
            icmp_errors: 5,
        }];
        let shown = status.to_string();
        let expected = "\
devices     flannel0 (index 7), MTU 1450, up
tunnel      flannel0, UDP port 8285, offloads tso, gso
            1 packet (84 bytes) received, 20000 packets (3.0 MiB) sent
            dropped: no_route 5, unknown_sender 1
";
        assert!(shown.contains(expected), "it is:\n{shown}");
    }

    #[test]
    fn much_is_wrong() {
        let mut status = well();
        status.time = "2026-01-06T03:05:00Z".parse().expect("time");
        status.ready =
            Ready { missing: vec!["the subnet file is not written".to_owned()], ..Ready::default() };
        status.store.ok = false;
        status.store.last_error = Some(
            "no endpoint answers: http://10.0.0.1:2379: connection refused; http://10.0.0.2:2379: connection refused"
                .to_owned(),
        );
        if let Some(node) = &mut status.node {
            node.public_addresses = vec!["203.0.113.1".parse().expect("address")];
        }
        if let Some(plugin) = &mut status.plugin {
            (plugin.failures, plugin.restarts) = (2, 1);
            plugin.last_error = Some("apply: out of \u{1b}[31mfuel".to_owned());
        }
        if let Some(datapath) = &mut status.datapath {
            datapath.devices[0].up = false;
            datapath.entries = Entries { desired: 6, waiting: 1, failed: 2 };
        }
        let sources = TunnelSources {
            error: Some("nf_tables is missing".to_owned()),
            dropped: 7,
            ..TunnelSources::default()
        };
        status.firewall = Some(Firewall {
            mode: "iptables".to_owned(),
            repairs: 3,
            sources: Some(sources),
            ..Firewall::default()
        });
        status.peers[0].subnets.push("fc00:0:0:1b::/64".parse().expect("subnet"));
        status.peers[0].public.push("2001:db8::27".parse().expect("address"));
        status.peers[1].problems = vec!["the lease has no VTEP MAC".to_owned()];
        is(
            &status,
            "\
flanneld 0.1.0, pid 712, up 4 d 3 h: not ready, 9 problems

problems
  not ready     the subnet file is not written
  store         no endpoint answers: http://10.0.0.1:2379: connection refused; http://10.0.0.2:2379:
                connection refused
  lease         it ended at 2026-01-03T02:15:07Z and could not be renewed
  devices       flannel.1 is down
  entries       the kernel refused 2
  entries       1 cannot be made before their device is there
  firewall      the rules are not in place
  firewall      tunnels take packets from any host: nf_tables is missing
  10.5.41.0/24  the lease has no VTEP MAC

node        eth0, MTU 1500, 192.168.77.11, public address 203.0.113.1
network     10.5.0.0/16
lease       10.5.65.0/24, MTU 1450, until 2026-01-03T02:15:07Z
store       etcd http://10.0.0.1:2379
plugin      vxlan 0.1.0, built in, 182 KiB, sha256 8f4b2a6c0d9e…
calls       apply 12, register 1, 2 failed, 1 restart
            last error: apply: out of [31mfuel
devices     flannel.1 (index 7), 2a:f4:75:6f:a0:e3, MTU 1450, down
entries     6, of which 1 waiting, 2 refused
kernel      10 messages sent, 1 resync, nexthop objects
firewall    iptables, not in place, put back 3 times

2 peers
  subnet            public         backend  routes  neighbours  fdb  tunnels
! 10.5.41.0/24      192.168.77.41  vxlan         1           1    1        0
  10.5.27.0/24      192.168.77.27  vxlan         1           1    1        0
  fc00:0:0:1b::/64  2001:db8::27
",
        );
    }

    #[test]
    fn a_change_of_the_backend_goes_on() {
        let mut status = well();
        status.change = Some(Change {
            from: r#"{"Type":"vxlan"}"#.to_owned(),
            to: r#"{"Type":"host-gw"}"#.to_owned(),
            from_type: "vxlan".to_owned(),
            to_type: "host-gw".to_owned(),
            phase: "moving".to_owned(),
            since: Some("2026-01-02T03:04:48Z".parse().expect("time")),
            moved: 1,
            peers: 2,
            failure: None,
            waits_for: vec!["10.5.41.0/24: no answer over host-gw".to_owned()],
        });
        status.peers[0].generation = Some("host-gw".to_owned());
        status.peers[1].generation = Some("vxlan".to_owned());
        status.peers[1].problems = vec!["stays on vxlan: no answer over host-gw".to_owned()];
        let shown = status.to_string();
        for expected in [
            "\
problems
  10.5.41.0/24  stays on vxlan: no answer over host-gw
",
            "\
network     10.5.0.0/16
change      to host-gw: 1 of 2 peers moved, moving (12 s)
            waits for 10.5.41.0/24: no answer over host-gw
lease ",
            "\
2 peers
  subnet        public         backend  reached by  routes  neighbours  fdb  tunnels
! 10.5.41.0/24  192.168.77.41  vxlan    vxlan            1           1    1        0
  10.5.27.0/24  192.168.77.27  vxlan    host-gw          1           1    1        0
",
        ] {
            assert!(shown.contains(expected), "it is:\n{shown}");
        }
    }

    #[test]
    fn a_change_that_cannot_begin_here_and_a_config_that_is_not_taken_up_are_problems() {
        let mut status = well();
        let failure = Some("UDP port 4789 is taken".to_owned());
        let vxlan = || "vxlan".to_owned();
        status.change = Some(Change {
            from_type: vxlan(),
            to_type: vxlan(),
            phase: "starting".to_owned(),
            failure,
            waits_for: (1..=30).map(|n| format!("10.5.{n}.0/24: it has not begun")).collect(),
            ..Change::default()
        });
        status.config = Some(Config { refused: Some("Network is another".to_owned()), ..Config::default() });
        let shown = status.to_string();
        for expected in [
            "ready, 2 problems\n",
            "  config  the network config in the store is not taken up: Network is another\n",
            "  change  vxlan does not start on this node: UDP port 4789 is taken\n",
            "change      to vxlan with other options: 0 of 0 peers moved, starting\n",
            "            waits for 10.5.20.0/24: it has not begun\n  … and 10 more; --json has all\n",
        ] {
            assert!(shown.contains(expected), "{expected:?} in:\n{shown}");
        }
    }

    #[test]
    fn a_daemon_that_waits_for_its_store() {
        let status = Status {
            version: "0.1.0".to_owned(),
            store: Store {
                kind: "file".to_owned(),
                place: "/srv/flannel".to_owned(),
                ok: false,
                last_error: None,
            },
            ..Status::default()
        };
        is(
            &status,
            "\
flanneld 0.1.0: not ready, 1 problem

problems
  store  it has not answered yet

lease       none
store       file /srv/flannel
peers       none
",
        );
    }

    #[test]
    fn long_tables_are_cut_and_nothing_is_too_wide() {
        let mut status = well();
        status.peers = (1..=200).map(peer).collect();
        for peer in &mut status.peers[100..] {
            peer.problems = vec!["a reason of many words ".repeat(8)];
        }
        let shown = status.to_string();
        assert!(shown.contains("\n  … and 80 more; --json has all\n"), "problems\n{shown}");
        assert!(shown.ends_with("\n  … and 150 more; --json has all\n"), "peers\n{shown}");
        assert!(shown.contains("\n! 10.5.101.0/24"), "those with problems come first\n{shown}");
        for line in shown.lines() {
            assert!(width(line) <= WIDTH, "{line}");
        }
    }

    #[test]
    fn json_is_for_programs() {
        let json = serde_json::to_value(well()).expect("JSON");
        assert_eq!(json["lease"]["expires"], "2026-01-03T02:15:07Z");
        assert_eq!(json["peers"][0]["subnets"][0], "10.5.27.0/24");
        assert_eq!(json["datapath"]["entries"]["desired"], 6);
        assert_eq!(json["config"]["backend"], r#"{"Type":"vxlan"}"#);
        assert!(json.get("change").is_none() && json["peers"][0].get("generation").is_none(), "{json}");
        assert_eq!(serde_json::from_value::<Status>(json).expect("status"), well());
        let other = r#"{"version":"9","news":1,"peers":[{"id":1}]}"#;
        let other: Status = serde_json::from_str(other).expect("another version's status");
        assert_eq!((other.version.as_str(), other.peers[0].id), ("9", 1));
    }
}
