//! Links between nodes that lose, reorder and delay packets, and addresses that are not on the link that the packets take.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::{Backend, Cluster, ClusterOptions, Namespace, Node, Pod, wait};

/// What a link may do to packets, in words of `tc qdisc … netem`.
const BAD_LINKS: [&str; 3] = ["loss 3%", "delay 4ms reorder 30% 50%", "delay 20ms 10ms"];
/// Bytes of a stream: many packets, so that each link does what it can do.
const STREAM: u32 = 1 << 20;
/// How long a stream may stand still.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Why this kernel has no such links; none: it has.
fn netem_missing() -> Result<Option<String>> {
    let space = Namespace::new("a namespace to try a bad link in")?;
    let made = space.tool("tc", "qdisc add dev lo root netem delay 1ms");
    Ok(made.err().map(|error| format!("this kernel has no netem (module sch_netem): {error:#}")))
}

/// A stream from pod to pod arrives whole over links of each kind, and a node that comes then is reached over them as well.
fn a_stream_arrives_whole(backend: Backend) -> Result<()> {
    if let Some(reason) = netem_missing()?.or(backend.missing()?) {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let mut cluster = Cluster::start(&ClusterOptions::of(backend, false))?;
    for link in BAD_LINKS {
        for node in cluster.lab().nodes() {
            spoil(node, link)?;
        }
        stream(cluster.pod(0)?, cluster.pod(1)?).with_context(|| link.to_owned())?;
    }
    let newcomer = cluster.add_node(flannel_lab::Place::Near)?;
    spoil(cluster.node(newcomer), BAD_LINKS[2])?;
    cluster.launch(newcomer)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    stream(cluster.pod(newcomer)?, cluster.pod(0)?)
}

/// Makes a node's external link bad in this way, and in no other any more.
fn spoil(node: &Node, how: &str) -> Result<()> {
    node.namespace().tool("tc", &format!("qdisc replace dev eth0 root netem {how}")).map(drop)
}

/// Sends random bytes over TCP, and compares what arrives.
fn stream(from: &Pod, to: &Pod) -> Result<()> {
    let address = SocketAddr::new(to.ipv4()?, 0);
    let listener = to.namespace().run(|| TcpListener::bind(address))??;
    let target = listener.local_addr()?;
    let byte = |number: u32| number.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    let bytes: Vec<u8> = (0..STREAM).map(byte).collect();
    std::thread::scope(|scope| -> Result<()> {
        let received = scope.spawn(move || -> Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(wait::scaled(STANDSTILL)))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received).context("the stream stands still")?;
            Ok(received)
        });
        let mut stream = from.namespace().run(|| TcpStream::connect(target))??;
        stream.set_write_timeout(Some(wait::scaled(STANDSTILL)))?;
        stream.write_all(&bytes).context("the stream stands still")?;
        drop(stream);
        let received = received.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        ensure!(
            received == bytes,
            "{} bytes were sent, and {} arrived, or others",
            bytes.len(),
            received.len()
        );
        Ok(())
    })
}

#[test]
fn with_vxlan_a_stream_arrives_whole_over_links_that_lose_reorder_and_delay() -> Result<()> {
    a_stream_arrives_whole(Backend::Vxlan)
}

#[test]
fn with_host_gw_a_stream_arrives_whole_over_links_that_lose_reorder_and_delay() -> Result<()> {
    a_stream_arrives_whole(Backend::HostGw)
}

#[test]
fn with_ipip_a_stream_arrives_whole_over_links_that_lose_reorder_and_delay() -> Result<()> {
    a_stream_arrives_whole(Backend::Ipip)
}

#[test]
fn with_wireguard_a_stream_arrives_whole_over_links_that_lose_reorder_and_delay() -> Result<()> {
    a_stream_arrives_whole(Backend::Wireguard)
}

#[test]
fn with_udp_a_stream_arrives_whole_over_links_that_lose_reorder_and_delay() -> Result<()> {
    a_stream_arrives_whole(Backend::Udp)
}

/// Nodes whose addresses are on a dummy device, as where a routing daemon announces them: no link has them.
fn nodes_with_addresses_on_no_link_reach_each_other(backend: Backend) -> Result<()> {
    if let Some(reason) = backend.missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let space = Namespace::new("a namespace to try a device in")?;
    if let Err(error) = space.ip("link add probe type dummy") {
        flannel_test_support::skip(format_args!(
            "this kernel has no dummy devices (module dummy): {error:#}"
        ));
        return Ok(());
    }
    let mut cluster = Cluster::prepare(&ClusterOptions::of(backend, false))?;
    for (index, node) in cluster.lab().nodes().iter().enumerate() {
        let other = cluster.node(1 - index);
        node.namespace().ip_batch([
            "link add dummy0 type dummy".to_owned(),
            "link set dummy0 up".to_owned(),
            format!("address add 10.99.0.{}/32 dev dummy0", index + 1),
            format!("route add 10.99.0.{}/32 via {} src 10.99.0.{}", 2 - index, other.address(), index + 1),
        ])?;
    }
    cluster.add_arguments(&["--iface=dummy0"]);
    cluster.bring_up()?;
    for index in 0..2 {
        let lease = cluster.lease(index)?.value;
        ensure!(lease.contains(&format!(r#""PublicIP":"10.99.0.{}""#, index + 1)), "{lease}");
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    cluster.pod(1)?.reaches(cluster.pod(0)?)
}

#[test]
fn with_udp_nodes_whose_addresses_are_on_a_dummy_device_reach_each_other() -> Result<()> {
    nodes_with_addresses_on_no_link_reach_each_other(Backend::Udp)
}

#[test]
fn with_wireguard_nodes_whose_addresses_are_on_a_dummy_device_reach_each_other() -> Result<()> {
    nodes_with_addresses_on_no_link_reach_each_other(Backend::Wireguard)
}
