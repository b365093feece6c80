//! A node that has less than its cluster: one family of two, or no peers yet. The API server is an imitation, beside the daemon in its node.

use std::path::PathBuf;

use anyhow::{Context, Result};
use flannel_fake_kube::{FakeKube, Fault, node};
use flannel_lab::http::{self, Answer};
use flannel_lab::{Daemon, DaemonOptions, Lab, Node, Underlay, wait};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

const HEALTH: &str = "127.0.0.1:8081";
const CONFIG: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}"#;
const V4: &str = "10.244.1.0/24";
const V6: &str = "fd00:10:244:1::/64";

/// A node, and an API server in it.
struct Ground {
    // Before what it runs in.
    server: FakeKube,
    _runtime: Runtime,
    config: PathBuf,
    lab: Lab,
}

impl Ground {
    fn new() -> Result<Self> {
        let lab = Lab::new(1, Underlay { ipv6: true, ..Underlay::default() })?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // Its socket is of the node, wherever its work is done.
        let server = lab.node(0).namespace().run(|| runtime.block_on(FakeKube::start()))?;
        let config = lab.directory().join("net-conf.json");
        std::fs::write(&config, CONFIG)?;
        let ground = Self { server, _runtime: runtime, config, lab };
        ground.server.create(peer());
        Ok(ground)
    }

    fn node(&self) -> &Node {
        self.lab.node(0)
    }

    /// Makes this node's object, anew if there is one.
    fn make(&self, cidrs: &[&str]) {
        if self.object().is_some() {
            self.server.delete(self.node().name());
        }
        self.server.create(node(self.node().name(), cidrs, &[]));
    }

    fn object(&self) -> Option<Value> {
        self.server.nodes().into_iter().find(|node| node["metadata"]["name"] == self.node().name())
    }

    fn says(&self, key: &str) -> bool {
        let key = format!("flannel.alpha.coreos.com/{key}");
        self.object().is_some_and(|object| object["metadata"]["annotations"][key].is_string())
    }

    fn start(&self) -> Result<Daemon> {
        let options = DaemonOptions::with_api_server_at(&self.server.url(), &self.config)?;
        self.node().start(&options.arg("--healthz-port=8081").arg("--iface=eth0"))
    }

    fn readiness(&self) -> Result<Answer> {
        http::get(self.node().namespace(), HEALTH.parse()?, "/readyz")
    }

    /// Waits until it answers with this status, and these words.
    fn wait_readiness(&self, status: u16, words: &str) -> Result<()> {
        wait::until_equal("the node says so", || {
            let Ok(answer) = self.readiness() else { return Ok(Some("no answer".to_owned())) };
            let says = answer.status == status && answer.body.contains(words);
            Ok((!says).then(|| format!("{} {}", answer.status, answer.body)))
        })?;
        Ok(())
    }

    fn subnets(&self) -> Result<Vec<String>> {
        Ok(self.node().subnet_env()?.context("a subnet file")?.subnets())
    }

    fn wait_subnets(&self, subnets: &[&str]) -> Result<()> {
        wait::until_true(&format!("the subnet file has {subnets:?}"), || {
            Ok(self.subnets().is_ok_and(|there| there == subnets))
        })?;
        Ok(())
    }

    /// Waits until the peer's subnets are routed, or are not.
    fn wait_routes(&self, v4: bool, v6: bool) -> Result<()> {
        wait::until_equal("routes to the peer", || {
            let routes = [self.node().ip("route show")?, self.node().ip("-6 route show")?].concat();
            let is = (routes.contains("10.244.9.0/24"), routes.contains("fd00:10:244:9::/64"));
            Ok((is != (v4, v6)).then_some(routes))
        })?;
        Ok(())
    }

    /// Both families, and nothing lacks.
    fn wait_both(&self) -> Result<()> {
        self.wait_subnets(&[V4, V6])?;
        self.wait_routes(true, true)?;
        wait::until_true("it says how it is reached", || {
            Ok(self.says("public-ipv6") && self.says("backend-v6-data"))
        })?;
        wait::until_true("nothing lacks", || Ok(self.readiness()?.body == "flanneld is ready"))?;
        Ok(())
    }
}

/// Another node, of both families.
fn peer() -> Value {
    let key = |key: &str| format!("flannel.alpha.coreos.com/{key}");
    let data = r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}"#;
    let said = [
        ("kube-subnet-manager", "true"),
        ("backend-type", "vxlan"),
        ("backend-data", data),
        ("backend-v6-data", data),
        ("public-ip", "192.168.77.19"),
        ("public-ipv6", "fd77::19"),
    ];
    let said = said.map(|(suffix, value)| (key(suffix), value));
    let said: Vec<_> = said.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    node("peer", &["10.244.9.0/24", "fd00:10:244:9::/64"], &said)
}

#[test]
fn a_node_without_a_subnet_of_one_family_serves_the_other_and_takes_on_both_when_it_is_made_again()
-> Result<()> {
    let ground = Ground::new()?;
    ground.make(&[V4]);
    let mut daemon = ground.start()?;
    daemon.wait_ready()?;
    ground.wait_readiness(200, "this node has no IPv6 podCIDR")?;
    ground.wait_subnets(&[V4])?;
    ground.wait_routes(true, false)?;
    assert!(ground.says("public-ip") && !ground.says("public-ipv6"));
    ground.make(&[V6, V4]);
    ground.wait_both()?;
    // And back.
    ground.make(&[V4]);
    ground.wait_readiness(200, "this node has no IPv6 podCIDR")?;
    ground.wait_subnets(&[V4])?;
    ground.wait_routes(true, false)?;
    assert!(daemon.runs()?);
    Ok(())
}

#[test]
fn a_node_without_a_subnet_of_ipv4_serves_ipv6() -> Result<()> {
    let ground = Ground::new()?;
    ground.make(&[V6]);
    let mut daemon = ground.start()?;
    daemon.wait_ready()?;
    ground.wait_readiness(200, "this node has no IPv4 podCIDR")?;
    ground.wait_subnets(&[V6])?;
    ground.wait_routes(false, true)?;
    assert!(daemon.runs()?);
    Ok(())
}

#[test]
fn a_node_waits_for_its_subnets_before_it_is_known_which_families_it_serves() -> Result<()> {
    let ground = Ground::new()?;
    ground.make(&[]);
    let mut daemon = ground.start()?;
    ground.wait_readiness(503, "podCIDR yet")?;
    assert!(!ground.says("kube-subnet-manager"), "nothing is published yet");
    ground.server.update(ground.node().name(), |node| node["spec"]["podCIDRs"] = serde_json::json!([V4]));
    daemon.wait_ready()?;
    ground.wait_readiness(200, "this node has no IPv6 podCIDR")?;
    ground.wait_subnets(&[V4])
}

#[test]
fn a_node_without_an_address_of_one_family_serves_the_other_and_takes_on_both_when_it_comes() -> Result<()> {
    let ground = Ground::new()?;
    ground.make(&[V4, V6]);
    let namespace = ground.node().namespace();
    namespace.sysctls(&[("ipv6/conf/eth0/disable_ipv6", "1")])?;
    let mut daemon = ground.start()?;
    daemon.wait_ready()?;
    ground.wait_readiness(200, "has no IPv6 address")?;
    ground.wait_subnets(&[V4])?;
    namespace.sysctls(&[("ipv6/conf/eth0/disable_ipv6", "0")])?;
    ground.node().ip("address add fd77::11/64 dev eth0 nodad")?;
    ground.wait_both()?;
    assert!(daemon.runs()?);
    Ok(())
}

#[test]
fn pods_are_let_in_when_the_api_server_does_not_tell_of_all_nodes_and_all_goes_on_when_it_does() -> Result<()>
{
    let ground = Ground::new()?;
    ground.make(&[V4, V6]);
    // The list of all nodes, whichever way, and nothing of this node's own.
    for list in ["/api/v1/nodes?resourceVersion", "/api/v1/nodes?limit=500"] {
        ground.server.add_fault(Fault::status(list, usize::MAX, 503));
    }
    let mut daemon = ground.start()?;
    wait::until_true("it has published", || Ok(ground.says("public-ip")))?;
    ground.wait_readiness(503, "the first snapshot of leases is not applied")?;
    ground.wait_subnets(&[V4, V6])?;
    ground.wait_readiness(200, "has not told of all nodes")?;
    ground.server.clear_faults();
    ground.wait_both()?;
    assert!(daemon.runs()?);
    Ok(())
}
