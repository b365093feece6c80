//! What is wrong at start is said in one clear line, which names the value; the daemon ends with an error status, or, where
//! waiting may help, waits.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::artifacts::component;
use flannel_lab::cluster::IPV4;
use flannel_lab::etcd::ENDPOINT;
use flannel_lab::log::LogLine;
use flannel_lab::{DaemonOptions, Lab, Store, Underlay, wait};

/// A node, and a lease directory with a network config.
fn node_with(config: &str) -> Result<(Lab, Store)> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    store.put_config(config)?;
    Ok((lab, store))
}

/// The daemon ends with an error status; its last and only error line has all the words in it.
fn is_refused(lab: &Lab, options: &DaemonOptions, words: &[&str]) -> Result<()> {
    let mut daemon = lab.node(0).start(options)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    assert!(!status.success(), "{status}: {said}");
    let strays: Vec<_> = daemon.log().lines().into_iter().filter(|line| line.level().is_empty()).collect();
    assert!(strays.is_empty(), "besides the log: {said}");
    let errors = daemon.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {said}") };
    for word in words {
        assert!(error.message().contains(word), "{word:?} in {:?}", error.message());
    }
    assert!(!error.message().contains('\n'), "{:?} is one line", error.message());
    assert!(!lab.node(0).subnet_file().exists());
    Ok(())
}

#[test]
fn a_network_config_that_is_no_json_is_refused_with_its_place() -> Result<()> {
    let (lab, store) = node_with("Network=10.5.0.0/16")?;
    let place = lab.directory().join("store/config").display().to_string();
    is_refused(&lab, &DaemonOptions::new(&store, None, None)?, &["network config", &place])
}

#[test]
fn a_network_that_is_too_small_is_refused_with_the_value() -> Result<()> {
    let (lab, store) = node_with(r#"{"Network":"10.5.0.0/29","Backend":{"Type":"vxlan"}}"#)?;
    is_refused(&lab, &DaemonOptions::new(&store, None, None)?, &["network config", "Network", "10.5.0.0/29"])
}

#[test]
fn a_plugin_that_asks_for_more_than_it_is_granted_is_refused_with_what_to_add() -> Result<()> {
    let (lab, store) = node_with(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"hostile"}}"#)?;
    let options = DaemonOptions::new(&store, None, Some(component("hostile")?))?.arg("--allow=links,state");
    is_refused(
        &lab,
        &options,
        &["hostile.wasm: it asks for ", "fdb,neighbours,routes,udp-tunnel", "--allow", "digest = \"sha256:"],
    )
}

#[test]
fn a_backend_without_a_plugin_is_refused_with_its_name() -> Result<()> {
    let (lab, store) = node_with(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"pigeons"}}"#)?;
    is_refused(
        &lab,
        &DaemonOptions::new(&store, None, None)?.built_in(),
        &["Backend.Type", "pigeons", "vxlan"],
    )
}

#[test]
fn a_plugin_file_that_is_not_there_is_refused_with_its_path() -> Result<()> {
    let (lab, store) = node_with(IPV4)?;
    let file = lab.directory().join("nothing.wasm");
    let options = DaemonOptions::new(&store, None, None)?.plugin(file.clone());
    is_refused(&lab, &options, &[&file.display().to_string(), "No such file"])
}

#[test]
fn a_plugin_file_that_is_not_there_is_refused_before_there_is_a_network_config() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let file = lab.directory().join("nothing.wasm");
    let options = DaemonOptions::new(&Store::file(&lab)?, None, None)?.plugin(file.clone());
    is_refused(&lab, &options, &[&file.display().to_string(), "No such file"])
}

#[test]
fn a_file_of_grants_that_is_wrong_is_refused_before_there_is_a_network_config() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let file = lab.directory().join("grants.toml");
    let plugin = DaemonOptions::new(&Store::file(&lab)?, None, None)?.plugin(component("roamer")?);
    let options = plugin.arg(format!("--plugin-grants={}", file.display()));
    is_refused(&lab, &options, &[&file.display().to_string(), "No such file"])?;
    std::fs::write(&file, "[[grant]]\nplugin = 7\n")?;
    is_refused(&lab, &options, &[&file.display().to_string(), "line 2: unknown field"])
}

#[test]
fn a_plugin_file_that_is_a_directory_is_refused_with_its_path() -> Result<()> {
    let (lab, store) = node_with(IPV4)?;
    let options = DaemonOptions::new(&store, None, None)?.plugin(lab.directory().to_owned());
    is_refused(&lab, &options, &[&lab.directory().display().to_string(), "not a regular file"])
}

#[test]
fn a_plugin_file_that_is_text_is_refused_as_no_component() -> Result<()> {
    let (lab, store) = node_with(IPV4)?;
    let file = lab.directory().join("plugin.wasm");
    std::fs::write(&file, "this is no component\n")?;
    let options = DaemonOptions::new(&store, None, None)?.plugin(file.clone());
    is_refused(&lab, &options, &[&file.display().to_string(), "not a WebAssembly component"])
}

#[test]
fn a_plugin_file_that_is_a_core_module_is_refused_as_such() -> Result<()> {
    let (lab, store) = node_with(IPV4)?;
    let file = lab.directory().join("plugin.wasm");
    std::fs::write(&file, b"\0asm\x01\0\0\0")?;
    let options = DaemonOptions::new(&store, None, None)?.plugin(file.clone());
    is_refused(
        &lab,
        &options,
        &[&file.display().to_string(), "core WebAssembly module", "not a WebAssembly component"],
    )
}

#[test]
fn an_interface_that_is_not_there_is_refused_and_the_ones_that_are_there_are_named() -> Result<()> {
    let (lab, store) = node_with(IPV4)?;
    let options = DaemonOptions::new(&store, None, None)?.arg("--iface=eth9");
    is_refused(&lab, &options, &["--iface eth9", "eth0", "192.168.77.11"])
}

#[test]
fn a_lease_directory_that_is_not_there_is_refused_with_its_path() -> Result<()> {
    let (lab, _) = node_with(IPV4)?;
    let missing = lab.directory().join("missing");
    let options = DaemonOptions::new(&Store::File(missing.clone()), None, None)?;
    is_refused(&lab, &options, &[&missing.display().to_string(), "does not exist"])
}

#[test]
fn an_etcd_that_does_not_answer_is_said_once_and_waited_for() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    // The router is there and has no etcd.
    let endpoint = "http://192.168.77.1:2379";
    let mut daemon = lab.node(0).start(&DaemonOptions::with_etcd_at(endpoint)?)?;
    let line = daemon.wait_log("that etcd does not answer", |line| line.message().contains(endpoint))?;
    assert_eq!(line.level(), "WARN");
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.runs()?, "{}", daemon.log().tail());
    let said = daemon.log().lines().into_iter().filter(|line| line.message().contains(endpoint)).count();
    assert_eq!(said, 1, "{}", daemon.log().tail());
    assert!(daemon.log().of_level("ERROR").is_empty(), "{}", daemon.log().tail());
    assert!(daemon.terminate()?.success());
    Ok(())
}

#[test]
fn a_password_without_tls_is_warned_of_once_and_only_where_others_could_read_it() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    for (endpoint, warned) in [("http://u:canary@192.168.77.1:2379", 1), ("http://127.0.0.1:2379", 0)] {
        let options = DaemonOptions::with_etcd_at(endpoint)?;
        let options = options.arg("--etcd-username=root").arg("--etcd-password=canary");
        let daemon = lab.node(0).start(&options)?;
        let waits = |line: &LogLine| line.message().contains("cannot read the network config");
        daemon.wait_log("that etcd does not answer", waits)?;
        let lines = daemon.log().lines();
        assert!(lines.iter().all(|line| !line.raw().contains("canary")), "{}", daemon.log().tail());
        let warnings: Vec<_> = lines.iter().filter(|line| line.message().contains("without TLS")).collect();
        assert_eq!(warnings.len(), warned, "{}", daemon.log().tail());
        for warning in warnings {
            assert_eq!(warning.field("endpoint"), "http://192.168.77.1:2379");
        }
        assert!(daemon.terminate()?.success());
    }
    Ok(())
}

#[test]
fn a_daemon_that_is_there_before_its_etcd_and_its_config_begins_when_they_come() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let mut daemon = lab.node(0).start(&DaemonOptions::with_etcd_at(ENDPOINT)?)?;
    daemon.wait_log("that etcd does not answer", |line| line.message().contains(ENDPOINT))?;
    let store = Store::etcd(&lab)?;
    daemon.wait_log("that there is no config", |line| line.message().contains("no network config"))?;
    store.put_config(IPV4)?;
    daemon.wait_ready()?;
    let subnet = lab.node(0).subnet_env()?.context("a subnet file")?;
    wait::until_true("the lease is in etcd", || Ok(store.lease_of(&subnet.subnets()).is_ok()))?;
    Ok(())
}

#[test]
fn a_network_config_that_is_being_written_is_waited_for() -> Result<()> {
    let whole = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
    for half in ["", &whole[..20]] {
        let (lab, store) = node_with(half)?;
        let mut daemon = lab.node(0).start(&DaemonOptions::new(&store, None, None)?)?;
        daemon.wait_log("that it starts", |line| line.message() == "flanneld starts")?;
        store.put_config(whole)?;
        daemon.wait_ready()?;
    }
    Ok(())
}
