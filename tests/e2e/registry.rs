//! Plugins that come from an OCI registry, and nodes that start when it is gone.

use anyhow::{Context, Result};
use flannel_lab::cluster::IPV4;
use flannel_lab::registry::Registry;
use flannel_lab::{Cluster, ClusterOptions, DaemonOptions, Lab, Store, Underlay, artifacts};
use serde_json::Value;

/// A cluster, not started yet, each of whose nodes has a registry on its loopback.
fn cluster() -> Result<(Cluster, Vec<Registry>)> {
    let cluster = Cluster::prepare(&ClusterOptions::default())?;
    let component = artifacts::plugin("vxlan")?;
    let nodes = cluster.lab().nodes().iter();
    let registries =
        nodes.map(|node| Registry::start(node.namespace(), &component)).collect::<Result<_>>()?;
    Ok((cluster, registries))
}

/// Starts a node's daemon with a plugin, and waits until it is ready.
fn start_with(cluster: &mut Cluster, index: usize, plugin: &str) -> Result<()> {
    let options = cluster.options().clone().plugin(plugin.into());
    cluster.set_options(options);
    cluster.launch(index)?.wait_ready()?;
    Ok(())
}

#[test]
fn nodes_take_their_plugin_from_a_registry_and_pods_ping() -> Result<()> {
    let (mut cluster, registries) = cluster()?;
    start_with(&mut cluster, 0, &registries[0].tag())?;
    start_with(&mut cluster, 1, &registries[1].pinned())?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    for (index, registry) in registries.iter().enumerate() {
        assert_eq!(cluster.status(index)?["plugin"]["source"], registry.pinned());
    }
    let warning = cluster.daemon(0)?.wait_log("that the tag is not pinned", |line| {
        line.level() == "WARN" && line.message().contains("is not pinned")
    })?;
    assert!(warning.message().contains(&registries[0].pinned()), "{}", warning.raw());
    let warnings = cluster.daemon(1)?.log().of_level("WARN");
    assert!(warnings.iter().all(|line| !line.message().contains("pinned")), "{warnings:?}");
    Ok(())
}

#[test]
fn nodes_come_back_while_their_registry_is_gone() -> Result<()> {
    let (mut cluster, registries) = cluster()?;
    let plugins = [registries[0].tag(), registries[1].pinned()];
    for (index, plugin) in plugins.iter().enumerate() {
        start_with(&mut cluster, index, plugin)?;
    }
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    let asked = registries[1].asked();
    cluster.take_daemon(1)?.kill9();
    start_with(&mut cluster, 1, &plugins[1])?;
    assert_eq!(registries[1].asked(), asked, "what is pinned is not asked for again");
    let pinned = registries[0].pinned();
    drop(registries);
    for (index, plugin) in plugins.iter().enumerate() {
        cluster.take_daemon(index)?.kill9();
        start_with(&mut cluster, index, plugin)?;
    }
    let warning = cluster.daemon(0)?.wait_log("that the registry is away", |line| {
        line.level() == "WARN" && line.message().contains("Connection refused")
    })?;
    assert!(warning.message().contains(&plugins[0]), "{}", warning.raw());
    assert_eq!(cluster.status(0)?["plugin"]["source"], pinned);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_plugin_that_no_registry_has_is_refused_in_one_line() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    store.put_config(IPV4)?;
    let node = lab.node(0);
    let registry = Registry::start(node.namespace(), &artifacts::plugin("vxlan")?)?;
    let missing = registry.tag().replace(":v1", ":v2");
    let mut daemon = node.start(&DaemonOptions::new(&store, None, None)?.plugin(missing.clone().into()))?;
    assert!(!daemon.wait_exit()?.success());
    let errors = daemon.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {}", daemon.log().tail()) };
    for word in [missing.as_str(), "404 Not Found"] {
        assert!(error.message().contains(word), "{word} in {}", error.raw());
    }
    Ok(())
}

#[test]
fn the_contract_is_published_as_a_package_of_its_version() -> Result<()> {
    let cluster = Cluster::prepare(&ClusterOptions { nodes: 1, ..ClusterOptions::default() })?;
    let registry = Registry::start(cluster.node(0).namespace(), &artifacts::plugin("vxlan")?)?;
    let push = |arguments: &[&str]| -> Result<(bool, String)> {
        let mut command = cluster.options().command(cluster.node(0));
        let output = command.args(["plugin", "wit", "push"]).args(arguments).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(said)?.trim_end().to_owned()))
    };
    let tag = registry.tag().replace(":v1", ":0.1.0");
    let (is_done, pinned) = push(&[&tag])?;
    assert!(is_done && pinned.starts_with(&format!("{tag}@sha256:")), "{pinned}");
    let json = |path: &str| -> Result<Value> {
        Ok(serde_json::from_slice(&registry.content(path).with_context(|| path.to_owned())?)?)
    };
    let manifest = json("manifests/0.1.0")?;
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "flannel:backend");
    let blob = |descriptor: &Value| format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default());
    let config = json(&blob(&manifest["config"]))?;
    let exports = config["component"]["exports"].as_array().context("exports")?;
    assert!(exports.contains(&"flannel:backend/policy@0.1.0".into()), "{config}");
    let layer = registry.content(&blob(&manifest["layers"][0])).context("the package")?;
    // A component, and no module.
    assert!(layer.starts_with(b"\0asm\x0d\0\x01\0"), "{:?}", &layer[..8]);

    // The same from its files, byte for byte; and one of others.
    let wit = artifacts::workspace().join("wit").display().to_string();
    assert_eq!(push(&[&tag, "--wit", &wit])?, (true, pinned));
    let own = tempfile::tempdir()?;
    std::fs::write(own.path().join("a.wit"), "package acme:net@1.2.0;\ninterface i { f: func(); }\n")?;
    let own = own.path().display().to_string();
    assert!(push(&[&registry.tag(), "--wit", &own])?.0, "a tag that is no version");
    for (arguments, said) in [
        (
            vec![tag.as_str(), "--wit", &own],
            "the tag is a version, and the package is acme:net@1.2.0: right would be the tag 1.2.0",
        ),
        (vec![&*tag, "--wit", "/nowhere"], "--wit /nowhere is not there; it is the directory with"),
        (vec![&*tag, "--wit", "/proc/self"], "--wit /proc/self: "),
        (vec!["oci://127.0.0.1:1/a:0.1.0"], "cannot be connected to"),
        (vec!["a.wasm"], "this is a file, not a registry"),
    ] {
        let (is_done, error) = push(&arguments)?;
        assert!(!is_done && error.contains(said), "{arguments:?}: {error}");
    }
    Ok(())
}
