//! Upstream's nodes in the same cluster: they know nothing of generations, and change by a restart, one after the other.

use anyhow::{Context, Result, ensure};
use flannel_lab::change::{self, Ground, Moment};
use flannel_lab::reference::{self, Reference};
use flannel_lab::{Backend, Cluster, ClusterOptions, Traffic, wait};

use super::{Families, HOST_GW, VXLAN, nothing_is_lost, peer, start, stays, wait_reached_by};

/// The node that is upstream's, as far as anybody can tell: it has what our daemon has left there, which is what upstream would have, and no
/// daemon. Upstream's ignores leases of another type, and removes nothing of what it has programmed.
const THEIRS: usize = 2;

fn ours_changed(cluster: &mut Cluster, to: &str) -> Result<()> {
    cluster.take_daemon(THEIRS)?.kill9();
    change::put(cluster, to)?;
    Moment::Main.wait(cluster, 0)?;
    Moment::Main.wait(cluster, 1)?;
    let former = if to == HOST_GW { "vxlan" } else { "host-gw" };
    stays(cluster, |cluster| Ok(peer(cluster, 0, THEIRS)?["generation"] == former))
}

/// What its daemon publishes when it has been restarted.
fn publishes(cluster: &Cluster, value: &str) -> Result<()> {
    let mut lease = cluster.lease(THEIRS)?;
    lease.value = format!(r#"{{"PublicIP":"{}","PublicIPv6":null,{value}}}"#, cluster.node(THEIRS).address());
    cluster.store().put(&lease)
}

#[test]
fn a_node_of_upstreams_that_is_restarted_into_host_gw_loses_nothing() -> Result<()> {
    let ground = Ground::default();
    let mut cluster = start(&ground, VXLAN)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        ours_changed(cluster, HOST_GW)?;
        publishes(cluster, r#""BackendType":"host-gw""#)?;
        traffic.goes_on()?;
        for other in 0..THEIRS {
            let (subnet, address) = (cluster.subnets(other)?.remove(0), cluster.node(other).address());
            cluster.node(THEIRS).ip(&format!("route replace {subnet} via {address} dev eth0"))?;
        }
        change::wait_at_rest(cluster, HOST_GW).map(drop)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

#[test]
fn a_node_of_upstreams_that_is_restarted_into_vxlan_loses_nothing() -> Result<()> {
    const MAC: &str = "9e:00:00:00:00:77";
    let ground = Ground::default();
    let mut cluster = start(&ground, HOST_GW)?;
    nothing_is_lost(&mut cluster, |cluster, traffic| {
        ours_changed(cluster, VXLAN)?;
        let (node, own) = (cluster.node(THEIRS), cluster.subnets(THEIRS)?.remove(0));
        let own = own.split('/').next().context("its subnet")?.to_owned();
        node.ip(&format!(
            "link add flannel.1 address {MAC} mtu 1450 type vxlan id 1 dev eth0 local {} dstport 8472 nolearning",
            node.address()
        ))?;
        node.ip(&format!("address add {own}/32 dev flannel.1"))?;
        node.ip("link set flannel.1 up")?;
        publishes(cluster, &format!(r#""BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{MAC}"}}"#))?;
        traffic.goes_on()?;
        for other in 0..THEIRS {
            let lease: serde_json::Value = serde_json::from_str(&cluster.lease(other)?.value)?;
            let mac = lease["BackendData"]["VtepMAC"].as_str().context("a VTEP's address")?.to_owned();
            let (subnet, address) = (cluster.subnets(other)?.remove(0), cluster.node(other).address());
            let gateway = subnet.split('/').next().context("a subnet")?.to_owned();
            node.ip(&format!("neigh replace {gateway} lladdr {mac} dev flannel.1 nud permanent"))?;
            node.bridge(&format!("fdb append {mac} dev flannel.1 dst {address}"))?;
            node.ip(&format!("route replace {subnet} via {gateway} dev flannel.1 onlink"))?;
        }
        change::wait_at_rest(cluster, VXLAN).map(drop)
    })?;
    change::is_as_if_started_so(&cluster, &ground)
}

/// Nodes with ours and as many with upstream's own daemon, which are restarted one by one when ours have changed.
fn restarted_one_by_one(from: &str, to: &str) -> Result<()> {
    const OURS: usize = 2;
    const ALL: usize = 4;
    let Some(program) = reference::program() else {
        flannel_test_support::skip(format_args!("{} names no upstream flanneld", reference::VARIABLE));
        return Ok(());
    };
    let ground = Ground::default();
    // With iptables upstream does not start without the module br_netfilter.
    let config = Families::V4.config(from).replacen('{', r#"{"EnableNFTables":true,"#, 1);
    let backend: Backend = change::type_of(from)?.parse().map_err(anyhow::Error::msg)?;
    let options = ClusterOptions { nodes: ALL, backend, config, etcd: true, ..ClusterOptions::default() };
    let mut cluster = ground.prepare(&options)?;
    let mut theirs = Vec::new();
    for index in 0..ALL {
        if index < OURS {
            cluster.launch(index)?.wait_ready()?;
        } else {
            let mut reference = Reference::start(&program, cluster.node(index), cluster.store())?;
            reference.wait_ready()?;
            theirs.push(reference);
        }
    }
    cluster.wait_converged()?;
    cluster.wire_pods()?;
    let pods: Vec<_> = cluster.pods().collect();
    let with_ours = pods.iter().enumerate().flat_map(|(one, from)| {
        let others =
            pods.iter().enumerate().filter(move |(other, _)| one != *other && one.min(*other) < OURS);
        others.map(move |(_, to)| (*from, *to))
    });
    let traffic = Traffic::start(with_ours)?;
    change::put(&cluster, to)?;
    for index in 0..OURS {
        Moment::Main.wait(&cluster, index)?;
    }
    wait_reached_by(&cluster, 0, 1, &change::type_of(to)?)?;
    let mut gaps = Vec::new();
    for (reference, index) in theirs.drain(..).zip(OURS..).collect::<Vec<_>>() {
        let begin = traffic.elapsed();
        reference.terminate()?;
        let mut again = Reference::start(&program, cluster.node(index), cluster.store())?;
        again.wait_ready()?;
        wait::until_true("ours reach it by the new backend", || {
            let generation = peer(&cluster, 0, index)?["generation"].clone();
            Ok(generation.is_null() || generation == change::type_of(to)?)
        })?;
        traffic.goes_on()?;
        gaps.push((index, begin, traffic.elapsed()));
        theirs.push(again);
    }
    change::wait_at_rest(&mut cluster, to)?;
    let report = traffic.stop()?;
    println!("{report}");
    for flow in report.flows.iter().filter(|flow| !flow.is_clean()) {
        let is_its_own_gap = |(index, begin, end): &(usize, _, _)| {
            let name = cluster.pod(*index).map(|pod| pod.namespace().name().to_owned()).unwrap_or_default();
            (flow.way.from == name || flow.way.to == name)
                && flow.missing.iter().all(|gap| gap.before >= *begin && gap.after <= *end)
        };
        ensure!(gaps.iter().any(is_its_own_gap), "{report}\n{}", change::describe(&cluster));
    }
    Ok(())
}

#[test]
fn upstreams_nodes_that_are_restarted_into_host_gw_one_by_one_cost_ours_nothing() -> Result<()> {
    restarted_one_by_one(VXLAN, HOST_GW)
}

#[test]
fn upstreams_nodes_that_are_restarted_into_vxlan_one_by_one_cost_ours_nothing() -> Result<()> {
    restarted_one_by_one(HOST_GW, VXLAN)
}
