//! A component that asks clouds, on a host without one: what it is refused, and what it never gets to see.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use flannel_cloud::{Answer, Client, Failure, Instance, Provider, Request};
use flannel_fake_cloud::{SECRET, Server, Turn, client};

use super::tests::{environment, start_in};
use super::*;
use flannel_test_support::component;

/// Whom a policy asks, in these tests.
struct Desk(Client, tokio::runtime::Runtime);

impl Clouds for Desk {
    fn send(&self, request: &Request, deadline: Instant) -> Result<Answer, Failure> {
        self.1.block_on(self.0.send(request, deadline))
    }

    fn instance(&self, provider: Provider, deadline: Instant) -> Result<Instance, Failure> {
        self.1.block_on(self.0.instance(provider, deadline))
    }
}

fn asker(deed: &str, more: &str) -> Environment {
    environment(&format!(r#"{{"Type":"asker","Do":"{deed}"{more}}}"#))
}

fn tick(environment: Environment) -> Result<(), PluginError> {
    let mut bench = start_in("asker", environment, Limits::default())?;
    bench.policy.tick().map(drop)
}

/// With a cloud that repeats all that it is sent.
fn echoing(environment: Environment) -> Environment {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(Server::start(&[Turn::Echo]));
    let (client, _) = client(&server);
    Environment { clouds: Arc::new(Desk(client, runtime)), ..environment }
}

#[test]
fn clouds_are_asked_in_tick_and_nowhere_else() {
    let error = tick(echoing(asker("ask-early", ""))).expect_err("refused").to_string();
    assert!(error.contains("clouds are asked in tick, and this is register"), "{error}");
}

#[test]
fn a_request_that_is_not_granted_dooms_the_call() {
    for (deed, said) in [
        (
            "ask-and-carry-on",
            "CreateUser is not granted; the grant for it would be \"cloud:aws:iam:CreateUser\"",
        ),
        ("ask-outside", "cloud.send: the path \"projects/../../../metadata\": segments of"),
        ("ask-elsewhere", "cloud.send: the region \"attacker.example.com/\": 1 to 63 of"),
        ("ask-too-often", "a tick has at most 64 requests"),
    ] {
        let error = tick(echoing(asker(deed, ""))).expect_err("refused");
        assert!(matches!(&error.cause, Cause::Refused(text) if text.contains(said)), "{deed}: {error}");
    }
}

#[test]
fn a_plugin_that_asks_for_more_than_it_is_granted_is_not_started() {
    let grants = Grants::new(None, vec!["cloud:aws:ec2:Describe*".to_owned()], &[]);
    let environment = Environment { grants: Arc::new(grants), ..asker("", "") };
    let error = tick(environment).expect_err("refused").to_string();
    let wanted = "it asks for cloud:google:compute:GET projects/*/global/routes/*, which it is not granted";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn an_answer_that_repeats_the_credentials_leaves_nothing_of_them_in_the_sandbox() {
    let inverted = |text: &str| {
        text.bytes().fold(String::new(), |mut all, byte| {
            // Writing into a string does not fail.
            let _ = write!(all, "{:02x}", !byte);
            all
        })
    };
    let ask = |looked_for: &str| {
        let more = format!(r#","Canary":"{}""#, inverted(looked_for));
        tick(echoing(asker("ask", &more))).expect_err("says what it saw").to_string()
    };
    let seen = ask(SECRET);
    assert!(seen.contains("authorization: (hidden)") && seen.ends_with("i-1"), "{seen}");
    assert!(!seen.contains(SECRET), "{seen}");
    // The search finds what is there.
    assert!(ask("authorization: (hidden)").contains("the canary is in here"));
}

#[test]
fn the_built_in_plugins_are_granted_of_clouds_what_they_declare_and_no_more() {
    for name in ["ali-vpc", "aws-vpc", "gce", "tencent-vpc"] {
        let dir = tempfile::tempdir().expect("directory");
        let artifact = Loader::new(&dir.path().join("cache"), &dir.path().join("cache"), Compiler::Here)
            .load_here(&component(name))
            .expect("loads");
        let state = Arc::new(DirState::open(dir.path()));
        let environment = environment(&format!(r#"{{"Type":"{name}"}}"#));
        let described = Policy::describe(&artifact, environment, Limits::default(), state);
        let (_, needs) = described.expect("described");
        let mut declared: Vec<String> = needs.iter().map(|need| need.pattern.to_string()).collect();
        let mut granted = grants::built_in(name).to_vec();
        granted.retain(|grant| grant.starts_with("cloud:"));
        declared.sort_unstable();
        granted.sort_unstable();
        assert_eq!(granted, declared, "{name}");
    }
}
