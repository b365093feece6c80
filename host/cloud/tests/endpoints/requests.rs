//! What is sent, with which credentials, what never is, and what never comes out.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use flannel_cloud::{EndpointRequest, Endpoints, Failure, Method};
use flannel_fake_cloud::{Server, Turn};

use super::{Place, SECRET, get, line, raw, request, soon};

#[tokio::test]
async fn a_request_is_sent_below_the_url_with_what_it_says_and_the_hosts_credentials() {
    let (server, place) = (Server::start(&[Turn::Answer(200, "ok")]).await, Place::new());
    place.write("token", &format!("{SECRET}\n"));
    let client = place.client(&server.url(), "credentials = { bearer-file = \"token\" }");
    let sent = EndpointRequest {
        query: vec![("a b".to_owned(), "c&d=/é".to_owned()), ("a b".to_owned(), String::new())],
        headers: vec![("X-Trace".to_owned(), "7 8".to_owned())],
        body: Some("{}".to_owned()),
        ..request(Method::Post, "/things/a:b/actions/go")
    };
    assert_eq!(client.operation(&sent).as_deref(), Ok("POST /things/*/actions/go"));
    let answer = client.send(&sent, soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_str(), answer.attempts), (200, "ok", 1));
    let question = server.questions().remove(0);
    assert!(
        question.starts_with("POST /v1/things/a:b/actions/go?a%20b=c%26d%3D%2F%C3%A9&a%20b= HTTP/1.1\r\n"),
        "{question}"
    );
    assert_eq!(line(&question, "x-trace"), Some("x-trace: 7 8"));
    assert_eq!(line(&question, "content-type"), Some("content-type: application/json"));
    assert_eq!(line(&question, "authorization"), Some(&*format!("authorization: Bearer {SECRET}")));
    assert!(question.ends_with("\r\n\r\n{}"), "{question}");
}

#[tokio::test]
async fn a_token_that_is_rotated_counts_at_once() {
    let (server, place) = (Server::start(&[Turn::Answer(200, "")]).await, Place::new());
    let client = place.client(&server.url(), "credentials = { bearer-file = \"token\" }");
    let missing = client.send(&get(), soon()).await.expect_err("no token");
    assert!(
        matches!(&missing, Failure::Credentials(text) if text.contains("/token: cannot be read: ")),
        "{missing:?}"
    );
    for token in ["first-token-canary", "second-token-canary"] {
        place.write("token", token);
        client.send(&get(), soon()).await.expect("an answer");
        let question = server.questions().pop().expect("a question");
        assert_eq!(line(&question, "authorization"), Some(&*format!("authorization: Bearer {token}")));
    }
    for (wrong, said) in [
        ("", "it is empty"),
        (" \n", "it is empty"),
        ("short", "less than 8 bytes"),
        ("two lines\nof canary", "one line"),
        ("blanks in canary", "no blanks"),
        ("canary-\u{e9}\u{e9}", "visible characters of ASCII"),
    ] {
        place.write("token", wrong);
        let error = client.send(&get(), soon()).await.expect_err("refused").to_string();
        assert!(error.contains(said) && !error.contains("canary"), "{error}");
    }
    std::fs::set_permissions(place.0.path().join("token"), std::fs::Permissions::from_mode(0o666))
        .expect("mode");
    let error = client.send(&get(), soon()).await.expect_err("refused").to_string();
    assert!(error.contains("can be written by"), "{error}");
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn whatever_the_credentials_are_they_do_not_come_back() {
    let place = Place::new();
    place.write("secret", SECRET);
    place.write("pve", "PVEAPIToken=flannel@pve!id=0123456789abcdef-canary");
    for (credentials, sent, hidden) in [
        ("bearer-file = \"secret\"", format!("authorization: Bearer {SECRET}"), SECRET),
        (
            "basic = { user = \"u\", password-file = \"secret\" }",
            "authorization: Basic dTptYWRlLXVwL3NlY3JldCtvZj10aGUmdGVzdA==".to_owned(),
            "dTptYWRlLXVwL3NlY3JldCtvZj10aGUmdGVzdA==",
        ),
        ("header = { name = \"X-Key\", value-file = \"secret\" }", format!("x-key: {SECRET}"), SECRET),
        (
            "header = { name = \"Authorization\", value-file = \"pve\" }",
            "authorization: PVEAPIToken=flannel@pve!id=0123456789abcdef-canary".to_owned(),
            "canary",
        ),
    ] {
        let server = Server::start(&[Turn::Echo]).await;
        let client = place.client(&server.url(), &format!("credentials = {{ {credentials} }}"));
        let answer = client.send(&get(), soon()).await.expect("an answer");
        let question = server.questions().remove(0);
        assert!(question.contains(&sent), "{question}");
        assert!(answer.body.contains("(hidden)"), "{}", answer.body);
        // The fake API repeats its own word in a header, too; there it is withheld like that.
        assert!(!format!("{answer:?}").contains(hidden), "{answer:?}");
    }
}

#[tokio::test]
async fn a_part_of_a_secret_and_headers_that_name_it_do_not_come_back() {
    let place = Place::new();
    place.write("pve", "PVEAPIToken=flannel@pve!id=0123456789abcdef-canary");
    let said = "no such token 0123456789abcdef-canary";
    let headers = "Set-Cookie: a=b\r\nX-Said: 0123456789abcdef-canary\r\n";
    let server = Server::start(&[raw(401, headers, said)]).await;
    let credentials = "credentials = { header = { name = \"Authorization\", value-file = \"pve\" } }";
    let answer = place.client(&server.url(), credentials).send(&get(), soon()).await.expect("an answer");
    // Nothing would be gained by sending it again.
    assert_eq!((answer.status, answer.attempts, answer.body.as_str()), (401, 1, "no such token (hidden)"));
    assert!(answer.headers.contains(&("x-said".to_owned(), "(hidden)".to_owned())), "{answer:?}");
    assert!(!answer.headers.iter().any(|(name, _)| name == "set-cookie"), "{answer:?}");
}

#[tokio::test]
async fn what_was_turned_away_is_sent_again_and_what_has_failed_only_if_that_does_no_harm() {
    let place = Place::new();
    let retry = |status| raw(status, "Retry-After: 0\r\n", "");
    for (turns, idempotent, outcome) in [
        (vec![Turn::Answer(429, ""), retry(429), retry(503), Turn::Answer(200, "")], false, Some((200, 4))),
        (vec![Turn::Answer(503, ""), Turn::Answer(200, "")], false, Some((503, 1))),
        (vec![Turn::Answer(503, ""), Turn::Answer(200, "")], true, Some((200, 2))),
        (vec![Turn::Answer(500, ""), Turn::Answer(200, "")], true, Some((200, 2))),
        (vec![Turn::Half, Turn::Answer(200, "")], true, Some((200, 2))),
        (vec![Turn::Half, Turn::Answer(200, "")], false, None),
        (vec![Turn::Answer(409, ""), Turn::Answer(200, "")], true, Some((409, 1))),
        // What is not worth waiting for comes back as it is.
        (vec![raw(429, "Retry-After: 3600\r\n", ""), Turn::Answer(200, "")], true, Some((429, 1))),
    ] {
        let server = Server::start(&turns).await;
        let client = place.client(&server.url(), "");
        let sent = EndpointRequest { idempotent, ..request(Method::Delete, "/things/1") };
        let answer = client.send(&sent, soon()).await;
        let got = answer.as_ref().ok().map(|answer| (answer.status, answer.attempts));
        assert_eq!(got, outcome, "{turns:?} {answer:?}");
        assert!(got.is_some() || matches!(answer, Err(Failure::Unreachable(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_cut_endless_too_large_encoded_or_not_there_is_unreachable() {
    let place = Place::new();
    let large = "x".repeat((4 << 20) + 1);
    for (turn, said) in [
        (Turn::Half, "breaks off"),
        (Turn::Silence, "in the time that was left"),
        (raw(200, "", &large), "larger than"),
        (raw(200, "Content-Encoding: gzip\r\n", "x"), "encoded (gzip), which was not asked for"),
        (Turn::Raw("rubbish\r\n\r\n".to_owned()), ""),
        (Turn::Raw("HTTP/1.1 200 -\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\nx".to_owned()), ""),
    ] {
        let server = Server::start(std::slice::from_ref(&turn)).await;
        let sent = EndpointRequest { idempotent: false, ..get() };
        let deadline = Instant::now() + Duration::from_millis(1500);
        let answer = place.client(&server.url(), "").send(&sent, deadline).await;
        assert!(
            matches!(&answer, Err(Failure::Unreachable(text)) if text.contains(said)),
            "{said}: {answer:?}"
        );
    }
    let (client, sent) = (place.client("http://127.0.0.1:1", ""), request(Method::Delete, "/things/1"));
    let answer = client.send(&sent, soon()).await;
    assert!(
        matches!(&answer, Err(Failure::Unreachable(text)) if text.contains("sent 6 times")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn nobody_follows_a_redirection() {
    let place = Place::new();
    place.write("token", SECRET);
    let elsewhere = Server::start(&[Turn::Answer(200, "")]).await;
    for status in [301, 302, 307, 308] {
        let there = format!("Location: {}/things/1\r\n", elsewhere.url());
        let server = Server::start(&[raw(status, &there, "")]).await;
        let client = place.client(&server.url(), "credentials = { bearer-file = \"token\" }");
        let answer = client.send(&get(), soon()).await.expect("an answer");
        assert_eq!((answer.status, server.asked(), elsewhere.asked()), (status, 1, 0));
    }
}

#[tokio::test]
async fn what_is_not_well_formed_is_invalid_and_not_sent() {
    let (server, place) = (Server::start(&[Turn::Answer(200, "")]).await, Place::new());
    place.write("key", SECRET);
    let key = "credentials = { header = { name = \"X-Key\", value-file = \"key\" } }";
    let client = place.client(&server.url(), key);
    let mut wrong = Vec::new();
    for path in [
        "",
        "things/1",
        "//things/1",
        "/things//1",
        "/things/.",
        "/things/..",
        "/things/...",
        "/../v2/things/1",
        "/things/%2e%2e",
        "/things/%2F",
        "/things/1%00",
        "/things/1?a=b",
        "/things/1#a",
        "/things/a b",
        "/things/..;",
        "/things/1;a",
        "/things/\\..",
        "/things/1\r\nX: y",
        "/things/\u{e9}",
        "http://a/things/1",
    ] {
        wrong.push(EndpointRequest { path: path.to_owned(), ..get() });
    }
    wrong.push(EndpointRequest { path: format!("/things/{}", "x".repeat(1024)), ..get() });
    for (name, value) in [
        ("Host", "a"),
        ("HOST", "a"),
        ("Authorization", "a"),
        ("x-key", "a"),
        ("X_Key", "a"),
        ("Cookie", "a"),
        ("Content-Length", "0"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close"),
        ("TE", "a"),
        ("Upgrade", "a"),
        ("Proxy-Authorization", "a"),
        ("Range", "bytes=0-1"),
        ("Accept-Encoding", "gzip"),
        ("X-Forwarded-Host", "a"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("X-Original-URL", "/a"),
        ("User-Agent", "a"),
        ("a b", "c"),
        ("a:b", "c"),
        ("", "c"),
        ("a\r\nb", "c"),
        ("X-A", "b\r\nHost: c"),
        ("X-A", "b\nc"),
        ("X-A", "b\0"),
        ("X-A", "\u{e9}"),
        ("X-A", " b"),
    ] {
        wrong.push(EndpointRequest { headers: vec![(name.to_owned(), value.to_owned())], ..get() });
    }
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    wrong.push(EndpointRequest { headers: vec![pair("X-A", "b"), pair("x-a", "c")], ..get() });
    wrong.push(EndpointRequest { headers: vec![pair("X-A", &"b".repeat(5000))], ..get() });
    wrong.push(EndpointRequest { headers: (0..33).map(|n| pair(&format!("X-{n}"), "")).collect(), ..get() });
    wrong.push(EndpointRequest { query: vec![pair("", "b")], ..get() });
    wrong.push(EndpointRequest { query: vec![pair("_method", "DELETE")], ..get() });
    wrong.push(EndpointRequest { query: vec![pair("a", "b"); 257], ..get() });
    wrong.push(EndpointRequest { body: Some("{}".to_owned()), ..get() });
    wrong.push(EndpointRequest {
        body: Some("x".repeat((256 << 10) + 1)),
        ..request(Method::Delete, "/things/1")
    });
    for request in wrong {
        let shown = format!("{:?} {:?} {:?}", request.path, request.headers.first(), request.query.first());
        for outcome in [client.operation(&request).map(drop), client.send(&request, soon()).await.map(drop)] {
            assert!(
                matches!(&outcome, Err(Failure::Invalid(text)) if text.lines().count() == 1),
                "{shown}: {outcome:?}"
            );
        }
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn what_the_file_does_not_allow_is_denied_with_what_to_add_and_not_sent() {
    let (server, place) = (Server::start(&[Turn::Answer(200, "")]).await, Place::new());
    let client = place.client(&server.url(), "");
    for (method, path) in [
        (Method::Post, "/things/1"),
        (Method::Head, "/things/1"),
        (Method::Get, "/"),
        (Method::Get, "/things"),
        (Method::Get, "/things/1/"),
        (Method::Get, "/things/1/actions"),
        (Method::Post, "/things/1/actions/go/"),
        (Method::Post, "/things/1/actions/stop"),
    ] {
        let refused = client.send(&request(method, path), soon()).await;
        let said = format!(
            "{} {path} is none of what the file of --http-endpoints allows of api: GET /things/*, ",
            method.name()
        );
        assert!(matches!(&refused, Err(Failure::Denied(text)) if text.starts_with(&said)), "{refused:?}");
    }
    let other = EndpointRequest { endpoint: "other".to_owned(), ..get() };
    let refused = client.send(&other, soon()).await;
    assert!(
        matches!(&refused, Err(Failure::Denied(text)) if text.contains("no endpoint \"other\"; there are: api")),
        "{refused:?}"
    );
    assert_eq!(server.asked(), 0);
    assert_eq!(
        client.send(&request(Method::Get, "/things/"), soon()).await.map(|answer| answer.status),
        Ok(200)
    );
}

fn oauth(tokens: &Server) -> String {
    format!(
        "credentials = {{ oauth-client = {{ token-url = \"{}/token\", client-id = \"the id\", client-secret-file = \"secret\", scope = \"net\" }} }}",
        tokens.url()
    )
}

fn token(text: &str) -> Turn {
    raw(200, "", &format!("{{\"access_token\":\"{text}\",\"token_type\":\"bearer\",\"expires_in\":3600}}"))
}

#[tokio::test]
async fn an_access_token_is_asked_for_once_and_once_more_when_it_is_refused() {
    let place = Place::new();
    place.write("secret", SECRET);
    let tokens = Server::start(&[token("first-canary"), token("second-canary")]).await;
    let server = Server::start(&[Turn::Answer(200, ""), Turn::Answer(401, ""), Turn::Echo]).await;
    let client = place.client(&server.url(), &oauth(&tokens));
    client.send(&get(), soon()).await.expect("an answer");
    assert_eq!(tokens.asked(), 1);
    let question = tokens.questions().remove(0);
    assert!(question.starts_with("POST /token HTTP/1.1"), "{question}");
    // `the%20id:made-up%2Fsecret%2Bof%3Dthe%26test`
    let client_header = "authorization: Basic dGhlJTIwaWQ6bWFkZS11cCUyRnNlY3JldCUyQm9mJTNEdGhlJTI2dGVzdA==";
    assert_eq!(line(&question, "authorization"), Some(client_header));
    assert!(question.ends_with("grant_type=client_credentials&scope=net"), "{question}");
    let answer = client.send(&get(), soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.attempts, tokens.asked()), (200, 2, 2));
    let sent = server.questions();
    assert_eq!(line(&sent[0], "authorization"), Some("authorization: Bearer first-canary"));
    assert_eq!(line(&sent[2], "authorization"), Some("authorization: Bearer second-canary"));
    assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
}

#[tokio::test]
async fn a_token_endpoint_that_refuses_is_quoted_without_the_secret() {
    let place = Place::new();
    place.write("secret", SECRET);
    let said = format!("{{\"error\":\"invalid_client\",\"error_description\":\"not {SECRET}\\nat all\"}}");
    for (turn, part) in [
        (raw(401, "", &said), "answers: invalid_client: not (hidden)at all"),
        (raw(200, "", "{}"), "answers: status 200, and no token"),
        (raw(302, "Location: http://127.0.0.1:1/\r\n", ""), "answers: status 302, and no token"),
        (Turn::Half, "/token: "),
    ] {
        let tokens = Server::start(&[turn]).await;
        let server = Server::start(&[Turn::Answer(200, "")]).await;
        let error =
            place.client(&server.url(), &oauth(&tokens)).send(&get(), soon()).await.expect_err("refused");
        assert!(matches!(&error, Failure::Credentials(text) if text.contains(part)), "{error:?}");
        assert!(!error.to_string().contains(SECRET) && server.asked() == 0, "{error}");
    }
}

#[tokio::test]
async fn a_closed_client_waits_for_nobody() {
    let (server, place) = (Server::start(&[Turn::Silence]).await, Place::new());
    let client = place.client(&server.url(), "");
    let asked = get();
    let (ended, ()) = tokio::join!(client.send(&asked, Instant::now() + Duration::from_hours(1)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.close();
    });
    assert_eq!(ended, Err(Failure::Unreachable("flanneld is about to end".to_owned())));
}

#[test]
fn a_file_that_others_can_write_is_not_read() {
    let place = Place::new();
    let path = place.write("endpoints.toml", "");
    assert!(Endpoints::read(&path).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("mode");
    for path in [&path, Path::new("/nowhere/endpoints.toml"), place.0.path()] {
        let error = Endpoints::read(path).expect_err("refused").to_string();
        let begin = format!("--http-endpoints {}: cannot be read: ", path.display());
        assert!(error.starts_with(&begin) && error.lines().count() == 1, "{error}");
    }
}
