//! Registries that lie, break off, or never end: each is refused by name, and nothing of it gets into the cache.

use super::*;
use crate::registry::manifest;

#[tokio::test]
async fn wrong_answers_are_refused_by_name() {
    let bench = Bench::new().await;
    let digest = bench.server.publish("v1", COMPONENT);
    let other = Digest::of(b"another").to_string();
    let manifest = "/manifests/v1: ";
    let cases = [
        (Manners::DigestHeader(other.clone()), vec!["the manifest should have", &other]),
        (Manners::Blob(b"another but of that size".into()), vec!["larger than", "component"]),
        (
            Manners::Blob(vec![b'x'; COMPONENT.len()]),
            vec!["the component should have sha256:", "has sha256:"],
        ),
        (Manners::Blob(COMPONENT[..9].into()), vec!["should have 18 bytes", "sent 9"]),
        (Manners::BrokenBlob, vec!["/blobs/sha256:", "breaks off"]),
        (Manners::EndlessManifest, vec!["/manifests/v1", "manifest is larger than 4194304 bytes"]),
        (Manners::Status(404), vec![manifest, "404 Not Found"]),
        (Manners::Status(500), vec![manifest, "500 Internal Server Error"]),
        (Manners::Elsewhere("http://192.0.2.1/x".to_owned()), vec!["/blobs/sha256:", "no HTTPS"]),
        (Manners::Elsewhere(bench.server.reference("").replace("oci:", "ftp:")), vec!["no HTTPS"]),
    ];
    for (manners, words) in cases {
        bench.server.state().manners = manners;
        let error = bench.refusal(":v1").await;
        for word in words {
            assert!(error.contains(word), "{word:?} in {error:?}");
        }
    }
    assert!(!bench.cache().exists(), "nothing is kept");
    bench.server.state().manners = Manners::Good;
    let pulled = bench.pull(&format!("@{digest}")).await.expect("the truth is taken");
    assert_eq!(pulled.component, COMPONENT);
}

#[tokio::test]
async fn a_manifest_other_than_the_pinned_one_is_refused_with_both_digests() {
    let bench = Bench::new().await;
    let found = bench.server.publish("v1", COMPONENT);
    let wanted = Digest::of(b"another");
    let manifest = bench.server.state().manifests["v1"].clone();
    bench.server.state().manifests.insert(wanted.to_string(), manifest);
    let error = bench.refusal(&format!("@{wanted}")).await;
    assert!(error.contains(&wanted.to_string()) && error.contains(&found.to_string()), "{error}");
}

#[tokio::test]
async fn manifests_that_are_not_a_components_are_refused_by_name() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    let good = String::from_utf8(bench.server.state().manifests["v1"].clone()).expect("text");
    let layer = Digest::of(COMPONENT).to_string();
    let cases = [
        (
            good.replace("application/wasm", "application/vnd.oci.image.layer.v1.tar+gzip"),
            "tar+gzip\", not application/wasm",
        ),
        (
            good.replace("image.manifest", "image.index"),
            "image.index.v1+json\", not application/vnd.oci.image.manifest",
        ),
        (good.replace("\"schemaVersion\":2", "\"schemaVersion\":1"), "schema version is 1"),
        (good.replace(&layer, "sha512:00"), "layer's digest is \"sha512:00\""),
        (good.replace("\"size\":18", "\"size\":268435457"), "268435457 bytes, which is more than 256 MiB"),
        (good.replace("\"layers\":[", "\"layers\":[],\"other\":["), "0 layers, not one"),
        (good.replace("\"size\":18", "\"size\":-1"), "not understood at line 1"),
        ("<html>".to_owned(), "not understood at line 1"),
        (String::new(), "not understood at line"),
        (good.replace("application/wasm", &"x".repeat(10_000)), "xxx\", not application/wasm"),
    ];
    for (wrong, said) in cases {
        assert_ne!(wrong, good, "{said}");
        bench.server.publish_manifest("wrong", wrong.as_bytes());
        let error = bench.refusal(":wrong").await;
        assert!(
            error.contains("not that of a WebAssembly component") && error.contains(said),
            "{said}: {error}"
        );
        assert!(error.len() < 400, "{error}");
    }
    assert!(manifest::layer(good.as_bytes()).is_ok());
}

#[tokio::test]
async fn what_hangs_is_given_up_and_the_cache_takes_its_place() {
    let bench = Bench::with(short()).await;
    bench.server.publish("v1", COMPONENT);
    for (manners, said) in
        [(Manners::Hanging, "no answer in time"), (Manners::HangingBlob, "stops in the middle")]
    {
        bench.server.state().manners = manners;
        let error = bench.refusal(":v1").await;
        assert!(error.contains(said), "{error}");
    }
    bench.server.state().manners = Manners::Good;
    bench.pull(":v1").await.expect("pulled");
    bench.server.state().manners = Manners::Hanging;
    assert_eq!(bench.pull(":v1").await.expect("from the cache").component, COMPONENT);
}

#[tokio::test]
async fn what_would_take_for_ever_in_small_pieces_is_given_up() {
    let times = Timeouts { whole: Duration::from_millis(300), ..Timeouts::default() };
    let bench = Bench::with(times).await;
    bench.server.publish("v1", COMPONENT);
    bench.server.state().manners = Manners::HangingBlob;
    let error = bench.refusal(":v1").await;
    assert!(error.contains("is too slow"), "{error}");
}
