//! Signatures of Amazon's kind, checked as a service checks them.

use std::fmt::Write as _;

use flannel_cloud::{EndpointRequest, Failure, Method};
use flannel_fake_cloud::{Server, Turn};
use ring::{digest, hmac};

use super::{Place, SECRET, get, line, raw, request, soon};

const KEYS: &str = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = another-made-up-secret\n\n\
    [flannel]\naws_access_key_id = AKIAFLANNEL\naws_secret_access_key = made-up/secret+of=the&test\n";

fn sigv4(more: &str) -> String {
    format!("credentials = {{ sigv4 = {{ region = \"eu-central-1\", {more} }} }}")
}

/// Whether a request has the signature that its service computes, from what came over the wire.
fn is_signed(question: &str, id: &str, secret: &str, service: &str, needs: &[&str]) -> bool {
    let (head, body) = question.split_once("\r\n\r\n").expect("a head");
    let header = |name: &str| {
        let found = line(head, &format!("{name}: "))?;
        Some(found.split_once(": ")?.1.to_owned())
    };
    let mut words = head.split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let authorization = header("authorization").expect("a signature");
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).expect("a part");
        rest.split(',').next().expect("a value").to_owned()
    };
    let (moment, signed) = (header("x-amz-date").expect("a time"), part("SignedHeaders"));
    let scope = format!("{}/eu-central-1/{service}/aws4_request", &moment[..8]);
    assert_eq!(part("Credential"), format!("{id}/{scope}"));
    assert!(
        ["host", "x-amz-date"].iter().chain(needs).all(|name| signed.split(';').any(|one| one == *name)),
        "{signed}"
    );
    // Services other than S3 encode the path that came once more.
    let path = if service == "s3" {
        path.to_owned()
    } else {
        path.split('/').map(flannel_cloud::percent).collect::<Vec<_>>().join("/")
    };
    let mut canonical = format!("{method}\n{path}\n{}\n", query.join("&"));
    for name in signed.split(';') {
        let _ = writeln!(canonical, "{name}:{}", header(name).expect("a signed header"));
    }
    let hash = |text: &str| hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
    if service == "s3" {
        assert_eq!(header("x-amz-content-sha256"), Some(hash(body)));
    }
    let _ = write!(canonical, "\n{signed}\n{}", hash(body));
    let text = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hash(&canonical));
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').chain([text.as_str()]).fold(first, |key, part| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec()
    });
    part("Signature") == hex::encode(key)
}

#[tokio::test]
async fn method_path_query_body_and_amazons_headers_are_signed() {
    let place = Place::new();
    place.write("keys", KEYS);
    for service in ["execute-api", "s3"] {
        let server = Server::start(&[Turn::Answer(200, "")]).await;
        let more = format!("service = \"{service}\", credentials-file = \"keys\", profile = \"flannel\"");
        let client = place.client(&server.url(), &sigv4(&more));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let sent = EndpointRequest {
            query: vec![pair("z", "1"), pair("a b", "c&d=/é~"), pair("lifecycle", "")],
            headers: vec![pair("X-Amz-Target", "Routes.Put"), pair("X-Trace", "7  8")],
            body: Some("{\"a\":1}".to_owned()),
            ..request(Method::Post, "/things/a:b@c,d=*/actions/go")
        };
        client.send(&sent, soon()).await.expect("an answer");
        client.send(&get(), soon()).await.expect("an answer");
        let [first, second] = server.questions().try_into().expect("two questions");
        assert!(
            first.starts_with("POST /v1/things/a%3Ab%40c%2Cd%3D%2A/actions/go?z=1&a%20b=c%26d%3D%2F%C3%A9~&lifecycle= HTTP/1.1\r\n"),
            "{first}"
        );
        assert!(
            is_signed(&first, "AKIAFLANNEL", SECRET, service, &["content-type", "x-amz-target"]),
            "{first}"
        );
        assert!(is_signed(&second, "AKIAFLANNEL", SECRET, service, &[]), "{second}");
        let changed = [
            ("\"a\":1", "\"a\":2"),
            ("z=1", "z=2"),
            ("Routes.Put", "Routes.Get"),
            ("POST", "PUT"),
            ("/go", "/no"),
        ];
        for (from, to) in changed {
            // The hash of S3's header would be the first to differ.
            if service == "s3" && from.starts_with('"') {
                continue;
            }
            let other = first.replacen(from, to, 1);
            assert!(other != first && !is_signed(&other, "AKIAFLANNEL", SECRET, service, &[]), "{other}");
        }
    }
}

#[tokio::test]
async fn keys_are_those_of_the_file_the_environment_or_the_machines_role() {
    let place = Place::new();
    place.write("keys", KEYS);
    let server = Server::start(&[Turn::Echo]).await;
    let variables =
        [("AWS_ACCESS_KEY_ID", "AKIAVARIABLE"), ("AWS_SECRET_ACCESS_KEY", "a-third-made-up-secret")];
    let with = |more: &str| sigv4(&format!("service = \"execute-api\"{more}"));
    let client = place.client_with(&server.url(), &with(", credentials-file = \"keys\""), &variables);
    client.send(&get(), soon()).await.expect("an answer");
    place.write(
        "keys",
        "[default]\naws_access_key_id=AKIANEXT\naws_secret_access_key=the-next-made-up-secret",
    );
    client.send(&get(), soon()).await.expect("an answer");
    place.client_with(&server.url(), &with(""), &variables).send(&get(), soon()).await.expect("an answer");
    let [first, second, third] = server.questions().try_into().expect("three questions");
    assert!(is_signed(&first, "AKIADEFAULT", "another-made-up-secret", "execute-api", &[]), "{first}");
    assert!(is_signed(&second, "AKIANEXT", "the-next-made-up-secret", "execute-api", &[]), "{second}");
    assert!(is_signed(&third, "AKIAVARIABLE", "a-third-made-up-secret", "execute-api", &[]), "{third}");
}

/// What the metadata service says of a role's session.
fn role(id: &str) -> [Turn; 3] {
    let keys = format!(
        "{{\"Code\":\"Success\",\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{SECRET}\",\"Token\":\"token-of-{id}-canary\",\"Expiration\":\"2999-01-01T00:00:00Z\"}}"
    );
    [Turn::Answer(200, "a-token"), Turn::Answer(200, "the-role"), raw(200, "", &keys)]
}

#[tokio::test]
async fn a_session_is_kept_fetched_anew_when_it_is_refused_and_does_not_come_back() {
    let place = Place::new();
    let imds = Server::start(&[role("ASIAFIRST"), role("ASIASECOND")].concat()).await;
    let expired = "{\"message\":\"The security token included in the request is expired\"}";
    let refused = raw(403, "x-amzn-ErrorType: ExpiredTokenException\r\n", expired);
    let server = Server::start(&[Turn::Answer(200, ""), refused, Turn::Echo]).await;
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*imds.url())];
    let client = place.client_with(&server.url(), &sigv4("service = \"execute-api\""), &variables);
    client.send(&get(), soon()).await.expect("an answer");
    assert_eq!(imds.asked(), 3);
    let answer = client.send(&get(), soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.attempts, imds.asked()), (200, 2, 6));
    let [first, again, second] = server.questions().try_into().expect("three questions");
    let token = ["x-amz-security-token"];
    assert!(is_signed(&first, "ASIAFIRST", SECRET, "execute-api", &token), "{first}");
    assert!(is_signed(&again, "ASIAFIRST", SECRET, "execute-api", &token), "{again}");
    assert!(is_signed(&second, "ASIASECOND", SECRET, "execute-api", &token), "{second}");
    let (_, signature) = second.split_once("Signature=").expect("a signature");
    let signature = signature.lines().next().expect("a line");
    let shown = format!("{answer:?}");
    assert!(shown.contains("(hidden)") && !shown.contains("canary") && !shown.contains(signature), "{shown}");
}

#[tokio::test]
async fn the_region_is_the_files_the_hosts_or_the_machines() {
    let place = Place::new();
    place.write("keys", KEYS);
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let written = "credentials = { sigv4 = { service = \"execute-api\", credentials-file = \"keys\" } }";
    let client = place.client_with(&server.url(), written, &[("AWS_REGION", "eu-central-1")]);
    client.send(&get(), soon()).await.expect("an answer");
    let question = server.questions().remove(0);
    assert!(is_signed(&question, "AKIADEFAULT", "another-made-up-secret", "execute-api", &[]), "{question}");
    let client = place.client_with(&server.url(), written, &[("AWS_REGION", "a/b")]);
    let error = client.send(&get(), soon()).await.expect_err("refused").to_string();
    assert!(error.contains("AWS_REGION: \"a/b\" is no region"), "{error}");
}

#[tokio::test]
async fn without_keys_it_is_said_where_was_looked_and_nothing_is_sent() {
    let place = Place::new();
    place.write("keys", KEYS);
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    for (more, variables, part) in [
        (
            "",
            vec![("AWS_EC2_METADATA_DISABLED", "true")],
            "none are in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
        ),
        (
            "",
            vec![("AWS_ACCESS_KEY_ID", "AKIA")],
            "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not",
        ),
        (
            ", credentials-file = \"keys\", profile = \"other\"",
            vec![],
            "/keys: the profile \"other\" has no aws_access_key_id",
        ),
        (", credentials-file = \"/nowhere\"", vec![], "/nowhere: cannot be read: "),
    ] {
        let client = place.client_with(&server.url(), &sigv4(&format!("service = \"s3\"{more}")), &variables);
        let error = client.send(&get(), soon()).await.expect_err("refused");
        assert!(matches!(&error, Failure::Credentials(text) if text.contains(part)), "{error:?}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn what_a_signature_consists_of_is_the_hosts() {
    let place = Place::new();
    place.write("keys", KEYS);
    let server = Server::start(&[Turn::Answer(200, "")]).await;
    let client = place.client(&server.url(), &sigv4("service = \"s3\", credentials-file = \"keys\""));
    let pair = |name: &str| vec![(name.to_owned(), "a".to_owned())];
    for name in ["X-Amz-Date", "x-amz-security-token", "X_Amz_Content_Sha256", "Authorization"] {
        let refused = client.send(&EndpointRequest { headers: pair(name), ..get() }, soon()).await;
        assert!(
            matches!(&refused, Err(Failure::Invalid(text)) if text.contains("the host's to set")),
            "{refused:?}"
        );
    }
    for name in ["X-Amz-Signature", "x-amz-credential", "X-Amz-Expires"] {
        let refused = client.send(&EndpointRequest { query: pair(name), ..get() }, soon()).await;
        assert!(
            matches!(&refused, Err(Failure::Invalid(text)) if text.contains("is the signature's")),
            "{refused:?}"
        );
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn what_amazon_calls_too_much_is_sent_again_whatever_the_status() {
    let place = Place::new();
    place.write("keys", KEYS);
    let throttled = raw(400, "", "{\"__type\":\"com.amazonaws.x#ThrottlingException\"}");
    let slow = raw(503, "", "<Error><Code>SlowDown</Code></Error>");
    let server = Server::start(&[throttled, slow, Turn::Answer(200, "")]).await;
    let client = place.client(&server.url(), &sigv4("service = \"s3\", credentials-file = \"keys\""));
    let answer = client.send(&request(Method::Delete, "/things/1"), soon()).await.expect("an answer");
    assert_eq!((answer.status, answer.attempts), (200, 3));
}
