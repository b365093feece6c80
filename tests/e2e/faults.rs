//! What goes wrong around the daemons, with packets on their way all the time: none of them is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flannel_lab::cluster::DUAL_STACK;
use flannel_lab::etcd::ENDPOINT;
use flannel_lab::fake_systemd::ServiceManager;
use flannel_lab::netlink_monitor::Watcher;
use flannel_lab::random::Random;
use flannel_lab::stopped_thread::StoppedThread;
use flannel_lab::store::StoredLease;
use flannel_lab::{Clock, Cluster, ClusterOptions, Pings, Store, wait};

/// Long enough for many packets, and for whatever comes a little later.
const WHILE: Duration = Duration::from_secs(1);
/// Enough for a kill in each part of a start.
const KILLS: u32 = 100;

fn options() -> ClusterOptions {
    ClusterOptions { etcd: true, ..ClusterOptions::default() }
}

/// A ping from the first node's pod to the second's.
fn pings(cluster: &Cluster) -> Result<Pings> {
    Pings::start(cluster.pod(0)?, cluster.pod(1)?)
}

/// A node that there is not gets a lease and loses it, and both nodes take note.
fn a_lease_that_comes_and_goes_is_seen(cluster: &Cluster) -> Result<()> {
    let lease = StoredLease::invented(200);
    cluster.store().put(&lease)?;
    let vtep = lease.vteps()?.remove(0);
    for seen in [true, false] {
        for index in 0..2 {
            wait::until_true(&format!("node {index} has the route: {seen}"), || {
                Ok(cluster.state(index)?.routes.contains(&vtep.route()) == seen)
            })?;
        }
        if seen {
            cluster.store().remove(&lease)?;
        }
    }
    Ok(())
}

/// No daemon has ended.
fn all_daemons_run(cluster: &mut Cluster) -> Result<()> {
    for index in 0..cluster.lab().nodes().len() {
        let daemon = cluster.daemon(index)?;
        if !daemon.runs()? {
            bail!("the daemon of node {index} has ended; it said last:\n{}", daemon.log().tail());
        }
    }
    Ok(())
}

/// The leases in the store are these again, byte for byte.
fn leases_are_back(cluster: &Cluster, before: &[StoredLease]) -> Result<()> {
    wait::until_equal("each node has its lease again", || {
        let now = cluster.store().leases()?;
        Ok((now != before).then(|| format!("before: {before:#?}\nnow: {now:#?}")))
    })
    .map(drop)
}

/// A failure shows what the daemons said.
fn explained(cluster: &mut Cluster, outcome: Result<()>) -> Result<()> {
    if outcome.is_err() {
        for index in 0..cluster.lab().nodes().len() {
            eprintln!("node {index} said last:\n{}", cluster.daemon(index)?.log().tail());
        }
    }
    outcome
}

#[test]
fn while_etcd_is_away_for_a_minute_packets_pass_and_afterwards_changes_are_seen() -> Result<()> {
    let mut cluster = Cluster::start(&options())?;
    let pings = pings(&cluster)?;
    let (state, leases) = (cluster.state(0)?, cluster.store().leases()?);
    cluster.etcd()?.kill(0);
    std::thread::sleep(Duration::from_mins(1));
    assert_eq!(state.difference(&cluster.state(0)?), None);
    cluster.etcd()?.restart(0)?;
    a_lease_that_comes_and_goes_is_seen(&cluster)?;
    all_daemons_run(&mut cluster)?;
    assert_eq!(cluster.store().leases()?, leases);
    assert_eq!(state.difference(&cluster.state(0)?), None);
    pings.lost_nothing()
}

#[test]
fn while_etcd_hangs_packets_pass_and_afterwards_changes_are_seen() -> Result<()> {
    let mut cluster = Cluster::start(&options())?;
    let pings = pings(&cluster)?;
    // Connections stay, and nothing comes over them: long enough for the daemons to give them up.
    cluster.lab().switch().set_port("etcd", false)?;
    std::thread::sleep(Duration::from_secs(20));
    cluster.lab().switch().set_port("etcd", true)?;
    a_lease_that_comes_and_goes_is_seen(&cluster)?;
    all_daemons_run(&mut cluster)?;
    pings.lost_nothing()
}

#[test]
fn while_etcd_hangs_and_the_lease_is_to_be_renewed_the_status_is_answered_and_the_watchdog_fed() -> Result<()>
{
    let mut cluster = Cluster::start(&options())?;
    let manager = ServiceManager::new(cluster.lab())?;
    let interval = wait::scaled(Duration::from_millis(200));
    let options = cluster.options().clone().env("WATCHDOG_USEC", &interval.as_micros().to_string());
    cluster.set_options(options.manager(&manager));
    cluster.kill_and_restart(0)?;
    cluster.lab().switch().set_port("etcd", false)?;
    // What the node publishes has to be written now, and nobody answers.
    let node = cluster.node(0);
    node.ip("address del 192.168.77.11/24 dev eth0")?;
    node.ip("address add 192.168.77.77/24 dev eth0")?;
    node.ip("route replace default via 192.168.77.1")?;
    wait::until_true("the node goes on with its new address", || {
        let status = cluster.status(0)?;
        let peers = status["peers"].as_array().map_or(0, Vec::len);
        Ok(status["node"]["addresses"][0] == "192.168.77.77" && peers == 1)
    })?;
    for _ in 0..4 {
        let before = manager.signs_of_life();
        std::thread::sleep(interval * 3);
        cluster.status(0)?;
        assert!(manager.signs_of_life() > before, "the service manager would end it");
    }
    cluster.lab().switch().set_port("etcd", true)?;
    let subnets = cluster.subnets(0)?;
    wait::until_true("the lease has the new address", || {
        Ok(cluster.store().lease_of(&subnets)?.value.contains("192.168.77.77"))
    })?;
    all_daemons_run(&mut cluster)
}

#[test]
fn a_loop_that_is_stuck_does_not_feed_the_watchdog_and_the_status_is_answered_all_the_same() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions::default())?;
    let manager = ServiceManager::new(cluster.lab())?;
    let interval = wait::scaled(Duration::from_millis(200));
    let options = cluster.options().clone().env("WATCHDOG_USEC", &interval.as_micros().to_string());
    cluster.set_options(options.manager(&manager));
    cluster.kill_and_restart(0)?;
    // The loop is on the process's first thread.
    let stopped = StoppedThread::of(cluster.daemon(0)?.pid())?;
    // What was on its way when it stopped.
    std::thread::sleep(interval);
    let before = manager.signs_of_life();
    std::thread::sleep(interval * 5);
    cluster.status(0)?;
    assert_eq!(manager.signs_of_life(), before, "the service manager is to end it");
    drop(stopped);
    wait::until_true("it goes on", || Ok(manager.signs_of_life() > before)).map(drop)
}

#[test]
fn a_daemon_that_comes_back_while_etcd_is_away_leaves_all_as_it_is_and_goes_on_when_etcd_is_back()
-> Result<()> {
    let mut cluster = Cluster::start(&options())?;
    let pings = pings(&cluster)?;
    let (state, leases) = (cluster.state(0)?, cluster.store().leases()?);
    cluster.etcd()?.kill(0);
    cluster.take_daemon(0)?.kill9();
    cluster.launch(0)?;
    cluster.daemon(0)?.wait_log("that etcd does not answer", |line| line.message().contains(ENDPOINT))?;
    std::thread::sleep(WHILE);
    assert_eq!(state.difference(&cluster.state(0)?), None);
    cluster.etcd()?.restart(0)?;
    let ready = cluster.daemon(0)?.wait_ready()?;
    assert_eq!(ready.line.number("netlink_messages"), Some(0), "{}", ready.line.raw());
    assert_eq!(state.difference(&cluster.state(0)?), None);
    assert_eq!(cluster.store().leases()?, leases);
    pings.lost_nothing()
}

#[test]
fn when_etcd_has_lost_its_data_the_nodes_get_their_leases_back_and_no_packet_is_lost() -> Result<()> {
    let config = DUAL_STACK.to_owned();
    let mut cluster = Cluster::start(&ClusterOptions { nodes: 3, config: config.clone(), ..options() })?;
    let pings = pings(&cluster)?;
    let leases = cluster.store().leases()?;
    let watcher = Watcher::start(cluster.node(0))?;
    let etcd = cluster.etcd()?;
    etcd.kill(0);
    etcd.wipe(0)?;
    etcd.restart(0)?;
    cluster.store().put_config(&config)?;
    let outcome = leases_are_back(&cluster, &leases).and_then(|()| {
        std::thread::sleep(WHILE);
        cluster.wait_converged()?;
        pings.lost_nothing()?;
        // Not even for a moment in which no packet happened to come.
        let gone: Vec<String> =
            watcher.ours()?.iter().filter(|change| change.gone).map(ToString::to_string).collect();
        if gone.is_empty() { Ok(()) } else { bail!("something was removed:\n{}", gone.join("\n")) }
    });
    explained(&mut cluster, outcome)
}

#[test]
fn when_etcd_has_lost_its_data_and_has_moved_on_the_nodes_get_their_leases_back() -> Result<()> {
    let mut cluster = Cluster::start(&options())?;
    let pings = pings(&cluster)?;
    let leases = cluster.store().leases()?;
    // Behind a pulled cable the new etcd takes more writes than the old one ever did, so that nothing that the nodes ask for lies
    // in its future.
    cluster.lab().switch().set_port("etcd", false)?;
    let etcd = cluster.etcd()?;
    etcd.kill(0);
    etcd.wipe(0)?;
    etcd.restart(0)?;
    for count in 0..20 {
        etcd.put("/elsewhere", &count.to_string())?;
    }
    cluster.store().put_config(&options().config)?;
    cluster.lab().switch().set_port("etcd", true)?;
    let outcome = leases_are_back(&cluster, &leases).and_then(|()| {
        std::thread::sleep(WHILE);
        cluster.wait_converged()?;
        pings.lost_nothing()
    });
    explained(&mut cluster, outcome)
}

/// What happens to a member.
#[derive(Clone, Copy)]
enum Accident {
    Killed,
    Hangs,
}

/// Something happens to one of three members of etcd: the leader, or the one that the daemons have a connection to. They go on with the
/// others, in operation and at a start.
fn a_member_is_lost(accident: Accident, which: impl FnOnce(&mut Cluster) -> Result<usize>) -> Result<()> {
    let mut cluster = Cluster::prepare_with(&options(), Store::etcd_of_three)?;
    cluster.bring_up()?;
    let pings = pings(&cluster)?;
    let leases = cluster.store().leases()?;
    let index = which(&mut cluster)?;
    match accident {
        Accident::Killed => cluster.etcd()?.kill(index),
        Accident::Hangs => cluster.etcd()?.pause(index)?,
    }
    // Whoever asks etcd needs a leader, too.
    cluster.etcd()?.leader()?;
    a_lease_that_comes_and_goes_is_seen(&cluster)?;
    cluster.kill_and_restart(0)?;
    a_lease_that_comes_and_goes_is_seen(&cluster)?;
    match accident {
        Accident::Killed => cluster.etcd()?.restart(index)?,
        Accident::Hangs => cluster.etcd()?.resume(index)?,
    }
    a_lease_that_comes_and_goes_is_seen(&cluster)?;
    std::thread::sleep(WHILE);
    all_daemons_run(&mut cluster)?;
    assert_eq!(cluster.store().leases()?, leases);
    pings.lost_nothing()
}

#[test]
fn an_etcd_of_three_members_that_loses_its_leader_is_one_that_goes_on() -> Result<()> {
    a_member_is_lost(Accident::Killed, |cluster| cluster.etcd()?.leader())
}

#[test]
fn an_etcd_of_three_members_that_loses_the_first_one_is_one_that_goes_on() -> Result<()> {
    a_member_is_lost(Accident::Killed, |_| Ok(0))
}

#[test]
fn an_etcd_of_three_members_whose_leader_hangs_is_one_that_goes_on() -> Result<()> {
    a_member_is_lost(Accident::Hangs, |cluster| cluster.etcd()?.leader())
}

#[test]
fn an_etcd_of_three_members_of_which_the_first_one_hangs_is_one_that_goes_on() -> Result<()> {
    a_member_is_lost(Accident::Hangs, |_| Ok(0))
}

/// The daemons of both nodes are killed at random moments while leases come and go.
#[test]
fn daemons_that_are_killed_at_random_moments_lose_no_packet_and_leave_nothing_behind() -> Result<()> {
    let mut random = Random::from_environment()?;
    println!("{random}");
    let mut cluster = Cluster::start(&options())?;
    let pings = pings(&cluster)?;
    let before = [cluster.state(0)?, cluster.state(1)?];
    let leases = cluster.store().leases()?;
    let mut invented: Vec<StoredLease> = Vec::new();
    for _ in 0..KILLS {
        let victim = random.below(2);
        cluster.take_daemon(victim)?.kill9();
        std::thread::sleep(Duration::from_millis(random.below(50) as u64));
        cluster.launch(victim)?;
        // The time until the next one may or may not be enough to get ready; the change comes early or late in it.
        let (early, late) = (random.below(150), random.below(150));
        std::thread::sleep(Duration::from_millis(early as u64));
        if !invented.is_empty() && random.below(2) == 0 {
            cluster.store().remove(&invented.swap_remove(random.below(invented.len())))?;
        } else {
            let lease = StoredLease::invented(200 + u8::try_from(random.below(50))?);
            cluster.store().put(&lease)?;
            invented.retain(|other| other.key != lease.key);
            invented.push(lease);
        }
        std::thread::sleep(Duration::from_millis(late as u64));
    }
    for index in 0..2 {
        cluster.daemon(index)?.wait_ready()?;
    }
    cluster.wait_converged()?;
    for lease in &invented {
        cluster.store().remove(lease)?;
    }
    for (index, before) in before.iter().enumerate() {
        wait::until_equal("all is as it was before", || Ok(before.difference(&cluster.state(index)?)))?;
    }
    assert_eq!(cluster.store().leases()?, leases);
    pings.lost_nothing()
}

/// A cluster whose first node has a clock that can be put.
fn with_a_clock(flags: &[&str]) -> Result<(Cluster, Clock)> {
    let mut cluster = Cluster::prepare(&options())?;
    let clock = Clock::new(cluster.lab())?;
    let usual = cluster.options().clone();
    let with_clock = flags.iter().fold(usual.clone().clock(&clock), |options, flag| options.arg(*flag));
    cluster.set_options(with_clock);
    cluster.launch(0)?;
    cluster.set_options(usual);
    cluster.launch(1)?;
    for index in 0..2 {
        cluster.daemon(index)?.wait_ready()?;
    }
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    Ok((cluster, clock))
}

/// The number of the etcd lease that a node's key depends on.
fn etcd_lease(cluster: &mut Cluster, index: usize) -> Result<i64> {
    let key = cluster.lease(index)?.key;
    let etcd = cluster.etcd()?;
    let pairs = etcd.range(&etcd.key(&format!("subnets/{key}")))?;
    Ok(pairs.first().context("the node's key")?.lease)
}

#[test]
fn a_wall_clock_that_jumps_a_day_forward_and_back_disturbs_nothing() -> Result<()> {
    let (mut cluster, clock) = with_a_clock(&[])?;
    let pings = pings(&cluster)?;
    let leases = cluster.store().leases()?;
    let lines = cluster.daemon(0)?.log().lines().len();
    for hours in [24, 0, -24, 0] {
        clock.set_hours_ahead(hours)?;
        std::thread::sleep(WHILE);
        a_lease_that_comes_and_goes_is_seen(&cluster)?;
        assert_eq!(cluster.store().leases()?, leases, "{hours} hours ahead");
        let lease = etcd_lease(&mut cluster, 0)?;
        let seconds = cluster.etcd()?.time_to_live(lease)?;
        assert!((80_000..=86_400).contains(&seconds), "{hours} hours ahead: the lease ends in {seconds} s");
    }
    all_daemons_run(&mut cluster)?;
    let log = cluster.daemon(0)?.log();
    let said = log.lines();
    // Two changes for each jump, and perhaps a renewal: a daemon that goes round in circles says more.
    assert!(said.len() < lines + 40, "{}", log.tail());
    // That the clock has jumped at all shows in the dates.
    let dates: BTreeSet<&str> = said.iter().filter_map(|line| line.raw().split('T').next()).collect();
    assert!(dates.len() > 1, "{dates:?}");
    pings.lost_nothing()
}

#[test]
fn a_wall_clock_that_jumps_a_day_back_does_not_put_off_the_renewal() -> Result<()> {
    // The margin is as long as it can be: the renewal is due a minute after the start.
    let (mut cluster, clock) = with_a_clock(&["--subnet-lease-renew-margin=1439"])?;
    let pings = pings(&cluster)?;
    let before = etcd_lease(&mut cluster, 0)?;
    clock.set_hours_ahead(-24)?;
    std::thread::sleep(Duration::from_secs(30));
    wait::until_true("the lease is renewed", || Ok(etcd_lease(&mut cluster, 0)? != before))?;
    pings.lost_nothing()
}

#[test]
fn a_subnet_file_that_somebody_removes_or_changes_is_back_and_the_node_not_ready_without_it() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions::default())?;
    let file = cluster.node(0).subnet_file();
    let good = std::fs::read(&file)?;
    let directory = file.parent().context("a directory")?;
    let damages: [&dyn Fn() -> std::io::Result<()>; 4] = [
        &|| std::fs::remove_file(&file),
        &|| std::fs::write(&file, "FLANNEL_SUBNET=10.5.99.1/24\n"),
        &|| std::fs::write(&file, ""),
        &|| std::fs::rename(directory, directory.with_extension("moved")),
    ];
    for damage in damages {
        damage()?;
        wait::until_true("the file is back", || Ok(std::fs::read(&file).is_ok_and(|text| text == good)))?;
    }
    Ok(())
}

#[test]
fn a_subnet_file_that_cannot_be_written_is_written_as_soon_as_it_can() -> Result<()> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    let (place, options) = (cluster.node(0).directory().join("there"), cluster.options().clone());
    std::fs::write(&place, "a file where a directory should be")?;
    cluster.set_options(options.arg(format!("--subnet-file={}", place.join("subnet.env").display())));
    cluster.launch(0)?.wait_log("that it cannot", |line| {
        line.level() == "ERROR" && line.message().contains("subnet file cannot be written")
    })?;
    wait::until_true("the node says that it is not ready", || {
        Ok(cluster.status(0)?["ready"]["missing"].to_string().contains("subnet file"))
    })?;
    std::fs::remove_file(&place)?;
    wait::until_true("the file is there", || Ok(place.join("subnet.env").is_file()))?;
    wait::until_true("the node is ready", || Ok(cluster.status(0)?["ready"]["ready"] == true))?;
    Ok(())
}
