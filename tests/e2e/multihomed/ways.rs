//! By which of two networks packets go.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::component;
use flannel_lab::{Cluster, ClusterOptions, Node, Pings, wait};

use super::{ALLOW, BOTH, policy_state, send, sent, start, wait_way, way, whole_state};

/// Flows of ports, and not of addresses alone, are told from each other.
fn tell_flows_by_ports(cluster: &Cluster) -> Result<()> {
    for node in cluster.lab().nodes() {
        node.namespace()
            .sysctls(&[("ipv4/fib_multipath_hash_policy", "1"), ("ipv6/fib_multipath_hash_policy", "1")])?;
    }
    Ok(())
}

#[test]
fn flows_are_shared_between_two_networks_in_either_family() -> Result<()> {
    const FLOWS: usize = 64;
    const EACH: usize = 5;
    let (cluster, _second) = start("ways=ecmp")?;
    tell_flows_by_ports(&cluster)?;
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    from.reaches(to)?;
    for (source, address) in from.addresses().into_iter().zip(to.addresses()) {
        let before = [sent(&cluster, 0, "eth0")?, sent(&cluster, 0, "eth1")?];
        send(from, source, (to, address), FLOWS, EACH)?;
        for (device, before) in ["eth0", "eth1"].into_iter().zip(before) {
            let by_this = sent(&cluster, 0, device)? - before;
            // Of 64 flows of even chance fewer than an eighth is a thing that does not happen.
            ensure!(by_this >= (FLOWS / 8 * EACH) as u64, "{by_this} packets to {address} by {device}");
        }
    }
    Ok(())
}

#[test]
fn without_the_carrier_of_the_first_network_packets_take_the_second_until_it_is_back() -> Result<()> {
    let (cluster, second) = start("ways=fallback")?;
    wait_way(&cluster, "eth0")?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    pings.wait_answered()?;
    let nodes: Vec<&str> = cluster.lab().nodes().iter().map(Node::name).collect();
    nodes.iter().try_for_each(|node| cluster.lab().switch().set_port(node, false))?;
    wait_way(&cluster, "eth1")?;
    pings.flow()?;
    nodes.iter().try_for_each(|node| cluster.lab().switch().set_port(node, true))?;
    wait_way(&cluster, "eth0")?;
    pings.flow()?;
    // The second network goes and comes without anybody noticing.
    let mark = pings.mark();
    nodes.iter().try_for_each(|node| second.set_port(node, false))?;
    wait::until_true("the second way has gone", || {
        Ok(!policy_state(&cluster, 0, "-4")?.contains("metric 300"))
    })?;
    nodes.iter().try_for_each(|node| second.set_port(node, true))?;
    wait::until_true("the second way is back", || {
        Ok(policy_state(&cluster, 0, "-4")?.contains("metric 300"))
    })?;
    let report = pings.since(&mark)?;
    ensure!(report.lost == 0, "{report:?}");
    Ok(())
}

#[test]
fn what_some_pods_send_goes_by_the_second_network_by_a_rule() -> Result<()> {
    let (cluster, _second) = start("steer=yes")?;
    wait_way(&cluster, "eth0")?;
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    // Of the second half of the node's subnet.
    let steered: Vec<IpAddr> = from.addresses().into_iter().map(in_second_half).collect();
    for (address, length) in steered.iter().zip([24, 64]) {
        let nodad = if address.is_ipv6() { " nodad" } else { "" };
        from.namespace().ip(&format!("address add {address}/{length} dev eth0{nodad}"))?;
    }
    let plain = from.addresses();
    for (index, address) in to.addresses().into_iter().enumerate() {
        for (source, device) in [(plain[index], "eth0"), (steered[index], "eth1")] {
            ensure!(way(&cluster, 0, source, address)? == device, "{source}: {}", whole_state(&cluster, 0)?);
            let before = sent(&cluster, 0, device)?;
            send(from, source, (to, address), 1, 50)?;
            ensure!(sent(&cluster, 0, device)? - before >= 50, "{source} to {address} not by {device}");
        }
    }
    // Only to peers: the table has nothing else, and the next rule is asked.
    let elsewhere = way(&cluster, 0, steered[0], "192.168.77.1".parse()?)?;
    ensure!(elsewhere == "eth0", "{elsewhere}");
    Ok(())
}

#[test]
fn what_comes_in_by_the_second_network_leaves_by_it_and_all_else_by_the_first() -> Result<()> {
    let (mut cluster, _second) = start("forward=yes")?;
    wait_way(&cluster, "eth0")?;
    let (from, to) = (cluster.pod(0)?.addresses(), cluster.pod(1)?.addresses());
    let by = |cluster: &Cluster, from: IpAddr, to: IpAddr, input: &str| -> Result<String> {
        let asked = format!("route get {to} from {from} iif {input}");
        let route = cluster.node(0).namespace().ip_json(&asked)?;
        Ok(route[0]["dev"].as_str().context("no way")?.to_owned())
    };
    // From who is beyond the node, as far as it can tell.
    let outside: [IpAddr; 2] = ["172.16.9.77".parse()?, "fd79::77".parse()?];
    for (index, to) in to.iter().enumerate() {
        ensure!(by(&cluster, outside[index], *to, "eth1")? == "eth1", "{}", whole_state(&cluster, 0)?);
        ensure!(by(&cluster, from[index], *to, "cni0")? == "eth0", "{}", whole_state(&cluster, 0)?);
    }
    let whole = whole_state(&cluster, 0)?;
    let rules = whole.lines().filter(|line| line.contains("iif eth1 lookup")).count();
    ensure!(rules == 2, "a rule of each family: {whole}");
    for change in ["-4 rule del priority 20020", "-6 rule del priority 20020"] {
        cluster.node(0).ip(change)?;
        wait::until_equal(change, || {
            let now = whole_state(&cluster, 0)?;
            Ok((now != whole).then_some(now))
        })?;
    }
    let ready = cluster.kill_and_restart(0)?;
    ensure!(ready.line.number("netlink_messages") == Some(0), "{}", ready.line.raw());
    // Packets: a guest of the second network sends them to the first node, for the second node's pod.
    let sent_before = sent(&cluster, 0, "eth1")?;
    let guest = cluster.node(1).namespace();
    let pod = to[0];
    guest.ip(&format!("rule add priority 5 to {pod} lookup 5"))?;
    guest.ip(&format!("route add {pod} via 172.16.9.11 dev eth1 table 5"))?;
    let socket = guest.run(|| std::net::UdpSocket::bind("172.16.9.12:0"))??;
    for _ in 0..50 {
        socket.send_to(b"x", (pod, 9))?;
    }
    wait::until_true("the first node has sent them on by the second network", || {
        Ok(sent(&cluster, 0, "eth1")? - sent_before >= 50)
    })?;
    Ok(())
}

/// The address of a pod with another last part.
fn in_second_half(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) | 0x80).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) | (1 << 63)).into()),
    }
}

#[test]
fn what_is_deleted_comes_back_a_restart_changes_nothing_and_a_node_that_leaves_leaves_nothing() -> Result<()>
{
    let (mut cluster, _second) = start("steer=yes")?;
    let whole = whole_state(&cluster, 0)?;
    ensure!(whole.lines().count() == 8, "three routes and a rule of each family: {whole}");
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let subnets = cluster.subnets(1)?;
    for change in [
        format!("-4 route del {} metric 300", subnets[0]),
        format!("-6 route del {} metric 300", subnets[1]),
        format!("-4 route replace {} metric 300 via 192.168.77.1", subnets[0]),
        "-4 rule del priority 20010".to_owned(),
        "-6 rule del priority 20010".to_owned(),
    ] {
        cluster.node(0).ip(&change)?;
        wait::until_equal(&change, || {
            let now = whole_state(&cluster, 0)?;
            Ok((now != whole).then_some(now))
        })?;
    }
    cluster.take_daemon(0)?.kill9();
    let ready = cluster.launch(0)?.wait_ready()?;
    ensure!(ready.line.number("netlink_messages") == Some(0), "{}", ready.line.raw());
    ensure!(whole_state(&cluster, 0)? == whole, "{}", whole_state(&cluster, 0)?);
    pings.lost_nothing()?;
    let peer = cluster.status(0)?["peers"][0].clone();
    ensure!(peer["routes"] == 6 && peer["problems"].as_array().is_some_and(Vec::is_empty), "{peer}");
    cluster.leave(1)?;
    wait::until_equal("nothing but the rules", || {
        let now = whole_state(&cluster, 0)?;
        Ok((now.trim().lines().any(|line| !line.contains("lookup"))).then_some(now))
    })?;
    Ok(())
}

#[test]
fn without_an_uplink_nodes_are_reached_by_the_first_network_and_without_the_grant_there_is_no_start()
-> Result<()> {
    let plugin = Some(component("multihomed")?);
    let options = |allow: &str| ClusterOptions {
        config: BOTH.to_owned(),
        plugin: plugin.clone(),
        allow: Some(allow.to_owned()),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&options(ALLOW))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    ensure!(whole_state(&cluster, 0)?.lines().count() == 2, "{}", whole_state(&cluster, 0)?);
    let mut cluster = Cluster::prepare(&options("links,node-info"))?;
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    ensure!(
        !status.success() && said.contains("it asks for policy-routing, which it is not granted"),
        "{said}"
    );
    Ok(())
}

#[test]
fn an_operators_route_stays_and_the_status_names_it() -> Result<()> {
    let (mut cluster, _second) = start("ways=fallback")?;
    let subnet = cluster.subnets(1)?.first().context("a subnet")?.clone();
    cluster.take_daemon(0)?.terminate()?;
    let theirs = format!("{subnet} via 192.168.77.12 dev eth0 proto static metric 250");
    let node = cluster.node(0);
    node.ip(&format!("-4 route del {subnet} metric 200"))?;
    node.ip(&format!("-4 route del {subnet} metric 300"))?;
    node.ip(&format!("route add {theirs}"))?;
    cluster.launch(0)?.wait_ready()?;
    let problem = wait::until("the operator is told", || {
        let problems = cluster.status(0)?["peers"][0]["problems"].to_string();
        let words =
            "a route that is not flannel's is in the way: via 192.168.77.12 dev eth0 proto static metric 250";
        Ok(problems.contains(words).then_some(problems))
    });
    problem?;
    let there = cluster.node(0).ip(&format!("-4 route show {subnet}"))?;
    ensure!(there.contains("metric 250") && !there.contains("metric 200"), "{there}");
    cluster.node(0).ip(&format!("route del {theirs}"))?;
    wait_way(&cluster, "eth0")
}
