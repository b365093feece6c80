//! What a plugin may do over time, however modest each of its calls is: lines in the log, the processor, writes to the disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flannel_lab::log::LogLine;
use flannel_lab::ping_probe::{INTERVAL, Mark};
use flannel_lab::{Cluster, ClusterOptions, Echo, Prober, Store, artifacts, wait};

/// For how long a plugin is watched at least.
const WATCHED: Duration = Duration::from_secs(5);

/// A cluster whose plugin does something in a function of the contract.
fn cluster(place: &str, deed: &str, nodes: usize) -> Result<Cluster> {
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","SubnetMax":"10.5.99.0","Backend":{{"Type":"hostile","In":"{place}","Do":"{deed}"}}}}"#
    );
    let plugin = Some(artifacts::component("hostile")?);
    Cluster::start(&ClusterOptions { config, plugin, nodes, ..ClusterOptions::default() })
}

fn ticks(cluster: &Cluster) -> Result<u64> {
    let status = cluster.status(0)?;
    Ok(status["plugin"]["calls"]["tick"].as_u64().unwrap_or(0))
}

/// Waits until a plugin has ticked so often, and for [`WATCHED`] at least.
fn watch(cluster: &Cluster, count: u64) -> Result<()> {
    let end = Instant::now() + WATCHED;
    wait::until_true("the plugin is called", || Ok(ticks(cluster)? >= count && Instant::now() >= end))?;
    Ok(())
}

/// How much there may be since a moment, of what comes once a second or less often.
fn at_most(since: Instant, each: Duration) -> u64 {
    u64::try_from(since.elapsed().as_nanos() / each.as_nanos()).unwrap_or(u64::MAX) + 2
}

#[test]
fn a_plugin_that_fills_the_log_is_cut_short_and_the_log_says_how_much_is_missing() -> Result<()> {
    let since = Instant::now();
    let mut cluster = cluster("tick", "log", 1)?;
    watch(&cluster, 20)?;
    let lines = cluster.daemon(0)?.log().lines();
    let written = lines.iter().filter(|line| line.message().contains("flood")).count() as u64;
    let most = 400 + at_most(since, Duration::from_millis(500));
    assert!((100..=most).contains(&written), "{written} of at most {most}");
    let says = |line: &LogLine| line.message().contains("lines suppressed");
    let said = cluster.daemon(0)?.wait_log("how many lines are suppressed", says)?;
    assert!(said.number("lines").is_some_and(|lines| lines > 0), "{}", said.raw());
    Ok(())
}

/// The processor time that the thread that calls the plugin has had (`proc_pid_stat(5)`, `utime` and `stime`).
fn policy_time(daemon: u32) -> Result<Duration> {
    for task in std::fs::read_dir(format!("/proc/{daemon}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        if let Some((_, fields)) = stat.split_once("(policy) ") {
            // Fields 14 and 15, of which the first three are not in here.
            let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
            let ticks = times.sum::<Result<u64, _>>()?;
            return Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()));
        }
    }
    bail!("no thread of {daemon} calls a plugin")
}

#[test]
fn a_plugin_whose_ticks_spin_gets_an_eleventh_of_a_processor_and_no_packet_is_lost() -> Result<()> {
    let mut cluster = cluster("tick", "spin", 2)?;
    let ping = Prober::start(cluster.pod(0)?.namespace(), Echo::to(cluster.pod(1)?.ipv4()?), INTERVAL)?;
    let pid = cluster.daemon(0)?.pid();
    let (since, before, used) = (Instant::now(), ticks(&cluster)?, policy_time(pid)?);
    watch(&cluster, before + 2)?;
    let used = policy_time(pid)?.saturating_sub(used);
    // A tick more than that, since it is not said when the first was.
    let most = since.elapsed() / 11 + Duration::from_millis(300);
    assert!(used <= most, "{used:?} of at most {most:?}");
    assert!(cluster.daemon(0)?.runs()?);
    let report = ping.report(Mark::default());
    assert_eq!(report.lost, 0, "{report:?}");
    Ok(())
}

#[test]
fn a_plugin_that_uses_up_its_time_for_each_lease_is_left_alone_for_a_while() -> Result<()> {
    let mut cluster = cluster(r#"apply","Subnet":"10.5.200.0/24"#, "loop", 2)?;
    let Store::File(directory) = cluster.store() else { panic!("leases are files") };
    let subnets = directory.join("subnets");
    let says = |line: &LogLine| {
        line.message().contains("uses up its time")
            && line.field("what").as_str() == Some("calls about leases")
    };
    let mut number = 0;
    let log = cluster.daemon(0)?.log().clone();
    wait::until_true("the plugin has to wait", || {
        number += 1;
        let mac = number % 100;
        let lease = format!(
            r#"{{"PublicIP":"192.168.77.99","PublicIPv6":null,"BackendType":"hostile","BackendData":"02:00:00:00:00:{mac:02}"}}"#
        );
        std::fs::write(subnets.join(".new"), lease)?;
        std::fs::rename(subnets.join(".new"), subnets.join("10.5.200.0-24"))?;
        Ok(log.lines().iter().any(says))
    })?;
    // It is asked all the same.
    let status =
        |cluster: &Cluster| Ok::<_, anyhow::Error>(cluster.status(0)?["plugin"]["calls"]["apply"].as_u64());
    let before = status(&cluster)?;
    wait::until_true("it is asked again", || Ok(status(&cluster)? > before))?;
    Ok(())
}

/// The file with what the plugin of the first node remembers.
fn visits(cluster: &Cluster) -> Result<PathBuf> {
    let stores = cluster.options().directory(cluster.node(0)).join("state/plugins");
    let (store, _) = wait::until("the plugin has written", || {
        let Ok(mut stores) = stores.read_dir() else { return Ok(None) };
        Ok(stores.next().transpose()?.map(|store| store.path()))
    })?;
    Ok(store.join("visits"))
}

#[test]
fn what_a_plugin_remembers_all_the_time_is_written_once_a_second_and_whole_at_the_end() -> Result<()> {
    let mut cluster = cluster("tick", "remember", 1)?;
    let file = visits(&cluster)?;
    let (since, mut written, mut last) = (Instant::now(), 0, 0);
    let before = ticks(&cluster)?;
    // Each write is another file in the place of the one before.
    wait::until_true("the plugin has been called often", || {
        let now = std::fs::metadata(&file).map_or(last, |file| file.ino());
        written += u64::from(now != last);
        last = now;
        Ok(since.elapsed() >= WATCHED && ticks(&cluster)? >= before + 20)
    })?;
    let most = at_most(since, Duration::from_secs(1));
    assert!((1..=most).contains(&written), "{written} of at most {most}");
    let called = ticks(&cluster)?;
    let ended = cluster.take_daemon(0)?.terminate()?;
    assert!(ended.success(), "{ended}");
    let kept = std::fs::metadata(&file).context("what it remembers")?.len();
    assert!(kept >= called, "{kept} of {called}");
    Ok(())
}
