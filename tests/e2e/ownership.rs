//! Devices that are not flannel's stay as they are: at the start, in operation and at a swap.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::artifacts::{component, plugin};
use flannel_lab::{Cluster, ClusterOptions, Node, wait};

/// All that the kernel says of a device.
fn shown(node: &Node, device: &str) -> Result<String> {
    node.ip(&format!("-details address show dev {device}"))
}

/// A node of a cluster whose daemon has not started.
fn prepared(config: &str) -> Result<Cluster> {
    let plugin = Some(component("hostile")?);
    let options = ClusterOptions { nodes: 1, config: config.to_owned(), plugin, ..ClusterOptions::default() };
    Cluster::prepare(&options)
}

fn config(deed: &str) -> String {
    format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"hostile","In":"register","Do":"{deed}"}}}}"#)
}

/// The start ends with one line that has all these words in it.
fn start_fails(cluster: &mut Cluster, words: &[&str]) -> Result<()> {
    let status = cluster.launch(0)?.wait_exit()?;
    assert!(!status.success(), "{status}");
    let errors = cluster.daemon(0)?.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {errors:?}") };
    for word in words {
        assert!(error.message().contains(word), "{word:?} in {:?}", error.message());
    }
    Ok(())
}

#[test]
fn a_bridge_of_the_operators_that_a_plugin_wants_as_its_device_ends_the_start_and_stays() -> Result<()> {
    let mut cluster = prepared(&config("foreign-device"))?;
    cluster.node(0).ip("link add name flannel-br mtu 1400 type bridge")?;
    cluster.node(0).ip("address add 10.99.0.1/24 dev flannel-br")?;
    let before = shown(cluster.node(0), "flannel-br")?;
    start_fails(&mut cluster, &["flannel-br", "bridge", "not flanneld's", "rename or remove it"])?;
    assert_eq!(shown(cluster.node(0), "flannel-br")?, before);
    cluster.node(0).ip("link delete flannel-br")?;
    cluster.take_daemon(0)?;
    cluster.launch(0)?.wait_ready()?;
    let ours = shown(cluster.node(0), "flannel-br")?;
    assert!(ours.contains("vxlan id 8 ") && ours.contains("alias flanneld 10.5.0.0/16"), "{ours}");
    // Its own is taken up by its mark.
    cluster.kill_and_restart(0)?;
    assert_eq!(shown(cluster.node(0), "flannel-br")?, ours);
    Ok(())
}

#[test]
fn a_system_port_that_a_plugin_wants_ends_the_start() -> Result<()> {
    let mut cluster = prepared(&config("system-port"))?;
    start_fails(&mut cluster, &["flannel.8", "UDP port 53", "1024"])?;
    assert!(!cluster.node(0).ip("link show")?.contains("flannel.8"));
    Ok(())
}

#[test]
fn a_bridge_that_takes_our_devices_place_in_operation_stays_until_it_goes() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions::default())?;
    let node = cluster.node(0);
    // Ours cannot come back at once where the interface below it is away.
    node.ip("link set eth0 down")?;
    node.ip("link set eth0 name away")?;
    wait::until_true("its device is known to be away", || {
        node.ip("link delete flannel.1").ok();
        std::thread::sleep(Duration::from_millis(50));
        Ok(!node.ip("link show")?.contains("flannel.1"))
    })?;
    node.ip("link add name flannel.1 type bridge")?;
    let before = shown(node, "flannel.1")?;
    node.ip("link set away name eth0")?;
    node.ip("link set eth0 up")?;
    wait::until_true("it says what is in the way", || {
        let status = cluster.status(0)?.to_string();
        Ok(["flannel.1: there is a bridge device", "not flanneld's"]
            .iter()
            .all(|words| status.contains(words)))
    })?;
    assert_eq!(shown(node, "flannel.1")?, before);
    node.ip("link delete flannel.1")?;
    wait::until_true("ours comes back", || Ok(node.ip("-details link show")?.contains("vxlan id 1 ")))?;
    wait::until_true("pods reach each other", || Ok(cluster.pod(0)?.reaches(cluster.pod(1)?).is_ok()))?;
    Ok(())
}

#[test]
fn a_swap_to_a_plugin_that_wants_somebody_elses_device_is_refused() -> Result<()> {
    let config =
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","In":"register","Do":"foreign-device"}}"#;
    let options = ClusterOptions {
        config: config.to_owned(),
        plugin: Some(plugin("vxlan")?),
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(&options)?;
    let node = cluster.node(0);
    node.ip("link add name flannel-br type bridge")?;
    let before = (shown(node, "flannel-br")?, cluster.state(0)?);
    let error = cluster.swap(0, &component("hostile")?).err().context("it was swapped")?;
    let error = format!("{error:#}");
    assert!(error.contains("flannel-br") && error.contains("bridge"), "{error}");
    assert_eq!(shown(node, "flannel-br")?, before.0);
    assert_eq!(before.1.difference(&cluster.state(0)?), None);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}
