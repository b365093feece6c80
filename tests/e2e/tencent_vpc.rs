//! The tencent-vpc backend in a cluster whose nodes are instances of the lab's Tencent Cloud.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flannel_lab::artifacts::plugin;
use flannel_lab::cloud::tencent::{ACCESS_KEY, Call, Fault, INSTANCE, Tencent};
use flannel_lab::{Backend, Cluster, ClusterOptions, Pings, wait};
use serde_json::{Value, json};

/// More than a minute, after which a plugin looks at its routes without being told to.
const LONG: Duration = Duration::from_mins(3);
/// Long enough for whatever comes a little later.
const WHILE: Duration = Duration::from_secs(1);
/// How often is looked.
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

    /// Two nodes.
    fn new() -> Result<Self> {
        Self::prepare(&ClusterOptions::of(Backend::TencentVpc, false))
    }

    /// With a key in the network config.
    fn with_key(id: &str, secret: &str) -> Result<Self> {
        let backend = json!({ "Type": "tencent-vpc", "AccessKeyID": id, "AccessKeySecret": secret });
        let config = json!({ "Network": "10.5.0.0/16", "Backend": backend }).to_string();
        Self::prepare(&ClusterOptions { config, ..ClusterOptions::of(Backend::TencentVpc, false) })
    }

    fn tencent(&self) -> &Tencent {
        self.cluster.cloud_as().expect("a cluster with this backend is in this cloud")
    }

    /// All daemons run, each route leads to its node, and each node has a pod.
    fn bring_up(&mut self) -> Result<()> {
        self.cluster.start_all()?;
        self.wait_rows()?;
        self.cluster.wire_pods()
    }

    fn reaches(&self) -> Result<()> {
        self.cluster.pod(0)?.reaches(self.cluster.pod(1)?)?;
        self.cluster.pod(1)?.reaches(self.cluster.pod(0)?)
    }

    fn address(&self, index: usize) -> String {
        self.cluster.node(index).address().to_string()
    }

    fn subnet(&self, index: usize) -> Result<String> {
        Ok(self.cluster.subnets(index)?[0].clone())
    }

    /// For each node, its subnet and its address.
    fn wanted(&self) -> Result<BTreeMap<String, String>> {
        (0..self.cluster.lab().nodes().len())
            .map(|index| Ok((self.subnet(index)?, self.address(index))))
            .collect()
    }

    fn rows(&self) -> BTreeMap<String, String> {
        self.tencent().rows().into_iter().map(|row| (row.destination.to_string(), row.hop)).collect()
    }

    /// Waits until each node's route, and no other, leads to it.
    fn wait_rows(&self) -> Result<()> {
        let mut there = BTreeMap::new();
        let begin = Instant::now();
        while begin.elapsed() < LONG {
            there = self.rows();
            if there == self.wanted()? && self.tencent().rows().len() == there.len() {
                return Ok(());
            }
            std::thread::sleep(OFTEN);
        }
        bail!("the routes should be {:?}, and are {there:?}", self.wanted()?)
    }

    /// Puts the same plugin in its own place, which looks at the routes at once.
    fn look_now(&self, index: usize) -> Result<()> {
        self.cluster.swap(index, &plugin("tencent-vpc")?)?;
        Ok(())
    }

    fn calls(&self, action: &str) -> Vec<Call> {
        self.tencent().calls().into_iter().filter(|call| call.action == action).collect()
    }

    /// However often it was asked for: each node's route was made once, and none was removed.
    fn has_doubled_nothing(&self) -> Result<()> {
        let made = self.calls("CreateRoutes").into_iter().filter(|call| call.outcome == "OK").count();
        ensure!(made == 2, "{made} routes were made");
        ensure!(self.calls("DeleteRoutes").is_empty(), "routes were removed");
        Ok(())
    }
}

#[test]
fn each_node_has_its_route_and_pods_reach_each_other() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    site.reaches()?;
    site.has_doubled_nothing()?;
    let refused = site.tencent().calls().into_iter().filter(|call| call.outcome != "OK");
    assert_eq!(refused.map(|call| call.outcome).collect::<Vec<_>>(), [""; 0]);
    // Nothing of it is in the nodes themselves, and nothing is published.
    for index in 0..2 {
        assert_eq!(site.cluster.state(index)?.routes.len(), 0);
        assert!(site.cluster.trouble(index)?.is_none());
    }
    let files = site.cluster.lab().files()?.into_iter();
    let mut leases =
        files.filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("subnets")));
    let (_, lease) = leases.next().context("a lease")?;
    let lease: Value = serde_json::from_slice(&lease)?;
    assert!(lease.get("BackendType").is_none() && lease.get("BackendData").is_none(), "{lease}");
    Ok(())
}

#[test]
fn a_subnet_with_a_table_of_its_own_gets_the_routes_there() -> Result<()> {
    let mut site = Site::new()?;
    site.tencent().use_custom_table();
    site.bring_up()?;
    site.reaches()
}

#[test]
fn restarts_of_all_daemons_change_nothing_in_the_cloud_and_lose_no_packet() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let (mutations, rows) = (site.tencent().mutations(), site.tencent().rows());
    let pings = Pings::start(site.cluster.pod(0)?, site.cluster.pod(1)?)?;
    for index in 0..2 {
        site.cluster.take_daemon(index)?.kill9();
    }
    std::thread::sleep(WHILE);
    for index in 0..2 {
        let reads = site.calls("DescribeRouteTables").len();
        site.cluster.launch(index)?;
        wait::until_true("a look at the routes", || Ok(site.calls("DescribeRouteTables").len() > reads))?;
    }
    std::thread::sleep(WHILE);
    assert_eq!(site.tencent().mutations(), mutations);
    assert_eq!(site.tencent().rows(), rows);
    pings.lost_nothing()
}

#[test]
fn a_route_that_is_removed_by_hand_comes_back_by_itself() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    assert!(site.tencent().delete(site.subnet(1)?.parse()?));
    site.wait_rows()?;
    site.reaches()
}

#[test]
fn routes_of_others_stay_and_own_stale_ones_go() -> Result<()> {
    let mut site = Site::new()?;
    let me = site.address(0);
    let foreign = [
        ("0.0.0.0/0", INSTANCE, me.as_str()),
        ("172.16.0.0/24", INSTANCE, &me),
        ("10.5.255.0/24", INSTANCE, "192.168.77.99"),
        ("10.5.253.0/24", "NAT", "nat-1"),
    ];
    for (destination, kind, hop) in foreign {
        site.tencent().add(destination.parse()?, kind, hop);
    }
    site.tencent().add("10.5.254.0/24".parse()?, INSTANCE, &me);
    site.cluster.start_all()?;
    wait::until_true("the stale route is gone, and the nodes' own are there", || {
        let rows = site.rows();
        Ok(rows.len() == 6 && site.wanted()?.keys().all(|subnet| rows.contains_key(subnet)))
    })?;
    let rows = site.rows();
    for (other, ..) in foreign {
        assert!(rows.contains_key(other), "{rows:?}");
    }
    Ok(())
}

#[test]
fn an_old_nodes_route_is_replaced_and_somebody_elses_is_named() -> Result<()> {
    let mut site = Site::new()?;
    site.bring_up()?;
    let (first, second) = (site.subnet(0)?, site.subnet(1)?);
    for (subnet, kind, hop) in [(&first, INSTANCE, "192.168.77.99"), (&second, "NAT", "nat-1")] {
        site.tencent().delete(subnet.parse()?);
        site.tencent().add(subnet.parse()?, kind, hop);
    }
    for index in 0..2 {
        site.look_now(index)?;
    }
    let me = site.address(0);
    wait::until_true("the first node's route leads to it", || Ok(site.rows().get(&first) == Some(&me)))?;
    let table = site.tencent().table();
    site.cluster.wait_trouble(1, &[&table, &second, "NAT nat-1", "remove it"])?;
    assert_eq!(site.rows()[&second], "nat-1");
    site.tencent().delete(second.parse()?);
    site.wait_rows()
}

#[test]
fn throttled_failing_and_half_answers_double_nothing() -> Result<()> {
    let mut site = Site::new()?;
    for action in ["DescribeRouteTables", "CreateRoutes"] {
        let faults = [
            Fault::Refuse("RequestLimitExceeded"),
            Fault::Refuse("InternalError"),
            Fault::Half,
            Fault::Refuse("RequestLimitExceeded.UinLimitExceeded"),
            Fault::Silence(Duration::from_millis(300)),
        ];
        site.tencent().fail(action, faults);
    }
    site.tencent().fail("CreateRoutes", [Fault::Refuse("ResourceInUse"), Fault::Half]);
    site.bring_up()?;
    site.reaches()?;
    site.has_doubled_nothing()
}

#[test]
fn a_full_table_is_in_the_status_and_the_node_goes_on_with_its_lease() -> Result<()> {
    let mut site = Site::new()?;
    site.tencent().set_quota(1);
    site.cluster.start_all()?;
    wait::until_true("one route", || Ok(site.rows().len() == 1))?;
    let there: Vec<String> = site.rows().into_values().collect();
    let without = usize::from(there[0] == site.address(0));
    let table = site.tencent().table();
    site.cluster.wait_trouble(without, &[&table, "is full, custom routes: 1", "LimitExceeded"])?;
    let lease = site.cluster.lease(without)?;
    site.tencent().set_quota(2);
    site.wait_rows()?;
    assert_eq!(site.cluster.lease(without)?.subnets(), lease.subnets());
    wait::until_true("the trouble is over", || Ok(site.cluster.trouble(without)?.is_none())).map(drop)
}

#[test]
fn a_missing_permission_is_named_in_the_status() -> Result<()> {
    let mut site = Site::new()?;
    site.tencent().permit("CreateRoutes", false);
    site.cluster.start_all()?;
    let words = ["CreateRoutes", "UnauthorizedOperation", "grant vpc:CreateRoutes", "plugin inspect"];
    site.cluster.wait_trouble(0, &words)?;
    assert!(site.rows().is_empty());
    site.tencent().permit("CreateRoutes", true);
    site.wait_rows()
}

#[test]
fn wrong_credentials_and_none_are_one_clear_line() -> Result<()> {
    for (id, secret, code) in [
        (ACCESS_KEY.0, "made-up-and-wrong", "AuthFailure.SignatureFailure"),
        ("AKIDmadeupunknown", ACCESS_KEY.1, "AuthFailure.SecretIdNotFound"),
    ] {
        let mut site = Site::with_key(id, secret)?;
        site.cluster.launch(0)?.wait_ready()?;
        let words =
            ["DescribeRouteTables", code, "does not take the credentials", "AccessKeyID and AccessKeySecret"];
        site.cluster.wait_trouble(0, &words)?;
        is_one_line_without(&site, secret)?;
    }
    let mut site = Site::new()?;
    site.tencent().set_role(false);
    site.cluster.launch(0)?.wait_ready()?;
    let words = ["no credentials", "AccessKeyID", "TENCENTCLOUD_SECRET_ID", "knows no CAM role"];
    site.cluster.wait_trouble(0, &words)?;
    is_one_line_without(&site, ACCESS_KEY.1)?;
    site.tencent().set_role(true);
    site.look_now(0)?;
    wait::until_true("the route", || Ok(site.rows().len() == 1)).map(drop)
}

fn is_one_line_without(site: &Site, secret: &str) -> Result<()> {
    let status = site.cluster.status(0)?;
    let reason = status["plugin"]["trouble"]["reason"].as_str().unwrap_or_default();
    ensure!(!reason.is_empty() && reason.lines().count() == 1 && !reason.contains(secret), "{reason}");
    Ok(())
}

#[test]
fn keys_of_the_network_config_are_used_and_nothing_secret_is_written() -> Result<()> {
    let mut site = Site::with_key(ACCESS_KEY.0, ACCESS_KEY.1)?;
    site.bring_up()?;
    assert_eq!(site.tencent().sessions(), 0, "nobody has asked for the role's keys");
    is_clean(&site)
}

#[test]
fn a_session_that_ends_in_the_middle_is_followed_by_another_and_nothing_secret_is_written() -> Result<()> {
    let mut site = Site::new()?;
    site.cluster.add_arguments(&["--log-level", "trace"]);
    site.bring_up()?;
    let sessions = site.tencent().sessions();
    site.tencent().expire_session();
    site.tencent().delete(site.subnet(0)?.parse()?);
    site.look_now(0)?;
    site.wait_rows()?;
    assert!(site.tencent().sessions() > sessions);
    let calls = site.tencent().calls();
    assert!(calls.iter().any(|call| call.outcome == "AuthFailure.TokenFailure"), "the old one was tried");
    assert!(site.cluster.trouble(0)?.is_none());
    is_clean(&site)
}

/// No secret that the cloud knows is in what the daemons have written (but for the network config), or in their status.
fn is_clean(site: &Site) -> Result<()> {
    let mut written = site.cluster.lab().files()?;
    assert!(written.iter().any(|(path, text)| path.ends_with("flanneld.log") && !text.is_empty()));
    written.retain(|(path, _)| !path.ends_with("config"));
    for index in 0..2 {
        let status = site.cluster.status(index)?.to_string();
        written.push((format!("the status of node {index}").into(), status.into_bytes()));
    }
    for (path, bytes) in &written {
        let text = String::from_utf8_lossy(bytes);
        for secret in site.tencent().secrets() {
            assert!(!text.contains(&secret), "{} has a secret", path.display());
        }
    }
    Ok(())
}
