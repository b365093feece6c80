//! Signatures in registries: what cosign has put there, what is pushed here, what is kept for when the registry is gone, and what liars
//! put in their place.

use super::*;
use crate::reference::Version;
use crate::registry::manifest::{self, Annotations};
use crate::registry::signatures::MAX_SIGNATURES;
use crate::signature::tests::{fixture, fixture_key, fixture_private_key};
use crate::signature::{Provenance, simple_signing};

/// The media type of a signed text's layer.
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A registry with what cosign has made, less the manifests whose names end so; and the manifest's digest.
fn with_cosigns(bench: &Bench, without: &[&str]) -> Digest {
    let mut state = bench.server.state();
    for (kind, put) in [("manifests", true), ("blobs", false)] {
        for entry in std::fs::read_dir(fixture("registry").join(kind)).expect("listed") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_str().expect("text").to_owned();
            let bytes = std::fs::read(&path).expect("read");
            if !put {
                state.blobs.insert(format!("sha256:{name}"), bytes);
            } else if !without.iter().any(|ending| name.ends_with(ending)) {
                state.manifests.insert(Digest::of(&bytes).to_string(), bytes.clone());
                state.manifests.insert(name, bytes);
            }
        }
    }
    Digest::of(&state.manifests["v1"])
}

async fn bench_with(keys: &[&str]) -> Bench {
    let mut bench = Bench::new().await;
    bench.trusted = keys.iter().map(|key| fixture_key(key)).collect();
    bench
}

fn signers(pulled: &Pulled) -> Vec<&str> {
    pulled.provenance.signers.iter().map(|signer| signer.name.as_str()).collect()
}

fn unsigned(pulled: &Pulled) -> &str {
    pulled.provenance.unsigned.as_deref().expect("unsigned")
}

fn tag(manifest: Digest) -> String {
    format!("sha256-{}.sig", manifest.hex())
}

/// Puts a manifest of signatures where cosign has them; each layer is its media type, its text, and its signature.
fn put_signatures(bench: &Bench, manifest: Digest, layers: &[(&str, &[u8], String)]) -> Digest {
    let layers: Vec<_> = layers
        .iter()
        .map(|(media_type, text, signature)| {
            bench.server.state().blobs.insert(Digest::of(text).to_string(), text.to_vec());
            serde_json::json!({
                "mediaType": media_type,
                "digest": Digest::of(text).to_string(),
                "size": text.len(),
                "annotations": { "dev.cosignproject.cosign/signature": signature },
            })
        })
        .collect();
    let signatures = serde_json::json!({ "schemaVersion": 2, "layers": layers }).to_string();
    bench.server.publish_manifest(&tag(manifest), signatures.as_bytes())
}

#[tokio::test]
async fn what_cosign_has_signed_is_verified_by_its_tag() {
    let bench = bench_with(&["p256", "ed25519"]).await;
    with_cosigns(&bench, &["560"]);
    assert_eq!(signers(&bench.pull(":v1").await.expect("pulled")), ["p256", "ed25519"]);
}

#[tokio::test]
async fn bundles_that_cosign_has_made_are_found_among_the_referrers() {
    for by_api in [false, true] {
        let bench = bench_with(&["p256", "ed25519"]).await;
        let digest = with_cosigns(&bench, &[".sig"]);
        if by_api {
            let mut state = bench.server.state();
            let list = state.manifests.remove(&format!("sha256-{}", digest.hex())).expect("a list");
            state.referrers.insert(digest.to_string(), list);
        }
        let pulled = bench.pull(":v1").await.expect("pulled");
        assert_eq!(signers(&pulled), ["p256", "ed25519"], "by the API: {by_api}");
    }
}

#[tokio::test]
async fn without_keys_no_signature_is_asked_for() {
    let bench = bench_with(&[]).await;
    with_cosigns(&bench, &[]);
    let pulled = bench.pull(":v1").await.expect("pulled");
    assert_eq!((bench.server.asked(), pulled.provenance), (2, Provenance::default()));
}

#[tokio::test]
async fn what_is_signed_here_is_verified_and_signed_once_by_each_key() {
    let bench = bench_with(&["p256", "ed25519"]).await;
    let keys = [fixture_private_key("p256"), fixture_private_key("ed25519")];
    let with = Publication { name: Some("p".into()), version: Some("1.2.0".into()), key: Some(&keys[0]) };
    let pinned =
        bench.registries.push(COMPONENT.to_vec(), &bench.reference(":v1"), with).await.expect("pushed");
    assert_eq!(signers(&bench.pull(":v1").await.expect("pulled")), ["p256"]);
    let Version::Digest { digest, .. } = pinned.version else { panic!("pinned") };
    let layers = |bench: &Bench| {
        let state = bench.server.state();
        let manifest: serde_json::Value =
            serde_json::from_slice(&state.manifests[&tag(digest)]).expect("JSON");
        assert_eq!(manifest["subject"]["digest"], digest.to_string());
        manifest["layers"].as_array().expect("layers").len()
    };
    for (key, count) in [(&keys[0], 1), (&keys[1], 2), (&keys[1], 2)] {
        bench.registries.sign(&bench.reference(":v1"), key).await.expect("signed");
        assert_eq!(layers(&bench), count);
    }
    std::fs::remove_dir_all(bench.cache()).expect("removed");
    assert_eq!(signers(&bench.pull(":v1").await.expect("pulled")), ["p256", "ed25519"]);
}

#[tokio::test]
async fn what_is_below_the_tag_for_signatures_and_is_none_is_not_overwritten() {
    let bench = bench_with(&[]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    let signatures = tag(digest);
    bench.server.publish_manifest(&signatures, b"something else");
    let key = fixture_private_key("p256");
    let error = bench.registries.sign(&bench.reference(":v1"), &key).await.expect_err("refused");
    assert!(error.to_string().contains(&signatures), "{error}");
    assert_eq!(bench.server.state().manifests[&signatures], b"something else");
}

#[tokio::test]
async fn signatures_are_kept_for_when_the_registry_is_gone_and_verified_each_time() {
    let mut bench = bench_with(&["p256"]).await;
    let digest = with_cosigns(&bench, &[]);
    bench.pull(":v1").await.expect("pulled");
    let asked = bench.server.asked();
    assert_eq!(signers(&bench.pull(&format!("@{digest}")).await.expect("cached")), ["p256"]);
    assert_eq!(bench.server.asked(), asked, "what is cached is enough");
    bench.trusted.push(fixture_key("ed25519"));
    let gone = bench.without_server();
    for version in [":v1".to_owned(), format!("@{digest}")] {
        let pulled = gone.pull(&version).await.expect("from the cache");
        assert_eq!(signers(&pulled), ["p256", "ed25519"], "{version}");
    }
    let [file] = &files(&gone.directory.path().join("cache"), "json")
        .into_iter()
        .filter(|file| file.to_string_lossy().contains("signatures"))
        .collect::<Vec<_>>()[..]
    else {
        panic!("one file with signatures")
    };
    let forged =
        std::fs::read_to_string(file).expect("read").replace("\"signature\":\"M", "\"signature\":\"N");
    std::fs::write(file, forged).expect("written");
    let pulled = gone.pull(":v1").await.expect("from the cache");
    assert_eq!(signers(&pulled), ["ed25519"], "the other one is none any more");
}

#[tokio::test]
async fn a_signature_that_comes_later_is_found_although_the_component_is_cached() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    let pinned = format!("@{digest}");
    let pulled = bench.pull(&pinned).await.expect("pulled");
    assert_eq!(unsigned(&pulled), "it has no signature in the registry");
    bench.registries.sign(&bench.reference(":v1"), &fixture_private_key("p256")).await.expect("signed");
    assert_eq!(signers(&bench.pull(&pinned).await.expect("pulled")), ["p256"]);
}

#[tokio::test]
async fn a_registry_that_keeps_its_signatures_to_itself_is_named() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    let gone = bench.without_server();
    let pulled = gone.pull(&format!("@{digest}")).await.expect("from the cache");
    assert!(
        unsigned(&pulled).starts_with("its signatures cannot be fetched: http://127.0.0.1:"),
        "{:?}",
        pulled.provenance
    );
    let pulled = gone.pull(":v1").await.expect("from the cache");
    assert_eq!(unsigned(&pulled), "it has no signature in the cache, and its registry is away");
}

#[tokio::test]
async fn a_signature_of_another_manifest_or_by_another_key_is_none() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    let other = bench.server.publish("v2", b"another");
    let text = simple_signing("r/p", other);
    let (ours, others) = (fixture_private_key("p256"), fixture_private_key("ed25519"));
    let honest = simple_signing("r/p", digest);
    put_signatures(
        &bench,
        digest,
        &[
            (SIMPLE, &text, ours.sign_file(&text).expect("signed")),
            (SIMPLE, &honest, others.sign_file(&honest).expect("signed")),
        ],
    );
    let pulled = bench.pull(":v1").await.expect("pulled");
    assert_eq!(unsigned(&pulled), "none of its 2 signatures is by one of the keys given, for these bytes");
}

#[tokio::test]
async fn what_strangers_put_beside_a_signature_does_it_no_harm() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    let text = simple_signing("r/p", digest);
    let good = fixture_private_key("p256").sign_file(&text).expect("signed");
    let large = vec![b' '; 100_000];
    put_signatures(
        &bench,
        digest,
        &[
            (SIMPLE, &large, good.clone()),
            (SIMPLE, &text, "no base64".to_owned()),
            (SIMPLE, b"{}", good.clone()),
            (BUNDLE, b"{}", String::new()),
            ("text/plain", &text, good.clone()),
            (SIMPLE, &text, good),
        ],
    );
    bench.server.state().referrers.insert(digest.to_string(), b"<html>".to_vec());
    assert_eq!(signers(&bench.pull(":v1").await.expect("pulled")), ["p256"]);
}

#[tokio::test]
async fn only_so_many_signatures_and_referrers_are_looked_at() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    let texts: Vec<String> = (0..200).map(|number| format!("text {number}")).collect();
    let layers: Vec<(&str, &[u8], String)> =
        texts.iter().map(|text| (SIMPLE, text.as_bytes(), "AAAA".to_owned())).collect();
    put_signatures(&bench, digest, &layers);
    let referrers: Vec<_> = texts
        .iter()
        .map(|text| serde_json::json!({ "digest": Digest::of(text.as_bytes()).to_string() }))
        .collect();
    let list = serde_json::json!({ "manifests": referrers }).to_string();
    bench.server.state().referrers.insert(digest.to_string(), list.into_bytes());
    let pulled = bench.pull(":v1").await.expect("pulled");
    assert!(
        unsigned(&pulled).starts_with(&format!("none of its {MAX_SIGNATURES} ")),
        "{:?}",
        pulled.provenance
    );
    assert!(bench.server.asked() < 2 * MAX_SIGNATURES, "{} requests", bench.server.asked());
}

#[tokio::test]
async fn texts_that_are_not_there_are_asked_for_only_so_often() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    let texts: Vec<String> = (0..200).map(|number| format!("text {number}")).collect();
    let layers: Vec<(&str, &[u8], String)> =
        texts.iter().map(|text| (SIMPLE, text.as_bytes(), "AAAA".to_owned())).collect();
    put_signatures(&bench, digest, &layers);
    for text in &texts {
        bench.server.state().blobs.remove(&Digest::of(text.as_bytes()).to_string());
    }
    let pulled = bench.pull(":v1").await.expect("pulled");
    assert_eq!(unsigned(&pulled), "it has no signature in the registry");
    assert!(bench.server.asked() < 60, "{} requests", bench.server.asked());
}

#[tokio::test]
async fn endless_answers_in_place_of_signatures_are_given_up() {
    let bench = bench_with(&["p256"]).await;
    let digest = bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    bench.server.publish_manifest(&tag(digest), b"{}");
    bench.server.state().manners = Manners::EndlessManifest;
    let pulled = bench.pull(&format!("@{digest}")).await.expect("from the cache");
    assert_eq!(unsigned(&pulled), "it has no signature in the registry");
}

#[tokio::test]
async fn a_manifest_keeps_its_digest_however_often_it_is_pushed() {
    let annotations = Annotations { title: Some("p".into()), version: Some("1.2.0".into()), created: None };
    let config = manifest::config(COMPONENT);
    let wanted = manifest::compose(&config, Digest::of(COMPONENT), COMPONENT.len(), annotations.clone());
    assert_eq!(Annotations::of(&wanted), annotations);
    let bench = bench_with(&[]).await;
    for _ in 0..2 {
        let with = Publication { name: Some("p".into()), version: Some("1.2.0".into()), key: None };
        let to = bench.reference(":v1");
        let pinned = bench.registries.push(COMPONENT.to_vec(), &to, with).await.expect("pushed");
        assert_eq!(pinned, to.pinned(Digest::of(&wanted)));
    }
}
