//! The store beside an API server that is made up.

use std::sync::Arc;
use std::time::Duration;

use flannel_fake_kube::{FakeKube, Fault, node};
use flannel_kube_api::{ClusterAccess, KubeApi, PodEnvironment};
use flannel_lease_store::{Acquire, Change, Event, LeaseStore as _, Renewed, StoreError};
use flannel_model::lease::{Attributes, Lease};
use flannel_model::network_config::NetworkConfig;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use super::identity::Identity;
use super::{Before, Figures, KubeOptions, KubeStore};
use crate::families::Families;
use crate::prefix::Keys;

const P: &str = "flannel.alpha.coreos.com";
const CONFIG: &str = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(20);

struct Ground {
    server: FakeKube,
    store: Arc<KubeStore>,
    directory: tempfile::TempDir,
}

fn access(server: &FakeKube) -> ClusterAccess {
    let pod = PodEnvironment { directory: "/nonexistent".into(), ..PodEnvironment::default() };
    ClusterAccess { api_url: Some(server.url()), pod, ..ClusterAccess::default() }
}

impl Ground {
    /// This node is `n1`, and there is no other.
    async fn new() -> Self {
        let server = FakeKube::start().await;
        server.create(node("n1", &["10.244.1.0/24"], &[]));
        Self::of(server, Identity::Node("n1".to_owned()))
    }

    fn of(server: FakeKube, identity: Identity) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let config_file = directory.path().join("net-conf.json");
        std::fs::write(&config_file, CONFIG).expect("written");
        let keys = Keys::new(P).expect("a prefix");
        let api = KubeApi::new(access(&server), &keys.prefix);
        let options = KubeOptions { api, keys, identity: Some(identity), config_file, sets_condition: true };
        Self { server, store: Arc::new(KubeStore::new(options)), directory }
    }

    /// Another daemon of the same node.
    fn second(ground: &Self) -> Arc<KubeStore> {
        let options = &ground.store.options;
        let api = KubeApi::new(access(&ground.server), &options.keys.prefix);
        let identity = options.identity.clone();
        let (keys, config_file) = (options.keys.clone(), options.config_file.clone());
        Arc::new(KubeStore::new(KubeOptions { api, keys, identity, config_file, sets_condition: true }))
    }

    async fn acquire(&self) -> Result<Lease, StoreError> {
        self.store.acquire(&request()).await
    }

    fn node(&self, name: &str) -> Value {
        let nodes = self.server.nodes();
        nodes.into_iter().find(|node| node["metadata"]["name"] == name).unwrap_or_default()
    }

    fn annotation(&self, key: &str) -> Option<String> {
        Some(self.node("n1")["metadata"]["annotations"][format!("{P}/{key}")].as_str()?.to_owned())
    }

    fn patches(&self) -> usize {
        self.server.requests_with("PATCH").len()
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let node = || self.node("n1");
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}: {}", node());
    }
}

fn request() -> Acquire {
    let config = NetworkConfig::parse_for_assigned_subnets(CONFIG).expect("a network config");
    Acquire { config, attributes: attributes("192.168.77.11"), previous: None }
}

fn attributes(address: &str) -> Attributes {
    Attributes {
        public_ip: address.parse().ok(),
        backend_type: "host-gw".to_owned(),
        ..Attributes::default()
    }
}

fn peer(name: &str, cidr: &str, address: &str) -> Value {
    let key = |key: &str| format!("{P}/{key}");
    node(
        name,
        &[cidr],
        &[
            (&key("kube-subnet-manager"), "true"),
            (&key("backend-type"), "host-gw"),
            (&key("backend-data"), "null"),
            (&key("public-ip"), address),
        ],
    )
}

async fn next(events: &mut Receiver<Event>) -> Event {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("an event")
}

/// An event in short: subnets of leases, and `-` before those that are gone.
fn shown(event: &Event) -> Vec<String> {
    match event {
        Event::Snapshot(leases) | Event::StoreReset(leases) => {
            leases.iter().map(|lease| lease.subnets.to_string()).collect()
        }
        Event::Changes(changes) => changes
            .iter()
            .map(|change| match change {
                Change::Put(lease) => lease.subnets.to_string(),
                Change::Removed(subnets) => format!("-{subnets}"),
                other => format!("{other:?}"),
            })
            .collect(),
    }
}

#[tokio::test]
async fn a_node_takes_the_subnet_that_it_was_assigned_and_says_how_it_is_reached() {
    let ground = Ground::new().await;
    let lease = ground.acquire().await.expect("a lease");
    assert_eq!((lease.subnets.to_string().as_str(), lease.expires), ("10.244.1.0/24", None));
    let said = ["kube-subnet-manager", "backend-type", "backend-data", "public-ip"];
    let said = said.map(|key| ground.annotation(key).unwrap_or_default());
    assert_eq!(said, ["true", "host-gw", "null", "192.168.77.11"]);
    ground.acquire().await.expect("the same");
    assert_eq!(ground.patches(), 1, "what is there already is not written");
}

#[tokio::test]
async fn a_node_without_a_subnet_waits_for_one_and_says_who_assigns_it() {
    let server = FakeKube::start().await;
    server.create(node("n1", &[], &[]));
    let ground = Ground::of(server, Identity::Node("n1".to_owned()));
    let error = ground.acquire().await.expect_err("there is none");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("--allocate-node-cidrs"), "{error}");
    assert_eq!(ground.patches(), 0);
    ground.server.update("n1", |node| node["spec"] = json!({"podCIDR": "10.244.1.0/24"}));
    assert!(ground.acquire().await.is_ok());
}

#[tokio::test]
async fn a_subnet_outside_of_the_network_is_said_before_anything_is_published() {
    let server = FakeKube::start().await;
    server.create(node("n1", &["10.99.1.0/24"], &[]));
    let ground = Ground::of(server, Identity::Node("n1".to_owned()));
    let error = ground.acquire().await.expect_err("refused").to_string();
    assert!(error.contains("10.99.1.0/24") && error.contains("10.244.0.0/16"), "{error}");
    assert_eq!(ground.patches(), 0);
}

#[tokio::test]
async fn all_leases_are_told_and_then_what_changes() {
    let ground = Ground::new().await;
    ground.server.create(peer("n2", "10.244.2.0/24", "192.168.77.12"));
    ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    let mut first = shown(&next(&mut events).await);
    // This node's own comes with it, or right after it.
    if first.len() == 1 {
        first.extend(shown(&next(&mut events).await));
    }
    first.sort();
    first.dedup();
    assert_eq!(first, ["10.244.1.0/24", "10.244.2.0/24"]);
    ground.server.create(peer("n3", "10.244.3.0/24", "192.168.77.13"));
    assert_eq!(shown(&next(&mut events).await), ["10.244.3.0/24"]);
    ground.server.delete("n2");
    assert_eq!(shown(&next(&mut events).await), ["-10.244.2.0/24"]);
    let mut leases: Vec<String> = ground
        .store
        .leases()
        .await
        .expect("leases")
        .leases
        .iter()
        .map(|lease| lease.subnets.to_string())
        .collect();
    leases.sort();
    assert_eq!(leases, ["10.244.1.0/24", "10.244.3.0/24"]);
    let lists = ground.server.requests_with("sendInitialEvents").len();
    assert_eq!(lists, 2, "of all nodes, and of this one: once each");
}

#[tokio::test]
async fn annotations_that_are_lost_or_changed_are_put_back() {
    let ground = Ground::new().await;
    ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    next(&mut events).await;
    ground.server.update("n1", |node| node["metadata"]["annotations"] = json!({}));
    ground
        .until("put back", |ground| ground.annotation("public-ip").as_deref() == Some("192.168.77.11"))
        .await;
    ground.server.update("n1", |node| {
        node["metadata"]["annotations"][format!("{P}/public-ip")] = json!("192.0.2.66");
    });
    ground
        .until("put back again", |ground| ground.annotation("public-ip").as_deref() == Some("192.168.77.11"))
        .await;
}

#[tokio::test]
async fn an_operators_address_is_published_as_soon_as_it_is_there_and_no_longer() {
    let ground = Ground::new().await;
    ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    next(&mut events).await;
    let overwrite = format!("{P}/public-ip-overwrite");
    ground.server.update("n1", |node| node["metadata"]["annotations"][&overwrite] = json!("203.0.113.5"));
    ground
        .until("published", |ground| ground.annotation("public-ip").as_deref() == Some("203.0.113.5"))
        .await;
    ground.server.update("n1", |node| {
        let annotations = node["metadata"]["annotations"].as_object_mut().expect("a map");
        annotations.remove(&overwrite);
    });
    ground
        .until("its own again", |ground| ground.annotation("public-ip").as_deref() == Some("192.168.77.11"))
        .await;
}

#[tokio::test]
async fn a_node_that_is_made_again_with_its_subnet_says_all_again() {
    let ground = Ground::new().await;
    let lease = ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    next(&mut events).await;
    ground.store.set_ready();
    let is_up = |ground: &Ground| ground.node("n1").to_string().contains("FlannelIsUp");
    ground.until("the condition", is_up).await;
    ground.server.delete("n1");
    let error = ground.store.renew(&lease).await.expect_err("it is gone");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    ground.server.create(node("n1", &["10.244.1.0/24"], &[]));
    ground.until("annotations", |ground| ground.annotation("public-ip").is_some()).await;
    ground.until("the condition again", is_up).await;
    assert_eq!(ground.store.renew(&lease).await, Ok(Renewed::Until(None)));
}

#[tokio::test]
async fn a_node_that_is_made_again_with_another_subnet_has_lost_its_lease() {
    let ground = Ground::new().await;
    let lease = ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    while !shown(&next(&mut events).await).contains(&"10.244.1.0/24".to_owned()) {}
    ground.server.delete("n1");
    ground.server.create(node("n1", &["10.244.9.0/24"], &[]));
    while !shown(&next(&mut events).await).contains(&"-10.244.1.0/24".to_owned()) {}
    // Long enough for what should not happen: peers would take the former subnet for this object's.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ground.annotation("pod-cidrs"), None);
    assert_eq!(ground.store.renew(&lease).await, Ok(Renewed::Lost));
    assert_eq!(ground.acquire().await.expect("another").subnets.to_string(), "10.244.9.0/24");
    while !shown(&next(&mut events).await).contains(&"10.244.9.0/24".to_owned()) {}
}

#[tokio::test]
async fn other_attributes_are_published_with_the_renewal() {
    let ground = Ground::new().await;
    let lease = ground.acquire().await.expect("a lease");
    let renewed = ground.store.renew_as(&lease, &attributes("192.168.77.99")).await;
    assert_eq!(renewed, Ok(Renewed::Until(None)));
    assert_eq!(ground.annotation("public-ip").as_deref(), Some("192.168.77.99"));
}

#[tokio::test]
async fn a_rule_that_is_missing_is_named() {
    let ground = Ground::new().await;
    ground.server.add_fault(Fault::status("PATCH", 1, 403));
    let error = ground.acquire().await.expect_err("forbidden").to_string();
    assert!(error.contains(r#"resources: ["nodes/status"], verbs: ["patch"]"#), "{error}");
}

#[tokio::test]
async fn a_pod_knows_its_node_as_soon_as_the_api_server_does() {
    let server = FakeKube::start().await;
    server.create(node("n1", &["10.244.1.0/24"], &[]));
    server.put_pod("kube-flannel", "ds-x", None);
    let pod = Identity::Pod { namespace: "kube-flannel".to_owned(), name: "ds-x".to_owned() };
    let ground = Ground::of(server, pod);
    let error = ground.store.node_name().await.expect_err("it is on none").to_string();
    assert!(error.contains("kube-flannel/ds-x"), "{error}");
    ground.server.put_pod("kube-flannel", "ds-x", Some("n1"));
    assert_eq!(ground.store.node_name().await.as_deref(), Ok("n1"));
}

#[test]
fn the_environment_says_which_node_it_is_and_empty_variables_say_nothing() {
    let of = |set: &'static [(&str, &str)]| {
        Identity::of_environment(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    };
    let pod = Identity::Pod { namespace: "kube-flannel".to_owned(), name: "ds-x".to_owned() };
    assert_eq!(of(&[("NODE_NAME", "n1"), ("POD_NAME", "ds-x")]), Some(Identity::Node("n1".to_owned())));
    let variables: &[_] = &[("NODE_NAME", ""), ("POD_NAME", "ds-x"), ("POD_NAMESPACE", "kube-flannel")];
    assert_eq!(of(variables), Some(pod));
    assert_eq!(of(&[("POD_NAME", "ds-x")]), None);
}

#[tokio::test]
async fn a_config_map_that_changes_is_told_and_half_of_an_exchange_is_not() {
    let ground = Ground::new().await;
    let mut texts = Arc::clone(&ground.store).watch_config();
    let first = tokio::time::timeout(PATIENCE, texts.recv()).await.expect("in time");
    assert_eq!(first.as_deref(), Some(CONFIG));
    // As the kubelet does it: the file is a link, by way of a directory that is exchanged.
    let file = ground.directory.path().join("net-conf.json");
    std::fs::remove_file(&file).expect("removed");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let other = ground.directory.path().join("..2026");
    std::fs::create_dir(&other).expect("made");
    std::fs::write(other.join("net-conf.json"), "other").expect("written");
    std::os::unix::fs::symlink(other.join("net-conf.json"), &file).expect("link");
    let second = tokio::time::timeout(PATIENCE, texts.recv()).await.expect("in time");
    assert_eq!(second.as_deref(), Some("other"));
}

#[tokio::test]
async fn a_network_config_that_is_not_there_is_asked_for_where_it_should_be() {
    let ground = Ground::new().await;
    std::fs::remove_file(ground.directory.path().join("net-conf.json")).expect("removed");
    let error = ground.store.network_config().await.expect_err("it is not there").to_string();
    assert!(error.contains("net-conf.json"), "{error}");
    let refused = ground.store.write_network_config(CONFIG, None).await.expect_err("not ours").to_string();
    assert!(refused.contains("ConfigMap"), "{refused}");
}

#[tokio::test]
async fn two_daemons_of_one_node_do_not_write_without_end() {
    let ground = Ground::new().await;
    let other = Ground::second(&ground);
    ground.acquire().await.expect("a lease");
    let request = Acquire { attributes: attributes("192.168.77.99"), ..request() };
    other.acquire(&request).await.expect("the same");
    let mut events = (Arc::clone(&ground.store).watch(), Arc::clone(&other).watch());
    next(&mut events.0).await;
    next(&mut events.1).await;
    let repairs = |store: &KubeStore| store.figures().map_or(0, |figures| figures.repairs);
    let both = || repairs(&ground.store) + repairs(&other);
    ground.until("no accident any more", |_| both() >= 8).await;
    let since = std::time::Instant::now();
    // Neither gives up, and neither is as fast as it could be.
    ground.until("again", |_| both() >= 14).await;
    assert!(since.elapsed() >= Duration::from_secs(2), "{:?}", since.elapsed());
}

#[tokio::test]
async fn some_leases_are_known_without_all_nodes() {
    let ground = Ground::new().await;
    for n in 0..250 {
        ground.server.create(peer(&format!("p{n:03}"), &format!("10.244.{}.0/24", n + 2), "192.168.77.12"));
    }
    let some = ground.store.some_leases().await.expect("leases").leases.len();
    assert!((1..250).contains(&some), "{some}");
    assert!(ground.server.requests().iter().all(|request| !request.uri.contains("watch")));
}

#[tokio::test]
async fn a_node_that_cannot_serve_both_families_takes_the_cluster_for_one_of_the_other() {
    let dual = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}"#;
    let ground = Ground::new().await;
    let parse = |text: &str| ground.store.parse_config(text).expect("a network config");
    let config = parse(dual);
    assert!(config.enable_ipv4 && config.enable_ipv6);
    let error = ground.store.acquire(&Acquire { config, ..request() }).await.expect_err("no IPv6 subnet");
    assert!(error.to_string().contains("no IPv6 podCIDR"), "{error}");
    ground.store.serve(Families { ipv4: true, ipv6: false });
    let config = parse(dual);
    assert!(config.enable_ipv4 && !config.enable_ipv6);
    let lease = ground.store.acquire(&Acquire { config, ..request() }).await.expect("a lease");
    assert_eq!(lease.subnets.to_string(), "10.244.1.0/24");
    assert!(parse(CONFIG).enable_ipv4, "there is but one");
    ground.store.serve(Families { ipv4: false, ipv6: true });
    assert!(parse(CONFIG).enable_ipv4, "whatever it serves");
}

#[tokio::test]
async fn what_is_heard_of_this_node_is_known_while_it_publishes() {
    let ground = Ground::new().await;
    assert_eq!(ground.store.heard(), None);
    ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    next(&mut events).await;
    ground.until("heard", |ground| ground.store.heard().is_some_and(|it| it.assigned.is_some())).await;
    ground.server.delete("n1");
    ground.until("gone", |ground| ground.store.heard().is_none()).await;
    ground.server.create(node("n1", &["10.244.1.0/24", "fd00:10:244:1::/64"], &[]));
    let is_dual = |before: Before| before.assigned.is_some_and(|assigned| assigned.v6.is_some());
    ground.until("both", |ground| ground.store.heard().is_some_and(is_dual)).await;
}

/// Nodes that mean no good, and what they say.
fn hostile() -> Vec<Value> {
    let key = |key: &str| format!("{P}/{key}");
    let with = |name: &str, cidr: &str, said: &[(&str, &str)]| {
        let mut node = peer(name, cidr, "192.168.77.66");
        for (suffix, value) in said {
            node["metadata"]["annotations"][key(suffix)] = json!(value);
        }
        node
    };
    let mut crowded = with("h5", "10.244.105.0/24", &[]);
    // As much as a server takes.
    for n in 0..4000 {
        crowded["metadata"]["annotations"][key(&format!("x{n}"))] = json!("y".repeat(40));
    }
    let nested = "[".repeat(60_000);
    vec![
        with("h0", "10.244.1.0/24", &[]),
        with("h1", "10.244.101.0/24", &[("public-ip", "192.168.77.11")]),
        with("h2", "10.244.102.0/24", &[("pod-cidrs", "10.244.1.0/24")]),
        with("h3", "10.244.103.0/24", &[("backend-data", &nested)]),
        with("h4", "10.244.104.0/24", &[("backend-data", &"z".repeat(250_000)), ("generations", "{")]),
        crowded,
        with("h6", "10.244.106.0/24", &[("public-ipv6", "fd00::1"), ("backend-v6-data", "{\"VNI\":")]),
        with("h7", "10.244.107.0/24", &[("kube-subnet-manager", "perhaps")]),
        with("h8", "10.244.2.0/24", &[("pod-cidrs", "0.0.0.0/0")]),
        with("h9", "fd00::/64", &[("pod-cidrs", "10.244.2.0/24")]),
    ]
}

#[tokio::test]
async fn hostile_nodes_take_nothing_from_others_whether_they_are_there_first_or_come_later() {
    for first in [true, false] {
        let ground = Ground::new().await;
        let good = || peer("n2", "10.244.2.0/24", "192.168.77.12");
        // Of two that have one subnet the later is reached: nobody but Kubernetes assigns it.
        let strangers = || hostile().into_iter().filter(|node| node["metadata"]["name"] != "h8");
        if first {
            strangers().for_each(|node| ground.server.create(node));
        }
        ground.server.create(good());
        ground.acquire().await.expect("a lease");
        let mut events = Arc::clone(&ground.store).watch();
        next(&mut events).await;
        if !first {
            strangers().for_each(|node| ground.server.create(node));
        }
        let leases = async || ground.store.leases().await.expect("leases").leases;
        // Each is told, or all at once.
        let expected = if first { 1 } else { 1 + strangers().count() as u64 };
        let are_told = |figures: Figures| figures.relevant_events >= expected;
        ground.until("all are told", |ground| ground.store.figures().is_some_and(are_told)).await;
        // What comes after them is heard after them.
        ground.server.create(peer("last", "10.244.200.0/24", "192.168.77.13"));
        let wait = async {
            while !leases().await.iter().any(|lease| lease.subnets.to_string() == "10.244.200.0/24") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it is heard");
        let of = |subnet: &str, leases: &[Lease]| -> Vec<String> {
            let those = leases.iter().filter(|lease| lease.subnets.to_string() == subnet);
            those.filter_map(|lease| Some(lease.attributes.public_ip?.to_string())).collect()
        };
        let all = leases().await;
        assert_eq!(of("10.244.1.0/24", &all), ["192.168.77.11"], "its own");
        assert_eq!(of("10.244.2.0/24", &all), ["192.168.77.12"], "the good one's");
        assert_eq!(of("10.244.101.0/24", &all), [""; 0], "at this node's own address");
        // What is too long counts as absent.
        assert_eq!(of("10.244.104.0/24", &all), ["192.168.77.66"]);
        for subnet in ["10.244.103.0/24", "10.244.107.0/24"] {
            assert_eq!(of(subnet, &all), [""; 0], "{subnet}");
        }
        assert!(all.iter().all(|lease| lease.attributes.public_ipv6.is_none()), "not the cluster's family");
    }
}

#[tokio::test]
async fn a_node_that_says_it_is_none_again_and_again_is_at_last_what_it_said_last() {
    let ground = Ground::new().await;
    ground.server.create(peer("n2", "10.244.2.0/24", "192.168.77.12"));
    ground.acquire().await.expect("a lease");
    let mut events = Arc::clone(&ground.store).watch();
    let mut there = std::collections::BTreeSet::new();
    for turn in 0..100 {
        let said = if turn % 2 == 0 { "false" } else { "true" };
        ground.server.update("n2", |node| {
            node["metadata"]["annotations"][format!("{P}/kube-subnet-manager")] = json!(said);
        });
    }
    ground.server.create(peer("n3", "10.244.3.0/24", "192.168.77.13"));
    while !there.contains("10.244.3.0/24") {
        for said in shown(&next(&mut events).await) {
            match said.strip_prefix('-') {
                Some(gone) => drop(there.remove(gone)),
                None => drop(there.insert(said)),
            }
        }
    }
    assert!(there.contains("10.244.2.0/24"), "{there:?}");
}
