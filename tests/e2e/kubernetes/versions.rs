//! Lists and watches: where they begin, and how a client learns that it has seen all.

use anyhow::{Context, Result};
use flannel_lab::control_plane::client::Watch;
use flannel_lab::control_plane::nodes::version;
use serde_json::{Value, json};

use super::Cluster;

/// More than any version that a test's cluster comes to.
const FUTURE: &str = "1000000000";
/// Metadata alone, of one object; a list says so by another name.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// The events of one node until the mark that the list is over, which is the last.
fn initial_events(watch: &mut Watch) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    loop {
        let event = watch.next_event()?.context("the watch ended before the mark")?;
        let marked = event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
        events.push(event);
        if marked {
            return Ok(events);
        }
    }
}

#[test]
fn a_list_of_a_version_that_is_still_to_come_is_given_up_with_504() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let path = format!("/api/v1/nodes?resourceVersion={FUTURE}&resourceVersionMatch=NotOlderThan&timeout=1s");
    let answer = cluster.admin().get(&path)?;
    assert_eq!((answer.status, &answer.json()?["reason"]), (504, &json!("Timeout")), "{}", answer.body);
    Ok(())
}

#[test]
fn a_watch_of_a_version_that_is_still_to_come_is_silent() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let path = format!("/api/v1/nodes?watch=true&resourceVersion={FUTURE}&timeoutSeconds=1");
    assert_eq!(cluster.admin().watch(&path)?.next_event()?, None);
    Ok(())
}

#[test]
fn a_streaming_list_has_what_is_there_then_a_mark_then_what_changes() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("streamed", &["10.9.10.0/24", "fd00:9:10::/64"], &[])?;
    let path = "/api/v1/nodes?watch=true&timeoutSeconds=60&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                &allowWatchBookmarks=true&fieldSelector=metadata.name%3Dstreamed";
    for accept in ["application/json", METADATA] {
        let mut watch = admin.accepting(accept).watch(path)?;
        let events = initial_events(&mut watch)?;
        let [added, mark] = &events[..] else { panic!("one node and the mark: {events:?}") };
        assert_eq!((&added["type"], &mark["type"]), (&json!("ADDED"), &json!("BOOKMARK")));
        let spec = if accept == METADATA { Value::Null } else { json!("10.9.10.0/24") };
        assert_eq!(added["object"]["spec"]["podCIDR"], spec);
        admin.annotate_node("streamed", &[("seen-by", Some(accept))])?;
        let changed = watch.wait_for("MODIFIED")?;
        assert_eq!(changed["metadata"]["annotations"]["seen-by"], accept);
    }
    admin.delete_node("streamed")
}

#[test]
fn a_streaming_list_that_does_not_say_how_old_it_may_be_is_refused() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let path = "/api/v1/nodes?watch=true&sendInitialEvents=true&allowWatchBookmarks=true";
    let answer = cluster.admin().get(path)?;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert!(answer.body.contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    Ok(())
}

#[test]
fn a_list_of_metadata_alone_is_asked_for_by_the_lists_name() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("listed", &[], &[("a", "b")])?;
    let path = "/api/v1/nodes?fieldSelector=metadata.name%3Dlisted";
    let list = admin.accepting(METADATA_LIST).get(path)?.object()?;
    let [item] = &list["items"].as_array().context("items")?[..] else { panic!("one item: {list}") };
    assert_eq!((&item["metadata"]["annotations"]["a"], &item["spec"]), (&json!("b"), &Value::Null));
    assert_eq!(admin.accepting(METADATA).get(path)?.status, 406);
    let one = admin.accepting(METADATA).get("/api/v1/nodes/listed")?.object()?;
    assert_eq!((&one["kind"], &one["spec"]), (&json!("PartialObjectMetadata"), &Value::Null));
    admin.delete_node("listed")
}

#[test]
fn a_watch_goes_on_where_a_list_ended_and_tells_of_a_deletion_with_the_last_state() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    let admin = cluster.admin();
    admin.create_node("watched", &["10.9.11.0/24"], &[("a", "b")])?;
    let selector = "fieldSelector=metadata.name%3Dwatched";
    let list = admin.get(&format!("/api/v1/nodes?{selector}"))?.object()?;
    let from = version(&list)?;
    let mut watch = admin
        .watch(&format!("/api/v1/nodes?watch=true&{selector}&resourceVersion={from}&timeoutSeconds=60"))?;
    admin.delete_node("watched")?;
    let event = watch.next_event()?.context("an event")?;
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["metadata"]["annotations"]["a"], "b");
    assert_ne!(version(&event["object"])?, from, "the deletion has a version of its own");
    Ok(())
}

#[test]
fn nodes_are_selected_by_no_other_fields_than_name_and_unschedulable() -> Result<()> {
    let Some(cluster) = Cluster::shared()? else { return Ok(()) };
    for (field, status) in
        [("metadata.name%3Da", 200), ("spec.unschedulable%3Dtrue", 200), ("spec.podCIDR%3D10.0.0.0/24", 400)]
    {
        let answer = cluster.admin().get(&format!("/api/v1/nodes?fieldSelector={field}"))?;
        assert_eq!(answer.status, status, "{field}: {}", answer.body);
    }
    Ok(())
}
