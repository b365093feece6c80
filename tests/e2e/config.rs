//! `flanneld config`: what a network config would do is told without doing it, and a config is written only where it can be changed to.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};
use flannel_lab::artifacts::component;
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Cluster, ClusterOptions, Store, Traffic, wait};
use serde_json::{Value, json};

const VXLAN: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const HOST_GW: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;

/// A node that runs, with the built-in plugins.
fn cluster(etcd: bool) -> Result<Cluster> {
    let mut cluster = Cluster::prepare(&ClusterOptions { nodes: 1, etcd, ..ClusterOptions::default() })?;
    cluster.set_options(cluster.options().clone().built_in());
    cluster.bring_up()?;
    Ok(cluster)
}

/// `flanneld config …` on the node, with the daemon's flags.
fn command(cluster: &Cluster, arguments: &[&str]) -> Command {
    let node = cluster.node(0);
    let mut command = cluster.options().command(node);
    command.arg("config").args(arguments).args(cluster.store().flags());
    let place = |name: &str| node.directory().join(name);
    command.arg("--state-dir").arg(place("state")).arg("--cache-dir").arg(place("cache"));
    command.arg("--subnet-file").arg(place("run/subnet.env"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn started(mut command: Command, input: &str) -> Result<Child> {
    let mut child = command.spawn().context("cannot run flanneld config")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
    Ok(child)
}

/// The same with a config on its standard input, to its end.
fn config(cluster: &Cluster, arguments: &[&str], input: &str) -> Result<Output> {
    Ok(started(command(cluster, arguments), input)?.wait_with_output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `config check --json`: what it prints, its status, and what it says.
fn checked(cluster: &Cluster, arguments: &[&str], input: &str) -> Result<(Value, Option<i32>, String)> {
    let arguments = [&["check", "-", "--json"], arguments].concat();
    let output = config(cluster, &arguments, input)?;
    let report = serde_json::from_slice(&output.stdout).with_context(|| said(&output))?;
    Ok((report, output.status.code(), said(&output)))
}

fn stored(cluster: &mut Cluster) -> Result<String> {
    if let Store::File(directory) = cluster.store() {
        return Ok(std::fs::read_to_string(directory.join("config"))?);
    }
    let etcd = cluster.etcd()?;
    let key = etcd.key("config");
    Ok(etcd.range(&key)?.into_iter().find(|pair| pair.key == key).context("a config")?.value)
}

#[test]
fn another_backend_is_told_with_its_plugin_its_devices_and_its_mtu_and_nothing_is_done() -> Result<()> {
    for etcd in [false, true] {
        let mut cluster = cluster(etcd)?;
        let before = cluster.state(0)?;
        let (report, status, _) = checked(&cluster, &[], HOST_GW)?;
        assert_eq!((status, &report["verdict"]), (Some(0), &json!("live")), "{report:#}");
        assert_eq!(
            report["differences"],
            json!([{"field": "Backend.Type", "from": "\"vxlan\"", "to": "\"host-gw\"", "live": true}])
        );
        let backend = &report["backend"];
        assert_eq!(backend["plugin"]["source"], json!("built-in host-gw"), "{report:#}");
        assert_eq!(backend["plugin"]["digest"].as_str().map(str::len), Some(64));
        assert_eq!((&backend["devices"], &backend["mtu"]), (&json!([]), &json!(1500)), "{report:#}");
        assert_eq!(backend["mtu_in_force"], json!(1450), "{report:#}");
        let output = config(&cluster, &["check", "-"], HOST_GW)?;
        let text = shown(&output);
        for line in [
            "the standard input: the nodes can change to it while they run\n",
            "live        Backend.Type \"vxlan\" -> \"host-gw\"\n",
            "note        pods made from now on have MTU 1500 instead of 1450; those that run keep theirs\n",
        ] {
            assert!(text.contains(line), "{line:?} in:\n{text}{}", said(&output));
        }
        let other = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7,"Port":4789,"Prot":1}}"#;
        let (report, status, _) = checked(&cluster, &[], other)?;
        assert_eq!(status, Some(0), "{report:#}");
        assert_eq!(
            report["backend"]["devices"],
            json!([{"name": "flannel.7", "kind": "vxlan", "vni": 7, "port": 4789, "mtu": 1450}])
        );
        assert_eq!(report["unread"], json!([{"field": "Backend.Prot", "meant": "Port"}]), "{report:#}");
        assert_eq!(before.difference(&cluster.state(0)?), None);
        assert_eq!(stored(&mut cluster)?, VXLAN);
    }
    Ok(())
}

#[test]
fn what_is_wrong_what_takes_a_restart_and_what_cannot_start_here_end_with_their_status() -> Result<()> {
    let cluster = cluster(false)?;
    let namespace = cluster.node(0).namespace();
    cluster.node(0).ip("link add flannel.9 type bridge")?;
    let _taken = namespace.run(|| std::net::UdpSocket::bind("0.0.0.0:9999"))??;
    for (text, ends, verdict, words) in [
        (r#"{"Network":"10.5.0.0/16""#, 1, "invalid", "the standard input: it is not a JSON object: EOF"),
        (
            r#"{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}"#,
            3,
            "restart",
            "takes a restart of each node: Network 10.5.0.0/16 -> 10.6.0.0/16",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"hostgw"}}"#,
            1,
            "cannot-start",
            "no built-in plugin for it (there are: ",
        ),
        (r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":-1}}"#, 1, "cannot-start", "VNI"),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":9}}"#,
            1,
            "cannot-start",
            "device flannel.9: there is a bridge device of this name",
        ),
        (
            r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7,"Port":9999}}"#,
            1,
            "cannot-start",
            "device flannel.7: a program has UDP port 9999",
        ),
    ] {
        let (report, status, error) = checked(&cluster, &[], text)?;
        assert_eq!((status, &report["verdict"]), (Some(ends), &json!(verdict)), "{text}: {report:#}");
        assert!(error.contains(words) && error.lines().count() == 1, "{words:?} in {error}");
        let error = said(&config(&cluster, &["set", "-"], text)?);
        assert!(error.contains(" is not written: ") && error.lines().count() == 1, "{error}");
    }
    Ok(())
}

#[test]
fn a_plugin_without_its_grants_is_told_with_what_to_write() -> Result<()> {
    let cluster = cluster(false)?;
    let plugin = component("vxlan-next")?.display().to_string();
    let (report, status, error) = checked(&cluster, &["--plugin", &plugin], VXLAN)?;
    assert_eq!((status, &report["verdict"]), (Some(1), &json!("cannot-start")), "{report:#}");
    let missing = json!(["fdb", "links", "neighbours", "routes"]);
    assert_eq!(report["backend"]["plugin"]["missing"], missing, "{report:#}");
    assert!(error.contains("[[grant]] digest = \"sha256:") && error.contains("--allow fdb,links"), "{error}");
    let allow = "--allow=links,routes,neighbours,fdb";
    let (report, status, _) = checked(&cluster, &["--plugin", &plugin, allow], VXLAN)?;
    assert_eq!((status, &report["backend"]["plugin"]["version"]), (Some(0), &json!("9.0.0")), "{report:#}");
    // What it is not for the built-in plugin serves, as with the daemon.
    let (report, status, _) = checked(&cluster, &["--plugin", &plugin, allow], HOST_GW)?;
    let source = &report["backend"]["plugin"]["source"];
    assert_eq!((status, source), (Some(0), &json!("built-in host-gw")), "{report:#}");
    Ok(())
}

#[test]
fn without_a_daemon_it_is_compared_with_the_store_and_the_first_config_is_no_change() -> Result<()> {
    let mut cluster = cluster(false)?;
    cluster.take_daemon(0)?.kill9();
    let file = cluster.lab().directory().join("net.json");
    std::fs::write(&file, HOST_GW)?;
    let path = file.display().to_string();
    let output = config(&cluster, &["check", &path], "")?;
    let text = shown(&output);
    assert!(output.status.success(), "{}", said(&output));
    for part in
        [&path, "as the store says", "no flanneld is running here", "\"vxlan\" -> \"host-gw\"", "1450"]
    {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
    let Store::File(directory) = cluster.store() else { return Ok(()) };
    std::fs::remove_file(directory.join("config"))?;
    let output = config(&cluster, &["check", &path], "")?;
    assert!(
        output.status.success() && shown(&output).contains("this would be the first"),
        "{}",
        shown(&output)
    );
    let output = config(&cluster, &["set", &path], "")?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(shown(&output).contains("cannot be seen from here"), "{}", shown(&output));
    assert_eq!(stored(&mut cluster)?, HOST_GW);
    Ok(())
}

#[test]
fn a_config_is_written_over_what_was_there_and_waited_for_until_the_time_is_over() -> Result<()> {
    for etcd in [false, true] {
        let mut cluster = cluster(etcd)?;
        // A node that does not answer: the change has no end.
        cluster.store().put(&StoredLease::invented(250))?;
        let output = config(&cluster, &["set", "-", "--timeout=2"], HOST_GW)?;
        let (text, error) = (shown(&output), said(&output));
        assert_eq!(output.status.code(), Some(1), "{text}{error}");
        assert!(
            text.contains("Backend.Type \"vxlan\" -> \"host-gw\"\n") && text.contains("written: "),
            "{text}"
        );
        assert!(error.contains("after 2 s the cluster has not changed to it; the change goes on"), "{error}");
        assert_eq!(stored(&mut cluster)?, HOST_GW);
        let output = config(&cluster, &["set", "-", "--no-wait"], VXLAN)?;
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(stored(&mut cluster)?, VXLAN);
    }
    Ok(())
}

#[test]
fn an_interrupt_ends_the_waiting_and_says_that_the_change_goes_on() -> Result<()> {
    let mut cluster = cluster(false)?;
    cluster.store().put(&StoredLease::invented(250))?;
    let child = started(command(&cluster, &["set", "-"]), HOST_GW)?;
    wait::until_true("the config is written", || Ok(stored(&mut cluster)? == HOST_GW))?;
    // It listens for the signal a moment later.
    std::thread::sleep(std::time::Duration::from_secs(1));
    cluster.node(0).namespace().tool("kill", &format!("-INT {}", child.id()))?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(said(&output).contains("interrupted; the change goes on"), "{}", said(&output));
    assert_eq!(stored(&mut cluster)?, HOST_GW);
    Ok(())
}

#[test]
fn a_config_in_another_store_than_the_daemons_is_not_written() -> Result<()> {
    let cluster = cluster(false)?;
    let other = cluster.lab().directory().join("elsewhere");
    std::fs::create_dir(&other)?;
    let mut command = command(&cluster, &["set", "-"]);
    command.arg(format!("--store=file:{}", other.display()));
    let output = started(command, HOST_GW)?.wait_with_output()?;
    assert!(
        said(&output).contains("this node's daemon has its network config elsewhere"),
        "{}",
        said(&output)
    );
    assert_eq!(other.read_dir()?.count(), 0);
    Ok(())
}

#[test]
fn a_secret_is_not_shown() -> Result<()> {
    let mut cluster =
        Cluster::prepare(&ClusterOptions { nodes: 1, ..ClusterOptions::of(Backend::Alloc, false) })?;
    cluster.set_options(cluster.options().clone().built_in());
    cluster.start_all()?;
    let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    let text = format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"wireguard","PSK":"{key}"}}}}"#);
    for arguments in [&["check", "-"][..], &["check", "-", "--json"], &["check", "-", "--log-level=trace"]] {
        let output = config(&cluster, arguments, &text)?;
        let all = shown(&output) + &said(&output);
        assert!(all.contains("PSK") && all.contains("(hidden)") && !all.contains(key), "{all}");
    }
    Ok(())
}

#[test]
fn who_sets_another_backend_is_told_when_the_cluster_has_changed_to_it() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions { nodes: 3, ..ClusterOptions::default() })?;
    cluster.set_options(cluster.options().clone().built_in());
    cluster.bring_up()?;
    let traffic = Traffic::among(cluster.pods())?;
    let output = config(&cluster, &["set", "-"], HOST_GW)?;
    let lines = shown(&output);
    assert!(output.status.success(), "{lines}{}", said(&output));
    assert!(
        lines.contains("change to host-gw: ") && lines.ends_with("done: the cluster has changed to it\n"),
        "{lines}"
    );
    wait::until_true("all nodes have nothing else", || {
        Ok(cluster.store().leases()?.iter().all(|lease| lease.value.ends_with(r#""BackendType":"host-gw"}"#)))
    })?;
    traffic.stop()?.assert_clean();
    Ok(())
}
