//! IPIP: who is reached through the device and who by a plain route, and what becomes of that when it changes.

use std::time::Duration;

use anyhow::Result;
use flannel_lab::netlink_monitor::Watcher;
use flannel_lab::{Backend, Cluster, ClusterOptions, Pings, Place};

/// Two nodes are near, and this one is behind the router.
const FAR: usize = 2;

/// A network config that says whether nodes on the same link do without the device.
fn config(direct: bool) -> String {
    let options = format!(r#""Type":"ipip","DirectRouting":{direct}"#);
    Backend::Ipip.config(false).replace(r#""Type":"ipip""#, &options)
}

/// A cluster with a far node, or none, with a reason on standard output, where this kernel cannot have it.
fn cluster(direct: bool) -> Result<Option<Cluster>> {
    if let Some(reason) = Backend::Ipip.missing()? {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let options = ClusterOptions { config: config(direct), ..ClusterOptions::of(Backend::Ipip, false) };
    let mut cluster = Cluster::prepare(&options)?;
    assert_eq!(cluster.add_node(Place::Far)?, FAR);
    cluster.bring_up()?;
    Ok(Some(cluster))
}

/// The only routes that each node has are one to each peer: plain to a near one if that is asked for, else through the device.
fn has_exactly_the_routes(cluster: &Cluster, direct: bool) -> Result<()> {
    for index in 0..=FAR {
        let mut wanted = Vec::new();
        for peer in (0..=FAR).filter(|peer| *peer != index) {
            let (subnet, public) = (cluster.subnets(peer)?.remove(0), cluster.node(peer).address());
            let on_link = index != FAR && peer != FAR;
            let device = if direct && on_link { "eth0" } else { "flannel.ipip onlink" };
            wanted.push(format!("{subnet} via {public} dev {device}"));
        }
        wanted.sort();
        assert_eq!(cluster.state(index)?.routes, wanted, "node {index}");
    }
    Ok(())
}

/// Small and full-size packets pass from each pod to each other.
fn all_reach_each_other(cluster: &Cluster) -> Result<()> {
    for from in 0..=FAR {
        for to in (0..=FAR).filter(|to| *to != from) {
            cluster.pod(from)?.reaches(cluster.pod(to)?)?;
        }
    }
    cluster.pod(0)?.is_told_what_is_too_large(cluster.pod(FAR)?)
}

#[test]
fn all_nodes_are_reached_through_the_device() -> Result<()> {
    let Some(cluster) = cluster(false)? else { return Ok(()) };
    has_exactly_the_routes(&cluster, false)?;
    all_reach_each_other(&cluster)
}

#[test]
fn with_direct_routing_only_nodes_behind_a_router_are_reached_through_the_device() -> Result<()> {
    let Some(cluster) = cluster(true)? else { return Ok(()) };
    has_exactly_the_routes(&cluster, true)?;
    all_reach_each_other(&cluster)
}

/// Direct routing is switched between two starts of the daemons, and what was there before goes.
fn only_the_new_routes_are_left(before: bool) -> Result<()> {
    let Some(mut cluster) = cluster(before)? else { return Ok(()) };
    has_exactly_the_routes(&cluster, before)?;
    cluster.store().put_config(&config(!before))?;
    for index in 0..=FAR {
        cluster.kill_and_restart(index)?;
    }
    has_exactly_the_routes(&cluster, !before)?;
    all_reach_each_other(&cluster)
}

#[test]
fn direct_routing_that_is_switched_on_leaves_only_the_new_routes() -> Result<()> {
    only_the_new_routes_are_left(false)
}

#[test]
fn direct_routing_that_is_switched_off_leaves_only_the_new_routes() -> Result<()> {
    only_the_new_routes_are_left(true)
}

#[test]
fn a_restart_changes_nothing_of_direct_routes_and_of_those_through_the_device() -> Result<()> {
    let Some(mut cluster) = cluster(true)? else { return Ok(()) };
    let pings = [
        Pings::start(cluster.pod(0)?, cluster.pod(1)?)?,
        Pings::start(cluster.pod(0)?, cluster.pod(FAR)?)?,
        Pings::start(cluster.pod(FAR)?, cluster.pod(1)?)?,
    ];
    for index in [0, FAR] {
        let (state, lease) = (cluster.state(index)?, cluster.lease(index)?);
        let watcher = Watcher::start(cluster.node(index))?;
        let ready = cluster.kill_and_restart(index)?;
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(ready.line.number("netlink_messages"), Some(0), "{}", ready.line.raw());
        let told: Vec<String> = watcher.ours()?.iter().map(ToString::to_string).collect();
        assert!(told.is_empty(), "node {index}:\n{}", told.join("\n"));
        assert_eq!(state.difference(&cluster.state(index)?), None);
        assert_eq!(cluster.lease(index)?, lease);
    }
    pings.iter().try_for_each(Pings::lost_nothing)
}
