//! What is told of nodes, whatever the server does.

mod common;

use std::time::Duration;

use common::restless_client;
use common::told::{HASTY, Heard, Told};
use flannel_fake_kube::{FakeKube, Fault, Kind, Mode, node};
use flannel_kube_api::{KubeError, Pace, Phase, ReflectorOptions, Strategy, WatchForm};
use serde_json::json;

const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";
const POD_CIDRS: &str = "flannel.alpha.coreos.com/pod-cidrs";

fn peer(index: usize) -> serde_json::Value {
    node(&format!("n{index}"), &[&format!("10.244.{index}.0/24")], &[(PUBLIC_IP, "192.0.2.1")])
}

async fn with_nodes(number: usize) -> FakeKube {
    let server = FakeKube::start().await;
    for index in 0..number {
        server.create(peer(index));
    }
    server
}

fn set_public_ip(server: &FakeKube, name: &str, address: &str) {
    server.update(name, |node| node["metadata"]["annotations"][PUBLIC_IP] = address.into());
}

#[tokio::test]
async fn all_nodes_are_told_first_and_then_what_changes() {
    let server = with_nodes(3).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    assert!(matches!(&told.events[..], [Heard::All(3)]), "{:?}", told.events);
    set_public_ip(&server, "n1", "192.0.2.9");
    told.until_as(&server).await;
    server.create(peer(7));
    told.until_as(&server).await;
    server.delete("n0");
    told.until_as(&server).await;
    assert!(matches!(told.events.last(), Some(Heard::Gone(name)) if name == "n0"));
    // One list, one watch of metadata, and the one node whose CIDRs nobody knew.
    let asked = server.requests();
    let forms: Vec<bool> =
        asked.iter().map(|request| request.headers["accept"].contains("Partial")).collect();
    assert_eq!(forms, [false, true, false]);
    assert!(asked[0].uri.contains("sendInitialEvents=true"));
    assert_eq!(asked[2].uri, "/api/v1/nodes/n7");
}

#[tokio::test]
async fn what_changes_nothing_that_matters_is_not_told() {
    let server = with_nodes(2).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    for beat in 0..9 {
        server.update("n1", |node| node["status"]["conditions"][0]["lastHeartbeatTime"] = json!(beat));
    }
    told.until_version_of(&server).await;
    assert_eq!(told.events.len(), 1);
    // Events may come together, the version is that of the last one.
    let state = told.state.borrow().clone();
    assert_eq!((state.version, state.told), (server.version().to_string(), 1));
}

#[tokio::test]
async fn a_server_without_streams_is_asked_for_lists_and_not_again_for_streams() {
    for mode in [Mode::V1_26, Mode::V1_33, Mode::V1_36OnEtcd3_4] {
        let server = with_nodes(3).await;
        server.set_mode(mode);
        let mut told = Told::peers(&server);
        told.until_as(&server).await;
        told.until_version_of(&server).await;
        server.cut_watches();
        server.create(peer(5));
        server.compact();
        told.until_as(&server).await;
        assert_eq!(server.requests_with("sendInitialEvents").len(), 1, "{mode:?}");
        let lists = server.requests_with("GET /api/v1/nodes?resourceVersion=");
        let lists: Vec<&String> = lists.iter().filter(|line| !line.contains("watch=")).collect();
        assert_eq!(lists[0], "GET /api/v1/nodes?resourceVersion=0", "{mode:?}");
        assert!(lists[1].ends_with("&resourceVersionMatch=NotOlderThan"), "{lists:?}");
        assert_eq!(told.state.borrow().strategy, Some(Strategy::Cache));
    }
}

#[tokio::test]
async fn where_lists_from_the_cache_are_refused_too_pages_are_read() {
    let server = with_nodes(7).await;
    server.set_mode(Mode::V1_26);
    server.set_largest_page(3);
    server.add_fault(Fault::status("nodes?resourceVersion=0", usize::MAX, 422));
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    assert_eq!(server.requests_with("limit=500").len(), 3);
    assert_eq!(told.state.borrow().strategy, Some(Strategy::Pages));
}

#[tokio::test]
async fn pages_of_a_version_that_is_forgotten_are_read_anew() {
    let server = with_nodes(7).await;
    server.set_mode(Mode::V1_26);
    server.set_largest_page(3);
    server.add_fault(Fault::status("nodes?resourceVersion=0", usize::MAX, 422));
    server.add_fault(Fault::status("continue=", 1, 410));
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    assert_eq!(server.requests_with("limit=500").len(), 5);
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_has_no_end_leads_to_a_list() {
    let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"100"}}}"#;
    for kind in [Kind::Cut, Kind::Stop, Kind::Body(String::new()), Kind::Body(format!("{bookmark}\n"))] {
        let server = with_nodes(3).await;
        server.add_fault(Fault::of("sendInitialEvents", 1, kind.clone()));
        let mut told = Told::peers(&server);
        told.until_as(&server).await;
        assert_eq!(told.state.borrow().strategy, Some(Strategy::Cache), "{kind:?}");
        assert_eq!(told.events.len(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let server = with_nodes(3).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    for address in ["192.0.2.2", "192.0.2.3", "192.0.2.4"] {
        server.end_watches();
        set_public_ip(&server, "n2", address);
        told.until_as(&server).await;
        server.cut_watches();
        server.delete("n0");
        told.until_as(&server).await;
    }
    assert_eq!(told.state.borrow().syncs, 1);
}

#[tokio::test]
async fn what_happened_while_nobody_could_watch_is_found_out_by_a_list() {
    for by_status in [false, true] {
        let server = with_nodes(5).await;
        if by_status {
            server.refuse_old_versions_by_status();
        }
        let mut told = Told::peers(&server);
        told.until_as(&server).await;
        server.add_fault(Fault::status("watch=true", 3, 503));
        server.cut_watches();
        // The same name, another node.
        server.delete("n1");
        server.create(node("n1", &["10.244.99.0/24"], &[(PUBLIC_IP, "192.0.2.1")]));
        server.delete("n2");
        server.create(peer(8));
        server.compact();
        told.until_as(&server).await;
        assert_eq!(told.view["n1"].pod_cidrs, ["10.244.99.0/24"]);
        assert!(told.state.borrow().syncs >= 2);
    }
}

#[tokio::test]
async fn a_node_that_is_made_again_under_its_name_has_its_new_cidrs() {
    let server = with_nodes(2).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.delete("n1");
    server.create(node("n1", &["10.244.99.0/24"], &[(PUBLIC_IP, "192.0.2.1")]));
    told.until_as(&server).await;
    assert_eq!(told.view["n1"].pod_cidrs, ["10.244.99.0/24"]);
}

/// A node with these CIDRs, whose annotation says it has those.
fn saying(name: &str, cidrs: &[&str], said: &str) -> serde_json::Value {
    node(name, cidrs, &[(POD_CIDRS, said)])
}

/// All CIDRs of a node that were told, without repetitions.
fn told_of(told: &Told, name: &str) -> Vec<String> {
    let nodes = told.events.iter().filter_map(|event| match event {
        Heard::One(node, cidrs) if node == name => Some(cidrs.join(",")),
        _ => None,
    });
    let mut all: Vec<String> = nodes.collect();
    all.dedup();
    all
}

#[tokio::test]
async fn a_node_whose_annotation_repeats_its_cidrs_is_told_at_once_and_asked_for_later() {
    let server = with_nodes(1).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.add_fault(Fault::status("GET /api/v1/nodes/", usize::MAX, 503));
    server.create(saying("n5", &["10.244.5.0/24", "fd00:5::/64"], "10.244.5.0/24,fd00:5::/64"));
    told.until_as(&server).await;
    assert!(told.view["n5"].cidrs_unverified);
    // What it says otherwise, and what is nothing new, holds up nothing.
    set_public_ip(&server, "n5", "192.0.2.5");
    server.update("n5", |node| node["status"]["beat"] = json!(1));
    told.until_as(&server).await;
    server.clear_faults();
    told.until("verified", |told| !told.view["n5"].cidrs_unverified).await;
    told.until_as(&server).await;
    assert_eq!(told_of(&told, "n5"), ["10.244.5.0/24,fd00:5::/64"]);
}

#[tokio::test]
async fn an_annotation_that_lies_counts_until_the_object_was_read_and_never_again() {
    for cidrs in [&["10.244.5.0/24"][..], &[]] {
        let server = with_nodes(1).await;
        let mut told = Told::peers(&server);
        told.until_as(&server).await;
        server.create(saying("n5", cidrs, "10.244.66.0/24"));
        told.until_as(&server).await;
        assert_eq!(told_of(&told, "n5"), ["10.244.66.0/24", &cidrs.join(",")]);
        for said in ["10.244.67.0/24", "10.244.68.0/24"] {
            server.update("n5", |node| node["metadata"]["annotations"][POD_CIDRS] = json!(said));
            told.until_as(&server).await;
        }
        assert_eq!(told_of(&told, "n5").len(), 2);
        // Another node of that name is.
        server.delete("n5");
        server.create(saying("n5", cidrs, "10.244.69.0/24"));
        told.until_as(&server).await;
        assert_eq!(told_of(&told, "n5")[2], "10.244.69.0/24");
    }
}

#[tokio::test]
async fn what_another_node_has_or_no_node_can_have_is_not_told_before_the_object_was_read() {
    let server = with_nodes(2).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    let there = told.view["n1"].pod_cidrs[0].clone();
    for said in [there.as_str(), "10.244.0.0/16", "0.0.0.0/0", "192.0.2.0/24", "10.244.6.7/24", "x", ""] {
        server.create(saying("n5", &["10.244.5.0/24"], said));
        told.until_as(&server).await;
        assert_eq!(told_of(&told, "n5"), ["10.244.5.0/24"], "{said}");
        server.delete("n5");
        told.until_as(&server).await;
        told.events.clear();
    }
}

#[tokio::test]
async fn of_two_nodes_that_say_they_have_the_same_both_are_read_at_once() {
    let server = with_nodes(1).await;
    let mut told = Told::peers_at(&server, Pace { check: Duration::from_hours(1), ..HASTY });
    told.until_as(&server).await;
    server.create(saying("liar", &["10.244.5.0/24"], "10.244.66.0/24"));
    told.until("believed", |told| told.view.contains_key("liar")).await;
    assert!(server.requests_with("GET /api/v1/nodes/").is_empty());
    server.create(saying("n66", &["10.244.66.0/24"], "10.244.66.0/24"));
    told.until_as(&server).await;
    assert_eq!(told_of(&told, "n66"), ["10.244.66.0/24"]);
}

#[tokio::test]
async fn a_list_says_what_there_is_whatever_an_annotation_says() {
    let server = with_nodes(1).await;
    let mut told = Told::peers_at(&server, Pace { check: Duration::from_hours(1), ..HASTY });
    told.until_as(&server).await;
    server.create(saying("n5", &["10.244.5.0/24"], "10.244.66.0/24"));
    told.until("believed", |told| told.view.contains_key("n5")).await;
    server.compact();
    server.cut_watches();
    server.create(peer(9));
    server.compact();
    told.until_as(&server).await;
}

#[tokio::test]
async fn a_node_that_gets_its_cidrs_later_is_asked_for_until_it_has_them() {
    let server = with_nodes(1).await;
    server.create(node("n1", &[], &[]));
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.create(node("n2", &[], &[]));
    told.until_as(&server).await;
    for name in ["n1", "n2"] {
        server.update(name, |node| node["spec"]["podCIDRs"] = json!(["10.244.77.0/24"]));
    }
    told.until_as(&server).await;
    assert_eq!(told.view["n1"].pod_cidrs, ["10.244.77.0/24"]);
}

#[tokio::test]
async fn nodes_are_asked_for_few_at_a_time() {
    let server = with_nodes(1).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.add_fault(Fault::of("GET /api/v1/nodes/", 4, Kind::Silence));
    for index in 1..20 {
        server.create(peer(index));
    }
    while server.requests_with("GET /api/v1/nodes/").len() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The rest would come at once, since it is not silent to them.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.requests_with("GET /api/v1/nodes/").len(), 4);
    told.until_as(&server).await;
}

#[tokio::test]
async fn a_node_that_cannot_be_read_is_asked_for_again() {
    let server = with_nodes(1).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    for (index, code) in [(3, 500), (4, 404), (5, 403), (6, 410)] {
        server.add_fault(Fault::status("GET /api/v1/nodes/", 2, code));
        server.create(peer(index));
        told.until_as(&server).await;
    }
}

#[tokio::test]
async fn a_node_that_goes_before_it_can_be_read_is_not_asked_for_any_more() {
    let server = with_nodes(1).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.add_fault(Fault::status("GET /api/v1/nodes/", usize::MAX, 404));
    server.create(peer(3));
    let asked = || server.requests_with("GET /api/v1/nodes/").len();
    while asked() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.delete("n3");
    told.until_version_of(&server).await;
    // One may be under way.
    tokio::time::sleep(HASTY.backoff.max * 2).await;
    let before = asked();
    tokio::time::sleep(HASTY.backoff.max * 5).await;
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn without_the_metadata_form_everything_is_watched() {
    let server = with_nodes(2).await;
    server.refuse_metadata_form();
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.create(peer(4));
    told.until_as(&server).await;
    assert!(server.requests_with("GET /api/v1/nodes/").is_empty());
    assert_eq!(told.state.borrow().form, Some(WatchForm::Full));
    assert_eq!(told.state.borrow().ends["not-acceptable"], 1);
}

/// Once, instead of all nodes: none, at this version.
fn empty_list_of(version: u64) -> Fault {
    let end = serde_json::json!({"type": "BOOKMARK", "object": {"metadata": {
        "resourceVersion": version.to_string(),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }}});
    Fault::of("sendInitialEvents", 1, Kind::Body(format!("{end}\n")))
}

#[tokio::test]
async fn an_empty_list_is_read_twice_before_it_is_believed() {
    let server = with_nodes(5).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.add_fault(empty_list_of(999));
    server.delete("n0");
    server.compact();
    server.cut_watches();
    told.until_as(&server).await;
    assert!(told.events.iter().all(|event| !matches!(event, Heard::All(0))));
    for index in 0..5 {
        server.delete(&format!("n{index}"));
    }
    server.compact();
    server.cut_watches();
    told.until_as(&server).await;
}

#[tokio::test]
async fn a_list_that_is_older_than_what_was_told_is_not_believed() {
    let server = with_nodes(3).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    server.add_fault(empty_list_of(50));
    server.create(peer(5));
    server.compact();
    server.cut_watches();
    told.until_as(&server).await;
    assert!(told.events.iter().all(|event| !matches!(event, Heard::All(0))));
    assert_eq!(told.state.borrow().strategy, Some(Strategy::Cache));
}

#[tokio::test]
async fn a_cluster_whose_backup_was_restored_is_read_again() {
    let server = with_nodes(5).await;
    let mut told = Told::by(restless_client(&server), ReflectorOptions::peers(None));
    told.until_as(&server).await;
    server.delete("n3");
    told.until_as(&server).await;
    server.go_back_to(50);
    server.create(peer(9));
    server.cut_watches();
    told.until_as(&server).await;
    assert_eq!(told.state.borrow().version, "51");
}

#[tokio::test]
async fn events_of_an_older_version_are_not_believed() {
    let server = with_nodes(2).await;
    let mut told = Told::peers(&server);
    told.until_as(&server).await;
    told.until_version_of(&server).await;
    let event = json!({"type": "DELETED", "object": {"metadata": {"name": "n1", "uid": "uid-2", "resourceVersion": "7"}}});
    server.send_line(&event.to_string());
    told.until("read again", |told| told.state.borrow().syncs == 2).await;
    told.until_as(&server).await;
    assert_eq!(told.state.borrow().ends["backwards"], 1);
}

#[tokio::test]
async fn the_state_says_why_nothing_comes() {
    let server = with_nodes(1).await;
    server.add_fault(Fault::status("/api/v1/nodes", usize::MAX, 403));
    let mut told = Told::peers(&server);
    let mut state = told.state.clone();
    let forbidden = |state: &flannel_kube_api::ReflectorState| {
        state.phase == Phase::Waiting
            && matches!(state.last_error, Some(KubeError::Forbidden { verb: "watch", .. }))
    };
    state.wait_for(forbidden).await.expect("it goes on");
    server.clear_faults();
    told.until_as(&server).await;
    told.until_version_of(&server).await;
    let state = told.state.borrow().clone();
    assert!(
        state.last_error.is_none() && state.last_contact.is_some() && state.phase == Phase::Live,
        "{state:?}"
    );
}

#[tokio::test]
async fn whatever_fails_is_tried_again() {
    for code in [401, 403, 404, 409, 429, 500, 503, 504] {
        let server = with_nodes(4).await;
        server.add_fault(Fault::status("/api/v1/nodes", 6, code));
        let mut told = Told::peers(&server);
        told.until_as(&server).await;
        server.add_fault(Fault::status("/api/v1/nodes", 6, code));
        server.cut_watches();
        server.delete("n2");
        server.create(peer(7));
        told.until_as(&server).await;
    }
}

#[tokio::test]
async fn the_own_node_is_told_with_all_that_is_known_of_it_and_nothing_else_is_asked_for() {
    let server = with_nodes(3).await;
    let mut told = Told::of(&server, ReflectorOptions::own_node("n1"));
    told.until("there", |told| told.view.contains_key("n1")).await;
    assert_eq!(told.view["n1"].addresses[0], ("InternalIP".to_owned(), "192.0.2.1".to_owned()));
    set_public_ip(&server, "n0", "192.0.2.8");
    server.update("n1", |node| {
        node["status"]["conditions"] =
            json!([{"type": "NetworkUnavailable", "status": "True", "reason": "x"}]);
    });
    told.until("a condition", |told| told.view["n1"].network_unavailable.is_some()).await;
    server.delete("n1");
    told.until("gone", |told| told.view.is_empty()).await;
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.uri.contains("fieldSelector=metadata.name%3Dn1")));
    assert!(requests.iter().all(|request| !request.headers["accept"].contains("Partial")));
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let server = with_nodes(1).await;
    let mut live = Told::peers(&server);
    live.until_as(&server).await;
    assert!(live.ends().await);
    server.add_fault(Fault::status("/api/v1/nodes", usize::MAX, 500));
    assert!(Told::peers(&server).ends().await);
}
