//! The backend hetzner, which asks an endpoint of the operator's, in a Hetzner Cloud whose routes are the only way from node to node.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flannel_lab::cloud::hetzner::{Fault, Hetzner, NETWORK, Row, TOKEN};
use flannel_lab::{Backend, Cluster, ClusterOptions, wait};

const OTHER: &str = "another-made-up-token-for-tests-fedcba9876543210";

/// Two nodes, whose daemons do not run yet.
fn prepared() -> Result<Cluster> {
    Cluster::prepare(&ClusterOptions::of(Backend::Hetzner, false))
}

/// Two nodes that reach each other.
fn started() -> Result<Cluster> {
    let cluster = Cluster::start(&ClusterOptions::of(Backend::Hetzner, false))?;
    wait_rows(&cluster)?;
    Ok(cluster)
}

fn cloud(cluster: &Cluster) -> Result<&Hetzner> {
    cluster.cloud_as()
}

/// The row that a node has to have.
fn row(cluster: &Cluster, index: usize) -> Result<Row> {
    let destination = cluster.subnets(index)?[0].parse().context("a subnet")?;
    Ok(Row { destination, gateway: cluster.node(index).address() })
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| row.destination);
    rows
}

/// Waits until each node has its row, and there are no others.
fn wait_rows(cluster: &Cluster) -> Result<()> {
    wait::until_equal("each node has its row, and there are no others", || {
        let wanted = sorted(vec![row(cluster, 0)?, row(cluster, 1)?]);
        let rows = sorted(cloud(cluster)?.rows());
        Ok((rows != wanted).then(|| format!("{rows:?}, and {:?}", cluster.trouble(0))))
    })?;
    Ok(())
}

/// Waits until a node has looked at everything once more.
fn wait_looked(cluster: &Cluster, index: usize) -> Result<()> {
    let address = cluster.node(index).address();
    let looks = || -> Result<usize> {
        let calls = cloud(cluster)?.calls();
        let reads = |path: &str| path == format!("/networks/{NETWORK}");
        Ok(calls.iter().filter(|call| call.from == address && reads(&call.path)).count())
    };
    let before = looks()?;
    wait::until_true("the node looks at the network", || Ok(looks()? > before))?;
    Ok(())
}

#[test]
fn each_subnet_gets_a_row_to_its_node_and_pods_reach_each_other_by_it() -> Result<()> {
    let cluster = started()?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    // By nothing else: the kernels of the nodes have no routes.
    for index in 0..2 {
        assert_eq!(cluster.state(index)?.routes.len(), 0);
    }
    let calls = cloud(&cluster)?.calls();
    assert!(calls.iter().all(|call| call.token == TOKEN), "{calls:?}");
    Ok(())
}

#[test]
fn pods_get_the_mtu_that_the_network_carries() -> Result<()> {
    let cluster = started()?;
    let file = cluster.node(0).subnet_env()?.context("a subnet file")?;
    assert_eq!(file.mtu, 1450);
    Ok(())
}

#[test]
fn a_restart_and_a_reload_write_nothing() -> Result<()> {
    let mut cluster = started()?;
    wait::until_true("nothing is under way", || {
        for index in 0..2 {
            wait_looked(&cluster, index)?;
        }
        Ok(true)
    })?;
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
    for index in 0..2 {
        assert!(cluster.take_daemon(index)?.terminate()?.success());
    }
    assert_eq!((cloud(&cluster)?.mutations(), cloud(&cluster)?.rows()), before);
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn rows_that_are_deleted_or_led_elsewhere_by_hand_come_back_and_others_stay() -> Result<()> {
    let mut cluster = started()?;
    let (first, second) = (row(&cluster, 0)?, row(&cluster, 1)?);
    let foreign = Row { destination: "10.6.1.0/24".parse()?, gateway: first.gateway };
    cloud(&cluster)?.put_row(foreign.clone());
    assert!(cloud(&cluster)?.delete_row(&first.destination.to_string()));
    cloud(&cluster)?.put_row(Row { gateway: first.gateway, ..second.clone() });
    let wanted = sorted(vec![first, second, foreign]);
    for index in 0..2 {
        cluster.daemon(index)?.hang_up()?;
    }
    wait::until_equal("the rows are back", || {
        let rows = sorted(cloud(&cluster)?.rows());
        Ok((rows != wanted).then(|| format!("{rows:?}")))
    })?;
    // A cloud lists a row before its routers have it.
    wait::until_true("packets pass again", || Ok(cluster.pod(0)?.reaches(cluster.pod(1)?).is_ok()))?;
    Ok(())
}

/// A cluster comes up although the first calls go wrong.
fn comes_up(faults: &[(&str, Fault, usize)]) -> Result<Cluster> {
    let mut cluster = prepared()?;
    for (call, fault, times) in faults {
        cloud(&cluster)?.fail(call, fault, *times);
    }
    cluster.bring_up()?;
    wait_rows(&cluster)?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    Ok(cluster)
}

#[test]
fn a_cloud_that_throttles_fails_or_breaks_off_is_asked_again() -> Result<()> {
    let refused = |status, code| Fault::Refused(status, code, Vec::new());
    let throttled = Fault::Refused(
        429,
        "rate_limit_exceeded",
        vec![
            ("Retry-After", "1"),
            ("RateLimit-Limit", "3600"),
            ("RateLimit-Remaining", "0"),
            ("RateLimit-Reset", "4000000000"),
        ],
    );
    comes_up(&[
        ("GET", throttled.clone(), 2),
        ("GET", refused(429, "rate_limit_exceeded"), 2),
        ("POST", throttled, 1),
        ("GET", refused(500, "server_error"), 1),
        ("GET", refused(503, "unavailable"), 2),
        ("GET", Fault::Half, 1),
        ("GET", Fault::Silence(Duration::from_millis(200)), 1),
    ])?;
    Ok(())
}

#[test]
fn a_change_whose_answer_is_lost_and_a_busy_network_end_well() -> Result<()> {
    let refused = |status, code| Fault::Refused(status, code, Vec::new());
    let cluster = comes_up(&[
        ("POST", refused(409, "conflict"), 2),
        ("POST", refused(423, "locked"), 1),
        ("POST", Fault::Half, 1),
    ])?;
    // The one that was lost was not sent again: it was seen.
    let added = cloud(&cluster)?.calls().iter().filter(|call| call.status == 201 || call.status == 0).count();
    assert!(added >= 2, "{:?}", cloud(&cluster)?.calls());
    Ok(())
}

/// The daemons start, and say what is wrong; once it is put right, all is well.
fn heals(what: impl Fn(&Hetzner, bool) -> Result<()>, said: &[&str]) -> Result<()> {
    let mut cluster = prepared()?;
    what(cloud(&cluster)?, true)?;
    cluster.start_all()?;
    let told = cluster.wait_trouble(0, &[said[0]])?;
    for part in said {
        ensure!(told.contains(part), "{told}");
    }
    assert!(!told.contains('\n') && !told.contains(TOKEN) && !told.contains(OTHER), "{told}");
    // It has its lease all the same.
    assert_eq!(cluster.store().leases()?.len(), 2);
    what(cloud(&cluster)?, false)?;
    for index in 0..2 {
        cluster.daemon(index)?.hang_up()?;
    }
    cluster.wait_converged()?;
    wait_rows(&cluster)?;
    wait::until_true("nothing is wrong any more", || Ok(cluster.trouble(0)?.is_none()))?;
    Ok(())
}

#[test]
fn a_token_that_is_not_known_is_told_and_the_rotated_one_counts_without_a_restart() -> Result<()> {
    heals(
        |cloud, wrong| {
            cloud.set_tokens(&[], &[OTHER]);
            cloud.write_token(if wrong { TOKEN } else { OTHER })
        },
        &["unable to authenticate (unauthorized, status 401)", "is not known to Hetzner Cloud"],
    )
}

#[test]
fn a_token_that_may_only_read_is_told_with_what_it_has_to_have() -> Result<()> {
    heals(
        |cloud, wrong| {
            let (readers, writers) = if wrong { (&[TOKEN][..], &[][..]) } else { (&[][..], &[TOKEN][..]) };
            cloud.set_tokens(readers, writers);
            Ok(())
        },
        &["token_readonly, status 403", "has to have the permission Read & Write"],
    )
}

#[test]
fn a_missing_token_is_told_with_its_file() -> Result<()> {
    heals(
        |cloud, wrong| cloud.write_token(if wrong { "" } else { TOKEN }),
        &["no credentials: ", "hetzner.token: it is empty"],
    )
}

#[test]
fn a_full_network_and_what_the_cloud_refuses_are_told() -> Result<()> {
    heals(
        |cloud, wrong| {
            cloud.limit(if wrong { 0 } else { 100 });
            Ok(())
        },
        &["route limit exceeded (resource_limit_exceeded, status 403)", "room for 100 routes"],
    )?;
    heals(
        |cloud, wrong| {
            let all: Row = Row { destination: "10.5.0.0/16".parse()?, gateway: "192.168.77.200".parse()? };
            if wrong {
                cloud.put_row(all);
            } else {
                cloud.delete_row("10.5.0.0/16");
            }
            Ok(())
        },
        &["overlaps with the destination of another route (invalid_input, status 422)"],
    )
}

#[test]
fn an_action_that_fails_is_told_and_tried_again() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.fail("POST", &Fault::Fails("action_failed"), 1000);
    cluster.start_all()?;
    cluster.wait_trouble(0, &["Action failed (action_failed)"])?;
    cloud(&cluster)?.heal();
    cluster.wait_converged()?;
    wait_rows(&cluster)
}

#[test]
fn what_the_cloud_repeats_of_the_token_is_nowhere_to_be_seen() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.fail("GET", &Fault::Echo, 40);
    cluster.start_all()?;
    let told = cluster.wait_trouble(0, &["you said "])?;
    assert!(told.contains("authorization: Bearer (hidden)") && !told.contains(TOKEN), "{told}");
    let log = cluster.daemon(0)?.log().tail();
    assert!(!log.contains(TOKEN), "{log}");
    Ok(())
}

#[test]
fn nobody_follows_the_cloud_elsewhere() -> Result<()> {
    let mut cluster = prepared()?;
    cloud(&cluster)?.fail("GET", &Fault::Elsewhere("http://192.168.77.1:1/v1/networks/4711"), 40);
    cluster.start_all()?;
    cluster.wait_trouble(0, &["(status 302)"])?;
    Ok(())
}

#[test]
fn without_the_endpoint_the_daemon_says_so_and_ends() -> Result<()> {
    for (text, said) in [
        (
            "",
            "http:hetzner is granted, and the file of --http-endpoints has no [endpoint.hetzner]; there are: none",
        ),
        (
            "[endpoint.hetzner]\nurl = \"x\"\nallow = []",
            "endpoints.toml: line 2: endpoint.hetzner: url = \"x\": right would be https://",
        ),
        (
            "[endpoint.hetzner]\nurls = \"x\"",
            "endpoints.toml: line 2: unknown field `urls`, expected one of `url`",
        ),
    ] {
        let mut cluster = prepared()?;
        cloud(&cluster)?.write_endpoints(text)?;
        let daemon = cluster.launch(0)?;
        ensure!(!daemon.wait_exit()?.success(), "it goes on");
        let errors = daemon.log().of_level("ERROR");
        ensure!(errors.iter().any(|line| line.message().contains(said)), "{}", daemon.log().tail());
    }
    Ok(())
}

#[test]
fn what_the_operators_file_does_not_allow_is_denied_with_what_to_add() -> Result<()> {
    let mut cluster = prepared()?;
    let whole = cloud(&cluster)?.endpoints();
    cloud(&cluster)?.write_endpoints(&whole.replace("\"POST /networks/*/actions/add_route\", ", ""))?;
    cluster.start_all()?;
    let path = format!(
        "POST /networks/{NETWORK}/actions/add_route is none of what the file of --http-endpoints allows"
    );
    cluster.wait_trouble(0, &[&path])?;
    assert_eq!(cloud(&cluster)?.mutations(), 0);
    Ok(())
}

#[test]
fn an_endpoint_that_is_allowed_for_one_run_has_to_be_in_the_file() -> Result<()> {
    let mut cluster = prepared()?;
    cluster.add_arguments(&["--allow=http:router"]);
    let daemon = cluster.launch(0)?;
    ensure!(!daemon.wait_exit()?.success(), "it goes on");
    let log = daemon.log().tail();
    let said = "--allow: http:router is granted, and the file of --http-endpoints has no [endpoint.router]; there are: hetzner";
    ensure!(log.contains(said), "{log}");
    Ok(())
}
