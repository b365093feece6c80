//! A plugin that misbehaves: the daemon stays, forwarding stays, and the log says who did what. What the call declared is
//! nowhere.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::artifacts;
use flannel_lab::log::LogLine;
use flannel_lab::ping_probe::{self, Mark};
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Prober, Store};

/// The peer for which the plugin misbehaves.
const VICTIM: &str = "10.5.200.0";

fn component() -> Result<PathBuf> {
    artifacts::component("hostile")
}

/// A network config that keeps the nodes' own subnets clear of the victim's.
fn config(backend: &str) -> String {
    format!(r#"{{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{{"Type":"hostile"{backend}}}}}"#)
}

fn cluster(backend: &str) -> Result<Cluster> {
    cluster_like(Backend::Vxlan, backend)
}

/// The lab waits for what the backend would need that the component serves its peers like.
fn cluster_like(like: Backend, backend: &str) -> Result<Cluster> {
    let plugin = Some(component()?);
    Cluster::start(&ClusterOptions { config: config(backend), plugin, ..ClusterOptions::of(like, false) })
}

fn ping(cluster: &Cluster) -> Result<Prober> {
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    let to = to.addresses().into_iter().next().context("an address")?;
    Prober::start(from.namespace(), Echo::to(to), ping_probe::INTERVAL)
}

/// A node that exists only as a lease appears: with a subnet of its own, and data that may name a deed.
fn appears(cluster: &Cluster, subnet: &str, data: &str) -> Result<()> {
    let Store::File(directory) = cluster.store() else { panic!("leases are files") };
    let value = format!(
        r#"{{"PublicIP":"192.168.77.99","PublicIPv6":null,"BackendType":"hostile","BackendData":{data}}}"#
    );
    let subnets = directory.join("subnets");
    std::fs::write(subnets.join(".new"), value)?;
    Ok(std::fs::rename(subnets.join(".new"), subnets.join(format!("{subnet}-24")))?)
}

/// What a component may do for a peer, and what is said of it.
const DEEDS: [(&str, &str); 15] = [
    ("panic", "trapped: panicked"),
    ("loop", "stopped after running for"),
    ("call", "stopped after running for"),
    ("memory", "bytes of memory; the limit is"),
    ("recursion", "its stack overflowed"),
    ("handles", "trapped"),
    ("hand-over", "fuel allocated for hostcalls has been exhausted"),
    ("flood", "at most 64 entries for a peer"),
    ("state", "at most 64 keys"),
    ("default-route", "0.0.0.0/0 is not in the peer's subnet"),
    ("host-bits", "bits beyond the prefix length are set"),
    ("foreign-peer", "is not among the changes of this call"),
    ("foreign-destination", "is not an address that the peer has published"),
    ("others-device", "devices are declared in register only"),
    ("external-address", "the external interface's addresses are the operator's"),
];

#[test]
fn every_misdeed_costs_the_peer_that_it_is_for_and_no_packet_of_others() -> Result<()> {
    let mut cluster = cluster("")?;
    let ping = ping(&cluster)?;
    let before = cluster.state(0)?;
    for (number, (deed, said)) in DEEDS.iter().enumerate() {
        let subnet = format!("10.5.{}.0", 200 + number);
        appears(&cluster, &subnet, &format!(r#""02:00:00:00:00:63 {deed}""#))?;
        let is_failure = |line: &LogLine| {
            let message = line.message();
            line.level() == "ERROR"
                && message.starts_with("plugin hostile: apply: ")
                && message.contains(said)
        };
        cluster.daemon(0)?.wait_log(deed, is_failure)?;
        assert!(cluster.daemon(0)?.runs()?, "{deed}");
        assert_eq!(before.difference(&cluster.state(0)?), None, "{deed}");
        // The next one fails for the same words.
        std::fs::remove_file(lease_file(&cluster, &subnet))?;
    }
    // Garbage in a stranger's lease is no misdeed of the component's; the peer is rejected.
    appears(&cluster, "10.5.250.0", "{\"\\u0000\":[[[]]]}")?;
    let status = cluster.status(0)?["plugin"].clone();
    assert!(status["failures"].as_u64() >= Some(DEEDS.len() as u64), "{status}");
    assert!(status["restarts"].as_u64() >= Some(5), "{status}");
    let report = ping.report(Mark::default());
    assert_eq!(report.lost, 0, "{report:?}");
    Ok(())
}

fn lease_file(cluster: &Cluster, subnet: &str) -> PathBuf {
    let Store::File(directory) = cluster.store() else { panic!("leases are files") };
    directory.join("subnets").join(format!("{subnet}-24"))
}

/// A node that exists only as a lease appears.
fn victim_appears(cluster: &Cluster) -> Result<()> {
    appears(cluster, VICTIM, "\"02:00:00:00:00:63\"")
}

fn costs_that_peer_alone(deed: &str, said: &str) -> Result<()> {
    let mut cluster = cluster(&format!(r#","In":"apply","Do":"{deed}","Subnet":"{VICTIM}/24""#))?;
    let ping = ping(&cluster)?;
    let before = cluster.state(0)?;
    victim_appears(&cluster)?;
    // A panic says its own last words before.
    let is_failure =
        |line: &LogLine| line.level() == "ERROR" && line.message().starts_with("plugin hostile: apply: ");
    let failure = cluster.daemon(0)?.wait_log("that the plugin failed", is_failure)?;
    assert_eq!((failure.field("plugin"), failure.field("function")), (&"hostile".into(), &"apply".into()));
    assert!(failure.message().contains(said), "{}", failure.raw());
    assert_eq!(before.difference(&cluster.state(0)?), None, "nothing of the failed call is in the kernel");
    // Life goes on for everybody else.
    let newcomer = cluster.add_node(flannel_lab::Place::Near)?;
    cluster.launch(newcomer)?;
    cluster.daemon(0)?.wait_log("that the new node has come", |line| line.number("entries") == Some(6))?;
    assert!(cluster.daemon(0)?.runs()?);
    let report = ping.report(Mark::default());
    assert_eq!(report.lost, 0, "{report:?}");
    Ok(())
}

#[test]
fn a_component_that_traps_costs_the_peer_that_it_traps_for() -> Result<()> {
    costs_that_peer_alone("panic", "trapped: panicked")
}

#[test]
fn a_tunnel_of_the_host_goes_on_while_the_component_behind_it_traps() -> Result<()> {
    if let Some(reason) = Backend::Udp.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    let backend = format!(r#","Over":"udp","In":"apply","Do":"panic","Subnet":"{VICTIM}/24""#);
    let mut cluster = cluster_like(Backend::Udp, &backend)?;
    let ping = ping(&cluster)?;
    victim_appears(&cluster)?;
    let is_failure =
        |line: &LogLine| line.level() == "ERROR" && line.message().starts_with("plugin hostile: apply: ");
    cluster.daemon(0)?.wait_log("that the plugin failed", is_failure)?;
    let newcomer = cluster.add_node(flannel_lab::Place::Near)?;
    cluster.launch(newcomer)?.wait_ready()?;
    cluster.wire_pods()?;
    // The fresh instance serves those who come later.
    flannel_lab::wait::until_true("the new node's pod is reached", || {
        Ok(cluster.pod(0)?.reaches(cluster.pod(newcomer)?).is_ok())
    })?;
    let report = ping.report(Mark::default());
    assert_eq!(report.lost, 0, "{report:?}");
    Ok(())
}

#[test]
fn a_component_that_loops_costs_the_peer_that_it_loops_for() -> Result<()> {
    costs_that_peer_alone("loop", "stopped after running for")
}

#[test]
fn a_component_that_grows_without_bound_costs_the_peer_that_it_grows_for() -> Result<()> {
    costs_that_peer_alone("memory", "bytes of memory; the limit is")
}

#[test]
fn a_component_that_asks_for_a_route_outside_the_cluster_costs_the_peer_that_it_asks_for() -> Result<()> {
    costs_that_peer_alone("outside", "192.0.2.0/24 is not in the peer's subnet")
}

#[test]
fn a_daemon_that_comes_back_with_a_broken_plugin_leaves_forwarding_as_it_was() -> Result<()> {
    let mut cluster = cluster("")?;
    let ping = ping(&cluster)?;
    let before = cluster.state(0)?;
    cluster.take_daemon(0)?.kill9();
    cluster.node(0).forget_backend()?;
    cluster.store().put_config(&config(r#","In":"apply","Do":"panic""#))?;
    cluster.launch(0)?.wait_log("that peers wait", |line| line.message() == "peers wait for the plugin")?;
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(before.difference(&cluster.state(0)?), None);
    assert_eq!(ping.report(Mark::default()).lost, 0);
    // A plugin that works again is asked again.
    cluster.take_daemon(0)?.kill9();
    cluster.node(0).forget_backend()?;
    cluster.store().put_config(&config(""))?;
    let ready = cluster.launch(0)?.wait_ready()?;
    assert_eq!(ready.line.number("netlink_messages"), Some(0), "{}", ready.line.raw());
    assert_eq!(ping.report(Mark::default()).lost, 0);
    Ok(())
}

#[test]
fn a_component_that_fails_to_register_ends_the_start_with_one_line() -> Result<()> {
    let plugin = Some(component()?);
    let config = config(r#","In":"register","Do":"error""#);
    let mut cluster =
        Cluster::prepare(&ClusterOptions { nodes: 1, config, plugin, ..ClusterOptions::default() })?;
    let status = cluster.launch(0)?.wait_exit()?;
    assert!(!status.success());
    let errors = cluster.daemon(0)?.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.message(), "plugin hostile: register: the deed was asked for");
    Ok(())
}
