//! What the real upstream daemon sent to a real API server, and what we send in its place.
//!
//! A line of `upstream.jsonl` is one start of upstream's daemon (v0.28.9 and eight commits, client-go 0.34.10): the network config, the prefix
//! if one was given, the node's podCIDRs, the subnets that it took, its addresses, what its backend published for IPv4 and IPv6, the
//! annotations before, and the body of its patch (null: none was sent).

use std::collections::BTreeMap;

use flannel_kube_api::{Node, NodeEvent};
use flannel_kube_store::cidrs::own_subnets;
use flannel_kube_store::condition;
use flannel_kube_store::families::Families;
use flannel_kube_store::own::{Overwrites, Own, Wanted};
use flannel_kube_store::peers::PeerMap;
use flannel_kube_store::prefix::Keys;
use flannel_model::codec::{encode, quoted};
use flannel_model::lease::{Attributes, Subnets};
use flannel_model::network_config::NetworkConfig;
use serde_json::Value;
use serde_json::value::RawValue;

/// Upstream leaves keys of a former family behind, and we do not.
const LEFT_BEHIND: [&str; 3] = ["change 5 v4 vxlan", "change 6 v6 vxlan", "change 10 v4 alloc"];

/// Upstream's udp and alloc say nothing of IPv6 in a cluster of both families, and so know no peers there; ours do.
const SAYS_IPV6: [&str; 7] = [
    "udp dual first",
    "udp dual restart",
    "alloc dual first",
    "alloc dual restart",
    "no-backend dual first",
    "no-backend dual restart",
    "change 7 dual udp",
];

/// Upstream's patch speaks of the order of the CIDRs where IPv6 comes first, which the API server ignores; ours does not.
const ORDERS_CIDRS: &str = "vxlan dual reversed podCIDRs";

struct Start {
    name: String,
    config: NetworkConfig,
    keys: Keys,
    attributes: Attributes,
    node: Node,
    subnets: Option<String>,
    upstream: Option<String>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn starts() -> Vec<Start> {
    let start = |line: &str| {
        let start: Value = serde_json::from_str(line).expect("a line of JSON");
        let config = start["config"].as_str().expect("a config");
        let address = |n: usize| start["addresses"][n].as_str();
        let data = |n: usize| text(&start["data"][n]).map(|data| RawValue::from_string(data).expect("JSON"));
        let cidrs = start["cidrs"].as_array().expect("CIDRs").iter().filter_map(text);
        let before = start["before"].as_object().expect("annotations").iter();
        Start {
            name: text(&start["name"]).expect("a name"),
            config: NetworkConfig::parse_for_assigned_subnets(config).expect(config),
            keys: Keys::new(start["prefix"].as_str().unwrap_or("flannel.alpha.coreos.com"))
                .expect("a prefix"),
            attributes: Attributes {
                public_ip: address(0).map(|address| address.parse().expect("IPv4")),
                public_ipv6: address(1).map(|address| address.parse().expect("IPv6")),
                backend_type: text(&start["type"]).expect("a type"),
                backend_data: data(0),
                backend_v6_data: data(1),
                generations: Vec::new(),
            },
            node: Node {
                name: "n1".to_owned(),
                pod_cidrs: cidrs.collect(),
                annotations: before.map(|(key, value)| (key.clone(), text(value).expect("text"))).collect(),
                ..Node::default()
            },
            subnets: text(&start["subnets"]),
            upstream: text(&start["patch"]),
        }
    };
    include_str!("upstream.jsonl").lines().map(start).collect()
}

impl Start {
    fn ours(&self) -> Option<String> {
        let own = Own { attributes: &self.attributes, families: Families::of(&self.config), subnets: None };
        Wanted::new(&self.keys, &own, &Overwrites::read(&self.node, &self.keys)).patch(&self.node)
    }

    fn is_like_upstreams(&self) -> bool {
        let name = self.name.as_str();
        !LEFT_BEHIND.contains(&name) && !SAYS_IPV6.contains(&name) && name != ORDERS_CIDRS
    }
}

/// The annotations of a patch; none of none.
fn annotations(patch: Option<&str>) -> BTreeMap<String, Option<String>> {
    let patch: Value = patch.map_or(Value::Null, |patch| serde_json::from_str(patch).expect("JSON"));
    let annotations = patch["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.into_iter().map(|(key, value)| (key, text(&value))).collect()
}

/// A patch of these annotations, as Go writes it.
fn patch(annotations: &BTreeMap<String, Option<String>>) -> Option<String> {
    let null = || "null".to_owned();
    let value = |value: &Option<String>| value.as_deref().map_or_else(null, quoted);
    let pairs: Vec<String> =
        annotations.iter().map(|(key, text)| format!("{}:{}", quoted(key), value(text))).collect();
    (!pairs.is_empty()).then(|| format!("{{\"metadata\":{{\"annotations\":{{{}}}}}}}", pairs.join(",")))
}

#[test]
fn what_a_node_publishes_is_upstreams_byte_for_byte() {
    let like: Vec<Start> = starts().into_iter().filter(Start::is_like_upstreams).collect();
    assert!(like.len() > 80, "{}", like.len());
    for start in like {
        let upstream = start.upstream.as_deref().filter(|patch| *patch != "{}");
        assert_eq!(start.ours().as_deref(), upstream, "{}", start.name);
    }
}

#[test]
fn where_upstream_sends_an_empty_patch_nothing_is_sent() {
    let empty: Vec<Start> =
        starts().into_iter().filter(|start| start.upstream.as_deref() == Some("{}")).collect();
    assert!(empty.len() > 5, "{}", empty.len());
    for start in empty.iter().filter(|start| start.is_like_upstreams()) {
        assert_eq!(start.ours(), None, "{}", start.name);
    }
}

#[test]
fn what_upstream_leaves_behind_of_a_former_family_goes() {
    for start in starts().iter().filter(|start| LEFT_BEHIND.contains(&start.name.as_str())) {
        let ours = annotations(start.ours().as_deref());
        let (gone, said): (BTreeMap<_, _>, BTreeMap<_, _>) =
            ours.into_iter().partition(|(_, value)| value.is_none());
        assert!(gone.keys().all(|key| start.node.annotations.contains_key(key)), "{}: {gone:?}", start.name);
        assert!(!gone.is_empty(), "{}", start.name);
        let upstream = start.upstream.clone().filter(|patch| patch != "{}");
        assert_eq!(patch(&said), upstream, "{}", start.name);
    }
}

#[test]
fn nodes_of_udp_and_alloc_say_where_they_are_reached_over_ipv6_too() {
    for start in starts().iter().filter(|start| SAYS_IPV6.contains(&start.name.as_str())) {
        let mut ours = annotations(start.ours().as_deref());
        let data = ours.remove(&start.keys.backend_v6_data).flatten();
        let address = ours.remove(&start.keys.public_ipv6).flatten();
        let address = address.or_else(|| start.node.annotations.get(&start.keys.public_ipv6).cloned());
        assert_eq!(
            (data.as_deref(), address.as_deref()),
            (Some("null"), Some("fd00:77::11")),
            "{}",
            start.name
        );
        assert_eq!(patch(&ours), start.upstream, "{}", start.name);
    }
}

#[test]
fn nothing_is_said_of_the_order_of_cidrs() {
    for start in starts().iter().filter(|start| start.name == ORDERS_CIDRS) {
        let order = r#","spec":{"$setElementOrder/podCIDRs":["fd00:10:244:1::/64","10.244.1.0/24"]}"#;
        let upstream = start.upstream.as_ref().map(|patch| patch.replace(order, ""));
        assert_eq!(start.ours(), upstream);
    }
}

#[test]
fn a_nodes_subnets_are_said_beside_what_is_upstreams() {
    for start in starts() {
        let Ok(subnets) = own_subnets(&start.node, &start.config) else { continue };
        let families = Families::of(&start.config);
        let own = Own { attributes: &start.attributes, families, subnets: Some(subnets) };
        let with =
            Wanted::new(&start.keys, &own, &Overwrites::read(&start.node, &start.keys)).patch(&start.node);
        let mut with = annotations(with.as_deref());
        assert!(with.remove(&start.keys.pod_cidrs).flatten().is_some(), "{}", start.name);
        assert_eq!(patch(&with), start.ours(), "{}", start.name);
    }
}

#[test]
fn a_node_takes_the_subnets_that_upstream_takes() {
    let taken: Vec<Start> = starts().into_iter().filter(|start| start.subnets.is_some()).collect();
    assert!(taken.len() > 80, "{}", taken.len());
    for start in taken {
        let ours = own_subnets(&start.node, &start.config).map(|subnets| subnets.to_string());
        assert_eq!(ours.ok(), start.subnets, "{}", start.name);
    }
}

#[test]
fn a_node_of_upstreams_is_a_peer_that_says_what_its_backend_has_published() {
    let mut peers = 0;
    for start in starts() {
        let Ok(subnets) = own_subnets(&start.node, &start.config) else { continue };
        let mut node = start.node.clone();
        node.annotations.extend(
            annotations(start.upstream.as_deref()).into_iter().filter_map(|(key, value)| Some((key, value?))),
        );
        let said = |key: &str| node.annotations.get(key).map(String::as_str).unwrap_or_default();
        let (public_ip, public_ipv6) = (said(&start.keys.public_ip), said(&start.keys.public_ipv6));
        let expected = Subnets {
            v4: subnets.v4.filter(|_| public_ip != "0.0.0.0"),
            v6: subnets.v6.filter(|_| !public_ipv6.is_empty()),
        };
        let attributes = Attributes {
            public_ip: expected.v4.and_then(|_| public_ip.parse().ok()),
            public_ipv6: expected.v6.and_then(|_| public_ipv6.parse().ok()),
            backend_type: start.attributes.backend_type.clone(),
            backend_data: start.attributes.backend_data.clone().filter(|_| expected.v4.is_some()),
            backend_v6_data: start.attributes.backend_v6_data.clone().filter(|_| expected.v6.is_some()),
            generations: Vec::new(),
        };
        // Upstream leaves another backend's data behind, here vxlan's beside udp.
        if start.name == "change 7 dual udp" {
            continue;
        }
        let mut map = PeerMap::new(start.keys, start.config, "n0");
        for event in [NodeEvent::Syncing, NodeEvent::Applied(node.clone()), NodeEvent::Synced] {
            map.take(event);
        }
        let leases = map.leases();
        let [lease] = &leases[..] else { panic!("{}: {leases:?}", start.name) };
        assert_eq!(lease.subnets, expected, "{}", start.name);
        assert_eq!(encode(&lease.attributes), encode(&attributes), "{}", start.name);
        peers += 1;
    }
    assert!(peers > 90, "{peers}");
}

#[test]
fn the_condition_is_upstreams_byte_for_byte() {
    let recorded = r#"{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","lastHeartbeatTime":"2026-11-27T13:11:00Z","lastTransitionTime":"2026-11-27T13:11:00Z","reason":"FlannelIsUp","message":"Flannel is running on this node"}]}}"#;
    let now = "2026-11-27T13:11:00Z".parse().expect("a time");
    assert_eq!((condition::patch(&Node::default(), now).as_str(), recorded.len()), (recorded, 228));
}
