//! Tags that move: forwards without a word, and back not without one.

use super::*;
use crate::registry::manifest::Annotations;

/// Publishes something under the tag v1, and pulls it. Answers its digest, and what is said of the tag.
async fn publish(bench: &Bench, component: &[u8], version: &str, created: &str) -> (Digest, Option<String>) {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let annotations = Annotations { title: None, version: some(version), created: some(created) };
    let digest = bench.server.publish_with("v1", component, annotations);
    (digest, bench.pull(":v1").await.expect("pulled").provenance.moved)
}

#[tokio::test]
async fn a_tag_that_moves_to_an_older_version_is_said_each_time_until_it_is_newer_again() {
    let bench = Bench::new().await;
    let (_, moved) = publish(&bench, b"one", "1.1.0", "").await;
    assert_eq!(moved, None);
    let (newest, moved) = publish(&bench, b"two", "1.2.0", "").await;
    assert_eq!(moved, None);
    let (old, moved) = publish(&bench, b"three", "1.2.0-rc.1", "").await;
    let said = format!("moved from 1.2.0 ({newest}) back to 1.2.0-rc.1 ({old})");
    assert_eq!(moved.as_deref(), Some(&*said));
    assert_eq!(bench.pull(":v1").await.expect("pulled").provenance.moved, Some(said.clone()));
    assert_eq!(
        bench.pull(&format!(":v1@{old}")).await.expect("pulled").provenance.moved,
        None,
        "it is pinned"
    );
    let (_, moved) = publish(&bench, b"two", "1.2.0", "").await;
    assert_eq!(moved, None);
    let (_, moved) = publish(&bench, b"four", "v1.10.0", "").await;
    assert_eq!(moved, None);
    let (_, moved) = publish(&bench, b"five", "1.9.0", "").await;
    assert!(moved.expect("moved").starts_with("moved from v1.10.0 "));
    let gone = bench.without_server();
    let moved = gone.pull(":v1").await.expect("from the cache").provenance.moved;
    assert!(moved.expect("moved").contains("back to 1.9.0"), "without the registry, too");
}

#[tokio::test]
async fn where_versions_say_nothing_the_time_does_and_what_was_there_before() {
    let bench = Bench::new().await;
    publish(&bench, b"one", "nightly", "2026-01-02T00:00:00Z").await;
    let (_, moved) = publish(&bench, b"two", "nightly", "2026-01-02T00:00:01.5+00:00").await;
    assert_eq!(moved, None);
    let (_, moved) = publish(&bench, b"three", "nightly", "2025-12-31T23:59:59-01:00").await;
    assert!(moved.expect("moved").contains(" back to nightly "));

    let bench = Bench::new().await;
    for component in [b"one".as_slice(), b"two", b"three"] {
        assert_eq!(publish(&bench, component, "", "").await.1, None);
    }
    let (old, moved) = publish(&bench, b"one", "", "").await;
    assert!(moved.expect("moved").ends_with(&format!("back to {old}")));
}

#[tokio::test]
async fn a_version_that_is_not_said_any_more_is_said() {
    let bench = Bench::new().await;
    let (newest, _) = publish(&bench, b"one", "1.0.0", "").await;
    let (now, moved) = publish(&bench, b"two", "", "").await;
    let said = format!("moved from 1.0.0 ({newest}) to {now}, which does not say its version");
    assert_eq!(moved, Some(said));
}

#[tokio::test]
async fn odd_annotations_do_no_harm() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    let plain = String::from_utf8(bench.server.state().manifests["v1"].clone()).expect("text");
    for odd in [
        r#""annotations":{"org.opencontainers.image.version":7,"x":[]}"#,
        r#""annotations":[]"#,
        r#""annotations":null"#,
        r#""annotations":{"org.opencontainers.image.version":"\u001b[31m1.0\n","org.opencontainers.image.created":"today"}"#,
    ] {
        let manifest = plain.replacen('{', &format!("{{{odd},"), 1);
        bench.server.publish_manifest("v1", manifest.as_bytes());
        let moved = bench.pull(":v1").await.expect("pulled").provenance.moved.unwrap_or_default();
        assert!(!moved.contains(char::is_control), "{moved:?}");
    }
}
