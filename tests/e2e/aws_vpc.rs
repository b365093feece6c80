//! The backend aws-vpc, in an EC2 whose route table is the only way from node to node.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::artifacts::plugin;
use flannel_lab::cloud::aws::{Aws, Fault};
use flannel_lab::ping_probe::{self, Mark};
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Prober, wait};

/// Two nodes, whose daemons do not run yet. None, with the reason on standard output: moto cannot be had here.
fn prepared() -> Result<Option<Cluster>> {
    if let Some(reason) = Backend::AwsVpc.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    Cluster::prepare(&ClusterOptions::of(Backend::AwsVpc, false)).map(Some)
}

/// Two nodes that reach each other.
fn started() -> Result<Option<Cluster>> {
    let Some(mut cluster) = prepared()? else { return Ok(None) };
    cluster.bring_up()?;
    Ok(Some(cluster))
}

fn cloud(cluster: &Cluster) -> Result<&Aws> {
    cluster.cloud_as()
}

/// Waits until so many more reads of the tables have come.
fn wait_reads(cluster: &Cluster, more: usize) -> Result<()> {
    let before = cloud(cluster)?.count("DescribeRouteTables");
    wait::until_true("the tables are read", || {
        Ok(cloud(cluster)?.count("DescribeRouteTables") >= before + more)
    })?;
    Ok(())
}

/// Starts both nodes while something goes wrong in the cloud, which passes: the rows come all the same, each once.
fn comes_through(wrong: impl FnOnce(&Aws)) -> Result<()> {
    let Some(mut cluster) = prepared()? else { return Ok(()) };
    wrong(cloud(&cluster)?);
    cluster.bring_up()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    let aws = cloud(&cluster)?;
    assert_eq!(aws.rows().len(), 2, "{:?}", aws.rows());
    Ok(())
}

#[test]
fn each_subnet_gets_a_row_to_its_node_and_pods_reach_each_other_by_it() -> Result<()> {
    let Some(cluster) = started()? else { return Ok(()) };
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    for index in 0..2 {
        // By nothing else: the kernels of the nodes have no routes.
        assert_eq!(cluster.state(index)?.routes.len(), 0);
        assert!(!cloud(&cluster)?.source_dest_check(cluster.node(index).name())?);
    }
    // Each has turned the check off, and made one row.
    assert_eq!(cloud(&cluster)?.mutations(), 4);
    Ok(())
}

#[test]
fn a_restart_changes_nothing() -> Result<()> {
    let Some(mut cluster) = started()? else { return Ok(()) };
    let before = (cloud(&cluster)?.mutations(), cloud(&cluster)?.rows());
    for index in 0..2 {
        cluster.kill_and_restart(index)?;
        cluster.daemon(index)?.hang_up()?;
        wait_reads(&cluster, 1)?;
    }
    wait::until_true("both have looked", || {
        let ticks = |index| cluster.status(index).map(|status| status["plugin"]["calls"]["tick"].as_u64());
        Ok(ticks(0)? > Some(1) && ticks(1)? > Some(1))
    })?;
    assert_eq!((cloud(&cluster)?.mutations(), cloud(&cluster)?.rows()), before);
    Ok(())
}

#[test]
fn a_row_that_is_deleted_or_led_elsewhere_by_hand_comes_back() -> Result<()> {
    let Some(mut cluster) = started()? else { return Ok(()) };
    let subnet = cluster.subnets(1)?[0].clone();
    let table = cloud(&cluster)?.table_in_use();
    for elsewhere in [false, true] {
        if elsewhere {
            cloud(&cluster)?.replace_row(&table, &subnet, cluster.node(0).name())?;
        } else {
            cloud(&cluster)?.delete_row(&table, &subnet)?;
        }
        cluster.daemon(1)?.hang_up()?;
        cluster.wait_converged()?;
        cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    }
    Ok(())
}

#[test]
fn too_many_requests_failures_and_half_answers_pass() -> Result<()> {
    comes_through(|aws| aws.fail("*", Fault::Throttled, 6))?;
    comes_through(|aws| aws.fail("*", Fault::Broken, 4))?;
    comes_through(|aws| aws.fail("CreateRoute", Fault::Half, 2))
}

#[test]
fn requests_that_nobody_hears_or_nobody_answers_double_nothing() -> Result<()> {
    let short = Duration::from_millis(200);
    comes_through(|aws| {
        aws.fail("DescribeRouteTables", Fault::Silence(short), 2);
        aws.fail("CreateRoute", Fault::Unheard(short), 1);
        aws.fail("CreateRoute", Fault::Silence(short), 1);
    })
}

#[test]
fn reads_that_are_behind_lead_to_no_second_row() -> Result<()> {
    comes_through(|aws| aws.lag(Duration::from_secs(4)))
}

#[test]
fn credentials_that_end_in_the_middle_are_fetched_anew() -> Result<()> {
    let Some(mut cluster) = started()? else { return Ok(()) };
    let before = cloud(&cluster)?.issued();
    cloud(&cluster)?.expire_credentials();
    cloud(&cluster)?.delete_row(&cloud(&cluster)?.table_in_use(), &cluster.subnets(1)?[0])?;
    cluster.daemon(1)?.hang_up()?;
    cluster.wait_converged()?;
    assert!(cloud(&cluster)?.issued() > before);
    assert_eq!(cluster.trouble(1)?, None);
    Ok(())
}

#[test]
fn a_full_table_is_told_with_its_name_and_its_rows() -> Result<()> {
    let Some(mut cluster) = prepared()? else { return Ok(()) };
    cloud(&cluster)?.limit(0);
    cluster.launch(0)?.wait_ready()?;
    let said = cluster.wait_trouble(0, &["RouteLimitExceeded"])?;
    assert!(said.contains(&cloud(&cluster)?.table_in_use()), "{said}");
    assert_eq!(cluster.store().leases()?.len(), 1);
    cloud(&cluster)?.limit(usize::MAX);
    cluster.wait_converged()?;
    Ok(())
}

#[test]
fn a_missing_permission_is_named() -> Result<()> {
    let Some(mut cluster) = prepared()? else { return Ok(()) };
    cloud(&cluster)?.deny("CreateRoute");
    cluster.launch(0)?.wait_ready()?;
    let said = cluster.wait_trouble(0, &["ec2:CreateRoute"])?;
    assert!(said.contains("plugin inspect"), "{said}");
    cloud(&cluster)?.allow_everything();
    cluster.wait_converged()?;
    Ok(())
}

#[test]
fn blackholes_of_nodes_that_are_gone_are_cleaned_up_inside_the_cluster_network_only() -> Result<()> {
    let Some(mut cluster) = started()? else { return Ok(()) };
    let newcomer = cluster.add_node(flannel_lab::Place::Near)?;
    let name = cluster.node(newcomer).name().to_owned();
    let table = cloud(&cluster)?.table_in_use();
    for destination in ["10.5.250.0/24", "10.99.0.0/24"] {
        cloud(&cluster)?.put_row(&table, destination, &name)?;
    }
    cloud(&cluster)?.set_running(&name, false)?;
    cluster.daemon(0)?.hang_up()?;
    let has = |destination: &str| -> Result<bool> {
        Ok(cloud(&cluster)?.rows().iter().any(|row| row.destination == destination))
    };
    wait::until_true("the blackhole is gone", || Ok(!has("10.5.250.0/24")?))?;
    assert!(has("10.99.0.0/24")?, "what is outside is somebody else's");
    Ok(())
}

#[test]
fn swaps_under_traffic_lose_nothing_and_change_nothing() -> Result<()> {
    let Some(cluster) = started()? else { return Ok(()) };
    let before = cloud(&cluster)?.mutations();
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?.addresses());
    let to = to.into_iter().next().context("an address")?;
    let pings = Prober::start(from.namespace(), Echo::to(to), ping_probe::INTERVAL)?;
    let component = plugin("aws-vpc")?;
    for _ in 0..10 {
        cluster.swap(0, &component)?;
        cluster.swap(1, &component)?;
    }
    let report = pings.report(Mark::default());
    assert!(report.received > 0);
    assert_eq!((report.lost, cloud(&cluster)?.mutations()), (0, before));
    Ok(())
}

#[test]
fn nothing_secret_is_in_the_log_or_in_the_status() -> Result<()> {
    let Some(mut cluster) = prepared()? else { return Ok(()) };
    cluster.add_arguments(&["--log-level=trace"]);
    cluster.bring_up()?;
    for index in 0..2 {
        let log = std::fs::read_to_string(cluster.node(index).directory().join("flanneld.log"))?;
        let status = cluster.status(index)?.to_string();
        assert!(log.contains("cloud answered"), "what is looked through has what it is about");
        for secret in cloud(&cluster)?.secrets() {
            assert!(!log.contains(&secret) && !status.contains(&secret), "node {index}");
        }
    }
    Ok(())
}
