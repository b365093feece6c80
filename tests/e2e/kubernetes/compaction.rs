//! Versions that are gone: which questions about them still have an answer, and which are answered with 410.

use anyhow::Result;
use flannel_lab::control_plane::client::Client;
use flannel_lab::control_plane::nodes::version;
use flannel_lab::control_plane::{Mode, Part};
use serde_json::Value;

use super::Cluster;

/// Makes a node, and versions after it. Answers the node's first version.
fn history(admin: &Client) -> Result<String> {
    let first = version(&admin.create_node("old", &["10.244.9.0/24"], &[])?)?;
    for value in ["1", "2", "3"] {
        admin.annotate_node("old", &[("step", Some(value))])?;
    }
    Ok(first)
}

fn watch(from: &str) -> String {
    format!("/api/v1/nodes?watch=true&timeoutSeconds=5&resourceVersion={from}")
}

fn exactly(at: &str) -> String {
    format!("/api/v1/nodes?resourceVersion={at}&resourceVersionMatch=Exact")
}

/// A watch from this version begins well, and ends with an error. Answers what it says.
fn watch_is_told_that_it_is_gone(admin: &Client, from: &str) -> Result<String> {
    let error = admin.watch(&watch(from))?.wait_for("ERROR")?;
    assert_eq!((&error["code"], &error["reason"]), (&Value::from(410), &Value::from("Expired")), "{error}");
    Ok(error["message"].as_str().unwrap_or_default().to_owned())
}

fn exact_list_is_told_that_it_is_gone(admin: &Client, at: &str) -> Result<()> {
    let answer = admin.get(&exactly(at))?;
    assert_eq!(answer.status, 410, "{}", answer.body);
    assert_eq!(answer.json()?["message"], "The resourceVersion for the provided list is too old.");
    Ok(())
}

#[test]
fn a_compaction_alone_changes_nothing_and_a_restart_after_it_makes_old_versions_gone() -> Result<()> {
    let Some(mut cluster) = Cluster::start(Mode::Single, &[])? else { return Ok(()) };
    let admin = cluster.admin();
    let first = history(&admin)?;
    cluster.plane.compact()?;
    let event = admin.watch(&watch(&first))?.wait_for("MODIFIED")?;
    assert_eq!(event["metadata"]["annotations"]["step"], "1");
    assert_eq!(admin.get(&exactly(&first))?.status, 200);

    cluster.plane.kill(Part::ApiServer);
    cluster.plane.start_again()?;
    let message = watch_is_told_that_it_is_gone(&admin, &first)?;
    assert!(message.starts_with(&format!("too old resource version: {first} (")), "{message}");
    exact_list_is_told_that_it_is_gone(&admin, &first)?;
    let not_older = format!("/api/v1/nodes?resourceVersion={first}&resourceVersionMatch=NotOlderThan");
    assert_eq!(admin.get(&not_older)?.status, 200, "what is newer is good enough");
    Ok(())
}

#[test]
fn without_a_watch_cache_a_compaction_alone_makes_old_versions_gone() -> Result<()> {
    let Some(cluster) = Cluster::start(Mode::Single, &["--watch-cache=false"])? else { return Ok(()) };
    let admin = cluster.admin();
    let first = history(&admin)?;
    admin.create_node("other", &["10.244.10.0/24"], &[])?;
    let page = admin.get("/api/v1/nodes?limit=1")?.object()?;
    let rest = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    admin.annotate_node("old", &[("step", Some("4"))])?;
    cluster.plane.compact()?;

    let message = watch_is_told_that_it_is_gone(&admin, &first)?;
    assert_eq!(message, "The resourceVersion for the provided watch is too old.");
    exact_list_is_told_that_it_is_gone(&admin, &first)?;
    let answer = admin.get(&format!("/api/v1/nodes?limit=1&continue={rest}"))?;
    assert_eq!(answer.status, 410, "{}", answer.body);
    let gone = answer.json()?;
    let message = gone["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("The provided continue parameter is too old"), "{message}");
    let fresh = gone["metadata"]["continue"].as_str().unwrap_or_default();
    assert_ne!(fresh, "", "another token goes on in the state of now");
    let page = admin.get(&format!("/api/v1/nodes?limit=1&continue={fresh}"))?.object()?;
    assert_eq!(page["items"][0]["metadata"]["name"], "other");
    Ok(())
}
