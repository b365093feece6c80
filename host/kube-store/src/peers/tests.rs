use super::*;

const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56"}"#;
const V4: &str = r#"{"Network":"10.244.0.0/16"}"#;
const PREFIX: &str = "flannel.alpha.coreos.com/";

/// What a node of vxlan says, but for its addresses.
const VXLAN: [(&str, &str); 3] = [
    ("kube-subnet-manager", "true"),
    ("backend-type", "vxlan"),
    ("backend-data", r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}"#),
];

fn map(config: &str) -> PeerMap {
    let keys = Keys::new("flannel.alpha.coreos.com").expect("a prefix");
    PeerMap::new(keys, NetworkConfig::parse_for_assigned_subnets(config).expect(config), "n0")
}

/// A map whose node has the subnet 10.244.0.0/24 and the address 192.168.77.10.
fn map_of_n0(config: &str) -> PeerMap {
    let mut map = map(config);
    map.set_own(Some(own("10.244.0.0/24")));
    map
}

fn own(subnet: &str) -> OwnLease {
    let lease = Lease {
        subnets: Subnets { v4: subnet.parse().ok(), v6: None },
        attributes: flannel_model::lease::Attributes {
            public_ip: "192.168.77.10".parse().ok(),
            ..flannel_model::lease::Attributes::default()
        },
        expires: None,
    };
    let addresses =
        vec!["192.168.77.10".parse().expect("an address"), "10.0.2.15".parse().expect("an address")];
    OwnLease { created: "2026-01-01T00:00:00Z".to_owned(), lease: Arc::new(lease), addresses }
}

/// A node that says nothing.
fn bare(name: &str, cidrs: &[&str]) -> Node {
    Node {
        name: name.to_owned(),
        uid: format!("uid of {name}"),
        created: "2026-01-01T00:00:00Z".to_owned(),
        pod_cidrs: cidrs.iter().map(|cidr| (*cidr).to_owned()).collect(),
        ..Node::default()
    }
}

trait Says: Sized {
    /// Says this, too.
    fn says(self, annotations: &[(&str, &str)]) -> Self;
    /// Says no longer what begins like this.
    fn silent_on(self, start: &str) -> Self;
    /// Was made that long after the others.
    fn younger(self, seconds: u32) -> Self;
}

impl Says for Node {
    fn says(mut self, annotations: &[(&str, &str)]) -> Self {
        let said = annotations.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned()));
        self.annotations.extend(said);
        self
    }

    fn silent_on(mut self, start: &str) -> Self {
        let start = format!("{PREFIX}{start}");
        self.annotations.retain(|key, _| !key.starts_with(&start));
        self
    }

    fn younger(mut self, seconds: u32) -> Self {
        self.created = format!("2026-01-01T00:00:{seconds:02}Z");
        self
    }
}

/// A node of vxlan, reached at 192.168.77.N and with the subnet 10.244.N.0/24.
fn node(n: u8) -> Node {
    let address = format!("192.168.77.{n}");
    bare(&format!("n{n}"), &[&format!("10.244.{n}.0/24")]).says(&VXLAN).says(&[("public-ip", &address)])
}

/// The same with IPv6.
fn dual(n: u8) -> Node {
    let mut node = node(n).says(&[
        ("public-ipv6", &format!("fd00:77::{n}")),
        ("backend-v6-data", r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}"#),
    ]);
    node.pod_cidrs.push(format!("fd00:10:244:{n}::/64"));
    node
}

fn applied(map: &mut PeerMap, node: Node) -> String {
    let news = map.take(NodeEvent::Applied(node));
    shown(news.event.as_ref())
}

fn deleted(map: &mut PeerMap, name: &str, uid: &str) -> String {
    let news = map.take(NodeEvent::Deleted { name: name.to_owned(), uid: uid.to_owned() });
    shown(news.event.as_ref())
}

fn synced(map: &mut PeerMap, nodes: Vec<Node>) -> String {
    let mut told = vec![shown(map.take(NodeEvent::Syncing).event.as_ref())];
    told.extend(nodes.into_iter().map(|node| applied(map, node)));
    // Until the end of the list nothing is new.
    assert_eq!(told.concat(), "");
    shown(map.take(NodeEvent::Synced).event.as_ref())
}

#[test]
fn a_list_that_breaks_off_changes_nothing_and_is_begun_anew() {
    let mut map = map(V4);
    synced(&mut map, vec![node(1), node(2)]);
    let before = map.leases();
    map.take(NodeEvent::Syncing);
    assert_eq!(applied(&mut map, node(7)), "");
    assert_eq!(deleted(&mut map, "n1", &node(1).uid), "");
    assert_eq!(map.leases(), before);
    assert_eq!(synced(&mut map, vec![node(2), node(3)]).lines().count(), 2);
    // What goes while the list is told is not in it.
    map.take(NodeEvent::Syncing);
    applied(&mut map, node(2));
    applied(&mut map, node(3));
    deleted(&mut map, "n3", &node(3).uid);
    assert_eq!(shown(map.take(NodeEvent::Synced).event.as_ref()).lines().count(), 1);
}

fn shown(event: Option<&Event>) -> String {
    let lease = |lease: &Arc<Lease>| {
        let addresses: Vec<String> =
            lease.attributes.public_addresses().map(|address| address.to_string()).collect();
        format!("{} at {}", lease.subnets, addresses.join(" and "))
    };
    let lines: Vec<String> = match event {
        None => Vec::new(),
        Some(Event::Snapshot(leases)) => leases.iter().map(lease).collect(),
        Some(Event::StoreReset(_)) => vec!["reset".to_owned()],
        Some(Event::Changes(changes)) => {
            let change = |change: &Change| match change {
                Change::Put(put) => format!("+ {}", lease(put)),
                Change::Removed(gone) => format!("- {gone}"),
                other => format!("{other:?}"),
            };
            changes.iter().map(change).collect()
        }
    };
    lines.join("\n")
}

/// What is told of a node to the operator.
fn noticed(map: &mut PeerMap, node: Node) -> Vec<String> {
    map.take(NodeEvent::Applied(node)).notices.iter().map(Notice::to_string).collect()
}

fn state(map: &PeerMap, name: &str) -> State {
    map.peers().find(|peer| peer.name == name).map(|peer| peer.state.clone()).expect(name)
}

#[test]
fn a_node_that_says_how_it_is_reached_is_a_peer_and_one_that_goes_is_none() {
    let mut map = map(V4);
    assert_eq!(applied(&mut map, bare("n1", &["10.244.1.0/24"])), "");
    assert_eq!(state(&map, "n1"), State::Unmanaged);
    assert_eq!(applied(&mut map, node(1)), "+ 10.244.1.0/24 at 192.168.77.1");
    assert_eq!(applied(&mut map, node(1)), "", "nothing has changed");
    let moved = node(1).says(&[("public-ip", "192.168.78.1")]);
    assert_eq!(applied(&mut map, moved), "+ 10.244.1.0/24 at 192.168.78.1");
    assert_eq!(deleted(&mut map, "n1", ""), "- 10.244.1.0/24");
    assert_eq!(deleted(&mut map, "n1", ""), "");
}

#[test]
fn what_a_node_publishes_is_in_its_lease() {
    let mut map = map(DUAL);
    let generations = r#"[{"Backend":{"Type":"vxlan"},"Main":true,"Complete":false}]"#;
    let node = dual(1).says(&[("generations", generations)]);
    let Some(Event::Changes(changes)) = map.take(NodeEvent::Applied(node)).event else { panic!("changes") };
    let [Change::Put(lease)] = &changes[..] else { panic!("one lease") };
    assert_eq!(
        flannel_model::codec::encode(&lease.attributes),
        format!(
            r#"{{"PublicIP":"192.168.77.1","PublicIPv6":"fd00:77::1","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}},"BackendV6Data":{{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}},"Generations":{generations}}}"#
        )
    );
    assert_eq!(flannel_model::codec::key_name(&lease.subnets), "10.244.1.0-24&fd00:10:244:1::-64");
}

#[test]
fn a_change_in_one_family_alone_is_told() {
    let mut map = map(DUAL);
    applied(&mut map, dual(1));
    let changed = dual(1).says(&[("backend-v6-data", r#"{"VNI":1,"VtepMAC":"02:00:00:00:00:03"}"#)]);
    assert_eq!(
        applied(&mut map, changed),
        "+ 10.244.1.0/24 and fd00:10:244:1::/64 at 192.168.77.1 and fd00:77::1"
    );
}

#[test]
fn a_node_of_one_family_is_served_over_that_one() {
    for node in [
        node(1),
        dual(1).silent_on("public-ipv6"),
        dual(1).says(&[("public-ipv6", "::")]),
        Node { pod_cidrs: vec!["10.244.1.0/24".to_owned()], ..dual(1) },
    ] {
        assert_eq!(applied(&mut map(DUAL), node), "+ 10.244.1.0/24 at 192.168.77.1");
    }
    // As host-gw does where IPv4 is off.
    let node = dual(1).says(&[("public-ip", "0.0.0.0"), ("backend-data", "null")]);
    assert_eq!(applied(&mut map(DUAL), node), "+ fd00:10:244:1::/64 at fd00:77::1");
}

#[test]
fn a_family_that_the_cluster_does_not_have_is_not_looked_at() {
    let node = dual(1).says(&[("public-ipv6", "left behind"), ("backend-v6-data", "{")]);
    let mut map = map(V4);
    assert_eq!(applied(&mut map, node), "+ 10.244.1.0/24 at 192.168.77.1");
    assert_eq!(state(&map, "n1"), State::Ok);
}

#[test]
fn another_backends_node_has_a_lease_all_the_same() {
    for backend in ["host-gw", "wireguard", "", "what-comes"] {
        let node = node(1).says(&[("backend-type", backend), ("backend-data", "null")]);
        assert_eq!(applied(&mut map(V4), node), "+ 10.244.1.0/24 at 192.168.77.1", "{backend:?}");
    }
}

#[test]
fn annotations_that_are_lost_take_nothing_away() {
    let mut map = map(V4);
    applied(&mut map, node(1));
    let lost = [
        node(1).silent_on(""),
        node(1).silent_on("public-ip"),
        node(1).silent_on("kube-subnet-manager").says(&[("public-ip", "192.168.78.1")]),
    ];
    for node in lost {
        assert_eq!(applied(&mut map, node), "");
        assert_eq!(state(&map, "n1"), State::AnnotationsLost);
    }
    let snapshot = synced(&mut map, vec![node(1).silent_on("")]);
    assert_eq!(snapshot, "10.244.1.0/24 at 192.168.77.1", "not even if they are lost unseen");
    assert_eq!(map.counts(), Counts { annotations_lost: 1, ..Counts::default() });
    assert_eq!(applied(&mut map, node(1)), "", "they are back");
    applied(&mut map, node(1).silent_on(""));
    assert_eq!(deleted(&mut map, "n1", "uid of n1"), "- 10.244.1.0/24", "but the node's end does");
}

#[test]
fn a_node_that_was_made_again_has_lost_nothing_but_is_another_one() {
    let mut map = map(V4);
    applied(&mut map, node(1));
    let again = Node { uid: "another".to_owned(), ..bare("n1", &["10.244.1.0/24"]) };
    assert_eq!(applied(&mut map, again), "- 10.244.1.0/24");
    assert_eq!(state(&map, "n1"), State::Unmanaged);
}

#[test]
fn a_node_that_was_made_again_with_another_subnet_is_moved() {
    for unseen in [false, true] {
        let mut map = map(V4);
        applied(&mut map, node(1));
        let again =
            Node { uid: "another".to_owned(), pod_cidrs: vec!["10.244.9.0/24".to_owned()], ..node(1) };
        if unseen {
            assert_eq!(synced(&mut map, vec![again]), "10.244.9.0/24 at 192.168.77.1");
        } else {
            assert_eq!(applied(&mut map, again), "- 10.244.1.0/24\n+ 10.244.9.0/24 at 192.168.77.1");
        }
        assert_eq!(deleted(&mut map, "n1", "uid of n1"), "", "the former one's end is no news");
        assert_eq!(deleted(&mut map, "n1", "another"), "- 10.244.9.0/24");
    }
}

#[test]
fn who_says_that_he_is_not_managed_is_no_peer() {
    for other in ["false", "True", "", "true "] {
        let mut map = map(V4);
        applied(&mut map, node(1));
        assert_eq!(applied(&mut map, node(1).says(&[("kube-subnet-manager", other)])), "- 10.244.1.0/24");
        assert_eq!(state(&map, "n1"), State::Withdrawn);
        assert_eq!(applied(&mut map, node(1).silent_on("")), "", "and nothing is remembered");
    }
}

#[test]
fn what_cannot_be_read_stays_what_it_was_and_is_told_once() {
    let mut map = map(V4);
    applied(&mut map, node(1));
    let big = "[".repeat(1 << 20);
    let mut told = Vec::new();
    for (key, value) in [
        ("public-ip", "192.168.77"),
        ("public-ip", "fd00::1"),
        ("backend-data", "{\"VNI\":"),
        ("backend-data", &big),
        ("backend-type", "vx lan"),
    ] {
        let node = node(1).says(&[(key, value)]);
        let news = map.take(NodeEvent::Applied(node));
        assert_eq!(shown(news.event.as_ref()), "", "{key}");
        told.extend(news.notices.iter().map(Notice::to_string));
        assert!(matches!(state(&map, "n1"), State::Unreadable(reason) if reason.contains(key)));
    }
    assert_eq!(
        told,
        [
            "node n1: what cannot be read in its annotations stays what it was: its public-ip 192.168.77 is wrong: right would be an IPv4 address such as 192.168.77.11"
        ]
    );
    assert_eq!(map.counts(), Counts { unreadable: 1, ..Counts::default() });
}

#[test]
fn what_cannot_be_read_of_one_family_holds_up_no_change_in_the_other() {
    let mut map = map(DUAL);
    applied(&mut map, dual(1));
    let node = dual(1).says(&[("public-ip", "192.168.78.1"), ("public-ipv6", "x")]);
    assert_eq!(
        applied(&mut map, node),
        "+ 10.244.1.0/24 and fd00:10:244:1::/64 at 192.168.78.1 and fd00:77::1"
    );
}

#[test]
fn what_another_backend_said_is_not_kept_beside_this_ones() {
    let mut map = map(DUAL);
    applied(&mut map, dual(1));
    let node =
        dual(1).says(&[("backend-type", "host-gw"), ("backend-data", "null"), ("backend-v6-data", "{")]);
    assert_eq!(
        applied(&mut map, node),
        "- 10.244.1.0/24 and fd00:10:244:1::/64\n+ 10.244.1.0/24 at 192.168.77.1"
    );
}

#[test]
fn who_has_never_said_anything_that_can_be_read_is_refused_with_the_reason() {
    for (node, expected) in [
        (node(1).says(&[("public-ip", "x")]), "node n1: its lease is not served: its public-ip x is wrong"),
        (
            node(1).says(&[("backend-type", "é")]),
            "node n1: its lease is not served: its backend-type é is wrong",
        ),
        (
            bare("n1", &["10.244.1.0"]).says(&VXLAN),
            "node n1: its lease is not served: its podCIDR \"10.244.1.0\" is no network",
        ),
        (
            node(1).silent_on("public-ip"),
            "node n1: its lease is not served: it has no podCIDR and public address",
        ),
        (
            Node { pod_cidrs: vec!["fd00::/64".to_owned()], ..node(1) },
            "node n1: its lease is not served: it has no podCIDR and public address",
        ),
    ] {
        let mut map = map(V4);
        let told = noticed(&mut map, node.clone());
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
        assert_eq!(noticed(&mut map, node), [""; 0], "once");
        assert_eq!(map.counts(), Counts { refused: 1, ..Counts::default() });
    }
}

#[test]
fn who_has_no_subnet_yet_is_waited_for() {
    let mut map = map(V4);
    assert_eq!(applied(&mut map, Node { pod_cidrs: Vec::new(), ..node(1) }), "");
    assert_eq!((state(&map, "n1"), map.counts().waiting), (State::WaitingForCidr, 1));
    assert_eq!(applied(&mut map, node(1)), "+ 10.244.1.0/24 at 192.168.77.1");
}

/// A node that only says that it has a subnet.
fn saying(n: u8, cidr: &str) -> Node {
    Node { pod_cidrs: vec![cidr.to_owned()], cidrs_unverified: true, ..node(n) }
}

#[test]
fn a_new_node_is_reached_by_what_it_says_and_then_by_what_it_has() {
    let mut map = map(V4);
    assert_eq!(applied(&mut map, saying(1, "10.244.1.0/24")), "+ 10.244.1.0/24 at 192.168.77.1");
    assert_eq!(applied(&mut map, node(1)), "", "it has");
    assert_eq!(applied(&mut map, saying(2, "10.244.9.0/24")), "+ 10.244.9.0/24 at 192.168.77.2");
    assert_eq!(
        applied(&mut map, node(2)),
        "- 10.244.9.0/24
+ 10.244.2.0/24 at 192.168.77.2",
        "it has not"
    );
}

#[test]
fn of_who_turns_out_to_have_no_subnet_nothing_stays_even_if_he_falls_silent() {
    for silent in [false, true] {
        let mut map = map(V4);
        applied(&mut map, saying(1, "10.244.9.0/24"));
        let mut none = Node { pod_cidrs: Vec::new(), ..node(1) };
        if silent {
            applied(&mut map, saying(1, "10.244.9.0/24").silent_on(""));
            none.annotations.clear();
        }
        assert_eq!(applied(&mut map, none), "- 10.244.9.0/24");
        assert!(map.leases().is_empty());
    }
}

#[test]
fn who_only_says_that_he_has_a_subnet_takes_it_from_nobody() {
    let mut map = map(V4);
    applied(&mut map, node(1));
    assert_eq!(applied(&mut map, saying(2, "10.244.1.0/24").younger(9)), "");
    assert_eq!(map.counts(), Counts { ok: 1, displaced: 1, ..Counts::default() });
}

#[test]
fn of_two_nodes_with_one_subnet_the_younger_is_reached_and_then_the_other_again() {
    let younger = |config| {
        let twin = Node { pod_cidrs: dual(1).pod_cidrs, ..dual(2) }.younger(9);
        (map(config), dual(1), twin)
    };
    let (mut map, older, twin) = younger(V4);
    applied(&mut map, older.clone());
    let news = map.take(NodeEvent::Applied(twin.clone()));
    assert_eq!(shown(news.event.as_ref()), "+ 10.244.1.0/24 at 192.168.77.2");
    assert_eq!(
        news.notices.iter().map(Notice::to_string).collect::<Vec<_>>(),
        [
            "node n1: its podCIDR 10.244.1.0/24 is that of node n2 too, which is reached by it: one of the two nodes has to be deleted and made again"
        ]
    );
    assert_eq!(map.counts(), Counts { ok: 1, displaced: 1, ..Counts::default() });
    let moved = older.says(&[("public-ip", "192.168.78.1")]);
    assert_eq!(applied(&mut map, moved), "", "what the other says is remembered, and not told");
    assert_eq!(deleted(&mut map, "n2", ""), "+ 10.244.1.0/24 at 192.168.78.1");

    // The other way round, and all at once.
    let (mut map, older, twin) = younger(V4);
    applied(&mut map, twin.clone());
    assert_eq!(applied(&mut map, older.clone()), "");
    assert_eq!(synced(&mut map, vec![twin, older]), "10.244.1.0/24 at 192.168.77.2");
    assert_eq!(deleted(&mut map, "n1", ""), "", "who is not reached is not missed");
}

#[test]
fn each_family_goes_to_whoever_is_reached_by_its_subnet() {
    let mut map = map(DUAL);
    applied(&mut map, dual(1));
    let cidrs = vec!["10.244.1.0/24".to_owned(), "fd00:10:244:2::/64".to_owned()];
    let half = Node { pod_cidrs: cidrs, ..dual(2) }.younger(9);
    assert_eq!(
        applied(&mut map, half),
        "- 10.244.1.0/24 and fd00:10:244:1::/64\n\
         + fd00:10:244:1::/64 at fd00:77::1\n\
         + 10.244.1.0/24 and fd00:10:244:2::/64 at 192.168.77.2 and fd00:77::2"
    );
    assert_eq!(
        deleted(&mut map, "n2", ""),
        "- fd00:10:244:1::/64\n\
         - 10.244.1.0/24 and fd00:10:244:2::/64\n\
         + 10.244.1.0/24 and fd00:10:244:1::/64 at 192.168.77.1 and fd00:77::1"
    );
}

#[test]
fn who_has_this_nodes_subnet_is_refused_and_both_are_named() {
    for cidr in ["10.244.0.0/24", "10.244.0.128/25", "10.244.0.0/16", "0.0.0.0/0"] {
        let mut map = map_of_n0(V4);
        let node = Node { pod_cidrs: vec![cidr.to_owned()], ..node(1) };
        let news = map.take(NodeEvent::Applied(node));
        assert_eq!(shown(news.event.as_ref()), "", "{cidr}");
        let said = news.notices.first().map(Notice::to_string).unwrap_or_default();
        let expected = format!(
            "node n1: its lease is not served: its podCIDR {cidr} overlaps 10.244.0.0/24 of this node, n0"
        );
        assert!(said.starts_with(&expected), "{said}");
        assert_eq!(map.counts(), Counts { refused: 1, ..Counts::default() });
    }
}

#[test]
fn who_is_reached_at_this_nodes_own_address_is_refused_with_a_hint() {
    for address in ["192.168.77.10", "10.0.2.15"] {
        let mut map = map_of_n0(V4);
        let told = noticed(&mut map, node(1).says(&[("public-ip", address)]));
        let expected = format!(
            "node n1: its lease is not served: it publishes {address}, which is an address of this node, n0"
        );
        assert!(told.len() == 1 && told[0].starts_with(&expected), "{told:?}");
        assert_eq!(applied(&mut map, node(1)), "+ 10.244.1.0/24 at 192.168.77.1", "it has another one");
    }
}

#[test]
fn who_was_refused_is_looked_at_again_when_this_node_has_another_lease() {
    let mut map = map_of_n0(V4);
    let twin = Node { pod_cidrs: vec!["10.244.0.0/24".to_owned()], ..node(1) };
    applied(&mut map, twin);
    let event = map.set_own(Some(own("10.244.7.0/24"))).event;
    assert_eq!(shown(event.as_ref()), "+ 10.244.0.0/24 at 192.168.77.1\n+ 10.244.7.0/24 at 192.168.77.10");
    let event = map.set_own(None).event;
    assert_eq!(shown(event.as_ref()), "- 10.244.7.0/24");
}

#[test]
fn this_nodes_own_lease_is_told_whatever_its_object_says() {
    let mut map = map_of_n0(V4);
    let bare_own = bare("n0", &["10.244.0.0/24"]);
    for nodes in [vec![], vec![bare_own.clone()], vec![bare("n0", &[])]] {
        assert_eq!(synced(&mut map, nodes), "10.244.0.0/24 at 192.168.77.10");
    }
    assert_eq!(applied(&mut map, bare_own), "");
    assert_eq!(deleted(&mut map, "n0", ""), "", "peers drop it; its own packets go on");
    assert_eq!(map.set_own(Some(own("10.244.0.0/24"))).event, None);
}

#[test]
fn this_node_loses_its_lease_when_it_is_made_again_with_another_subnet() {
    let again = || Node { uid: "another".to_owned(), ..bare("n0", &["10.244.3.0/24"]) };
    let mut map = map_of_n0(V4);
    assert_eq!(applied(&mut map, again()), "- 10.244.0.0/24");
    let mut map = map_of_n0(V4);
    assert_eq!(synced(&mut map, vec![again(), node(1)]), "10.244.1.0/24 at 192.168.77.1");
}

#[test]
fn who_is_outside_the_network_is_served_and_told_of_once() {
    let mut map = map(V4);
    let node = Node { pod_cidrs: vec!["10.99.1.0/24".to_owned()], ..node(1) };
    let told = noticed(&mut map, node.clone());
    assert_eq!(
        told,
        ["node n1: its podCIDR 10.99.1.0/24 does not lie in Network 10.244.0.0/16 of the network config"]
    );
    assert_eq!(noticed(&mut map, node.says(&[("public-ip", "192.168.78.1")])), [""; 0]);
    assert_eq!(map.leases().len(), 1);
}

#[test]
fn a_snapshot_has_all_leases_that_there_are_and_the_oldest_first() {
    let mut map = map_of_n0(V4);
    applied(&mut map, node(9));
    let nodes = vec![node(3).younger(3), node(1).younger(7), bare("n4", &[]), node(2).younger(5)];
    assert_eq!(
        synced(&mut map, nodes),
        "10.244.0.0/24 at 192.168.77.10\n\
         10.244.3.0/24 at 192.168.77.3\n\
         10.244.2.0/24 at 192.168.77.2\n\
         10.244.1.0/24 at 192.168.77.1"
    );
}

#[test]
fn a_node_that_is_being_deleted_is_there_until_it_is_gone() {
    let mut map = map(V4);
    applied(&mut map, node(1));
    assert_eq!(applied(&mut map, Node { deleting: true, ..node(1) }), "");
}

#[test]
fn host_bits_and_further_subnets_of_a_family_change_nothing() {
    let mut map = map(V4);
    let cidrs = vec!["10.244.1.77/24".to_owned(), "10.244.2.0/24".to_owned(), "x".to_owned()];
    assert_eq!(applied(&mut map, Node { pod_cidrs: cidrs, ..node(1) }), "+ 10.244.1.0/24 at 192.168.77.1");
}

#[test]
fn what_no_host_can_have_is_a_lease_that_somebody_else_judges() {
    for address in ["224.0.0.1", "255.255.255.255", "127.0.0.1"] {
        let node = node(1).says(&[("public-ip", address)]);
        assert_eq!(applied(&mut map(V4), node), format!("+ 10.244.1.0/24 at {address}"));
    }
}

#[test]
fn a_million_annotations_and_thousands_of_nodes_with_one_subnet_cost_little() {
    let mut map = map(V4);
    let many = (0..1_000_000).map(|n| (format!("{PREFIX}x{n}"), String::new()));
    let mut node = node(1);
    node.annotations.extend(many);
    assert_eq!(applied(&mut map, node), "+ 10.244.1.0/24 at 192.168.77.1");
    let twins =
        (0..10_000_u32).map(|n| Node { name: format!("t{n}"), uid: format!("{n:05}"), ..self::node(2) });
    assert_eq!(synced(&mut map, twins.collect()), "10.244.2.0/24 at 192.168.77.2");
    for n in 0..500 {
        deleted(&mut map, &format!("t{}", 9_999 - n), "");
    }
    assert_eq!(map.counts(), Counts { ok: 1, displaced: 9_499, ..Counts::default() });
}

#[test]
fn a_peer_takes_less_than_a_kilobyte() {
    let mut map = map(DUAL);
    applied(&mut map, dual(1));
    let lease = map.leases().remove(0);
    let data = [&lease.attributes.backend_data, &lease.attributes.backend_v6_data];
    let data: usize = data.into_iter().flatten().map(|data| data.get().len()).sum();
    let texts = "uid of n1".len().max(36) + lease.attributes.backend_type.len() + data + 63;
    let claims = 2 * (size_of::<(IpNet, Vec<Arc<str>>)>() + size_of::<Arc<str>>());
    let peer = size_of::<(Arc<str>, Peer)>() + size_of::<Lease>() + claims + texts;
    // Maps are at worst a little more than half empty.
    assert!(2 * peer < 2048 && peer < 1024, "{peer}");
}
