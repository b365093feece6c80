//! Hosts of the underlay that have no lease, and send into the nodes' tunnels all the same.

use anyhow::{Context, Result, ensure};
use flannel_lab::datagram::{self, Outcome};
use flannel_lab::store::StoredLease;
use flannel_lab::{Backend, Cluster, ClusterOptions, Node, Place, wait};

/// The addresses that a stranger takes for itself inside of the tunnel: some in the cluster network, as a pod's would be.
const INNER: [&str; 2] = ["10.5.200.1", "fc00:5:0:200::1"];
const MAC: &str = "9e:00:00:00:00:c8";

/// A cluster, and a host without a daemon, set up to send to the first node as if it were one. `None`: this kernel has no such tunnel.
fn cluster(backend: Backend, etcd: bool, arguments: &[&str]) -> Result<Option<(Cluster, usize)>> {
    if let Some(reason) = backend.missing()? {
        flannel_test_support::skip(reason);
        return Ok(None);
    }
    // The kernel's IPIP carries IPv4.
    let ipv6 = backend == Backend::Vxlan;
    let mut cluster = Cluster::prepare(&ClusterOptions { etcd, ..ClusterOptions::of(backend, ipv6) })?;
    cluster.add_arguments(arguments);
    cluster.bring_up()?;
    let stranger = cluster.add_node(Place::Near)?;
    let lease = cluster.lease(0)?;
    let node = cluster.node(stranger);
    if backend == Backend::Vxlan {
        for (vtep, inner) in lease.vteps()?.iter().zip(INNER) {
            let (device, next, local) = (vtep.device, &vtep.address, own_address(node, inner)?);
            let length = if inner.contains(':') { 128 } else { 32 };
            node.ip(&format!("link add {device} type vxlan id 1 dstport 8472 nolearning local {local}"))?;
            node.ip(&format!("link set {device} address {MAC} up"))?;
            node.ip(&format!("address add {inner}/{length} dev {device} nodad"))?;
            node.ip(&format!("neighbour add {next} lladdr {} dev {device}", vtep.mac))?;
            node.bridge(&format!("fdb add {} dst {} dev {device}", vtep.mac, vtep.public_ip))?;
            node.ip(&format!("route add {} via {next} dev {device} onlink src {inner}", vtep.subnet))?;
        }
    } else {
        let (to, local) = (cluster.node(0).address(), node.address());
        node.ip(&format!("link add tunnel0 type ipip local {local} remote {to}"))?;
        node.ip("link set tunnel0 up")?;
        node.ip(&format!("address add {}/32 dev tunnel0", INNER[0]))?;
        for subnet in lease.subnets() {
            node.ip(&format!("route add {subnet} dev tunnel0 src {}", INNER[0]))?;
        }
    }
    Ok(Some((cluster, stranger)))
}

fn own_address(node: &Node, like: &str) -> Result<String> {
    if like.contains(':') {
        Ok(node.address_v6().context("an IPv6 address")?.to_string())
    } else {
        Ok(node.address().to_string())
    }
}

/// What becomes of a stranger's datagrams to the first node's pod, for each family.
fn sends(cluster: &Cluster, stranger: usize) -> Result<Vec<Outcome>> {
    let (from, pod) = (cluster.node(stranger).namespace(), cluster.pod(0)?);
    pod.addresses().into_iter().map(|address| datagram::send(from, pod.namespace(), address)).collect()
}

fn all_lost(cluster: &Cluster, stranger: usize) -> Result<bool> {
    Ok(sends(cluster, stranger)?.iter().all(|outcome| *outcome == Outcome::Lost))
}

fn none_lost(cluster: &Cluster, stranger: usize) -> Result<bool> {
    Ok(!sends(cluster, stranger)?.contains(&Outcome::Lost))
}

/// A lease with which the stranger is none any more.
fn lease(cluster: &Cluster, stranger: usize) -> Result<StoredLease> {
    let node = cluster.node(stranger);
    let (v4, data) = (node.address(), format!(r#"{{"VNI":1,"VtepMAC":"{MAC}"}}"#));
    Ok(if cluster.backend() == Backend::Vxlan {
        let v6 = node.address_v6().context("an IPv6 address")?;
        StoredLease {
            key: "10.5.200.0-24&fc00:5:0:200::-64".to_owned(),
            value: format!(
                r#"{{"PublicIP":"{v4}","PublicIPv6":"{v6}","BackendType":"vxlan","BackendData":{data},"BackendV6Data":{data}}}"#
            ),
        }
    } else {
        StoredLease {
            key: "10.5.200.0-24".to_owned(),
            value: format!(
                r#"{{"PublicIP":"{v4}","PublicIPv6":null,"BackendType":"ipip","BackendData":null}}"#
            ),
        }
    })
}

fn only_who_has_a_lease_reaches_pods(backend: Backend, etcd: bool) -> Result<()> {
    let Some((cluster, stranger)) = cluster(backend, etcd, &[])? else { return Ok(()) };
    cluster.pod(0)?.reaches(cluster.pod(1)?)?;
    ensure!(all_lost(&cluster, stranger)?, "{:?}", sends(&cluster, stranger)?);
    wait::until_true("they are counted", || {
        Ok(cluster.status(0)?["firewall"]["sources"]["dropped"].as_u64() > Some(0))
    })?;
    let lease = lease(&cluster, stranger)?;
    cluster.store().put(&lease)?;
    wait::until_true("a node reaches pods", || none_lost(&cluster, stranger))?;
    let answered = |outcome: &Outcome| matches!(outcome, Outcome::Answered { .. });
    wait::until_true("and is answered", || Ok(sends(&cluster, stranger)?.iter().all(answered)))?;
    cluster.store().remove(&lease)?;
    wait::until_true("who was one reaches none", || all_lost(&cluster, stranger))?;
    cluster.pod(0)?.reaches(cluster.pod(1)?)
}

#[test]
fn only_who_has_a_lease_in_etcd_reaches_pods_by_vxlan() -> Result<()> {
    only_who_has_a_lease_reaches_pods(Backend::Vxlan, true)
}

#[test]
fn only_who_has_a_lease_in_a_directory_reaches_pods_by_vxlan() -> Result<()> {
    only_who_has_a_lease_reaches_pods(Backend::Vxlan, false)
}

#[test]
fn only_who_has_a_lease_reaches_pods_by_ipip() -> Result<()> {
    only_who_has_a_lease_reaches_pods(Backend::Ipip, false)
}

#[test]
fn where_the_operator_has_it_so_or_makes_the_rules_tunnels_are_open() -> Result<()> {
    for arguments in
        [&["--tunnel-source-check=false"][..], &["--ip-masq=false", "--iptables-forward-rules=false"]]
    {
        let Some((cluster, stranger)) = cluster(Backend::Vxlan, false, arguments)? else { return Ok(()) };
        ensure!(none_lost(&cluster, stranger)?, "{arguments:?}: {:?}", sends(&cluster, stranger)?);
        let rules = cluster.node(0).namespace().tool("nft", "list ruleset")?;
        ensure!(!rules.contains("flannel-tunnels"), "{arguments:?}: {rules}");
    }
    Ok(())
}

/// So that upstream's daemon in this one's place, which knows nothing of it, lets new nodes in.
#[test]
fn the_filter_goes_with_the_daemon_however_it_ends_and_comes_with_it() -> Result<()> {
    let Some((mut cluster, stranger)) = cluster(Backend::Vxlan, false, &[])? else { return Ok(()) };
    cluster.take_daemon(0)?.kill9();
    wait::until_true("killed", || none_lost(&cluster, stranger))?;
    cluster.launch(0)?.wait_ready()?;
    wait::until_true("it is back", || all_lost(&cluster, stranger))?;
    cluster.take_daemon(0)?.terminate()?;
    wait::until_true("terminated", || none_lost(&cluster, stranger)).map(drop)
}

/// A node that is known by an address and sends from another one is told of.
#[test]
fn a_node_that_sends_from_another_address_than_it_publishes_is_a_stranger_and_the_log_says_what_to_do()
-> Result<()> {
    let Some((mut cluster, stranger)) = cluster(Backend::Vxlan, false, &[])? else { return Ok(()) };
    let mut lease = lease(&cluster, stranger)?;
    lease.value = lease.value.replace(&cluster.node(stranger).address().to_string(), "192.168.77.250");
    cluster.store().put(&lease)?;
    let of_family = |outcomes: Vec<Outcome>| (outcomes[0] == Outcome::Lost, outcomes[1] == Outcome::Lost);
    wait::until_true("one of its families is lost", || {
        Ok(of_family(sends(&cluster, stranger)?) == (true, false))
    })?;
    let hint = "--tunnel-source-check=false";
    cluster.daemon(0)?.wait_log(hint, |line| line.raw().contains(hint)).map(drop)
}
