//! Nodes that take themselves for one another: with one VTEP address or WireGuard key, because a machine was cloned or a lease says so, or with one
//! public address.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Clock, Cluster, ClusterOptions, wait};

use super::lease_gate::{is_refused, problems};

fn stores() -> [bool; 2] {
    [false, true]
}

/// The value of a field in a lease's data.
fn field(lease: &StoredLease, name: &str) -> Option<String> {
    let (_, rest) = lease.value.split_once(&format!(r#""{name}":""#))?;
    rest.split('"').next().map(ToOwned::to_owned)
}

#[test]
fn a_lease_with_another_peers_vtep_address_does_not_get_its_packets() -> Result<()> {
    for etcd in stores() {
        let mut cluster =
            Cluster::start(&ClusterOptions { etcd, ..ClusterOptions::of(Backend::Vxlan, true) })?;
        let peer = cluster.lease(1)?;
        let fdb = cluster.node(0).bridge("fdb show")?;
        // The same data at another address, and as others may write it.
        let value = peer.value.replace("192.168.77.12", "192.168.77.99").replace("fd77::12", "fd77::99");
        let value = if etcd { value.replace("VtepMAC", "vtepmac") } else { value };
        let stolen = StoredLease { key: "10.5.250.0-24&fc00:5:0:250::-64".to_owned(), value };
        cluster.store().put(&stolen)?;
        let mac = field(&peer, "VtepMAC").context("a MAC")?;
        is_refused(&cluster, &stolen)?;
        let said = problems(&cluster, &stolen)?.unwrap_or_default().join(" ");
        for word in [&mac, "192.168.77.12", "older"] {
            ensure!(said.contains(word), "{word} in {said}");
        }
        ensure!(cluster.node(0).bridge("fdb show")? == fdb);
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
        // Nor after a restart.
        cluster.kill_and_restart(0)?;
        ensure!(cluster.node(0).bridge("fdb show")? == fdb);
        cluster.store().remove(&stolen)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A second node that begins with a copy of the first one's state directory.
fn a_clone_is_known_by_something_else(options: &ClusterOptions, name: &str) -> Result<()> {
    if let Some(reason) = options.backend.missing()? {
        flannel_test_support::skip(reason);
        return Ok(());
    }
    let mut cluster = Cluster::prepare(options)?;
    cluster.launch(0)?.wait_ready()?;
    let [from, to] = [0, 1].map(|index| cluster.node(index).directory().join("state"));
    copy(&from, &to)?;
    let before = cluster.lease(0)?;
    cluster.launch(1)?.wait_ready()?;
    cluster.daemon(1)?.wait_log("that it is a clone", |line| line.message().contains("clone"))?;
    wait::until_true("it is known by something else", || {
        Ok(field(&cluster.lease(1)?, name) != field(&before, name))
    })?;
    cluster.wire_pods()?;
    cluster.wait_converged()?;
    ensure!(cluster.lease(0)?.value == before.value, "the first node is what it was");
    wait::until_true("packets pass", || Ok(cluster.pod(0)?.reaches(cluster.pod(1)?).is_ok()))?;
    // And it stays so.
    let own = field(&cluster.lease(1)?, name);
    cluster.kill_and_restart(1)?;
    ensure!(field(&cluster.lease(1)?, name) == own);
    wait::until_true("packets pass", || Ok(cluster.pod(0)?.reaches(cluster.pod(1)?).is_ok())).map(drop)
}

#[test]
fn with_vxlan_a_cloned_machine_takes_another_vtep_address() -> Result<()> {
    for etcd in stores() {
        let options = ClusterOptions { etcd, ..ClusterOptions::of(Backend::Vxlan, false) };
        a_clone_is_known_by_something_else(&options, "VtepMAC")?;
    }
    Ok(())
}

#[test]
fn with_vxlan_and_ipv6_a_cloned_machine_takes_other_vtep_addresses() -> Result<()> {
    a_clone_is_known_by_something_else(&ClusterOptions::of(Backend::Vxlan, true), "VtepMAC")
}

#[test]
fn with_wireguard_a_cloned_machine_takes_another_key() -> Result<()> {
    a_clone_is_known_by_something_else(&ClusterOptions::of(Backend::Wireguard, false), "PublicKey")
}

/// Two nodes that publish one address.
fn nodes_with_one_address_say_so(options: &ClusterOptions) -> Result<()> {
    let mut cluster = Cluster::prepare(options)?;
    cluster.add_arguments(&["--public-ip=203.0.113.9", "--iface=eth0"]);
    cluster.launch(0)?.wait_ready()?;
    cluster.launch(1)?;
    for index in 0..2 {
        let line = cluster.daemon(index)?.wait_log("that another node has its address", |line| {
            line.level() == "ERROR" && line.message().contains("another process writes this node's lease")
        })?;
        for word in ["203.0.113.9", "--public-ip", "--iface"] {
            ensure!(line.message().contains(word), "{word} in {}", line.message());
        }
        let ready = &cluster.status(index)?["ready"];
        ensure!(ready["ready"] == false && ready["missing"].to_string().contains("another node"), "{ready}");
    }
    Ok(())
}

#[test]
fn two_nodes_with_one_public_address_both_say_so() -> Result<()> {
    nodes_with_one_address_say_so(&ClusterOptions {
        etcd: true,
        ..ClusterOptions::of(Backend::Vxlan, false)
    })?;
    nodes_with_one_address_say_so(&ClusterOptions::of(Backend::Vxlan, false))
}

#[test]
fn a_node_that_is_restarted_has_its_lease_for_itself() -> Result<()> {
    for etcd in stores() {
        let mut cluster = Cluster::start(&ClusterOptions { etcd, ..ClusterOptions::default() })?;
        for _ in 0..3 {
            cluster.kill_and_restart(0)?;
            cluster.daemon(0)?.hang_up()?;
        }
        std::thread::sleep(std::time::Duration::from_secs(2));
        ensure!(cluster.status(0)?["ready"]["ready"] == true);
        for index in 0..2 {
            ensure!(cluster.daemon(index)?.log().of_level("ERROR").is_empty());
        }
    }
    Ok(())
}

#[test]
fn a_clock_that_is_a_day_off_costs_nobody_a_lease_in_a_directory() -> Result<()> {
    for hours in [25, -25] {
        let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
        cluster.launch(0)?.wait_ready()?;
        let before = cluster.lease(0)?;
        let clock = Clock::new(cluster.lab())?;
        clock.set_hours_ahead(hours)?;
        let usual = cluster.options().clone();
        cluster.set_options(usual.clone().clock(&clock));
        cluster.launch(1)?.wait_ready()?;
        cluster.set_options(usual);
        cluster.wait_converged()?;
        ensure!(cluster.store().leases()?.len() == 2, "{hours} hours off");
        ensure!(cluster.lease(0)? == before, "{hours} hours off");
        // What it has written is not over for others who start now.
        cluster.kill_and_restart(0)?;
        cluster.wait_converged()?;
        ensure!(cluster.store().leases()?.len() == 2, "{hours} hours off");
    }
    Ok(())
}
