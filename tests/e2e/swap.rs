//! One plugin in another's place, while packets flow.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::artifacts::{component, plugin};
use flannel_lab::log::LogLine;
use flannel_lab::netlink_monitor::Watcher;
use flannel_lab::ping_probe::Mark;
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Pod, Prober, wait};

/// A ping a thousand times a second.
const OFTEN: Duration = Duration::from_millis(1);
/// Long enough for many packets, and for whatever comes a little later.
const WHILE: Duration = Duration::from_millis(500);

/// Two nodes whose plugins may do everything.
fn cluster() -> Result<Cluster> {
    Cluster::start(&ClusterOptions { plugin: Some(plugin("vxlan")?), ..ClusterOptions::default() })
}

fn ping(cluster: &Cluster) -> Result<Prober> {
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    Prober::start(from.namespace(), Echo::to(to.ipv4()?), OFTEN)
}

/// A TCP stream from one pod to another that goes on while something is done. Answers how many bytes came; a connection that is
/// reset is an error.
fn while_streaming(from: &Pod, to: &Pod, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let address = SocketAddr::new(to.ipv4()?, 0);
    let listener = to.namespace().run(|| TcpListener::bind(address))??;
    let target = listener.local_addr()?;
    let mut source = from.namespace().run(|| TcpStream::connect(target))??;
    let (mut sink, _) = listener.accept()?;
    let (stop, received) = (&AtomicBool::new(false), &AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<u64> {
        let sink = scope.spawn(move || -> Result<()> {
            let mut buffer = vec![0; 1 << 16];
            loop {
                match sink.read(&mut buffer)? {
                    0 => return Ok(()),
                    count => received.fetch_add(count as u64, Ordering::Relaxed),
                };
            }
        });
        let source = scope.spawn(move || -> Result<()> {
            let data = vec![7; 1 << 14];
            while !stop.load(Ordering::Relaxed) {
                source.write_all(&data)?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(source.shutdown(std::net::Shutdown::Write)?)
        });
        let outcome = work();
        stop.store(true, Ordering::Relaxed);
        source.join().expect("no panic").context("the sender")?;
        sink.join().expect("no panic").context("the receiver")?;
        outcome.map(|()| received.load(Ordering::Relaxed))
    })
}

#[test]
fn a_hundred_swaps_between_two_builds_of_one_policy_lose_nothing_and_change_nothing_in_the_kernel()
-> Result<()> {
    let cluster = cluster()?;
    let builds = [component("vxlan-next")?, plugin("vxlan")?];
    let before = cluster.state(0)?;
    let ping = ping(&cluster)?;
    let watcher = Watcher::start(cluster.node(0))?;
    let bytes = while_streaming(cluster.pod(0)?, cluster.pod(1)?, || {
        for round in 0..100 {
            let swapped = cluster.swap(0, &builds[round % 2])?;
            ensure!(swapped["messages"] == 0, "round {round}: {swapped}");
        }
        Ok(())
    })?;
    let told: Vec<String> = watcher.ours()?.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert_eq!(before.difference(&cluster.state(0)?), None);
    let report = ping.report(Mark::default());
    assert!(report.lost == 0 && report.sent > 500 && bytes > 100_000, "{report:?}, {bytes} bytes");
    let plugin = cluster.status(0)?["plugin"].clone();
    assert_eq!((&plugin["swaps"]["done"], &plugin["swaps"]["refused"]), (&100.into(), &0.into()), "{plugin}");
    Ok(())
}

#[test]
fn a_swap_from_tunnelled_to_direct_routes_and_back_loses_nothing() -> Result<()> {
    let cluster = cluster()?;
    let (tunnelled, direct) = (plugin("vxlan")?, component("vxlan-direct")?);
    let before = cluster.state(0)?;
    let ping = ping(&cluster)?;
    let bytes = while_streaming(cluster.pod(0)?, cluster.pod(1)?, || {
        for _ in 0..5 {
            let swapped = cluster.swap(0, &direct)?;
            ensure!(swapped["messages"].as_u64() > Some(0), "{swapped}");
            let now = cluster.state(0)?;
            ensure!(now.mentions("192.168.77.") && !now.mentions("lladdr"), "{now}");
            std::thread::sleep(WHILE / 5);
            cluster.swap(0, &tunnelled)?;
            std::thread::sleep(WHILE / 5);
        }
        Ok(())
    })?;
    assert_eq!(before.difference(&cluster.state(0)?), None);
    let report = ping.report(Mark::default());
    assert!(report.lost == 0 && report.sent > 500 && bytes > 100_000, "{report:?}, {bytes} bytes");
    Ok(())
}

/// Nothing of a swap that does not come off is anywhere, and the error says why.
fn is_refused(cluster: &Cluster, file: &Path, said: &str) -> Result<()> {
    let (state, plugin) = (cluster.state(0)?, cluster.status(0)?["plugin"]["digest"].clone());
    let error = format!("{:#}", cluster.swap(0, file).err().context("it was swapped")?);
    assert!(error.contains("the one before goes on") && error.contains(said), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(state.difference(&cluster.state(0)?), None);
    let now = cluster.status(0)?["plugin"].clone();
    assert_eq!(now["digest"], plugin);
    assert!(now["swaps"]["refusal"].as_str().is_some_and(|reason| reason.contains(said)), "{now}");
    Ok(())
}

#[test]
fn a_swap_that_fails_leaves_the_old_plugin_and_says_why() -> Result<()> {
    let cluster = cluster()?;
    let ping = ping(&cluster)?;
    let text = cluster.lab().directory().join("text.wasm");
    std::fs::write(&text, "no component")?;
    is_refused(&cluster, &text, "not a WebAssembly component")?;
    is_refused(&cluster, Path::new("/nowhere/a.wasm"), "/nowhere/a.wasm: cannot be read")?;
    is_refused(&cluster, &plugin("host-gw")?, "Backend.Type is \"vxlan\", and this plugin is for: host-gw")?;
    std::thread::sleep(WHILE);
    assert_eq!(ping.report(Mark::default()).lost, 0);
    Ok(())
}

/// A component that misbehaves in some function when it is to take over from one that behaves: by the network config that it is
/// given, which is the one of the start.
fn misbehaves(place: &str, deed: &str, said: &str) -> Result<()> {
    let config =
        format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"vxlan","In":"{place}","Do":"{deed}"}}}}"#);
    let options = ClusterOptions { config, plugin: Some(plugin("vxlan")?), ..ClusterOptions::default() };
    let cluster = Cluster::start(&options)?;
    let ping = ping(&cluster)?;
    is_refused(&cluster, &component("hostile")?, said)?;
    std::thread::sleep(WHILE);
    let report = ping.report(Mark::default());
    assert_eq!(report.lost, 0, "{report:?}");
    Ok(())
}

#[test]
fn who_traps_in_the_rehearsal_does_not_take_over() -> Result<()> {
    misbehaves("apply", "panic", "apply: trapped: panicked")
}

#[test]
fn who_loops_in_the_rehearsal_does_not_take_over() -> Result<()> {
    misbehaves("lease-acquired", "loop", "lease-acquired: stopped after running for")
}

#[test]
fn who_registers_something_impossible_in_the_rehearsal_does_not_take_over() -> Result<()> {
    misbehaves("register", "mtu", "an MTU of 7")
}

#[test]
fn who_cannot_serve_a_peer_that_is_served_does_not_take_over() -> Result<()> {
    misbehaves("apply", "error", "it cannot serve the peer with 10.5.")
}

#[test]
fn who_asks_for_more_than_it_is_granted_does_not_take_over_until_it_is() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    let grants = cluster.lab().directory().join("grants.toml");
    std::fs::write(&grants, "")?;
    cluster.add_arguments(&["--plugin-grants", &grants.display().to_string()]);
    cluster.bring_up()?;
    let next = component("vxlan-next")?;
    is_refused(&cluster, &next, "it asks for fdb,links,neighbours,routes, which it is not granted")?;
    std::fs::write(
        &grants,
        "[[grant]]\nname = \"vxlan\"\nallow = [\"links\", \"routes\", \"neighbours\", \"fdb\"]",
    )?;
    assert_eq!(cluster.swap(0, &next)?["version"], "9.0.0");
    Ok(())
}

#[test]
fn a_swap_heals_a_node_whose_plugin_serves_nobody() -> Result<()> {
    let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","In":"apply","Do":"panic"}}"#;
    let options = ClusterOptions {
        config: config.to_owned(),
        plugin: Some(component("hostile")?),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(&options)?;
    cluster.start_all()?;
    cluster.daemon(0)?.wait_log("that peers wait", |line| line.message() == "peers wait for the plugin")?;
    for node in 0..2 {
        cluster.swap(node, &plugin("vxlan")?)?;
    }
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    let peers = cluster.status(0)?["peers"].clone();
    assert_eq!(peers[0]["problems"].as_array().map(Vec::len), Some(0), "{peers}");
    Ok(())
}

#[test]
fn a_file_that_has_changed_is_taken_on_sighup_or_by_itself_where_it_is_watched() -> Result<()> {
    let mut cluster =
        Cluster::prepare(&ClusterOptions { plugin: Some(plugin("vxlan")?), ..ClusterOptions::default() })?;
    let file = cluster.lab().directory().join("plugin.wasm");
    std::fs::copy(plugin("vxlan")?, &file)?;
    let options = cluster.options().clone().plugin(file.clone());
    cluster.set_options(options.clone());
    cluster.launch(0)?.wait_ready()?;
    cluster.set_options(options.arg("--watch-plugin"));
    cluster.launch(1)?.wait_ready()?;
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    let ping = ping(&cluster)?;
    let version = |cluster: &Cluster, index| -> Result<String> {
        Ok(cluster.status(index)?["plugin"]["version"].as_str().context("a version")?.to_owned())
    };
    let first = version(&cluster, 0)?;
    let new = cluster.lab().directory().join("new.wasm");
    std::fs::copy(component("vxlan-next")?, &new)?;
    std::fs::rename(&new, &file)?;
    wait::until_true("the watched file is taken", || Ok(version(&cluster, 1)? == "9.0.0"))?;
    assert_eq!(version(&cluster, 0)?, first, "nobody has told the other");
    cluster.daemon(0)?.hang_up()?;
    wait::until_true("the file is taken on SIGHUP", || Ok(version(&cluster, 0)? == "9.0.0"))?;
    // One that is no plugin is refused, and the daemon goes on.
    std::fs::write(&file, "no component")?;
    let refusal = |line: &LogLine| line.message().contains("the plugin is not swapped");
    cluster.daemon(1)?.wait_log("the refusal", refusal)?;
    assert_eq!(version(&cluster, 1)?, "9.0.0");
    assert_eq!(ping.report(Mark::default()).lost, 0);
    Ok(())
}

#[test]
fn a_tunnel_of_the_host_goes_on_through_swaps() -> Result<()> {
    if let Some(reason) = Backend::Udp.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    let cluster = Cluster::start(&ClusterOptions::of(Backend::Udp, false))?;
    let ping = ping(&cluster)?;
    for _ in 0..10 {
        let swapped = cluster.swap(0, &plugin("udp")?)?;
        assert_eq!(swapped["messages"], 0, "{swapped}");
    }
    std::thread::sleep(WHILE);
    let report = ping.report(Mark::default());
    assert!(report.lost == 0 && report.sent > 100, "{report:?}");
    Ok(())
}

/// What the component that counts its starts in the durable store has counted, by store, with directories of the lab left out.
fn visits(state: &Path) -> Result<Vec<(String, usize)>> {
    let mut found = Vec::new();
    for store in std::fs::read_dir(state.join("plugins"))? {
        let store = store?;
        let visits = std::fs::read(store.path().join("visits")).unwrap_or_default().len();
        let name = store.file_name().to_string_lossy().into_owned();
        let (plugin, place) = name.split_once('@').unwrap_or((&name, ""));
        let file = place.rsplit("%2F").next().unwrap_or_default();
        found.push((format!("{plugin} of {file}"), visits));
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_plugins_durable_store_is_its_own_and_is_handed_over_where_the_operator_says_so() -> Result<()> {
    let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"hostile","In":"register","Do":"remember"}}"#
        .to_owned();
    let plugin = Some(component("hostile")?);
    let options = ClusterOptions { config, nodes: 1, plugin, ..ClusterOptions::default() };
    let mut cluster = Cluster::prepare(&options)?;
    let [one, other] = ["one.wasm", "other.wasm"].map(|name| cluster.lab().directory().join(name));
    for file in [&one, &other] {
        std::fs::copy(component("hostile")?, file)?;
    }
    let options = cluster.options().clone().plugin(one.clone());
    let state = options.directory(cluster.node(0)).join("state");
    // What an earlier version kept for that name: whose it was is not known.
    std::fs::create_dir_all(state.join("plugins/hostile"))?;
    std::fs::write(state.join("plugins/hostile/visits"), "xxxxxxxx")?;
    cluster.set_options(options);
    cluster.launch(0)?.wait_ready()?;
    let stores = |counts: &[(&str, usize)]| -> Vec<(String, usize)> {
        let all = [("", 8)].iter().chain(counts);
        all.map(|(file, count)| (format!("hostile of {file}"), *count)).collect()
    };
    assert_eq!(visits(&state)?, stores(&[("one.wasm", 1)]));
    // Neither finds what the other has kept, and the log says so.
    cluster.swap(0, &other)?;
    assert_eq!(visits(&state)?, stores(&[("one.wasm", 1), ("other.wasm", 1)]));
    let says = |line: &LogLine| {
        line.message().contains("--take-state")
            && line.field("others").as_str().is_some_and(|others| others.contains("one.wasm"))
    };
    cluster.daemon(0)?.wait_log("that there is another store", says)?;
    // Back again it finds its own.
    cluster.swap(0, &one)?;
    assert_eq!(visits(&state)?, stores(&[("one.wasm", 2), ("other.wasm", 1)]));
    // A copy is handed over; who had it keeps it. What a rehearsal that fails would have taken is not taken.
    cluster.swap_with(0, Path::new("/nowhere/a.wasm"), &["--take-state"]).expect_err("there is none");
    cluster.swap_with(0, &other, &["--take-state"])?;
    assert_eq!(visits(&state)?, stores(&[("one.wasm", 2), ("other.wasm", 3)]));
    cluster.swap(0, &one)?;
    assert_eq!(visits(&state)?, stores(&[("one.wasm", 3), ("other.wasm", 3)]));
    Ok(())
}
