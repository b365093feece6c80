//! Google's side, without Google.

mod accounts;
mod requests;
mod server;
mod tokens;

use super::*;
use crate::Variables;
use crate::http::{CleartextPolicy, Timeouts};
use crate::request::Method;
use server::{Question, Reply, Server};

/// What the metadata service says in front of everything.
const FLAVOR: &str = "Metadata-Flavor: Google\r\n";
/// A service account's key that no account has.
const KEY: &str = include_str!("../../../../../tests/fixtures/google/service-account-key.pem");

fn http() -> Http {
    Http::new(None, CleartextPolicy::Anywhere, Timeouts::default())
}

/// With these variables and endpoints.
fn google(variables: Vec<(&'static str, String)>, endpoints: &[&str]) -> Google {
    let endpoints = endpoints.iter().map(|text| {
        let endpoint: crate::Endpoint = text.parse().expect("an endpoint");
        ((endpoint.provider, endpoint.service), endpoint.url)
    });
    Google::new(CloudOptions {
        variables: Variables::of(variables),
        endpoints: endpoints.collect(),
        authorities: None,
        access_key: None,
    })
}

fn at_metadata(server: &Server) -> Google {
    google(vec![("GCE_METADATA_HOST", server.address.to_string())], &[])
}

fn token(text: &str, seconds: u64) -> String {
    format!(r#"{{"access_token":"{text}","expires_in":{seconds},"token_type":"Bearer"}}"#)
}

fn get(path: &str) -> Request {
    Request {
        provider: Provider::Google,
        service: "compute".to_owned(),
        version: "v1".to_owned(),
        region: None,
        operation: Operation::Rest {
            method: Method::Get,
            path: path.to_owned(),
            query: Vec::new(),
            body: None,
        },
        idempotent: true,
    }
}

/// What the machine `node1` is told.
fn metadata(question: &Question) -> Reply {
    if !question.head.contains("metadata-flavor: google") {
        return (403, FLAVOR, "Missing Metadata-Flavor:Google header.".to_owned());
    }
    let path = question.line.split(' ').nth(1).unwrap_or_default();
    let body = match path.strip_prefix("/computeMetadata/v1/").unwrap_or_default() {
        "project/project-id" => "lab-project",
        "instance/id" => "4000000000000000001",
        "instance/name" => "node1",
        "instance/zone" => "projects/123456789012/zones/europe-west3-a",
        "instance/network-interfaces/?recursive=true&alt=json" => {
            r#"[{"ip":"10.0.0.2","mac":"42:01:0a:00:00:02","mtu":1460,"network":"projects/123456789012/networks/lab","ipv6s":["fd20::2"]},
                {"ip":"10.1.0.2","mac":"42:01:0a:01:00:02","network":"projects/123456789012/networks/other"}]"#
        }
        "instance/service-accounts/default/token" => return (200, FLAVOR, token("ya29.made-up", 3_599)),
        _ => return (404, FLAVOR, "not found".to_owned()),
    };
    (200, FLAVOR, body.to_owned())
}

#[tokio::test]
async fn the_metadata_service_says_what_this_machine_is() {
    let server = Server::start(metadata).await;
    let instance = at_metadata(&server).instance(&http()).await.expect("an instance");
    assert_eq!((instance.id.as_str(), instance.name.as_str()), ("4000000000000000001", "node1"));
    assert_eq!((instance.region.as_str(), instance.zone.as_str()), ("europe-west3", "europe-west3-a"));
    assert_eq!(instance.account, "lab-project");
    let [first, second] = &instance.interfaces[..] else { panic!("{instance:?}") };
    assert_eq!(
        first.addresses,
        ["10.0.0.2", "fd20::2"].map(|address| address.parse::<std::net::IpAddr>().expect("an address"))
    );
    assert_eq!(first.mac.map(|mac| mac.to_string()).as_deref(), Some("42:01:0a:00:00:02"));
    assert_eq!(first.network, "projects/123456789012/networks/lab");
    assert_eq!(second.network, "projects/123456789012/networks/other");
}

#[tokio::test]
async fn nothing_is_asked_for_that_attributes_could_be_part_of() {
    let server = Server::start(metadata).await;
    at_metadata(&server).instance(&http()).await.expect("an instance");
    for question in server.asked() {
        assert!(
            !question.line.contains("instance/?") && !question.line.contains("attributes"),
            "{question:?}"
        );
    }
}

#[tokio::test]
async fn who_does_not_say_that_it_is_google_is_not_believed() {
    let server = Server::start(|question| {
        let (status, _, body) = metadata(question);
        (status, "", body)
    })
    .await;
    let google = at_metadata(&server);
    let error = google.instance(&http()).await.expect_err("refused").to_string();
    assert!(error.contains("this is not Google's metadata service"), "{error}");
    let error = google.prepare(&http(), &get("projects/p")).await.expect_err("refused").to_string();
    assert!(error.contains("this is not Google's metadata service"), "{error}");
}

#[tokio::test]
async fn a_metadata_service_that_is_odd_is_named_with_what_is_wrong() {
    for (path, said, reason) in [
        ("instance/zone", "europe", "instance/zone is \"europe\""),
        ("instance/name", "a/b", "instance/name is \"a/b\""),
        ("instance/id", "x", "instance/id is \"x\""),
        ("project/project-id", "", "project/project-id is \"\""),
        (
            "instance/network-interfaces/?recursive=true&alt=json",
            "{}",
            "instance/network-interfaces is no list",
        ),
    ] {
        let server = Server::start(move |question| {
            if question.line.contains(&format!("/{path} ")) {
                (200, FLAVOR, said.to_owned())
            } else {
                metadata(question)
            }
        })
        .await;
        let error = at_metadata(&server).instance(&http()).await.expect_err("refused").to_string();
        assert!(error.contains(reason) && error.contains(&server.address.to_string()), "{error}");
    }
}

#[tokio::test]
async fn a_metadata_service_that_is_away_for_a_moment_is_asked_again() {
    let server = Server::start({
        let failed = std::sync::atomic::AtomicBool::new(false);
        move |question| {
            if failed.swap(true, std::sync::atomic::Ordering::Relaxed) {
                metadata(question)
            } else {
                (503, FLAVOR, String::new())
            }
        }
    })
    .await;
    assert!(at_metadata(&server).instance(&http()).await.is_ok());
}

#[tokio::test]
async fn a_metadata_host_that_is_none_is_named() {
    let google = google(vec![("GCE_METADATA_HOST", "user@host/path".to_owned())], &[]);
    let error = google.instance(&http()).await.expect_err("refused").to_string();
    assert!(error.contains("GCE_METADATA_HOST"), "{error}");
}
