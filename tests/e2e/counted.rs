//! Traffic of which each packet is counted: it finds what is lost, and nothing where nothing is.

use std::time::Duration;

use anyhow::{Context, Result};
use flannel_lab::artifacts::{component, plugin};
use flannel_lab::cluster::DUAL_STACK;
use flannel_lab::traffic::StreamReport;
use flannel_lab::{Backend, Cluster, ClusterOptions, Traffic};

/// How long a quiet cluster is watched.
const WHILE: Duration = Duration::from_secs(2);
/// How long there is no way.
const AWAY: Duration = Duration::from_millis(50);

#[test]
fn a_route_that_is_away_for_50_ms_costs_packets_on_that_way_alone_at_that_time_alone() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions { nodes: 3, ..ClusterOptions::default() })?;
    // It would put the route back.
    cluster.take_daemon(0)?.kill9();
    let route = cluster.state(0)?.routes.first().context("a route")?.clone();
    let subnet = route.split(' ').next().context("a subnet")?.to_owned();
    let traffic = Traffic::among(cluster.pods())?;
    let node = cluster.node(0);
    let gone = traffic.elapsed();
    node.ip(&format!("route delete {subnet}"))?;
    std::thread::sleep(AWAY);
    node.ip(&format!("route add {route}"))?;
    let back = traffic.elapsed();
    traffic.goes_on()?;
    let report = traffic.stop()?;
    println!("{report}");
    assert!(!report.is_clean());
    let (hit, others): (Vec<_>, Vec<_>) = report.flows.iter().partition(|flow| flow.lost() > 0);
    let ([hit], 5) = (&hit[..], others.len()) else {
        panic!("packets were lost on one way of six: {report}")
    };
    assert_eq!(hit.way.from, cluster.pod(0)?.namespace().name());
    assert!(others.iter().all(|flow| flow.is_clean()), "{report}");
    assert!(
        hit.missing.iter().all(|gap| gap.before >= gone && gap.after <= back),
        "{gone:?} {back:?} {report}"
    );
    assert_eq!(hit.received + hit.lost(), hit.sent, "{report}");
    assert!(report.streams.iter().all(StreamReport::is_clean), "TCP sends again what was lost: {report}");
    Ok(())
}

#[test]
fn nothing_is_lost_where_nothing_happens() -> Result<()> {
    let options = ClusterOptions { nodes: 3, config: DUAL_STACK.to_owned(), ..ClusterOptions::default() };
    let cluster = Cluster::start(&options)?;
    let traffic = Traffic::among(cluster.pods())?;
    std::thread::sleep(WHILE);
    let report = traffic.stop()?;
    println!("{report}");
    report.assert_clean();
    assert_eq!((report.flows.len(), report.streams.len()), (12, 12), "six ways in two families");
    Ok(())
}

#[test]
fn nothing_is_lost_while_plugins_are_swapped() -> Result<()> {
    let options = ClusterOptions { nodes: 3, plugin: Some(plugin("vxlan")?), ..ClusterOptions::default() };
    let cluster = Cluster::start(&options)?;
    let traffic = Traffic::among(cluster.pods())?;
    for round in 0..10 {
        let file = if round % 2 == 0 { component("vxlan-next")? } else { plugin("vxlan")? };
        for node in 0..3 {
            cluster.swap(node, &file)?;
        }
    }
    let report = traffic.stop()?;
    println!("{report}");
    report.assert_clean();
    Ok(())
}

#[test]
fn nothing_is_lost_in_a_tunnel_of_the_daemon_itself() -> Result<()> {
    if let Some(reason) = Backend::Udp.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(());
    }
    let cluster = Cluster::start(&ClusterOptions { nodes: 3, ..ClusterOptions::of(Backend::Udp, true) })?;
    let traffic = Traffic::among(cluster.pods())?;
    std::thread::sleep(WHILE);
    let report = traffic.stop()?;
    println!("{report}");
    report.assert_clean();
    Ok(())
}
