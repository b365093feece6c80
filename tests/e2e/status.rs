//! What a node tells about itself: to probes, to Prometheus, and to `flanneld status`.

use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};

use anyhow::{Context, Result};
use flannel_lab::cluster::IPV4;
use flannel_lab::http::{self, Answer};
use flannel_lab::{Cluster, ClusterOptions, DaemonOptions, Lab, Node, Pings, Store, Underlay, wait};
use serde_json::{Value, json};

const PORT: u16 = 8471;
const PORT_FLAG: &str = "--healthz-port=8471";
const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), PORT);

/// A node and a lease directory in which there is no network config yet, and what starts a daemon there.
fn without_a_config() -> Result<(Lab, Store, DaemonOptions)> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    let options = DaemonOptions::new(&store, None, None)?.arg(PORT_FLAG);
    Ok((lab, store, options))
}

/// Two nodes that know each other, with pods.
fn cluster(arguments: &[&str]) -> Result<Cluster> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    cluster.add_arguments(arguments);
    cluster.bring_up()?;
    Ok(cluster)
}

fn plain(status: u16, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8".to_owned(), body: body.to_owned() }
}

/// `flanneld status …`, with the node's control socket.
fn status(options: &DaemonOptions, node: &Node, arguments: &[&str]) -> Result<Output> {
    let mut command = options.command(node);
    command.env_remove("FLANNELD_CONTROL_SOCKET");
    command.arg("status").args(arguments).arg("--control-socket").arg(node.control_socket());
    command.stdin(Stdio::null()).output().context("cannot run flanneld status")
}

fn status_json(cluster: &Cluster, index: usize) -> Result<Value> {
    let output = status(cluster.options(), cluster.node(index), &["--json"])?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("flanneld status --json: no JSON")
}

#[test]
fn healthz_answers_at_once_and_readyz_tells_when_the_node_is_ready() -> Result<()> {
    let (lab, store, options) = without_a_config()?;
    let space = lab.node(0).namespace();
    let mut daemon = lab.node(0).start(&options)?;
    daemon.wait_log("that there is no config", |line| line.message().contains("no network config"))?;
    let running = plain(200, "flanneld is running");
    assert_eq!(http::get(space, LOCALHOST, "/healthz")?, running);
    let not_yet = http::get(space, LOCALHOST, "/readyz")?;
    assert_eq!(not_yet.status, 503);
    for part in
        ["flanneld is not ready yet: ", "the node's lease is not in the store", "no network config at "]
    {
        assert!(not_yet.body.contains(part), "{part:?} is not in {not_yet:?}");
    }

    store.put_config(IPV4)?;
    daemon.wait_ready()?;
    wait::until_true("the node says that it is ready", || {
        Ok(http::get(space, LOCALHOST, "/readyz")? == plain(200, "flanneld is ready"))
    })?;
    assert_eq!(http::get(space, LOCALHOST, "/healthz")?, running);
    Ok(())
}

#[test]
fn other_paths_are_not_found() -> Result<()> {
    let (lab, _store, options) = without_a_config()?;
    let space = lab.node(0).namespace();
    let daemon = lab.node(0).start(&options)?;
    daemon.wait_log("that there is no config", |line| line.message().contains("no network config"))?;
    for path in ["/", "/healthz/", "/debug/pprof/"] {
        assert_eq!(http::get(space, LOCALHOST, path)?.status, 404, "{path}");
    }
    Ok(())
}

#[test]
fn health_is_told_at_the_address_that_was_asked_for_and_at_no_other() -> Result<()> {
    let (lab, _store, options) = without_a_config()?;
    let node = lab.node(0);
    let daemon = node.start(&options.arg(format!("--healthz-ip={}", node.address())))?;
    daemon.wait_log("that there is no config", |line| line.message().contains("no network config"))?;
    let address = SocketAddr::new(node.address().into(), PORT);
    // A probe may come from elsewhere.
    assert_eq!(http::get(lab.switch().namespace(), address, "/healthz")?.status, 200);
    http::get(node.namespace(), LOCALHOST, "/healthz").expect_err("nobody listens there");
    Ok(())
}

#[test]
fn without_a_port_nobody_listens() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions { nodes: 1, ..ClusterOptions::default() })?;
    let sockets = cluster.node(0).namespace().tool("ss", "-H -ltn")?;
    assert_eq!(sockets, "");
    Ok(())
}

#[test]
fn a_health_port_that_somebody_has_is_refused_with_its_number() -> Result<()> {
    let (lab, _store, options) = without_a_config()?;
    let _other = lab.node(0).namespace().run(|| TcpListener::bind(LOCALHOST))??;
    let mut daemon = lab.node(0).start(&options)?;
    let status = daemon.wait_exit()?;
    let errors = daemon.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {}", daemon.log().tail()) };
    assert!(!status.success() && error.message().contains("8471"), "{status}: {}", error.message());
    Ok(())
}

#[test]
fn metrics_are_those_of_a_node_with_one_peer() -> Result<()> {
    let cluster = cluster(&[PORT_FLAG])?;
    let space = cluster.node(0).namespace();
    wait::until_equal("the metrics have one peer", || {
        let answer = http::get(space, LOCALHOST, "/metrics")?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let wanted = [
            "flanneld_ready 1",
            r#"flanneld_entries{kind="route"} 1"#,
            r#"flanneld_entries{kind="neighbour"} 1"#,
            r#"flanneld_entries{kind="fdb"} 1"#,
        ];
        let missing = wanted.iter().find(|line| !answer.body.lines().any(|has| has == **line));
        Ok(missing.map(|line| format!("{line} is not in\n{}", answer.body)))
    })?;
    Ok(())
}

#[test]
fn metrics_are_in_prometheus_format() -> Result<()> {
    let cluster = cluster(&[PORT_FLAG])?;
    let metrics = http::get(cluster.node(0).namespace(), LOCALHOST, "/metrics")?.body;
    let mut described = Vec::new();
    for line in metrics.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "TYPE", name, "counter" | "gauge" | "histogram" | "info" | "unknown"] => {
                described.push(name);
            }
            ["#", "HELP" | "UNIT" | "EOF", ..] => {}
            [.., name, value] => {
                assert!(value.parse::<f64>().is_ok(), "a number in {line:?}");
                // Label values may have blanks in them.
                let name = if words.len() > 2 { words[0] } else { name };
                let family = described.last().copied().unwrap_or_default();
                assert!(
                    name.starts_with(family) && !family.is_empty(),
                    "{line:?} comes behind the type of {family}"
                );
                assert!(name.starts_with("flanneld_") || name.starts_with("process_"), "{line:?}");
            }
            _ => panic!("{line:?}"),
        }
    }
    assert!(described.iter().any(|name| name.starts_with("flanneld_")), "{metrics}");
    Ok(())
}

#[test]
fn status_tells_the_nodes_subnet_and_what_is_programmed_for_its_peer() -> Result<()> {
    let cluster = cluster(&[])?;
    let told = status_json(&cluster, 0)?;
    assert_eq!(told["ready"]["ready"], json!(true), "{told:#}");
    assert_eq!(told["lease"]["subnets"], json!(cluster.subnets(0)?), "{told:#}");
    assert_eq!(told["node"]["interface"], json!("eth0"), "{told:#}");
    let peers = told["peers"].as_array().with_context(|| format!("peers in {told:#}"))?;
    let [peer] = &peers[..] else { panic!("one peer: {told:#}") };
    assert_eq!(peer["subnets"], json!(cluster.subnets(1)?), "{told:#}");
    assert_eq!(peer["public"], json!([cluster.node(1).address().to_string()]), "{told:#}");
    for kind in ["routes", "neighbours", "fdb"] {
        assert_eq!(peer[kind], json!(1), "{kind} in {told:#}");
    }
    assert_eq!(peer["problems"], json!([]), "{told:#}");
    Ok(())
}

#[test]
fn status_for_people_has_the_subnets_of_the_node_and_of_its_peer() -> Result<()> {
    let cluster = cluster(&[])?;
    let output = status(cluster.options(), cluster.node(0), &[])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for subnet in cluster.subnets(0)?.into_iter().chain(cluster.subnets(1)?) {
        assert!(text.contains(&subnet), "{subnet} in\n{text}");
    }
    Ok(())
}

#[test]
fn status_where_no_daemon_runs_is_one_line_with_the_socket() -> Result<()> {
    let (lab, _store, options) = without_a_config()?;
    let output = status(&options, lab.node(0), &[])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.contains(&lab.node(0).control_socket().display().to_string()), "{said}");
    Ok(())
}

#[test]
fn a_second_daemon_on_a_node_refuses_to_start_and_the_first_goes_on() -> Result<()> {
    let mut cluster = cluster(&[])?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let before = cluster.state(0)?;
    let mut second = cluster.node(0).start(cluster.options())?;
    let status = second.wait_exit()?;
    assert!(!status.success(), "{status}");
    let errors = second.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {}", second.log().tail()) };
    let socket = cluster.node(0).control_socket().display().to_string();
    let pid = cluster.daemon(0)?.pid().to_string();
    for words in ["another flanneld", &socket, &pid] {
        assert!(error.message().contains(words), "{words} in {:?}", error.message());
    }

    assert!(cluster.daemon(0)?.runs()?);
    assert_eq!(before.difference(&cluster.state(0)?), None);
    assert_eq!(status_json(&cluster, 0)?["pid"], json!(cluster.daemon(0)?.pid()));
    std::thread::sleep(std::time::Duration::from_secs(1));
    pings.lost_nothing()
}

#[test]
fn a_daemon_that_was_killed_is_no_second_one() -> Result<()> {
    let mut cluster = cluster(&[])?;
    cluster.kill_and_restart(0)?;
    assert_eq!(status_json(&cluster, 0)?["pid"], json!(cluster.daemon(0)?.pid()));
    Ok(())
}
