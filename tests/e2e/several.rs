//! Several daemons on a host, each for a network of its own: they leave each other alone, whoever starts, stops or changes something. What two of
//! them cannot both have the second one is refused, with the first one's process named.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::change::{self, Ground};
use flannel_lab::{Cluster, ClusterOptions, Daemon, DaemonOptions, Store, Traffic, wait};

const FLAGS: [&str; 2] = ["--ip-masq", "--iptables-resync=1"];
/// Longer than any of them takes to look at its rules again.
const A_FEW_LOOKS: Duration = Duration::from_secs(4);

/// A vxlan cluster of two nodes.
fn cluster() -> Result<Cluster> {
    let mut cluster = Cluster::prepare(&ClusterOptions::default())?;
    cluster.add_arguments(&FLAGS);
    cluster.bring_up()?;
    Ok(cluster)
}

/// Another network on a cluster's nodes.
struct Other {
    options: DaemonOptions,
    store: Store,
    daemons: Vec<Daemon>,
}

impl Other {
    fn options(cluster: &Cluster, name: &str, config: &str) -> Result<(DaemonOptions, Store)> {
        let store = Store::file_named(cluster.lab(), name)?;
        store.put_config(config)?;
        let options = DaemonOptions::new(&store, None, None)?.built_in().beside(name);
        Ok((FLAGS.into_iter().fold(options, DaemonOptions::arg), store))
    }

    fn start(cluster: &Cluster, name: &str, config: &str) -> Result<Self> {
        let (options, store) = Self::options(cluster, name, config)?;
        let mut other = Self { options, store, daemons: Vec::new() };
        for index in 0..2 {
            other.daemons.push(cluster.node(index).start(&other.options)?);
        }
        for daemon in &mut other.daemons {
            daemon.wait_ready()?;
        }
        for index in 0..2 {
            wait::until_true(&format!("{name}: a route to the other node"), || {
                Ok(other.route(cluster, index)?.is_some())
            })?;
        }
        Ok(other)
    }

    fn restart(&mut self, cluster: &Cluster, index: usize) -> Result<()> {
        self.daemons.remove(index).kill9();
        self.daemons.insert(index, cluster.node(index).start(&self.options)?);
        self.daemons[index].wait_ready().map(drop)
    }

    /// A node's route to the other node's subnet.
    fn route(&self, cluster: &Cluster, index: usize) -> Result<Option<String>> {
        let address = cluster.node(1 - index).address().to_string();
        let leases = self.store.leases()?;
        let theirs =
            leases.iter().find(|lease| lease.value.contains(&address)).context("the other's lease")?;
        let subnet = theirs.subnets().remove(0);
        let routes = cluster.node(index).ip("route show")?;
        Ok(routes.lines().find(|line| line.starts_with(&format!("{subnet} "))).map(ToOwned::to_owned))
    }
}

/// Chains of flannel's with what is in them.
fn chains(cluster: &Cluster) -> Result<Vec<String>> {
    let saved = cluster.node(0).namespace().tool("iptables-save", "")?;
    let ours = saved.lines().filter(|line| line.contains("FLANNEL-") && !line.starts_with(':'));
    Ok(ours.map(ToOwned::to_owned).collect())
}

fn nobody_complains<'d>(daemons: impl IntoIterator<Item = &'d Daemon>) {
    for daemon in daemons {
        let complaints: Vec<_> = daemon.log().of_level("WARN");
        let fights = complaints.iter().filter(|line| line.message().contains("another program")).count();
        assert_eq!(fights, 0, "{}", daemon.log().tail());
    }
}

#[test]
fn daemons_of_several_networks_live_side_by_side() -> Result<()> {
    let mut cluster = cluster()?;
    let config = r#"{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}"#;
    let mut near = Other::start(&cluster, "near", config)?;
    let config = r#"{"Network":"10.7.0.0/16","Backend":{"Type":"vxlan","VNI":2}}"#;
    let mut far = Other::start(&cluster, "far", config)?;
    let state = cluster.node(0).ip("route show")?;
    let rules = chains(&cluster)?;
    for network in ["10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16"] {
        let own = rules.iter().filter(|rule| rule.contains(network)).count();
        // Of the six rules for masquerading one has no network; and there are two for forwarding.
        assert_eq!(own, 7, "{network}: {rules:#?}");
    }
    // Each starts anew while the others serve, in any order.
    near.restart(&cluster, 0)?;
    cluster.kill_and_restart(0)?;
    far.restart(&cluster, 0)?;
    near.restart(&cluster, 0)?;
    std::thread::sleep(A_FEW_LOOKS);
    assert_eq!(cluster.node(0).ip("route show")?, state);
    assert_eq!(chains(&cluster)?, rules);
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    // What goes in one network goes in no other.
    let lease = cluster.leave(1)?;
    wait::until_true("its route is gone", || {
        Ok(!cluster.node(0).ip("route show")?.contains(&lease.subnets().remove(0)))
    })?;
    assert!(near.route(&cluster, 0)?.is_some_and(|route| route.contains("dev eth0")));
    assert!(far.route(&cluster, 0)?.is_some_and(|route| route.contains("dev flannel.2")));
    nobody_complains(near.daemons.iter().chain(&far.daemons).chain([&*cluster.daemon(0)?]));
    Ok(())
}

#[test]
fn with_nftables_daemons_of_several_networks_have_tables_of_their_own() -> Result<()> {
    let options = ClusterOptions {
        config: r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#.to_owned(),
        ..ClusterOptions::default()
    };
    let mut cluster = Cluster::prepare(&options)?;
    cluster.add_arguments(&FLAGS);
    cluster.bring_up()?;
    let config = r#"{"Network":"10.6.0.0/16","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#;
    let near = Other::start(&cluster, "near", config)?;
    let tables = || cluster.node(0).namespace().tool("nft", "list ruleset");
    let before = tables()?;
    assert_eq!(before.matches("table ip flannel-ipv4").count(), 2, "{before}");
    assert!(before.contains("10.5.0.0/16") && before.contains("10.6.0.0/16"), "{before}");
    std::thread::sleep(A_FEW_LOOKS);
    assert_eq!(tables()?, before);
    nobody_complains(&near.daemons);
    Ok(())
}

/// A second daemon with this config is refused, and all these words are in the reason.
fn is_refused(config: &str, words: &[&str]) -> Result<()> {
    let mut cluster = cluster()?;
    let pid = cluster.daemon(0)?.pid().to_string();
    let before = cluster.state(0)?;
    let (options, _store) = Other::options(&cluster, "other", config)?;
    let mut daemon = cluster.node(0).start(&options)?;
    let status = daemon.wait_exit()?;
    assert!(!status.success(), "{status}");
    let errors = daemon.log().of_level("ERROR");
    let [error] = &errors[..] else { panic!("one error line: {}", daemon.log().tail()) };
    for word in words.iter().chain([&&*format!("process {pid}")]) {
        assert!(error.message().contains(word), "{word:?} in {:?}", error.message());
    }
    assert_eq!(before.difference(&cluster.state(0)?), None);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_second_daemon_for_the_same_network_is_refused_whatever_its_socket_is_called() -> Result<()> {
    is_refused(r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#, &["network 10.5.0.0/16"])
}

#[test]
fn a_second_daemon_whose_network_overlaps_is_refused() -> Result<()> {
    is_refused(
        r#"{"Network":"10.5.128.0/17","Backend":{"Type":"host-gw"}}"#,
        &["10.5.0.0/16", "10.5.128.0/17"],
    )
}

#[test]
fn a_second_daemon_that_wants_the_first_ones_device_is_refused() -> Result<()> {
    is_refused(r#"{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan"}}"#, &["device flannel.1", "VNI"])
}

#[test]
fn a_daemon_that_is_killed_makes_room_for_the_next_at_once() -> Result<()> {
    let mut cluster = cluster()?;
    for _ in 0..3 {
        cluster.kill_and_restart(0)?;
    }
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

/// Of both networks; where reverse paths are checked strictly, which is one setting of the interface for both.
#[test]
fn daemons_of_two_networks_change_their_backends_at_once_and_lose_nothing() -> Result<()> {
    let ground = Ground { strict: true, ..Ground::default() };
    let mut cluster = ground.start(&ClusterOptions::default())?;
    let config = |backend: &str| format!(r#"{{"Network":"10.6.0.0/16","Backend":{backend}}}"#);
    let (before, after) = (r#"{"Type":"host-gw"}"#, r#"{"Type":"vxlan","VNI":2,"Port":8479}"#);
    let other = Other::start(&cluster, "near", &config(before))?;
    let pods =
        [cluster.node(0).pod_of(&other.options, "near")?, cluster.node(1).pod_of(&other.options, "near")?];
    let traffic = [Traffic::among(cluster.pods())?, Traffic::among(&pods)?];
    // The second begins and ends in the middle of the first's, or the first's ends in its middle.
    change::put(&cluster, r#"{"Type":"host-gw"}"#)?;
    std::thread::sleep(Duration::from_secs(3));
    other.store.put_config(&config(after))?;
    change::wait_at_rest(&mut cluster, r#"{"Type":"host-gw"}"#)?;
    wait::until_true("the other network has changed, too", || {
        let leases = other.store.leases()?;
        Ok(leases
            .iter()
            .all(|lease| lease.value.contains("VNI") && !lease.value.contains(change::GENERATIONS)))
    })?;
    for index in 0..2 {
        let node = cluster.node(index);
        wait::until_equal("nothing is left of either change", || {
            let rules = node.ip("rule show")?;
            let filter = node.namespace().tool("cat", "/proc/sys/net/ipv4/conf/eth0/rp_filter")?;
            let is_left = rules.contains("fwmark")
                || filter.trim() != "1"
                || node.ip("link show")?.contains("flannel.1:");
            Ok(is_left.then(|| format!("{rules}rp_filter {filter}")))
        })?;
    }
    for traffic in traffic {
        traffic.goes_on()?;
        let report = traffic.stop()?;
        println!("{report}");
        ensure!(report.is_clean(), "{report}\n{}", change::describe(&cluster));
    }
    Ok(())
}
