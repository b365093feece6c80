//! The backend gce, in a Google Cloud whose routes are the only way from node to node.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::artifacts::plugin;
use flannel_lab::cloud::gce::{Fault, Gce, Notice, Row, TOKEN_PREFIX};
use flannel_lab::ping_probe::Mark;
use flannel_lab::{Backend, Cluster, ClusterOptions, Echo, Prober, wait};
use serde_json::{Value, json};

/// Two nodes, whose daemons do not run yet.
fn prepared() -> Result<Cluster> {
    Cluster::prepare(&ClusterOptions::of(Backend::Gce, false))
}

/// Two nodes that reach each other.
fn started() -> Result<Cluster> {
    Cluster::start(&ClusterOptions::of(Backend::Gce, false))
}

fn cloud(cluster: &Cluster) -> Result<&Gce> {
    cluster.cloud_as()
}

/// The row that a node has to have.
fn row(cluster: &Cluster, index: usize) -> Result<Row> {
    let subnet = cluster.subnets(index)?[0].clone();
    let name = format!("flannel-{}", subnet.replace(['.', '/'], "-"));
    Ok(Row { name, destination: subnet, instance: cluster.node(index).name().to_owned() })
}

/// Waits until each node has its row, and there are no others.
fn wait_rows(cluster: &Cluster) -> Result<()> {
    wait::until_equal("each node has its row, and there are no others", || {
        let mut wanted = [row(cluster, 0)?, row(cluster, 1)?];
        wanted.sort_by(|a, b| a.name.cmp(&b.name));
        let rows = cloud(cluster)?.rows();
        Ok((rows != wanted).then(|| format!("{rows:?}, and {:?}", cluster.trouble(0))))
    })?;
    Ok(())
}

/// Waits until a node has looked at everything once more, and found it right.
fn wait_looked(cluster: &Cluster, index: usize) -> Result<()> {
    let address = cluster.node(index).address();
    let looks = || -> Result<usize> {
        let calls = cloud(cluster)?.calls();
        Ok(calls.iter().filter(|call| call.from == address && call.kind == "routes.list").count())
    };
    let before = looks()?;
    wait::until_true("the node looks at the routes", || Ok(looks()? > before))?;
    Ok(())
}

#[test]
fn each_subnet_gets_a_row_to_its_node_and_pods_reach_each_other_by_it() -> Result<()> {
    let cluster = started()?;
    wait_rows(&cluster)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    // By nothing else: the kernels of the nodes have no routes.
    for index in 0..2 {
        assert_eq!(cluster.state(index)?.routes.len(), 0);
    }
    assert_eq!(cloud(&cluster)?.mutations(), 2);
    Ok(())
}

#[test]
fn a_restart_changes_nothing() -> Result<()> {
    let mut cluster = started()?;
    wait_rows(&cluster)?;
    let before = (cloud(&cluster)?.mutations(), cloud(&cluster)?.rows());
    for index in 0..2 {
        cluster.take_daemon(index)?.kill9();
    }
    cluster.start_all()?;
    for index in 0..2 {
        cluster.daemon(index)?.hang_up()?;
        wait_looked(&cluster, index)?;
    }
    assert_eq!((cloud(&cluster)?.mutations(), cloud(&cluster)?.rows()), before);
    Ok(())
}

#[test]
fn rows_stay_when_the_daemons_end() -> Result<()> {
    let mut cluster = started()?;
    wait_rows(&cluster)?;
    for index in 0..2 {
        assert!(cluster.take_daemon(index)?.terminate()?.success());
    }
    assert_eq!((cloud(&cluster)?.rows().len(), cloud(&cluster)?.mutations()), (2, 2));
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn rows_that_are_deleted_or_led_elsewhere_by_hand_come_back() -> Result<()> {
    let mut cluster = started()?;
    wait_rows(&cluster)?;
    let (first, second) = (row(&cluster, 0)?, row(&cluster, 1)?);
    assert!(cloud(&cluster)?.delete_row(&first.name));
    let elsewhere = Row { instance: first.instance.clone(), ..second };
    cloud(&cluster)?.put_row(&elsewhere, &Value::Null);
    // The reads of a moment ago may be behind the cloud's own: that is not taken for somebody's deed.
    let back = wait::until_true("the rows are back", || {
        for index in 0..2 {
            cluster.daemon(index)?.hang_up()?;
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(cloud(&cluster)?.rows().iter().all(|is| is.instance == "node1" || is.instance == "node2")
            && cloud(&cluster)?.rows().contains(&row(&cluster, 0)?)
            && cloud(&cluster)?.rows().contains(&row(&cluster, 1)?))
    });
    back.with_context(|| format!("{:?}", cloud(&cluster).map(Gce::rows)))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn stale_rows_of_the_own_instance_go_and_others_stay() -> Result<()> {
    let mut cluster = prepared()?;
    let by = |name: &str, destination: &str, instance: &str| Row {
        name: name.to_owned(),
        destination: destination.to_owned(),
        instance: instance.to_owned(),
    };
    let others = [
        by("vpn", "10.5.201.0/24", "node1"),
        by("flannel-10-6-1-0-24", "10.6.1.0/24", "node1"),
        by("flannel-10-5-202-0-24", "10.5.202.0/24", "node3"),
    ];
    cloud(&cluster)?.put_row(&by("flannel-10-5-200-0-24", "10.5.200.0/24", "node1"), &Value::Null);
    for other in &others {
        cloud(&cluster)?.put_row(other, &Value::Null);
    }
    cloud(&cluster)?.page(1);
    cluster.bring_up()?;
    wait::until_true("the stale row goes", || {
        Ok(!cloud(&cluster)?.rows().iter().any(|row| row.name == "flannel-10-5-200-0-24"))
    })?;
    for other in &others {
        assert!(cloud(&cluster)?.rows().contains(other), "{other:?}");
    }
    Ok(())
}

#[test]
fn a_row_of_another_network_with_the_same_name_is_left_alone_and_told() -> Result<()> {
    let mut cluster = started()?;
    wait_rows(&cluster)?;
    let own = row(&cluster, 0)?;
    let other = json!({ "network": "projects/lab-project/global/networks/other" });
    cloud(&cluster)?.put_row(&own, &other);
    cluster.daemon(0)?.hang_up()?;
    let said = cluster.wait_trouble(0, &["projects/lab-project/global/networks/other"])?;
    assert!(said.contains(&own.name) && said.contains("names of routes are the project's"), "{said}");
    assert_eq!(cloud(&cluster)?.count("routes.delete"), 0);
    Ok(())
}

/// A cluster comes up although the first calls go wrong, and nothing is done twice.
fn comes_up(faults: &[(&str, Fault, usize)]) -> Result<Cluster> {
    let mut cluster = prepared()?;
    for (kind, fault, times) in faults {
        cloud(&cluster)?.fail(kind, *fault, *times);
    }
    cluster.bring_up()?;
    wait_rows(&cluster)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    assert_eq!(cloud(&cluster)?.operations(), 2, "one for each node, however often it was asked for");
    Ok(cluster)
}

#[test]
fn a_cloud_that_throttles_is_asked_again() -> Result<()> {
    comes_up(&[
        ("*", Fault::Throttled(1), 2),
        ("*", Fault::RateLimited, 3),
        ("routes.insert", Fault::RateLimited, 2),
    ])?;
    Ok(())
}

#[test]
fn a_cloud_that_fails_is_asked_again() -> Result<()> {
    let broken = [500, 502, 503].map(|status| ("*", Fault::Broken(status), 2));
    comes_up(&[&broken[..], &[("routes.insert", Fault::Broken(500), 1)]].concat())?;
    Ok(())
}

#[test]
fn a_cloud_that_says_nothing_or_half_of_it_is_asked_again_and_nothing_is_done_twice() -> Result<()> {
    let short = Duration::from_millis(200);
    comes_up(&[
        ("instances.get", Fault::Silence(short), 1),
        ("routes.get", Fault::Half, 2),
        ("routes.insert", Fault::Half, 1),
        ("routes.insert", Fault::Unheard(short), 1),
        ("globalOperations.get", Fault::Half, 1),
    ])?;
    Ok(())
}

#[test]
fn reads_that_are_behind_for_seconds_do_not_do_anything_twice() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.lag(Duration::from_secs(4));
    cluster.bring_up()?;
    wait_rows(&cluster)?;
    wait::until_true("both nodes have seen their rows", || {
        Ok(["192.168.77.11", "192.168.77.12"].iter().all(|address| {
            let calls = cloud(&cluster).map(Gce::calls).unwrap_or_default();
            let seen = |call: &flannel_lab::cloud::gce::Call| {
                call.from.to_string() == *address && call.kind == "routes.get" && call.status == 200
            };
            calls.iter().any(seen)
        }))
    })?;
    assert_eq!((cloud(&cluster)?.mutations(), cloud(&cluster)?.operations()), (2, 2));
    Ok(())
}

#[test]
fn access_tokens_that_end_early_are_replaced() -> Result<()> {
    let mut cluster = started()?;
    wait_rows(&cluster)?;
    cloud(&cluster)?.expire_tokens();
    cluster.daemon(0)?.hang_up()?;
    wait_looked(&cluster, 0)?;
    let refused = cloud(&cluster)?.calls().iter().filter(|call| call.status == 401).count();
    assert_eq!((refused, cluster.trouble(0)?), (1, None));
    Ok(())
}

#[test]
fn access_tokens_are_replaced_before_they_end() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.token_lifetime(Duration::from_secs(4));
    cluster.bring_up()?;
    wait_rows(&cluster)?;
    for _ in 0..6 {
        std::thread::sleep(Duration::from_secs(1));
        cluster.daemon(0)?.hang_up()?;
    }
    wait_looked(&cluster, 0)?;
    assert!(cloud(&cluster)?.calls().iter().all(|call| call.status != 401));
    Ok(())
}

#[test]
fn a_service_account_with_a_key_does_as_well_as_the_machines() -> Result<()> {
    let mut cluster = prepared()?;
    let file = cloud(&cluster)?.service_account_file(cluster.lab().directory())?;
    for node in ["node1", "node2"] {
        cloud(&cluster)?.set_account(node, false);
    }
    let options =
        cluster.options().clone().env("GOOGLE_APPLICATION_CREDENTIALS", &file.display().to_string());
    cluster.set_options(options);
    cluster.bring_up()?;
    wait_rows(&cluster)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

/// The daemons start, and say what is wrong; once it is put right, all is well.
fn heals(what: impl Fn(&Gce, bool), said: &[&str]) -> Result<()> {
    let mut cluster = prepared()?;
    what(cloud(&cluster)?, true);
    cluster.start_all()?;
    let told = cluster.wait_trouble(0, &[said[0]])?;
    for part in said {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains('\n') && !told.contains(TOKEN_PREFIX), "{told}");
    // It has its lease all the same.
    assert_eq!(cluster.store().leases()?.len(), 2);
    what(cloud(&cluster)?, false);
    for index in 0..2 {
        cluster.daemon(index)?.hang_up()?;
    }
    cluster.wait_converged()?;
    wait_rows(&cluster)?;
    wait::until_true("nothing is wrong any more", || Ok(cluster.trouble(0)?.is_none()))?;
    Ok(())
}

#[test]
fn a_full_table_is_told_with_quota_limit_and_count_at_once() -> Result<()> {
    let limit = |cloud: &Gce, full| cloud.limit(if full { 0 } else { 300 }, Notice::AtOnce);
    heals(limit, &["Quota 'STATIC_ROUTES_PER_NETWORK' exceeded. Limit: 0.0 globally.", "has 0 static routes"])
}

#[test]
fn a_full_table_is_told_with_quota_limit_and_count_when_the_operation_fails() -> Result<()> {
    let limit = |cloud: &Gce, full| cloud.limit(if full { 0 } else { 300 }, Notice::Later);
    heals(
        limit,
        &[
            "Quota 'STATIC_ROUTES_PER_NETWORK' exceeded. Limit: 0.0 globally.",
            "(quota compute.googleapis.com/static_routes_per_network, limit 0.0)",
            "network lab-network has 0 static routes, 0 of them flannel's",
        ],
    )
}

#[test]
fn a_missing_permission_is_told_with_what_to_grant() -> Result<()> {
    let deny = |cloud: &Gce, denied| {
        if denied { cloud.deny("compute.networks.updatePolicy") } else { cloud.allow_everything() }
    };
    heals(
        deny,
        &[
            "Required 'compute.networks.updatePolicy' permission for 'projects/lab-project/global/networks/lab-network'",
            "grant compute.networks.updatePolicy",
            "flanneld plugin inspect",
        ],
    )
}

#[test]
fn machines_without_a_service_account_are_told_so() -> Result<()> {
    let without = |cloud: &Gce, without: bool| {
        for node in ["node1", "node2"] {
            cloud.set_account(node, !without);
        }
    };
    heals(without, &["this machine has no service account", "GOOGLE_APPLICATION_CREDENTIALS"])
}

#[test]
fn a_machine_that_may_not_forward_is_told_so() -> Result<()> {
    let forbid = |cloud: &Gce, forbidden: bool| cloud.set_ip_forwarding("node1", !forbidden);
    heals(forbid, &["instance node1 may not forward packets", "--can-ip-forward"])
}

#[test]
fn two_nodes_that_race_for_a_subnets_row_end_with_the_one_that_has_the_lease() -> Result<()> {
    let mut cluster = started()?;
    wait_rows(&cluster)?;
    // As if both subnets had been the other node's until now: each removes a stale row of its own, and replaces the other's.
    let (first, second) = (row(&cluster, 0)?, row(&cluster, 1)?);
    for index in 0..2 {
        cluster.take_daemon(index)?.kill9();
    }
    let swapped = [
        Row { instance: second.instance.clone(), ..first.clone() },
        Row { instance: first.instance.clone(), ..second.clone() },
    ];
    for row in &swapped {
        cloud(&cluster)?.put_row(row, &Value::Null);
    }
    cluster.start_all()?;
    wait_rows(&cluster)?;
    for index in 0..2 {
        cluster.daemon(index)?.hang_up()?;
        wait_looked(&cluster, index)?;
    }
    wait_rows(&cluster)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn a_swap_in_the_middle_of_an_operation_does_nothing_twice() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.hold(true);
    cluster.start_all()?;
    wait::until_true("both operations have begun", || Ok(cloud(&cluster)?.operations() == 2))?;
    for index in 0..2 {
        cluster.swap(index, &plugin("gce")?)?;
    }
    let asked = cloud(&cluster)?.count("globalOperations.get");
    wait::until_true("they are asked for by the new plugins", || {
        Ok(cloud(&cluster)?.count("globalOperations.get") > asked + 2)
    })?;
    cloud(&cluster)?.hold(false);
    cluster.wait_converged()?;
    wait_rows(&cluster)?;
    assert_eq!((cloud(&cluster)?.operations(), cloud(&cluster)?.mutations()), (2, 2));
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_an_operation_goes_on_with_it() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.hold(true);
    cluster.start_all()?;
    wait::until_true("both operations have begun, and are asked for", || {
        Ok(cloud(&cluster)?.count("globalOperations.get") >= 4)
    })?;
    cluster.kill_and_restart(0)?;
    cloud(&cluster)?.hold(false);
    cluster.wait_converged()?;
    wait_rows(&cluster)?;
    assert_eq!((cloud(&cluster)?.operations(), cloud(&cluster)?.mutations()), (2, 2));
    Ok(())
}

#[test]
fn swaps_under_traffic_lose_nothing_and_change_nothing() -> Result<()> {
    let cluster = started()?;
    wait_rows(&cluster)?;
    let (from, to) = (cluster.pod(0)?, cluster.pod(1)?);
    let ping = Prober::start(from.namespace(), Echo::to(to.ipv4()?), Duration::from_millis(1))?;
    for round in 0..20 {
        cluster.swap(round % 2, &plugin("gce")?)?;
    }
    let report = ping.report(Mark::default());
    assert!(report.lost == 0 && report.sent > 100, "{report:?}");
    assert_eq!(cloud(&cluster)?.mutations(), 2);
    Ok(())
}

/// All files below a directory that have a text in them.
fn files_with(directory: &Path, text: &str) -> Result<Vec<String>> {
    let output = Command::new("grep").args(["-rlaF", text]).arg(directory).output().context("grep")?;
    Ok(String::from_utf8(output.stdout)?.lines().map(ToOwned::to_owned).collect())
}

#[test]
fn nothing_secret_is_in_logs_status_or_files() -> Result<()> {
    let mut cluster = prepared()?;
    let file = cloud(&cluster)?.service_account_file(cluster.lab().directory())?;
    let key = std::fs::read_to_string(&file)?;
    let key: Value = serde_json::from_str(&key)?;
    let part = key["private_key"].as_str().and_then(|key| key.lines().nth(3)).context("a key")?.to_owned();
    let options =
        cluster.options().clone().env("GOOGLE_APPLICATION_CREDENTIALS", &file.display().to_string());
    cluster.set_options(options.arg("--log-level=trace"));
    cloud(&cluster)?.fail("*", Fault::Broken(500), 3);
    cloud(&cluster)?.deny("compute.routes.create");
    cluster.start_all()?;
    cluster.wait_trouble(0, &["compute.routes.create"])?;
    cloud(&cluster)?.expire_tokens();
    cloud(&cluster)?.allow_everything();
    cluster.daemon(0)?.hang_up()?;
    cluster.wait_converged()?;
    for text in [TOKEN_PREFIX, &part, "eyJ"] {
        for index in 0..2 {
            let status = cluster.status(index)?.to_string();
            assert!(!status.contains(text), "{status}");
            let found = files_with(cluster.node(index).directory(), text)?;
            let found: Vec<&String> = found.iter().filter(|file| !file.contains("/cache/")).collect();
            assert!(found.is_empty(), "{text} is in {found:?}");
        }
    }
    Ok(())
}
