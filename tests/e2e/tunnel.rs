//! The daemon's own tunnel, which the backend udp has: what it lets in, what it tells, and what it outlives.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flannel_lab::cluster::IPV6_ONLY;
use flannel_lab::fake_systemd::ServiceManager;
use flannel_lab::ping_probe::{self, Mark};
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Place, Pod, Prober, datagram, http, wait};

/// A cluster of two nodes, or none, with a reason on standard output, where this machine cannot have it.
fn cluster(prepare: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<Option<Cluster>> {
    if let Some(reason) = Backend::Udp.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let mut cluster = Cluster::prepare(&ClusterOptions::of(Backend::Udp, false))?;
    prepare(&mut cluster)?;
    cluster.bring_up()?;
    Ok(Some(cluster))
}

/// Puts the first node's daemon under a service manager that keeps descriptors.
fn manage(cluster: &mut Cluster) -> Result<ServiceManager> {
    let manager = ServiceManager::new(cluster.lab())?;
    let options = cluster.options().clone();
    cluster.set_options(options.manager(&manager));
    cluster.kill_and_restart(0)?;
    let kept = manager.kept(KEPT);
    assert!(kept >= 2, "a queue and a socket at least: {kept}");
    Ok(manager)
}

/// Under which name.
const KEPT: &str = "tunnel-flannel0";

/// Takes the first node's daemon away three times, for a moment each, where a service manager keeps its descriptors. Answers
/// how many of the packets from and to its pod were lost.
fn lost_while_away(take_away: impl Fn(&mut Cluster) -> Result<()>) -> Result<Option<usize>> {
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(None) };
    let manager = manage(&mut cluster)?;
    let kept = manager.kept(KEPT);
    let echo = Echo::to(cluster.pod(1)?.ipv4()?);
    // Where a daemon takes longer to start, no more packets wait for it: the kernel's queues hold some hundreds.
    let interval = wait::scaled(ping_probe::INTERVAL);
    let ping = Prober::start(cluster.pod(0)?.namespace(), echo, interval)?;
    for _ in 0..3 {
        std::thread::sleep(interval * 20);
        take_away(&mut cluster)?;
        std::thread::sleep(interval * 10);
        cluster.launch(0)?.wait_ready()?;
        assert_eq!(manager.kept(KEPT), kept, "the same ones are gone on with");
    }
    std::thread::sleep(interval * 20);
    let report = ping.report(Mark::default());
    assert!(report.received > 80, "{report:?}");
    Ok(Some(report.lost))
}

#[test]
fn a_restart_loses_no_packet_where_a_service_manager_keeps_the_descriptors() -> Result<()> {
    let lost = lost_while_away(|cluster| {
        let status = cluster.take_daemon(0)?.terminate()?;
        ensure!(status.success(), "{status}");
        Ok(())
    })?;
    assert!(lost.is_none_or(|lost| lost == 0), "{lost:?} lost");
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_loses_only_what_it_had_in_its_hands_where_its_descriptors_are_kept() -> Result<()>
{
    let lost = lost_while_away(|cluster| {
        cluster.take_daemon(0)?.kill9();
        Ok(())
    })?;
    // Read from the one side and not yet written to the other. In the time without a daemon 30 come at least.
    assert!(lost.is_none_or(|lost| lost < 10), "{lost:?} lost");
    Ok(())
}

#[test]
fn descriptors_that_were_kept_and_do_not_fit_any_more_are_replaced() -> Result<()> {
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let plain = cluster.options().clone();
    let manager = manage(&mut cluster)?;
    let managed = cluster.options().clone();
    let kept = manager.kept(KEPT);
    // Another port, and then a device that somebody has deleted meanwhile.
    for node in [0, 1] {
        cluster.take_daemon(node)?.kill9();
        cluster.node(node).forget_backend()?;
    }
    cluster.store().put_config(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp","Port":8299}}"#)?;
    cluster.set_options(plain);
    cluster.launch(1)?.wait_ready()?;
    cluster.set_options(managed);
    cluster.launch(0)?.wait_ready()?;
    assert_eq!(cluster.status(0)?["datapath"]["tunnels"][0]["port"], 8299);
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    cluster.take_daemon(0)?.kill9();
    cluster.node(0).ip("link delete flannel0")?;
    cluster.launch(0)?.wait_ready()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    assert_eq!(manager.kept(KEPT), kept, "and the old ones are not kept beside the new ones");
    Ok(())
}

#[test]
fn an_address_that_changes_leaves_no_queue_behind_that_nobody_reads() -> Result<()> {
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let manager = manage(&mut cluster)?;
    let kept = manager.kept(KEPT);
    let node = cluster.node(0);
    node.ip("address del 192.168.77.11/24 dev eth0")?;
    node.ip("address add 192.168.77.77/24 dev eth0")?;
    node.ip("route replace default via 192.168.77.1")?;
    let (one, other) = (cluster.pod(0)?, cluster.pod(1)?);
    wait::until_true("packets pass again", || Ok(one.reaches(other).is_ok()))?;
    assert_eq!(manager.kept(KEPT), kept, "and the old ones are not kept beside the new ones");
    // The kernel spreads flows over all queues that the device has.
    for flow in 0..32 {
        let outcome = datagram::send(one.namespace(), other.namespace(), other.ipv4()?)?;
        assert!(matches!(outcome, datagram::Outcome::Answered { .. }), "flow {flow}: {outcome:?}");
    }
    Ok(())
}

/// Over which device packets leave the first node for the second's pod.
fn way(cluster: &Cluster) -> Result<String> {
    let route = cluster.node(0).ip(&format!("route get {}", cluster.pod(1)?.ipv4()?))?;
    let device = route.split_whitespace().skip_while(|word| *word != "dev").nth(1);
    Ok(device.context("a device")?.to_owned())
}

/// Takes the first node's daemon away, has what upstream's does in its place, which is given up again, and launches ours again.
fn upstream_has_the_way_for_itself(take_away: impl Fn(&mut Cluster) -> Result<()>) -> Result<()> {
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let network = Backend::Udp.networks(false)[0];
    for _ in 0..2 {
        let state = cluster.state(0)?;
        take_away(&mut cluster)?;
        let own = cluster.subnets(0)?[0].replace("/24", "/32");
        for command in [
            "tuntap add flannel1 mode tun",
            &format!("address add {own} dev flannel1"),
            "link set flannel1 up",
            &format!("route add {network} dev flannel1"),
        ] {
            cluster.node(0).ip(command)?;
        }
        assert_eq!(way(&cluster)?, "flannel1");
        // Upstream's is not persistent.
        cluster.node(0).ip("link delete flannel1")?;
        let ready = cluster.launch(0)?.wait_ready()?;
        assert_eq!(ready.line.number("netlink_messages"), Some(0), "{}", ready.line.raw());
        assert_eq!(way(&cluster)?, "flannel0");
        assert_eq!(state.difference(&cluster.state(0)?), None);
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    }
    Ok(())
}

#[test]
fn who_goes_back_to_upstream_and_comes_again_has_nothing_to_remove_by_hand() -> Result<()> {
    upstream_has_the_way_for_itself(|cluster| {
        let status = cluster.take_daemon(0)?.terminate()?;
        ensure!(status.success(), "{status}");
        Ok(())
    })
}

#[test]
fn who_goes_back_to_upstream_after_a_kill_has_nothing_to_remove_by_hand() -> Result<()> {
    upstream_has_the_way_for_itself(|cluster| {
        cluster.take_daemon(0)?.kill9();
        Ok(())
    })
}

#[test]
fn the_route_of_an_earlier_version_makes_way_for_todays() -> Result<()> {
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let network = Backend::Udp.networks(false)[0];
    let state = cluster.state(0)?;
    cluster.take_daemon(0)?.kill9();
    cluster.node(0).ip(&format!("route delete {network}"))?;
    cluster.node(0).ip(&format!("route add {network} dev flannel0 scope link"))?;
    cluster.launch(0)?.wait_ready()?;
    wait::until_equal("there is today's route alone", || Ok(state.difference(&cluster.state(0)?)))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_route_that_comes_before_the_tunnels_is_told_of_until_it_goes() -> Result<()> {
    let Some(cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let route = format!("{} via 192.168.77.1 dev eth0", Backend::Udp.networks(false)[0]);
    let failed = || Ok(cluster.status(0)?["datapath"]["entries"]["failed"].as_u64() == Some(1));
    cluster.node(0).ip(&format!("route add {route}"))?;
    wait::until_true("the status has it", failed)?;
    assert_eq!(way(&cluster)?, "eth0", "and it stays");
    cluster.node(0).ip(&format!("route delete {route}"))?;
    wait::until_true("the status has nothing any more", || failed().map(|failed| !failed))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn where_there_is_ipv6_only_pods_reach_each_other() -> Result<()> {
    let config = IPV6_ONLY.replace("vxlan", "udp");
    let cluster = cluster(|cluster| cluster.store().put_config(&config))?;
    let Some(cluster) = cluster else { return Ok(()) };
    assert_eq!(cluster.pod(0)?.mtu(), 1500 - 48);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn whatever_offloads_either_end_has_streams_arrive_unchanged() -> Result<()> {
    let all = ["none", "tso", "gso", "gro", "tso,gso,gro"];
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let plain = cluster.options().clone();
    for offloads in all {
        cluster.set_options(plain.clone().arg(format!("--tunnel-offloads={offloads}")));
        cluster.kill_and_restart(0)?;
        let used = cluster.status(0)?["datapath"]["tunnels"][0]["offloads"].clone();
        let used: Vec<&str> =
            used.as_array().into_iter().flatten().filter_map(|name| name.as_str()).collect();
        assert_eq!(used.join(","), offloads.replace("none", ""), "this kernel has all of them");
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
        stream(cluster.pod(0)?, cluster.pod(1)?)?;
        stream(cluster.pod(1)?, cluster.pod(0)?)?;
    }
    Ok(())
}

/// Sends some megabytes, and compares what arrives.
fn stream(from: &Pod, to: &Pod) -> Result<()> {
    const LENGTH: usize = 4 << 20;
    let byte = |at: usize| at.wrapping_mul(2_654_435_761).to_le_bytes()[2];
    let address = SocketAddr::new(to.ipv4()?, 0);
    let listener = to.namespace().run(|| TcpListener::bind(address))??;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            let mut stream = from.namespace().run(|| TcpStream::connect(address))??;
            Ok(stream.write_all(&(0..LENGTH).map(byte).collect::<Vec<u8>>())?)
        });
        let mut received = Vec::new();
        listener.accept()?.0.read_to_end(&mut received)?;
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        ensure!(received.len() == LENGTH, "{} of {LENGTH} bytes", received.len());
        let wrong = received.iter().enumerate().find(|(at, it)| **it != byte(*at));
        ensure!(wrong.is_none(), "the first wrong byte: {wrong:?}");
        Ok(())
    })
}

#[test]
fn what_strangers_send_is_dropped_and_counted_and_what_peers_send_is_counted_for_each() -> Result<()> {
    let Some(mut cluster) = cluster(|cluster| {
        cluster.add_arguments(&["--healthz-port=8081"]);
        Ok(())
    })?
    else {
        return Ok(());
    };
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    let stranger = cluster.add_node(Place::Near)?;
    let target = SocketAddr::from((cluster.node(0).address(), 8285));
    // An echo request from the other node's pod to this node's: all that is wrong with it is who sends it.
    let forged = echo_request(&cluster)?;
    let from = cluster.node(stranger).address();
    let socket = cluster.node(stranger).namespace().run(|| UdpSocket::bind((from, 8285)))??;
    for _ in 0..7 {
        socket.send_to(&forged, target)?;
    }
    socket.send_to(b"no packet at all", target)?;
    wait::until_equal("what the stranger has sent is counted", || {
        let tunnel = cluster.status(0)?["datapath"]["tunnels"][0].clone();
        let drops = &tunnel["drops"];
        Ok((drops["unknown_sender"] != 7 || drops["short"] != 1).then(|| tunnel.to_string()))
    })?;
    let metrics =
        http::get(cluster.node(0).namespace(), SocketAddr::from(([127, 0, 0, 1], 8081)), "/metrics")?.body;
    let line = "flanneld_tunnel_drops_total{reason=\"unknown_sender\"} 7";
    assert!(metrics.contains(line), "{metrics}");
    let status = cluster.status(0)?;
    let traffic = &status["peers"][0]["traffic"];
    for counter in ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"] {
        assert!(traffic[counter].as_u64() > Some(0), "{traffic}");
    }
    Ok(())
}

/// An ICMP echo request as an IPv4 packet, from the second node's pod to the first's.
fn echo_request(cluster: &Cluster) -> Result<Vec<u8>> {
    let octets = |pod: &Pod| match pod.ipv4()? {
        std::net::IpAddr::V4(address) => Ok(address.octets()),
        std::net::IpAddr::V6(_) => anyhow::bail!("IPv4"),
    };
    let (source, destination) = (octets(cluster.pod(1)?)?, octets(cluster.pod(0)?)?);
    let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0];
    packet.extend(source.iter().chain(&destination));
    seal(&mut packet, 10);
    let mut message = vec![8, 0, 0, 0, 0, 7, 0, 1];
    seal(&mut message, 2);
    packet.extend(message);
    Ok(packet)
}

/// Writes the checksum of RFC 1071.
fn seal(bytes: &mut [u8], at: usize) {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(folded & 0xffff).unwrap_or_default();
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// How long the tunnel is under load.
const LOAD: Duration = Duration::from_mins(1);

#[test]
fn under_load_of_all_rates_for_a_minute_nothing_leaks() -> Result<()> {
    let Some(mut cluster) = cluster(|_| Ok(()))? else { return Ok(()) };
    let pid = cluster.daemon(0)?.pid();
    let descriptors = || -> Result<usize> { Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count()) };
    let stop = AtomicBool::new(false);
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| -> Result<()> {
        let (one, other) = (cluster.pod(0)?, cluster.pod(1)?);
        for (from, to) in [(one, other), (other, one)] {
            let (stop, received) = (&stop, &received);
            let sink = udp(to)?;
            let target = sink.local_addr()?;
            let source = udp(from)?;
            scope.spawn(move || mixed(&source, target, stop));
            scope.spawn(move || count(&sink, received, stop));
        }
        let outcome = watch(&mut cluster, &descriptors, &received);
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}

fn udp(pod: &Pod) -> Result<UdpSocket> {
    let address = SocketAddr::new(pod.ipv4()?, 0);
    let socket = pod.namespace().run(|| UdpSocket::bind(address))??;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

/// Datagrams of all sizes, fragmented ones too: from one in ten milliseconds to bursts of hundreds.
fn mixed(from: &UdpSocket, to: SocketAddr, stop: &AtomicBool) {
    let data = [0x5a; 9000];
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let burst = [1, 1, 1, 10, 1, 100, 1, 400][round % 8];
        for number in 0..burst {
            // A burst that the queue does not take is part of the test.
            let _ = from.send_to(&data[..(round * 131 + number * 17) % data.len()], to);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn count(at: &UdpSocket, received: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = [0; 10_000];
    while !stop.load(Ordering::Relaxed) {
        if at.recv(&mut buffer).is_ok() {
            received.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the process has after a third of the time, when all buffers have been used, is what it has at the end.
fn watch(cluster: &mut Cluster, descriptors: &dyn Fn() -> Result<usize>, received: &AtomicU64) -> Result<()> {
    let begin = Instant::now();
    std::thread::sleep(LOAD / 3);
    let before = (descriptors()?, cluster.daemon(0)?.memory()?.resident, received.load(Ordering::Relaxed));
    while begin.elapsed() < LOAD {
        std::thread::sleep(Duration::from_secs(1));
        ensure!(cluster.daemon(0)?.runs()?, "the daemon ended");
    }
    let after = (descriptors()?, cluster.daemon(0)?.memory()?.resident, received.load(Ordering::Relaxed));
    println!("descriptors, KiB, datagrams: {before:?}, then {after:?}");
    // A program that looks after the firewall has some for a moment.
    wait::until_true("no more descriptors than before", || Ok(descriptors()? <= before.0))?;
    // Some buffers are touched for the first time by a burst that comes late; what each packet left behind would be far more.
    ensure!(after.1 < before.1 + 8192, "KiB resident: {} then {}", before.1, after.1);
    ensure!(after.2 > before.2 + 1000, "datagrams received: {} then {}", before.2, after.2);
    let drops = cluster.status(0)?["datapath"]["tunnels"][0]["drops"].clone();
    let drops = drops.as_object().context("drops")?;
    // A machine that is busy with other tests may keep a thread waiting until the send buffer is full.
    let needed = |reason: &String| ["multicast", "send_buffer"].contains(&reason.as_str());
    ensure!(drops.keys().all(needed), "nothing is dropped without need: {drops:?}");
    Ok(())
}
