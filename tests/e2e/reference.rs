//! Upstream's own daemon and ours in one cluster: each understands the other's leases, and takes the other's place.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flannel_lab::log::Log;
use flannel_lab::reference::{self, Reference};
use flannel_lab::state::KernelState;
use flannel_lab::{Backend, Cluster, ClusterOptions, Pings, Place, control_plane, wait};
use regex::Regex;

/// The node with ours throughout.
const OURS: usize = 0;
/// The node whose daemon changes: from upstream's to ours, and back.
const CHANGING: usize = 1;
/// The node with upstream's throughout.
const UPSTREAMS: usize = 2;

/// What differs from node to node in a lease.
const OWN_VALUES: &str = r#""(PublicIP|PublicIPv6|VtepMAC|PublicKey)":"[^"]+""#;

/// With `DirectRouting` only nodes behind the router are reached through the tunnel.
const DIRECT_ROUTING: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRouting":true}}"#;

struct Mixed {
    /// Upstream's daemons, by node; none: ours.
    references: [Option<Reference>; 3],
    cluster: Cluster,
    program: PathBuf,
}

/// A cluster with ours on the first node and upstream's on two others, or none, with a reason on standard output, where there can be
/// none.
fn mixed(options: &ClusterOptions, last: Place) -> Result<Option<Mixed>> {
    let Some(program) = reference::program() else {
        flannel_test_support::skip(format_args!("{} names no upstream flanneld", reference::VARIABLE));
        return Ok(None);
    };
    let plane = if options.kubernetes { control_plane::missing()? } else { None };
    if let Some(reason) = options.backend.missing()?.or(plane) {
        flannel_test_support::skip(&reason);
        return Ok(None);
    }
    let mut cluster = Cluster::prepare(options)?;
    cluster.add_node(last)?;
    let (variable, file) = reference::KEY_FILE;
    cluster.set_options(cluster.options().clone().env(variable, file));
    Ok(Some(Mixed { references: [None, None, None], cluster, program }))
}

impl Mixed {
    fn prove(&mut self) -> Result<()> {
        self.cluster.launch(OURS)?;
        self.start_upstreams(CHANGING)?;
        self.start_upstreams(UPSTREAMS)?;
        self.cluster.daemon(OURS)?.wait_ready()?;
        self.cluster.wait_converged()?;
        self.cluster.wire_pods()?;
        self.wait_pods_reach_each_other().context("ours beside upstream's")?;
        self.files_and_leases_are_alike()?;
        let of_others = |index| Pings::start(self.cluster.pod(index)?, self.cluster.pod(CHANGING)?);
        let pings = [of_others(OURS)?, of_others(UPSTREAMS)?];
        let entries = self.entries()?;

        self.references[CHANGING].take().context("upstream's")?.terminate()?;
        self.takes_over(&pings, &entries, Self::start_ours).context("ours in the place of upstream's")?;
        self.cluster.take_daemon(CHANGING)?.terminate()?;
        self.takes_over(&pings, &entries, Self::start_upstreams)
            .context("upstream's in the place of ours")?;
        // What is killed cleans nothing up.
        drop(self.references[CHANGING].take());
        self.takes_over(&pings, &entries, Self::start_ours).context("ours after upstream's was killed")?;
        self.cluster.take_daemon(CHANGING)?.kill9();
        self.takes_over(&pings, &entries, Self::start_upstreams).context("upstream's after ours was killed")
    }

    fn start_ours(&mut self, index: usize) -> Result<()> {
        self.cluster.launch(index)?.wait_ready()?;
        self.cluster.wait_converged().map(drop)
    }

    fn start_upstreams(&mut self, index: usize) -> Result<()> {
        let reference = Reference::start(&self.program, self.cluster.node(index), self.cluster.store())?;
        self.references[index].insert(reference).wait_ready()
    }

    /// A node whose daemon has ended has another one: with the same lease and the same entries, and where it is the kernel that forwards,
    /// no packet was lost.
    fn takes_over(
        &mut self,
        pings: &[Pings],
        entries: &KernelState,
        start: impl FnOnce(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        let (file, lease) = (self.cluster.node(CHANGING).subnet_env()?, self.cluster.lease(CHANGING)?);
        start(self, CHANGING)?;
        self.wait_pods_reach_each_other()?;
        wait::until_equal("the kernel has the same entries", || Ok(entries.difference(&self.entries()?)))?;
        let now = self.cluster.node(CHANGING).subnet_env()?;
        ensure!(now == file, "its subnet file was {file:?}, and is {now:?}");
        let now = self.cluster.lease(CHANGING)?;
        ensure!(now == lease, "its lease was {lease:?}, and is {now:?}");
        if self.forwarding_outlives_daemons() {
            pings.iter().try_for_each(Pings::lost_nothing)?;
        }
        Ok(())
    }

    /// What the kernel of the node whose daemon changes has, but for the devices themselves, of which either keeps what it finds; and for
    /// the scope of routes over a device alone, which differs from backend to backend of upstream's, and from ours with udp. Where upstream
    /// removes its device, ours gives a new one's IPv6 address without looking for duplicates, so that it serves at once. Beside the TUN device
    /// that ours leaves upstream makes another one, with the same address and a route that comes first.
    fn entries(&self) -> Result<KernelState> {
        let state = self.cluster.state(CHANGING)?;
        let other_tun = Regex::new(r"\bflannel[0-9]+\b")?;
        let shown = |lines: Vec<String>| {
            let shown = lines.into_iter().map(|mut line| {
                for own in [" scope link", " metric 100", " linkdown", " nodad", " noprefixroute"] {
                    line = line.replace(own, "");
                }
                other_tun.replace_all(&line, "flannel0").into_owned()
            });
            let shown: BTreeSet<String> = shown.collect();
            shown.into_iter().collect()
        };
        let (routes, addresses) = (shown(state.routes), shown(state.addresses));
        Ok(KernelState { links: Vec::new(), routes, addresses, neighbours: state.neighbours, fdb: state.fdb })
    }

    /// Upstream removes WireGuard's devices when it ends.
    fn forwarding_outlives_daemons(&self) -> bool {
        !matches!(self.cluster.backend(), Backend::Wireguard | Backend::Udp)
    }

    /// Waits until all pods reach each other, and then they do so with small and full-size packets.
    fn wait_pods_reach_each_other(&self) -> Result<()> {
        for from in self.cluster.pods() {
            for to in self.cluster.pods().filter(|to| to.addresses() != from.addresses()) {
                let what = || format!("from {} to {:?}", from.namespace().name(), to.addresses());
                Pings::start(from, to)?.wait_answered().with_context(what)?;
                from.reaches(to)?;
            }
        }
        Ok(())
    }

    /// But for a node's own subnets, addresses and keys, subnet files and leases are the same, byte for byte.
    fn files_and_leases_are_alike(&self) -> Result<()> {
        let own = Regex::new(OWN_VALUES)?;
        let of = |index: usize| -> Result<(String, String)> {
            let env = self.cluster.node(index).subnet_env()?.context("a subnet file")?;
            let shared = |line: &&str| !line.contains("_SUBNET=");
            let file: Vec<&str> = env.text.lines().filter(shared).collect();
            let lease = self.cluster.lease(index)?;
            Ok((file.join("\n"), own.replace_all(&lease.value, r#""$1":"…""#).into_owned()))
        };
        let (ours, upstreams) = (of(OURS)?, of(UPSTREAMS)?);
        ensure!(ours == upstreams, "ours: {ours:#?}\nupstream's: {upstreams:#?}");
        Ok(())
    }

    /// What all daemons have said last, for people, and what the kernels have.
    fn story(&self) -> String {
        let nodes = (OURS..=UPSTREAMS).map(|index| {
            let node = self.cluster.node(index);
            let state =
                self.cluster.state(index).map_or_else(|error| format!("{error:#}"), |s| s.to_string());
            let said = |log: &str| Log::whole(&node.directory().join(log)).tail();
            format!(
                "{}:\n{state}ours: {}\nupstream's: {}\n",
                node.name(),
                said("flanneld.log"),
                said(reference::LOG)
            )
        });
        nodes.collect()
    }
}

fn side_by_side(backend: Backend, config: &str, last: Place, kubernetes: bool) -> Result<()> {
    // With iptables upstream does not start without the module br_netfilter.
    let config = config.replacen('{', r#"{"EnableNFTables":true,"#, 1);
    let options =
        ClusterOptions { backend, config, kubernetes, etcd: !kubernetes, ..ClusterOptions::default() };
    let Some(mut mixed) = mixed(&options, last)? else { return Ok(()) };
    mixed.prove().with_context(|| mixed.story())
}

fn neighbours(backend: Backend, ipv6: bool) -> Result<()> {
    side_by_side(backend, &backend.config(ipv6), Place::Near, false)
}

fn neighbours_in_kubernetes(backend: Backend, ipv6: bool) -> Result<()> {
    side_by_side(backend, &backend.config(ipv6), Place::Near, true)
}

#[test]
fn with_vxlan_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    neighbours(Backend::Vxlan, false)
}

#[test]
fn with_vxlan_of_both_families_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    neighbours(Backend::Vxlan, true)
}

#[test]
fn with_direct_routing_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    side_by_side(Backend::Vxlan, DIRECT_ROUTING, Place::Far, false)
}

#[test]
fn with_host_gw_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    neighbours(Backend::HostGw, false)
}

#[test]
fn with_udp_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    neighbours(Backend::Udp, false)
}

#[test]
fn with_ipip_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    neighbours(Backend::Ipip, false)
}

#[test]
fn with_wireguard_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()> {
    neighbours(Backend::Wireguard, false)
}

#[test]
fn with_wireguard_of_both_families_upstreams_nodes_and_ours_are_one_cluster_and_change_places() -> Result<()>
{
    neighbours(Backend::Wireguard, true)
}

#[test]
fn with_vxlan_and_leases_in_kubernetes_upstreams_nodes_and_ours_are_one_cluster_and_change_places()
-> Result<()> {
    neighbours_in_kubernetes(Backend::Vxlan, false)
}

#[test]
fn with_vxlan_of_both_families_and_leases_in_kubernetes_upstreams_nodes_and_ours_are_one_cluster_and_change_places()
-> Result<()> {
    neighbours_in_kubernetes(Backend::Vxlan, true)
}

#[test]
fn with_host_gw_and_leases_in_kubernetes_upstreams_nodes_and_ours_are_one_cluster_and_change_places()
-> Result<()> {
    neighbours_in_kubernetes(Backend::HostGw, false)
}
