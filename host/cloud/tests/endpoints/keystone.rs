//! Tokens of a Keystone.

use flannel_cloud::{EndpointRequest, Failure};
use flannel_fake_cloud::{Server, Turn};
use serde_json::{Value, json};

use super::{Place, SECRET, get, line, raw, soon};

fn keystone(identity: &Server, more: &str) -> String {
    format!("credentials = {{ keystone = {{ auth-url = \"{}/identity/v3/\", {more} }} }}", identity.url())
}

const USER: &str = r#"username = "flannel", user-domain-name = "Default", password-file = "secret", project-name = "net", project-domain-id = "default""#;

/// A token as Keystone gives it, which is good for so long.
fn token(text: &str, issued: &str, expires: &str) -> Turn {
    let body = json!({ "token": { "methods": ["password"], "issued_at": issued, "expires_at": expires } });
    raw(201, &format!("X-Subject-Token: {text}\r\n"), &body.to_string())
}

fn hour(text: &str) -> Turn {
    // Whatever the clock of this machine says.
    token(text, "2001-01-01T00:00:00.000000Z", "2001-01-01T01:00:00.000000Z")
}

/// What was sent as the body of a question.
fn body(question: &str) -> Value {
    let (_, body) = question.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_once_more_when_it_is_refused() {
    let place = Place::new();
    place.write("secret", SECRET);
    let identity = Server::start(&[hour("first-canary"), hour("second-canary")]).await;
    let server = Server::start(&[Turn::Answer(200, ""), Turn::Answer(401, ""), Turn::Echo]).await;
    let client = place.client(&server.url(), &keystone(&identity, USER));
    client.send(&get(), soon()).await.expect("an answer");
    let question = identity.questions().remove(0);
    assert!(question.starts_with("POST /identity/v3/auth/tokens?nocatalog HTTP/1.1"), "{question}");
    assert_eq!(line(&question, "content-type"), Some("content-type: application/json"));
    let user = json!({ "name": "flannel", "domain": { "name": "Default" }, "password": SECRET });
    let scope = json!({ "project": { "name": "net", "domain": { "id": "default" } } });
    assert_eq!(
        body(&question),
        json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": user } }, "scope": scope } })
    );
    let answer = client.send(&get(), soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.attempts, identity.asked()), (200, 2, 2));
    let sent = server.questions();
    assert_eq!(line(&sent[0], "x-auth-token"), Some("x-auth-token: first-canary"));
    assert_eq!(line(&sent[2], "x-auth-token"), Some("x-auth-token: second-canary"));
    assert_eq!(line(&sent[2], "authorization"), None);
    assert!(answer.body.contains("(hidden)") && !format!("{answer:?}").contains("canary"), "{answer:?}");
}

#[tokio::test]
async fn an_application_credential_has_no_scope_and_a_name_has_its_user() {
    let place = Place::new();
    place.write("secret", SECRET);
    for (written, sent) in [
        (
            r#"application-credential-id = "21d", application-credential-secret-file = "secret""#,
            json!({ "id": "21d", "secret": SECRET }),
        ),
        (
            r#"application-credential-name = "routes", user-id = "7f", application-credential-secret-file = "secret""#,
            json!({ "name": "routes", "user": { "id": "7f" }, "secret": SECRET }),
        ),
    ] {
        let identity = Server::start(&[hour("token-canary")]).await;
        let server = Server::start(&[Turn::Answer(200, "")]).await;
        let client = place.client(&server.url(), &keystone(&identity, written));
        client.send(&get(), soon()).await.expect("an answer");
        let whole = json!({ "methods": ["application_credential"], "application_credential": sent });
        assert_eq!(body(&identity.questions()[0]), json!({ "auth": { "identity": whole } }));
    }
}

#[tokio::test]
async fn a_token_is_good_for_a_project_a_domain_or_what_is_usual() {
    let place = Place::new();
    place.write("secret", SECRET);
    for (written, scope) in [
        ("project-id = \"4711\"", json!({ "project": { "id": "4711" } })),
        ("domain-id = \"default\"", json!({ "domain": { "id": "default" } })),
        ("domain-name = \"Default\"", json!({ "domain": { "name": "Default" } })),
        ("user-id = \"7f\"", Value::Null),
    ] {
        let user = if written.starts_with("user") {
            written.to_owned()
        } else {
            format!("user-id = \"7f\", {written}")
        };
        let identity = Server::start(&[hour("token-canary")]).await;
        let server = Server::start(&[Turn::Answer(200, "")]).await;
        let client =
            place.client(&server.url(), &keystone(&identity, &format!("{user}, password-file = \"secret\"")));
        client.send(&get(), soon()).await.expect("an answer");
        assert_eq!(body(&identity.questions()[0])["auth"]["scope"], scope, "{written}");
    }
}

#[tokio::test]
async fn a_token_that_is_about_to_end_is_replaced_and_goes_on_where_that_fails() {
    let place = Place::new();
    place.write("secret", SECRET);
    // Half of eight seconds, and it is replaced.
    let short = token("short-canary", "2001-01-01T00:00:00.000000Z", "2001-01-01T00:00:08.000000Z");
    let away = Turn::Answer(500, "");
    let identity = Server::start(&[short, away.clone(), away.clone(), away, hour("next-canary")]).await;
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let client = place.client(&server.url(), &keystone(&identity, USER));
    client.send(&get(), soon()).await.expect("an answer");
    let mut sent = Vec::new();
    while identity.asked() < 5 {
        client.send(&get(), soon()).await.expect("an answer");
        let question = server.questions().pop().expect("a question");
        sent.push(line(&question, "x-auth-token").expect("a token").to_owned());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(sent.last().map(String::as_str), Some("x-auth-token: next-canary"));
    assert_eq!(sent[sent.len() - 2], "x-auth-token: short-canary");
}

#[tokio::test]
async fn a_keystone_that_refuses_is_quoted_without_the_secret() {
    let place = Place::new();
    place.write("secret", SECRET);
    let said = json!({ "error": { "code": 401, "title": "Unauthorized", "message": format!("not {SECRET}\nat all") } });
    for (turn, asked, part) in [
        (raw(401, "", &said.to_string()), 1, "/v3/auth/tokens answers: 401 Unauthorized: not (hidden)at all"),
        (raw(201, "", "{}"), 1, "answers: status 201, and no token"),
        (raw(201, "X-Subject-Token: a-token\r\n", "{}"), 1, "answers: status 201, and no token"),
        (
            token("a-token", "2001-01-01T01:00:00Z", "2001-01-01T00:00:00Z"),
            1,
            "answers: status 201, and no token",
        ),
        (raw(300, "", "{}"), 1, "answers: status 300, and no token"),
        (Turn::Answer(503, ""), 3, "answers: status 503, and no token"),
        (Turn::Half, 3, "/v3/auth/tokens: "),
    ] {
        let identity = Server::start(&[turn]).await;
        let server = Server::start(&[Turn::Answer(200, "")]).await;
        let client = place.client(&server.url(), &keystone(&identity, USER));
        let error = client.send(&get(), soon()).await.expect_err("refused");
        assert!(
            matches!(&error, Failure::Credentials(text) if text.starts_with("user flannel: ") && text.contains(part)),
            "{error:?}"
        );
        assert!(!error.to_string().contains(SECRET) && server.asked() == 0, "{error}");
        assert_eq!(identity.asked(), asked, "{error}");
    }
}

#[tokio::test]
async fn a_password_that_is_rotated_counts_with_the_next_token() {
    let place = Place::new();
    let identity = Server::start(&[hour("token-canary")]).await;
    let server = Server::start(&[Turn::Answer(401, ""), Turn::Answer(200, "")]).await;
    let client = place.client(&server.url(), &keystone(&identity, USER));
    let missing = client.send(&get(), soon()).await.expect_err("no password").to_string();
    assert!(missing.contains("/secret: cannot be read: "), "{missing}");
    place.write("secret", "another-canary\n");
    client.send(&get(), soon()).await.expect("an answer");
    assert_eq!(
        body(&identity.questions()[0])["auth"]["identity"]["password"]["user"]["password"],
        "another-canary"
    );
}

#[tokio::test]
async fn the_tokens_header_is_the_hosts() {
    let place = Place::new();
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let client = place.client(&server.url(), &keystone(&server, USER));
    for name in ["X-Auth-Token", "x_auth_token"] {
        let sent = EndpointRequest { headers: vec![(name.to_owned(), "a".to_owned())], ..get() };
        let refused = client.send(&sent, soon()).await;
        assert!(
            matches!(&refused, Err(Failure::Invalid(text)) if text.contains("the host's to set")),
            "{refused:?}"
        );
    }
    assert_eq!(server.asked(), 0);
}
