//! Leases that nobody should believe: each costs itself alone, says why, and leaves nothing behind.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use flannel_lab::cluster::{DUAL_STACK, IPV4};
use flannel_lab::hostile_lease::{ADDRESSES, SUBNETS, any, lease, own_prefix};
use flannel_lab::random::Random;
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Cluster, ClusterOptions, Pings, wait};
use serde_json::Value;

/// More than a tick of any kernel's clock.
const TICK: Duration = Duration::from_millis(20);

/// All routes of a node, and its rules' and links' names: what a hostile lease might change.
fn kernel(cluster: &Cluster) -> Result<String> {
    let node = cluster.node(0);
    let parts = ["-4 route show table all", "-6 route show table all", "neigh show nud permanent"];
    let told = parts.iter().map(|part| node.ip(part)).collect::<Result<Vec<_>>>()?.join("\n");
    // The kernel tells neighbours in the order of a hash table, which is another one when there have been many.
    let mut lines: Vec<&str> = told.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// What the first node says of a lease.
pub(crate) fn problems(cluster: &Cluster, lease: &StoredLease) -> Result<Option<Vec<String>>> {
    let status = cluster.status(0)?;
    let subnets = lease.subnets();
    let is_it = |peer: &&Value| {
        let shown = peer["subnets"].as_array().into_iter().flatten();
        shown.filter_map(Value::as_str).eq(subnets.iter().map(String::as_str))
    };
    let peer = status["peers"].as_array().into_iter().flatten().find(is_it);
    let text = |problem: &Value| problem.as_str().unwrap_or_default().to_owned();
    Ok(peer.map(|peer| peer["problems"].as_array().into_iter().flatten().map(text).collect()))
}

/// The first node says that it does not believe a lease.
pub(crate) fn is_refused(cluster: &Cluster, lease: &StoredLease) -> Result<()> {
    let mut last = None;
    let refused = wait::until(&format!("{} is refused", lease.key), || {
        last = problems(cluster, lease)?;
        Ok(last.iter().flatten().find(|problem| problem.contains("not believed")).cloned())
    });
    refused.map(drop).with_context(|| format!("{}: {last:?}", lease.value))
}

fn take_nothing(backend: Backend, etcd: bool) -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions { etcd, ..ClusterOptions::of(backend, true) })?;
    let before = kernel(&cluster)?;
    let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
    let own = own_prefix(&cluster.subnets(0)?);
    let of_subnets = SUBNETS.iter().map(|key| lease(&key.replace("OWN", &own), "192.168.77.99", backend));
    let of_addresses = ADDRESSES.iter().map(|address| lease("10.5.250.0-24", address, backend));
    for hostile in of_subnets.chain(of_addresses) {
        cluster.store().put(&hostile)?;
        is_refused(&cluster, &hostile)?;
        ensure!(kernel(&cluster)? == before, "{hostile:?} changes the kernel");
        cluster.store().remove(&hostile)?;
        wait::until_true("it is forgotten", || Ok(problems(&cluster, &hostile)?.is_none()))?;
    }
    ensure!(kernel(&cluster)? == before);
    pings.lost_nothing()?;
    // At a start, too.
    let hostile: Vec<StoredLease> =
        SUBNETS.iter().map(|key| lease(&key.replace("OWN", &own), "192.168.77.99", backend)).collect();
    hostile.iter().try_for_each(|hostile| cluster.store().put(hostile))?;
    cluster.kill_and_restart(0)?;
    hostile.iter().try_for_each(|hostile| is_refused(&cluster, hostile))?;
    ensure!(kernel(&cluster)? == before);
    // Where the daemon forwards, nobody does while there is none.
    if backend.is_the_daemon() { Ok(()) } else { pings.lost_nothing() }
}

#[test]
fn with_vxlan_leases_that_take_what_is_not_theirs_change_nothing() -> Result<()> {
    take_nothing(Backend::Vxlan, false)
}

#[test]
fn with_host_gw_leases_that_take_what_is_not_theirs_change_nothing() -> Result<()> {
    take_nothing(Backend::HostGw, true)
}

#[test]
fn with_udp_leases_that_take_what_is_not_theirs_change_nothing() -> Result<()> {
    take_nothing(Backend::Udp, false)
}

#[test]
fn of_two_leases_that_overlap_the_older_is_served_also_after_a_restart() -> Result<()> {
    for etcd in [false, true] {
        let mut cluster = Cluster::start(&ClusterOptions { etcd, ..ClusterOptions::default() })?;
        let older = StoredLease { key: "10.5.200.0-24".to_owned(), ..StoredLease::invented(200) };
        let newer = StoredLease { key: "10.5.200.0-23".to_owned(), ..StoredLease::invented(201) };
        cluster.store().put(&older)?;
        wait::until_true("the older is served", || Ok(problems(&cluster, &older)? == Some(Vec::new())))?;
        // Of files that were made between two ticks of the kernel's clock none is the older one.
        std::thread::sleep(TICK);
        cluster.store().put(&newer)?;
        is_refused(&cluster, &newer)?;
        let said = problems(&cluster, &newer)?.unwrap_or_default().join(" ");
        ensure!(said.contains("10.5.200.0/24") && said.contains("192.168.78.200"), "{said}");
        cluster.kill_and_restart(0)?;
        is_refused(&cluster, &newer)?;
        ensure!(problems(&cluster, &older)? == Some(Vec::new()));
        cluster.store().remove(&older)?;
        wait::until_true("the newer is served", || Ok(problems(&cluster, &newer)? == Some(Vec::new())))?;
        wait::until_true("its route is there", || {
            Ok(cluster.node(0).ip("route show 10.5.200.0/23")?.contains("flannel.1"))
        })?;
    }
    Ok(())
}

#[test]
fn many_bad_leases_are_one_line_of_log_and_cost_good_ones_nothing() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterOptions { nodes: 1, etcd: true, ..ClusterOptions::default() })?;
    cluster.take_daemon(0)?.terminate()?;
    let bad = (100..164).map(|n| StoredLease { key: format!("10.5.{n}.9-24"), ..StoredLease::invented(n) });
    let good = (100..250).map(StoredLease::invented);
    bad.chain(good).try_for_each(|lease| cluster.store().put(&lease))?;
    cluster.launch(0)?.wait_ready()?;
    let routes = cluster.node(0).ip("route show")?;
    let served = routes.lines().filter(|line| line.contains("dev flannel.1 onlink")).count();
    ensure!(served == 150, "{served}: {routes}");
    let log = cluster.daemon(0)?.log().lines();
    let warnings: Vec<_> = log.iter().filter(|line| line.message().contains("not believed")).collect();
    let [line] = &warnings[..] else { panic!("{warnings:?}") };
    ensure!(line.number("leases") == Some(64), "{}", line.raw());
    Ok(())
}

#[test]
fn a_route_that_somebody_else_has_made_stays_and_the_peers_comes_when_it_goes() -> Result<()> {
    let cluster =
        Cluster::start(&ClusterOptions { config: DUAL_STACK.to_owned(), ..ClusterOptions::default() })?;
    let node = cluster.node(0);
    for (route, show) in [
        ("route add 10.5.200.0/24 via 192.168.77.12", "route show 10.5.200.0/24"),
        ("-6 route add fc00:5:0:c8::/64 via fd77::12", "-6 route show fc00:5:0:c8::/64"),
    ] {
        node.ip(route)?;
        let peer = lease("10.5.200.0-24&fc00:5:0:c8::-64", "192.168.78.200", Backend::Vxlan);
        let before = node.ip(show)?;
        cluster.store().put(&peer)?;
        wait::until_true("it is said", || {
            Ok(problems(&cluster, &peer)?
                .is_some_and(|said| said.iter().any(|said| said.contains("in the way"))))
        })?;
        ensure!(node.ip(show)? == before);
        node.ip(&route.replace("add", "del"))?;
        wait::until_true("the peer's is there", || Ok(node.ip(show)?.contains("flannel")))?;
        wait::until_true("nothing is wrong", || Ok(problems(&cluster, &peer)? == Some(Vec::new())))?;
        cluster.store().remove(&peer)?;
        wait::until_true("it is gone", || Ok(node.ip(show)?.is_empty()))?;
    }
    Ok(())
}

#[test]
fn an_address_that_the_node_gets_is_not_a_peers_any_more_and_is_again_when_it_goes() -> Result<()> {
    let cluster = Cluster::start(&ClusterOptions::default())?;
    let peer = StoredLease::invented(200);
    cluster.store().put(&peer)?;
    let served = || Ok(problems(&cluster, &peer)? == Some(Vec::new()));
    wait::until_true("it is served", served)?;
    let node = cluster.node(0);
    node.ip("link add other type veth peer name further")?;
    node.ip("link set other up")?;
    node.ip("address add 10.5.200.130/26 dev other")?;
    is_refused(&cluster, &peer)?;
    wait::until_true("its route is gone", || Ok(node.ip("route show 10.5.200.0/24")?.is_empty()))?;
    ensure!(node.ip("route show 10.5.200.128/26")?.contains("dev other"));
    node.ip("link del other")?;
    wait::until_true("it is served again", served).map(drop)
}

#[test]
fn leases_of_a_network_that_was_the_clusters_before_are_served_and_nothing_old_is_a_source() -> Result<()> {
    let mut cluster =
        Cluster::start(&ClusterOptions { config: IPV4.to_owned(), ..ClusterOptions::default() })?;
    let old_lease = cluster.lease(1)?;
    cluster.take_daemon(0)?.terminate()?;
    cluster.store().put_config(&IPV4.replace("10.5.0.0", "10.6.0.0"))?;
    cluster.launch(0)?.wait_ready()?;
    let node = cluster.node(0);
    let subnet = &old_lease.subnets()[0];
    ensure!(problems(&cluster, &old_lease)? == Some(Vec::new()), "{:?}", cluster.status(0)?["peers"]);
    ensure!(node.ip(&format!("route show {subnet}"))?.contains("flannel.1"));
    let addresses = node.ip("-brief -4 address show dev flannel.1")?;
    ensure!(addresses.contains("10.6.") && !addresses.contains("10.5."), "{addresses}");
    // Once more: what is in a former network is known as ours.
    cluster.take_daemon(0)?.terminate()?;
    cluster.take_daemon(1)?.terminate()?;
    cluster.store().remove(&old_lease)?;
    cluster.launch(0)?.wait_ready()?;
    let node = cluster.node(0);
    wait::until_true("a stale route in a former network goes", || {
        Ok(node.ip(&format!("route show {subnet}"))?.is_empty())
    })
    .map(drop)
    .with_context(|| node.ip("route show").unwrap_or_default())
    .with_context(|| format!("{:?}", cluster.status(0)))
}

#[test]
fn a_node_that_never_saw_a_former_network_serves_its_leases_if_the_operator_names_it() -> Result<()> {
    let config = IPV4.replace("10.5.0.0", "10.6.0.0");
    let mut cluster = Cluster::start(&ClusterOptions { nodes: 1, config, ..ClusterOptions::default() })?;
    let old = StoredLease::invented(200);
    cluster.store().put(&old)?;
    is_refused(&cluster, &old)?;
    cluster.take_daemon(0)?.terminate()?;
    cluster.add_arguments(&["--former-network=10.5.0.0/16"]);
    cluster.launch(0)?.wait_ready()?;
    ensure!(problems(&cluster, &old)? == Some(Vec::new()), "{:?}", cluster.status(0)?["peers"]);
    ensure!(cluster.node(0).ip("route show 10.5.200.0/24")?.contains("flannel.1"));
    Ok(())
}

#[test]
fn whatever_leases_come_and_go_what_was_there_stays_and_good_peers_are_served() -> Result<()> {
    let mut random = Random::from_environment()?;
    for etcd in [false, true] {
        let mut cluster =
            Cluster::start(&ClusterOptions { etcd, ..ClusterOptions::of(Backend::Vxlan, true) })?;
        let node = cluster.node(0);
        for theirs in [
            "10.5.222.0/24 via 192.168.77.77",
            "172.16.0.0/12 via 192.168.77.1",
            "fc00:5:0:ff::/64 via fd77::12",
        ] {
            node.ip(&format!("route add {theirs}"))?;
        }
        let good: Vec<StoredLease> = (110..115).map(StoredLease::invented).collect();
        good.iter().try_for_each(|lease| cluster.store().put(lease))?;
        let served = |cluster: &Cluster| {
            good.iter().try_fold(true, |all, lease| Ok(all && problems(cluster, lease)? == Some(Vec::new())))
        };
        wait::until_true("good peers are served", || served(&cluster))?;
        let before = kernel(&cluster)?;
        let own = own_prefix(&cluster.subnets(0)?);
        let pings = Pings::start(cluster.pod(0)?, cluster.pod(1)?)?;
        let mut written: Vec<StoredLease> = Vec::new();
        for round in 0..60 {
            if random.below(3) == 0 && !written.is_empty() {
                let gone = written.swap_remove(random.below(written.len()));
                cluster.store().remove(&gone)?;
                written.retain(|lease| lease.key != gone.key);
            } else {
                let lease = any(&mut random, &own);
                cluster.store().put(&lease)?;
                written.retain(|other| other.key != lease.key);
                written.push(lease);
            }
            if round % 10 == 9 {
                let now = kernel(&cluster)?;
                let lost: Vec<&str> = before.lines().filter(|line| !now.contains(line)).collect();
                ensure!(lost.is_empty(), "{random}: gone are {lost:#?}; there are {written:#?}");
                wait::until_true("good peers are served", || served(&cluster))
                    .with_context(|| random.to_string())?;
            }
            if round == 30 {
                cluster.kill_and_restart(0)?;
            }
        }
        written.iter().try_for_each(|lease| cluster.store().remove(lease))?;
        wait::until_equal("nothing is left of them", || {
            let now = kernel(&cluster)?;
            Ok((now != before).then(|| format!("{random}:\n{now}\ninstead of\n{before}")))
        })?;
        pings.lost_nothing()?;
    }
    Ok(())
}
