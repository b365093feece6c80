//! Requests and their errors.

mod common;

use std::time::Duration;

use common::{IMPATIENT, PREFIX, client, nowhere, restless_client};
use flannel_fake_kube::{FakeKube, Fault, Kind, Mode, node};
use flannel_kube_api::{
    ClusterAccess, KubeApi, KubeError, ListEnd, ListVersion, Node, WatchEvent, WatchForm,
};
use tokio::sync::mpsc;

const PUBLIC_IP: &str = "flannel.alpha.coreos.com/public-ip";

async fn with_nodes(number: usize) -> (FakeKube, KubeApi) {
    let server = FakeKube::start().await;
    for index in 0..number {
        server.create(node(
            &format!("n{index}"),
            &[&format!("10.244.{index}.0/24")],
            &[(PUBLIC_IP, "192.0.2.1")],
        ));
    }
    let client = client(&server);
    (server, client)
}

/// The names of all nodes of a list, or of a page of one, and its end.
async fn list(
    client: &KubeApi,
    version: ListVersion<'_>,
    only: Option<&str>,
) -> Result<(Vec<String>, ListEnd), KubeError> {
    let (nodes, mut read) = mpsc::channel::<Node>(1);
    let names = async move {
        let mut names = Vec::new();
        while let Some(node) = read.recv().await {
            names.push(node.name);
        }
        names
    };
    let (end, names) = tokio::join!(client.nodes(version, only, nodes), names);
    Ok((names, end?))
}

#[tokio::test]
async fn a_pod_knows_its_node_once_it_is_on_one() {
    let (server, client) = with_nodes(0).await;
    server.put_pod("kube-flannel", "a", Some("n7"));
    server.put_pod("kube-flannel", "b", None);
    assert_eq!(client.pod_node_name("kube-flannel", "a").await, Ok(Some("n7".to_owned())));
    assert_eq!(client.pod_node_name("kube-flannel", "b").await, Ok(None));
    assert!(matches!(client.pod_node_name("kube-flannel", "c").await, Err(KubeError::NotFound { .. })));
}

#[tokio::test]
async fn requests_name_the_daemon() {
    let (server, client) = with_nodes(1).await;
    assert_eq!(client.node("n0").await.expect("a node").pod_cidrs, ["10.244.0.0/24"]);
    let agent = &server.requests()[0].headers["user-agent"];
    // What the server calls the manager of fields is before the slash.
    assert_eq!(agent.split_once('/').map(|(name, _)| name), Some("flanneld"), "{agent}");
}

#[tokio::test]
async fn a_list_from_the_cache_has_all_nodes_and_a_version() {
    let (server, client) = with_nodes(7).await;
    let (names, end) = list(&client, ListVersion::NotOlderThan("0"), None).await.expect("a list");
    assert_eq!(names, ["n0", "n1", "n2", "n3", "n4", "n5", "n6"]);
    assert_eq!(end.resource_version, server.version().to_string());
    assert!(end.more.is_empty());
    let (names, _) = list(&client, ListVersion::NotOlderThan("103"), Some("n3")).await.expect("a list");
    assert_eq!(names, ["n3"]);
    let asked = server.requests_with("GET /api/v1/nodes");
    assert_eq!(
        asked,
        [
            "GET /api/v1/nodes?resourceVersion=0",
            "GET /api/v1/nodes?fieldSelector=metadata.name%3Dn3&resourceVersion=103&resourceVersionMatch=NotOlderThan",
        ]
    );
}

#[tokio::test]
async fn a_list_in_pages_stays_at_one_version() {
    let (server, client) = with_nodes(5).await;
    server.set_largest_page(3);
    let (one, first) = list(&client, ListVersion::Newest(""), None).await.expect("a page");
    server.delete("n4");
    let (other, second) = list(&client, ListVersion::Newest(&first.more), None).await.expect("a page");
    assert_eq!((one.join(" "), other.join(" ")), ("n0 n1 n2".to_owned(), "n3 n4".to_owned()));
    assert_eq!((&second.resource_version, second.more.as_str()), (&first.resource_version, ""));
    server.compact();
    let late = list(&client, ListVersion::Newest(&first.more), None).await;
    assert!(matches!(late, Err(KubeError::Gone { .. })), "{late:?}");
    assert!(server.requests_with("limit=500").len() == 3);
}

#[tokio::test]
async fn a_list_that_breaks_off_or_stops_is_no_list() {
    let (server, client) = with_nodes(9).await;
    for kind in [Kind::Cut, Kind::Stop] {
        server.add_fault(Fault::of("GET /api/v1/nodes", 1, kind));
        let list = list(&client, ListVersion::NotOlderThan("0"), None).await;
        assert!(matches!(list, Err(KubeError::Unreachable { .. })), "{list:?}");
    }
    for body in ["", "[]", "<html>", r#"{"kind":"NodeList","items":[]}"#, r#"{"kind":"Status"}"#] {
        server.add_fault(Fault::of("GET /api/v1/nodes", 1, Kind::Body(body.to_owned())));
        let list = list(&client, ListVersion::NotOlderThan("0"), None).await;
        assert!(matches!(list, Err(KubeError::Malformed { .. })), "{body}: {list:?}");
    }
    assert!(list(&client, ListVersion::NotOlderThan("0"), None).await.is_ok());
}

#[tokio::test]
async fn a_watch_tells_what_changes_and_ends_with_the_server() {
    let (server, client) = with_nodes(1).await;
    let from = server.version().to_string();
    let mut watch = client.watch_nodes(&from, WatchForm::Full, None).await.expect("a watch");
    server.create(node("n9", &["10.244.9.0/24"], &[]));
    server.update("n0", |node| node["metadata"]["annotations"][PUBLIC_IP] = "192.0.2.7".into());
    let added = watch.next().await;
    assert!(
        matches!(&added, Ok(Some(WatchEvent::Applied(node))) if node.pod_cidrs == ["10.244.9.0/24"]),
        "{added:?}"
    );
    let changed = watch.next().await;
    let is_changed = |node: &Node| node.annotations[PUBLIC_IP] == "192.0.2.7";
    assert!(matches!(&changed, Ok(Some(WatchEvent::Applied(node))) if is_changed(node)), "{changed:?}");
    server.send_bookmarks();
    let bookmark =
        WatchEvent::Bookmark { resource_version: server.version().to_string(), is_end_of_list: false };
    assert_eq!(watch.next().await, Ok(Some(bookmark)));
    server.delete("n9");
    let deleted = watch.next().await.expect("an event").expect("an event");
    assert_eq!(deleted.resource_version(), server.version().to_string());
    assert!(matches!(deleted, WatchEvent::Deleted(node) if node.name == "n9"));
    server.end_watches();
    assert_eq!(watch.next().await, Ok(None));
}

#[tokio::test]
async fn a_watch_asks_for_bookmarks_and_five_to_ten_minutes() {
    let (server, client) = with_nodes(1).await;
    client.watch_nodes("101", WatchForm::Full, Some("n0")).await.expect("a watch");
    let uri = server.requests()[0].uri.clone();
    let (before, after) = uri.split_once("&timeoutSeconds=").expect("a time");
    assert_eq!(
        before,
        "/api/v1/nodes?fieldSelector=metadata.name%3Dn0&resourceVersion=101&allowWatchBookmarks=true"
    );
    let (seconds, rest) = after.split_once('&').expect("more");
    assert!((300..=600).contains(&seconds.parse::<u64>().expect("a number")), "{uri}");
    assert_eq!(rest, "watch=true");
}

#[tokio::test]
async fn the_metadata_form_brings_metadata_alone() {
    let (server, client) = with_nodes(1).await;
    let mut watch = client.watch_nodes("100", WatchForm::Metadata, None).await.expect("a watch");
    let event = watch.next().await.expect("an event");
    let is_bare = |node: &Node| {
        node.annotations.contains_key(PUBLIC_IP) && node.uid == "uid-1" && !node.has_pod_cidrs()
    };
    assert!(matches!(&event, Some(WatchEvent::Applied(node)) if is_bare(node)), "{event:?}");
    let accept = &server.requests()[0].headers["accept"];
    assert_eq!(accept, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
}

#[tokio::test]
async fn a_version_that_is_too_old_is_gone_as_an_event_and_as_a_status() {
    let (server, client) = with_nodes(3).await;
    server.compact();
    let mut watch = client.watch_nodes("101", WatchForm::Full, None).await.expect("a watch");
    assert!(matches!(watch.next().await, Err(KubeError::Gone { .. })));
    server.refuse_old_versions_by_status();
    let refused = client.watch_nodes("101", WatchForm::Full, None).await.err();
    assert!(matches!(refused, Some(KubeError::Gone { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_watch_that_breaks_off_falls_silent_or_makes_no_sense_is_an_error() {
    let (server, client) = with_nodes(1).await;
    let from = server.version().to_string();
    let watch = || client.watch_nodes(&from, WatchForm::Full, None);
    let restless = restless_client(&server);
    let mut silent = restless.watch_nodes(&from, WatchForm::Full, None).await.expect("a watch");
    let silent = silent.next().await;
    assert!(matches!(silent, Err(KubeError::Unreachable { .. })), "{silent:?}");
    let mut cut = watch().await.expect("a watch");
    server.cut_watches();
    let cut = cut.next().await;
    assert!(matches!(cut, Err(KubeError::Unreachable { .. })), "{cut:?}");
    for line in ["nonsense", r#"{"type":"ADDED","object":{"metadata":{}}}"#, r#"{"type":"ADDED"}"#] {
        let mut watch = watch().await.expect("a watch");
        // So that none of them is told what was said to one before.
        server.send_line(line);
        let odd = watch.next().await;
        assert!(matches!(odd, Err(KubeError::Malformed { .. })), "{line}: {odd:?}");
    }
}

#[tokio::test]
async fn a_streamed_list_ends_with_a_mark_where_the_server_has_it() {
    let (server, client) = with_nodes(2).await;
    let mut stream = client.stream_nodes("0", None).await.expect("a stream");
    for name in ["n0", "n1"] {
        let event = stream.next().await;
        assert!(matches!(&event, Ok(Some(WatchEvent::Applied(node))) if node.name == name), "{event:?}");
    }
    let end = WatchEvent::Bookmark { resource_version: "102".to_owned(), is_end_of_list: true };
    assert_eq!(stream.next().await, Ok(Some(end)));
    for mode in [Mode::V1_26, Mode::V1_33] {
        server.set_mode(mode);
        let refused = client.stream_nodes("0", None).await.err();
        assert!(matches!(refused, Some(KubeError::Invalid { .. })), "{refused:?}");
    }
    server.set_mode(Mode::V1_36OnEtcd3_4);
    let refused = client.stream_nodes("0", None).await.expect("a stream").next().await;
    let is_told = |message: &str| message.contains("RequestWatchProgress");
    assert!(matches!(&refused, Err(KubeError::Server { message, .. }) if is_told(message)), "{refused:?}");
}

#[tokio::test]
async fn a_patch_is_sent_as_upstreams_daemon_sends_it() {
    let (server, client) = with_nodes(1).await;
    let body = r#"{"metadata":{"annotations":{"flannel.alpha.coreos.com/public-ip":"192.0.2.9"}}}"#;
    let node = client.patch_node_status("n0", body).await.expect("a node");
    assert_eq!(node.annotations[PUBLIC_IP], "192.0.2.9");
    assert_eq!(node.resource_version, server.version().to_string());
    let request = &server.requests()[0];
    assert_eq!(request.line(), "PATCH /api/v1/nodes/n0/status");
    assert_eq!(request.headers["content-type"], "application/strategic-merge-patch+json");
    assert_eq!(request.headers["content-length"], body.len().to_string());
    assert_eq!(request.body, body);
    let missing = client.patch_node_status("n1", "{}").await;
    assert!(matches!(missing, Err(KubeError::NotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn statuses_become_errors_of_their_kind() {
    let (server, client) = with_nodes(1).await;
    for (code, label) in [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not-found"),
        (406, "not-acceptable"),
        (409, "conflict"),
        (410, "gone"),
        (418, "unexpected"),
        (422, "invalid"),
        (429, "too-many-requests"),
        (500, "server"),
        (503, "server"),
    ] {
        server.add_fault(Fault::status("GET", usize::MAX, code));
        let error = client.node("n0").await.expect_err("an error");
        assert_eq!(error.label(), label);
        assert!(error.to_string().contains(&format!("a fault: {code}")), "{error}");
        server.clear_faults();
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_said_in_the_words_of_a_rule() {
    let (server, client) = with_nodes(1).await;
    let message = r#"nodes is forbidden: User "system:serviceaccount:x:y" cannot list resource "nodes""#;
    let kind = Kind::Status { code: 403, message: message.to_owned(), retry_after: None };
    server.add_fault(Fault::of("/api/v1/", usize::MAX, kind));
    let (verb, resource) = ("list", "nodes");
    let expected = KubeError::Forbidden { verb, resource, message: message.to_owned() };
    assert_eq!(list(&client, ListVersion::Newest(""), None).await, Err(expected));
    let patch = client.patch_node_status("n0", "{}").await.expect_err("an error").to_string();
    assert!(patch.starts_with("not allowed to patch nodes/status: nodes is forbidden: User"), "{patch}");
}

#[tokio::test]
async fn nothing_is_repeated_behind_the_callers_back() {
    let (server, client) = with_nodes(1).await;
    for code in [429, 503, 504] {
        let kind = Kind::Status { code, message: "later".to_owned(), retry_after: Some(7) };
        server.add_fault(Fault::of("GET", 1, kind));
        let error = client.node("n0").await.expect_err("an error");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{error:?}");
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn nobody_there_and_no_answer_name_the_address() {
    let (server, client) = with_nodes(1).await;
    server.add_fault(Fault::of("GET", 1, Kind::Silence));
    let silent = client.node("n0").await.expect_err("an error").to_string();
    assert!(silent.contains(&server.address().to_string()), "{silent}");
    let url = server.url();
    drop(server);
    let access = ClusterAccess { api_url: Some(url.clone()), ..nowhere() };
    let away = KubeApi::with_patience(access, PREFIX, IMPATIENT).node("n0").await;
    let away = away.expect_err("an error").to_string();
    assert!(away.contains(&url) && away.contains("refused"), "{away}");
}
