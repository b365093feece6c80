//! What a daemon gives up, whoever starts it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use flannel_lab::{
    Backend, Cluster, ClusterOptions, Daemon, DaemonOptions, Lab, Store, Underlay, artifacts, wait,
};

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_NET_BIND_SERVICE`, `CAP_SYS_MODULE` and `CAP_DAC_READ_SEARCH`, by their numbers.
const USED: u64 = 1 << 12 | 1 << 13 | 1 << 10 | 1 << 16 | 1 << 2;
/// `CAP_DAC_OVERRIDE` and `CAP_FOWNER`, for what belongs to others.
const OTHERS: u64 = 1 << 1 | 1 << 3;
/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

/// A line of a `status` file of `/proc`.
fn line(file: &Path, name: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(value.with_context(|| format!("{}: {name}", file.display()))?.trim().to_owned())
}

/// A set of capabilities in one.
fn capabilities(file: &Path, name: &str) -> Result<u64> {
    Ok(u64::from_str_radix(&line(file, name)?, 16)?)
}

fn status(pid: u32) -> std::path::PathBuf {
    format!("/proc/{pid}/status").into()
}

/// The `status` files of a process's threads of this name.
fn threads(pid: u32, name: &str) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = task?.path().join("status");
        // It may have ended meanwhile.
        if line(&status, "Name").is_ok_and(|is| is == name) {
            found.push(status);
        }
    }
    Ok(found)
}

/// All threads of this name, of which there is one at least, have no capabilities, and a filter for system calls.
fn are_confined(pid: u32, name: &str) -> Result<()> {
    let threads = threads(pid, name)?;
    ensure!(!threads.is_empty(), "no thread {name}");
    for thread in threads {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            ensure!(capabilities(&thread, set)? == 0, "{name}: {set}");
        }
        ensure!(line(&thread, "Seccomp")? == "2" && line(&thread, "NoNewPrivs")? == "1", "{name}");
    }
    Ok(())
}

/// What it complains of.
fn complaints(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.log().lines().into_iter();
    lines.filter(|line| ["WARN", "ERROR"].contains(&line.level())).map(|line| line.raw().to_owned()).collect()
}

/// A node of its own with a store that has a config.
fn node() -> Result<(Lab, Store, DaemonOptions)> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    store.put_config(flannel_lab::cluster::IPV4)?;
    let options = DaemonOptions::new(&store, None, None)?;
    Ok((lab, store, options))
}

#[test]
fn a_daemon_of_roots_keeps_the_capabilities_that_it_uses_and_leaves_no_core() -> Result<()> {
    let (lab, _store, options) = node()?;
    let mut daemon = lab.node(0).start(&options)?;
    daemon.wait_ready()?;
    let status = status(daemon.pid());
    ensure!(line(&status, "NoNewPrivs")? == "1");
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        let has = capabilities(&status, set)?;
        ensure!(has & !USED == 0, "{set}: {has:x}");
    }
    // The first of them is what no node can do without.
    ensure!(capabilities(&status, "CapEff")? & 1 << 12 != 0, "CAP_NET_ADMIN");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("a limit")?;
    ensure!(core.split_whitespace().skip(4).take(2).all(|limit| limit == "0"), "{core}");
    Ok(())
}

#[test]
fn threads_that_run_plugins_are_confined_and_so_are_those_of_the_next_plugin() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    let pid = cluster.daemon(0)?.pid();
    are_confined(pid, "policy")?;
    are_confined(pid, "watchdog")?;
    cluster.swap(0, &artifacts::plugin("vxlan")?)?;
    // A thread that has just been started has a moment before it runs anything.
    wait::until_true("the plugin before is gone, and the next one's threads are confined", || {
        let is_alone = threads(pid, "policy")?.len() == 1;
        Ok(is_alone && ["policy", "watchdog"].iter().all(|name| are_confined(pid, name).is_ok()))
    })?;
    // What works on the kernel has to be able to.
    let datapath = threads(pid, "reconciler")?;
    ensure!(capabilities(datapath.first().context("a thread")?, "CapEff")? & 1 << 12 != 0);
    let complaints = complaints(cluster.daemon(0)?);
    ensure!(!complaints.iter().any(|line| line.contains("Operation not permitted")), "{complaints:?}");
    Ok(())
}

#[test]
fn threads_that_read_what_etcd_and_clouds_answer_are_confined() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions { etcd: true, ..ClusterOptions::default() })?;
    are_confined(cluster.daemon(0)?.pid(), "outside")?;
    let mut cluster = Cluster::start(&ClusterOptions::of(Backend::AliVpc, false))?;
    are_confined(cluster.daemon(0)?.pid(), "outside")
}

#[test]
fn nobody_but_root_looks_into_the_memory_of_a_daemon_that_is_not_roots() -> Result<()> {
    let (lab, _store, options) = node()?;
    // Whoever cannot read the store waits for it.
    let mut command = options.command(lab.node(0));
    let program = command.get_program().to_owned();
    command = lab.node(0).namespace().command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]).arg(program);
    let place = tempfile::tempdir()?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    chown(place.path(), Some(NOBODY), Some(NOBODY))?;
    let file = |name: &str| place.path().join(name);
    command.arg(format!("--store=file:{}", place.path().display()));
    command.arg("--state-dir").arg(file("state")).arg("--cache-dir").arg(file("cache"));
    command.arg("--subnet-file").arg(file("subnet.env")).arg("--control-socket").arg(file("socket"));
    let log = fs::File::create(file("log"))?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
    let said = || Ok(fs::read_to_string(file("log"))?.contains("no network config"));
    let waited = wait::until_true("it waits for a config", said);
    let looked = (|| {
        let owner = fs::metadata(format!("/proc/{}/environ", child.id()))?.uid();
        Ok::<_, anyhow::Error>((owner, line(&status(child.id()), "Uid")?))
    })();
    child.kill()?;
    child.wait()?;
    let log = fs::read_to_string(file("log"))?;
    waited.with_context(|| log.clone())?;
    let (owner, uid) = looked?;
    ensure!(uid.starts_with("65534"), "{uid}");
    ensure!(owner == 0, "its own user looks at it: {owner}");
    ensure!(!log.contains("permitted") && !log.contains("capabilit"), "{log}");
    Ok(())
}

#[test]
fn directories_of_another_user_are_written_to_and_it_is_said_what_that_costs() -> Result<()> {
    let (lab, _store, options) = node()?;
    let state = lab.node(0).directory().join("state");
    fs::create_dir_all(&state)?;
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755))?;
    chown(&state, Some(NOBODY), Some(NOBODY))?;
    let mut daemon = lab.node(0).start(&options)?;
    daemon.wait_ready()?;
    let has = capabilities(&status(daemon.pid()), "CapEff")?;
    ensure!(has & OTHERS != 0 && has & !(USED | OTHERS) == 0, "{has:x}");
    ensure!(state.join("macs.json").is_file(), "{}", daemon.log().tail());
    let said = |line: &flannel_lab::log::LogLine| line.message().contains("belongs to another user");
    daemon.wait_log("what it keeps, and why", said)?;
    are_confined(daemon.pid(), "policy")
}

#[test]
fn the_firewalls_programs_get_nothing_of_the_daemons_environment() -> Result<()> {
    let lab = Lab::new(1, Underlay::default())?;
    let store = Store::file(&lab)?;
    store.put_config(r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#)?;
    let bin = lab.directory().join("bin");
    fs::create_dir(&bin)?;
    let seen = lab.directory().join("environment");
    // Its own words come from the shell.
    fs::write(bin.join("nft"), format!("#!/bin/sh\n/usr/bin/env > {}\nexit 1\n", seen.display()))?;
    fs::set_permissions(bin.join("nft"), fs::Permissions::from_mode(0o755))?;
    let mut options = DaemonOptions::new(&store, None, None)?.arg("--ip-masq");
    for (name, value) in [
        ("PATH", format!(":.:relative:{}:", bin.display())),
        ("XTABLES_LIBDIR", "/tmp".to_owned()),
        ("MODPROBE_OPTIONS", "-d /tmp".to_owned()),
        ("SOME_PASSWORD", "secret".to_owned()),
    ] {
        options = options.env(name, &value);
    }
    let _daemon = lab.node(0).start(&options)?;
    wait::until_true("the program is run", || {
        Ok(fs::read_to_string(&seen).is_ok_and(|text| text.contains("LC_ALL=C")))
    })?;
    let text = fs::read_to_string(&seen)?;
    for name in ["XTABLES_LIBDIR", "MODPROBE_OPTIONS", "SOME_PASSWORD", "FLANNELD_"] {
        ensure!(!text.contains(name), "{text}");
    }
    let path = text.lines().find_map(|line| line.strip_prefix("PATH=")).context("a path")?;
    ensure!(path.split(':').all(|place| place.starts_with('/')), "{path}");
    Ok(())
}

#[test]
fn a_swap_is_logged_with_who_asked_for_it() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    cluster.swap(0, &artifacts::plugin("vxlan")?)?;
    let uid = u64::from(rustix::process::geteuid().as_raw());
    let swapped = |line: &flannel_lab::log::LogLine| line.message() == "plugin swapped";
    let line = cluster.daemon(0)?.wait_log("that the plugin is swapped", swapped)?;
    ensure!(line.number("uid") == Some(uid) && line.number("pid").is_some(), "{}", line.raw());
    ensure!(line.field("by") == "control socket", "{}", line.raw());
    let other = cluster.lab().directory().join("none.wasm");
    fs::write(&other, "no component")?;
    ensure!(cluster.swap(0, &other).is_err());
    let refused = |line: &flannel_lab::log::LogLine| line.message().contains("is not swapped");
    let line = cluster.daemon(0)?.wait_log("that it is not", refused)?;
    ensure!(line.number("uid") == Some(uid) && line.number("pid").is_some(), "{}", line.raw());
    // A signal's sender is this process.
    cluster.daemon(0)?.hang_up()?;
    let heard = |line: &flannel_lab::log::LogLine| line.message().starts_with("SIGHUP");
    let line = cluster.daemon(0)?.wait_log("the signal", heard)?;
    ensure!(line.number("pid") == Some(std::process::id().into()), "{}", line.raw());
    ensure!(line.number("uid") == Some(uid), "{}", line.raw());
    Ok(())
}
