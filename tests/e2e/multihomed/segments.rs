//! Peers that are reached by segments (SRv6): through a third node, packets of both families.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use flannel_lab::wire::{Packet, Wire};
use flannel_lab::{Cluster, Pings, wait};

use super::{prepare, whole_state};

/// The routing header's number (IANA).
const ROUTING: u8 = 43;
/// Its kind for segments (RFC 8754).
const SEGMENTS: u8 = 4;

/// Nodes take what comes by segments.
pub(super) fn take_segments(cluster: &Cluster) -> Result<()> {
    for node in cluster.lab().nodes() {
        node.namespace()
            .sysctls(&[("ipv6/conf/all/seg6_enabled", "1"), ("ipv6/conf/eth0/seg6_enabled", "1")])?;
    }
    Ok(())
}

/// So many nodes, pods on all of them, and options of the policy.
fn start(nodes: usize, options: &str) -> Result<Cluster> {
    let mut cluster = prepare(nodes)?;
    take_segments(&cluster)?;
    cluster.add_arguments(&[&format!("--plugin-option={options}")]);
    cluster.bring_up()?;
    Ok(cluster)
}

/// A node's public address.
fn address(cluster: &Cluster, node: usize) -> Result<Ipv6Addr> {
    cluster.node(node).address_v6().context("a node of IPv6")
}

/// A packet with segments: its segments in the order of the way, how many are left, and what it carries.
struct Segmented {
    destination: IpAddr,
    segments: Vec<Ipv6Addr>,
    left: u8,
    inner: u8,
}

/// Reads the routing header of a packet, if it has such (RFC 8754, 2).
fn segmented(packet: &Packet) -> Option<Segmented> {
    let header = packet.bytes.get(40..).filter(|_| packet.protocol == ROUTING)?;
    let [inner, length, SEGMENTS, left, ..] = *header else { return None };
    let list = header.get(8..(usize::from(length) + 1) * 8)?;
    let mut segments: Vec<Ipv6Addr> = list
        .chunks_exact(16)
        .filter_map(|octets| <[u8; 16]>::try_from(octets).ok())
        .map(Ipv6Addr::from)
        .collect();
    // The last one is the first on the wire.
    segments.reverse();
    Some(Segmented { destination: packet.destination, segments, left, inner })
}

/// What is in the tables of a node that has segments.
fn ways(cluster: &Cluster, node: usize) -> Result<Vec<String>> {
    let state = whole_state(cluster, node)?;
    Ok(state.lines().filter(|line| line.contains("encap seg6")).map(str::to_owned).collect())
}

#[test]
fn pods_reach_each_other_by_segments_through_a_third_node_and_the_wire_shows_it() -> Result<()> {
    let cluster = start(3, "segments=fd77::13")?;
    let transit = address(&cluster, 2)?;
    ensure!(transit == "fd77::13".parse::<Ipv6Addr>()?, "{transit}");
    let peer = address(&cluster, 1)?;
    for node in [0, 1] {
        ensure!(ways(&cluster, node)?.len() == 4, "{}", whole_state(&cluster, node)?);
    }
    let (sends, passes) =
        (Wire::listen(cluster.node(0).namespace())?, Wire::listen(cluster.node(2).namespace())?);
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    cluster.pod(1)?.reaches(cluster.pod(0)?)?;
    // IPv4's and IPv6's numbers as what is carried (IANA).
    let sent: Vec<Segmented> = sends.take().iter().filter_map(segmented).collect();
    let passed: Vec<Segmented> = passes.take().iter().filter_map(segmented).collect();
    for inner in [4, 41] {
        let leaves = sent.iter().any(|packet| {
            (packet.inner, packet.left, packet.destination) == (inner, 1, IpAddr::V6(transit))
                && packet.segments == [transit, peer]
        });
        ensure!(leaves, "a packet with {inner} in it leaves for the third node");
        for (to, left) in [(transit, 1), (peer, 0)] {
            let is_there = passed.iter().any(|packet| {
                (packet.inner, packet.left, packet.destination) == (inner, left, IpAddr::V6(to))
            });
            ensure!(is_there, "a packet with {inner} in it for {to} at the third node");
        }
    }
    // Nothing of pods passes without.
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    from.reaches(to)?;
    let pods: Vec<IpAddr> = to.addresses();
    let bare = passes.take().into_iter().filter(|packet| pods.contains(&packet.destination)).count();
    ensure!(bare == 0, "{bare} packets without segments at the third node");
    Ok(())
}

#[test]
fn segments_that_others_change_come_back_a_restart_changes_nothing_and_others_routes_stay() -> Result<()> {
    let mut cluster = start(3, "segments=fd77::13")?;
    let theirs = "fc00:77::/64 encap seg6 mode encap segs fd77::66 dev eth0 proto static metric 900";
    cluster.node(0).ip(&format!("-6 route add {theirs}"))?;
    let whole = whole_state(&cluster, 0)?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let subnets = cluster.subnets(1)?;
    for (family, subnet) in ["-4", "-6"].iter().zip(&subnets) {
        let other = "metric 200 encap seg6 mode encap segs fd77::13,fd77::13,fd77::12 dev eth0 proto 119";
        for change in [
            format!("{family} route replace {subnet} {other}"),
            format!("{family} route del {subnet} metric 200"),
        ] {
            cluster.node(0).ip(&change)?;
            wait::until_equal(&change, || {
                let now = whole_state(&cluster, 0)?;
                Ok((now != whole).then_some(now))
            })?;
        }
    }
    // A fresh policy hears of the third node after a peer that it goes through it to, maybe.
    cluster.kill_and_restart(0)?;
    wait::until_equal("all is as before", || {
        let now = whole_state(&cluster, 0)?;
        Ok((now != whole).then_some(now))
    })?;
    pings.flow()?;
    ensure!(cluster.node(0).ip("-6 route show metric 900")?.contains("segs 1 [ fd77::66 ]"), "theirs stays");
    Ok(())
}

#[test]
fn a_restart_with_the_same_segments_sends_nothing_and_loses_nothing() -> Result<()> {
    let mut cluster = start(2, "segments=")?;
    let whole = whole_state(&cluster, 0)?;
    ensure!(ways(&cluster, 0)?.len() == 2, "{whole}");
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    let ready = cluster.kill_and_restart(0)?;
    ensure!(ready.line.number("netlink_messages") == Some(0), "{}", ready.line.raw());
    ensure!(whole_state(&cluster, 0)? == whole, "{}", whole_state(&cluster, 0)?);
    pings.lost_nothing()
}

#[test]
fn without_the_node_that_packets_go_through_they_go_by_the_peer_alone_and_with_it_through_it_again()
-> Result<()> {
    let mut cluster = start(3, "segments=fd77::13,ways=ecmp")?;
    // Each peer has a route of each family, and but for the third node two ways.
    let several = |cluster: &Cluster| -> Result<usize> {
        Ok(ways(cluster, 0)?.iter().filter(|line| line.contains("segs 2 [ fd77::13 fd77::12 ]")).count())
    };
    wait::until_true("two ways of each family", || Ok(several(&cluster)? == 2))?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    cluster.leave(2)?;
    wait::until_equal("nothing names the node that has gone", || {
        let state = whole_state(&cluster, 0)?;
        Ok((state.contains("fd77::13") || ways(&cluster, 0)?.len() != 2).then_some(state))
    })?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    pings.flow()?;
    cluster.launch(2)?.wait_ready()?;
    wait::until_true("two ways of each family", || Ok(several(&cluster)? == 2))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    cluster.leave(1)?;
    wait::until_equal("nothing of the peer that has gone", || {
        let state = whole_state(&cluster, 0)?;
        Ok(state.contains("fd77::12").then_some(state))
    })?;
    Ok(())
}

#[test]
fn an_operator_is_told_where_a_node_drops_what_comes_by_segments() -> Result<()> {
    let mut cluster = prepare(2)?;
    cluster.add_arguments(&["--plugin-option=segments="]);
    cluster.start_all()?;
    cluster.wait_converged()?;
    let words = "this node drops what comes to it by segments: net.ipv6.conf.all.seg6_enabled and net.ipv6.conf.eth0.seg6_enabled are 0";
    wait::until_true("the status says it", || {
        Ok(cluster.status(0)?["peers"][0]["problems"].to_string().contains(words))
    })?;
    ensure!(cluster.daemon(0)?.log().tail().contains(words), "the log says it");
    Ok(())
}
