//! Pulling from, and pushing to, a registry on loopback that behaves in all the ways that registries do.

mod access;
mod lies;
mod moved;
mod server;
mod signed;

use std::path::Path;
use std::time::Duration;

use flannel_cloud::http::{CleartextPolicy, Http, Timeouts};
use server::{Door, Manners, Server};
use tempfile::TempDir;

use super::{Publication, Pulled, Registries, RegistryError, WitPackage};
use crate::compile::Compiler;
use crate::digest::Digest;
use crate::load::Loader;
use crate::reference::RegistryReference;
use crate::signature::TrustedKey;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 and so on";

/// A registry, a cache, and somebody who asks.
struct Bench {
    server: Server,
    directory: TempDir,
    registries: Registries,
    /// Whose signatures are believed.
    trusted: Vec<TrustedKey>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(Timeouts::default()).await
    }

    async fn with(times: Timeouts) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let registries = Registries {
            http: Http::new(None, CleartextPolicy::Loopback, times),
            docker_config: Some(directory.path().join("config.json")),
        };
        Self { server: Server::start().await, directory, registries, trusted: Vec::new() }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.directory.path().join("cache")
    }

    /// Pulls, and takes note of what the tag means.
    async fn pull(&self, version: &str) -> Result<Pulled, RegistryError> {
        let wanted = self.reference(version);
        let pulled = self.registries.pull(&wanted, &self.cache(), &self.trusted).await?;
        Registries::remember(&pulled, &wanted, &self.cache());
        Ok(pulled)
    }

    async fn refusal(&self, version: &str) -> String {
        let error = self.pull(version).await.err().expect("refused").to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    fn reference(&self, version: &str) -> RegistryReference {
        self.server.reference(version).parse().expect("a reference")
    }

    /// The registry is gone.
    fn without_server(self) -> Gone {
        let Self { server, directory, registries, trusted } = self;
        Gone { address: server.address, directory, registries, trusted }
    }
}

struct Gone {
    address: std::net::SocketAddr,
    directory: TempDir,
    registries: Registries,
    trusted: Vec<TrustedKey>,
}

impl Gone {
    async fn pull(&self, version: &str) -> Result<Pulled, RegistryError> {
        let wanted = format!("oci://{}/plugins/test{version}", self.address).parse().expect("a reference");
        self.registries.pull(&wanted, &self.directory.path().join("cache"), &self.trusted).await
    }
}

/// The smallest component that a daemon would load, with a name by which it differs from others.
fn policy(name: &str) -> Vec<u8> {
    let exports = r#"(instance $p) (export "flannel:backend/policy@0.1.0" (instance $p))"#;
    wat::parse_str(format!(r#"(component {exports} (export "test:test/{name}" (instance $p)))"#))
        .expect("a component")
}

fn files(directory: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[tokio::test]
async fn a_component_is_pulled_by_tag_and_by_digest() {
    let bench = Bench::new().await;
    let digest = bench.server.publish("v1", COMPONENT);
    for version in [":v1".to_owned(), format!("@{digest}"), format!(":whatever@{digest}")] {
        let pulled = bench.pull(&version).await.expect("pulled");
        assert_eq!(pulled.component, COMPONENT);
        assert!(pulled.reference.to_string().ends_with(&format!("@{digest}")), "{}", pulled.reference);
    }
}

#[tokio::test]
async fn a_component_with_the_older_media_type_is_pulled() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    let manifest = String::from_utf8(bench.server.state().manifests["v1"].clone()).expect("text");
    let older = manifest.replace("application/wasm", "application/vnd.wasm.content.layer.v1+wasm");
    assert_ne!(older, manifest);
    bench.server.publish_manifest("older", older.as_bytes());
    assert_eq!(bench.pull(":older").await.expect("pulled").component, COMPONENT);
}

#[tokio::test]
async fn what_is_pinned_and_cached_needs_no_registry() {
    let bench = Bench::new().await;
    let digest = bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    let asked = bench.server.asked();
    bench.pull(&format!("@{digest}")).await.expect("from the cache");
    assert_eq!(bench.server.asked(), asked);
    let gone = bench.without_server();
    assert_eq!(gone.pull(&format!("@{digest}")).await.expect("from the cache").component, COMPONENT);
}

#[tokio::test]
async fn a_tag_is_looked_up_each_time_and_what_has_not_changed_is_not_fetched_again() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    let asked = bench.server.asked();
    bench.pull(":v1").await.expect("pulled");
    assert_eq!(bench.server.asked(), asked + 1, "the manifest alone");
    let digest = bench.server.publish("v1", b"another");
    let pulled = bench.pull(":v1").await.expect("pulled");
    assert_eq!(pulled.component, b"another");
    assert!(pulled.reference.to_string().ends_with(&digest.to_string()));
}

#[tokio::test]
async fn a_tag_whose_registry_is_away_means_what_it_meant_last() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    let digest = bench.server.publish("v1", b"newer");
    bench.pull(":v1").await.expect("pulled");
    for status in [500, 503, 429] {
        bench.server.state().manners = Manners::Status(status);
        assert_eq!(bench.pull(":v1").await.expect("from the cache").component, b"newer", "{status}");
    }
    let gone = bench.without_server();
    let pulled = gone.pull(":v1").await.expect("from the cache");
    assert_eq!(pulled.component, b"newer");
    assert!(pulled.reference.to_string().ends_with(&format!(":v1@{digest}")));
    let error = gone.pull(":v2").await.err().expect("never seen").to_string();
    assert!(error.contains("/manifests/v2: cannot be connected to: Connection refused"), "{error}");
}

#[tokio::test]
async fn a_tag_that_the_registry_denies_is_refused_even_if_it_is_cached() {
    let bench = Bench::new().await;
    bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    for (status, said) in
        [(404, "404 Not Found: there is no such"), (403, "403 Forbidden"), (302, "points to nowhere")]
    {
        bench.server.state().manners = Manners::Status(status);
        let error = bench.refusal(":v1").await;
        assert!(error.contains(said) && error.contains("/manifests/v1"), "{error}");
    }
}

#[tokio::test]
async fn a_component_that_cannot_be_used_is_not_what_is_fallen_back_to() {
    let bench = Bench::new().await;
    let (cache, reference) = (bench.cache(), bench.server.reference(":v1").parse().expect("a reference"));
    let good = bench.server.publish("v1", &policy("good"));
    let artifact = Loader::new(&cache, &cache, Compiler::Here)
        .load_with(&bench.registries, &reference)
        .await
        .expect("loads");
    assert_eq!(artifact.source().to_string(), bench.server.reference(&format!(":v1@{good}")));
    bench.server.publish("v1", b"no component");
    let error = Loader::new(&cache, &cache, Compiler::Here)
        .load_with(&bench.registries, &reference)
        .await
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("/plugins/test:v1@sha256:") && error.contains("not a WebAssembly component"),
        "{error}"
    );
    let Gone { directory: _kept, registries, .. } = bench.without_server();
    let artifact =
        Loader::new(&cache, &cache, Compiler::Here).load_with(&registries, &reference).await.expect("loads");
    assert_eq!(artifact.digest(), Digest::of(&policy("good")).hex());
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_named_with_the_reference() {
    let bench = Bench::new().await;
    let (cache, text) = (bench.cache(), bench.server.reference(":v1"));
    let Gone { directory: _kept, registries, .. } = bench.without_server();
    let reference = text.parse().expect("a reference");
    let error = Loader::new(&cache, &cache, Compiler::Here)
        .load_with(&registries, &reference)
        .await
        .err()
        .expect("refused")
        .to_string();
    assert!(error.starts_with(&format!("plugin {text}: http://127.0.0.1:")), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[tokio::test]
async fn damage_in_the_cache_is_noticed_and_mended() {
    let bench = Bench::new().await;
    let digest = bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    for extension in ["wasm", "json"] {
        for file in files(&bench.cache(), extension) {
            std::fs::write(file, b"damaged").expect("written");
        }
        let pulled = bench.pull(&format!("@{digest}")).await.expect("fetched again");
        assert_eq!(pulled.component, COMPONENT);
    }
    bench.without_server().pull(&format!("@{digest}")).await.expect("mended");
}

#[tokio::test]
async fn a_cache_that_others_can_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new().await;
    let digest = bench.server.publish("v1", COMPONENT);
    bench.pull(":v1").await.expect("pulled");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(bench.cache(), open).expect("set");
    let asked = bench.server.asked();
    bench.pull(&format!("@{digest}")).await.expect("pulled");
    assert!(bench.server.asked() > asked);
}

#[tokio::test]
async fn what_is_pushed_can_be_pulled() {
    let bench = Bench::new().await;
    let to = bench.reference(":v1");
    let pinned =
        bench.registries.push(COMPONENT.to_vec(), &to, Publication::default()).await.expect("pushed");
    let pulled = bench.pull(":v1").await.expect("pulled");
    assert_eq!((pulled.component.as_slice(), &pulled.reference), (COMPONENT, &pinned));
    let error = bench
        .registries
        .push(COMPONENT.to_vec(), &pinned, Publication::default())
        .await
        .expect_err("no tag")
        .to_string();
    assert!(error.contains("pushed to a tag"), "{error}");
}

#[tokio::test]
async fn a_wit_package_is_pushed_with_what_those_who_take_packages_want_to_know() {
    let bench = Bench::new().await;
    let to = bench.reference(":1.2.0");
    let package = || WitPackage {
        bytes: COMPONENT.to_vec(),
        name: "acme:net".to_owned(),
        version: Some("1.2.0".to_owned()),
        interfaces: vec!["acme:net/routes@1.2.0".to_owned()],
    };
    let pinned = bench.registries.push_wit(package(), &to, None).await.expect("pushed");
    assert_eq!(
        bench.registries.push_wit(package(), &to, None).await.expect("pushed"),
        pinned,
        "the same again"
    );
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
    let manifest = json(&bench.server.state().manifests["1.2.0"]);
    assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "acme:net");
    assert_eq!(manifest["annotations"]["org.opencontainers.image.version"], "1.2.0");
    let (config, layer) = (&manifest["config"], &manifest["layers"][0]);
    assert_eq!(config["mediaType"], "application/vnd.wasm.config.v0+json");
    assert_eq!(layer["mediaType"], "application/wasm");
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().expect("a digest").to_owned();
        bench.server.state().blobs[&digest].clone()
    };
    assert_eq!(blob(layer), COMPONENT);
    assert_eq!(
        json(&blob(config)),
        serde_json::json!({
            "created": "1970-01-01T00:00:00Z",
            "author": null,
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [Digest::of(COMPONENT).to_string()],
            "component": { "exports": ["acme:net/routes@1.2.0"], "imports": [], "target": null },
        })
    );
    let error = bench.registries.push_wit(package(), &pinned, None).await.expect_err("no tag").to_string();
    assert!(error.contains("pushed to a tag"), "{error}");
}

/// Short enough for tests that wait until they are over.
fn short() -> Timeouts {
    let time = Duration::from_millis(300);
    Timeouts { connect: time, answer: time, whole: Duration::from_mins(1) }
}
