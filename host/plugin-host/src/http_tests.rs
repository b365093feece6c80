//! A component that asks endpoints: what it is refused, and what it never gets to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use flannel_cloud::{Answer, EndpointClient, EndpointRequest, Failure};
use flannel_fake_cloud::{Server, Turn};
use serde_json::{Value, json};

use super::tests::{environment, start_in};
use super::*;

const SECRET: &str = "made-up/secret+of=the&test";

/// Whom a policy asks, in these tests.
struct Desk(EndpointClient, tokio::runtime::Runtime);

impl Endpoints for Desk {
    fn names(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }

    fn operation(&self, request: &EndpointRequest) -> Result<String, Failure> {
        self.0.operation(request)
    }

    fn send(&self, request: &EndpointRequest, deadline: Instant) -> Result<Answer, Failure> {
        self.1.block_on(self.0.send(request, deadline))
    }
}

/// With an endpoint that repeats all that it is sent, and this grant.
fn asker(grant: &str, when: &str, requests: &[Value]) -> Environment {
    let config = json!({ "Type": "http-asker", "When": when, "Requests": requests });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(Server::start(&[Turn::Echo]));
    let place = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = place.path().join(name);
        std::fs::write(&path, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("mode");
        path
    };
    let token = write("token", SECRET);
    let file = write(
        "endpoints.toml",
        &format!(
            "[endpoint.api]\nurl = \"{}\"\nallow = [\"GET /things/*\"]\ncredentials = {{ bearer-file = {token:?} }}",
            server.url()
        ),
    );
    let endpoints = flannel_cloud::Endpoints::read(&file).expect("read");
    // The token is read when it is needed.
    std::mem::forget(place);
    let variables = flannel_cloud::Variables::of([]);
    let (authorities, access_key) = (None, None);
    let options =
        flannel_cloud::CloudOptions { variables, endpoints: BTreeMap::new(), authorities, access_key };
    let allow = if grant.is_empty() { Vec::new() } else { vec![grant.to_owned()] };
    Environment {
        grants: Arc::new(Grants::new(None, allow, &[])),
        endpoints: Arc::new(Desk(EndpointClient::new(endpoints, options), runtime)),
        ..environment(&config.to_string())
    }
}

fn tick(environment: Environment) -> Result<(), PluginError> {
    let mut bench = start_in("http-asker", environment, Limits::default())?;
    bench.policy.tick().map(drop)
}

fn get(path: &str) -> Value {
    json!({ "endpoint": "api", "path": path, "idempotent": true })
}

#[test]
fn an_answer_comes_without_the_hosts_credentials_and_is_counted() {
    let environment = asker("http:api", "tick", &[get("/things/1")]);
    let mut bench = start_in("http-asker", environment, Limits::default()).expect("started");
    let error = bench.policy.tick().expect_err("the answer").to_string();
    assert!(error.contains("200") && error.contains("authorization: Bearer (hidden)"), "{error}");
    assert!(!error.contains(SECRET), "{error}");
    let records = bench.policy.take_cloud_records();
    let shown: Vec<_> = records.iter().map(|one| (&*one.provider, &*one.operation, one.status)).collect();
    assert_eq!(shown, [("http:api", "GET /things/*", Some(200))]);
}

#[test]
fn endpoints_are_asked_in_tick_and_nowhere_else() {
    let error = tick(asker("http:api", "register", &[get("/things/1")])).expect_err("refused").to_string();
    assert!(error.contains("in tick, and this is register"), "{error}");
}

#[test]
fn a_plugin_without_an_endpoint_or_with_one_that_is_not_there_is_not_started() {
    for (grant, said) in [
        ("", "it asks for http:NAME, which it is not granted"),
        (
            "http:other",
            "http:other is granted, and the file of --http-endpoints has no [endpoint.other]; there are: api",
        ),
    ] {
        let error = tick(asker(grant, "tick", &[get("/things/1")])).expect_err("refused");
        assert!(matches!(error.cause, Cause::NotGranted(_)) && error.to_string().contains(said), "{error}");
    }
}

#[test]
fn what_is_not_granted_not_allowed_or_not_well_formed_dooms_the_call() {
    let post = json!({ "endpoint": "api", "method": "POST", "path": "/things/1" });
    let host = json!({ "endpoint": "api", "path": "/things/1", "headers": [["Host", "a"]] });
    let other = json!({ "endpoint": "other", "path": "/things/1" });
    for (requests, said) in [
        (
            vec![other],
            "http.send: the endpoint \"other\" is not granted; the grant for it would be \"http:other\"",
        ),
        (vec![post], "http.send: POST /things/1 is none of what the file of --http-endpoints allows of api"),
        (vec![get("/things/../x")], "http.send: the path \"/things/../x\": right would be"),
        (vec![host], "http.send: the header \"Host\": it is the host's to set"),
        (vec![get("/things/1"); 65], "a tick has at most 64 requests"),
    ] {
        let error = tick(asker("http:api", "carry-on", &requests)).expect_err("refused");
        assert!(matches!(&error.cause, Cause::Refused(text) if text.contains(said)), "{said}: {error}");
    }
}
