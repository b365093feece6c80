//! The backend extension: commands of the operator's make the ways between nodes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flannel_lab::reference::{self, Reference};
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Cluster, ClusterOptions, artifacts, change, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Works with a shell and without.
const ADD: &str = "ip route replace $SUBNET via $PUBLIC_IP";
const REMOVE: &str = "ip route del $SUBNET via $PUBLIC_IP";

/// The example with this number in the documentation.
fn documented(number: usize) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/extension.md");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let example = text.split("```json\n").nth(number).and_then(|rest| rest.split("```").next());
    Ok(example.context("an example")?.to_owned())
}

fn section(commands: &Value) -> String {
    let mut section = commands.clone();
    section["Type"] = json!("extension");
    section.to_string()
}

fn config(commands: &Value) -> String {
    format!(r#"{{"Network":"10.5.0.0/16","Backend":{}}}"#, section(commands))
}

/// Nodes whose daemons do not run yet, with the built-in plugin.
fn prepared(nodes: usize, config: &str) -> Result<Cluster> {
    let options = ClusterOptions {
        nodes,
        backend: Backend::Alloc,
        config: config.to_owned(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(&options)?;
    cluster.set_options(cluster.options().clone().built_in());
    Ok(cluster)
}

fn started(nodes: usize, config: &str) -> Result<Cluster> {
    let mut cluster = prepared(nodes, config)?;
    cluster.bring_up()?;
    Ok(cluster)
}

/// Each pod reaches each other, by now or soon.
fn wait_reach(cluster: &Cluster) -> Result<()> {
    for from in cluster.pods() {
        for to in cluster.pods().filter(|to| to.addresses() != from.addresses()) {
            let mut last = None;
            let reached = wait::until_true("a pod reaches another one", || {
                last = from.reaches(to).err();
                Ok(last.is_none())
            });
            reached.with_context(|| format!("{last:?}\n{}", change::describe(cluster)))?;
        }
    }
    Ok(())
}

/// A place of the test's own that all nodes see.
fn place(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.lab().directory().join(name)
}

/// What a node says of the peer with a subnet.
fn problems(cluster: &Cluster, node: usize, subnet: &str) -> Result<String> {
    let status = cluster.status(node)?;
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    let peer = peers.iter().find(|peer| peer["subnets"][0] == subnet);
    Ok(peer.map(|peer| peer["problems"].to_string()).unwrap_or_default())
}

fn wait_problem(cluster: &Cluster, node: usize, subnet: &str, words: &str) -> Result<()> {
    let said = wait::until_equal(&format!("node {node} says {words:?} of {subnet}"), || {
        let problems = problems(cluster, node, subnet)?;
        Ok((!problems.contains(words)).then_some(problems))
    });
    said.map(drop).with_context(|| change::describe(cluster))
}

fn route(cluster: &Cluster, node: usize, subnet: &str) -> Result<String> {
    cluster.node(node).ip(&format!("route show {subnet}"))
}

fn wait_route(cluster: &Cluster, node: usize, subnet: &str, via: &str) -> Result<()> {
    let routed = wait::until_equal(&format!("node {node} has a route to {subnet} by {via:?}"), || {
        let found = route(cluster, node, subnet)?;
        let is_so =
            if via.is_empty() { found.is_empty() } else { found.contains(via) && found.lines().count() == 1 };
        Ok((!is_so).then_some(found))
    });
    routed.map(drop).with_context(|| change::describe(cluster))
}

/// What a daemon says that ends at its start.
fn failed(commands: &Value) -> Result<String> {
    let mut cluster = prepared(1, &config(commands))?;
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    ensure!(!status.success(), "{status}: {said}");
    Ok(said)
}

#[test]
fn upstreams_example_with_routes_works_as_it_is_printed() -> Result<()> {
    let mut cluster = started(3, &documented(1)?)?;
    wait_reach(&cluster)?;
    let file = cluster.node(0).subnet_env()?.context("a subnet file")?;
    ensure!(file.mtu == 1500, "{file:?}");
    ensure!(!cluster.lease(0)?.value.contains("BackendData"), "{:?}", cluster.lease(0)?);
    // A node that goes takes its routes along, and one that comes back gets them again.
    let subnet = cluster.subnets(2)?[0].clone();
    let address = cluster.node(2).address().to_string();
    cluster.leave(2)?;
    wait_route(&cluster, 0, &subnet, "")?;
    wait_route(&cluster, 1, &subnet, "")?;
    cluster.launch(2)?.wait_ready()?;
    wait_route(&cluster, 0, &subnet, &address)?;
    wait_reach(&cluster)
}

/// The daemon with a `/sys` that shows the interfaces of its own network namespace, as a node's own has it.
fn with_sys(cluster: &Cluster) -> Result<PathBuf> {
    let file = place(cluster, "flanneld");
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount -t sysfs sysfs /sys && exec \"$@\"' sh {} \"$@\"\n",
        artifacts::flanneld()?.display()
    );
    std::fs::write(&file, text)?;
    std::fs::set_permissions(&file, Permissions::from_mode(0o755))?;
    Ok(file)
}

#[test]
fn upstreams_example_with_vxlan_works_as_it_is_printed() -> Result<()> {
    if let Some(reason) = Backend::Vxlan.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    let mut cluster = prepared(3, &documented(2)?)?;
    let mut options = cluster.options().clone();
    options = options.binary(with_sys(&cluster)?);
    cluster.set_options(options);
    cluster.bring_up()?;
    wait_reach(&cluster)?;
    let device = cluster.node(0).ip("link show flannel-vxlan")?;
    let mac = device.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).context("a MAC")?;
    let lease = cluster.lease(0)?;
    ensure!(lease.value.contains(&format!(r#""BackendData":"{mac}""#)), "{lease:?}");
    ensure!(route(&cluster, 0, &cluster.subnets(1)?[0])?.contains("flannel-vxlan"), "no route over it");
    Ok(())
}

#[test]
fn both_families_have_their_variables() -> Result<()> {
    let six = |command: &str| {
        format!(
            "ip -6 route {command} $IPV6SUBNET via $PUBLIC_IPV6; ip route {command} $SUBNET via $PUBLIC_IP"
        )
    };
    let backend = section(&json!({ "SubnetAddCommand": six("replace"), "SubnetRemoveCommand": six("del") }));
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{backend}}}"#
    );
    let cluster = started(2, &config)?;
    wait_reach(&cluster)?;
    let subnets = cluster.subnets(1)?;
    ensure!(!cluster.node(0).ip(&format!("-6 route show {}", subnets[1]))?.is_empty(), "no route");
    ensure!(!route(&cluster, 0, &subnets[0])?.is_empty(), "no route");
    Ok(())
}

#[test]
fn a_cluster_of_ipv6_alone_is_told_nothing_of_ipv4() -> Result<()> {
    let add = r#"test -z "$SUBNET$PUBLIC_IP" && ip -6 route replace $IPV6SUBNET via $PUBLIC_IPV6"#;
    let backend = section(&json!({ "SubnetAddCommand": add }));
    let config = format!(
        r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:5::/48","Backend":{backend}}}"#
    );
    wait_reach(&started(2, &config)?)
}

#[test]
fn one_that_fails_is_named_and_tried_again_until_it_succeeds() -> Result<()> {
    let mut cluster = prepared(2, "{}")?;
    let open = place(&cluster, "open");
    let add = format!("test -e {} || {{ echo 'not yet' >&2; exit 9; }}; {ADD}", open.display());
    cluster
        .store()
        .put_config(&config(&json!({ "SubnetAddCommand": add, "SubnetRemoveCommand": REMOVE })))?;
    cluster.bring_up()?;
    let subnet = cluster.subnets(1)?[0].clone();
    wait_problem(&cluster, 0, &subnet, "exit status 9, and said: not yet")?;
    std::fs::write(&open, "")?;
    wait_reach(&cluster)?;
    wait_problem(&cluster, 0, &subnet, "[]")
}

/// Whether there is such a process, and it has not ended.
fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn one_that_hangs_is_killed_and_the_daemon_answers_meanwhile() -> Result<()> {
    let mut cluster = prepared(2, "{}")?;
    let (open, begun) = (place(&cluster, "open"), place(&cluster, "begun"));
    let add = format!(
        "test -e {open} || {{ sleep 1000 & echo $! >> {begun}; sleep 1000; }}; {ADD}",
        open = open.display(),
        begun = begun.display()
    );
    cluster.store().put_config(&config(&json!({ "SubnetAddCommand": add })))?;
    for index in 0..2 {
        cluster.launch(index)?;
    }
    let pids = || {
        let pids = std::fs::read_to_string(&begun).unwrap_or_default();
        pids.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    wait::until_true("the commands have begun", || Ok(!pids().is_empty()))?;
    cluster.status(0)?;
    ensure!(pids().iter().any(|pid| runs(pid)), "the daemon answered when none was running any more");
    wait::until_true("both nodes have subnets", || {
        Ok(cluster.subnets(0).is_ok() && cluster.subnets(1).is_ok())
    })?;
    let subnet = cluster.subnets(1)?[0].clone();
    wait_problem(&cluster, 0, &subnet, "has not ended within 30 s and was killed")?;
    std::fs::write(&open, "")?;
    wait_route(&cluster, 0, &subnet, &cluster.node(1).address().to_string())?;
    // The other node's may have begun a moment ago: it has its half a minute, too.
    for pid in pids() {
        wait::until_true(&format!("{pid} is gone"), || Ok(!runs(&pid)))?;
    }
    // One that is under way does not hold up the end.
    std::fs::remove_file(&open)?;
    let daemon = cluster.take_daemon(0)?;
    ensure!(daemon.terminate()?.success(), "it ends");
    Ok(())
}

#[test]
fn a_flood_and_what_stays_in_the_background_hold_nothing_up() -> Result<()> {
    let mut cluster = prepared(2, "{}")?;
    let pids = place(&cluster, "pids");
    let sleep = format!("sleep 1000 & echo $! >> {}", pids.display());
    let flood = "head -c 3000000 /dev/zero | tr '\\0' x";
    let commands = json!({
        "PreStartupCommand": format!("{sleep}; echo published"),
        "PostStartupCommand": format!("yes & {flood}; kill $!; {sleep}"),
        "SubnetAddCommand": format!("{sleep}; {flood}; {ADD}"),
    });
    cluster.store().put_config(&config(&commands))?;
    let reached = cluster.bring_up().and_then(|()| wait_reach(&cluster));
    for pid in std::fs::read_to_string(&pids)?.split_whitespace() {
        let pid = Pid::from_raw(pid.parse()?).context("a process")?;
        kill_process(pid, Signal::KILL).context("it goes on in the background")?;
    }
    reached?;
    ensure!(cluster.lease(0)?.value.contains(r#""BackendData":"published""#), "{:?}", cluster.lease(0)?);
    Ok(())
}

#[test]
fn what_a_peer_publishes_is_text_to_the_commands_and_nothing_else() -> Result<()> {
    let mut cluster = prepared(1, "{}")?;
    let (heard, made) = (place(&cluster, "heard"), place(&cluster, "made"));
    let add = format!("cat > {}.$(echo $SUBNET | tr / _)", heard.display());
    cluster.store().put_config(&config(&json!({ "SubnetAddCommand": add })))?;
    cluster.launch(0)?.wait_ready()?;
    let touch = format!("touch {}", made.display());
    let hostile = [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("'; {touch}; \"; {touch}\n{touch}\n"),
        "${IFS}\\\u{1}\u{7f}\u{1b}[31m\u{2028}\u{1f980}".to_owned(),
        "x".repeat(60_000),
    ];
    for (number, text) in hostile.iter().enumerate() {
        let value = json!({
            "PublicIP": format!("192.168.77.{}", 100 + number), "PublicIPv6": null, "BackendType": "extension", "BackendData": text,
        });
        let key = format!("10.5.{}.0-24", 200 + number);
        cluster.store().put(&StoredLease { key, value: value.to_string() })?;
        let file = PathBuf::from(format!("{}.10.5.{}.0_24", heard.display(), 200 + number));
        let wanted = format!("{text}\n");
        wait::until_equal("the command has read it", || {
            let read = std::fs::read_to_string(&file).unwrap_or_default();
            Ok((read != wanted).then(|| format!("{:?}", read.chars().take(100).collect::<String>())))
        })?;
    }
    // No text at all is none of this backend's.
    let value =
        r#"{"PublicIP":"192.168.77.99","PublicIPv6":null,"BackendType":"extension","BackendData":{"VNI":1}}"#;
    let lease = StoredLease { key: "10.5.199.0-24".to_owned(), value: value.to_owned() };
    cluster.store().put(&lease)?;
    wait_problem(&cluster, 0, "10.5.199.0/24", "BackendData is no text in quotes")?;
    ensure!(!made.exists(), "it was run");
    Ok(())
}

/// Whether a file below a directory has a text in it.
fn holds(directory: &Path, text: &str) -> Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, text)?
        } else {
            // One that is being written may be gone, and does not count before it has its name.
            let is_complete = !path.to_string_lossy().ends_with("~new");
            is_complete
                && std::fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn after_a_restart_there_is_what_there_should_be_and_what_has_gone_meanwhile_is_removed() -> Result<()> {
    let mut cluster = started(3, &documented(1)?)?;
    wait_reach(&cluster)?;
    let gone = cluster.subnets(2)?[0].clone();
    // What is killed without warning loses what it has written within the last second.
    let state = cluster.node(0).directory().join("state");
    wait::until_true("it is on the disk", || holds(&state, &gone))?;
    cluster.take_daemon(0)?.kill9();
    cluster.leave(2)?;
    cluster.launch(0)?.wait_ready()?;
    wait_route(&cluster, 0, &gone, "")?;
    let kept = cluster.subnets(1)?[0].clone();
    wait_problem(&cluster, 0, &kept, "[]")?;
    wait_route(&cluster, 0, &kept, &cluster.node(1).address().to_string())?;
    // The end of a daemon removes nothing.
    ensure!(cluster.take_daemon(0)?.terminate()?.success(), "it ends");
    wait_route(&cluster, 0, &kept, &cluster.node(1).address().to_string())
}

#[test]
fn a_start_whose_commands_fail_says_which_and_how() -> Result<()> {
    for (commands, words) in [
        (
            json!({ "PreStartupCommand": "echo no luck >&2; exit 4" }),
            "PreStartupCommand has failed with exit status 4, and said: no luck",
        ),
        (
            json!({ "PostStartupCommand": "exit 5" }),
            "PostStartupCommand has failed with exit status 5, and said: nothing",
        ),
        (json!({ "PreStartupCommand": "/nowhere/program" }), "exit status 127"),
        (json!({ "PreStartupCommand": "head -c 70000 /dev/zero | tr '\\0' x" }), "more than 64 KiB"),
        (json!({ "SubnetAddCommand": 7 }), "SubnetAddCommand: 7 is not a text in quotes"),
    ] {
        let said = failed(&commands)?;
        ensure!(said.contains(words), "{words}: {said}");
    }
    Ok(())
}

#[test]
fn where_there_is_no_shell_it_is_said_in_a_line() -> Result<()> {
    if let Some(shell) = ["/usr/sbin/sh", "/sbin/sh"].iter().find(|shell| Path::new(shell).exists()) {
        flannel_test_support::skip(format_args!("there is a {shell}"));
        return Ok(());
    }
    let mut cluster = prepared(1, &config(&json!({ "PreStartupCommand": "true" })))?;
    // Behind this come the places of the system's programs.
    cluster.set_options(cluster.options().clone().env("PATH", "/nowhere"));
    let daemon = cluster.launch(0)?;
    let status = daemon.wait_exit()?;
    let said = daemon.log().tail();
    let words = "PreStartupCommand cannot be run: there is no sh here; commands need a shell";
    ensure!(!status.success() && said.contains(words), "{said}");
    Ok(())
}

/// Three nodes, with the flag or without.
fn three(config: &str, flag: bool) -> Result<Cluster> {
    let mut cluster = prepared(3, config)?;
    if flag {
        cluster.set_options(cluster.options().clone().arg("--allow-commands"));
    }
    cluster.bring_up()?;
    wait_reach(&cluster)?;
    Ok(cluster)
}

const VXLAN: &str = r#"{"Type":"vxlan"}"#;

#[test]
fn with_the_flag_a_running_cluster_changes_to_commands_and_back() -> Result<()> {
    let mut cluster = three(&change::with_backend(&documented(1)?, VXLAN)?, true)?;
    let example: Value = serde_json::from_str(&documented(1)?)?;
    let example = example["Backend"].to_string();
    let subnet = cluster.subnets(1)?[0].clone();
    let address = cluster.node(1).address().to_string();
    for _ in 0..2 {
        change::to(&mut cluster, &example)?;
        wait_route(&cluster, 0, &subnet, &address)?;
        wait_reach(&cluster)?;
        change::to(&mut cluster, VXLAN)?;
        wait_route(&cluster, 0, &subnet, "flannel.1")?;
        wait_reach(&cluster)?;
    }
    Ok(())
}

#[test]
fn commands_that_get_on_with_the_former_backends_routes_lose_no_packet() -> Result<()> {
    let mut cluster = three(&change::with_backend(&documented(1)?, VXLAN)?, true)?;
    let metric = section(&json!({
        "SubnetAddCommand": "ip route replace $SUBNET via $PUBLIC_IP metric 77",
        "SubnetRemoveCommand": "ip route del $SUBNET via $PUBLIC_IP metric 77",
    }));
    let traffic = flannel_lab::Traffic::among(cluster.pods())?;
    change::to(&mut cluster, &metric)?;
    change::to(&mut cluster, VXLAN)?;
    let report = traffic.stop()?;
    change::lost_nothing(&cluster, &report)?;
    wait_route(&cluster, 0, &cluster.subnets(1)?[0], "flannel.1")
}

#[test]
fn without_the_flag_commands_that_come_later_are_not_run_and_what_was_there_goes_on() -> Result<()> {
    let mut cluster = three(&documented(1)?, false)?;
    let before = cluster.store().config()?;
    let made = place(&cluster, "made");
    let other = section(
        &json!({ "PreStartupCommand": format!("touch {}", made.display()), "SubnetAddCommand": ADD }),
    );
    change::put(&cluster, &other)?;
    let words = "PreStartupCommand is not what the network config had at flanneld's start";
    wait::until_equal("it is said", || {
        let said = cluster.status(0)?["change"]["failure"].to_string();
        Ok((!(said.contains(words) && said.contains("--allow-commands"))).then_some(said))
    })?;
    wait_reach(&cluster)?;
    // Another backend without commands, and back to those of the start.
    change::to(&mut cluster, VXLAN)?;
    wait_reach(&cluster)?;
    cluster.store().put_config(&before)?;
    let section: Value = serde_json::from_str(&before)?;
    change::wait_at_rest(&mut cluster, &section["Backend"].to_string())?;
    wait_reach(&cluster)?;
    ensure!(!made.exists(), "it was run");
    // A restart takes the new ones up.
    for index in 0..3 {
        cluster.take_daemon(index)?.terminate()?;
    }
    cluster.store().put_config(&change::with_backend(&before, &other)?)?;
    cluster.start_all()?;
    change::wait_at_rest(&mut cluster, &other)?;
    wait_reach(&cluster)?;
    ensure!(made.exists(), "it was not run");
    Ok(())
}

#[test]
fn upstreams_nodes_and_ours_publish_the_same_and_reach_each_other() -> Result<()> {
    let Some(program) = reference::program() else {
        flannel_test_support::skip(format_args!("{} names no upstream flanneld", reference::VARIABLE));
        return Ok(());
    };
    for says in ["printf ' \\n a <&> \"quoted\" \\\\ \\303\\251 \\342\\200\\250 \\n\\n'", ":", ""] {
        let options = ClusterOptions { backend: Backend::Alloc, etcd: true, ..ClusterOptions::default() };
        let mut cluster = Cluster::prepare(&options)?;
        cluster.set_options(cluster.options().clone().built_in());
        let file = place(&cluster, "says");
        std::fs::write(&file, format!("#!/bin/sh\n{says}\n"))?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o755))?;
        let mut commands = json!({ "SubnetAddCommand": ADD, "SubnetRemoveCommand": REMOVE });
        if !says.is_empty() {
            commands["PreStartupCommand"] = json!(file.display().to_string());
        }
        let config = config(&commands).replacen('{', r#"{"EnableNFTables":true,"#, 1);
        cluster.store().put_config(&config)?;
        let mut upstream = Reference::start(&program, cluster.node(1), cluster.store())?;
        upstream.wait_ready()?;
        cluster.launch(0)?.wait_ready()?;
        cluster.wire_pods()?;
        wait_reach(&cluster)?;
        let value = |index: usize| -> Result<String> {
            let own = cluster.node(index).address().to_string();
            Ok(cluster.lease(index)?.value.replace(&own, "…"))
        };
        ensure!(value(0)? == value(1)?, "{says}: {} and {}", value(0)?, value(1)?);
        upstream.terminate()?;
    }
    Ok(())
}
