//! What every lease store does, tested on each: a directory, and a real etcd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use flannel_model::codec::{self, key_name};
use flannel_model::lease::{Attributes, Lease, Subnets};
use flannel_model::network_config::NetworkConfig;
use tempfile::TempDir;
use tokio::sync::Barrier;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::etcd::server::Server;
use super::etcd::{EtcdOptions, EtcdStore};
use super::file::FileStore;
use super::store::{Acquire, Change, ConfigWritten, Event, LeaseStore, Renewed, StoreError};

/// No test waits for a time, but none waits forever.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A store, and a way past it.
#[async_trait]
pub(super) trait StoreHarness: Send + Sync {
    /// A node's way in.
    fn node(&self) -> Arc<dyn LeaseStore>;
    async fn write_config(&self, text: &str);
    async fn remove_config(&self);
    async fn write(&self, name: &str, value: &str);
    async fn remove(&self, name: &str);
    async fn read(&self, name: &str) -> Option<String>;
}

struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().expect("directory"));
        drop(directory.node());
        directory
    }
}

#[async_trait]
impl StoreHarness for Directory {
    fn node(&self) -> Arc<dyn LeaseStore> {
        Arc::new(FileStore::open(self.0.path()).expect("store"))
    }

    async fn write_config(&self, text: &str) {
        put_config(self.0.path(), text);
    }

    async fn remove_config(&self) {
        std::fs::remove_file(self.0.path().join("config")).expect("removed");
    }

    async fn write(&self, name: &str, value: &str) {
        std::fs::write(self.0.path().join("subnets").join(name), value).expect("written");
    }

    async fn remove(&self, name: &str) {
        std::fs::remove_file(self.0.path().join("subnets").join(name)).expect("removed");
    }

    async fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.path().join("subnets").join(name)).ok()
    }
}

/// Writes the config of a directory as an editor does: aside, and then renamed.
pub(super) fn put_config(directory: &std::path::Path, text: &str) {
    let aside = directory.join("config.new");
    std::fs::write(&aside, text).expect("written");
    std::fs::rename(aside, directory.join("config")).expect("renamed");
}

/// A part of an etcd, with a prefix of its own.
pub(super) struct Etcd {
    pub(super) server: Arc<Server>,
    pub(super) prefix: String,
    pub(super) client: etcd_client::Client,
}

impl Etcd {
    pub(super) async fn new() -> Self {
        let server = Server::shared();
        let client = server.client().await;
        Self { server, prefix: format!("/test/{:016x}", super::allocate::random()), client }
    }

    pub(super) fn store(&self) -> Arc<EtcdStore> {
        let options = EtcdOptions { endpoints: vec![self.server.endpoint()], prefix: self.prefix.clone() };
        Arc::new(EtcdStore::connect(options).expect("store"))
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}/subnets/{name}", self.prefix)
    }
}

#[async_trait]
impl StoreHarness for Etcd {
    fn node(&self) -> Arc<dyn LeaseStore> {
        self.store()
    }

    async fn write_config(&self, text: &str) {
        self.client.clone().put(format!("{}/config", self.prefix), text, None).await.expect("put");
    }

    async fn remove_config(&self) {
        self.client.clone().delete(format!("{}/config", self.prefix), None).await.expect("delete");
    }

    async fn write(&self, name: &str, value: &str) {
        self.client.clone().put(self.key(name), value, None).await.expect("put");
    }

    async fn remove(&self, name: &str) {
        self.client.clone().delete(self.key(name), None).await.expect("delete");
    }

    async fn read(&self, name: &str) -> Option<String> {
        let response = self.client.clone().get(self.key(name), None).await.expect("get");
        response.kvs().first().map(|kv| String::from_utf8_lossy(kv.value()).into_owned())
    }
}

/// Makes a test of each behaviour for each store.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        mod directory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&super::Directory::new()).await; })*
        }
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(&super::Etcd::new().await).await; })*
        }
    };
}

behaviours![
    a_config_that_is_missing_is_an_error_that_says_where,
    a_watch_of_the_config_tells_what_is_there_and_then_what_is_something_else,
    the_config_is_written_over_what_was_seen_and_over_nothing_else,
    of_those_who_write_the_config_at_once_one_is_first_and_the_others_are_told,
    a_config_that_is_written_disturbs_no_watch_of_leases,
    nodes_that_start_together_never_share_a_subnet,
    nodes_that_start_together_never_share_a_subnet_of_either_family,
    subnets_of_different_lengths_never_overlap,
    a_hundred_nodes_that_start_together_all_get_a_lease,
    a_node_that_starts_again_has_its_lease_again,
    nodes_with_ipv6_only_are_told_apart_by_their_ipv6_address,
    the_previous_subnet_is_taken_again_if_it_is_free,
    a_lease_that_does_not_fit_the_config_is_given_back,
    an_old_lease_without_ipv6_is_no_obstacle,
    a_renewal_keeps_the_lease_and_writes_its_attributes,
    a_lease_that_is_gone_is_lost,
    a_lease_that_somebody_else_has_written_is_lost_and_left_alone,
    a_lease_overwritten_with_rubbish_stays_and_is_written_anew,
    a_watch_begins_with_all_leases_and_goes_on_with_changes,
    changes_come_in_their_order,
    unreadable_entries_disturb_nobody,
    the_network_is_used_up_to_the_last_subnet,
    values_are_upstreams_byte_for_byte,
    a_node_without_a_public_address_gets_no_lease,
    a_lease_that_another_process_writes_too_is_contested_although_the_value_is_the_same,
    a_lease_that_is_overwritten_with_what_is_none_is_told_of_and_written_again_by_a_renewal,
];

pub(super) fn attributes(node: u8) -> Attributes {
    Attributes {
        public_ip: Some([192, 168, 77, node].into()),
        public_ipv6: None,
        backend_type: "vxlan".to_owned(),
        backend_data: raw(&format!("{{\"VNI\":1,\"VtepMAC\":\"a6:63:db:5a:bb:{node:02x}\"}}")),
        backend_v6_data: None,
        generations: Vec::new(),
    }
}

pub(super) fn request(config: &str, node: u8) -> Acquire {
    let config = NetworkConfig::parse(config).expect("config");
    Acquire { config, attributes: attributes(node), previous: None }
}

pub(super) const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// The data of a backend as `serde_json` keeps it.
#[expect(clippy::unnecessary_wraps, reason = "the fields that it is for are options")]
pub(super) fn raw(text: &str) -> Option<Box<serde_json::value::RawValue>> {
    Some(serde_json::value::RawValue::from_string(text.to_owned()).expect("valid JSON"))
}

pub(super) fn subnets(name: &str) -> Subnets {
    codec::parse_key_name(name).expect("name of a lease")
}

pub(super) async fn acquire(store: &Arc<dyn LeaseStore>, request: &Acquire) -> Lease {
    timeout(TEST_TIMEOUT, store.acquire(request)).await.expect("in time").expect("a lease")
}

async fn leases(world: &dyn StoreHarness) -> Vec<Lease> {
    world.node().leases().await.expect("leases").leases
}

fn assert_disjoint(leases: &[Lease]) {
    for (n, one) in leases.iter().enumerate() {
        for other in &leases[n + 1..] {
            assert!(!one.subnets.overlaps(&other.subnets), "{} and {} overlap", one.subnets, other.subnets);
        }
    }
}

/// Lets nodes ask at the same moment, each with a connection of its own.
async fn together(world: &dyn StoreHarness, requests: Vec<Acquire>) -> Vec<Result<Lease, StoreError>> {
    let barrier = Arc::new(Barrier::new(requests.len()));
    let nodes: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let (store, barrier) = (world.node(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let _ = store.leases().await;
                barrier.wait().await;
                timeout(TEST_TIMEOUT, store.acquire(&request)).await.expect("in time")
            })
        })
        .collect();
    let mut leases = Vec::new();
    for node in nodes {
        leases.push(node.await.expect("node"));
    }
    leases
}

/// What a node knows from its watch.
pub(super) struct View {
    events: Receiver<Event>,
    pub(super) leases: BTreeMap<Subnets, Lease>,
    pub(super) snapshots: u32,
    /// Leases of this store that somebody else has written, each time.
    pub(super) contested: Vec<Subnets>,
    /// Leases of this store that somebody else has written rubbish over, each time.
    pub(super) spoiled: Vec<Subnets>,
}

impl View {
    pub(super) async fn new(store: Arc<dyn LeaseStore>) -> Self {
        let mut view = Self {
            events: store.watch(),
            leases: BTreeMap::new(),
            snapshots: 0,
            contested: Vec::new(),
            spoiled: Vec::new(),
        };
        view.event().await;
        assert_eq!(view.snapshots, 1, "a watch begins with a snapshot");
        view
    }

    pub(super) async fn event(&mut self) -> Event {
        let event =
            timeout(TEST_TIMEOUT, self.events.recv()).await.expect("in time").expect("a watch goes on");
        match &event {
            Event::Snapshot(leases) | Event::StoreReset(leases) => {
                self.snapshots += 1;
                self.leases = leases.iter().map(|lease| (lease.subnets, Lease::clone(lease))).collect();
            }
            Event::Changes(changes) => {
                assert!(!changes.is_empty());
                for change in changes {
                    match change {
                        Change::Put(lease) => drop(self.leases.insert(lease.subnets, Lease::clone(lease))),
                        Change::Removed(subnets) => drop(self.leases.remove(subnets)),
                        Change::Contested(subnets) => self.contested.push(*subnets),
                        Change::Spoiled(subnets) => self.spoiled.push(*subnets),
                    }
                }
            }
        }
        event
    }

    pub(super) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.event().await;
        }
    }

    pub(super) fn attributes(&self, name: &str) -> Option<&Attributes> {
        self.leases.get(&subnets(name)).map(|lease| &lease.attributes)
    }
}

async fn a_config_that_is_missing_is_an_error_that_says_where(world: &dyn StoreHarness) {
    let store = world.node();
    let error = store.network_config().await.expect_err("nothing there");
    assert!(matches!(&error, StoreError::NoConfig { .. }), "{error}");
    assert!(error.to_string().contains(&store.config_place()), "{error}");
    world.write_config(CONFIG).await;
    assert_eq!(store.network_config().await.as_deref(), Ok(CONFIG));
}

/// The next text that a watch of the config tells.
pub(super) async fn next(configs: &mut Receiver<String>) -> String {
    timeout(TEST_TIMEOUT, configs.recv()).await.expect("in time").expect("a watch goes on")
}

async fn a_watch_of_the_config_tells_what_is_there_and_then_what_is_something_else(world: &dyn StoreHarness) {
    let mut before = world.node().watch_config();
    world.write_config("one").await;
    assert_eq!(next(&mut before).await, "one");
    let mut after = world.node().watch_config();
    assert_eq!(next(&mut after).await, "one");
    world.write_config("one").await;
    world.write_config("two").await;
    for configs in [&mut before, &mut after] {
        assert_eq!(next(configs).await, "two");
    }
    world.remove_config().await;
    world.write_config("two").await;
    let store = world.node();
    let written = store.write_network_config("{}", Some("two")).await;
    assert_eq!(written, Ok(ConfigWritten::Written));
    for configs in [&mut before, &mut after] {
        assert_eq!(next(configs).await, "{}", "neither that it was gone, nor what was known");
    }
}

async fn the_config_is_written_over_what_was_seen_and_over_nothing_else(world: &dyn StoreHarness) {
    let store = world.node();
    let overtaken = |found: Option<&str>| Ok(ConfigWritten::Overtaken(found.map(ToOwned::to_owned)));
    let (one, two) = ("{\"Network\":\"10.5.0.0/16\"}\n", " {\n} é");
    assert_eq!(store.write_network_config(one, Some(two)).await, overtaken(None));
    assert!(matches!(store.network_config().await, Err(StoreError::NoConfig { .. })));
    assert_eq!(store.write_network_config(one, None).await, Ok(ConfigWritten::Written));
    assert_eq!(store.network_config().await.as_deref(), Ok(one), "to the last byte");
    assert_eq!(store.write_network_config(two, None).await, overtaken(Some(one)));
    assert_eq!(store.write_network_config(two, Some("{}")).await, overtaken(Some(one)));
    assert_eq!(store.write_network_config(two, Some(one)).await, Ok(ConfigWritten::Written));
    // As after an answer that got lost.
    assert_eq!(store.write_network_config(two, Some(one)).await, Ok(ConfigWritten::Written));
    assert_eq!(store.network_config().await.as_deref(), Ok(two));
}

async fn of_those_who_write_the_config_at_once_one_is_first_and_the_others_are_told(
    world: &dyn StoreHarness,
) {
    world.write_config("before").await;
    let barrier = Arc::new(Barrier::new(10));
    let operators: Vec<_> = (0..10)
        .map(|number| {
            let (store, barrier) = (world.node(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let seen = store.network_config().await.expect("config");
                barrier.wait().await;
                let text = format!("of {number}");
                (store.write_network_config(&text, Some(&seen)).await.expect("an answer"), text)
            })
        })
        .collect();
    let (mut written, mut overtaken) = (Vec::new(), Vec::new());
    for operator in operators {
        match operator.await.expect("operator") {
            (ConfigWritten::Written, text) => written.push(text),
            (ConfigWritten::Overtaken(found), _) => overtaken.push(found.expect("the other's")),
        }
    }
    assert_eq!((written.len(), overtaken.len()), (1, 9));
    assert!(overtaken.iter().all(|found| *found == written[0]), "{written:?} {overtaken:?}");
    assert_eq!(world.node().network_config().await.as_ref(), Ok(&written[0]));
}

async fn a_config_that_is_written_disturbs_no_watch_of_leases(world: &dyn StoreHarness) {
    let store = world.node();
    world.write_config("0").await;
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    let mut view = View::new(Arc::clone(&store)).await;
    for number in 0..20 {
        world.write_config(&format!("{number}")).await;
        let (text, seen) = (format!("{number}, changed"), number.to_string());
        let written = store.write_network_config(&text, Some(&seen)).await;
        assert_eq!(written, Ok(ConfigWritten::Written));
    }
    world.write("10.5.250.0-24", &codec::encode(&attributes(2))).await;
    let event = view.event().await;
    let only = matches!(&event, Event::Changes(changes) if matches!(changes[..], [Change::Put(_)]));
    assert!(only && view.attributes("10.5.250.0-24").is_some(), "{event:?}");
    assert_eq!(view.attributes(&key_name(&lease.subnets)), Some(&lease.attributes));
    assert_eq!((view.snapshots, view.contested, view.spoiled), (1, Vec::new(), Vec::new()));
}

/// Three nodes, three subnets: one that takes another's leaves one without.
async fn nodes_that_start_together_never_share_a_subnet(world: &dyn StoreHarness) {
    for round in 0..100 {
        let config = format!("{{\"Network\":\"10.{round}.0.0/28\"}}");
        let requests = (1..=3).map(|node| {
            let mut request = request(&config, node);
            request.attributes.public_ip = Some([192, 168, round, node].into());
            request
        });
        for lease in together(world, requests.collect()).await {
            lease.expect("there is room for all");
        }
    }
    let leases = leases(world).await;
    assert_eq!(leases.len(), 300);
    assert_disjoint(&leases);
}

/// There is much room for IPv4, and none to spare for IPv6.
async fn nodes_that_start_together_never_share_a_subnet_of_either_family(world: &dyn StoreHarness) {
    for round in 0..100 {
        let config = format!(
            "{{\"Network\":\"10.5.0.0/16\",\"EnableIPv6\":true,\"IPv6Network\":\"fc00:{round}::/60\",\"IPv6SubnetLen\":62}}"
        );
        let requests = (1..=3).map(|node| {
            let mut request = request(&config, node);
            request.config.subnet_len = 28;
            request.attributes.public_ip = Some([192, 168, round, node].into());
            request
        });
        for lease in together(world, requests.collect()).await {
            lease.expect("there is room for all");
        }
    }
    let leases = leases(world).await;
    assert_eq!(leases.len(), 300);
    assert_disjoint(&leases);
}

/// As it is while an operator changes the config and only some nodes have been started again.
async fn subnets_of_different_lengths_never_overlap(world: &dyn StoreHarness) {
    for round in 0..20 {
        let requests = [26, 27, 28].into_iter().zip(1..).map(|(length, node)| {
            let mut request =
                request(&format!("{{\"Network\":\"10.{round}.0.0/24\",\"SubnetLen\":{length}}}"), node);
            request.attributes.public_ip = Some([192, 168, round, node].into());
            request
        });
        for lease in together(world, requests.collect()).await {
            lease.expect("there is room for all");
        }
    }
    assert_disjoint(&leases(world).await);
}

async fn a_hundred_nodes_that_start_together_all_get_a_lease(world: &dyn StoreHarness) {
    let requests = (1..=100).map(|node| request(CONFIG, node)).collect();
    let leases: Vec<Lease> =
        together(world, requests).await.into_iter().collect::<Result<_, _>>().expect("there is room for all");
    assert_disjoint(&leases);
}

async fn a_node_that_starts_again_has_its_lease_again(world: &dyn StoreHarness) {
    acquire(&world.node(), &request(CONFIG, 2)).await;
    let first = acquire(&world.node(), &request(CONFIG, 1)).await;
    let mut again = request(CONFIG, 1);
    again.attributes.backend_data = raw("{\"VNI\":2}");
    again.previous = Some(subnets("10.5.200.0-24"));
    let second = acquire(&world.node(), &again).await;
    assert_eq!(second.subnets, first.subnets);
    let stored = world.read(&key_name(&first.subnets)).await.expect("entry");
    assert_eq!(stored, codec::encode(&again.attributes));
    assert_eq!(leases(world).await.len(), 2);
}

async fn nodes_with_ipv6_only_are_told_apart_by_their_ipv6_address(world: &dyn StoreHarness) {
    let v6_only = |node: u8| {
        let mut request =
            request(r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#, node);
        request.attributes.public_ip = None;
        request.attributes.public_ipv6 = Some([0xfd77, 0, 0, 0, 0, 0, 0, node.into()].into());
        request
    };
    let one = acquire(&world.node(), &v6_only(1)).await;
    let two = acquire(&world.node(), &v6_only(2)).await;
    assert!(one.subnets.v4.is_none() && !one.subnets.overlaps(&two.subnets));
    assert_eq!(acquire(&world.node(), &v6_only(1)).await.subnets, one.subnets);
    let name = key_name(&one.subnets);
    assert!(name.starts_with("0.0.0.0-0&fc00:5:0:"), "{name}");
    assert!(world.read(&name).await.is_some_and(|value| value.starts_with("{\"PublicIP\":\"0.0.0.0\",")));
    assert!(matches!(world.node().renew(&two).await, Ok(Renewed::Until(Some(_)))));
}

async fn the_previous_subnet_is_taken_again_if_it_is_free(world: &dyn StoreHarness) {
    let mut one = request(CONFIG, 1);
    one.previous = Some(subnets("10.5.77.0-24"));
    assert_eq!(Some(acquire(&world.node(), &one).await.subnets), one.previous);
    let mut two = request(CONFIG, 2);
    two.previous = one.previous;
    let other = acquire(&world.node(), &two).await;
    assert_ne!(Some(other.subnets), one.previous, "it is another node's now");
}

async fn a_lease_that_does_not_fit_the_config_is_given_back(world: &dyn StoreHarness) {
    let before = acquire(&world.node(), &request(CONFIG, 1)).await;
    let after = acquire(&world.node(), &request(r#"{"Network":"10.6.0.0/16"}"#, 1)).await;
    assert!(after.subnets.to_string().starts_with("10.6."), "{}", after.subnets);
    assert_eq!(world.read(&key_name(&before.subnets)).await, None);
    assert_eq!(leases(world).await.len(), 1);
}

async fn an_old_lease_without_ipv6_is_no_obstacle(world: &dyn StoreHarness) {
    world.write("10.5.1.0-24", &codec::encode(&attributes(9))).await;
    let mut dual = request(r#"{"Network":"10.5.0.0/22","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#, 1);
    dual.attributes.public_ipv6 = Some([0xfd77, 0, 0, 0, 0, 0, 0, 1].into());
    let lease = acquire(&world.node(), &dual).await;
    assert!(lease.subnets.v6.is_some() && !lease.subnets.overlaps(&subnets("10.5.1.0-24")));
}

async fn a_renewal_keeps_the_lease_and_writes_its_attributes(world: &dyn StoreHarness) {
    let store = world.node();
    let mut lease = acquire(&store, &request(CONFIG, 1)).await;
    let almost = Duration::from_hours(23);
    assert!(lease.expires.is_some_and(|end| end > SystemTime::now() + almost), "{:?}", lease.expires);
    lease.attributes.backend_data = raw("{\"VNI\":7}");
    let renewed = store.renew(&lease).await.expect("renewed");
    assert!(matches!(renewed, Renewed::Until(Some(end)) if end > SystemTime::now() + almost), "{renewed:?}");
    assert_eq!(world.read(&key_name(&lease.subnets)).await, Some(codec::encode(&lease.attributes)));
    assert!(matches!(store.renew(&lease).await, Ok(Renewed::Until(Some(_)))), "and again");
    let found = leases(world).await;
    assert_eq!((found.len(), found[0].subnets), (1, lease.subnets));
}

async fn a_lease_that_is_gone_is_lost(world: &dyn StoreHarness) {
    let store = world.node();
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    world.remove(&key_name(&lease.subnets)).await;
    assert_eq!(store.renew(&lease).await, Ok(Renewed::Lost));
    assert_eq!(world.read(&key_name(&lease.subnets)).await, None);
}

async fn a_lease_that_somebody_else_has_written_is_lost_and_left_alone(world: &dyn StoreHarness) {
    let store = world.node();
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    let name = key_name(&lease.subnets);
    let foreign = codec::encode(&attributes(2));
    world.write(&name, &foreign).await;
    assert_eq!(store.renew(&lease).await, Ok(Renewed::Lost));
    assert_eq!(world.read(&name).await, Some(foreign));
    assert_ne!(acquire(&store, &request(CONFIG, 1)).await.subnets, lease.subnets);
}

async fn a_lease_overwritten_with_rubbish_stays_and_is_written_anew(world: &dyn StoreHarness) {
    let store = world.node();
    let lease = acquire(&store, &request(CONFIG, 1)).await;
    let name = key_name(&lease.subnets);
    let mut view = View::new(world.node()).await;
    world.write(&name, "{\"PublicIP\":\"192.16").await;
    world.write("10.5.250.0-24", &codec::encode(&attributes(2))).await;
    view.until(|view| view.attributes("10.5.250.0-24").is_some()).await;
    assert_eq!(view.attributes(&name), Some(&lease.attributes));
    assert!(matches!(store.renew(&lease).await, Ok(Renewed::Until(Some(_)))));
    assert_eq!(world.read(&name).await, Some(codec::encode(&lease.attributes)));
}

async fn a_watch_begins_with_all_leases_and_goes_on_with_changes(world: &dyn StoreHarness) {
    let store = world.node();
    let one = acquire(&store, &request(CONFIG, 1)).await;
    let mut view = View::new(world.node()).await;
    assert_eq!(view.leases.keys().collect::<Vec<_>>(), [&one.subnets]);
    let two = acquire(&store, &request(CONFIG, 2)).await;
    view.until(|view| view.leases.contains_key(&two.subnets)).await;
    let mut changed = request(CONFIG, 1);
    changed.attributes.backend_data = raw("{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:01\"}");
    acquire(&store, &changed).await;
    let name = key_name(&one.subnets);
    view.until(|view| view.attributes(&name) == Some(&changed.attributes)).await;
    world.remove(&name).await;
    view.until(|view| view.leases.len() == 1).await;
    assert_eq!(view.attributes(&key_name(&two.subnets)), Some(&two.attributes));
    assert_eq!(view.snapshots, 1, "nothing was missed");
}

async fn changes_come_in_their_order(world: &dyn StoreHarness) {
    const LAST: u8 = 100;
    let mut view = View::new(world.node()).await;
    for step in 1..=LAST {
        world.write("10.5.9.0-24", &codec::encode(&attributes(step))).await;
    }
    let seen =
        |view: &View| view.attributes("10.5.9.0-24").and_then(|a| a.public_ip).map_or(0, |ip| ip.octets()[3]);
    let mut last = 0;
    while last < LAST {
        view.event().await;
        let now = seen(&view);
        assert!(now >= last, "{now} after {last}");
        last = now;
    }
    world.remove("10.5.9.0-24").await;
    view.until(|view| view.leases.is_empty()).await;
    world.write("10.5.9.0-24", &codec::encode(&attributes(1))).await;
    view.until(|view| seen(view) == 1).await;
}

async fn unreadable_entries_disturb_nobody(world: &dyn StoreHarness) {
    let store = world.node();
    let one = acquire(&store, &request(CONFIG, 1)).await;
    let mut view = View::new(world.node()).await;
    world.write("10.5.200.0-24", "rubbish").await;
    world.write("rubbish", &codec::encode(&attributes(8))).await;
    world.write("10.5.201.0-24", "").await;
    world.write("10.5.202.0-24&FC00::-64", &codec::encode(&attributes(8))).await;
    world.write("10.5.203.0-24", "{\"PublicIP\":\"fd00::1\"}").await;
    let mut two = request(CONFIG, 2);
    two.previous = Some(subnets("10.5.200.0-24"));
    let two = acquire(&store, &two).await;
    assert_ne!(two.subnets, subnets("10.5.200.0-24"), "whose it is cannot be read, but it is somebody's");
    view.until(|view| view.leases.contains_key(&two.subnets)).await;
    assert_eq!(view.leases.keys().count(), 2);
    world.remove("rubbish").await;
    world.remove("10.5.200.0-24").await;
    world.write("10.5.201.0-24", &codec::encode(&attributes(3))).await;
    view.until(|view| view.attributes("10.5.201.0-24").is_some()).await;
    assert_eq!(view.attributes(&key_name(&one.subnets)), Some(&one.attributes));
    assert_eq!((view.leases.len(), view.snapshots), (3, 1));
    assert_eq!(leases(world).await.len(), 3);
    assert_eq!(View::new(world.node()).await.leases.len(), 3);
}

async fn the_network_is_used_up_to_the_last_subnet(world: &dyn StoreHarness) {
    let config = r#"{"Network":"10.5.0.0/28"}"#;
    for node in 1..=3 {
        acquire(&world.node(), &request(config, node)).await;
    }
    let error = world.node().acquire(&request(config, 4)).await.expect_err("no room");
    assert!(matches!(&error, StoreError::Exhausted { count: 3, .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("out of subnets") && text.contains("10.5.0.0/28") && text.lines().count() == 1,
        "{text}"
    );
    acquire(&world.node(), &request(config, 2)).await;
}

async fn values_are_upstreams_byte_for_byte(world: &dyn StoreHarness) {
    let mut dual = request(r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:5::/48"}"#, 11);
    dual.previous = Some(subnets("10.5.60.0-24&fc00:5:0:8::-64"));
    dual.attributes.public_ipv6 = "fd77::11".parse().ok();
    dual.attributes.backend_data = raw("{ \"VNI\": 1, \"VtepMAC\": \"d2:d4:60:d4:f0:d6\" }");
    dual.attributes.backend_v6_data = raw("{\"VNI\":1,\"VtepMAC\":\"82:ea:3f:8d:cf:0b\"}");
    acquire(&world.node(), &dual).await;
    assert_eq!(
        world.read("10.5.60.0-24&fc00:5:0:8::-64").await.as_deref(),
        Some(
            r#"{"PublicIP":"192.168.77.11","PublicIPv6":"fd77::11","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"d2:d4:60:d4:f0:d6"},"BackendV6Data":{"VNI":1,"VtepMAC":"82:ea:3f:8d:cf:0b"}}"#
        )
    );
}

async fn a_node_without_a_public_address_gets_no_lease(world: &dyn StoreHarness) {
    let mut nobody = request(CONFIG, 1);
    nobody.attributes.public_ip = None;
    let error = world.node().acquire(&nobody).await.expect_err("no identity");
    assert!(error.to_string().contains("--public-ip"), "{error}");
}

async fn a_lease_that_another_process_writes_too_is_contested_although_the_value_is_the_same(
    world: &dyn StoreHarness,
) {
    world.write_config(CONFIG).await;
    let (one, other) = (world.node(), world.node());
    let lease = acquire(&one, &request(CONFIG, 1)).await;
    let mut first = View::new(Arc::clone(&one)).await;
    // What it does itself is no contest, nor what others do with their leases.
    one.renew(&lease).await.expect("renewed");
    acquire(&one, &request(CONFIG, 2)).await;
    first.until(|view| view.leases.len() == 2).await;
    let same = acquire(&other, &request(CONFIG, 1)).await;
    assert_eq!(same.subnets, lease.subnets);
    first.until(|view| !view.contested.is_empty()).await;
    let mut second = View::new(Arc::clone(&other)).await;
    one.renew(&lease).await.expect("renewed");
    second.until(|view| !view.contested.is_empty()).await;
    assert_eq!((first.contested, second.contested), (vec![lease.subnets], vec![lease.subnets]));
}

async fn a_lease_that_is_overwritten_with_what_is_none_is_told_of_and_written_again_by_a_renewal(
    world: &dyn StoreHarness,
) {
    world.write_config(CONFIG).await;
    let (one, other) = (world.node(), world.node());
    let lease = acquire(&one, &request(CONFIG, 1)).await;
    let mut view = View::new(Arc::clone(&one)).await;
    let mut others = View::new(Arc::clone(&other)).await;
    let name = key_name(&lease.subnets);
    for (times, rubbish) in [(1, "null"), (2, "{"), (3, r#"{"PublicIP":7}"#)] {
        world.write(&name, rubbish).await;
        view.until(|view| view.spoiled.len() == times).await;
        one.renew(&lease).await.expect("renewed");
        assert_eq!(world.read(&name).await, Some(codec::encode(&lease.attributes)));
    }
    assert_eq!((view.contested, view.spoiled), (Vec::new(), vec![lease.subnets; 3]));
    // Whose it is not does not mind.
    acquire(&one, &request(CONFIG, 2)).await;
    others.until(|view| view.leases.len() == 2).await;
    assert_eq!((others.contested, others.spoiled), (Vec::new(), Vec::new()));
}
