//! The ali-vpc backend in a cluster whose nodes are instances of the lab's Alibaba Cloud.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flannel_lab::artifacts::plugin;
use flannel_lab::cloud::alibaba::{ACCESS_KEY, Alibaba, Call, Fault, instance_at};
use flannel_lab::ping_probe::Mark;
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Pings, Prober, wait};
use serde_json::Value;

/// More than a minute, after which a plugin looks at its rows without being told to.
const LONG: Duration = Duration::from_mins(3);
/// Long enough for whatever comes a little later.
const WHILE: Duration = Duration::from_secs(1);
/// A ping a hundred times a second.
const OFTEN: Duration = Duration::from_millis(10);

/// A cluster in the cloud.
struct Site {
    cluster: Cluster,
}

impl Site {
    /// No daemon runs yet.
    fn prepare(options: &ClusterOptions) -> Result<Self> {
        Ok(Self { cluster: Cluster::prepare(options)? })
    }

    fn alibaba(&self) -> &Alibaba {
        self.cluster.cloud_as().expect("a cluster with this backend is in this cloud")
    }

    /// Two nodes, IPv4.
    fn new() -> Result<Self> {
        Self::prepare(&ClusterOptions::of(Backend::AliVpc, false))
    }

    /// All daemons run, each row leads to its node, which has seen that, and each node has a pod.
    fn bring_up(&mut self) -> Result<()> {
        self.cluster.start_all()?;
        self.wait_rows()?;
        wait::until_true("no attempt is under way any more", || {
            Ok(self.cluster.lab().files()?.iter().all(|(path, _)| !path.ends_with("attempt")))
        })?;
        self.cluster.wire_pods()
    }

    /// For each node, its subnets and its instance.
    fn wanted(&self) -> Result<BTreeMap<String, String>> {
        let mut wanted = BTreeMap::new();
        for (index, node) in self.cluster.lab().nodes().iter().enumerate() {
            for subnet in self.cluster.subnets(index)? {
                wanted.insert(subnet, instance_at(node.address().into()));
            }
        }
        Ok(wanted)
    }

    /// The cluster's rows as they are.
    fn rows(&self) -> BTreeMap<String, String> {
        let rows = self.alibaba().rows().into_iter();
        rows.map(|(destination, instance)| (destination.to_string(), instance)).collect()
    }

    /// Waits until each node's row, and no other, leads to it.
    fn wait_rows(&self) -> Result<()> {
        let mut there = BTreeMap::new();
        let begin = Instant::now();
        while begin.elapsed() < LONG {
            there = self.rows();
            if there == self.wanted()? && self.alibaba().entries().len() == there.len() {
                return Ok(());
            }
            std::thread::sleep(OFTEN);
        }
        bail!("the rows should be {:?}, and are {there:?}", self.wanted()?)
    }

    /// Waits until a node's plugin has looked at its rows once more.
    fn wait_look(&self, index: usize) -> Result<()> {
        let from = self.cluster.node(index).address();
        let looks = || {
            let calls = self.alibaba().calls().into_iter();
            calls.filter(|call| call.from == from && call.action == "DescribeRouteEntryList").count()
        };
        let before = looks();
        wait::until_true("a look at the rows", || Ok(looks() > before)).map(drop)
    }

    /// Puts the same plugin in its own place, which looks at the rows at once.
    fn look_now(&self, index: usize) -> Result<()> {
        self.cluster.swap(index, &plugin("ali-vpc")?)?;
        Ok(())
    }

    fn calls(&self, action: &str) -> Vec<Call> {
        self.alibaba().calls().into_iter().filter(|call| call.action == action).collect()
    }

    /// However often it was asked for: with one token, so that it was made once, and nothing was removed.
    fn has_one_row_of_one_attempt(&self) {
        let calls = self.calls("CreateRouteEntry").into_iter();
        let tokens: BTreeSet<_> = calls.map(|call| call.parameters["ClientToken"].clone()).collect();
        assert_eq!((tokens.len(), self.alibaba().entries().len()), (1, 1), "{tokens:?}");
        assert_eq!(self.alibaba().count("DeleteRouteEntry"), 0);
    }
}

#[test]
fn each_node_has_its_row_and_pods_reach_each_other() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    site.cluster.pod(0)?.reaches(site.cluster.pod(1)?)?;
    site.cluster.pod(1)?.reaches(site.cluster.pod(0)?)?;
    // Nothing of it is in the nodes themselves, and nothing is published.
    for index in 0..2 {
        assert_eq!(site.cluster.state(index)?.routes.len(), 0);
        assert!(site.cluster.trouble(index)?.is_none());
    }
    let lease: Value = serde_json::from_str(&std::fs::read_to_string(lease_file(&site)?)?)?;
    assert!(lease.get("BackendType").is_none() && lease.get("BackendData").is_none(), "{lease}");
    Ok(())
}

/// The file of some lease.
fn lease_file(site: &Site) -> Result<PathBuf> {
    let files = site.cluster.lab().files()?.into_iter().map(|(path, _)| path);
    let mut leases = files.filter(|path| path.parent().is_some_and(|folder| folder.ends_with("subnets")));
    leases.next().context("a lease")
}

#[test]
fn each_family_has_its_rows() -> Result<()> {
    let mut site = Site::prepare(&ClusterOptions::of(Backend::AliVpc, true))?;
    site.bring_up()?;
    assert_eq!(site.rows().len(), 4);
    site.cluster.pod(0)?.reaches(site.cluster.pod(1)?)
}

#[test]
fn a_vswitch_with_a_table_of_its_own_gets_the_rows_there() -> Result<()> {
    let mut site = Site::new()?;
    let table = site.alibaba().use_custom_table()?;
    site.bring_up()?;
    assert!(site.alibaba().entries().iter().all(|entry| entry.table == table));
    site.cluster.pod(0)?.reaches(site.cluster.pod(1)?)
}

#[test]
fn restarts_of_all_daemons_change_nothing_in_the_cloud_and_lose_no_packet() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let (mutations, entries) = (site.alibaba().mutations(), site.alibaba().entries());
    let pings = Pings::start(site.cluster.pod(0)?, site.cluster.pod(1)?)?;
    for index in 0..2 {
        site.cluster.take_daemon(index)?.kill9();
    }
    std::thread::sleep(WHILE);
    for index in 0..2 {
        site.cluster.launch(index)?;
        site.wait_look(index)?;
    }
    std::thread::sleep(WHILE);
    assert_eq!(site.alibaba().mutations(), mutations);
    assert_eq!(site.alibaba().entries(), entries);
    pings.lost_nothing()
}

#[test]
fn a_row_that_is_removed_by_hand_comes_back_by_itself() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let subnet = site.cluster.subnets(1)?[0].clone();
    assert!(site.alibaba().delete(subnet.parse()?)?);
    site.wait_rows()?;
    site.cluster.pod(0)?.reaches(site.cluster.pod(1)?)
}

#[test]
fn rows_of_others_stay_and_own_stale_ones_go() -> Result<()> {
    let mut site = Site::new()?;
    let me = instance_at(site.cluster.node(0).address().into());
    site.alibaba().add("0.0.0.0/0".parse()?, &me)?;
    site.alibaba().add("172.16.0.0/24".parse()?, &me)?;
    site.alibaba().add("10.5.255.0/24".parse()?, "i-lab192168077099")?;
    site.alibaba().add("10.5.254.0/24".parse()?, &me)?;
    site.cluster.start_all()?;
    wait::until_true("the stale row is gone, and the nodes' own are there", || {
        let rows = site.rows();
        Ok(rows.len() == 5 && site.wanted()?.keys().all(|subnet| rows.contains_key(subnet)))
    })?;
    let rows = site.rows();
    for other in ["0.0.0.0/0", "172.16.0.0/24", "10.5.255.0/24"] {
        assert!(rows.contains_key(other), "{rows:?}");
    }
    Ok(())
}

#[test]
fn an_old_nodes_row_for_a_subnet_is_replaced() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let subnet = site.cluster.subnets(0)?[0].clone();
    site.alibaba().delete(subnet.parse()?)?;
    site.alibaba().add(subnet.parse()?, "i-lab192168077099")?;
    site.look_now(0)?;
    site.wait_rows()
}

#[test]
fn nodes_that_start_together_and_slow_operations_get_all_rows_once() -> Result<()> {
    let mut site = Site::prepare(&ClusterOptions { nodes: 4, ..ClusterOptions::of(Backend::AliVpc, false) })?;
    site.alibaba().set_settling(Duration::from_millis(700));
    site.bring_up()?;
    let done: Vec<_> =
        site.calls("CreateRouteEntry").into_iter().filter(|call| call.outcome == "OK").collect();
    let tokens: BTreeSet<_> = done.iter().map(|call| call.parameters["ClientToken"].clone()).collect();
    assert_eq!(tokens.len(), 4, "{done:?}");
    assert_eq!(site.alibaba().count("DeleteRouteEntry"), 0);
    Ok(())
}

#[test]
fn throttled_failing_and_half_answers_double_nothing() -> Result<()> {
    let mut site = Site::new()?;
    let faults = || {
        let silence = Fault::Silence(Duration::from_millis(300));
        [Fault::throttled(), Fault::internal(), Fault::Half, Fault::throttled_for(300), silence]
    };
    for action in ["DescribeRouteTableList", "DescribeRouteEntryList", "CreateRouteEntry"] {
        site.alibaba().fail(action, faults());
    }
    site.alibaba().fail("CreateRouteEntry", [Fault::conflict(), Fault::Half]);
    site.bring_up()?;
    site.cluster.pod(0)?.reaches(site.cluster.pod(1)?)?;
    // What was carried out unheard was asked again with its token.
    let tokens: BTreeSet<_> = site
        .calls("CreateRouteEntry")
        .into_iter()
        .map(|call| call.parameters["ClientToken"].clone())
        .collect();
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert_eq!(site.alibaba().count("DeleteRouteEntry"), 0);
    Ok(())
}

#[test]
fn reads_that_are_seconds_old_double_nothing() -> Result<()> {
    let mut site = Site::new()?;
    site.alibaba().set_staleness(Duration::from_secs(3));
    site.bring_up()?;
    std::thread::sleep(WHILE);
    let done = site.calls("CreateRouteEntry").into_iter().filter(|call| call.outcome == "OK");
    let tokens: BTreeSet<_> = done.map(|call| call.parameters["ClientToken"].clone()).collect();
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert_eq!(site.alibaba().count("DeleteRouteEntry"), 0);
    site.wait_rows()
}

#[test]
fn a_session_that_ends_in_the_middle_is_followed_by_another() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let sessions = site.alibaba().sessions();
    site.alibaba().expire_sessions();
    let subnet = site.cluster.subnets(0)?[0].clone();
    site.alibaba().delete(subnet.parse()?)?;
    site.look_now(0)?;
    site.wait_rows()?;
    assert!(site.alibaba().sessions() > sessions);
    let expired =
        site.alibaba().calls().into_iter().filter(|call| call.outcome == "InvalidSecurityToken.Expired");
    assert!(expired.count() >= 1, "the old session was tried");
    assert!(site.cluster.trouble(0)?.is_none());
    Ok(())
}

#[test]
fn hardened_metadata_is_no_obstacle() -> Result<()> {
    let mut site = Site::new()?;
    site.alibaba().set_hardened(true);
    site.bring_up()
}

#[test]
fn a_full_table_is_in_the_status_and_the_node_goes_on_with_its_lease() -> Result<()> {
    let mut site = Site::new()?;
    site.alibaba().set_quota(1);
    site.cluster.start_all()?;
    wait::until_true("one row", || Ok(site.rows().len() == 1))?;
    let without = (0..2).find(|index| {
        let address = site.cluster.node(*index).address();
        !site.rows().values().any(|instance| *instance == instance_at(address.into()))
    });
    let without = without.context("a node without a row")?;
    let table = site.alibaba().table();
    let words = [table.as_str(), "is full, custom entries: 1", "vpc_quota_route_entrys_num", "QuotaExceeded"];
    site.cluster.wait_trouble(without, &words)?;
    let lease = site.cluster.lease(without)?;
    site.alibaba().set_quota(2);
    site.wait_rows()?;
    assert_eq!(site.cluster.lease(without)?.subnets(), lease.subnets());
    wait::until_true("the trouble is over", || Ok(site.cluster.trouble(without)?.is_none()))?;
    Ok(())
}

#[test]
fn a_missing_permission_is_named_in_the_status() -> Result<()> {
    let mut site = Site::new()?;
    site.alibaba().permit("CreateRouteEntry", false);
    site.cluster.start_all()?;
    site.cluster.wait_trouble(
        0,
        &["CreateRouteEntry", "Forbidden.RAM", "grant vpc:CreateRouteEntry", "plugin inspect"],
    )?;
    assert!(site.rows().is_empty());
    site.alibaba().permit("CreateRouteEntry", true);
    site.wait_rows()
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_an_operation_goes_on_with_it() -> Result<()> {
    let mut site = Site::new()?;
    site.alibaba().set_settling(Duration::from_secs(2));
    site.cluster.launch(0)?;
    wait::until_true("the row is asked for", || Ok(!site.alibaba().entries().is_empty()))?;
    site.cluster.kill_and_restart(0)?;
    wait::until_true("the row", || Ok(site.rows().len() == 1))?;
    std::thread::sleep(WHILE);
    site.has_one_row_of_one_attempt();
    Ok(())
}

#[test]
fn a_swap_in_the_middle_of_an_operation_goes_on_with_it() -> Result<()> {
    let mut site = Site::new()?;
    site.alibaba().set_settling(Duration::from_secs(2));
    // Nobody has heard yet that it was carried out, and nobody sees it, when the other plugin comes.
    site.alibaba().set_staleness(Duration::from_secs(3));
    site.cluster.launch(0)?.wait_ready()?;
    wait::until_true("the row is asked for", || Ok(!site.alibaba().entries().is_empty()))?;
    site.look_now(0)?;
    wait::until_true("the row", || Ok(site.rows().len() == 1))?;
    site.wait_look(0)?;
    site.has_one_row_of_one_attempt();
    Ok(())
}

#[test]
fn swaps_under_traffic_lose_no_packet_and_change_nothing_in_the_cloud() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let mutations = site.alibaba().mutations();
    let (from, to) = (site.cluster.pod(0)?, site.cluster.pod(1)?);
    let ping = Prober::start(from.namespace(), Echo::to(to.ipv4()?), OFTEN)?;
    for _ in 0..10 {
        site.look_now(0)?;
        site.look_now(1)?;
    }
    site.wait_rows()?;
    std::thread::sleep(WHILE);
    let report = ping.report(Mark::default());
    assert!(report.lost == 0 && report.sent > 50, "{report:?}");
    assert_eq!(site.alibaba().mutations(), mutations);
    Ok(())
}

#[test]
fn keys_of_the_network_config_are_used_and_nothing_secret_is_written() -> Result<()> {
    let (id, secret) = ACCESS_KEY;
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"ali-vpc","AccessKeyID":"{id}","AccessKeySecret":"{secret}"}}}}"#
    );
    let mut site = Site::prepare(&ClusterOptions { config, ..ClusterOptions::of(Backend::AliVpc, false) })?;
    site.bring_up()?;
    assert_eq!(site.alibaba().sessions(), 0, "nobody has asked for the role's keys");
    is_clean(&site)
}

#[test]
fn nothing_secret_of_the_role_is_written_whatever_goes_wrong() -> Result<()> {
    let mut site = Site::new()?;
    site.cluster.add_arguments(&["--log-level", "trace"]);
    let wrong = |code: &str| {
        let text = "Specified signature is not matched with our calculation.";
        Fault::Refuse(flannel_lab::cloud::alibaba::Error::new(400, code, text))
    };
    site.alibaba().fail("CreateRouteEntry", [wrong("SignatureDoesNotMatch"), Fault::Half, Fault::internal()]);
    site.bring_up()?;
    site.alibaba().expire_sessions();
    site.look_now(0)?;
    site.wait_rows()?;
    is_clean(&site)
}

/// No secret that the cloud knows is in what the daemons have written (but for the network config), or in their status.
fn is_clean(site: &Site) -> Result<()> {
    let secrets = site.alibaba().secrets();
    assert!(!secrets.is_empty());
    let mut written = site.cluster.lab().files()?;
    assert!(written.iter().any(|(path, text)| path.ends_with("flanneld.log") && !text.is_empty()));
    written.retain(|(path, _)| !path.ends_with("config"));
    for index in 0..2 {
        written.push((
            format!("the status of node {index}").into(),
            site.cluster.status(index)?.to_string().into_bytes(),
        ));
    }
    for (path, bytes) in &written {
        let text = String::from_utf8_lossy(bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{} has a secret", path.display());
        }
    }
    Ok(())
}
